"""Sets of protocols and ports that are reachable: their unions, what they have in common, and their text."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from flows.cluster.model import Protocol
from flows.policy.service_ranges import MAX_PORT, ServiceRange, ServiceRanges, normalize


class Ports(NamedTuple):
    """What may be opened: ranges of ports, and with `others` every protocol but TCP, UDP and SCTP (ICMP, for one)."""

    others: bool
    ranges: ServiceRanges

    def __str__(self) -> str:
        return ports_text(self)


NOTHING = Ports(False, ())
EVERY_PORT: ServiceRanges = tuple(ServiceRange(protocol, 0, MAX_PORT) for protocol in sorted(Protocol))
EVERYTHING = Ports(True, EVERY_PORT)
ALL_TEXT, NO_TEXT = "All Connections", "No Connections"
MAX_PROTOCOL = 255


def some_ports(ranges: Iterable[ServiceRange]) -> Ports:
    """These ports, and no protocol without ports."""
    return Ports(False, normalize(ranges))


@lru_cache(1 << 16)
def union(one: Ports, other: Ports) -> Ports:
    """What is in at least one of the two."""
    if one == EVERYTHING or other == EVERYTHING:
        return EVERYTHING
    return Ports(one.others or other.others, normalize((*one.ranges, *other.ranges)))


@lru_cache(1 << 16)
def common(one: Ports, other: Ports) -> Ports:
    """What is in both."""
    if one == EVERYTHING:
        return other
    if other == EVERYTHING:
        return one
    found = []
    for a in one.ranges:
        for b in other.ranges:
            low, high = max(a.low, b.low), min(a.high, b.high)
            if a.protocol == b.protocol and low <= high:
                found.append(ServiceRange(a.protocol, low, high))
    return Ports(one.others and other.others, tuple(sorted(found)))


@lru_cache(1 << 16)
def without(one: Ports, other: Ports) -> Ports:
    """What is in `one` and not in `other`."""
    left = list(one.ranges)
    for b in other.ranges:
        cut = []
        for a in left:
            if a.protocol != b.protocol or b.high < a.low or b.low > a.high:
                cut.append(a)
                continue
            if a.low < b.low:
                cut.append(a._replace(high=b.low - 1))
            if b.high < a.high:
                cut.append(a._replace(low=b.high + 1))
        left = cut
    return Ports(one.others and not other.others, tuple(left))


def contains(ports: Ports, protocol: int, port: int | None) -> bool:
    """Whether a connection of this IP protocol, with this destination port (None without ports), is in the set."""
    if port is None:
        return ports.others
    return any(one.protocol == protocol and one.low <= port <= one.high for one in ports.ranges)


def ports_text(ports: Ports, named: Iterable[tuple[Protocol, str]] = ()) -> str:
    """Like `TCP 80,8080-8090,UDP 53`, with the protocols in alphabetic order: the text that other analyzers print, too.

    `named` are ports that have no number but a name. Port 0 is never shown: nobody listens there.
    """
    return _text(ports, tuple(named))


@lru_cache(1 << 16)
def _text(ports: Ports, named: tuple[tuple[Protocol, str], ...]) -> str:
    if ports == EVERYTHING:
        return ALL_TEXT
    if ports == NOTHING and not named:
        return NO_TEXT
    parts = []
    for protocol in sorted(Protocol, key=lambda one: one.name):
        items = [_range_text(one) for one in ports.ranges if one.protocol == protocol]
        items += [name for of, name in named if of == protocol]
        if items:
            parts.append(f"{protocol.name} {','.join(items)}")
    return ",".join([*parts, *(["other protocols"] if ports.others else [])])


def _range_text(one: ServiceRange) -> str:
    low = max(one.low, 1)
    return f"{low}" if low >= one.high else f"{low}-{one.high}"
