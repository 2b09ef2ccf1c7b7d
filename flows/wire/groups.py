"""Groups as bytes and back, and dumps of a switch's groups compared with those that are expected.

A group is kept as its id and a body that equals what OVS dumps, as flows are (see `codec`). Source: OpenFlow 1.4.1
sections 7.3.4.3 (group-mod) and 7.3.5.9 (OFPMP_GROUP_DESC). OpenFlow 1.4 has no choice of the selection method: OVS
hashes in the datapath (`dp_hash`) for groups of up to 64 buckets, and each new connection in ovs-vswitchd for larger
ones (ovs-ofctl(8), "Group Syntax").

Example: a group of one bucket `output:5` has the body

    01                                   select
    0020 0001 ffffffff ffffffff 00000000 length 32, weight 1, watches no port and no group
    0000 0010 00000005 0000 000000000000 output:5, length 16
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType

from flows.openflow.actions import Action, Ct, Load, Move, Nat, NatKind
from flows.openflow.group import Bucket, Group, NatTarget
from flows.pipeline.group_numbers import is_our_group
from flows.wire.actions import decode_actions, decode_instructions, encode_actions
from flows.wire.errors import CodecError, MessageTooLong
from flows.wire.values import GroupBody, WireGroup

SELECT = 1
_ANY = 0xFFFFFFFF
_BUCKET = struct.Struct("!HHII4x")  # length, weight, watched port, watched group
_DESCRIPTION = struct.Struct("!HBxI")  # length, type, group id
_REPLY_BODY = 16  # offset of the body in a multipart reply
MOST_BODY_BYTES = 0xFFFF - 32  # a group-mod within a bundle message must not exceed 64 KiB
_KEPT = 200  # bytes that an entry takes beyond its body
_NOTHING: Mapping[int, GroupBody] = MappingProxyType({})


def encode_group(group: Group) -> WireGroup:
    """The group as the switch will dump it. Raises CodecError; MessageTooLong where its buckets exceed 64 KiB."""
    body = b"".join((bytes((SELECT,)), *map(_encode_bucket, group.buckets)))
    if len(body) > MOST_BODY_BYTES:
        raise MessageTooLong(f"the {len(group.buckets)} buckets of group {group.number:#x} take {len(body)} bytes")
    return WireGroup(group.number, body)


def _encode_bucket(bucket: Bucket) -> bytes:
    """A bucket. Those that translate to an endpoint are very many and alike: a template has all but the endpoint."""
    action = bucket.actions[0] if len(bucket.actions) == 1 else None
    nat = action.nat if isinstance(action, Ct) else None
    if not isinstance(action, Ct) or nat is None or nat.address is None or nat.port is None:
        return _encode_any(bucket)
    zone, table, commit, force, marks = action.zone, action.table, action.commit, action.force, action.marks
    before, size, after = _translation(bucket.weight, zone, table, commit, force, marks, nat.kind, nat.version)
    try:
        return b"".join((before, nat.address.to_bytes(size, "big"), nat.port.to_bytes(2, "big"), after))
    except OverflowError:
        raise CodecError(f"no translation to IPv{nat.version} {nat.address:#x}, port {nat.port}") from None


def _encode_any(bucket: Bucket) -> bytes:
    if not 1 <= bucket.weight <= 0xFFFF:
        raise CodecError(f"a bucket has the weight {bucket.weight}")
    actions = encode_actions(bucket.actions)
    return _BUCKET.pack(_BUCKET.size + len(actions), bucket.weight, _ANY, _ANY) + actions


@lru_cache(maxsize=256)
def _translation(
    weight: int,
    zone: int,
    table: int | None,
    commit: bool,
    force: bool,
    marks: tuple[Load | Move, ...],
    kind: NatKind | None,
    version: int,
) -> tuple[bytes, int, bytes]:
    """The bytes of a bucket before and after the address and port that it translates to, and an address's size."""
    size = 4 if version == 4 else 16
    address, port = b"\xa5" * size, b"\x5a\xa5"  # occurs nowhere else
    nat = Nat(kind, version, int.from_bytes(address, "big"), int.from_bytes(port, "big"))
    whole = _encode_any(Bucket((Ct(zone, table, commit, force=force, nat=nat, marks=marks),), weight))
    before, found, after = whole.partition(address + port)
    if not found or address + port in after:
        raise CodecError("the template of a translation cannot be made")
    return before, size, after


