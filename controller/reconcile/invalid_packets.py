"""Which ports of one switch send mostly packets that conntrack calls invalid, from the counters of its dumps.

A few invalid packets mean nothing: any pod sends late segments of connections that have ended. So packets are counted
over a window, which ends when enough were sent to tell good from bad. `controller.status.invalid_packets` puts it
into words.

Example. A port sent 4 packets in one minute, all invalid: too few to say. In the next it sent 8 more, 7 of them
invalid: 11 of 12, which is many (MANY_INVALID) and most. That stays until a later window has enough valid
packets (MANY_VALID), or is too old (WINDOW_SECONDS).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from flows.pipeline.cookies import (
    COOKIE_KIND_SHIFT,
    COOKIE_NUMBER_MASK,
    COOKIE_PREFIX,
    COOKIE_PREFIX_SHIFT,
    CookieKind,
)
from flows.pipeline.tables import CLASSIFY, INVALID
from flows.wire.values import Body, FlowCounters, FlowKey

# So many packets and at least half of all that the port sent. A client without answers sends a SYN six times in 31 s, a
# resolver far more; of broken packets a sound stack sends none.
MANY_BROKEN, MANY_INVALID = 5, 10
MANY_VALID = 5  # and more than the invalid ones: all is well again
# A window in which too few were sent ends after this time, and with it what the window before said.
WINDOW_SECONDS = 300.0
# What a flow counted before it was seen first belongs to the window only where the flow is not older than this.
FRESH_SECONDS = 90
_COUNTED_TABLES = frozenset({CLASSIFY.number, INVALID.number})  # a key begins with its table
_KIND = COOKIE_PREFIX << COOKIE_PREFIX_SHIFT - COOKIE_KIND_SHIFT
_COUNTED_KINDS = {_KIND | kind: kind for kind in (CookieKind.SENT, CookieKind.INVALID, CookieKind.BROKEN)}


class InvalidReason(StrEnum):
    """Why packets are invalid. The values are those of the metric's label."""

    CONNECTION = "connection"  # at odds with what conntrack knows of their connection, or with TCP's rules
    BROKEN = "broken"  # by themselves: a wrong checksum as a rule


class SentPackets(NamedTuple):
    """Packets of one port: all that were admitted, and of them the invalid ones by kind."""

    all: int = 0
    connection: int = 0
    broken: int = 0

    @property
    def invalid(self) -> int:
        """Of both kinds."""
        return self.connection + self.broken

    def plus(self, other: SentPackets) -> SentPackets:
        """Both together."""
        return SentPackets(self.all + other.all, self.connection + other.connection, self.broken + other.broken)


NO_PACKETS = SentPackets()


class InvalidTraffic(NamedTuple):
    """Most of what a port sent in a window was invalid: why, and the packets."""

    reason: InvalidReason
    sent: SentPackets


@dataclass(slots=True)
class _Port:
    """`admission` are the keys of the flows that admit packets of the port's pod; with others it has another pod."""

    admission: frozenset[FlowKey]
    since: float
    window: SentPackets = NO_PACKETS
    total: SentPackets = NO_PACKETS
    invalid: InvalidTraffic | None = None


