"""A packet as a small value. The interpreter reads it; `frame_encoder` encodes it as a real frame.

Addresses and MACs are integers. How a flow table treats a packet does not belong here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from flows.cluster.net import Net
from flows.openflow import match_fields as oxm

SYN, ACK, PSH, RST, FIN = 0x02, 0x10, 0x08, 0x04, 0x01
ECHO_REQUEST, ECHO_REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
UNREACHABLE = {4: 3, 6: 1}
NEIGHBOR_SOLICIT, NEIGHBOR_ADVERT = 135, 136
ICMP = {4: oxm.IP_PROTO_ICMP, 6: oxm.IP_PROTO_ICMPV6}
ETHER = {4: oxm.ETH_IPV4, 6: oxm.ETH_IPV6}
ARP_REQUEST, ARP_REPLY = 1, 2


@dataclass(frozen=True, slots=True)
class Packet:
    """One frame. Of ARP `source` and `target` are the protocol addresses, of ICMP `sport` and `dport` type and code.

    A fragment has `pieces` > 1 and its `position` among them; `train` is the IP identification of its siblings too.
    `quoted` is the packet inside an ICMP error. `marker` makes a frame's payload unlike any other's. A `hop_limit` of 0
    is the family's usual one. `nd_flags` are the flags of a neighbor advertisement, in 32 bits.

    `tunnel_from` is the tunnel end that a frame came from, `tunnel_to` the one that it is sent to, None outside of
    tunnels.
    """

    eth_src: int = 0
    eth_dst: int = 0
    eth_type: int = 0
    vlan: int | None = None
    source: int = 0
    target: int = 0
    proto: int = 0
    sport: int = 0
    dport: int = 0
    flags: int = 0
    ident: int = 0
    train: int = 0
    position: int = 0
    pieces: int = 1
    arp_op: int = 0
    arp_sha: int = 0
    arp_tha: int = 0
    nd_target: int = 0
    nd_link: int | None = None
    nd_flags: int = 0
    quoted: Packet | None = None
    corrupt: bool = False
    marker: int = 0
    hop_limit: int = 0
    tunnel_from: Net | None = None
    tunnel_to: Net | None = None

    @property
    def version(self) -> int:
        """4 or 6 for IP, 0 for everything else."""
        return {oxm.ETH_IPV4: 4, oxm.ETH_IPV6: 6}.get(self.eth_type, 0)

    @property
    def hops(self) -> int:
        """The hop limit, or time to live: 255 for IPv6, as neighbor discovery has it."""
        return self.hop_limit or (255 if self.version == 6 else 64)

    @property
    def fragment(self) -> int:
        """The ip_frag bits (oxm.Fragment)."""
        if self.pieces == 1:
            return 0
        return int(oxm.Fragment.ANY | oxm.Fragment.LATER) if self.position else int(oxm.Fragment.ANY)

    @property
    def is_icmp(self) -> bool:
        """True for ICMP in IPv4 and ICMPv6 in IPv6."""
        return self.version != 0 and self.proto == ICMP[self.version]

    @property
    def whole(self) -> Packet:
        """The packet that this is a fragment of; itself when it is none."""
        return self if self.pieces == 1 else replace(self, position=0, pieces=1)


def transport(source: Net, target: Net, proto: int, sport: int, dport: int, flags: int = 0) -> Packet:
    """A TCP, UDP or SCTP packet without MACs; flags are TCP's."""
    return Packet(
        eth_type=ETHER[source.version], source=source.value, target=target.value, proto=proto, sport=sport,
        dport=dport, flags=flags,
    )  # fmt: skip


def echo(source: Net, target: Net, ident: int, reply: bool = False) -> Packet:
    """An ICMP or ICMPv6 echo request or reply without MACs."""
    version = source.version
    kind = (ECHO_REPLY if reply else ECHO_REQUEST)[version]
    return Packet(
        eth_type=ETHER[version], source=source.value, target=target.value, proto=ICMP[version], sport=kind, ident=ident
    )


def icmp_error(source: Net, quoted: Packet, code: int = 1) -> Packet:
    """A destination-unreachable from `source` to the sender of `quoted`, without MACs."""
    version = quoted.version
    return Packet(
        eth_type=quoted.eth_type, source=source.value, target=quoted.source, proto=ICMP[version],
        sport=UNREACHABLE[version], dport=code, quoted=quoted,
    )  # fmt: skip


def answer(packet: Packet) -> Packet:
    """What comes back to a transport or echo packet: addresses, MACs and ports swapped, SYN answered by SYN-ACK."""
    turned = replace(
        packet, eth_src=packet.eth_dst, eth_dst=packet.eth_src, source=packet.target, target=packet.source,
        sport=packet.dport, dport=packet.sport, flags=SYN | ACK if packet.flags == SYN else packet.flags,
    )  # fmt: skip
    if not packet.is_icmp:
        return turned
    version = packet.version
    kind = ECHO_REPLY[version] if packet.sport == ECHO_REQUEST[version] else ECHO_REQUEST[version]
    return replace(turned, sport=kind, dport=0)


def split(packet: Packet, train: int, pieces: int = 2) -> list[Packet]:
    """The fragments of a packet, first one first."""
    return [replace(packet, train=train, position=position, pieces=pieces) for position in range(pieces)]


def arp(op: int, sender: tuple[int, int], asked: tuple[int, int], eth_dst: int | None = None) -> Packet:
    """ARP from (MAC, IPv4 address) `sender` to or about `asked`; requests are broadcast unless `eth_dst` is given."""
    everybody = (1 << 48) - 1
    destination = eth_dst if eth_dst is not None else (everybody if op == ARP_REQUEST else asked[0])
    return Packet(
        eth_src=sender[0], eth_dst=destination, eth_type=oxm.ETH_ARP, source=sender[1], target=asked[1], arp_op=op,
        arp_sha=sender[0],
    )  # fmt: skip


def neighbor(kind: int, mac: int, eth_dst: int, source: int, target: int, nd_target: int, link: int | None) -> Packet:
    """A neighbor solicitation or advertisement; `link` is the link-layer address option, None when it is absent."""
    return Packet(
        eth_src=mac, eth_dst=eth_dst, eth_type=oxm.ETH_IPV6, source=source, target=target, proto=oxm.IP_PROTO_ICMPV6,
        sport=kind, nd_target=nd_target, nd_link=link,
    )  # fmt: skip
