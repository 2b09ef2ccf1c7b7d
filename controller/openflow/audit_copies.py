"""Reads packet-ins of audited packets: the registers and the tuple that the switch sends along, and the frame's head.

Bytes to values; who the ends are must not live here, see `controller.runtime.audit`. Sources: OpenFlow 1.4.1 section
7.4.1; ovs-fields(7) for the numbers of Nicira's fields.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from controller.openflow.node_probes import PacketIn, read_packet_in
from flows.cluster.net import ADDRESS_BITS, Net
from flows.explain.audited_packet import AuditedPacket
from flows.openflow import match_fields as oxm
from flows.openflow.register_bits import Range
from flows.pipeline.registers import (
    AUDITED,
    DESTINATION_OFPORT,
    INITIATOR_OFPORT,
    RESPONDER_OFPORT,
    SOURCE_OFPORT,
    Audited,
)
from flows.render.audit import AUDIT_COOKIE
from flows.wire.errors import CodecError
from flows.wire.matches import oxm_number

_COOKIE_OFFSET, _MATCH_OFFSET = 16, 24
_COOKIE = AUDIT_COOKIE.to_bytes(8, "big")
_ETHER_TYPES = {oxm.ETH_IPV4: 4, oxm.ETH_IPV6: 6}
_VLAN_TAG = 0x8100
_PORTS = (oxm.IP_PROTO_TCP, oxm.IP_PROTO_UDP, oxm.IP_PROTO_SCTP)
_EXTENSIONS = frozenset({0, 43, 60})  # of IPv6: hop-by-hop, routing, destination options
_FRAGMENT = 44
_HAS_MASK = 0x100  # of a header (OpenFlow 1.4.1 section 7.2.3.2)
_MAX_EXTENSIONS = 8
_STATE_TRACKED, _STATE_INVALID = oxm.CtState.TRK, oxm.CtState.INV
_TUPLE = {
    4: (oxm.CT_NW_SRC, oxm.CT_NW_DST),
    6: (oxm.CT_IPV6_SRC, oxm.CT_IPV6_DST),
}


def is_audit_copy(message: bytes) -> bool:
    """Whether a packet-in comes from the flow that copies audited packets."""
    return message[_COOKIE_OFFSET : _COOKIE_OFFSET + 8] == _COOKIE


def read_audit_copy(message: bytes) -> AuditedPacket:
    """The packet of such a packet-in. Raises CodecError."""
    found = read_packet_in(message)
    fields = _fields(message)
    try:
        reason = Audited(_bits(fields, AUDITED))
    except ValueError:
        raise CodecError("an audited packet without a reason") from None
    plain = AuditedPacket(
        reason,
        found.in_port & 0xFFFF,
        _bits(fields, SOURCE_OFPORT),
        _bits(fields, DESTINATION_OFPORT),
        _bits(fields, INITIATOR_OFPORT),
        _bits(fields, RESPONDER_OFPORT),
    )
    return _with_tuple(_with_frame(plain, found), fields)


def _fields(message: bytes) -> dict[int, int]:
    """The match of a packet-in: values by the headers of exact matches. `read_packet_in` has checked its length.

    Open vSwitch sends ct_state with a mask, of the bits that it knows: a header with another bit, and twice the length.

    Raises CodecError.
    """
    (length,) = struct.unpack_from("!H", message, _MATCH_OFFSET + 2)
    found: dict[int, int] = {}
    offset, end = _MATCH_OFFSET + 4, _MATCH_OFFSET + length
    while offset < end:
        if end - offset < 4:
            raise CodecError("a field of a packet-in is truncated")
        header = int.from_bytes(message[offset : offset + 4], "big")
        size, offset = header & 0xFF, offset + 4
        if offset + size > end:
            raise CodecError("a field of a packet-in is truncated")
        whole = size
        if header & _HAS_MASK:
            size //= 2
            header = header & ~(_HAS_MASK | 0xFF) | size
        found[header] = int.from_bytes(message[offset : offset + size], "big")
        offset += whole
    return found


def _bits(fields: Mapping[int, int], place: Range) -> int:
    return fields.get(oxm_number(place.register), 0) >> place.start & (1 << place.width) - 1


def _with_frame(packet: AuditedPacket, found: PacketIn) -> AuditedPacket:
    """Addresses, protocol and ports of the frame, as far as it has them."""
    frame = found.frame
    if len(frame) < 14:
        return packet
    ether = int.from_bytes(frame[12:14], "big")
    start = 14
    if ether == _VLAN_TAG and len(frame) >= 18:
        ether, start = int.from_bytes(frame[16:18], "big"), 18
    packet = packet._replace(ether_type=ether)
    version = _ETHER_TYPES.get(ether)
    if version is None:
        return packet
    head = frame[start:]
    if len(head) < (20 if version == 4 else 40):
        return packet
    return _with_ipv4(packet, head) if version == 4 else _with_ipv6(packet, head)


def _with_ipv4(packet: AuditedPacket, head: bytes) -> AuditedPacket:
    source, destination = (Net(4, int.from_bytes(head[at : at + 4], "big"), 32) for at in (12, 16))
    packet = packet._replace(source=source, destination=destination, protocol=head[9])
    is_later = int.from_bytes(head[6:8], "big") & 0x1FFF
    return packet if is_later else _with_ports(packet, head[(head[0] & 15) * 4 :])


def _with_ipv6(packet: AuditedPacket, head: bytes) -> AuditedPacket:
    source, destination = (Net(6, int.from_bytes(head[at : at + 16], "big"), ADDRESS_BITS[6]) for at in (8, 24))
    following, rest = head[6], head[40:]
    for _ in range(_MAX_EXTENSIONS):
        if following not in _EXTENSIONS or len(rest) < 8:
            break
        following, rest = rest[0], rest[(rest[1] + 1) * 8 :]
    if following == _FRAGMENT and len(rest) >= 8:
        later = int.from_bytes(rest[2:4], "big") >> 3
        following, rest = rest[0], b"" if later else rest[8:]
    return _with_ports(packet._replace(source=source, destination=destination, protocol=following), rest)


def _with_ports(packet: AuditedPacket, rest: bytes) -> AuditedPacket:
    if packet.protocol not in _PORTS or len(rest) < 4:
        return packet
    sport, dport = struct.unpack_from("!HH", rest)
    flags = rest[13] if packet.protocol == oxm.IP_PROTO_TCP and len(rest) > 13 else None
    return packet._replace(sport=sport, dport=dport, tcp_flags=flags)


def _with_tuple(packet: AuditedPacket, fields: Mapping[int, int]) -> AuditedPacket:
    """With the original direction of its connection instead, where conntrack has looked it up."""
    state = fields.get(oxm_number(oxm.CT_STATE), 0)
    if packet.source is None or not state & _STATE_TRACKED or state & _STATE_INVALID:
        return packet
    version = packet.source.version
    values = [fields.get(oxm_number(one)) for one in _TUPLE[version]]
    protocol = fields.get(oxm_number(oxm.CT_NW_PROTO), 0)
    if None in values or not protocol:
        return packet
    source, destination = (Net(version, value or 0, ADDRESS_BITS[version]) for value in values)
    packet = packet._replace(source=source, destination=destination, protocol=protocol)
    if protocol not in _PORTS:
        return packet._replace(sport=None, dport=None)
    ports = [fields.get(oxm_number(one), 0) for one in (oxm.CT_TP_SRC, oxm.CT_TP_DST)]
    return packet._replace(sport=ports[0], dport=ports[1])
