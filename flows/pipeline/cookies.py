"""Cookies of our flows: a prefix that says a flow is ours, a kind, and a number."""

from __future__ import annotations

import enum

COOKIE_PREFIX = 0x4847
COOKIE_PREFIX_SHIFT = 48
COOKIE_KIND_SHIFT = 40
COOKIE_MASK = 0xFFFF << COOKIE_PREFIX_SHIFT
COOKIE_NUMBER_MASK = (1 << COOKIE_KIND_SHIFT) - 1


class CookieKind(enum.IntEnum):
    """What a cookie's number (its low 40 bits) counts."""

    PIPELINE = 0  # a flow that is there on every switch; number 0
    PORT = 1  # an ofport: admission to and delivery at a port
    CLAUSE = 2  # one dimension of one or more rules; number 0
    RULE = 3  # a conjunction id: the flow that allows, and counts, for one rule
    DENY_EGRESS = 4  # an ofport: what its isolation for egress dropped
    DENY_INGRESS = 5  # an ofport: what its isolation for ingress dropped
    LEARNED = 6  # made by the switch's own learn action: never compared, never deleted
    SENT = 7  # an ofport: admission of what it sends from its own addresses, and how much that is
    INVALID = 8  # an ofport: what of that conntrack called invalid, other than broken packets
    BROKEN = 9  # an ofport: what of that is invalid by itself, as with a wrong checksum


def cookie(kind: CookieKind, number: int = 0) -> int:
    """A cookie of ours. Raises ValueError when the number is wider than 40 bits."""
    if number & ~COOKIE_NUMBER_MASK:
        raise ValueError(f"cookie number {number} is wider than {COOKIE_KIND_SHIFT} bits")
    return COOKIE_PREFIX << COOKIE_PREFIX_SHIFT | kind << COOKIE_KIND_SHIFT | number


def read_cookie(value: int) -> tuple[CookieKind, int] | None:
    """Kind and number of a cookie, or None for a foreign one."""
    if value >> COOKIE_PREFIX_SHIFT != COOKIE_PREFIX:
        return None
    kind = value >> COOKIE_KIND_SHIFT & 0xFF
    if kind not in CookieKind.__members__.values():
        return None
    return CookieKind(kind), value & COOKIE_NUMBER_MASK
