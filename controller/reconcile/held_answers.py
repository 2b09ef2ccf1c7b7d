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
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from controller.reconcile.commands import KeepListening, ReleasePackets
from controller.reconcile.dns_traffic import Ends, Parked, PodTraffic
from controller.reconcile.events import DnsPacket
from controller.reconcile.switch import Switch
from flows.cluster.domain_names import matches_any
from flows.cluster.model import Key, Protocol
from flows.cluster.net import host_address_error
from flows.dns.assembly import opened_stream
from flows.dns.message import DnsAnswer, DnsError, read_answer, read_query
from flows.dns.packet import Datagram, PacketError, read_packet
from flows.plan.world import World
from flows.render.answers import LISTENING_SECONDS, DnsServer

HOLD_SECONDS = 2.0  # the longest that a packet waits for flows
MAX_WAITING = 4096  # packets of one switch that wait; more are dropped, and the pod asks again
LONGEST_LIFE = 7 * 86400.0  # seconds that an answer may count
RENEW_SECONDS = LISTENING_SECONDS / 3


@dataclass(slots=True)
class _Waiting:
    """Packets that wait for their switch to realize a revision; -1 until the plans are updated."""

    packets: tuple[DnsPacket, ...]
    deadline: float
    revision: int = -1


class HeldAnswers:
    """`shortest_life` is the least time in seconds that a learned address stays live. `counts` has the packets by what
    became of them: learned, released, unasked, dropped."""

    def __init__(self, world: World, shortest_life: float) -> None:
        self._world = world
        self._shortest = shortest_life
        self.counts: Counter[str] = Counter()
        self._pods: dict[tuple[int, int], PodTraffic] = {}  # by datapath id and ofport
        self._waiting: dict[int, list[_Waiting]] = {}  # by datapath id
        self._swept_at = 0.0
        self._listening: set[int] = set()  # datapath ids of bridges that hold answers
        self._renewed_at: float | None = None

    # -- packets -----------------------------------------------------------------------------------------------------

    def take(self, packet: DnsPacket, now: float) -> bool:
        """A switch handed over a packet. Returns whether a pod learned something new."""
        pod = self._world.pod_at(packet.dpid, packet.ofport)
        if pod is None:
            self._release([packet], now)
            return False
        traffic = self._pods.get((packet.dpid, packet.ofport))
        if traffic is None:
            traffic = self._pods[packet.dpid, packet.ofport] = PodTraffic()
        try:
            found = read_packet(packet.frame)
        except PacketError:
            self._release([packet], now)
            return False
        servers = self._world.dns_servers
        if DnsServer(found.target, found.dport) in servers and found.source in self._world.addresses_of(pod):
            return self._query(traffic, pod, found, now)
        if DnsServer(found.source, found.sport) not in servers:
            self._release([packet], now)
            return False
        if found.protocol is Protocol.TCP:
            return self._segment(traffic, pod, found, [packet], now)
        return self._answer(traffic, pod, found, [packet], now)

    def _query(self, traffic: PodTraffic, pod: Key, found: Datagram, now: float) -> bool:
        """The copy of a query, which is on its way to the server already."""
        try:
            query = read_query(found.data)
        except DnsError:
            return False
        parked = traffic.asked((Ends(found.source, found.sport, found.target, found.dport), query), now)
        return parked is not None and self._learn(pod, [parked.answer], parked.packets, now)

    def _answer(self, traffic: PodTraffic, pod: Key, found: Datagram, packets: Iterable[DnsPacket], now: float) -> bool:
        try:
            answer = read_answer(found.data)
        except DnsError:
            self._release(packets, now)
            return False
        key = Ends(found.target, found.dport, found.source, found.sport), answer.query
        if traffic.answered(key, now):
            return self._learn(pod, [answer], packets, now)
        traffic.parked.set(key, Parked(answer, tuple(packets)), now)
        return False

    def _segment(
        self, traffic: PodTraffic, pod: Key, found: Datagram, packets: Iterable[DnsPacket], now: float
    ) -> bool:
        """A segment of TCP: held where it completes an answer."""
        ends = Ends(found.target, found.dport, found.source, found.sport)
        stream = opened_stream(found)
        known = traffic.streams.get(ends)
        if stream is not None:
            if known is None or known.following != stream.following:
                traffic.streams.set(ends, stream, now)
            self._release(packets, now)
            return False
        if known is None or not found.data:
            self._release(packets, now)
            return False
        try:
            messages = known.add(found)
        except PacketError:  # sent again: what was there before may wait still
            self._wait(packets, now)
            return False
        if messages is None:
            self.counts["dropped"] += 1
            return False
        traffic.streams.set(ends, known, now)
        answers = []
        for message in messages:
            try:
                answers.append(read_answer(message))
            except DnsError:
                continue
        if not messages:
            self._release(packets, now)
            return False
        return self._learn(pod, answers, packets, now)

    def _learn(self, pod: Key, answers: Iterable[DnsAnswer], packets: Iterable[DnsPacket], now: float) -> bool:
        """Answers to a pod's queries: what rules with names want of them is learned, and the packets wait for it."""
        changed = taught = False
        for answer in answers:
            usable = [(net, life) for net, life in answer.addresses if not host_address_error(net)]
            name = answer.query.name
            if usable and matches_any(self._world.name_patterns(pod), name):
                until = [(net, now + min(max(life, self._shortest), LONGEST_LIFE)) for net, life in usable]
                changed |= self._world.learned.learn(pod, name, until)
                taught = True
        if taught:
            self.counts["learned"] += 1
            self._wait(packets, now)
        else:
            self._release(packets, now)
        return changed

    def _wait(self, packets: Iterable[DnsPacket], now: float) -> None:
        held = tuple(packets)
        waiting = self._waiting.setdefault(held[0].dpid, [])
        if len(waiting) >= MAX_WAITING:
            self.counts["dropped"] += len(held)
        else:
            waiting.append(_Waiting(held, now + HOLD_SECONDS))

    def _release(self, packets: Iterable[DnsPacket], now: float) -> None:
        held = tuple(packets)
        self.counts["released"] += len(held)
        self._waiting.setdefault(held[0].dpid, []).append(_Waiting(held, now))

    # -- release -----------------------------------------------------------------------------------------------------

    def releases(self, now: float, switch_of: Callable[[int], Switch | None]) -> list[ReleasePackets]:
        """The packets to release now. Call it when plans are updated and switches have their desired flows."""
        found = []
        for dpid in list(self._waiting):
            switch = switch_of(dpid)
            kept: list[_Waiting] = []
            free: list[DnsPacket] = []
            for one in self._waiting[dpid]:
                if one.revision < 0 and switch is not None:
                    one.revision = max(switch.desired_revision, 0)
                ready = switch is not None and switch.realized_revision >= one.revision
                if ready or now >= one.deadline:
                    free += one.packets
                else:
                    kept.append(one)
            if kept:
                self._waiting[dpid] = kept
            else:
                del self._waiting[dpid]
            if free:
                found.append(ReleasePackets(dpid, free[-1].session, tuple(free)))
        return found

    @property
    def waiting(self) -> int:
        """How many packets wait for flows."""
        return sum(len(one.packets) for waiting in self._waiting.values() for one in waiting)

    def due_at(self) -> float | None:
        """When `releases` has something to do although no event comes."""
        return min((one.deadline for waiting in self._waiting.values() for one in waiting), default=None)

    def sweep(self, now: float) -> None:
        """Forget what is too old, once a second."""
        if now - self._swept_at < 1.0:
            return
        self._swept_at = now
        for place, traffic in list(self._pods.items()):
            self.counts["unasked"] += traffic.forget_old(now)
            if not traffic:
                del self._pods[place]

    def forget(self, dpid: int) -> None:
        """A switch has another session, or none: its packets are gone with the one before."""
        self._waiting.pop(dpid, None)
        self._renewed_at = None
        for place in [place for place in self._pods if place[0] == dpid]:
            del self._pods[place]

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
