"""OpenFlow 1.4 messages as bytes: hello, echo, flow dump, flow monitor, bundles of flow-mods; errors in words.

When to send them, and what follows from an answer, must not live here: see `switch_requests`. Source: OpenFlow 1.4.1
sections 7.3.4 (flow-mod), 7.3.5 (multipart), 7.3.9 (bundles), 7.4.4 (errors).
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from itertools import chain, repeat
from typing import NamedTuple

from os_ken.ofproto import ofproto_v1_4

from flows.pipeline.cookies import COOKIE_MASK
from flows.wire.codec import decode_flow
from flows.wire.errors import CodecError, MessageTooLong
from flows.wire.text import format_flow
from flows.wire.values import FlowChanges, WireFlow

OPENFLOW_VERSION = 5
OPENFLOW_HEADER = struct.Struct("!BBHI")  # version, type, length, xid
MAX_MESSAGE_BYTES = 0xFFFF
FLOW_MOD_CHUNK_BYTES = 1 << 16  # of flow-mods that are made at a time

_ANY_TABLE, _ANY = 0xFF, 0xFFFFFFFF
_FLOW_REQUEST = struct.Struct("!BBHIHH4xB3xII4xQQHH4x")
# Header, kind, flags; monitor id, out port and group, flags, table, command (0 adds a monitor); an empty match.
_MONITOR_REQUEST = struct.Struct("!BBHIHH4xIIIHBBHH4x")
_MONITOR_ID = 1
_MONITOR_DELETE = 2  # the command that removes a monitor
_MONITOR_ADD, _MONITOR_REMOVED, _MONITOR_MODIFY = 2, 4, 8
_CONTROL = struct.Struct("!BBHIIHH")
# OFPT_BUNDLE_ADD_MESSAGE (header, bundle id, flags) and in it an OFPT_FLOW_MOD up to its match: header, cookie and
# mask, table, command, idle and hard timeout, priority, buffer, out port, out group, flags, importance.
_FLOW_MOD = struct.Struct("!BBHII2xHBBHIQQBBHHHIIIHH")
_OUTER = 16
_ERROR = struct.Struct("!HH")
_HELLO_ELEMENT = struct.Struct("!HH")  # type, length without padding
_VERSION_BITMAP = 1
_EXPERIMENTER_ERROR, _NICIRA = 0xFFFF, 0x2320
# Errors that OVS defines, for OpenFlow 1.2 and newer (OVS, ofp-errors).
_NICIRA_ERRORS = {
    2: "NXBRC_NXM_INVALID", 3: "NXBRC_NXM_BAD_TYPE", 4: "NXBRC_MUST_BE_ZERO", 11: "NXBAC_MUST_BE_ZERO",
    12: "NXFMFC_HARDWARE", 13: "NXFMFC_BAD_TABLE_ID", 15: "NXBAC_BAD_CONJUNCTION",
    42: "NXBAC_CT_DATAPATH_SUPPORT (the datapath does not support this use of connection tracking)",
    43: "NXBMC_CT_DATAPATH_SUPPORT (the datapath does not support this use of connection tracking)",
}  # fmt: skip


class MessageType(enum.IntEnum):
    """Message types (OpenFlow 1.4.1 section 7.1) that Headgate uses."""

    HELLO = 0
    ERROR = 1
    ECHO_REQUEST = 2
    ECHO_REPLY = 3
    FEATURES_REPLY = 6
    PACKET_IN = 10
    FLOW_MOD = 14
    MULTIPART_REQUEST = 18
    MULTIPART_REPLY = 19
    ROLE_REQUEST = 24
    ROLE_REPLY = 25
    ROLE_STATUS = 30
    BUNDLE_CONTROL = 33
    BUNDLE_ADD_MESSAGE = 34


_ADD, _MOD = int(MessageType.BUNDLE_ADD_MESSAGE), int(MessageType.FLOW_MOD)


class MultipartKind(enum.IntEnum):
    """Types of multipart replies that Headgate uses."""

    FLOW = 1
    PORT_DESC = 13
    FLOW_MONITOR = 16


class BundleControl(enum.IntEnum):
    """Types of bundle control messages (OpenFlow 1.4.1 section 7.3.9.1)."""

    OPEN_REQUEST = 0
    OPEN_REPLY = 1
    CLOSE_REQUEST = 2
    CLOSE_REPLY = 3
    COMMIT_REQUEST = 4
    COMMIT_REPLY = 5
    DISCARD_REQUEST = 6
    DISCARD_REPLY = 7


class FlowModCommand(enum.IntEnum):
    """Commands of a flow-mod (OpenFlow 1.4.1 section 7.3.4.2)."""

    ADD = 0
    MODIFY_STRICT = 2
    DELETE_STRICT = 4


ATOMIC_ORDERED = 3
MULTIPART_MORE = 1


def clean_hello(message: bytes) -> bytes:
    """A hello with nothing but its version bitmaps, without padding. Raises CodecError for an invalid length.

    os-ken reads padding as an element, and loops for ever at an element of length zero.
    """
    version, kind, _, xid = OPENFLOW_HEADER.unpack_from(message)
    kept = b""
    offset = OPENFLOW_HEADER.size
    while offset < len(message):
        if len(message) - offset < _HELLO_ELEMENT.size:
            raise CodecError("a hello is truncated within an element")
        element, length = _HELLO_ELEMENT.unpack_from(message, offset)
        if length < _HELLO_ELEMENT.size or offset + length > len(message):
            raise CodecError(f"a hello has an element of {length} bytes")
        if element == _VERSION_BITMAP and length % 4 == 0:
            kept += message[offset : offset + length]
        offset += length + (-length & 7)
    return OPENFLOW_HEADER.pack(version, kind, OPENFLOW_HEADER.size + len(kept), xid) + kept


def echo_request_message(xid: int) -> bytes:
    """An echo request without data."""
    return OPENFLOW_HEADER.pack(OPENFLOW_VERSION, MessageType.ECHO_REQUEST, OPENFLOW_HEADER.size, xid)


def echo_reply_message(request: bytes) -> bytes:
    """The reply to an echo request, with its xid and data."""
    xid = OPENFLOW_HEADER.unpack_from(request)[3]
    return (
        OPENFLOW_HEADER.pack(OPENFLOW_VERSION, MessageType.ECHO_REPLY, len(request), xid)
        + request[OPENFLOW_HEADER.size :]
    )


def flow_stats_request(xid: int) -> bytes:
    """A request for all flows of all tables."""
    return _FLOW_REQUEST.pack(
        OPENFLOW_VERSION,
        MessageType.MULTIPART_REQUEST,
        _FLOW_REQUEST.size,
        xid,
        MultipartKind.FLOW,
        0,
        _ANY_TABLE,
        _ANY,
        _ANY,
        0,
        0,
        1,
        4,
    )


def flow_monitor_request(xid: int) -> bytes:
    """A request to report every flow that is added, removed or modified from now on (OpenFlow 1.4.1 section 7.3.5.17).

    For changes of this session the switch reports only the xid (OFPFME_ABBREV).
    """
    flags = _MONITOR_ADD | _MONITOR_REMOVED | _MONITOR_MODIFY
    return _MONITOR_REQUEST.pack(
        OPENFLOW_VERSION, MessageType.MULTIPART_REQUEST, _MONITOR_REQUEST.size, xid, MultipartKind.FLOW_MONITOR, 0,
        _MONITOR_ID, _ANY, _ANY, flags, _ANY_TABLE, 0, 1, 4,
    )  # fmt: skip


def end_flow_monitor_request(xid: int) -> bytes:
    """A request to report changes of flows no more."""
    return _MONITOR_REQUEST.pack(
        OPENFLOW_VERSION, MessageType.MULTIPART_REQUEST, _MONITOR_REQUEST.size, xid, MultipartKind.FLOW_MONITOR, 0,
        _MONITOR_ID, _ANY, _ANY, 0, _ANY_TABLE, _MONITOR_DELETE, 1, 4,
    )  # fmt: skip


def bundle_control(kind: BundleControl, bundle_id: int, xid: int) -> bytes:
    """A request to open, close, commit or discard an atomic, ordered bundle."""
    return _CONTROL.pack(
        OPENFLOW_VERSION, MessageType.BUNDLE_CONTROL, _CONTROL.size, xid, bundle_id, kind, ATOMIC_ORDERED
    )


class FlowMod(NamedTuple):
    """One flow-mod, before it is encoded."""

    command: FlowModCommand
    flow: WireFlow


def flow_mods_in_order(changes: FlowChanges) -> Iterator[FlowMod]:
    """The changes in the order of their flow-mods: deletes, modifies, adds.

    MODIFY_STRICT keeps a flow's counters and its cookie. So a flow whose cookie changes is in `deletes` with the old
    cookie and in `adds` with the new one. Deletes come first, and no packet sees the gap because a bundle is atomic.
    """
    return chain(
        map(FlowMod, repeat(FlowModCommand.DELETE_STRICT), changes.deletes),
        map(FlowMod, repeat(FlowModCommand.MODIFY_STRICT), changes.modifies),
        map(FlowMod, repeat(FlowModCommand.ADD), changes.adds),
    )


def flow_mod_at(changes: FlowChanges, index: int) -> FlowMod | None:
    """The flow-mod number `index` of `flow_mods_in_order`, or None beyond the last."""
    for command, some in (
        (FlowModCommand.DELETE_STRICT, changes.deletes),
        (FlowModCommand.MODIFY_STRICT, changes.modifies),
        (FlowModCommand.ADD, changes.adds),
    ):
        if index < len(some):
            return FlowMod(command, some[index])
        index -= len(some)
    return None


def flow_mod_chunks(
    changes: FlowChanges, bundle_id: int, first_xid: int = 0, chunk: int = FLOW_MOD_CHUNK_BYTES
) -> Iterator[bytes]:
    """The flow-mods of a bundle, in chunks of about `chunk` bytes, made lazily.

    The flow-mod number n of `flow_mods_in_order` has the xid `first_xid` + n, so that an error leads back to its flow.
    Deletes and modifies match Headgate's cookie prefix, so they never change a foreign flow. Raises MessageTooLong.
    """
    parts: list[bytes] = []
    size = 0
    pack, fixed = _FLOW_MOD.pack, _FLOW_MOD.size
    for xid, (command, flow) in enumerate(flow_mods_in_order(changes), first_xid):
        table, priority, match, cookie, instructions = flow
        mask = 0
        if command is not FlowModCommand.ADD:
            cookie, mask = cookie & COOKIE_MASK, COOKIE_MASK
            if command is FlowModCommand.DELETE_STRICT:
                instructions = b""
        length = fixed + len(match) + len(instructions)
        if length > MAX_MESSAGE_BYTES:
            raise MessageTooLong(
                f"a message of {length} bytes, longer than allowed, to {describe_flow_mod(FlowMod(command, flow))}"
            )
        head = pack(OPENFLOW_VERSION, _ADD, length, xid, bundle_id, ATOMIC_ORDERED,
                    OPENFLOW_VERSION, _MOD, length - _OUTER, xid,
                    cookie, mask, table, command, 0, 0, priority, _ANY, _ANY, _ANY, 0, 0)  # fmt: skip
        parts.append(head + match + instructions)
        size += length
        if size >= chunk:
            yield b"".join(parts)
            parts.clear()
            size = 0
    if parts:
        yield b"".join(parts)


_VERBS = {FlowModCommand.ADD: "add", FlowModCommand.MODIFY_STRICT: "modify", FlowModCommand.DELETE_STRICT: "delete"}
_LONGEST_TEXT = 400


def describe_flow_mod(change: FlowMod) -> str:
    """A flow-mod in words, shortened to _LONGEST_TEXT characters of the flow."""
    flow = change.flow
    try:
        text = format_flow(decode_flow(flow))
    except CodecError:
        text = f"table={flow.table}, priority={flow.priority}, match {flow.match[:64].hex()}"
    if len(text) > _LONGEST_TEXT:
        text = text[:_LONGEST_TEXT] + "…"
    return f"{_VERBS[change.command]} {text}"


def error_text(message: bytes) -> str:
    """The name of an OFPT_ERROR message's type and code. `message` has its header."""
    if len(message) < OPENFLOW_HEADER.size + _ERROR.size:
        return "a truncated error message"
    kind, code = _ERROR.unpack_from(message, OPENFLOW_HEADER.size)
    if kind == _EXPERIMENTER_ERROR:
        experimenter = int.from_bytes(message[12:16], "big")
        if experimenter == _NICIRA and code in _NICIRA_ERRORS:
            return _NICIRA_ERRORS[code]
        return f"error {code} of experimenter {experimenter:#x}"
    name: str = ofproto_v1_4.ofp_error_type_to_str(kind)
    if name.startswith("Unknown"):
        return f"error of type {kind}, code {code}"
    detail: str = ofproto_v1_4.ofp_error_code_to_str(kind, code)
    return f"{name} {detail}"