@dataclass(slots=True)
class InvalidLedger:
    """What pods sent, by ofport. Ports without flows are forgotten."""

    _ports: dict[int, _Port] = field(default_factory=dict)
    _last: dict[FlowKey, FlowCounters] = field(default_factory=dict)
    _came: set[int] = field(default_factory=set)
    _went: set[int] = field(default_factory=set)

    def traffic(self, ofport: int) -> InvalidTraffic | None:
        """What a port sends that is mostly invalid; None when it sends what it should, or too little to say."""
        port = self._ports.get(ofport)
        return port.invalid if port is not None else None

    def total(self, ofport: int) -> SentPackets:
        """All packets that the port's flows have counted."""
        port = self._ports.get(ofport)
        return port.total if port is not None else NO_PACKETS

    def take_changes(self) -> tuple[list[int], list[int]]:
        """The ports that began to send mostly invalid packets since the last call, and those that stopped."""
        came, went = sorted(self._came), sorted(self._went)
        self._came, self._went = set(), set()
        return came, went

    def dumped(self, counters: Mapping[FlowKey, FlowCounters], desired: Mapping[FlowKey, Body], now: float) -> None:
        """The counters of a dump. Only those of desired flows are used: other flows may have any cookie."""
        last, self._last = self._last, {}
        admission: dict[int, set[FlowKey]] = {}
        came: dict[int, SentPackets] = {}
        total: dict[int, SentPackets] = {}
        for key, seen in counters.items():
            if key[0] not in _COUNTED_TABLES:
                continue
            body = desired.get(key)
            kind = _COUNTED_KINDS.get(body.cookie >> COOKIE_KIND_SHIFT) if body is not None else None
            if body is None or kind is None:
                continue
            ofport = body.cookie & COOKIE_NUMBER_MASK
            if kind is CookieKind.SENT:
                admission.setdefault(ofport, set()).add(key)
            self._last[key] = seen
            came[ofport] = came.get(ofport, NO_PACKETS).plus(_as_sent(kind, _growth(last.get(key), seen)))
            total[ofport] = total.get(ofport, NO_PACKETS).plus(_as_sent(kind, seen.packets))
        for ofport in self._ports.keys() - total.keys():
            self._drop(ofport)
        for ofport, more in came.items():
            self._add(ofport, frozenset(admission.get(ofport, ())), more, now).total = total[ofport]

    def _add(self, ofport: int, admission: frozenset[FlowKey], more: SentPackets, now: float) -> _Port:
        port = self._ports.get(ofport)
        if port is not None and port.admission != admission:
            self._drop(ofport)
            port, more = None, NO_PACKETS  # some of it may be the packets of the pod before
        if port is None:
            port = self._ports[ofport] = _Port(admission, now)
        port.window = window = port.window.plus(more)
        many = window.broken >= MANY_BROKEN or window.invalid >= MANY_INVALID
        valid = max(0, window.all - window.invalid)
        if many and window.invalid >= valid:
            reason = InvalidReason.BROKEN if window.broken >= MANY_BROKEN else InvalidReason.CONNECTION
            self._end_window(ofport, port, InvalidTraffic(reason, window), now)
        elif (valid >= MANY_VALID and valid > window.invalid) or now - port.since >= WINDOW_SECONDS:
            self._end_window(ofport, port, None, now)
        return port

    def _end_window(self, ofport: int, port: _Port, invalid: InvalidTraffic | None, now: float) -> None:
        """A window ends, with mostly invalid packets or not, and the next begins."""
        self._note_change(ofport, port.invalid is not None, invalid is not None)
        port.invalid, port.window, port.since = invalid, NO_PACKETS, now

    def _drop(self, ofport: int) -> None:
        port = self._ports.pop(ofport, None)
        if port is not None:
            self._note_change(ofport, port.invalid is not None, False)

    def _note_change(self, ofport: int, before: bool, after: bool) -> None:
        if before == after:
            return
        into, back = (self._came, self._went) if after else (self._went, self._came)
        if ofport in back:
            back.discard(ofport)
        else:
            into.add(ofport)


def _as_sent(kind: CookieKind, packets: int) -> SentPackets:
    if kind is CookieKind.SENT:
        return SentPackets(packets)
    return SentPackets(0, packets) if kind is CookieKind.INVALID else SentPackets(0, 0, packets)


def _growth(last: FlowCounters | None, now: FlowCounters) -> int:
    """What a flow has counted since it was seen last. One that is younger or counts less was made again since."""
    if last is None:
        return now.packets if now.duration <= FRESH_SECONDS else 0
    if now.duration < last.duration or now.packets < last.packets:
        return now.packets
    return now.packets - last.packets
