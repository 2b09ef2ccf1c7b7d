"""Reads flow dumps: which flows of a switch are Headgate's, which of them differ from the expected ones, and which are
foreign.

Must not live here: the layout of one flow's match and instructions; see `codec`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from flows.pipeline.cookies import (
    COOKIE_KIND_SHIFT,
    COOKIE_MASK,
    COOKIE_PREFIX,
    COOKIE_PREFIX_SHIFT,
    CookieKind,
)
from flows.pipeline.priorities import MISS
from flows.pipeline.tables import LEARNED_TABLES, TABLE_NAMES, TABLES_WITHOUT_MISS
from flows.wire.errors import CodecError
from flows.wire.values import KEY_PREFIX, Body, FlowCounters, FlowKey, ForeignFlow, WireFlow, wire_flow

# ofp_multipart_reply's header of 16 bytes, then ofp_flow_stats (OpenFlow 1.4.1 section 7.3.5.2) up to its match's
# length: length, table, seconds, priority, cookie, packets, bytes, match length.
_BODY = 16
_FLOW = struct.Struct("!HBxI4xH10xQQQ2xH")
_MATCH_AT = 48
_OURS = COOKIE_PREFIX << COOKIE_PREFIX_SHIFT
_KIND_MASK = 0xFF << COOKIE_KIND_SHIFT
_LEARNED = CookieKind.LEARNED << COOKIE_KIND_SHIFT
COUNTING_KINDS = (CookieKind.RULE, CookieKind.DENY_EGRESS, CookieKind.DENY_INGRESS, CookieKind.SENT,
                  CookieKind.INVALID, CookieKind.BROKEN)  # fmt: skip
_COUNTING = frozenset({_OURS >> COOKIE_KIND_SHIFT | kind for kind in COUNTING_KINDS})
MAX_FOREIGN_KEPT = 100  # foreign flows of a switch that are kept; the others are only counted
# Bytes that an entry takes beyond its contents: the objects, and their place in a dictionary.
_FLOW_KEPT, _COUNTER_KEPT = 300, 240
_NOTHING: Mapping[FlowKey, Body] = MappingProxyType({})


def is_ours(cookie: int) -> bool:
    """Whether a flow with this cookie was made by Headgate, or by a learn action of Headgate."""
    return cookie & COOKIE_MASK == _OURS


def is_learned(table: int, cookie: int) -> bool:
    """Whether a learn action of Headgate made the flow. In other tables such a cookie means nothing."""
    return table in LEARNED_TABLES and cookie & (COOKIE_MASK | _KIND_MASK) == _OURS | _LEARNED


def affects_pipeline(table: int, priority: int) -> bool:
    """Whether packets in the pipeline can match a foreign flow of this table and priority. The flow that a bridge has
    without a controller (NORMAL at priority 0) is below the miss of its table: no packet reaches it."""
    return table in TABLE_NAMES and (priority >= MISS or table in TABLES_WITHOUT_MISS)


def decode_stats(message: bytes) -> Iterator[tuple[WireFlow, FlowCounters]]:
    """The flows of one OFPT_MULTIPART_REPLY message of type OFPMP_FLOW, header included.

    Raises CodecError where a length is wrong, after it yielded the flows before.
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
    """A flow dump that arrives in parts, compared with the flows that are expected.

    `flows` has Headgate's flows that differ from `expected` (learned ones left out), and after `end` the expected flows
    that are missing, with None. `foreign_count` is the number of foreign flows; `foreign_flows` has the first of those
    that packets can match. `counters` has those of all flows, or only of COUNTING_KINDS.
    """

    def __init__(self, expected: Mapping[FlowKey, Body] = _NOTHING, all_counters: bool = True) -> None:
        self.flows: dict[FlowKey, Body | None] = {}
        self.counters: dict[FlowKey, FlowCounters] = {}
        self.foreign_count = 0
        self.foreign_flows: list[ForeignFlow] = []
        self.flows_read = 0
        self.bytes_read = 0
        self.bytes_kept = 0  # about: flows that differ, and counters
        self._expected = expected
        self._unseen: dict[FlowKey, Body] | None = None
        self._all_counters = all_counters
        # Many flows have the same instructions, or the same counters: one copy of each is enough.
        self._same_bodies: dict[Body, Body] = {}
        self._same_counters: dict[tuple[int, int, int], FlowCounters] = {}

    def add(self, message: bytes) -> None:
        """Take in one reply message. Raises CodecError."""
        if self._unseen is None:
            self._unseen = dict(self._expected)
        pop, every, counting = self._unseen.pop, self._all_counters, _COUNTING
        place, unpack, size = KEY_PREFIX.pack, _FLOW.unpack_from, _FLOW.size
        offset, end = _BODY, len(message)
        counters, seen = len(self.counters), 0
        # The same as `_entries`, without a call and a tuple for each of very many flows.
        while offset < end:
            if offset + size > end:
                raise CodecError("a flow dump ends within a flow")
            length, table, seconds, priority, cookie, packets, octets, match_length = unpack(message, offset)
            start = offset + _MATCH_AT
            middle = start + (match_length + 7 & ~7)
            offset += length
            if match_length < 4 or middle > offset or offset > end:
                raise CodecError(f"a flow of {length} bytes with a match of {match_length} in a dump")
            key = place(table, priority) + message[start:middle]
            instructions = message[middle:offset]
            body = pop(key, None)
            seen += 1
            same = body is not None and body[0] == cookie and body[1] == instructions
            counts = packets, octets, seconds
            if (same or self._differs(key, body, Body(cookie, instructions), counts)) and (
                every or cookie >> COOKIE_KIND_SHIFT in counting
            ):
                self._count(key, counts)
        self.flows_read += seen
        self.bytes_read += end
        self.bytes_kept += (len(self.counters) - counters) * _COUNTER_KEPT

    def _still_unseen(self) -> dict[FlowKey, Body]:
        if self._unseen is None:
            self._unseen = dict(self._expected)
        return self._unseen

    def _differs(self, key: FlowKey, expected: Body | None, found: Body, seen: tuple[int, int, int]) -> bool:
        """Take in a flow that is not as expected. Returns whether it is one of Headgate's."""
        ours = is_ours(found.cookie)
        if ours and not is_learned(key[0], found.cookie):
            if key not in self.flows:
                self.bytes_kept += _FLOW_KEPT + len(key) + len(found.instructions)
            self.flows[key] = self._same_bodies.setdefault(found, found)
            return True
        if not ours:
            self._foreign(key, found, seen)
        if expected is not None:
            self._still_unseen()[key] = expected
        return False

    def _foreign(self, key: FlowKey, found: Body, seen: tuple[int, int, int]) -> None:
        self.foreign_count += 1
        if affects_pipeline(*KEY_PREFIX.unpack_from(key)) and len(self.foreign_flows) < MAX_FOREIGN_KEPT:
            self.foreign_flows.append(ForeignFlow(wire_flow(key, found), FlowCounters(*seen)))

    def _count(self, key: FlowKey, seen: tuple[int, int, int]) -> None:
        counters = self._same_counters.get(seen)
        if counters is None:
            counters = self._same_counters[seen] = FlowCounters(*seen)
        self.counters[key] = counters

    def end(self) -> None:
        """The dump is complete: add the expected flows that are missing."""
        self.flows.update(dict.fromkeys(self._still_unseen()))
