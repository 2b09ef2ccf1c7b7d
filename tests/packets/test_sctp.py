"""SCTP associations on a datapath whose connection tracking knows them by their addresses alone: a packet of the
reply direction passes as the answer to its own association and to no other."""

from __future__ import annotations

import itertools

import pytest

from flows import oxm
from tests.packets.frames import Ears, mac, number, put
from tests.packets.policies import pods, policies, port
from tests.pipeline.packet import ETHER, Packet
from tests.switch.frames import encode
from topology.lab import Lab

pytestmark = pytest.mark.lab

# x/a serves SCTP 80 to x/b and x/c, and nobody may open anything to x/b or x/c.
SERVER_ONLY = policies(
    {
        "x/deny": {"policyTypes": ["Ingress"]},
        "x/serve": {
            "podSelector": pods("a"),
            "ingress": [{"from": [{"podSelector": pods("b", "c")}], "ports": [port(80, "SCTP")]}],
        },
    }
)
# The other way round: x/a may open associations to port 80 of x/b and x/c, and serves nobody.
CLIENT_ONLY = policies(
    {
        "x/deny": {"policyTypes": ["Ingress"]},
        "x/serve": {
            "podSelector": pods("b", "c"),
            "ingress": [{"from": [{"podSelector": pods("a")}], "ports": [port(80, "SCTP")]}],
        },
    }
)
WAYS = [(peer, family) for peer in ("x/b", "x/c") for family in (4, 6)]


class Pair:
    """SCTP packets between x/a and one other pod; every one is known again where it arrives."""

    def __init__(self, lab: Lab, ears: Ears, peer: str, family: int) -> None:
        self._lab, self._ears = lab, ears
        self._peer, self._family = peer, family
        self._markers = itertools.count(0x5C79 << 40 | family << 32)

    def passes(self, sport: int, dport: int, from_a: bool = False) -> bool:
        """Send one packet, from the peer or from x/a, and say whether it arrived."""
        ends = ("x/a", self._peer) if from_a else (self._peer, "x/a")
        source, target = (number(self._lab.endpoints[end].addresses[self._family]) for end in ends)
        marker = next(self._markers)
        packet = Packet(
            eth_src=mac(self._lab, ends[0]), eth_dst=mac(self._lab, ends[1]), eth_type=ETHER[self._family],
            source=source, target=target, proto=oxm.IP_PROTO_SCTP, sport=sport, dport=dport, marker=marker,
        )  # fmt: skip
        put(self._lab, ends[0], [encode(packet)])
        self._ears.fence(ends[0])
        return self._ears.count(ends[1], marker.to_bytes(8, "big")) == 1


@pytest.mark.parametrize(("peer", "family"), WAYS)
def test_a_reply_belongs_to_one_association(lab: Lab, peer: str, family: int) -> None:
    with Ears(lab, ["x/a", "x/b", "x/c"]) as ears:
        pair = Pair(lab, ears, peer, family)
        try:
            lab.apply(SERVER_ONLY)
            assert not pair.passes(80, 4999, from_a=True), "nobody has asked"
            assert pair.passes(5000, 80)
            assert pair.passes(80, 5000, from_a=True), "the answer"
            assert not pair.passes(81, 5000, from_a=True), "from another port of the server"
            assert not pair.passes(80, 5001, from_a=True), "to another port of the client"
            assert not pair.passes(5000, 81), "to a port that is not allowed"
            assert not pair.passes(81, 5000, from_a=True), "what that would have been answered"
            assert pair.passes(5002, 80)
            assert pair.passes(80, 5002, from_a=True), "the answer to the second one"
            assert pair.passes(80, 5000, from_a=True), "another answer to the first one"
        finally:
            lab.reset()


@pytest.mark.parametrize(("peer", "family"), WAYS)
def test_the_opposite_direction_is_judged_by_its_own_rules(lab: Lab, peer: str, family: int) -> None:
    with Ears(lab, ["x/a", "x/b", "x/c"]) as ears:
        pair = Pair(lab, ears, peer, family)
        try:
            lab.apply(CLIENT_ONLY)
            assert pair.passes(6000, 80, from_a=True)
            assert pair.passes(80, 6000), "the answer"
            assert not pair.passes(80, 6001), "not an answer, and x/a serves nobody"
            assert not pair.passes(6000, 80), "the same ports, but the peer opens it"
            assert not pair.passes(80, 80)
            assert not pair.passes(6000, 6000)
        finally:
            lab.reset()


@pytest.mark.parametrize(("peer", "family"), WAYS)
def test_revoking_cuts_an_association_both_ways(lab: Lab, peer: str, family: int) -> None:
    with Ears(lab, ["x/a", "x/b", "x/c"]) as ears:
        pair = Pair(lab, ears, peer, family)
        try:
            lab.apply(SERVER_ONLY)
            assert pair.passes(7000, 80)
            assert pair.passes(80, 7000, from_a=True)
            lab.apply(CLIENT_ONLY)
            assert not pair.passes(7000, 80)
            assert not pair.passes(80, 7000, from_a=True)
            lab.apply(SERVER_ONLY)
            assert pair.passes(7000, 80)
            assert pair.passes(80, 7000, from_a=True)
        finally:
            lab.reset()
