"""Instructions as bytes: meter, apply-actions and goto-table of OpenFlow 1.4, with the Nicira actions in use.

They equal what OVS 3.1 dumps: register loads are NXAST_REG_LOAD, and apply-actions comes before goto-table.
See `flows.openflow.actions` for what an action does, and `learn` for the layout of the learn action. Sources: OpenFlow
1.4.1 sections 7.2.4 and 7.2.5, OVS's ofp-actions, ovs-actions(7).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from flows.openflow import match_fields as oxm
from flows.openflow import port_numbers
from flows.openflow.actions import (
    Action,
    CheckLength,
    Clone,
    Conjunction,
    Ct,
    DecTtl,
    HandOver,
    Learn,
    Load,
    Meter,
    Move,
    Multipath,
    Note,
    Output,
    OutputRegister,
    Pop,
    Push,
    Resubmit,
    SetField,
    ToGroup,
)
from flows.openflow.register_bits import Range
from flows.pipeline import registers
from flows.wire.errors import CodecError, MessageTooLong
from flows.wire.learn import decode_learn, encode_learn
from flows.wire.matches import oxm_number
from flows.wire.multipath import NXAST_MULTIPATH, decode_multipath, encode_multipath
from flows.wire.nat import NXAST_NAT, decode_nat, encode_nat
from flows.wire.set_field import SET_FIELD, decode_set_field, encode_set_field

NICIRA = 0x00002320
_EXPERIMENTER, _OUTPUT, _GROUP = 0xFFFF, 0, 22
_REG_MOVE, _REG_LOAD, _RESUBMIT_TABLE, _OUTPUT_REG, _CONJUNCTION, _CT, _LEARN2 = 6, 7, 14, 15, 34, 35, 45
_CLONE = 42
_NOTE = 8
_STACK_PUSH, _STACK_POP = 27, 28
_CHECK_LARGER = 49
_GOTO_TABLE, _APPLY_ACTIONS, _METER = 1, 4, 6
_IN_PORT_16 = 0xFFF8
_NO_TABLE = 0xFF
_MAX_LENGTH = 0xFFFF
_CT_COMMIT, _CT_FORCE = 1, 2
_CACHED = 1 << 14
_FEW = 4  # actions: the bytes of longer lists are not cached

_INSTRUCTION = struct.Struct("!HH4x")
_GOTO = struct.Struct("!HHB3x")
_METER_INSTRUCTION = struct.Struct("!HHI")
_ACTION_HEAD = struct.Struct("!HHIH")
_PLAIN_OUTPUT = struct.Struct("!HHIH6x")
_OUTPUT_PORT_END = struct.calcsize("!HHI")  # where the port ends in it
_TO_GROUP = struct.Struct("!HHI")
_GROUP_HEAD = struct.pack("!HH", _GROUP, _TO_GROUP.size)
_MOVE = struct.Struct("!HHIHHHHII")
_LOAD = struct.Struct("!HHIHHIQ")
_STACK = struct.Struct("!HHIHHIH6x")
_RESUBMIT = struct.Struct("!HHIHHB3x")
_OUTPUT_REGISTER = struct.Struct("!HHIHHIH6x")
_CONJUNCT = struct.Struct("!HHIHBBI")
_ONLY_CONJUNCT = struct.Struct(_INSTRUCTION.format + _CONJUNCT.format.removeprefix("!"))
_TRACK = struct.Struct("!HHIHHIHB3xH")
_CHECK = struct.Struct("!HHIHHHI6x")
_DEC_TTL = struct.pack("!HH4x", 24, 8)

# In actions OVS names packet fields by their Nicira numbers where they have one (class 0x0000, ovs-fields(7)).
_HEADERS = {
    oxm.IPV4_SRC: 0x00000E04, oxm.IPV4_DST: 0x00001004, oxm.IPV6_SRC: 0x00012610, oxm.IPV6_DST: 0x00012810,
    oxm.TCP_SRC: 0x00001202, oxm.TCP_DST: 0x00001402, oxm.UDP_SRC: 0x00001602, oxm.UDP_DST: 0x00001802,
    oxm.SCTP_SRC: oxm_number(oxm.SCTP_SRC), oxm.SCTP_DST: oxm_number(oxm.SCTP_DST),
    oxm.ETH_SRC: 0x00000406, oxm.ETH_DST: 0x00000206, oxm.ARP_SPA: 0x00002004, oxm.ARP_TPA: 0x00002204,
    oxm.ARP_SHA: 0x00012206, oxm.ARP_THA: 0x00012406, oxm.ND_TARGET: 0x00012E10,
}  # fmt: skip
_NUMBERS = _HEADERS | {register: oxm_number(register) for register in (*oxm.REGISTERS, oxm.CT_MARK)}
_FIELDS_BY_OXM = {number: field for field, number in _NUMBERS.items()}
_NAMED = {(one.register.name, one.start, one.end): one for one in (*registers.RANGES, *registers.CT_MARKS)}


def encode_instructions(actions: tuple[Action, ...], goto: int | None) -> bytes:
    """All instructions of a flow; no bytes for a flow that drops. Raises CodecError, MessageTooLong."""
    # Many flows have the same instructions, and share their bytes.
    return _few_actions(actions, goto) if len(actions) <= _FEW else _encode(actions, goto)


def _encode(actions: tuple[Action, ...], goto: int | None) -> bytes:
    goes = b"" if goto is None else _GOTO.pack(_GOTO_TABLE, 8, goto)
    if actions and isinstance(first := actions[0], Meter):
        return _METER_INSTRUCTION.pack(_METER, 8, first.number) + _encode(actions[1:], goto)
    if not actions:
        return goes
    body = encode_actions(actions)
    if len(body) + 8 > _MAX_LENGTH:
        raise MessageTooLong(f"{len(actions)} actions take {len(body)} bytes")
    return _INSTRUCTION.pack(_APPLY_ACTIONS, len(body) + 8) + body + goes


def encode_outputs(ports: Sequence[int]) -> bytes:
    """As `encode_instructions` for a flow that sends to these ports, and nothing else: floods go to very many ports."""
    numbers = struct.pack(f"!{len(ports)}H", *ports)  # an ofport has 16 bits
    size, place = _PLAIN_OUTPUT.size, _OUTPUT_PORT_END
    actions = bytearray(_OUTPUT_TO_0 * len(ports))
    actions[place - 2 :: size], actions[place - 1 :: size] = numbers[::2], numbers[1::2]
    return _apply(bytes(actions))


def encode_conjunctions(conjunctions: Iterable[Conjunction]) -> bytes:
    """As `encode_instructions` for a flow that does nothing else: such flows are very many, and their bytes differ."""
    return _apply(b"".join(map(_conjunction, conjunctions)))


def encode_conjunction(conj_id: int, clause: int, clauses: int) -> bytes:
    """As `encode_conjunctions` of one alone, by its fields: most of these flows have one."""
    return _ONLY_CONJUNCT.pack(
        _APPLY_ACTIONS, _ONLY_CONJUNCT.size, _EXPERIMENTER, 16, NICIRA, _CONJUNCTION, clause - 1, clauses, conj_id
    )


def _apply(actions: bytes) -> bytes:
    """The instruction that applies encoded actions. Raises MessageTooLong."""
    if len(actions) + 8 > _MAX_LENGTH:
        raise MessageTooLong(f"the actions of a flow take {len(actions)} bytes")
    return _INSTRUCTION.pack(_APPLY_ACTIONS, len(actions) + 8) + actions


def encode_actions(actions: tuple[Action, ...]) -> bytes:
    """Actions alone, as in a bucket of a group. Raises CodecError."""
    return b"".join([_ENCODERS[type(action)](action) for action in actions])


def may_use_group(instructions: bytes) -> bool:
    """Whether a flow's instructions may send to a group; other bytes that look like it count too."""
    return _GROUP_HEAD in instructions


