"""The log lines on events: switches that connect, changed flows, invalid packets, OVSDBs without a bridge of ours.

For the event loop's thread. It reads the reconciler and never changes it. How lines look: see `base.logs`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

import structlog

from controller.reconcile.events import (
    BridgeGone,
    BundleFailed,
    ClusterChanged,
    Event,
    FlowsDrifted,
    FlowsDumped,
    OvsdbState,
    RoleChanged,
    RoleRefused,
    SwitchDown,
    SwitchUp,
)
from controller.reconcile.problem import Problem
from controller.reconcile.reconciler import Reconciler
from controller.status.invalid_packets import BEGAN, ENDED, invalid_senders_changes
from controller.status.source_problems import SourceProblemLog
from flows.cluster.model import Key

log = structlog.get_logger("headgate")


def switch_fields(reconciler: Reconciler, dpid: int) -> dict[str, str]:
    """The fields that name a switch in a log line: `dpid`, and `node` where it is known."""
    name = reconciler.bridge_of(dpid)
    bridge = reconciler.world.bridges.get(name) if name else None
    node = {"node": bridge.node} if bridge and bridge.node else {}
    return {**node, "dpid": f"{dpid:016x}"}


class EventLog:
    """Logs each condition once, when it begins. `metered`: the limits of pods need meters on the switch."""

    def __init__(self, reconciler: Reconciler, metered: bool) -> None:
        self._reconciler = reconciler
        self._metered = metered
        self._source_problems = SourceProblemLog()
        self._without_meters: dict[int, int] = {}  # by datapath id: the session for which that was logged
        self._contained: dict[tuple[str, str, str], Problem] = {}
        self._bridgeless: frozenset[Problem] = frozenset()

    @property
    def policy_problems(self) -> Mapping[Key, str]:
        """Policies that cannot be realized as they are written, and why; another mapping whenever it changes."""
        return self._source_problems.policy_problems

    def received(self, events: Iterable[Event]) -> None:
        """These events are about to be handled. A log that cannot be written must not stop enforcement."""
        for event in events:
            with contextlib.suppress(Exception):
                self._log_event(event)

    def contained(self, problems: Iterable[Problem]) -> None:
        """These are all objects, rules, ports and bridges that are left out because handling them failed."""
        found = {(problem.where, problem.key, problem.field): problem for problem in problems}
        for name in found.keys() - self._contained.keys():
            problem = found[name]
            log.error(problem.reason, where=problem.where, object=problem.key, field=problem.field)
        self._contained = found

    def handled(self, events: list[Event]) -> None:
        """These events were handled. With the reconciler's lock held."""
        self._log_invalid_senders(events)
        if any(isinstance(event, OvsdbState | BridgeGone) for event in events):
            self._log_bridgeless()

    def _log_event(self, event: Event) -> None:
        if isinstance(event, SwitchUp):
            log.info("switch connected", **switch_fields(self._reconciler, event.dpid))
        elif isinstance(event, SwitchDown):
            fields = switch_fields(self._reconciler, event.dpid)
            log.warning("switch disconnected; its flows stay in force", **fields)
            self._without_meters.pop(event.dpid, None)
        elif isinstance(event, RoleChanged | RoleRefused):
            self._log_role(event)
        elif isinstance(event, FlowsDrifted):
            self._log_drift(event)
        elif isinstance(event, FlowsDumped | BundleFailed):
            self._log_missing_meters(event)
        elif isinstance(event, OvsdbState) and event.reason:
            log.warning("OVSDB", ovsdb=event.ovsdb, synced=event.synced, reason=event.reason)
        elif isinstance(event, ClusterChanged):
            self._source_problems.take(event)

    def _log_role(self, event: RoleChanged | RoleRefused) -> None:
        """A switch is taken over by this replica or by another one."""
        session = self._reconciler.roles.sessions.get(event.dpid)
        fields = switch_fields(self._reconciler, event.dpid)
        if session is None or session.number != event.session:
            return
        if isinstance(event, RoleRefused):
            text = "the switch refused this replica: another one has a newer generation; it steps down there"
            log.warning(text, **fields, asked=f"{event.asked:016x}", newest=f"{event.newest:016x}")
        elif event.primary and not session.primary:
            log.info("this replica serves the switch now", **fields, generation=f"{event.generation:016x}")
        elif session.primary and not event.primary:
            text = "another replica took the switch over; this one steps down there"
            log.warning(text, **fields, generation=f"{event.generation:016x}")

    def _log_drift(self, event: FlowsDrifted) -> None:
        """Flows on a switch that another program changed. Until this replica serves it, that may be its owner."""
        if not self._reconciler.roles.may_write(event.dpid):
            return
        ours = [f"{word} {count}" for word, count in event.changes.items() if word != "foreign"]
        fields = switch_fields(self._reconciler, event.dpid)
        if ours:
            text = "another program changed flows of Headgate; Headgate restores them"
            log.warning(text, **fields, flows=", ".join(ours))
        if event.foreign:
            text = "another program added, deleted or changed flows in Headgate's tables; see headgate status"
            log.warning(text, **fields, flows=event.foreign)

    def _log_missing_meters(self, event: FlowsDumped | BundleFailed) -> None:
        """Once for each session of a switch that cannot limit pods."""
        if not self._metered or self._without_meters.get(event.dpid) == event.session:
            return
        if isinstance(event, BundleFailed):
            reason = event.reason if event.no_meters else ""
        else:
            reason = "" if event.meters and event.meters.most else "the switch has no meters"
        if reason:
            self._without_meters[event.dpid] = event.session
            text = "new connections and fragments of pods are not limited"
            log.warning(text, **switch_fields(self._reconciler, event.dpid), reason=reason)

    def _log_bridgeless(self) -> None:
        """Once for each OVSDB without a bridge of ours; again after it had one."""
        found = frozenset(self._reconciler.missing_bridges())
        for problem in found - self._bridgeless:
            log.warning(problem.reason, ovsdb=problem.where)
        self._bridgeless = found

    def _log_invalid_senders(self, events: Iterable[Event]) -> None:
        """Pods that began or ended to send mostly invalid packets: at most two lines for a switch's dump."""
        for dpid in dict.fromkeys(event.dpid for event in events if isinstance(event, FlowsDumped)):
            for began, pods in invalid_senders_changes(self._reconciler, dpid):
                with contextlib.suppress(Exception):
                    write = log.warning if began else log.info
                    write(BEGAN if began else ENDED, **switch_fields(self._reconciler, dpid), pods=pods)