def decode_group(wire: WireGroup) -> Group:
    """The inverse of `encode_group`. Raises CodecError for a group that Headgate never writes."""
    number, body = wire
    if body[:1] != bytes((SELECT,)):
        raise CodecError(f"group {number:#x} is no select group")
    buckets: list[Bucket] = []
    offset = 1
    try:
        while offset < len(body):
            length, weight, port, group = _BUCKET.unpack_from(body, offset)
            if length < _BUCKET.size or offset + length > len(body) or (port, group) != (_ANY, _ANY):
                raise CodecError(f"a bucket of {length} bytes in group {number:#x}")
            buckets.append(Bucket(decode_actions(body[offset + _BUCKET.size : offset + length]), weight))
            offset += length
    except struct.error as error:
        raise CodecError(f"group {number:#x} ends early: {error}") from None
    return Group(number, tuple(buckets))


def nat_targets(wire: WireGroup) -> set[NatTarget]:
    """The endpoints that a group's buckets translate to; none of a group that Headgate never writes."""
    try:
        group = decode_group(wire)
    except CodecError:
        return set()
    return _nat_targets(action for bucket in group.buckets for action in bucket.actions)


def nat_targets_of_flow(instructions: bytes) -> set[NatTarget]:
    """The endpoints that a flow translates to; none of one that Headgate never writes."""
    try:
        return _nat_targets(decode_instructions(instructions)[0])
    except CodecError:
        return set()


def _nat_targets(actions: Iterable[Action]) -> set[NatTarget]:
    found = ((action.zone, action.nat) for action in actions if isinstance(action, Ct) and action.nat is not None)
    return {
        NatTarget(zone, nat.version, nat.address, nat.port)
        for zone, nat in found
        if nat.kind is NatKind.DESTINATION and nat.port
    }


def read_descriptions(message: bytes) -> Iterator[WireGroup]:
    """The groups of one OFPMP_GROUP_DESC reply, header included. Raises CodecError for an invalid length."""
    offset, end = _REPLY_BODY, len(message)
    while offset < end:
        if offset + _DESCRIPTION.size > end:
            raise CodecError("a group dump ends within a group")
        length, kind, number = _DESCRIPTION.unpack_from(message, offset)
        if length < _DESCRIPTION.size or offset + length > end:
            raise CodecError(f"a group of {length} bytes in a dump")
        yield WireGroup(number, bytes((kind,)) + message[offset + _DESCRIPTION.size : offset + length])
        offset += length


class GroupDump:
    """A group dump that arrives in parts, compared with the groups that are expected.

    `groups` has Headgate's groups whose body differs from the `expected`, and after `end` the expected groups that are
    missing, with None. `foreign_count` is the number of other groups.
    """

    def __init__(self, expected: Mapping[int, GroupBody] = _NOTHING) -> None:
        self.groups: dict[int, GroupBody | None] = {}
        self.foreign_count = 0
        self.groups_read = 0
        self.bytes_read = 0
        self.bytes_kept = 0  # about
        self._unseen = dict(expected)

    def add(self, message: bytes) -> None:
        """Take in one reply message. Raises CodecError."""
        for number, body in read_descriptions(message):
            self.groups_read += 1
            if not is_our_group(number):
                self.foreign_count += 1
            elif self._unseen.pop(number, None) != body:
                self.groups[number] = body
                self.bytes_kept += _KEPT + len(body)
        self.bytes_read += len(message)

    def end(self) -> None:
        """The dump is complete: add the expected groups that are missing."""
        self.groups.update(dict.fromkeys(self._unseen))