_few_actions = lru_cache(maxsize=_CACHED)(_encode)


def _bits(place: Range) -> int:
    return place.start << 6 | place.width - 1


def _number(place: Range) -> int:
    number = _NUMBERS.get(place.register)
    if number is None:
        raise CodecError(f"no action copies {place.register.name}")
    return number


def _output(action: Output) -> bytes:
    most = registers.COPIED_BYTES if action.port == port_numbers.CONTROLLER_32 else 0
    return _PLAIN_OUTPUT.pack(_OUTPUT, 16, action.port, most)


_OUTPUT_TO_0 = _output(Output(0))
_HAND_OVER = _PLAIN_OUTPUT.pack(_OUTPUT, 16, port_numbers.CONTROLLER_32, _MAX_LENGTH)


def _hand_over(_: HandOver) -> bytes:
    return _HAND_OVER


def _note(action: Note) -> bytes:
    data = action.data
    if not data or not data[-1]:
        raise CodecError("a note must not be empty, nor end with a zero byte")
    data += bytes(-(_ACTION_HEAD.size + len(data)) % 8)
    if _ACTION_HEAD.size + len(data) > _MAX_LENGTH:
        raise MessageTooLong(f"a note of {len(data)} bytes")
    return _ACTION_HEAD.pack(_EXPERIMENTER, _ACTION_HEAD.size + len(data), NICIRA, _NOTE) + data


