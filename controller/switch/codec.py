"""Our OpenFlow 1.4 codec for flows in bulk: flows to bytes and back, and the flows in a switch's dump.

os-ken would need seconds for what takes milliseconds here. Flows are compared as bytes, so `encode_flow` writes exactly
what OVS 3.1 dumps for the installed flow: the tests hold every field and action against a real switch. Messages to a
switch stand in `messages`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from controller.reconcile.events import FlowCounters, FlowKey, WireFlow
from controller.switch.actions import decode_instructions, encode_instructions
from controller.switch.errors import CodecError, MessageTooLong
from controller.switch.matches import decode_match, encode_match
from flows.fields import COOKIE_KIND_SHIFT, COOKIE_MASK, COOKIE_PREFIX, COOKIE_PREFIX_SHIFT, CookieKind
from flows.flow import Flow

__all__ = ["CodecError", "FlowDump", "MessageTooLong", "decode_flow", "decode_stats", "encode_flow"]

# ofp_multipart_reply's header of 16 bytes, then ofp_flow_stats (OpenFlow 1.4.1 section 7.3.5.2) up to its match's
# length: length, table, seconds, priority, cookie, packets, bytes, match length.
_BODY = 16
_FLOW = struct.Struct("!HBxI4xH10xQQQ2xH")
_MATCH_AT = 48
_OURS = COOKIE_PREFIX << COOKIE_PREFIX_SHIFT
_KIND_MASK = 0xFF << COOKIE_KIND_SHIFT
_LEARNED = CookieKind.LEARNED << COOKIE_KIND_SHIFT


def encode_flow(flow: Flow) -> WireFlow:
    """The flow as the switch will dump it. Raises CodecError, MessageTooLong when its actions exceed 64 KiB."""
    try:
        instructions = encode_instructions(flow.actions, flow.goto)
    except MessageTooLong as error:
        raise MessageTooLong(f"the flow of table {flow.table}, priority {flow.priority} is too long: {error}") from None
    except struct.error as error:
        raise CodecError(f"an action of table {flow.table} has a number that is too large: {error}") from None
    return WireFlow(flow.table, flow.priority, encode_match(flow.match), flow.cookie, instructions)


def decode_flow(wire: WireFlow) -> Flow:
    """The flow that these bytes say. Raises CodecError for what Headgate never sends."""
    actions, goto = decode_instructions(wire.instructions)
    return Flow(wire.table, wire.priority, decode_match(wire.match), actions, goto, wire.cookie)


def decode_stats(message: bytes) -> Iterator[tuple[WireFlow, FlowCounters]]:
    """The flows of one OFPT_MULTIPART_REPLY message of type OFPMP_FLOW, header included.

    Raises CodecError where a length does not hold; flows before it have come out by then.
    """
    for table, priority, match, cookie, instructions, counters in _entries(message):
        yield WireFlow(table, priority, match, cookie, instructions), FlowCounters(*counters)


def _entries(message: bytes) -> Iterator[tuple[int, int, bytes, int, bytes, tuple[int, int, int]]]:
    end = len(message)
    offset = _BODY
    unpack, size = _FLOW.unpack_from, _FLOW.size
    while offset < end:
        if offset + size > end:
            raise CodecError("a flow dump ends within a flow")
        length, table, seconds, priority, cookie, packets, octets, match_length = unpack(message, offset)
        start = offset + _MATCH_AT
        middle = start + (match_length + 7 & ~7)
        offset += length
        if match_length < 4 or middle > offset or offset > end:
            raise CodecError(f"a flow of {length} bytes with a match of {match_length} in a dump")
        yield table, priority, message[start:middle], cookie, message[middle:offset], (packets, octets, seconds)


class FlowDump:
    """A flow dump that arrives in parts: our own flows, learned ones left out, and the number of foreign ones."""

    def __init__(self) -> None:
        self.flows: dict[FlowKey, WireFlow] = {}
        self.counters: dict[FlowKey, FlowCounters] = {}
        self.foreign = 0
        # Many flows have the same instructions, and have seen as much; one copy of these is enough.
        self._same_instructions: dict[bytes, bytes] = {}
        self._same_counters: dict[tuple[int, int, int], FlowCounters] = {}

    def add(self, message: bytes) -> None:
        """Take in one reply message. Raises CodecError."""
        flows, counters = self.flows, self.counters
        same_instructions, same_counters = self._same_instructions, self._same_counters
        for table, priority, match, cookie, instructions, seen in _entries(message):
            if cookie & COOKIE_MASK != _OURS:
                self.foreign += 1
            elif cookie & _KIND_MASK != _LEARNED:
                key = (table, priority, match)
                instructions = same_instructions.setdefault(instructions, instructions)
                flows[key] = WireFlow(table, priority, match, cookie, instructions)
                known = same_counters.get(seen)
                if known is None:
                    known = same_counters[seen] = FlowCounters(*seen)
                counters[key] = known
