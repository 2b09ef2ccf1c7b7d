"""The learn action (NXAST_LEARN2) in bytes.

Its body is a header and a list of specs: match a constant, match a field of the packet, load a constant.
Source: OVS's ofp-actions (struct nx_action_learn2), ovs-actions(7) `learn`.

Example: `reg8=5,NXM_OF_IP_SRC[],load:7->NXM_NX_REG9[0..15]` has the specs

    2020 00000005 00011004 0000     match a constant of 32 bits: reg8, from bit 0
    0020 00000e04 0000 00000e04 0000   match the packet's field of 32 bits
    2810 0007 00011204 0000         load a constant of 16 bits: reg9, from bit 0
"""

from __future__ import annotations

import struct

from flows.openflow import match_fields as oxm
from flows.openflow.actions import FromPacket, Learn, Load
from flows.openflow.match import Term
from flows.openflow.register_bits import Range
from flows.pipeline import registers
from flows.wire.errors import CodecError
from flows.wire.matches import oxm_number

# After the action's own 10 bytes: idle, hard, priority, cookie, flags, table, fin idle, fin hard, limit, result.
_BODY = struct.Struct("!HHHQHBxHHIHH")
_CONSTANT, _LOAD_TO, _WIDTH = 1 << 13, 1 << 11, (1 << 11) - 1
_FIELD_SPEC = struct.Struct("!HIHIH")
_TARGET = struct.Struct("!IH")  # a field's number, and the first bit
_HEADER_SIZE = 10
# In a spec OVS names these fields by their Nicira numbers (class 0x0000, ovs-fields(7)).
_NUMBERS = {
    oxm.ETH_TYPE: 0x00000602, oxm.IP_PROTO: 0x00000C01, oxm.IPV4_SRC: 0x00000E04, oxm.IPV4_DST: 0x00001004,
    oxm.IPV6_SRC: 0x00012610, oxm.IPV6_DST: 0x00012810, oxm.SCTP_SRC: oxm_number(oxm.SCTP_SRC),
    oxm.SCTP_DST: oxm_number(oxm.SCTP_DST),
} | {register: oxm_number(register) for register in oxm.REGISTERS}  # fmt: skip
_FIELDS = {number: field for field, number in _NUMBERS.items()}
_NAMED = {(one.register, one.start, one.end): one for one in registers.RANGES}


def encode_learn(action: Learn) -> bytes:
    """The action after its subtype, padded so that the whole action has a multiple of 8 bytes. Raises CodecError."""
    if action.limit < 1:
        raise CodecError(f"no learn action can have limit {action.limit}")
    idle = action.idle_timeout
    head = _BODY.pack(idle, 0, action.priority, action.cookie, 0, action.table, 0, 0, action.limit, 0, 0)
    body = head + b"".join((*map(_match, action.terms), *map(_load, action.loads)))
    return body + bytes(-(len(body) + _HEADER_SIZE) & 7)


def _number(field: oxm.Field) -> int:
    number = _NUMBERS.get(field)
    if number is None:
        raise CodecError(f"no learn action of Headgate names {field.name}")
    return number


def _match(term: Term | FromPacket) -> bytes:
    if isinstance(term, FromPacket):
        if term.learned.width != term.packet.width:
            raise CodecError(f"{term.learned.name} is never equal to {term.packet.name}")
        return _FIELD_SPEC.pack(term.packet.width, _number(term.packet), 0, _number(term.learned), 0)
    if term.mask != term.field.full_mask:
        raise CodecError(f"a learned flow of Headgate matches all bits of {term.field.name}")
    constant = _constant(term.value, term.field.width)
    return struct.pack("!H", _CONSTANT | term.field.width) + constant + _TARGET.pack(_number(term.field), 0)


def _load(load: Load) -> bytes:
    place = load.place
    bits = _CONSTANT | _LOAD_TO | place.width
    return struct.pack("!H", bits) + _constant(load.value, place.width) + _TARGET.pack(
        _number(place.register), place.start
    )  # fmt: skip


def _constant(value: int, width: int) -> bytes:
    """A constant, which has a multiple of 2 bytes, padded on the left."""
    if value < 0 or value >> width:
        raise CodecError(f"{value} does not fit {width} bits")
    return value.to_bytes((width + 15) // 16 * 2, "big")


def decode_learn(wire: bytes) -> Learn:
    """The inverse of `encode_learn`. Raises CodecError for a learn action that Headgate never writes."""
    if len(wire) < _BODY.size:
        raise CodecError("a learn action ends early")
    idle, _, priority, cookie, _, table, _, _, limit, _, _ = _BODY.unpack_from(wire)
    terms: list[Term | FromPacket] = []
    loads: list[Load] = []
    offset = _BODY.size
    try:
        while offset + 2 <= len(wire) and any(wire[offset : offset + 2]):
            offset = _decode_spec(wire, offset, terms, loads)
    except struct.error as error:
        raise CodecError(f"a learn action ends early: {error}") from None
    return Learn(table, priority, cookie, idle, limit, tuple(terms), tuple(loads))


def _decode_spec(wire: bytes, offset: int, terms: list[Term | FromPacket], loads: list[Load]) -> int:
    """Read one spec; returns where the next one starts. The caller compares bytes, so here not all is checked."""
    kind: int = struct.unpack_from("!H", wire, offset)[0]
    width = kind & _WIDTH
    if not kind & _CONSTANT:
        _, source, _, target, _ = _FIELD_SPEC.unpack_from(wire, offset)
        terms.append(FromPacket(_field(target), _field(source)))
        return offset + _FIELD_SPEC.size
    after = offset + 2 + (width + 15) // 16 * 2
    value = int.from_bytes(wire[offset + 2 : after], "big")
    number, start = _TARGET.unpack_from(wire, after)
    field = _field(number)
    if value >> width or start + width > field.width or not width:
        raise CodecError(f"{width} bits of {field.name} in a learn action")
    if kind & _LOAD_TO:
        place = start, start + width - 1
        loads.append(Load(_NAMED.get((field, *place)) or Range(field, *place, ""), value))
    else:
        terms.append(Term(field, value, field.full_mask))
    return after + _TARGET.size


def _field(number: int) -> oxm.Field:
    field = _FIELDS.get(number)
    if field is None:
        raise CodecError(f"field {number:#010x} is in no learn action of Headgate")
    return field