def _output_register(action: OutputRegister) -> bytes:
    source = action.source
    return _OUTPUT_REGISTER.pack(
        _EXPERIMENTER, 24, NICIRA, _OUTPUT_REG, _bits(source), oxm_number(source.register), _MAX_LENGTH
    )


def _load(action: Load) -> bytes:
    return _cached_load(action.place.register.name, action.place.start, action.place.end, action.value)


@lru_cache(maxsize=_CACHED)
def _cached_load(name: str, start: int, end: int, value: int) -> bytes:
    bits = end - start + 1
    if value < 0 or value >> bits:
        raise CodecError(f"{value} does not fit bits {start}..{end} of {name}")
    return _LOAD.pack(
        _EXPERIMENTER, 24, NICIRA, _REG_LOAD, start << 6 | bits - 1, oxm_number(oxm.FIELDS_BY_NAME[name]), value
    )


def _move(action: Move) -> bytes:
    source, target = action.source, action.target
    if source.width != target.width:
        raise CodecError(f"{source.width} bits cannot move to {target.width}")
    return _MOVE.pack(_EXPERIMENTER, 24, NICIRA, _REG_MOVE, source.width, source.start, target.start,
                      _number(source), _number(target))  # fmt: skip


# What a commit does to its connection beside recording it.
_RECORD = _load(Load(registers.RECORDED, 1))


def _ct(action: Ct) -> bytes:
    table = _NO_TABLE if action.table is None else action.table
    nested = b"" if action.nat is None else encode_nat(action.nat)
    if action.commit:
        nested += _RECORD + encode_actions(action.marks)
    elif action.marks or (action.nat is not None and action.nat.kind is not None):
        raise CodecError("marks and new translations need a commit")
    flags = (_CT_COMMIT if action.commit else 0) | (_CT_FORCE if action.force else 0)
    length = _TRACK.size + len(nested)
    return _TRACK.pack(_EXPERIMENTER, length, NICIRA, _CT, flags, 0, action.zone, table, 0) + nested


