"""Cookies of Headgate's flows: a prefix that tells them from foreign flows, a kind, and a number.

Example: 0x4847030000000007 is the prefix 0x4847, kind 3 (RULE) and number 7: the flow that allows by rule 7.
"""

from __future__ import annotations

import enum

COOKIE_PREFIX = 0x4847
COOKIE_PREFIX_SHIFT = 48
COOKIE_KIND_SHIFT = 40
COOKIE_MASK = 0xFFFF << COOKIE_PREFIX_SHIFT
COOKIE_NUMBER_MASK = (1 << COOKIE_KIND_SHIFT) - 1


class CookieKind(enum.IntEnum):
    """What a flow is for, and what the cookie's number (its low 40 bits) is."""

    PIPELINE = 0  # a flow that depends on no port and no rule; number 0
    PORT = 1  # an ofport: admission to and delivery at a port
    CLAUSE = 2  # a clause of one or more rules; number 0
    RULE = 3  # a conjunction id: the flow that allows, and counts, for one rule
    DENY_EGRESS = 4  # an ofport: what its isolation for egress dropped
    DENY_INGRESS = 5  # an ofport: what its isolation for ingress dropped
    LEARNED = 6  # made by the switch's learn action: never compared, never deleted
    SENT = 7  # an ofport: admission of IP from its own addresses, whose counters say how much it sends
    INVALID = 8  # an ofport: packets of it that conntrack called invalid, without broken ones
    BROKEN = 9  # an ofport: packets of it that are broken, as with a wrong checksum
    AUDIT = 11  # copies audited packets to the controller; number 0
    ENDPOINT = 10  # a group id: an endpoint of that port of a Service, which no group has
    DNS = 12  # an ofport: hands DNS packets of that pod over to the controller
    NAMES = 13  # an ofport: remembers what that pod learned from DNS answers
    STAGED_DENY_EGRESS = 16  # an ofport: what passes, and its egress denies once staged policies are promoted
    STAGED_DENY_INGRESS = 17  # an ofport: the same for its ingress
    STAGED_ALLOW_EGRESS = 18  # an ofport: what its egress denies, and allows once staged policies are promoted
    STAGED_ALLOW_INGRESS = 19  # an ofport: the same for its ingress


_BY_NUMBER = {int(kind): kind for kind in CookieKind}


def cookie(kind: CookieKind, number: int = 0) -> int:
    """The cookie of this kind and number. Raises ValueError where the number is wider than 40 bits."""
    if number & ~COOKIE_NUMBER_MASK:
        raise ValueError(f"cookie number {number} is wider than {COOKIE_KIND_SHIFT} bits")
    return COOKIE_PREFIX << COOKIE_PREFIX_SHIFT | kind << COOKIE_KIND_SHIFT | number


def read_cookie(value: int) -> tuple[CookieKind, int] | None:
    """Kind and number of a cookie; None for a foreign one."""
    if value >> COOKIE_PREFIX_SHIFT != COOKIE_PREFIX:
        return None
    kind = _BY_NUMBER.get(value >> COOKIE_KIND_SHIFT & 0xFF)
    return None if kind is None else (kind, value & COOKIE_NUMBER_MASK)
