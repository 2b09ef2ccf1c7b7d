"""Which ports of one switch send mostly what conntrack calls invalid, told from what its dumps count.

A few odd packets are no sign: late segments of connections that have ended come from any pod. What a port sends is
weighed over a window that ends with a verdict. No input or output here.
See `controller.status.invalid_packets` for the words.
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
# A window without a verdict ends after this time, and what was told of the port with it.
WINDOW_SECONDS = 300.0
# What a flow has counted before it was seen first is only of now where the flow is not older than this.
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


class InvalidFinding(NamedTuple):
    """What a window said of a port: most of what it sent was invalid, and why."""

    reason: InvalidReason
    sent: SentPackets


@dataclass(slots=True)
class _Port:
    """`who` are the flows that admit what the port sends; with others it is another pod's."""

    who: frozenset[FlowKey]
    since: float
    window: SentPackets = NO_PACKETS
    total: SentPackets = NO_PACKETS
    told: InvalidFinding | None = None


@dataclass(slots=True)
class InvalidLedger:
    """By ofport what its pod sent. Costs what the ports of one bridge do, and forgets those that are gone."""

    _ports: dict[int, _Port] = field(default_factory=dict)
    _last: dict[FlowKey, FlowCounters] = field(default_factory=dict)
    _came: set[int] = field(default_factory=set)
    _went: set[int] = field(default_factory=set)

    def finding(self, ofport: int) -> InvalidFinding | None:
        """What is to be said of a port now, if anything."""
        port = self._ports.get(ofport)
        return port.told if port is not None else None

    def total(self, ofport: int) -> SentPackets:
        """What the port's flows have counted in all."""
        port = self._ports.get(ofport)
        return port.total if port is not None else NO_PACKETS

    def take_news(self) -> tuple[list[int], list[int]]:
        """The ports that have begun to send mostly invalid packets since the last call, and those that have ceased."""
        came, went = sorted(self._came), sorted(self._went)
        self._came, self._went = set(), set()
        return came, went

    def dumped(self, counters: Mapping[FlowKey, FlowCounters], desired: Mapping[FlowKey, Body], now: float) -> None:
        """The switch has said what its flows counted. Only those that are desired count: what else there is may be any
        number."""
        last, self._last = self._last, {}
        who: dict[int, set[FlowKey]] = {}
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
                who.setdefault(ofport, set()).add(key)
            self._last[key] = seen
            came[ofport] = came.get(ofport, NO_PACKETS).plus(_sent(kind, _more(last.get(key), seen)))
            total[ofport] = total.get(ofport, NO_PACKETS).plus(_sent(kind, seen.packets))
        for ofport in self._ports.keys() - total.keys():
            self._drop(ofport)
        for ofport, more in came.items():
            self._weigh(ofport, frozenset(who.get(ofport, ())), more, now).total = total[ofport]

    def _weigh(self, ofport: int, who: frozenset[FlowKey], more: SentPackets, now: float) -> _Port:
        port = self._ports.get(ofport)
        if port is not None and port.who != who:
            self._drop(ofport)
            port, more = None, NO_PACKETS  # what the pod before it sent may be among it
        if port is None:
            port = self._ports[ofport] = _Port(who, now)
        port.window = window = port.window.plus(more)
        many = window.broken >= MANY_BROKEN or window.invalid >= MANY_INVALID
        valid = max(0, window.all - window.invalid)
        if many and window.invalid >= valid:
            reason = InvalidReason.BROKEN if window.broken >= MANY_BROKEN else InvalidReason.CONNECTION
            self._say(ofport, port, InvalidFinding(reason, window), now)
        elif (valid >= MANY_VALID and valid > window.invalid) or now - port.since >= WINDOW_SECONDS:
            self._say(ofport, port, None, now)
        return port

    def _say(self, ofport: int, port: _Port, told: InvalidFinding | None, now: float) -> None:
        """A window ends so, and the next one begins."""
        self._note(ofport, port.told is not None, told is not None)
        port.told, port.window, port.since = told, NO_PACKETS, now

    def _drop(self, ofport: int) -> None:
        port = self._ports.pop(ofport, None)
        if port is not None:
            self._note(ofport, port.told is not None, False)

    def _note(self, ofport: int, before: bool, after: bool) -> None:
        if before == after:
            return
        into, back = (self._came, self._went) if after else (self._went, self._came)
        if ofport in back:
            back.discard(ofport)
        else:
            into.add(ofport)


def _sent(kind: CookieKind, packets: int) -> SentPackets:
    if kind is CookieKind.SENT:
        return SentPackets(packets)
    return SentPackets(0, packets) if kind is CookieKind.INVALID else SentPackets(0, 0, packets)


def _more(last: FlowCounters | None, now: FlowCounters) -> int:
    """What a flow has counted since it was seen last; one that is younger, or counts less, has begun anew."""
    if last is None:
        return now.packets if now.duration <= FRESH_SECONDS else 0
    if now.duration < last.duration or now.packets < last.packets:
        return now.packets
    return now.packets - last.packets
