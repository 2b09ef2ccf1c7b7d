"""How many copies of audited packets the meters of switches dropped, from the counters that dumps bring, and
the last ones of meters that are deleted.

A meter counts for the pod at a port, and another pod may get the port. Then it is not known whose the packets are until
the switch was read while it had the flows of that pod; what was counted before is told without a pod.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from controller.reconcile.meters import MeterCounters
from controller.reconcile.reconciler import Reconciler
from controller.status.audit_model import AuditEnd, AuditEvent
from flows.cluster.model import Key
from flows.pipeline.pod_limits import REPORTS, CopyReason, Limit, read_meter
from flows.plan.bridge_plan import BridgePlan

TOGETHER = "pods of this node together"
GONE = "a pod of this node that is gone"
IN_TURN = "pods of this node that had one port in turn"


class Unreported(NamedTuple):
    """Packets of one pod, or of others (None), that were not reported. `sent`: that the pod sent. `others` says whose
    they are then."""

    node: str
    pod: Key | None
    sent: bool
    packets: int
    others: str = TOGETHER

    def event(self, time: str) -> AuditEvent:
        """As an event, without a number."""
        end = AuditEnd("pod", str(self.pod)) if self.pod is not None else AuditEnd("node", self.node)
        whose = f"pod {self.pod}" if self.pod is not None else self.others
        text = f"more packets than are reported, {'from' if self.sent else 'to'} {whose}"
        source, destination = (end, AuditEnd()) if self.sent else (AuditEnd(), end)
        return AuditEvent(
            0, time, "unreported", "meter", self.node, text, "", "", source, destination, packets=self.packets
        )


class UnreportedCopies:
    """Remembers the counters that it has seen. For one thread."""

    def __init__(self) -> None:
        self._last: dict[int, dict[int, MeterCounters]] = {}  # by datapath id and meter, those of audits
        self._read: dict[int, Mapping[int, MeterCounters]] = {}  # the counters that were read last, by datapath id
        self._holders: dict[int, _Holders] = {}  # by datapath id

    def count(self, reconciler: Reconciler) -> list[Unreported]:
        """What came since the last call. Costs little for a switch that was not dumped since, and that has no such
        meter. Called under the lock."""
        found = []
        for dpid, switch in reconciler.switches.items():
            self._note_holders(reconciler, dpid)
            while switch.meters.ended:
                found += self._ended(reconciler, dpid, *switch.meters.ended.popleft())
            dropped = switch.meters.dropped  # each dump brings a new mapping
            if self._read.get(dpid) is dropped:
                continue
            self._read[dpid] = dropped
            counters = {number: one for number, one in dropped.items() if _is_of_audit(number)}
            before = self._last.pop(dpid, {})
            if counters:
                self._last[dpid] = counters
            if counters != before:
                found += self._grown(reconciler, dpid, before, counters)
            if switch.realized and (switch.compared_at or 0.0) > (switch.committed_at or 0.0):
                self._holders[dpid].settle()  # what is counted from this dump on is of the pods that have the ports
        if len(self._read) > len(reconciler.switches):
            for dpid in self._read.keys() - reconciler.switches.keys():
                for kept in (self._read, self._last, self._holders):
                    kept.pop(dpid, None)
        return found

    def _note_holders(self, reconciler: Reconciler, dpid: int) -> None:
        name = reconciler.bridge_of(dpid)
        plan = reconciler.world.plan_of(name) if name is not None else None
        self._holders.setdefault(dpid, _Holders()).note(plan)

    def _ended(self, reconciler: Reconciler, dpid: int, number: int, counters: MeterCounters) -> list[Unreported]:
        """A meter was deleted: the next one with its number begins at 0."""
        if not _is_of_audit(number):
            return []
        last = self._last.get(dpid, {}).pop(number, None)
        return self._grown(reconciler, dpid, {} if last is None else {number: last}, {number: counters})

    def _grown(
        self, reconciler: Reconciler, dpid: int, before: dict[int, MeterCounters], now: dict[int, MeterCounters]
    ) -> list[Unreported]:
        name, holders = reconciler.bridge_of(dpid), self._holders[dpid]
        if name is None or holders.plan is None:
            return []
        found = []
        for number, counters in now.items():
            last = before.get(number)
            goes_on = last is not None and counters.duration >= last.duration and counters.packets >= last.packets
            packets = counters.packets - (last.packets if last is not None and goes_on else 0)
            limit, place = read_meter(number) or (Limit.ASSOCIATIONS, 0)
            if packets:
                pod, others = holders.of(place) if limit in REPORTS else (None, TOGETHER)
                sent = limit is not Limit.RECEIVED_REPORTS
                found.append(Unreported(reconciler.world.bridges[name].node, pod, sent, packets, others))
        return found


class _Holders:
    """Which pods may have had the ports of one bridge since its meters were last known to count for those that have
    them."""

    def __init__(self) -> None:
        self.plan: BridgePlan | None = None
        self._left: dict[int, Key | None] = {}  # by ofport: the pod that had it before; None: several
        self._unsure = False  # another plan may have known others

    def note(self, plan: BridgePlan | None) -> None:
        """The bridge's plan is this now."""
        if plan is not self.plan:
            self._unsure |= self.plan is not None
            self.plan = plan
        if plan is None or not plan.left:
            return
        for ofport, pod in plan.left.items():
            self._left[ofport] = pod if self._left.get(ofport, pod) == pod else None
        plan.left.clear()

    def settle(self) -> None:
        """From now on meters count for the pods that have the ports."""
        self._left.clear()
        self._unsure = False

    def of(self, ofport: int) -> tuple[Key | None, str]:
        """The one pod that had a port since; else None, and whose the port was."""
        pod = self.plan.pod_at(ofport) if self.plan is not None else None
        if self._unsure:
            return None, IN_TURN
        if ofport in self._left:
            before = self._left[ofport]
            return (before, TOGETHER) if before is not None and pod in (before, None) else (None, IN_TURN)
        return (pod, TOGETHER) if pod is not None else (None, GONE)


def _is_of_audit(number: int) -> bool:
    limit, place = read_meter(number) or (Limit.ASSOCIATIONS, 0)
    return limit in REPORTS or (limit is Limit.COPIES and place == CopyReason.AUDITED)
