"""OpenFlow 1.4 messages about groups: the request for a dump, and the group-mods of a bundle.

Bytes only; which groups are desired must not live here: see `controller.reconcile.group_state`. Source: OpenFlow 1.4.1
sections 7.3.4.3 (group-mod), 7.3.5.9 (group descriptions), 7.3.9 (bundles).
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from itertools import chain, repeat
from typing import NamedTuple

from flows.wire.errors import CodecError
from flows.wire.groups import SELECT, decode_group
from flows.wire.text import format_group
from flows.wire.values import GroupChanges, WireGroup

GROUP_DESCRIPTIONS = 7  # the kind of a multipart message
_VERSION, _BUNDLE_ADD, _GROUP_MOD, _MULTIPART_REQUEST = 5, 34, 15, 18
_ATOMIC_ORDERED = 3
_ASK = struct.Struct("!BBHIHH4x")
# OFPT_BUNDLE_ADD_MESSAGE (header, bundle id, flags), and in it an OFPT_GROUP_MOD up to its buckets: header, command,
# type, group id.
_CHANGE = struct.Struct("!BBHII2xHBBHIHBxI")
_OUTER = 16
_CHUNK_BYTES = 1 << 16
_LONGEST_TEXT = 400


class GroupModCommand(enum.IntEnum):
    """Commands of a group-mod (OpenFlow 1.4.1 section 7.3.4.3)."""

    ADD = 0
    MODIFY = 1
    DELETE = 2


class GroupMod(NamedTuple):
    """One group-mod, before it is encoded. A delete has no body."""

    command: GroupModCommand
    group: WireGroup


def groups_request(xid: int) -> bytes:
    """A request for the descriptions of all groups."""
    return _ASK.pack(_VERSION, _MULTIPART_REQUEST, _ASK.size, xid, GROUP_DESCRIPTIONS, 0)


def count_before(changes: GroupChanges) -> int:
    """The number of group-mods that come before the flow-mods of a bundle: adds and modifies."""
    return len(changes.adds) + len(changes.modifies)


def group_mods_before(changes: GroupChanges, bundle_id: int, first_xid: int) -> Iterator[bytes]:
    """The adds and modifies of a bundle, in chunks, made lazily; `count_before` xids from `first_xid` on."""
    adds = map(GroupMod, repeat(GroupModCommand.ADD), changes.adds)
    return _chunks(chain(adds, map(GroupMod, repeat(GroupModCommand.MODIFY), changes.modifies)), bundle_id, first_xid)


def group_mods_after(changes: GroupChanges, bundle_id: int, first_xid: int) -> Iterator[bytes]:
    """The deletes of a bundle, which must follow its flow-mods: a switch deletes the flows that use a group with it."""
    return _chunks(map(_delete, changes.deletes), bundle_id, first_xid)


def _delete(number: int) -> GroupMod:
    return GroupMod(GroupModCommand.DELETE, WireGroup(number, b""))


def _chunks(changes: Iterator[GroupMod], bundle_id: int, first_xid: int) -> Iterator[bytes]:
    parts: list[bytes] = []
    size = 0
    for xid, (command, (number, body)) in enumerate(changes, first_xid):
        kind, buckets = body[0] if body else SELECT, body[1:]
        length = _CHANGE.size + len(buckets)
        head = _CHANGE.pack(_VERSION, _BUNDLE_ADD, length, xid, bundle_id, _ATOMIC_ORDERED,
                            _VERSION, _GROUP_MOD, length - _OUTER, xid, command, kind, number)  # fmt: skip
        parts.append(head + buckets)
        size += length
        if size >= _CHUNK_BYTES:
            yield b"".join(parts)
            parts.clear()
            size = 0
    if parts:
        yield b"".join(parts)


def group_mod_before(changes: GroupChanges, index: int) -> GroupMod | None:
    """The group-mod number `index` of `group_mods_before`; None for a number that none has."""
    adds = len(changes.adds)
    if 0 <= index < adds:
        return GroupMod(GroupModCommand.ADD, changes.adds[index])
    if adds <= index < count_before(changes):
        return GroupMod(GroupModCommand.MODIFY, changes.modifies[index - adds])
    return None


def group_mod_after(changes: GroupChanges, index: int) -> GroupMod | None:
    """The same of `group_mods_after`."""
    return _delete(changes.deletes[index]) if 0 <= index < len(changes.deletes) else None


def describe_group_mod(change: GroupMod) -> str:
    """A group-mod in words, shortened to _LONGEST_TEXT characters of the group."""
    command, group = change
    text = f"group_id={group.number}"
    if command is not GroupModCommand.DELETE:
        try:
            text = format_group(decode_group(group))
        except CodecError:
            text += f", {len(group.body)} bytes"
    if len(text) > _LONGEST_TEXT:
        text = text[:_LONGEST_TEXT] + "…"
    return f"{command.name.lower()} the group {text}"
