"""Both ends use one port, or one echo identifier, as gossip does: each direction is what policy says of it.

A datagram does not say whether it opens or answers. What was allowed both ways and then is allowed one way only must go
on at once in that direction and stop in the other, however long refused datagrams keep coming.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest

from flows.interpret.frame_encoder import encode
from flows.interpret.packet import ECHO_REPLY, ECHO_REQUEST, ETHER, ICMP, Packet
from flows.openflow import match_fields as oxm
from tests.helpers.lab.datapath_choice import KERNEL
from tests.helpers.lab.policies import pods, policies, port
from tests.helpers.lab.raw_frames import FrameListener, mac, number, put
from topology.lab.lab import Lab

pytestmark = pytest.mark.lab

GOSSIP = 7946
NAMES = {oxm.IP_PROTO_UDP: "UDP", oxm.IP_PROTO_SCTP: "SCTP"}
# The kernel's conntrack takes no SCTP that does not open as an association does; these are made by hand.
GOSSIPS = {oxm.IP_PROTO_UDP: "UDP"} if KERNEL else NAMES
WAYS = [(peer, family) for peer in "bc" for family in (4, 6)]
_markers = itertools.count(0x605519 << 32)


@dataclass
class Pair:
    """Pod a of a namespace and another one of it."""

    lab: Lab
    ears: FrameListener
    namespace: str
    peer: str
    family: int

    def sends(self, from_a: bool, **what: int) -> bool:
        """Send one packet, and say whether it arrived."""
        ends = [f"{self.namespace}/a", f"{self.namespace}/{self.peer}"][:: 1 if from_a else -1]
        source, target = (number(self.lab.endpoints[end].addresses[self.family]) for end in ends)
        marker = next(_markers)
        packet = Packet(
            eth_src=mac(self.lab, ends[0]), eth_dst=mac(self.lab, ends[1]), eth_type=ETHER[self.family],
            source=source, target=target, marker=marker,
        )  # fmt: skip
        packet = replace(packet, **what)  # type: ignore[arg-type]
        put(self.lab, ends[0], [encode(packet)])
        self.ears.fence(ends[0])
        return self.ears.count(ends[1], marker.to_bytes(8, "big")) == 1

    def datagram(self, proto: int, from_a: bool, ports: tuple[int, int] = (GOSSIP, GOSSIP)) -> bool:
        """Send one of UDP or SCTP; ports are a's and the peer's."""
        sport, dport = ports if from_a else ports[::-1]
        return self.sends(from_a, proto=proto, sport=sport, dport=dport)

    def echo(self, from_a: bool, reply: bool = False) -> bool:
        """Send an echo request or reply; both ends use one identifier."""
        kind = (ECHO_REPLY if reply else ECHO_REQUEST)[self.family]
        return self.sends(from_a, proto=ICMP[self.family], sport=kind, ident=4711)


@contextmanager
def pair(lab: Lab, namespace: str, peer: str, family: int) -> Iterator[Pair]:
    with FrameListener(lab, [f"{namespace}/{pod}" for pod in "abc"]) as ears:
        try:
            yield Pair(lab, ears, namespace, peer, family)
        finally:
            lab.reset()
            for node in lab.nodes.values():
                node.appctl("dpctl/flush-conntrack")


def only_into_a(namespace: str, **rule: object) -> str:
    """Everybody is isolated for ingress, and a may be reached by b and c."""
    into = {"from": [{"podSelector": pods("b", "c")}], **rule}
    return policies(
        {
            f"{namespace}/deny": {"policyTypes": ["Ingress"]},
            f"{namespace}/into-a": {"podSelector": pods("a"), "ingress": [into]},
        }
    )


@pytest.mark.parametrize(("peer", "family"), WAYS)
@pytest.mark.parametrize("proto", GOSSIPS, ids=GOSSIPS.values())
def test_the_direction_that_stays_allowed_goes_on_at_once(lab: Lab, proto: int, peer: str, family: int) -> None:
    with pair(lab, "x" if proto == oxm.IP_PROTO_UDP else "y", peer, family) as both:
        assert both.datagram(proto, from_a=True)
        assert both.datagram(proto, from_a=False)
        lab.apply(only_into_a(both.namespace, ports=[port(GOSSIP, NAMES[proto])]))
        for _ in range(5):
            assert not both.datagram(proto, from_a=True), "a may not open to the peer"
            assert both.datagram(proto, from_a=False), "the peer may open to a"
        lab.apply(policies({f"{both.namespace}/into-a": {"podSelector": pods("a"), "policyTypes": ["Ingress"]}}))
        assert not both.datagram(proto, from_a=True), "nothing is allowed any more"
        if peer == "c":
            # On another node a's switch takes it for an answer to what a sends (docs/semantics.md).
            assert not both.datagram(proto, from_a=False)


@pytest.mark.parametrize(("peer", "family"), WAYS)
def test_replies_are_replies_where_only_one_end_opened(lab: Lab, peer: str, family: int) -> None:
    """As with NTP: the client uses the server's port, and may be isolated."""
    with pair(lab, "z", peer, family) as both:
        lab.apply(only_into_a("z", ports=[port(GOSSIP, "UDP")]))
        assert not both.datagram(oxm.IP_PROTO_UDP, from_a=True), "nobody has asked"
        for _ in range(3):
            assert both.datagram(oxm.IP_PROTO_UDP, from_a=False)
            assert both.datagram(oxm.IP_PROTO_UDP, from_a=True), "the answer"