def _decode_ct(wire: bytes) -> Ct:
    *_, flags, _source, zone, table, _alg = _TRACK.unpack_from(wire)
    nested = wire[_TRACK.size :]
    nat = None
    if len(nested) >= _ACTION_HEAD.size and _ACTION_HEAD.unpack_from(nested)[3] == NXAST_NAT:
        length = struct.unpack_from("!HH", nested)[1]
        nat, nested = decode_nat(nested[:length]), nested[length:]
    marks: list[Load | Move] = []
    for mark in decode_actions(nested.removeprefix(_RECORD)):
        if not isinstance(mark, Load | Move):
            raise CodecError("a commit writes marks, and does nothing else")
        marks.append(mark)
    goes = None if table == _NO_TABLE else table
    return Ct(zone, goes, bool(flags & _CT_COMMIT), bool(flags & _CT_FORCE), nat, tuple(marks))


def _clone(action: Clone) -> bytes:
    body = _ct(action.action)
    return _ACTION_HEAD.pack(_EXPERIMENTER, 16 + len(body), NICIRA, _CLONE) + bytes(6) + body


def _decode_clone(wire: bytes) -> Clone:
    nested = decode_actions(wire[16:])
    if len(nested) != 1 or not isinstance(nested[0], Ct):
        raise CodecError("a copy of the packet is looked up in conntrack, and nothing else")
    return Clone(nested[0])


def _to_group(action: ToGroup) -> bytes:
    return _TO_GROUP.pack(_GROUP, _TO_GROUP.size, action.number)


def _meter(action: Meter) -> bytes:
    raise CodecError(f"meter {action.number} is not the first of its flow's actions")


def _check_length(action: CheckLength) -> bytes:
    place = action.place
    if place.width != 1:
        raise CodecError(f"check_pkt_larger writes one bit, not {place.width}")
    return _CHECK.pack(
        _EXPERIMENTER, _CHECK.size, NICIRA, _CHECK_LARGER, action.limit, place.start, oxm_number(place.register)
    )


def _dec_ttl(_: DecTtl) -> bytes:
    return _DEC_TTL


def _push(action: Push) -> bytes:
    return _stack(_STACK_PUSH, action.source)


def _pop(action: Pop) -> bytes:
    return _stack(_STACK_POP, action.target)


def _stack(subtype: int, place: Range) -> bytes:
    return _STACK.pack(_EXPERIMENTER, 24, NICIRA, subtype, place.start, _number(place), place.width)


def _resubmit(action: Resubmit) -> bytes:
    return _RESUBMIT.pack(_EXPERIMENTER, 16, NICIRA, _RESUBMIT_TABLE, _IN_PORT_16, action.table)


def _conjunction(action: Conjunction) -> bytes:
    conj_id, clause, clauses = action
    return _CONJUNCT.pack(_EXPERIMENTER, 16, NICIRA, _CONJUNCTION, clause - 1, clauses, conj_id)


def _learn(action: Learn) -> bytes:
    body = encode_learn(action)
    return _ACTION_HEAD.pack(_EXPERIMENTER, len(body) + 10, NICIRA, _LEARN2) + body


# By type and not in one cache by value: actions are tuples, and Output(5) equals Resubmit(5).
_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    Output: _output, HandOver: _hand_over, Note: _note,
    OutputRegister: _output_register, Load: _load, Move: _move, Ct: _ct, Clone: _clone, Meter: _meter,
    CheckLength: _check_length, Resubmit: _resubmit, Conjunction: _conjunction, Learn: _learn, Push: _push,
    Pop: _pop, Multipath: encode_multipath, ToGroup: _to_group, SetField: encode_set_field, DecTtl: _dec_ttl,
}  # fmt: skip


def decode_instructions(wire: bytes) -> tuple[tuple[Action, ...], int | None]:
    """Actions and goto of a flow's instructions. Raises CodecError for instructions that Headgate never writes."""
    actions: tuple[Action, ...] = ()
    goto: int | None = None
    offset = 0
    try:
        while offset < len(wire):
            kind, length = struct.unpack_from("!HH", wire, offset)
            if length < 8 or offset + length > len(wire):
                raise CodecError(f"an instruction of {length} bytes")
            if kind == _APPLY_ACTIONS:
                actions += decode_actions(wire[offset + 8 : offset + length])
            elif kind == _GOTO_TABLE:
                goto = wire[offset + 4]
            elif kind == _METER and not offset and length == _METER_INSTRUCTION.size:
                actions = (Meter(_METER_INSTRUCTION.unpack_from(wire)[2]),)
            else:
                raise CodecError(f"unknown instruction {kind}")
            offset += length
    except struct.error as error:
        raise CodecError(f"instructions end early: {error}") from None
    return actions, goto


