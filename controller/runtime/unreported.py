"""How many copies of audited packets the meters of switches dropped, from the counters that dumps bring, and
the last ones of meters that are deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from controller.reconcile.meters import MeterCounters
from controller.reconcile.reconciler import Reconciler
from controller.status.audit_model import AuditEnd, AuditEvent
from flows.cluster.model import Key
from flows.pipeline.pod_limits import REPORTS, CopyReason, Limit, read_meter


class Unreported(NamedTuple):
    """Packets of one pod, or of a bridge's pods together (None), that were not reported. `sent`: that the pod sent.
    `gone`: they are of one pod, which is not there any more."""

    node: str
    pod: Key | None
    sent: bool
    packets: int
    gone: bool = False

    def event(self, time: str) -> AuditEvent:
        """As an event, without a number."""
        end = AuditEnd("pod", str(self.pod)) if self.pod is not None else AuditEnd("node", self.node)
        several = "a pod of this node that is gone" if self.gone else "pods of this node together"
        whose = f"pod {self.pod}" if self.pod is not None else several
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

    def count(self, reconciler: Reconciler) -> list[Unreported]:
        """What came since the last call. Costs nothing for a switch that was not dumped since, and that has no such
        meter. Called under the lock."""
        found = []
        for dpid, switch in reconciler.switches.items():
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
                found += _grown(reconciler, dpid, before, counters)
        if len(self._read) > len(reconciler.switches):
            for dpid in self._read.keys() - reconciler.switches.keys():
                del self._read[dpid]
                self._last.pop(dpid, None)
        return found

    def _ended(self, reconciler: Reconciler, dpid: int, number: int, counters: MeterCounters) -> list[Unreported]:
        """A meter was deleted: the next one with its number begins at 0."""
        if not _is_of_audit(number):
            return []
        last = self._last.get(dpid, {}).pop(number, None)
        return _grown(reconciler, dpid, {} if last is None else {number: last}, {number: counters})


def _is_of_audit(number: int) -> bool:
    limit, place = read_meter(number) or (Limit.ASSOCIATIONS, 0)
    return limit in REPORTS or (limit is Limit.COPIES and place == CopyReason.AUDITED)


def _grown(
    reconciler: Reconciler, dpid: int, before: dict[int, MeterCounters], now: dict[int, MeterCounters]
) -> list[Unreported]:
    name = reconciler.bridge_of(dpid)
    plan = reconciler.world.plan_of(name) if name is not None else None
    if name is None or plan is None:
        return []
    found = []
    for number, counters in now.items():
        last = before.get(number)
        goes_on = last is not None and counters.duration >= last.duration and counters.packets >= last.packets
        packets = counters.packets - (last.packets if last is not None and goes_on else 0)
        limit, place = read_meter(number) or (Limit.ASSOCIATIONS, 0)
        if packets:
            pod = plan.pod_at(place) if limit in REPORTS else None
            sent = limit is not Limit.RECEIVED_REPORTS
            gone = limit in REPORTS and pod is None
            found.append(Unreported(reconciler.world.bridges[name].node, pod, sent, packets, gone))
    return found
