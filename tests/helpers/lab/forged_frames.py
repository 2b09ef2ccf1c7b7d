"""The frames of the tests on spoofing: honest ones, and the same with one thing in them that is not so."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from flows.interpret.frame_encoder import encode
from flows.interpret.packet import (
    ARP_REPLY,
    ARP_REQUEST,
    ETHER,
    ICMP,
    NEIGHBOR_ADVERT,
    NEIGHBOR_SOLICIT,
    Packet,
    arp,
    neighbor,
)
from flows.openflow import match_fields as oxm
from tests.helpers.lab.raw_frames import mac, number
from topology.lab.lab import Lab

ROUTER_ADVERTISEMENT, REDIRECT = 134, 137
EXPERIMENT = 0x88B5  # IEEE 802 local experimental
STRANGER = 0x0A58DEADBEEF
_ETHERNET = 14


@dataclass(frozen=True)
class Forged:
    """A frame and the bytes that identify it where it arrives."""

    what: str
    frame: bytes
    known_by: bytes


class Forger:
    """Makes the frames of one sender to one receiver, every one unlike all others."""

    def __init__(self, lab: Lab, sender: str, receiver: str) -> None:
        self._lab = lab
        self.sender, self.receiver = sender, receiver
        self._chance = random.Random(7)
        self._asked = 0

    def address(self, name: str, family: int) -> int:
        """An endpoint's address as a number."""
        return number(self._lab.endpoints[name].addresses[family])

    def packet(self, what: str, family: int, **changes: object) -> Forged:
        """A UDP packet to a port without a server; `changes` are the forged fields of Packet."""
        marker = self._chance.getrandbits(63)
        honest = Packet(
            eth_src=mac(self._lab, self.sender), eth_dst=mac(self._lab, self.receiver), eth_type=ETHER[family],
            source=self.address(self.sender, family), target=self.address(self.receiver, family),
            proto=oxm.IP_PROTO_UDP, sport=4000, dport=9, marker=marker,
        )  # fmt: skip
        frame = encode(replace(honest, **changes))  # type: ignore[arg-type]  # the names are Packet's
        return Forged(what, frame, marker.to_bytes(8, "big"))

    def icmpv6(self, what: str, kind: int) -> Forged:
        """An ICMPv6 message of a kind to the receiver, its content not looked at."""
        return self.packet(what, 6, proto=ICMP[6], sport=kind, dport=0)

    def arp(self, what: str, op: int, mac_source: int, sha: int, source: int) -> Forged:
        """ARP: a request for an unused address, or a reply to the receiver that `source` is at `sha`."""
        self._asked += 1
        receiver = mac(self._lab, self.receiver), self.address(self.receiver, 4)
        asked = (0, 0x0A0AFC00 + self._asked) if op == ARP_REQUEST else receiver
        made = replace(arp(op, (sha, source), asked), eth_src=mac_source, arp_sha=sha)
        return self._whole(what, encode(made)[: _ETHERNET + 28])

    def neighbor(
        self, what: str, kind: int, mac_source: int, source: int, target: int | None, link: int | None
    ) -> Forged:
        """A solicitation for an unused address (`target` None) or an advertisement for `target`."""
        self._asked += 1
        nobody = self.address(self.receiver, 6) ^ (0xFFFF << 32) + self._asked
        wanted = nobody if target is None else target
        if kind == NEIGHBOR_SOLICIT:
            low = wanted & 0xFFFFFF
            eth_dst, to = 0x3333FF000000 | low, number("ff02::1:ff00:0") | low
        else:
            eth_dst, to = mac(self._lab, self.receiver), self.address(self.receiver, 6)
        made = neighbor(kind, mac_source, eth_dst, source, to, wanted, link)
        return self._whole(what, encode(made))

    @staticmethod
    def _whole(what: str, frame: bytes) -> Forged:
        return Forged(what, frame.ljust(60, b"\0"), frame)


def honest(make: Forger, lab: Lab) -> list[Forged]:
    """Frames that must arrive: they show that the listener would hear the forged ones too."""
    own, four, six = mac(lab, make.sender), make.address(make.sender, 4), make.address(make.sender, 6)
    return [
        make.packet("its own IPv4 packet", 4),
        make.packet("its own IPv6 packet", 6),
        make.arp("its own ARP request", ARP_REQUEST, own, own, four),
        make.arp("its own ARP reply", ARP_REPLY, own, own, four),
        make.neighbor("its own solicitation", NEIGHBOR_SOLICIT, own, six, None, own),
        make.neighbor("its own advertisement", NEIGHBOR_ADVERT, own, six, six, own),
    ]


