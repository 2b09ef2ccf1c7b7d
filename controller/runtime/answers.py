"""What the running core answers to HTTP: its status, waiting until all is realized, and the flows of a switch now."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from controller.base.version import version
from controller.reconcile.reconciler import Reconciler
from controller.reconcile.switch import Switch
from controller.runtime.support import support_view
from controller.status.detail_model import PodDetail, PolicyDetail, SupportView, UnknownObject
from controller.status.details import parse_key, pod_bridges, pod_detail, policy_bridges, policy_detail
from controller.status.flows import flow_views
from controller.status.model import (
    FlowsAnswer,
    FlowView,
    OvsdbView,
    ProblemView,
    SourceView,
    StatusView,
    SwitchUnavailable,
    TlsView,
    UnknownNode,
    WaitResult,
)
from controller.status.report import first_lines, left_out_problems, source_problem_lines, unrealized_switches
from flows.bridge.claim_contest import BridgeName

if TYPE_CHECKING:
    from controller.runtime.controller import Controller

# A switch that was told of us may take so long to call: ovs-vswitchd and ovsdb-server retry at most every 8 s.
SWITCH_CALL_SECONDS = 10.0
DUMP_SECONDS = 10.0
# Faults that only a change of the sources can mend are believed after this time: a file may be half written.
SOURCE_PROBLEM_SECONDS = 2.0
MAX_RECHECK_SECONDS = 0.5
# ovs-vswitchd answers a commit before it has gone through the flows that the datapath has cached, and says not when it
# has. It begins at once and takes milliseconds.
REVALIDATION_SECONDS = 0.1
OVSDB_BARRIER_SECONDS = 2.0
STATUS_SECONDS = 2.0  # for a status of this moment; then the last one has to do
READINESS_SECONDS = 1.0
MAX_PEER_PROBLEMS = 100  # that are shown; a peer can make up datapath ids
MIN_RECHECK_SECONDS = 0.05  # between two looks of one who waits, however much changes
# Switches that are asked for fresh counters of one policy; with more, those of the last audit have to do.
MAX_FRESH_DUMPS = 8


class WaitGoal(NamedTuple):
    """What a wait is for: what could not be asked, the sources' generation, and the revision of the world."""

    away: tuple[str, ...]
    generation: int
    revision: int


class WaitProgress(NamedTuple):
    """What one look found missing, whether there are faults in the sources, and for how many seconds the datapaths may
    still go by what they cached.
    """

    lines: list[str]
    faults: bool
    stale: float


