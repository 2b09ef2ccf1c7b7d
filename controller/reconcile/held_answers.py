"""DNS packets that switches hold, from arrival to release, and what pods learn of them (docs/adr/0021).

Theory of operation. A switch copies a pod's queries to the controller, and hands what DNS servers answer over to it:
`DnsPacket`. `take` learns what an answer says, where it is to a query of the pod and some rule with names selects the
pod. The reconciler then updates plans, as after any event, and `releases` gives back the packets whose switch has all
the flows that were desired by then, or that have waited for HOLD_SECONDS. Nothing else delays a packet:

- an answer that teaches nothing, and whatever cannot be read, is released at once and teaches nothing;
- an answer to no query of the pod is dropped after a moment, in which the copy of its query may come.

No input or output here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from controller.reconcile.commands import KeepListening, ReleasePackets
from controller.reconcile.dns_traffic import MAX_BYTES, Ends, Parked, PodTraffic
from controller.reconcile.events import DnsPacket
from controller.reconcile.switch import Switch
from controller.reconcile.waiting_packets import WaitingPackets
from flows.cluster.model import Key, Protocol
from flows.cluster.net import host_address_error
from flows.dns.assembly import opened_stream
from flows.dns.message import DnsAnswer, DnsError, read_answer, read_answered_query, read_query
from flows.dns.packet import Datagram, PacketError, read_packet
from flows.plan.shared_room import SharedRoom
from flows.plan.world import World
from flows.render.answers import LISTENING_SECONDS, DnsServer

LONGEST_LIFE = 7 * 86400.0  # seconds that an answer may count
FULL_SECONDS = 300.0  # that a pod is named whose addresses found no room
MAX_FULL = 1000  # such pods
SWEEP_SECONDS = 1.0  # between two looks for what is too old
RENEW_SECONDS = LISTENING_SECONDS / 3


class HeldAnswers:
    """`shortest_life` is the least time in seconds that a learned address stays live. `counts` has the packets by what
    became of them: learned, released, unasked, dropped."""

    def __init__(self, world: World, shortest_life: float) -> None:
        self._world = world
        self._shortest = shortest_life
        self.counts: Counter[str] = Counter()
        self._pods: dict[tuple[int, int], PodTraffic] = {}  # by datapath id and ofport
        self._room: SharedRoom[str] = SharedRoom(MAX_BYTES)  # by namespace
        self._full: dict[Key, tuple[float, str]] = {}  # the oldest first
        self._waiting = WaitingPackets()
        self._swept_at = 0.0
        self._listening: set[int] = set()  # datapath ids of bridges that hold answers
        self._renewed_at: float | None = None

    # -- packets -----------------------------------------------------------------------------------------------------

    def take(self, packet: DnsPacket, now: float) -> bool:
        """A switch handed over a packet. Returns whether a pod learned something new."""
        pod = self._world.pod_at(packet.dpid, packet.ofport)
        if pod is None:
            self._release([packet])
            return False
        traffic = self._traffic(packet, pod)
        try:
            found = read_packet(packet.frame)
        except PacketError:
            self._release([packet])
            return False
        servers = self._world.dns_servers
        if DnsServer(found.target, found.dport) in servers and found.source in self._world.addresses_of(pod):
            return self._query(traffic, pod, found, now)
        if DnsServer(found.source, found.sport) not in servers:
            self._release([packet])
            return False
        if found.protocol is Protocol.TCP:
            return self._segment(traffic, pod, found, [packet], now)
        return self._answer(traffic, pod, found, [packet], now)

    def _traffic(self, packet: DnsPacket, pod: Key) -> PodTraffic:
        """What is open of the pod that is at the packet's port now."""
        place = packet.dpid, packet.ofport
        found = self._pods.get(place)
        if found is None or found.pod != pod:
            if found is not None:
                found.clear()
            found = self._pods[place] = PodTraffic(pod, self._room)
        return found

    def _query(self, traffic: PodTraffic, pod: Key, found: Datagram, now: float) -> bool:
        """The copy of a query, which is on its way to the server already."""
        try:
            query = read_query(found.data)
        except DnsError:
            return False
        parked = traffic.asked((Ends(found.source, found.sport, found.target, found.dport), query), now)
        return parked is not None and self._read(pod, parked.message, parked.packets, now)

    def _answer(self, traffic: PodTraffic, pod: Key, found: Datagram, packets: Iterable[DnsPacket], now: float) -> bool:
        """What waits for its query is not read further: it may be a lie."""
        try:
            query = read_answered_query(found.data)
        except DnsError:
            self._release(packets)
            return False
        key = Ends(found.target, found.dport, found.source, found.sport), query
        if traffic.answered(key, now):
            return self._read(pod, found.data, packets, now)
        held = tuple(packets)
        if not traffic.park(key, Parked(found.data, held), now):
            self.counts["dropped"] += len(held)
        return False

    def _read(self, pod: Key, message: bytes, packets: Iterable[DnsPacket], now: float) -> bool:
        """The answer to a query of the pod."""
        try:
            answer = read_answer(message)
        except DnsError:
            self._release(packets)
            return False
        return self._learn(pod, [answer], packets, now)

    def _segment(
        self, traffic: PodTraffic, pod: Key, found: Datagram, packets: Iterable[DnsPacket], now: float
    ) -> bool:
        """A segment of TCP: held where it completes an answer."""
        ends = Ends(found.target, found.dport, found.source, found.sport)
        stream = opened_stream(found)
        known = traffic.streams.get(ends)
        if stream is not None:
            if known is None or known.following != stream.following:
                traffic.follow(ends, stream, now)
            self._release(packets)
            return False
        if known is None or not found.data:
            self._release(packets)
            return False
        try:
            messages = known.add(found)
        except PacketError:  # sent again: what was there before may wait still
            self._wait(packets, now)
            return False
        if messages is None:
            self.counts["dropped"] += 1
            return False
        traffic.follow(ends, known, now)
        answers = []
        for message in messages:
            try:
                answers.append(read_answer(message))
            except DnsError:
                continue
        if not messages:
            self._release(packets)
            return False
        return self._learn(pod, answers, packets, now)

    def _learn(self, pod: Key, answers: Iterable[DnsAnswer], packets: Iterable[DnsPacket], now: float) -> bool:
        """Answers to a pod's queries: what rules with names want of them is learned, and the packets wait for it."""
        held, learned = tuple(packets), self._world.learned
        changed = taught = False
        for answer in answers:
            usable = [(net, life) for net, life in answer.addresses if not host_address_error(net)]
            name = answer.query.name
            if usable and self._world.name_patterns(pod).match(name):
                until = [(net, now + min(max(life, self._shortest), LONGEST_LIFE)) for net, life in usable]
                changed |= learned.learn(pod, name, until, held[0].dpid)
                taught = True
        self._note_full(now)
        if taught:
            self.counts["learned"] += 1
            self._wait(held, now)
        else:
            self._release(held)
        return changed

    def _note_full(self, now: float) -> None:
        """Some addresses found no room: name their pods for a while."""
        full = self._world.learned.full
        for pod, why in full.items():
            self._full.pop(pod, None)
            if len(self._full) < MAX_FULL:
                self._full[pod] = now, why
        full.clear()

    def _wait(self, packets: Iterable[DnsPacket], now: float) -> None:
        held = tuple(packets)
        if not self._waiting.hold(held, now):
            self.counts["dropped"] += len(held)

    def _release(self, packets: Iterable[DnsPacket]) -> None:
        held = tuple(packets)
        self.counts["released"] += len(held)
        self._waiting.free(held)

    # -- release -----------------------------------------------------------------------------------------------------

    def releases(self, now: float, switch_of: Callable[[int], Switch | None]) -> list[ReleasePackets]:
        """The packets to release now. Call it when plans are updated and switches have their desired flows."""
        return self._waiting.releases(now, switch_of)

    @property
    def waiting(self) -> int:
        """How many packets wait for flows."""
        return len(self._waiting)

    @property
    def full(self) -> Mapping[Key, str]:
        """The pods some of whose addresses found no room lately, and why."""
        return {pod: why for pod, (_, why) in self._full.items()}

    def due_at(self) -> float | None:
        """When there is something to do although no event comes: packets to release, or old ones to forget."""
        times = [self._waiting.due_at(), self._swept_at + SWEEP_SECONDS if self._pods else None]
        return min((at for at in times if at is not None), default=None)

    def must_sweep(self, now: float) -> bool:
        """Whether `sweep` has something to do: it looks at every pod that has asked."""
        return now - self._swept_at >= SWEEP_SECONDS

    def sweep(self, now: float) -> None:
        """Forget what is too old, once a second."""
        if not self.must_sweep(now):
            return
        self._swept_at = now
        self._note_full(now)
        while self._full and now - next(iter(self._full.values()))[0] >= FULL_SECONDS:
            del self._full[next(iter(self._full))]
        for place, traffic in list(self._pods.items()):
            self.counts["unasked"] += traffic.forget_old(now)
            if not traffic:
                del self._pods[place]

    def forget(self, dpid: int) -> None:
        """A switch has another session, or none: its packets are gone with the one before."""
        self._waiting.forget(dpid)
        self._renewed_at = None
        for place in [place for place in self._pods if place[0] == dpid]:
            self._pods.pop(place).clear()

    # -- listening ---------------------------------------------------------------------------------------------------

    def set_listening(self, dpid: int, listens: bool) -> None:
        """Whether a bridge holds answers."""
        if not listens:
            self._listening.discard(dpid)
        elif dpid not in self._listening:
            self._listening.add(dpid)
            self._renewed_at = None

    def listening(self, now: float, switch_of: Callable[[int], Switch | None]) -> list[KeepListening]:
        """Have switches go on handing over packets, every RENEW_SECONDS. Without this they stop by themselves."""
        if not self._listening or (self._renewed_at is not None and now - self._renewed_at < RENEW_SECONDS):
            return []
        self._renewed_at = now
        found = []
        for dpid in sorted(self._listening):
            switch = switch_of(dpid)
            if switch is not None and switch.session is not None:
                found.append(KeepListening(dpid, switch.session))
        return found
