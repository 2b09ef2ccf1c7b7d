"""Fresh flow dumps on request: has switches dump their flows with counters, and waits until the dumps are handled.

Must not live here: the requests to a switch (`controller.openflow.dump_request`), and flows as text
(`controller.status.flows`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from itertools import islice

from controller.reconcile.reconciler import Reconciler
from controller.reconcile.switch import Switch
from controller.runtime.answer_lanes import compute
from controller.runtime.dump_turns import DumpTurns
from controller.runtime.event_queue import EventQueue
from controller.runtime.locked_reconciler import LockedReconciler
from controller.status.flows import FlowParts, flow_parts, flow_views
from controller.status.model import FlowStream, FlowView, SwitchUnavailable, UnknownNode
from flows.bridge.claim_contest import BridgeName

DUMP_SECONDS = 10.0
DUMP_POLL_SECONDS = 0.05
CHUNK_FLOWS = 500  # that are made at once: others compute in between
MAX_FRESH_DUMPS = 8  # for the counters of one pod or policy; beyond that the counters of the last audit are shown


class FlowDumps:
    """Requests dumps through the reconciler. Every method may be called from any thread of the hub."""

    def __init__(self, reconciler: LockedReconciler, events: EventQueue) -> None:
        self._reconciler = reconciler
        self._events = events
        self._turns = DumpTurns()

    def flows(self, node: str | None) -> FlowStream:
        """The flows now on the switches of `node`, or of all nodes; switches that did not answer are named.

        Raises UnknownNode, or SwitchUnavailable if no switch answered.
        """
        deadline = time.monotonic() + DUMP_SECONDS
        names = self._reconciler.read(lambda reconciler, _: _bridges_of(reconciler, node))
        missing: dict[BridgeName, str] = {}
        before: dict[BridgeName, int] = {}
        for name in names:
            try:
                before[name] = self._reconciler.read(partial(_request_dump, name))
            except SwitchUnavailable as error:
                missing[name] = str(error)
        self._events.drain(_left(deadline))
        for name, count in before.items():
            try:
                self._await_dump(name, count, deadline)
            except SwitchUnavailable as error:
                missing[name] = str(error)
        if missing and len(missing) == len(names):
            raise SwitchUnavailable("; ".join(missing.values()))
        there = [name for name in before if name not in missing]
        return FlowStream(self._views(there), tuple(missing.values()))

    def _views(self, names: list[BridgeName]) -> Iterator[FlowView]:
        """The flows of these bridges, made a chunk at a time as they are asked for. Raises SwitchUnavailable where a
        switch goes meanwhile."""
        for name in names:
            views = flow_views(self._reconciler.read(partial(_flow_parts, name)))
            chunk: list[FlowView]
            while chunk := compute(list, islice(views, CHUNK_FLOWS)):
                yield from chunk

    def refresh_counters(self, names: list[BridgeName]) -> str:
        """Have these switches dump their counters; returns why some counters are older or missing, else ''."""
        if len(names) > MAX_FRESH_DUMPS:
            return f"the counters are from the last audit: {len(names)} switches are too many to dump at once"
        notes = []
        until = time.monotonic() + DUMP_SECONDS
        for number, name in enumerate(names):
            if number and time.monotonic() >= until:  # who asks waits for one that is silent, not for each
                notes.append(f"{len(names) - number} switches were not asked, their counters are from the last audit")
                break
            try:
                self._turns.dump(name, partial(self._dump, name))
            except SwitchUnavailable as error:
                notes.append(f"counters are missing or old: {error}")
        return "; ".join(notes)

    def _dump(self, name: BridgeName) -> None:
        """Have a switch dump all its flows with their counters. Raises SwitchUnavailable."""
        deadline = time.monotonic() + DUMP_SECONDS
        before = self._reconciler.read(partial(_request_dump, name))
        self._events.drain(_left(deadline))
        self._await_dump(name, before, deadline)
        self._events.drain(_left(deadline))  # until the metrics have counted it, too

    def _await_dump(self, name: BridgeName, before: int, deadline: float) -> None:
        while self._reconciler.read(partial(_count_dumps, name)) == before:
            if time.monotonic() >= deadline:
                raise SwitchUnavailable(f"{name[1]} at {name[0]} did not dump its flows within {DUMP_SECONDS:g} s")
            self._reconciler.wait_for_batch(DUMP_POLL_SECONDS)


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _bridges_of(reconciler: Reconciler, node: str | None) -> list[BridgeName]:
    bridges = reconciler.world.bridges
    names = [name for name in sorted(bridges) if node in (None, bridges[name].node)]
    if not names and node is not None:
        nodes = ", ".join(sorted({bridge.node for bridge in bridges.values()})) or "none"
        raise UnknownNode(f"there is no switch of node {node}; known: {nodes}")
    return names


def _request_dump(name: BridgeName, reconciler: Reconciler, _: float) -> int:
    """Request a full dump; returns the number of those that were taken before."""
    switch = _switch(name, reconciler, "has no OpenFlow connection to this controller")
    switch.request_counters()
    return switch.full_dumps


def _count_dumps(name: BridgeName, reconciler: Reconciler, _: float) -> int:
    return _switch(name, reconciler, "disconnected").full_dumps


def _flow_parts(name: BridgeName, reconciler: Reconciler, _: float) -> FlowParts:
    _switch(name, reconciler, "disconnected")
    return flow_parts(reconciler, name)


def _switch(name: BridgeName, reconciler: Reconciler, otherwise: str) -> Switch:
    """The switch of a bridge. Raises SwitchUnavailable with the reason, `otherwise` where none is known."""
    switch = reconciler.switch_of(name)
    if switch is None or switch.session is None:
        reason = reconciler.world.refusal(name) or otherwise
        raise SwitchUnavailable(f"{name[1]} at {name[0]} {reason}")
    return switch
