"""DNS packets that a switch holds: what is learned, what is released when, and what opens nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from controller.reconcile import brief_batches, held_answers, waiting_packets
from controller.reconcile.commands import Command, DumpFlows, KeepListening, ReleasePackets, SendBundle
from controller.reconcile.dns_traffic import ENTRY_BYTES, MAX_QUERIES, PARKED_SECONDS, QUERY_SECONDS
from controller.reconcile.events import (
    BundleDone,
    BundleFailed,
    ClusterChanged,
    DnsPacket,
    Event,
    FlowsDumped,
    SwitchDown,
    Tick,
)
from controller.reconcile.meters import MeterReport
from controller.reconcile.name_problems import NO_METERS, NO_ROOM, NO_SERVER, name_problems
from controller.reconcile.problem import Problem
from controller.reconcile.reconciler import DNS_MIN_TTL, Reconciler
from controller.reconcile.waiting_packets import HOLD_SECONDS
from flows.bridge.network import NetworkOptions
from flows.bridge.state import BridgeState
from flows.cluster.domain_names import LearnedAddress
from flows.cluster.model import (
    CLUSTER_NETWORK_POLICY,
    Action,
    Cluster,
    ClusterPolicy,
    ClusterRule,
    DomainPeer,
    Key,
    Namespace,
    Pod,
    Selector,
    Subject,
    Tier,
)
from flows.cluster.net import parse_address
from flows.pipeline.tables import NAMES
from flows.plan import learned_names
from flows.plan.effective_cluster import effective_cluster
from flows.plan.learned_names import FULL_NAME, MAX_OF_NAME, LearnedNames
from flows.wire.values import FlowChanges
from tests.helpers.cluster.model_objects import labels
from tests.helpers.controller.reconcile_driver import Driver, port

SERVER, OTHER = "10.0.0.53", "10.0.0.54"
A, B, C = Key("x", "a"), Key("x", "b"), Key("y", "c")
ADDRESS = {A: "10.0.0.1", B: "10.0.0.2", C: "10.0.0.3"}
OFPORT = {A: 1, B: 2, C: 3}
WITH_SERVER = NetworkOptions(dns_servers=((parse_address(SERVER), 53),))
METERS = MeterReport(1000, {}, {})
POLICY = ClusterPolicy(
    Key("", "names"),
    CLUSTER_NETWORK_POLICY,
    Tier.ADMIN,
    10,
    Subject(labels(ns="x"), Selector()),
    egress=(ClusterRule(Action.ACCEPT, (DomainPeer("*.example.com"),)),),
)


def cluster(policy: ClusterPolicy | None = POLICY) -> Cluster:
    pods = {key: Pod(key, node="n1", uid=key.name, addresses=(parse_address(text),)) for key, text in ADDRESS.items()}
    namespaces = {name: Namespace(name, {"ns": name}) for name in "xy"}
    return Cluster(namespaces, pods, cluster_policies={} if policy is None else {policy.key: policy})


def problems(found: Holding) -> list[Problem]:
    return list(name_problems(found.core.world, found.core.held_answers.full))


class Holding(Driver):
    """A node with three pods, two of which a rule with names selects. `late`: bundles are not answered."""

    def __init__(self, network: NetworkOptions = WITH_SERVER, meters: MeterReport = METERS) -> None:
        super().__init__(network=network)
        self.meters = meters
        self.late: list[SendBundle] | None = None
        self.sent: list[SendBundle] = []
        self.refused: set[int] = set()  # of the flows of bundles of names alone, those with these places
        self.released: list[DnsPacket] = []
        self.listened = 0
        ports = [port(f"p{OFPORT[key]}", OFPORT[key], str(key)) for key in ADDRESS]
        self.bridge(BridgeState("db", "br-int", 1, "n1", datapath_type="netdev", interfaces=tuple(ports)))
        self.sync()
        self.connect(1)
        self.send(ClusterChanged(cluster()))

    def _answer(self, command: Command) -> list[Event]:
        if isinstance(command, ReleasePackets):
            self.released += command.packets
            return []
        if isinstance(command, KeepListening):
            self.listened += 1
            return []
        if isinstance(command, SendBundle):
            self.sent.append(command)
            if self.late is not None:
                self.late.append(command)
                return []
            if command.names_only and self.refused:
                return self._commit_some(command)
        answers = super()._answer(command)
        if isinstance(command, DumpFlows):
            return [replace(one, meters=self.meters) for one in answers if isinstance(one, FlowsDumped)]
        return answers

    def _commit_some(self, command: SendBundle) -> list[Event]:
        """The switch refuses some flows, and has the others: it was told to commit before it was asked."""
        parts = [tuple(one for place, one in enumerate(some) if place not in self.refused) for some in command.changes]
        self.refused.clear()
        assert not self.switches[1].commit(FlowChanges(*parts))
        return [BundleFailed(command.dpid, command.session, command.number, "refused")]

    def commit(self) -> None:
        """The switch answers the bundles that it was given."""
        late, self.late = self.late or [], None
        self.send(*[answer for command in late for answer in super(Holding, self)._answer(command)])

    def ask(self, pod: Key, name: str, number: int = 7, kind: str = "A", sport: int = 40000) -> None:
        """The copy of a query."""
        wire = dns.message.make_query(name, kind, id=number).to_wire()
        frame = Ether() / IP(src=ADDRESS[pod], dst=SERVER) / UDP(sport=sport, dport=53) / wire
        self.hand_over(pod, bytes(frame))

    def answer(
        self, pod: Key, name: str, *addresses: str, number: int = 7, ttl: int = 60, server: str = SERVER,
        sport: int = 40000,
    ) -> DnsPacket:  # fmt: skip
        frame = (
            Ether() / IP(src=server, dst=ADDRESS[pod]) / UDP(sport=53, dport=sport) / said(name, addresses, number, ttl)
        )
        return self.hand_over(pod, bytes(frame))

    def hand_over(self, pod: Key, frame: bytes) -> DnsPacket:
        packet = DnsPacket(1, 1, OFPORT[pod], 99, frame)
        self.send(packet)
        return packet

    def opened(self, pod: Key) -> set[tuple[str, str, bool]]:
        """What the effective cluster says that a pod learned."""
        learned = effective_cluster(self.core.world.effective_parts()).learned
        return {(one.name, str(one.address), one.live) for one in learned.get(pod, ())}

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.send(Tick())


def said(name: str, addresses: Iterable[str], number: int = 7, ttl: int = 60) -> bytes:
    answer = dns.message.make_response(dns.message.make_query(name, "A", id=number))
    if addresses:
        answer.answer.append(dns.rrset.from_text(f"{name}.", ttl, "IN", "A", *addresses))
    return answer.to_wire()


def test_an_answer_is_held_until_its_switch_has_the_flows() -> None:
    found = Holding()
    found.late = []
    found.ask(A, "www.example.com")
    packet = found.answer(A, "WWW.example.com", "192.0.2.7")
    assert found.opened(A) == {("www.example.com", "192.0.2.7", True)}
    assert len(found.late) == 1
    assert found.released == []
    found.commit()
    assert found.released == [packet]
    # The same again changes no flow, and waits for nothing.
    found.late = []
    found.ask(A, "www.example.com", 8)
    again = found.answer(A, "www.example.com", "192.0.2.7", number=8)
    assert found.released == [packet, again]
    assert found.late == []


def test_a_switch_that_does_not_answer_holds_it_for_a_moment_only() -> None:
    found = Holding()
    found.late = []
    found.ask(A, "www.example.com")
    packet = found.answer(A, "www.example.com", "192.0.2.7")
    found.tick(HOLD_SECONDS)
    assert found.released == [packet]


@pytest.mark.parametrize("pod", [B, C])
def test_what_one_pod_learns_is_its_own(pod: Key) -> None:
    found = Holding()
    found.ask(A, "www.example.com")
    found.answer(A, "www.example.com", "192.0.2.7")
    assert found.opened(A)
    assert not found.opened(pod)
    flows = dict(found.switches[1].flows)
    found.ask(pod, "www.example.com")
    found.answer(pod, "www.example.com", "192.0.2.7")
    assert bool(found.opened(pod)) is (pod == B), "no rule with names selects c"
    assert (found.switches[1].flows != flows) is (pod == B)


def test_what_nobody_asked_opens_nothing_and_is_dropped() -> None:
    found = Holding()
    flows = dict(found.switches[1].flows)
    found.ask(A, "www.example.com")
    found.answer(A, "www.example.com", "192.0.2.66", number=8)
    found.answer(A, "other.example.com", "192.0.2.66")
    found.answer(A, "www.example.com", "192.0.2.66", sport=40001)
    found.answer(B, "www.example.com", "192.0.2.66")
    other = found.answer(A, "www.example.com", "192.0.2.66", server=OTHER)
    assert found.released == [other], "no configured server: it goes on, and means nothing"
    found.tick(PARKED_SECONDS + 1)
    assert found.released == [other]
    assert found.core.held_answers.counts["unasked"] == 4
    assert found.switches[1].flows == flows
    found.answer(A, "www.example.com", "192.0.2.7")
    assert found.opened(A) == {("www.example.com", "192.0.2.7", True)}
    found.answer(A, "www.example.com", "192.0.2.66")
    found.tick(QUERY_SECONDS)
    assert found.opened(A) == {("www.example.com", "192.0.2.7", True)}, "a query is answered once"


def test_an_answer_may_come_before_the_copy_of_its_query() -> None:
    found = Holding()
    packet = found.answer(A, "www.example.com", "192.0.2.7")
    assert found.released == []
    found.ask(A, "www.example.com")
    assert found.opened(A)
    assert found.released == [packet]


@pytest.mark.parametrize(
    ("name", "addresses"),
    [("example.com", ["192.0.2.7"]), ("www.example.net", ["192.0.2.7"]), ("www.example.com", []),
     ("www.example.com", ["127.0.0.1"]), ("www.example.com", ["0.0.0.0"]), ("www.example.com", ["224.0.0.1"])],
)  # fmt: skip
def test_what_teaches_nothing_is_released_at_once(name: str, addresses: list[str]) -> None:
    found = Holding()
    flows = dict(found.switches[1].flows)
    found.ask(A, name)
    packet = found.answer(A, name, *addresses)
    broken = found.hand_over(A, bytes(Ether() / IP(src=SERVER, dst=ADDRESS[A]) / UDP(sport=53, dport=40000) / b"?"))
    short = found.hand_over(A, b"\x00" * 20)
    assert found.released == [packet, broken, short]
    assert found.switches[1].flows == flows


def test_an_address_expires_and_comes_back() -> None:
    found = Holding()
    found.ask(A, "www.example.com")
    found.answer(A, "www.example.com", "192.0.2.7", ttl=1)
    found.tick(DNS_MIN_TTL - 1)
    assert found.opened(A) == {("www.example.com", "192.0.2.7", True)}
    found.tick(1)
    assert found.opened(A) == {("www.example.com", "192.0.2.7", False)}
    found.ask(A, "www.example.com")
    found.answer(A, "www.example.com", "192.0.2.7", ttl=3600)
    found.tick(3599)
    assert found.opened(A) == {("www.example.com", "192.0.2.7", True)}


def test_a_new_controller_finds_on_the_switch_what_was_learned() -> None:
    found = Holding()
    for number, ttl in ((1, 1), (2, 3600)):
        found.ask(A, f"w{number}.example.com", number)
        found.answer(A, f"w{number}.example.com", f"192.0.2.{number}", number=number, ttl=ttl)
    found.tick(DNS_MIN_TTL)
    before = dict(found.switches[1].flows)
    assert any(key[0] == NAMES.number for key in before)
    # The same switch, seen by another process.
    found.core = Reconciler(("db",), found.now, bridges=("br-int",), network=found.core.world.network_options)
    bundles = len(found.switches[1].bundles)
    found.bridge(found.bridges["db"])
    found.sync()
    found.connect(1)
    found.send(ClusterChanged(cluster()))
    assert found.opened(A) == {("w1.example.com", "192.0.2.1", False), ("w2.example.com", "192.0.2.2", True)}
    assert found.switches[1].flows == before
    assert not any(found.switches[1].bundles[bundles:]), "nothing is changed"
    found.tick(DNS_MIN_TTL)
    assert found.opened(A) == {("w1.example.com", "192.0.2.1", False), ("w2.example.com", "192.0.2.2", False)}


def test_it_listens_while_a_rule_has_names_and_no_longer() -> None:
    found = Holding()
    assert found.listened
    for _ in range(5):
        before = found.listened
        found.tick(held_answers.RENEW_SECONDS + 0.1)
        assert found.listened == before + 1
    found.send(ClusterChanged(cluster(None)))
    before = found.listened
    found.tick(10)
    assert found.listened == before
    assert not any(key[0] in (NAMES.number, 81) for key in found.switches[1].flows)


def test_it_is_told_where_names_open_nothing() -> None:
    assert not problems(Holding())
    found = Holding(meters=MeterReport(0, {}, {}))
    assert [one.reason for one in problems(found)] == [NO_METERS]
    assert not found.listened
    bare = Holding(NetworkOptions())
    assert [one.reason for one in problems(bare)] == [NO_SERVER]
    bare.send(ClusterChanged(cluster(None)))
    assert not problems(bare)


def test_a_pod_that_goes_takes_along_what_it_learned() -> None:
    found = Holding()
    empty = dict(found.switches[1].flows)
    found.ask(A, "www.example.com")
    found.answer(A, "www.example.com", "192.0.2.7")
    renewed = cluster()
    pods = {**renewed.pods, A: renewed.pods[A]._replace(uid="another")}
    found.send(ClusterChanged(replace(renewed, pods=pods)))
    assert not found.opened(A)
    assert found.switches[1].flows == empty


def test_answers_over_tcp_count_from_the_first_segment_on() -> None:
    found = Holding()
    wire = said("www.example.com", ["192.0.2.7"])
    data = len(wire).to_bytes(2, "big") + wire

    def segment(number: int, body: bytes, flags: str = "PA") -> DnsPacket:
        tcp = TCP(sport=53, dport=40000, seq=number, flags=flags)
        return found.hand_over(A, bytes(Ether() / IP(src=SERVER, dst=ADDRESS[A]) / tcp / body))

    stray = segment(500, data)
    opening = segment(999, b"", "SA")
    assert found.released == [stray, opening]
    assert not found.opened(A), "its beginning was not seen"
    found.late = []
    gap = segment(1020, data[20:])
    first = segment(1000, data[:20])
    assert found.released == [stray, opening, first]
    last = segment(1020, data[20:])
    again = segment(1020, data[20:])
    assert found.released == [stray, opening, first]
    assert found.opened(A)
    found.commit()
    assert found.released == [stray, opening, first, last, again]
    assert gap == last


@pytest.mark.parametrize(("seconds", "packets", "brief"), [(0, 1, True), (0, 500, False), (DNS_MIN_TTL, 1, False)])
def test_few_packets_are_brief_and_many_or_an_expiry_of_many_is_not(
    monkeypatch: pytest.MonkeyPatch, seconds: float, packets: int, brief: bool
) -> None:
    monkeypatch.setattr(learned_names, "FEW", 10)
    found = Holding()
    found.ask(A, "www.example.com")
    packet = found.answer(A, "www.example.com", *[f"192.0.2.{one}" for one in range(20)], ttl=1)
    assert found.core.is_brief([packet] * packets, found.now + seconds) is brief
    assert not found.core.is_brief([packet, Tick()], found.now)
    assert found.core.is_brief([BundleDone(1, 1, 99)], found.now)


def test_a_batch_is_not_brief_while_its_switch_has_much_to_get(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Holding()
    found.late = []
    found.send(ClusterChanged(cluster(None)))
    assert found.core.is_brief([BundleDone(1, 1, 1)], found.now)
    monkeypatch.setattr(brief_batches, "MAX_FLOWS", 2)
    assert not found.core.is_brief([BundleDone(1, 1, 1)], found.now)
    found.commit()
    assert found.core.is_brief([BundleDone(1, 1, 1)], found.now)


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(0, 10))
def test_expires_few_counts_what_is_due(until: list[int], now: int) -> None:
    names = LearnedNames()
    for number, at in enumerate(until):
        names.learn(A, "www.example.com", [(parse_address(f"192.0.2.{number}"), float(at))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learned_names, "FEW", 5)
        assert names.expires_few(now) is (sum(at <= now for at in until) <= 5)


def test_a_flood_is_bounded() -> None:
    found = Holding()
    for number in range(MAX_QUERIES * 2):
        found.ask(A, "www.example.com", number)
    for number in range(400):
        found.answer(B, "www.example.com", "192.0.2.66", number=number)
    traffic = found.core.held_answers._pods
    assert {place: len(one.queries) for place, one in traffic.items()} == {(1, 1): MAX_QUERIES, (1, 2): 0}
    assert len(traffic[1, 2].parked) == 64
    found.ask(A, "many.example.com", 1)
    found.answer(A, "many.example.com", *[f"192.0.{n // 250}.{n % 250 + 1}" for n in range(MAX_OF_NAME + 50)], number=1)
    assert len(found.opened(A)) == MAX_OF_NAME
    found.tick(QUERY_SECONDS + 1)
    assert not found.core.held_answers._pods


def test_what_is_too_old_is_counted_although_nothing_else_happens() -> None:
    """Driven as the event loop is when no event comes: a tick when something is due."""
    found = Holding()
    found.answer(A, "www.example.com", "192.0.2.66")
    for _ in range(10):
        wait = found.core.due(found.now)
        assert wait is not None
        assert wait <= 1
        found.now += wait
        found.send(Tick())
        if found.core.held_answers.counts["unasked"]:
            return
    raise AssertionError("never counted")


def test_open_dns_is_bounded_for_all_pods_and_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_answers, "MAX_BYTES", 100 * ENTRY_BYTES)
    found = Holding()
    for number in range(200):
        found.ask(C, "www.example.com", number)
        found.answer(C, "x.example.com", "192.0.2.7", number=number)
    room = found.core.held_answers._room
    assert 40 * ENTRY_BYTES < room.used <= 50 * ENTRY_BYTES, "y has half of it"
    found.ask(A, "www.example.com", 1)
    found.answer(A, "www.example.com", "192.0.2.7", number=1)
    assert found.opened(A)
    found.tick(QUERY_SECONDS + 1)
    assert room.used == 0
    found.ask(A, "www.example.com", 1)
    found.send(SwitchDown(1, 1))
    assert room.used == 0


def test_a_pod_that_holds_many_answers_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_packets, "MAX_WAITING", 16)
    found = Holding()
    found.late = []
    for pod, count, held in ((A, 20, 8), (B, 20, 4)):
        for number in range(count):
            found.ask(pod, f"w{number}.example.com", number)
            found.answer(pod, f"w{number}.example.com", f"192.0.2.{number + 1}", number=number)
        assert found.core.held_answers._waiting._of[1].room.of(OFPORT[pod]) == held
    assert found.core.held_answers.counts["dropped"] == 28
    found.tick(HOLD_SECONDS)
    assert len(found.released) == 12
    assert found.core.held_answers.waiting == 0


def test_pods_whose_addresses_find_no_room_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned_names, "MAX_OF_NAME", 2)
    found = Holding()
    found.ask(A, "www.example.com")
    found.answer(A, "www.example.com", "192.0.2.1", "192.0.2.2", "192.0.2.3")
    (problem,) = problems(found)
    assert (problem.key, problem.reason) == ("Pod x/a", f"{NO_ROOM}: {FULL_NAME}")
    found.tick(held_answers.FULL_SECONDS)
    assert not problems(found)


def test_a_session_that_ends_takes_its_packets_along() -> None:
    found = Holding()
    found.late = []
    found.ask(A, "www.example.com")
    found.answer(A, "www.example.com", "192.0.2.7")
    found.send(SwitchDown(1, 1))
    found.tick(10)
    assert found.released == []


def test_past_addresses_give_way_to_later_ones() -> None:
    learned = LearnedNames()
    net = parse_address
    for number in range(1100):
        learned.learn(A, "www.example.com", [(net(f"192.0.{number // 250}.{number % 250 + 1}"), float(number))])
        learned.expire(number + 0.5)
    known = learned.snapshot()[A]
    assert len(known) == learned.size == 1024
    assert LearnedAddress("www.example.com", net("192.0.0.1"), False) not in known
    learned.forget(A)
    assert learned.size == 0
