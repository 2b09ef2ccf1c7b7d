"""The audit: takes the copies of audited packets from the OpenFlow sessions, makes events of them, and keeps these.

Theory of operation. Sessions put packet-ins into the `AuditInbox`. The collector's thread takes what is there a few
times a second: it reads the messages, drops those of a connection that it has reported within REMEMBERED_SECONDS, finds
the ends under the reconciler's lock, asks the verdict beside it, and hands the events to the `AuditLog` and its
writers. All of it is bounded: at most EVENTS_A_SECOND, shared by the switches. What no event stands for is counted by
cause: `meter` (a switch's meters dropped the copy), `controller` (too many here), `repeated` (of a known connection).

Example: a pod floods a port that policy denies. Its meter lets 5 copies a second through; of a SYN that is sent again
only the first becomes an event. Once a minute the dump of the switch says how many copies the meter dropped, and an
event `unreported` tells it, under the pod's name.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from itertools import zip_longest

import structlog

from controller.base.hub import offload
from controller.base.threads import watched
from controller.metrics.registry import Metrics
from controller.openflow.audit_copies import read_audit_copy
from controller.openflow.audit_inbox import AuditCopy, AuditInbox
from controller.peers.token_bucket import TokenBucket
from controller.reconcile.reconciler import Reconciler
from controller.runtime.audit_events import PlacedPacket, audit_event, place, timestamp
from controller.runtime.audit_log import AuditLog
from controller.runtime.locked_reconciler import LockedReconciler
from controller.runtime.unreported import UnreportedCopies
from controller.status.audit_model import AuditEvent
from flows.cluster.model import Node
from flows.cluster.net import Net
from flows.explain.audited_packet import AuditedPacket
from flows.wire.errors import CodecError

log = structlog.get_logger("headgate")

PAUSE_SECONDS = 0.2  # between two batches, so that a flood is handled in few of them
IDLE_SECONDS = 1.0
EVENTS_A_SECOND, EVENTS_AT_ONCE = 500, 2000
REMEMBERED_SECONDS, MAX_REMEMBERED = 60.0, 16_384
METERS_SECONDS = 5.0  # between two looks at the counters of meters, which dumps bring once a minute


class AuditCollector:
    """Started and stopped with the controller; everything else happens in its thread."""

    def __init__(self, inbox: AuditInbox, reconciler: LockedReconciler, kept: AuditLog, metrics: Metrics) -> None:
        self._inbox = inbox
        self._reconciler = reconciler
        self._kept = kept
        self._metrics = metrics
        self._stopping = False
        self._budget = TokenBucket(EVENTS_AT_ONCE, EVENTS_A_SECOND, time.monotonic())
        self._seen: OrderedDict[Hashable, float] = OrderedDict()
        self._unreported = UnreportedCopies()
        self._meters_at = 0.0
        self._nodes: tuple[Mapping[str, Node] | None, dict[Net, str]] = (None, {})
        self._thread = watched("audit", self._run)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End soon."""
        self._thread.release()
        self._stopping = True

    def _run(self) -> None:
        while not self._stopping:
            self._inbox.wait(IDLE_SECONDS)
            time.sleep(PAUSE_SECONDS)
            try:
                self.collect()
            except Exception:
                log.exception("audited packets could not be reported")

    def collect(self) -> None:
        """Report what is waiting."""
        copies, dropped = self._inbox.take()
        now = time.monotonic()
        unreported = Counter({"controller": dropped.total()})
        packets = list(self._new(copies, unreported))
        allowed = self._allowed(now)
        unreported["controller"] += max(0, len(packets) - allowed)
        packets = _fair(packets)[:allowed]
        self._budget.spend(len(packets))
        events = self._events(packets)
        if now - self._meters_at >= METERS_SECONDS:
            self._meters_at = now
            counted = self._reconciler.read(lambda reconciler, _: self._unreported.count(reconciler))
            unreported["meter"] += sum(one.packets for one in counted)
            events += [one.event(timestamp(time.time())) for one in counted]
        if events or unreported.total():
            self._kept.append(events, +unreported)
            self._metrics.audited(Counter(one.verdict for one in events if one.verdict != "unreported"), unreported)

    def _allowed(self, now: float) -> int:
        return EVENTS_AT_ONCE if self._budget.wait(now) == 0.0 else 0

    def _new(self, copies: Iterable[AuditCopy], unreported: Counter[str]) -> Iterable[tuple[AuditCopy, AuditedPacket]]:
        """The packets of connections that were not reported lately."""
        for copy in copies:
            try:
                packet = read_audit_copy(copy.message)
            except CodecError:
                unreported["controller"] += 1
                continue
            key = (copy.dpid, packet.reason, packet[6:11] if packet.source is not None else packet.port)
            last = self._seen.get(key)
            if last is not None and copy.at - last < REMEMBERED_SECONDS:
                unreported["repeated"] += 1
                continue
            self._seen[key] = copy.at
            self._seen.move_to_end(key)
            while len(self._seen) > MAX_REMEMBERED:
                self._seen.popitem(last=False)
            yield copy, packet

    def _events(self, packets: list[tuple[AuditCopy, AuditedPacket]]) -> list[AuditEvent]:
        if not packets:
            return []
        placed, nodes = self._reconciler.read(lambda reconciler, _: _placed(reconciler, packets))
        if nodes is not self._nodes[0]:
            addresses = {net: node.name for node in nodes.values() for net in node.addresses}
            self._nodes = (nodes, addresses)
        return offload(_made, placed, self._nodes[1])


def _placed(
    reconciler: Reconciler, packets: list[tuple[AuditCopy, AuditedPacket]]
) -> tuple[list[PlacedPacket], Mapping[str, Node]]:
    found = [place(reconciler, copy.dpid, copy.at, packet) for copy, packet in packets]
    cluster = reconciler.world.cluster
    return [one for one in found if one is not None], cluster.nodes if cluster is not None else {}


def _made(placed: list[PlacedPacket], nodes: Mapping[Net, str]) -> list[AuditEvent]:
    return [audit_event(one, nodes) for one in placed]


def _fair(packets: list[tuple[AuditCopy, AuditedPacket]]) -> list[tuple[AuditCopy, AuditedPacket]]:
    """The packets of the switches in turn, so that a limit takes from those that have most."""
    of_switch: dict[int, list[tuple[AuditCopy, AuditedPacket]]] = defaultdict(list)
    for one in packets:
        of_switch[one[0].dpid].append(one)
    if len(of_switch) < 2:
        return packets
    return [one for turn in zip_longest(*of_switch.values()) for one in turn if one is not None]