def decode_actions(wire: bytes) -> tuple[Action, ...]:
    """The inverse of `encode_actions`. Raises CodecError for actions that Headgate never writes, struct.error."""
    actions: list[Action] = []
    offset = 0
    while offset < len(wire):
        kind, length = struct.unpack_from("!HH", wire, offset)
        if length < 8 or offset + length > len(wire):
            raise CodecError(f"an action of {length} bytes")
        one = wire[offset : offset + length]
        action = _decode_action(kind, one)
        if _ENCODERS[type(action)](action) != one:
            raise CodecError(f"an action that Headgate does not write: {one.hex()}")
        actions.append(action)
        offset += length
    return tuple(actions)


def _decode_action(kind: int, wire: bytes) -> Action:
    if wire == _HAND_OVER:
        return HandOver()
    if kind == _OUTPUT:
        return Output(_PLAIN_OUTPUT.unpack(wire)[2])
    if kind == _GROUP:
        return ToGroup(_TO_GROUP.unpack(wire)[2])
    if kind == SET_FIELD:
        return decode_set_field(wire)
    if wire == _DEC_TTL:
        return DecTtl()
    subtype = _ACTION_HEAD.unpack_from(wire)[3]
    if kind == _EXPERIMENTER:
        if subtype == _REG_LOAD:
            *_, bits, number, value = _LOAD.unpack(wire)
            return Load(_range(number, bits >> 6, (bits & 63) + 1), value)
        if subtype == _REG_MOVE:
            *_, width, start, target, from_number, to_number = _MOVE.unpack(wire)
            return Move(_range(from_number, start, width), _range(to_number, target, width))
        if subtype in (_STACK_PUSH, _STACK_POP):
            *_, start, number, width = _STACK.unpack(wire)
            place = _range(number, start, width)
            return Push(place) if subtype == _STACK_PUSH else Pop(place)
        if subtype == _OUTPUT_REG:
            *_, bits, number, _limit = _OUTPUT_REGISTER.unpack(wire)
            return OutputRegister(_range(number, bits >> 6, (bits & 63) + 1))
        if subtype == _RESUBMIT_TABLE:
            return Resubmit(_RESUBMIT.unpack(wire)[5])
        if subtype == _CONJUNCTION:
            *_, clause, clauses, conj_id = _CONJUNCT.unpack(wire)
            return Conjunction(conj_id, clause + 1, clauses)
        if subtype == _CT:
            return _decode_ct(wire)
        if subtype == _CLONE:
            return _decode_clone(wire)
        if subtype == _NOTE:
            return Note(wire[_ACTION_HEAD.size :].rstrip(b"\0"))
        if subtype == _CHECK_LARGER:
            *_, most, start, number = _CHECK.unpack(wire)
            return CheckLength(most, _range(number, start, 1))
        if subtype == NXAST_MULTIPATH:
            return decode_multipath(wire)
        if subtype == _LEARN2:
            return decode_learn(wire[_ACTION_HEAD.size :])
    raise CodecError(f"unknown action {kind}, subtype {subtype}")


def _range(number: int, start: int, width: int) -> Range:
    """The declared range of these bits, or one without meaning. `number` is the field's OXM header."""
    register = _FIELDS_BY_OXM.get(number)
    if register is None or start + width > register.width:
        raise CodecError(f"bits {start}..{start + width - 1} of field {number:#010x} are in no action of Headgate")
    named = _NAMED.get((register.name, start, start + width - 1))
    return named or Range(register, start, start + width - 1, "")
