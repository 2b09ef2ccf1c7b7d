"""What one pod may take of what all pods of a node share: new connections and fragments a second, SCTP associations.

Rates are held by the switch's meters, two for each pod, whose numbers say which pod's they are. Which packets meet them
is said in `render_ports`, how they come onto a switch is the controller's business. Why so: docs/adr/0012.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple

from flows.openflow.actions import Action, Ct, LearnReply
from flows.openflow.port_numbers import MAX_OFPORT
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.priorities import SCTP_REPLIES_LEARNED
from flows.pipeline.registers import CONNTRACK_ZONE, SctpAssociation
from flows.pipeline.tables import OUTPUT, SCTP_REPLIES

# Meters from here on, an ofport in the low bits, are ours; all others are left alone. OpenFlow's numbers end at
# 0xffff0000.
_PORT_BITS = 16
_PORT_MASK = (1 << _PORT_BITS) - 1
# So many seconds of its rate may a pod use at once.
BURST_SECONDS = 6

# A quiet association keeps its entry through seven missed heartbeats (RFC 9260 has 30 s between them).
SCTP_IDLE_SECONDS = 210
SCTP_MOST = 20000  # associations that one switch remembers of those that no pod of its own opened
SCTP_MOST_OF_POD = 2000  # and of those that one pod opened
_LEARNED_PORT_SHIFT = 8


class Limit(enum.IntEnum):
    """What is limited. The value of one that a meter holds is the upper half of the meter's number."""

    ASSOCIATIONS = 0
    CONNECTIONS = 0x4847
    FRAGMENTS = 0x4848
    COPIES = 0x4849  # the bridge's own, no pod's: copies to the controller, of a CopyReason instead of an ofport

    @property
    def word(self) -> str:
        """How it is called in metrics and in `status`."""
        return {Limit.FRAGMENTS: "fragments", Limit.COPIES: "questions"}.get(self, "new_connections")


METERED = (Limit.CONNECTIONS, Limit.FRAGMENTS)


class CopyReason(enum.IntEnum):
    """What the controller gets copies of (docs/adr/0014), each of them limited by a meter."""

    REFUSED = 0  # packets of the node that policy refused
    ANSWER = 1  # the node's answers to probes


class MeterBand(NamedTuple):
    """What a meter lets pass: packets a second in the long run, and so many at once."""

    rate: int
    burst: int


class Rates(NamedTuple):
    """Packets a second that one pod may send of each kind; 0 is without limit."""

    connections: int = 1000
    fragments: int = 40

    def of(self, limit: Limit) -> int:
        """The rate of one kind."""
        return {Limit.CONNECTIONS: self.connections, Limit.FRAGMENTS: self.fragments}.get(limit, 0)

    @property
    def metered(self) -> tuple[Limit, ...]:
        """The kinds that are limited at all."""
        return tuple(limit for limit in METERED if self.of(limit))

    def band(self, limit: Limit) -> MeterBand:
        """What a meter of that kind lets pass; of questions it cannot be set."""
        if limit is Limit.COPIES:
            return COPY_BAND
        return MeterBand(self.of(limit), self.of(limit) * BURST_SECONDS)


NO_RATES = Rates(0, 0)
COPY_BAND = MeterBand(20, 60)


def meter_number(limit: Limit, ofport: int) -> int:
    """The number of a pod's meter, or of a CopyReason's. Raises ValueError for what no meter holds."""
    if limit not in (*METERED, Limit.COPIES) or not 0 <= ofport <= _PORT_MASK:
        raise ValueError(f"there is no meter of {limit!r} for port {ofport}")
    return limit << _PORT_BITS | ofport


def read_meter(number: int) -> tuple[Limit, int] | None:
    """Kind and ofport of a meter's number; None for a foreign one."""
    kind, ofport = number >> _PORT_BITS, number & _PORT_MASK
    if kind == Limit.COPIES:
        return (Limit.COPIES, ofport) if ofport in CopyReason.__members__.values() else None
    if kind not in (Limit.CONNECTIONS, Limit.FRAGMENTS) or ofport > MAX_OFPORT:
        return None
    return Limit(kind), ofport


def limits_of(metered: Iterable[Limit], userspace: bool) -> tuple[Limit, ...]:
    """The limits of a bridge's pods: where conntrack does not know SCTP's ports, associations are learned flows."""
    pods = (limit for limit in metered if limit is not Limit.COPIES)
    return (*((Limit.ASSOCIATIONS,) if userspace else ()), *pods)


def learned_by(ofport: int) -> int:
    """The cookie of the associations that the pod at `ofport` opened. The switch counts learned flows by cookie."""
    return cookie(CookieKind.LEARNED, ofport << _LEARNED_PORT_SHIFT | SctpAssociation.REPLY)


def sctp_opening(version: int, ofport: int | None = None) -> list[Action]:
    """Remember which packets answer this SCTP packet, as one of those of the pod at `ofport`, and let it pass."""
    owner, most = cookie(CookieKind.LEARNED, SctpAssociation.REPLY), SCTP_MOST
    if ofport is not None:
        owner, most = learned_by(ofport), SCTP_MOST_OF_POD
    learn = LearnReply(
        SCTP_REPLIES.number, version, SctpAssociation.REPLY, owner, SCTP_REPLIES_LEARNED, SCTP_IDLE_SECONDS, most
    )
    return [learn, Ct(CONNTRACK_ZONE, OUTPUT.number, commit=True)]
