"""Limits of one pod on what the pods of a node share: new connections and fragments a second, SCTP associations.

The switch's meters limit the rates: two meters for each pod, whose numbers contain its ofport. `flows.render.pods`
renders which packets pass them, `controller.reconcile.meters` puts them on a switch. docs/adr/0012 says why.

Example: the meter for new connections of the pod at ofport 5 is 0x48470005: CONNECTIONS in the upper half, 5 below.
"""

from __future__ import annotations

import enum
from functools import lru_cache
from typing import NamedTuple

from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Ct, FromPacket, Learn, Load
from flows.openflow.match import Term, exactly
from flows.openflow.port_numbers import MAX_OFPORT
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.priorities import SCTP_REPLIES_LEARNED
from flows.pipeline.registers import CONNTRACK_ZONE, SCTP_ASSOCIATION, SctpAssociation
from flows.pipeline.tables import OUTPUT, SCTP_REPLIES

# A meter number has a Limit in its upper and an ofport in its lower 16 bits; other meters are never changed. OpenFlow's
# meter numbers end at 0xffff0000.
_PORT_BITS = 16
_PORT_MASK = (1 << _PORT_BITS) - 1
# A pod may use so many seconds of its rate at once.
BURST_SECONDS = 6

# An idle association keeps its flow through seven missed heartbeats, which come every 30 s (RFC 9260).
SCTP_IDLE_SECONDS = 210
MAX_SCTP_OF_BRIDGE = 20000  # learned flows of one switch for associations that no pod of its own opened
MAX_SCTP_OF_POD = 2000  # and for those that one pod opened
_LEARNED_PORT_SHIFT = 8


class Limit(enum.IntEnum):
    """What is limited. For those that a meter limits, the value is the upper half of the meter's number."""

    ASSOCIATIONS = 0
    CONNECTIONS = 0x4847
    FRAGMENTS = 0x4848
    COPIES = 0x4849  # of the bridge: copies to the controller; the lower half is a CopyReason
    SENT_REPORTS = 0x484A  # copies of audited packets that a pod sent
    RECEIVED_REPORTS = 0x484B  # copies of audited packets for a pod, from elsewhere
    DNS = 0x484C  # packets of DNS that the controller gets of one pod; fixed
    LOOKS = 0x484D  # denied packets of one pod that are looked at once more; fixed. Others stay denied

    @property
    def word(self) -> str:
        """Its name in metrics and in `status`."""
        return {
            Limit.FRAGMENTS: "fragments",
            Limit.COPIES: "questions",
            Limit.SENT_REPORTS: "reports",
            Limit.RECEIVED_REPORTS: "reports",
            Limit.DNS: "dns",
        }.get(self, "new_connections")


METERED = (Limit.CONNECTIONS, Limit.FRAGMENTS)
REPORTS = (Limit.SENT_REPORTS, Limit.RECEIVED_REPORTS)
OF_NAMES = (Limit.DNS, Limit.LOOKS)  # of pods that some rule with domain names selects


class CopyReason(enum.IntEnum):
    """Why the controller gets a copy of a packet (docs/adr/0014). Each reason has a meter."""

    REFUSED = 0  # policy denied a packet of the node
    ANSWER = 1  # the node answered a probe
    AUDITED = 2  # of or to an audited pod; those of all pods of the bridge


class MeterBand(NamedTuple):
    """A meter's rate in packets a second, and its burst in packets."""

    rate: int
    burst: int


class Rates(NamedTuple):
    """Packets a second that one pod may send of each kind; 0 is no limit. `reports` are copies of audited packets, of
    one pod; their limit is never off."""

    connections: int = 1000
    fragments: int = 40
    reports: int = 5

    def of(self, limit: Limit) -> int:
        """The rate of one kind."""
        return {Limit.CONNECTIONS: self.connections, Limit.FRAGMENTS: self.fragments}.get(limit, 0)

    @property
    def metered(self) -> tuple[Limit, ...]:
        """The kinds that have a limit."""
        return tuple(limit for limit in METERED if self.of(limit))

    def band(self, limit: Limit, reason: int = 0) -> MeterBand:
        """The band of a meter of this kind. Those of copies are fixed, by CopyReason, and so are those for names."""
        if limit is Limit.COPIES:
            return REPORT_BAND if reason == CopyReason.AUDITED else COPY_BAND
        if limit is Limit.DNS:
            return DNS_BAND
        if limit is Limit.LOOKS:
            return LOOK_BAND
        if limit in REPORTS:
            return MeterBand(self.reports, self.reports * BURST_SECONDS)
        return MeterBand(self.of(limit), self.of(limit) * BURST_SECONDS)