class Answers:
    """Implements `status.model.Views` over a Controller; every method may be called from any thread of the hub."""

    def __init__(self, core: Controller) -> None:
        self._core = core

    def status(self) -> StatusView:
        """The state of this moment, or the last one that is known while the core is busy."""
        core = self._core
        kept = core.board.fresh(STATUS_SECONDS)
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
            (*kept.problems, *self._peers()),
            core.config.exposed,
            TlsView(*core.tls.state()) if core.tls else None,
        )

    def _peers(self) -> list[ProblemView]:
        """Peers that claim what is another's, or were dropped for what they did."""
        troubles = self._core.openflow.claim_problems()
        return [ProblemView(f"switch {one.dpid:016x}", "", "", one.reason) for one in troubles[:MAX_PEER_PROBLEMS]]

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
        kept = board.last if not board.last.waiting else board.fresh(READINESS_SECONDS)
        return [*self._sources_waiting(), *kept.waiting, *self._core.ovsdb.rivals()]

    def _sources_waiting(self) -> list[str]:
        return [f"source {s.name}: {s.reason or 'not read yet'}" for s in self._sources() if not s.synced]

    def wait(self, timeout: float) -> WaitResult:
        """Read every source and OVSDB again; block until all of that is realized, or time is up."""
        deadline = time.monotonic() + timeout
        patience = time.monotonic() + SOURCE_PROBLEM_SECONDS
        reading = self._read_again(timeout)
        while True:
            look = self._look(reading, deadline)
            now = time.monotonic()
            only_faults = look.faults and not look.lines and now >= patience
            if now >= deadline or only_faults or not (look.lines or look.faults):
                if now < deadline:
                    time.sleep(min(look.stale, _left(deadline)))
                faults = self._fault_lines() if look.faults else []
                return WaitResult(not (look.lines or look.faults), tuple(first_lines([*look.lines, *faults])))
            with self._core.changed:
                self._core.changed.wait(min(MAX_RECHECK_SECONDS, _left(deadline)))
            time.sleep(min(MIN_RECHECK_SECONDS, _left(deadline)))
            if (reading.away or look.faults) and _left(deadline) > MAX_RECHECK_SECONDS:
                reading = self._read_again(_left(deadline))

    def _read_again(self, timeout: float) -> WaitGoal:
        """Have everything read that the sources and the OVSDBs hold at this moment, and handled by the core."""
        core = self._core
        deadline = time.monotonic() + timeout
        generation, away = 0, []
        try:
            generation = core.store.reread(timeout)
        except TimeoutError as error:
            away.append(str(error))
        away += core.ovsdb.barrier(min(OVSDB_BARRIER_SECONDS, _left(deadline)))
        if not core.settle(_left(deadline)):
            away.append("the controller is busy with earlier changes")
        revision = core.reconciler.revision  # as of the batch that has just been handled, or a later one
        return WaitGoal(tuple(away), generation, revision)

    def _look(self, reading: WaitGoal, deadline: float) -> WaitProgress:
        """What is missing now; costs as much as there are switches."""

        def look(reconciler: Reconciler, now: float) -> WaitProgress:
            lines = [*reading.away, *unrealized_switches(reconciler, reading.revision)]
            if reconciler.generation < reading.generation:
                lines.append("the newest state of the sources is still on its way")
            lines += self._bridges_missing(reconciler, now)
            faulty = reconciler.problems or self._core.notes.faults or reconciler.world.left_out()
            faults = reconciler.world.cluster is not None and bool(faulty)
            return WaitProgress(lines, faults, _caches_are_stale(reconciler, now))

        try:
            return self._core.read(look, max(MIN_RECHECK_SECONDS, _left(deadline)))
        except TimeoutError as error:
            return WaitProgress([str(error)], False, 0.0)

    def _fault_lines(self) -> list[str]:
        """What only a change of the sources can mend."""
        try:
            faults = self._core.read(lambda reconciler, _: left_out_problems(reconciler), MAX_RECHECK_SECONDS)
        except TimeoutError:
            faults = {}
        for key, reason in self._core.notes.faults.items():
            faults[key] = f"{reason}; {faults[key]}" if key in faults else reason
        return source_problem_lines(self._core.reconciler.problems, faults)

    def _bridges_missing(self, reconciler: Reconciler, now: float) -> list[str]:
        """Switches that may still be about to call."""
        core = self._core
        lines: list[str] = []
        if core.config.ovsdb_listen is None:
            return lines
        if not reconciler.world.bridges:
            return ["no switch has called at --ovsdb-listen yet"]
        if now < core.started + SWITCH_CALL_SECONDS:
            nodes = {bridge.node for bridge in reconciler.world.bridges.values()}
            cluster = reconciler.world.cluster
            pods = cluster.pods.values() if cluster else ()
            away = sorted({pod.node for pod in pods if pod.networked and pod.node and pod.node not in nodes})
            lines += [f"{node}: its switch has not called yet" for node in away]
        return lines

    def flows(self, node: str | None) -> FlowsAnswer:
        """The flows now on the switches of `node`, or on all; those that do not answer are named.

        Raises UnknownNode, or SwitchUnavailable if none of them answers.
        """
        core = self._core
        deadline = time.monotonic() + DUMP_SECONDS
        names = core.read(lambda reconciler, _: _bridges_of(reconciler, node))
        missing: dict[BridgeName, str] = {}
        before: dict[BridgeName, int] = {}
        for name in names:
            try:
                before[name] = core.read(partial(_ask, name))
            except SwitchUnavailable as error:
                missing[name] = str(error)
        core.settle(_left(deadline))
        flows: list[FlowView] = []
        for name, count in before.items():
            try:
                flows += self._flows_of(name, count, deadline)
            except SwitchUnavailable as error:
                missing[name] = str(error)
        if missing and len(missing) == len(names):
            raise SwitchUnavailable("; ".join(missing.values()))
        return FlowsAnswer(flows, tuple(missing.values()))

    def _flows_of(self, name: BridgeName, before: int, deadline: float) -> list[FlowView]:
        self._await_dump(name, before, deadline)
        return self._core.read(partial(_views, name))

    def _await_dump(self, name: BridgeName, before: int, deadline: float) -> None:
        core = self._core
        while core.read(partial(_dumps, name)) == before:
            if time.monotonic() >= deadline:
                raise SwitchUnavailable(f"{name[1]} at {name[0]} did not say its flows within {DUMP_SECONDS:g} s")
            with core.changed:
                core.changed.wait(0.05)

    def _dump(self, name: BridgeName) -> None:
        """Have a switch say all its flows with their counters. Raises SwitchUnavailable."""
        deadline = time.monotonic() + DUMP_SECONDS
        before = self._core.read(partial(_ask, name))
        self._core.settle(_left(deadline))
        self._await_dump(name, before, deadline)

    def _count(self, names: list[BridgeName]) -> str:
        """Have these switches count anew; returns why some figures are older, or missing."""
        if len(names) > MAX_FRESH_DUMPS:
            return f"the counters are of the last audit: {len(names)} switches were not asked at once"
        notes = []
        for name in names:
            try:
                self._dump(name)
            except SwitchUnavailable as error:
                notes.append(f"counters are missing or old: {error}")
        return "; ".join(notes)

    def pod(self, key: str) -> PodDetail:
        """Everything about a pod. Raises UnknownObject."""
        core, wanted = self._core, parse_key(key)
        note = self._count(core.read(lambda reconciler, _: pod_bridges(reconciler, wanted)))
        view = next((one for one in core.board.fresh(STATUS_SECONDS).pods if one.key == key), None)
        found = core.read(lambda reconciler, _: pod_detail(reconciler, wanted, view))
        if found is None:
            raise UnknownObject(f"there is no pod {key}; `headgate status --pods` lists those there are")
        return replace(found, note=note)

    def policy(self, key: str) -> PolicyDetail:
        """Everything about a policy. Raises UnknownObject."""
        core, wanted = self._core, parse_key(key)
        note = self._count(core.read(lambda reconciler, _: policy_bridges(reconciler, wanted)))
        view = next((one for one in core.board.fresh(STATUS_SECONDS).policies if one.key == key), None)
        if view is None:
            raise UnknownObject(f"there is no policy {key}; `headgate status --policies` lists those there are")
        return replace(core.read(lambda reconciler, _: policy_detail(reconciler, wanted, view)), note=note)

    def support(self) -> SupportView:
        """What a support bundle needs, without secrets."""
        core = self._core
        return support_view(core.read(lambda reconciler, _: list(reconciler.world.bridges.values())), core.config)


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


def _ask(name: BridgeName, reconciler: Reconciler, _: float) -> int:
    switch = _switch(name, reconciler, "has no OpenFlow connection to this controller")
    switch.request_counters()
    return switch.full_dumps


def _dumps(name: BridgeName, reconciler: Reconciler, _: float) -> int:
    return _switch(name, reconciler, "went away").full_dumps


def _views(name: BridgeName, reconciler: Reconciler, _: float) -> list[FlowView]:
    _switch(name, reconciler, "went away")
    return flow_views(reconciler, name)


def _switch(name: BridgeName, reconciler: Reconciler, otherwise: str) -> Switch:
    """The switch of a bridge. Raises SwitchUnavailable, also where the bridge is gone by now."""
    switch = reconciler.switch_of(name)
    if switch is None or switch.session is None:
        reason = reconciler.world.owners.refusal(name) or otherwise
        raise SwitchUnavailable(f"{name[1]} at {name[0]} {reason}")
    return switch
