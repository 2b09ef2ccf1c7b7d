"""What actions change in a packet: addresses, ports, MAC addresses and hops, between a table's state and Packet values.

The answers that turn ARP and neighbor discovery into other messages are not modelled: tests/packets has them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from flows.openflow import match_fields as oxm
from tests.helpers.datapath.flow_lookup import INDEX, State
from tests.helpers.datapath.packet import Packet

PORTS = {
    oxm.IP_PROTO_TCP: ("tcp_src", "tcp_dst"),
    oxm.IP_PROTO_UDP: ("udp_src", "udp_dst"),
    oxm.IP_PROTO_SCTP: ("sctp_src", "sctp_dst"),
}
_MACS = (INDEX[oxm.ETH_SRC.name], INDEX[oxm.ETH_DST.name])
_HOPS = INDEX[oxm.IP_TTL.name]
_WRITTEN = frozenset({oxm.ETH_SRC, oxm.ETH_DST, oxm.TUN_DST, oxm.TUN_IPV6_DST})


class Header(NamedTuple):
    """`ends` are source, target, sport and dport of a Packet, `macs` its eth_src and eth_dst, `hops` 0 without IP."""

    ends: tuple[int, int, int, int]
    macs: tuple[int, int]
    hops: int


def header_of(packet: Packet) -> Header:
    """The header as the packet came."""
    ends = packet.source, packet.target, packet.sport, packet.dport
    return Header(ends, (packet.eth_src, packet.eth_dst), packet.hops if packet.version else 0)


def header_in(packet: Packet, state: State) -> Header:
    """The header of a packet as it is now, apart from what its protocol does not have."""
    macs = state[_MACS[0]], state[_MACS[1]]
    if not packet.version:
        return Header(header_of(packet).ends, macs, 0)
    source, target = (state[INDEX[f"ipv{packet.version}_{end}"]] for end in ("src", "dst"))
    ports = PORTS.get(packet.proto)
    if ports is None or packet.fragment:
        return Header((source, target, packet.sport, packet.dport), macs, state[_HOPS])
    return Header((source, target, state[INDEX[ports[0]]], state[INDEX[ports[1]]]), macs, state[_HOPS])


def with_header(packet: Packet, header: Header, before: Header) -> Packet:
    """The packet with this header, which was `before`."""
    if packet.fragment and header.ends != before.ends:
        raise NotImplementedError("a fragment with other addresses")
    source, target, sport, dport = header.ends
    hops = packet.hop_limit if header.hops == before.hops else header.hops
    return replace(packet, source=source, target=target, sport=sport, dport=dport, eth_src=header.macs[0],
                   eth_dst=header.macs[1], hop_limit=hops)  # fmt: skip


def set_field(state: State, field: oxm.Field, value: int) -> None:
    """Write a whole field. Raises NotImplementedError for one of ARP or neighbor discovery."""
    if field not in _WRITTEN:
        raise NotImplementedError(f"writing {field.name}")
    state[INDEX[field.name]] = value


def take_hop(state: State) -> bool:
    """Take one hop; False where none is left to go on with."""
    if state[_HOPS] <= 1:
        return False
    state[_HOPS] -= 1
    return True
