"""What actions change in a packet: addresses, ports, MAC addresses, hops, the tunnel's end, and what a message of ARP
or neighbor discovery says, between a table's state and Packet values."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from flows.cluster.net import ADDRESS_BITS, Net
from flows.interpret.flow_lookup import INDEX, State
from flows.interpret.packet import NEIGHBOR_ADVERT, NEIGHBOR_SOLICIT, Packet
from flows.openflow import match_fields as oxm

PORTS = {
    oxm.IP_PROTO_TCP: ("tcp_src", "tcp_dst"),
    oxm.IP_PROTO_UDP: ("udp_src", "udp_dst"),
    oxm.IP_PROTO_SCTP: ("sctp_src", "sctp_dst"),
}
_MACS = (INDEX[oxm.ETH_SRC.name], INDEX[oxm.ETH_DST.name])
_HOPS = INDEX[oxm.IP_TTL.name]
_TUNNEL = {4: INDEX[oxm.TUN_DST.name], 6: INDEX[oxm.TUN_IPV6_DST.name]}
_OPTION_TYPES = {NEIGHBOR_SOLICIT: 1, NEIGHBOR_ADVERT: 2}  # of the link-layer address (RFC 4861, section 4.6.1)


class Header(NamedTuple):
    """`ends` are source, target, sport and dport of a Packet, `macs` its eth_src and eth_dst, `hops` 0 without IP.

    `said` is what ARP (arp_op, arp_sha, arp_tha) or neighbor discovery (nd_flags, nd_link) says, as Packet has it.
    """

    ends: tuple[int, int, int, int]
    macs: tuple[int, int]
    hops: int
    tunnel_to: Net | None = None
    said: tuple[tuple[str, int | None], ...] = ()


def header_of(packet: Packet) -> Header:
    """The header as the packet came."""
    ends = packet.source, packet.target, packet.sport, packet.dport
    said: tuple[tuple[str, int | None], ...] = ()
    if packet.eth_type == oxm.ETH_ARP:
        said = ("arp_op", packet.arp_op), ("arp_sha", packet.arp_sha), ("arp_tha", packet.arp_tha)
    elif _is_discovery(packet):
        said = ("nd_flags", packet.nd_flags), ("nd_link", packet.nd_link)
    macs = packet.eth_src, packet.eth_dst
    return Header(ends, macs, packet.hops if packet.version else 0, packet.tunnel_to, said)


def header_in(packet: Packet, state: State) -> Header:
    """The header of a packet as it is now, apart from what its protocol does not have."""
    found = header_of(packet)._replace(macs=(state[_MACS[0]], state[_MACS[1]]), tunnel_to=_tunnel_in(state))
    if packet.eth_type == oxm.ETH_ARP:
        operation, sha, tha, source, target = _values(state, "arp_op", "arp_sha", "arp_tha", "arp_spa", "arp_tpa")
        return found._replace(
            ends=(source, target, 0, 0), said=(("arp_op", operation), ("arp_sha", sha), ("arp_tha", tha))
        )
    if not packet.version:
        return found
    source, target = _values(state, f"ipv{packet.version}_src", f"ipv{packet.version}_dst")
    found = found._replace(ends=(source, target, packet.sport, packet.dport), hops=state[_HOPS])
    if _is_discovery(packet):
        return _discovery_in(packet, state, found)
    ports = PORTS.get(packet.proto)
    if ports is None or packet.fragment:
        return found
    sport, dport = _values(state, *ports)
    return found._replace(ends=(source, target, sport, dport))


def _values(state: State, *names: str) -> tuple[int, ...]:
    return tuple([state[INDEX[name]] for name in names])


def _is_discovery(packet: Packet) -> bool:
    of_neighbors = packet.version == 6 and packet.is_icmp and packet.sport in _OPTION_TYPES
    return of_neighbors and not packet.dport and not packet.fragment


def _discovery_in(packet: Packet, state: State, found: Header) -> Header:
    """A message that became one of the other kind has an option of the other kind, if it has one at all."""
    (kind,) = _values(state, "icmpv6_type")
    (link,) = _values(state, "nd_sll" if kind == NEIGHBOR_SOLICIT else "nd_tll")
    if kind != packet.sport and packet.nd_link is not None:
        written = state[INDEX[oxm.ND_OPTIONS_TYPE.name]]
        if written != _OPTION_TYPES[kind]:
            raise NotImplementedError(f"an option of type {written} in a message of type {kind}")
    source, target, _, code = found.ends
    said = ("nd_flags", state[INDEX[oxm.ND_RESERVED.name]]), ("nd_link", None if packet.nd_link is None else link)
    return found._replace(ends=(source, target, kind, code), said=said)


def _tunnel_in(state: State) -> Net | None:
    return next((Net(v, state[at], ADDRESS_BITS[v]) for v, at in _TUNNEL.items() if state[at]), None)


def with_header(packet: Packet, header: Header, before: Header) -> Packet:
    """The packet with this header, which was `before`. `packet` may be a fragment of the one whose header that is."""
    source, target, sport, dport = header.ends
    hops = packet.hop_limit if header.hops == before.hops else header.hops
    changed = replace(packet, source=source, target=target, sport=sport, dport=dport, eth_src=header.macs[0],
                      eth_dst=header.macs[1], hop_limit=hops, tunnel_to=header.tunnel_to)  # fmt: skip
    return changed if header.said == before.said else replace(changed, **dict(header.said))  # type: ignore[arg-type]


def set_field(state: State, field: oxm.Field, value: int) -> None:
    """Write a whole field. A tunnel has one end: that of the other family is forgotten."""
    if field in (oxm.TUN_DST, oxm.TUN_IPV6_DST):
        for index in _TUNNEL.values():
            state[index] = 0
    state[INDEX[field.name]] = value


def take_hop(state: State) -> bool:
    """Take one hop; False where none is left to go on with."""
    if state[_HOPS] <= 1:
        return False
    state[_HOPS] -= 1
    return True
