"""Flows in other forms than tables by purpose: as lines of ovs-ofctl, by stage of the pipeline, and as rates."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby

import click

from controller.cli.output import JSON, OutputPage, print_json_line
from controller.status.model import FlowsAnswer, FlowView
from flows.pipeline.tables import TABLES_BY_NUMBER
from flows.wire.text import quoted

FLOWS_VERSION = 1
DEFAULT_PRIORITY = 32768  # which ovs-ofctl does not print
FlowName = tuple[str, str, int, int, str]


def raw_lines(found: Iterable[FlowView]) -> Iterator[str]:
    """Each flow as `ovs-ofctl -O OpenFlow14 --names --no-stats dump-flows` prints it, with the blank at the front."""
    for one in found:
        cookie = f"cookie={one.cookie:#x}, " if one.cookie else ""
        table = f"table={_table(one)}, " if one.table or one.table_name != str(one.table) else ""
        terms = [f"priority={one.priority}"] if one.priority != DEFAULT_PRIORITY else []
        terms += [one.match] if one.match else []
        head = f" {cookie}{table}{','.join(terms)}"
        yield f"{head}{' ' if terms else ''}actions={one.actions or 'drop'}"


def _table(one: FlowView) -> str:
    return str(one.table) if one.table_name == str(one.table) else quoted(one.table_name)


@dataclass(frozen=True, slots=True)
class FlowsView:
    """The answer of `headgate flows -o json`; `version` is that of the form. `missing` has a line for each switch that
    did not answer."""

    version: int
    flows: tuple[FlowView, ...]
    missing: tuple[str, ...] = ()


def flows_view(found: FlowsAnswer) -> FlowsView:
    """Flows as an answer for programs."""
    return FlowsView(FLOWS_VERSION, tuple(found.flows), found.missing)


@dataclass(frozen=True, slots=True)
class StageView:
    """A table of a switch with flows: how many it has, how many of these are foreign, and what it `does`; "" where it
    is no table of the pipeline."""

    node: str
    bridge: str
    table: int
    table_name: str
    flows: int
    foreign: int
    packets: int
    does: str = ""


@dataclass(frozen=True, slots=True)
class StagesView:
    """The answer of `headgate flows --stages -o json`; `version` is that of the form, `missing` as in FlowsView."""

    version: int
    stages: tuple[StageView, ...]
    missing: tuple[str, ...] = ()


def stages_view(found: FlowsAnswer) -> StagesView:
    """The tables of each switch in the order of the pipeline, with how many flows and packets each has."""
    stages = []
    for (node, bridge, table), group in groupby(
        sorted(found.flows, key=lambda one: (one.node, one.bridge, one.table)),
        key=lambda one: (one.node, one.bridge, one.table),
    ):
        flows = list(group)
        declared = TABLES_BY_NUMBER.get(table)
        foreign, packets = sum(one.kind == "foreign" for one in flows), sum(one.packets for one in flows)
        does = declared.does if declared else ""
        stages.append(StageView(node, bridge, table, flows[0].table_name, len(flows), foreign, packets, does))
    return StagesView(FLOWS_VERSION, tuple(stages), found.missing)


def show_stages(found: StagesView, page: OutputPage | None = None) -> None:
    """A table of stages for each switch."""
    page = page or OutputPage()
    if not found.stages:
        page.line("No flows.")
    for (node, bridge), stages in groupby(found.stages, key=lambda one: (one.node, one.bridge)):
        rows = [
            (
                f"{one.table} {one.table_name}",
                str(one.flows),
                str(one.foreign or "-"),
                str(one.packets),
                one.does or "not a table of the pipeline",
            )
            for one in stages
        ]
        columns = ("STAGE", "FLOWS", "FOREIGN", "PACKETS", "DOES")
        page.table(f"{node or '(no hostname)'} {bridge}", columns, rows, right="FLOWS FOREIGN PACKETS", whole="STAGE")


@dataclass(frozen=True, slots=True)
class FlowRate:
    """A flow that has counted between two readings, and how many packets and bytes a second."""

    packets_per_second: float
    bytes_per_second: float
    flow: FlowView


@dataclass(frozen=True, slots=True)
class RatesView:
    """One line of `headgate flows --watch -o json`: what counted in the last `seconds`, the busiest first. `version` is
    that of the form, `missing` as in FlowsView."""

    version: int
    seconds: float
    rates: tuple[FlowRate, ...]
    missing: tuple[str, ...] = ()


def flow_rates(before: Iterable[FlowView], after: Iterable[FlowView], seconds: float) -> list[FlowRate]:
    """The flows that counted within `seconds`, the busiest first. A flow that is new, or counts from 0 again, has
    counted what it has."""
    old = {_name(one): one for one in before}
    found = []
    for one in after:
        was = old.get(_name(one))
        again = was is None or one.packets < was.packets
        packets = one.packets - (0 if again or was is None else was.packets)
        octets = one.bytes - (0 if again or was is None else was.bytes)
        if packets > 0:
            found.append(FlowRate(packets / seconds, max(octets, 0) / seconds, one))
    return sorted(found, key=lambda one: (-one.packets_per_second, _name(one.flow)))


def _name(one: FlowView) -> FlowName:
    return one.node, one.bridge, one.table, one.priority, one.match


def watch_flows(
    read: Callable[[], FlowsAnswer],
    every: float,
    rounds: int | None,
    output: str,
    purpose: Callable[[FlowView], str],
) -> None:
    """Read flows again and again, and show which count: until interrupted, or for some rounds."""
    page = None if output == JSON else OutputPage()
    before, at = read(), time.monotonic()
    while rounds is None or rounds > 0:
        time.sleep(every)
        after, now = read(), time.monotonic()
        rates = flow_rates(before.flows, after.flows, now - at)
        if page is None:
            print_json_line(asdict(RatesView(FLOWS_VERSION, round(now - at, 3), tuple(rates), after.missing)))
        else:
            page.begin()
            _show_rates(page, rates, now - at, purpose)
        for line in after.missing:
            click.echo(f"headgate: {line}", err=True)
        before, at = after, now
        rounds = None if rounds is None else rounds - 1


def _show_rates(page: OutputPage, rates: list[FlowRate], seconds: float, purpose: Callable[[FlowView], str]) -> None:
    if not rates:
        page.line(f"No flow has counted for {seconds:.1f} s.")
    rows = [
        (
            f"{one.packets_per_second:,.1f}",
            f"{one.bytes_per_second:,.0f}",
            one.flow.node or "-",
            f"{one.flow.table} {one.flow.table_name}",
            one.flow.match or "any",
            purpose(one.flow),
        )
        for one in rates
    ]
    columns = ("PACKETS/S", "BYTES/S", "NODE", "TABLE", "MATCH", "FOR")
    page.table(f"What counted in the last {seconds:.1f} s", columns, rows, right="PACKETS/S BYTES/S", terms="MATCH")
