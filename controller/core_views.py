"""What the running core answers to HTTP: its status, waiting until all is realized, and the flows of a switch now."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from controller.annotate import flow_views
from controller.reconcile.owners import BridgeName
from controller.reconcile.reconciler import Reconciler
from controller.report import few, source_lines, switches_missing
from controller.version import version
from controller.views import (
    FlowView,
    OvsdbView,
    SourceView,
    StatusView,
    SwitchUnavailable,
    TlsView,
    UnknownNode,
    WaitResult,
)

if TYPE_CHECKING:
    from controller.core import Controller

# A switch that was told of us may take so long to call: ovs-vswitchd and ovsdb-server retry at most every 8 s.
CALL_SECONDS = 10.0
DUMP_SECONDS = 10.0
# Faults that only a change of the sources can mend are believed after this time: a file may be half written.
PATIENCE_SECONDS = 2.0
STEP_SECONDS = 0.5
# ovs-vswitchd answers a commit before it has gone through the flows that the datapath has cached, and says not when it
# has. It begins at once and takes milliseconds.
REVALIDATION_SECONDS = 0.1
BARRIER_SECONDS = 2.0
READ_SECONDS = 2.0  # for a status of this moment; then the last one has to do
READY_SECONDS = 1.0
PAUSE_SECONDS = 0.05  # between two looks of one who waits, however much changes


class Reading(NamedTuple):
    """What a wait is for: what could not be asked, the sources' generation, and the revision of the world."""

    away: tuple[str, ...]
    generation: int
    revision: int


class Look(NamedTuple):
    """What one look found missing, whether there are faults in the sources, and for how many seconds the datapaths may
    still go by what they cached.
    """

    lines: list[str]
    faults: bool
    stale: float


