"""SCTP associations on a datapath whose connection tracking knows them by their addresses alone: a packet of the
reply direction passes as the answer to its own association and to no other."""

from __future__ import annotations

import itertools

import pytest

from flows.interpret.frame_encoder import encode
from flows.interpret.packet import ETHER, Packet
from flows.openflow import match_fields as oxm
from tests.helpers.lab.datapath_choice import userspace_only
from tests.helpers.lab.policies import pods, policies, port
from tests.helpers.lab.raw_frames import FrameListener, mac, number, put
from topology.lab.lab import Lab

pytestmark = [pytest.mark.lab, userspace_only]


def only_serves(namespace: str, server: str, *clients: str) -> str:
    """In the namespace only the server takes SCTP associations, on port 80, and only from these clients."""
    rule = {"from": [{"podSelector": pods(*clients)}], "ports": [port(80, "SCTP")]}
    return policies(
        {
            f"{namespace}/deny": {"policyTypes": ["Ingress"]},
            f"{namespace}/serve": {"podSelector": pods(server), "ingress": [rule]},
        }
    )


def only_asks(namespace: str, client: str, *servers: str) -> str:
    """The other way round: only these servers take associations, on port 80, and only from the client."""
    rule = {"from": [{"podSelector": pods(client)}], "ports": [port(80, "SCTP")]}
    return policies(
        {
            f"{namespace}/deny": {"policyTypes": ["Ingress"]},
            f"{namespace}/serve": {"podSelector": pods(*servers), "ingress": [rule]},
        }
    )


# Every test has its pods a, b and c in a namespace of its own, so that none meets associations of another.
WAYS = [(peer, family) for peer in "bc" for family in (4, 6)]


class Pair:
    """SCTP packets between pod a of a namespace and another one; each can be identified where it arrives."""

    def __init__(self, lab: Lab, ears: FrameListener, namespace: str, peer: str, family: int) -> None:
        self._lab, self._ears, self._family = lab, ears, family
        self._server, self._peer = f"{namespace}/a", f"{namespace}/{peer}"
        self._markers = itertools.count(0x5C79 << 40 | family << 32)

    def passes(self, sport: int, dport: int, from_a: bool = False) -> bool:
        """Send one packet, from the peer or from a, and say whether it arrived."""
        ends = (self._server, self._peer) if from_a else (self._peer, self._server)
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
    with FrameListener(lab, [f"x/{pod}" for pod in "abc"]) as ears:
        pair = Pair(lab, ears, "x", peer, family)
        try:
            lab.apply(only_serves("x", "a", "b", "c"))
            assert not pair.passes(80, 4999, from_a=True), "nobody has asked"
            assert pair.passes(5000, 80)
            assert pair.passes(80, 5000, from_a=True), "the answer"
            assert not pair.passes(81, 5000, from_a=True), "from another port of the server"
            assert not pair.passes(80, 5001, from_a=True), "to another port of the client"
            assert not pair.passes(5002, 81), "to a port that is not allowed"
            assert not pair.passes(79, 5002, from_a=True), "nobody has asked for that either"
            assert pair.passes(5001, 80), "which the server had tried the other way round"
            assert pair.passes(80, 5001, from_a=True), "the answer to the second one"
            assert pair.passes(80, 5000, from_a=True), "another answer to the first one"
        finally:
            lab.reset()


@pytest.mark.parametrize(("peer", "family"), WAYS)
def test_the_opposite_direction_is_judged_by_its_own_rules(lab: Lab, peer: str, family: int) -> None:
    with FrameListener(lab, [f"y/{pod}" for pod in "abc"]) as ears:
        pair = Pair(lab, ears, "y", peer, family)
        try:
            lab.apply(only_asks("y", "a", "b", "c"))
            assert pair.passes(6000, 80, from_a=True)
            assert pair.passes(80, 6000), "the answer"
            assert not pair.passes(80, 6001), "not an answer, and a serves nobody"
            assert not pair.passes(6000, 80), "the same ports, but the peer opens it"
            assert not pair.passes(80, 80)
            assert not pair.passes(6000, 6000)
        finally:
            lab.reset()


@pytest.mark.parametrize("server_first", [False, True], ids=["the-client-speaks-first", "the-server-speaks-first"])
@pytest.mark.parametrize(("peer", "family"), WAYS)
def test_revoking_cuts_an_association_both_ways(lab: Lab, peer: str, family: int, server_first: bool) -> None:
    with FrameListener(lab, [f"z/{pod}" for pod in "abc"]) as ears:
        pair = Pair(lab, ears, "z", peer, family)
        try:
            lab.apply(only_serves("z", "a", "b", "c"))
            assert pair.passes(7000, 80)
            assert pair.passes(80, 7000, from_a=True)
            lab.apply(only_asks("z", "a", "b", "c"))
            ways = [(7000, 80, False), (80, 7000, True)]
            for sport, dport, from_a in reversed(ways) if server_first else ways:
                assert not pair.passes(sport, dport, from_a)
            lab.apply(only_serves("z", "a", "b", "c"))
            assert pair.passes(7000, 80)
            assert pair.passes(80, 7000, from_a=True)
        finally:
            lab.reset()