NO_RATES = Rates(0, 0)
COPY_BAND = MeterBand(20, 60)
REPORT_BAND = MeterBand(200, 400)  # of all audited pods of a bridge
DNS_BAND = MeterBand(1000, 2000)  # queries and answers of a pod together
# Each may cost a look at all tables, and a megaflow for ten seconds.
LOOK_BAND = MeterBand(50, 100)
# For `read_meter`, which is called for each meter of each dump: looking an enum up by value costs ten times as much.
_BY_NUMBER = {int(limit): limit for limit in (*METERED, *REPORTS, *OF_NAMES, Limit.COPIES)}
_REASONS = frozenset(map(int, CopyReason))


def meter_number(limit: Limit, ofport: int) -> int:
    """The number of a pod's meter, or of the meter of a CopyReason (as `ofport`). Raises ValueError for others."""
    if limit not in (*METERED, *REPORTS, *OF_NAMES, Limit.COPIES) or not 0 <= ofport <= _PORT_MASK:
        raise ValueError(f"there is no meter of {limit!r} for port {ofport}")
    return limit << _PORT_BITS | ofport


def read_meter(number: int) -> tuple[Limit, int] | None:
    """Limit and ofport (or CopyReason) of a meter number; None for a foreign meter."""
    limit, ofport = _BY_NUMBER.get(number >> _PORT_BITS), number & _PORT_MASK
    if limit is None or (ofport not in _REASONS if limit is Limit.COPIES else ofport > MAX_OFPORT):
        return None
    return limit, ofport


@lru_cache(maxsize=256)
def limits_of(metered: tuple[Limit, ...], userspace: bool) -> tuple[Limit, ...]:
    """The limits of a bridge's pods. The userspace datapath learns SCTP associations, which are limited too. Where the
    bridge has a meter for copies, pods have some for theirs. That of DNS is no limit of every pod."""
    of_pods = (limit for limit in metered if limit is not Limit.DNS)
    pods = [one for limit in of_pods for one in (REPORTS if limit is Limit.COPIES else (limit,))]
    return (*((Limit.ASSOCIATIONS,) if userspace else ()), *pods)


def learned_by(ofport: int) -> int:
    """The cookie of learned flows for the pod at `ofport`. The switch limits learned flows by cookie."""
    return cookie(CookieKind.LEARNED, ofport << _LEARNED_PORT_SHIFT | SctpAssociation.REPLY)


def sctp_reply(version: int) -> tuple[Term | FromPacket, ...]:
    """The terms of a learned flow that matches the reverse of an SCTP packet: addresses and ports swapped."""
    ether, source, target = oxm.ETH_IPV4, oxm.IPV4_SRC, oxm.IPV4_DST
    if version == 6:
        ether, source, target = oxm.ETH_IPV6, oxm.IPV6_SRC, oxm.IPV6_DST
    swapped = ((source, target), (target, source), (oxm.SCTP_SRC, oxm.SCTP_DST), (oxm.SCTP_DST, oxm.SCTP_SRC))
    fixed = exactly(oxm.ETH_TYPE, ether), exactly(oxm.IP_PROTO, oxm.IP_PROTO_SCTP)
    return (*fixed, *(FromPacket(*pair) for pair in swapped))


def sctp_opening(version: int, ofport: int | None = None) -> list[Action]:
    """Learn a flow for the replies of this SCTP packet, under the limit of the pod at `ofport` (None: the bridge's),
    and record the packet in conntrack. `version` is 4 or 6."""
    owner, limit = cookie(CookieKind.LEARNED, SctpAssociation.REPLY), MAX_SCTP_OF_BRIDGE
    if ofport is not None:
        owner, limit = learned_by(ofport), MAX_SCTP_OF_POD
    is_reply, reply = (Load(SCTP_ASSOCIATION, SctpAssociation.REPLY),), sctp_reply(version)
    learn = Learn(SCTP_REPLIES.number, SCTP_REPLIES_LEARNED, owner, SCTP_IDLE_SECONDS, limit, reply, is_reply)
    return [learn, Ct(CONNTRACK_ZONE, OUTPUT.number, commit=True)]