def from_a_pod(make: Forger, lab: Lab, other: str) -> list[Forged]:
    """What a pod must not be able to send: everything that says it were `other`, or more than a pod is."""
    own, four, six = mac(lab, make.sender), make.address(make.sender, 4), make.address(make.sender, 6)
    foreign, foreign4, foreign6 = mac(lab, other), make.address(other, 4), make.address(other, 6)
    request, reply, solicit, advert = ARP_REQUEST, ARP_REPLY, NEIGHBOR_SOLICIT, NEIGHBOR_ADVERT
    return [
        make.packet("IPv4 from a pod's MAC", 4, eth_src=foreign),
        make.packet("IPv6 from a pod's MAC", 6, eth_src=foreign),
        make.packet("IPv4 from nobody's MAC", 4, eth_src=STRANGER),
        make.packet("a pod's IPv4 source", 4, source=foreign4),
        make.packet("a pod's IPv6 source", 6, source=foreign6),
        make.packet("its node's IPv4 source", 4, source=make.address("node:one", 4)),
        make.packet("its node's IPv6 source", 6, source=make.address("node:one", 6)),
        make.packet("nobody's IPv4 source", 4, source=number("192.0.2.1")),
        make.packet("no IPv4 source", 4, source=0),
        make.packet("nobody's IPv6 source", 6, source=number("2001:db8::1")),
        make.packet("no IPv6 source", 6, source=0),
        make.packet("IPv4 in a VLAN", 4, vlan=7),
        make.packet("IPv6 in a VLAN", 6, vlan=7),
        make.packet("a priority tag", 4, vlan=0),
        make.packet("another protocol than IP", 4, eth_type=EXPERIMENT),
        make.arp("an ARP request for a pod's address", request, own, own, foreign4),
        make.arp("an ARP request with a pod's MAC inside", request, own, foreign, four),
        make.arp("an ARP request from a pod's MAC", request, foreign, own, four),
        make.arp("an ARP reply for a pod's address", reply, own, own, foreign4),
        make.arp("an ARP reply with a pod's MAC inside", reply, own, foreign, four),
        make.arp("an ARP reply for the node's address", reply, own, own, make.address("node:one", 4)),
        make.neighbor("a solicitation from a pod's address", solicit, own, foreign6, None, own),
        make.neighbor("a solicitation with a pod's MAC inside", solicit, own, six, None, foreign),
        make.neighbor("a solicitation from a pod's MAC", solicit, foreign, six, None, own),
        make.neighbor("an advertisement of a pod's address", advert, own, six, foreign6, own),
        make.neighbor("an advertisement from a pod's address", advert, own, foreign6, six, own),
        make.neighbor("an advertisement with a pod's MAC inside", advert, own, six, six, foreign),
        make.neighbor("an advertisement of the node's address", advert, own, six, make.address("node:one", 6), own),
        make.icmpv6("a router advertisement", ROUTER_ADVERTISEMENT),
        make.icmpv6("a redirect", REDIRECT),
    ]


def from_the_uplink(make: Forger, lab: Lab, local: str) -> list[Forged]:
    """What must not come from the other nodes' side: a pod of this node, or the node, that speaks from there."""
    own, six = mac(lab, make.sender), make.address(make.sender, 6)
    local4, local6 = make.address(local, 4), make.address(local, 6)
    return [
        make.packet("IPv4 of a pod of this node", 4, source=local4),
        make.packet("IPv6 of a pod of this node", 6, source=local6),
        make.packet("IPv4 of a pod of this node, with its MAC", 4, source=local4, eth_src=mac(lab, local)),
        make.packet("IPv4 of this node", 4, source=make.address("node:one", 4)),
        make.packet("IPv6 of this node", 6, source=make.address("node:one", 6)),
        make.arp("an ARP reply for a pod of this node", ARP_REPLY, own, own, local4),
        make.arp("an ARP request for a pod of this node", ARP_REQUEST, own, own, local4),
        make.neighbor("an advertisement of a pod of this node", NEIGHBOR_ADVERT, own, six, local6, own),
        make.neighbor("a solicitation from a pod of this node", NEIGHBOR_SOLICIT, own, local6, None, own),
    ]
