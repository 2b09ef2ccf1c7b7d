"""The learn action (NXAST_LEARN2) for the reverse of an SCTP packet, in bytes.

Its body is a header and a list of specs: match a constant, match a field of the packet, load a constant.
Source: OVS's ofp-actions, ovs-actions(7) `learn`.
"""

from __future__ import annotations

import struct

from flows.openflow import match_fields as oxm
from flows.openflow.actions import LearnReply
from flows.pipeline import registers
from flows.wire.errors import CodecError
from flows.wire.matches import oxm_number, size_of

# After the action's own 10 bytes: idle, hard, priority, cookie, flags, table, fin idle, fin hard, limit, result.
_BODY = struct.Struct("!HHHQHBxHHIHH")
_CONSTANT, _LOAD_TO = 1 << 13, 1 << 11
_FIELD_SPEC = struct.Struct("!HIHIH")
_HEADER_SIZE = 10
# In a spec OVS names these fields by their Nicira numbers (class 0x0000, ovs-fields(7)).
_NXM_ETH_TYPE, _NXM_IP_PROTO, _NXM_IP_SRC, _NXM_IP_DST = 0x00000602, 0x00000C01, 0x00000E04, 0x00001004
_NXM_IPV6_SRC, _NXM_IPV6_DST = 0x00012610, 0x00012810
_ETH_TYPES = {4: oxm.ETH_IPV4, 6: oxm.ETH_IPV6}
_ADDRESSES = {4: (_NXM_IP_SRC, _NXM_IP_DST), 6: (_NXM_IPV6_SRC, _NXM_IPV6_DST)}


def encode_learn(action: LearnReply) -> bytes:
    """The action after its subtype, padded so that the whole action has a multiple of 8 bytes. Raises CodecError."""
    if action.limit < 1 or action.version not in _ETH_TYPES:
        raise CodecError(f"no learn action can have limit {action.limit} and IP version {action.version}")
    head = _BODY.pack(action.idle_timeout, 0, action.priority, action.cookie, 0, action.table, 0, 0, action.limit, 0, 0)
    body = head + _specs(action.version) + _load(action.association)
    return body + bytes(-(len(body) + _HEADER_SIZE) & 7)


def _specs(version: int) -> bytes:
    source, target = _ADDRESSES[version]
    ports = oxm_number(oxm.SCTP_SRC), oxm_number(oxm.SCTP_DST)
    return b"".join(
        (
            _match_constant(_NXM_ETH_TYPE, _ETH_TYPES[version], size_of(oxm.ETH_TYPE)),
            _match_constant(_NXM_IP_PROTO, oxm.IP_PROTO_SCTP, size_of(oxm.IP_PROTO)),
            _match_field(source, target),
            _match_field(target, source),
            _match_field(*ports),
            _match_field(*reversed(ports)),
        )
    )


def _match_constant(number: int, value: int, size: int) -> bytes:
    """Match the field `number` against a constant, which has a multiple of 2 bytes, padded on the left."""
    padded = value.to_bytes(size + (size & 1), "big")
    return struct.pack("!H", _CONSTANT | size * 8) + padded + struct.pack("!IH", number, 0)


def _match_field(learned: int, packet: int) -> bytes:
    """Match the field `learned` against the packet's `packet`. The low byte of a field's number is its size."""
    return _FIELD_SPEC.pack((packet & 0xFF) * 8, packet, 0, learned, 0)


def _load(association: int) -> bytes:
    place = registers.SCTP_ASSOCIATION
    if association >> place.width:
        raise CodecError(f"{association} does not fit {place.meaning}")
    bits = _CONSTANT | _LOAD_TO | place.width
    return struct.pack("!HHIH", bits, association, oxm_number(place.register), place.start)


def decode_learn(wire: bytes) -> LearnReply:
    """The inverse of `encode_learn`. Raises CodecError for a learn action that Headgate never writes."""
    if len(wire) < _BODY.size + 4:
        raise CodecError("a learn action ends early")
    idle, _, priority, cookie, _, table, _, _, limit, _, _ = _BODY.unpack_from(wire)
    for version in _ETH_TYPES:
        prefix = wire[: _BODY.size] + _specs(version)
        if wire.startswith(prefix) and len(wire) >= len(prefix) + 4:
            association = int.from_bytes(wire[len(prefix) + 2 : len(prefix) + 4], "big")
            if association >> registers.SCTP_ASSOCIATION.width == 0:
                return LearnReply(table, version, association, cookie, priority, idle, limit)
    raise CodecError(f"a learn action that Headgate does not write: {wire.hex()}")
