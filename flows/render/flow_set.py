"""Collects rendered flows: checks each against the pipeline's declaration, and keeps one flow for one match."""

from __future__ import annotations

from collections.abc import Iterable

from flows.openflow.actions import Action
from flows.openflow.flow import Flow
from flows.openflow.match import FlowError, Match, Term, match
from flows.pipeline import cookies
from flows.pipeline.cookies import CookieKind
from flows.pipeline.table import Table
from flows.pipeline.tables import check_flow


class FlowSet:
    """Flows by their identity on a switch: table, priority, match."""

    def __init__(self) -> None:
        self._flows: dict[tuple[int, int, Match], Flow] = {}

    def add(
        self,
        table: Table,
        priority: int,
        terms: Iterable[Term],
        actions: Iterable[Action] = (),
        goto: Table | None = None,
        cookie: int = cookies.cookie(CookieKind.PIPELINE),
    ) -> None:
        """Add one flow, with this cookie; without actions and `goto` it drops. Of two equal flows, the one
        with the smaller cookie is kept.

        Raises FlowError where a flow of this identity does something else, PipelineError where the pipeline does not
        declare the flow.
        """
        flow = Flow(table.number, priority, match(*terms), tuple(actions), goto.number if goto else None, cookie)
        key = (flow.table, flow.priority, flow.match)
        old = self._flows.get(key)
        if old is not None:
            if (old.actions, old.goto) != (flow.actions, flow.goto):
                raise FlowError(f"two flows with one match in table {table.name}: {old} and {flow}")
            if old.cookie <= flow.cookie:
                return
        self._flows[key] = check_flow(flow)

    def flows(self) -> list[Flow]:
        """All flows, in the order they were first added."""
        return list(self._flows.values())