class CoreViews:
    """Implements controller.views.Views over a Controller; every method may be called from any thread of the hub."""

    def __init__(self, core: Controller) -> None:
        self._core = core

    def status(self) -> StatusView:
        """The state of this moment, or the last one that is known while the core is busy."""
        core = self._core
        kept = core.board.fresh(READ_SECONDS)
        now = time.monotonic()
        return StatusView(
            version(),
            now - core.started,
            tuple(self._sources_waiting()) + kept.waiting,
            self._sources(),
            self._ovsdb(),
            kept.switches_at(now),
            kept.policies,
            kept.pods,
            kept.problems,
            core.config.exposed,
            TlsView(*core.tls.state()) if core.tls else None,
        )

    def _sources(self) -> tuple[SourceView, ...]:
        now = time.monotonic()
        return tuple(
            SourceView(s.name, s.kind, s.synced, _age(s.current_at, now), s.problems, s.reason, dict(s.ignored))
            for s in self._core.store.states()
        )

    def _ovsdb(self) -> tuple[OvsdbView, ...]:
        return tuple(
            OvsdbView(
                c.remote or c.name,
                c.connected,
                c.synced,
                c.direction == "listening",
                "; ".join(filter(None, (c.last_error, c.silent, *c.notes))),
            )
            for c in self._core.ovsdb.status()
        )

    def ready(self) -> list[str]:
        """What still keeps the first flows from being sent."""
        board = self._core.board
        # What was ready once stays so.
        kept = board.last if not board.last.waiting else board.fresh(READY_SECONDS)
        return [*self._sources_waiting(), *kept.waiting]

    def _sources_waiting(self) -> list[str]:
        return [f"source {s.name}: {s.reason or 'not read yet'}" for s in self._sources() if not s.synced]

    def wait(self, timeout: float) -> WaitResult:
        """Read every source and OVSDB again; block until all of that is realized, or time is up."""
        deadline = time.monotonic() + timeout
        patience = time.monotonic() + PATIENCE_SECONDS
        reading = self._read_again(timeout)
        while True:
            look = self._look(reading, deadline)
            now = time.monotonic()
            only_faults = look.faults and not look.lines and now >= patience
            if now >= deadline or only_faults or not (look.lines or look.faults):
                if now < deadline:
                    time.sleep(min(look.stale, _left(deadline)))
                faults = self._fault_lines() if look.faults else []
                return WaitResult(not (look.lines or look.faults), tuple(few([*look.lines, *faults])))
            with self._core.changed:
                self._core.changed.wait(min(STEP_SECONDS, _left(deadline)))
            time.sleep(min(PAUSE_SECONDS, _left(deadline)))
            if (reading.away or look.faults) and _left(deadline) > STEP_SECONDS:
                reading = self._read_again(_left(deadline))

    def _read_again(self, timeout: float) -> Reading:
        """Have everything read that the sources and the OVSDBs hold at this moment, and handled by the core."""
        core = self._core
        deadline = time.monotonic() + timeout
        generation, away = 0, []
        try:
            generation = core.store.reread(timeout)
        except TimeoutError as error:
            away.append(str(error))
        away += core.ovsdb.barrier(min(BARRIER_SECONDS, _left(deadline)))
        if not core.settle(_left(deadline)):
            away.append("the controller is busy with earlier changes")
        revision = core.reconciler.revision  # as of the batch that has just been handled, or a later one
        return Reading(tuple(away), generation, revision)

    def _look(self, reading: Reading, deadline: float) -> Look:
        """What is missing now; costs as much as there are switches."""

        def look(reconciler: Reconciler, now: float) -> Look:
            lines = [*reading.away, *switches_missing(reconciler, reading.revision)]
            if reconciler.generation < reading.generation:
                lines.append("the newest state of the sources is still on its way")
            lines += self._bridges_missing(reconciler, now)
            faults = reconciler.world.cluster is not None and bool(reconciler.problems or self._core.notes.faults)
            return Look(lines, faults, _caches_are_stale(reconciler, now))

        try:
            return self._core.read(look, max(PAUSE_SECONDS, _left(deadline)))
        except TimeoutError as error:
            return Look([str(error)], False, 0.0)

    def _fault_lines(self) -> list[str]:
        """What only a change of the sources can mend. All of it is kept and never changes: no lock is needed."""
        return source_lines(self._core.reconciler.problems, self._core.notes.faults)

    def _bridges_missing(self, reconciler: Reconciler, now: float) -> list[str]:
        """Switches that may still be about to call."""
        core = self._core
        lines: list[str] = []
        if core.config.ovsdb_listen is None:
            return lines
        if not reconciler.world.bridges:
            return ["no switch has called at --ovsdb-listen yet"]
        if now < core.started + CALL_SECONDS:
            nodes = {bridge.node for bridge in reconciler.world.bridges.values()}
            cluster = reconciler.world.cluster
            pods = cluster.pods.values() if cluster else ()
            away = sorted({pod.node for pod in pods if pod.networked and pod.node and pod.node not in nodes})
            lines += [f"{node}: its switch has not called yet" for node in away]
        return lines

    def flows(self, node: str | None) -> list[FlowView]:
        """The flows now on the switch of `node`, or on every connected one. Raises UnknownNode or SwitchUnavailable."""
        names = self._core.read(lambda reconciler, _: _bridges_of(reconciler, node))
        return [view for name in names for view in self._flows_of(name)]

    def _flows_of(self, name: BridgeName) -> list[FlowView]:
        core = self._core
        deadline = time.monotonic() + DUMP_SECONDS
        before = core.read(lambda reconciler, _: _ask(reconciler, name))
        core.settle(_left(deadline))
        while core.read(lambda reconciler, _: _dumps(reconciler, name)) == before:
            if time.monotonic() >= deadline:
                raise SwitchUnavailable(f"{name[1]} at {name[0]} did not say its flows within {DUMP_SECONDS:g} s")
            with core.changed:
                core.changed.wait(0.05)
        return core.read(lambda reconciler, _: flow_views(reconciler, name))


def _age(since: float | None, now: float) -> float | None:
    return None if since is None else now - since


def _caches_are_stale(reconciler: Reconciler, now: float) -> float:
    """Seconds for which a datapath may still go by what it cached before the last commit."""
    commits = [s.committed_at for s in reconciler.switches.values() if s.committed_at is not None]
    return max(0.0, max(commits, default=-REVALIDATION_SECONDS) + REVALIDATION_SECONDS - now)


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _bridges_of(reconciler: Reconciler, node: str | None) -> list[BridgeName]:
    bridges = reconciler.world.bridges
    names = [name for name in sorted(bridges) if node in (None, bridges[name].node)]
    if not names and node is not None:
        known = ", ".join(sorted({bridge.node for bridge in bridges.values()})) or "none"
        raise UnknownNode(f"there is no switch of node {node}; known: {known}")
    return names


def _ask(reconciler: Reconciler, name: BridgeName) -> int:
    switch = reconciler.switches.get(reconciler.world.bridges[name].dpid)
    if switch is None or switch.session is None:
        raise SwitchUnavailable(f"{name[1]} at {name[0]} has no OpenFlow connection to this controller")
    switch.ask()
    return switch.full_dumps


def _dumps(reconciler: Reconciler, name: BridgeName) -> int:
    bridge = reconciler.world.bridges.get(name)
    switch = reconciler.switches.get(bridge.dpid) if bridge else None
    if switch is None or switch.session is None:
        raise SwitchUnavailable(f"{name[1]} at {name[0]} went away")
    return switch.full_dumps