@pytest.mark.parametrize(("peer", "family"), WAYS)
def test_ports_that_differ_say_who_answers(lab: Lab, peer: str, family: int) -> None:
    """The peer is free to open to a, but what it sends from its own service is an answer, and stays cut."""
    ports = (40123, 8125)
    with pair(lab, "x", peer, family) as both:
        assert both.datagram(oxm.IP_PROTO_UDP, True, ports)
        assert both.datagram(oxm.IP_PROTO_UDP, False, ports)
        lab.apply(policies({"x/deny": {"podSelector": pods("b", "c"), "policyTypes": ["Ingress"]}}))
        for _ in range(2):
            assert not both.datagram(oxm.IP_PROTO_UDP, False, ports), "revoked"
            assert not both.datagram(oxm.IP_PROTO_UDP, True, ports), "revoked"


@pytest.mark.parametrize(("peer", "family"), WAYS)
def test_echo_with_one_identifier_at_both_ends(lab: Lab, peer: str, family: int) -> None:
    with pair(lab, "y", peer, family) as both:
        for from_a in (True, False):
            assert both.echo(from_a)
            assert both.echo(not from_a, reply=True)
        lab.apply(only_into_a("y"))
        for _ in range(3):
            assert not both.echo(from_a=True), "a may not ask the peer"
            assert not both.echo(from_a=False, reply=True)
            assert both.echo(from_a=False), "the peer may ask a"
            assert both.echo(from_a=True, reply=True), "the answer"


def test_refused_datagrams_keep_nothing_alive(lab: Lab) -> None:
    """Longer than an entry of UDP lives by itself: both go on, and nothing changes but by policy."""
    with pair(lab, "x", "b", 4) as both:
        assert both.datagram(oxm.IP_PROTO_UDP, from_a=True)
        assert both.datagram(oxm.IP_PROTO_UDP, from_a=False)
        lab.apply(only_into_a("x", ports=[port(GOSSIP, "UDP")]))
        deadline = time.monotonic() + 65
        while time.monotonic() < deadline:
            assert not both.datagram(oxm.IP_PROTO_UDP, from_a=True)
            assert both.datagram(oxm.IP_PROTO_UDP, from_a=False)
            time.sleep(1)
        lab.apply(policies({"x/into-b": {"podSelector": pods("b"), "ingress": [{}]}}))
        assert both.datagram(oxm.IP_PROTO_UDP, from_a=True), "allowed again"
