"""The pipeline's tables, each declared once as data: identity, purpose, what it may match, where it may go, what a
miss does.

The names in OVSDB, the checks on every rendered flow and docs/pipeline.md all come from here. Which flows stand in a
table is `render`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from flows.openflow import match_fields as oxm
from flows.openflow.actions import Ct, Resubmit
from flows.openflow.flow import Flow
from flows.pipeline.registers import FLOOD_CHUNK


class PipelineError(Exception):
    """A flow that the declaration does not allow: unknown table, undeclared field, or a jump to a place not
    declared."""


@dataclass(frozen=True, slots=True)
class Table:
    """One OpenFlow table. `fields` are the names it may match, `leads_to` the tables it may go, resubmit or
    recirculate to."""

    number: int
    name: str
    does: str
    fields: frozenset[str]
    leads_to: tuple[str, ...]
    miss: str


def _names(*fields: oxm.Field) -> frozenset[str]:
    return frozenset(field.name for field in fields)


_L2 = _names(oxm.ETH_SRC, oxm.ETH_DST, oxm.ETH_TYPE, oxm.IN_PORT)
_ARP = _names(oxm.ARP_OP, oxm.ARP_SPA, oxm.ARP_TPA, oxm.ARP_SHA)
_IP = _names(oxm.IP_PROTO, oxm.IPV4_SRC, oxm.IPV4_DST, oxm.IPV6_SRC, oxm.IPV6_DST, oxm.ICMPV6_TYPE,
             oxm.ICMPV6_CODE, oxm.IP_TTL)  # fmt: skip
_ND = _names(oxm.ND_TARGET, oxm.ND_SLL, oxm.ND_TLL)
_TUPLE = _names(
    oxm.ETH_TYPE, oxm.CT_STATE, oxm.CT_NW_PROTO, oxm.CT_NW_SRC, oxm.CT_NW_DST, oxm.CT_IPV6_SRC, oxm.CT_IPV6_DST,
    oxm.CT_TP_DST, oxm.CONJ_ID, oxm.IP_PROTO, oxm.IP_FRAG, oxm.SCTP_SRC, oxm.SCTP_DST,
)  # fmt: skip
_REGISTERS = frozenset(register.name for register in oxm.REGISTERS)

CLASSIFY = Table(
    0,
    "classify",
    "Where the packet comes from (pod, uplink, the node itself), and whether it may say so: MAC, IPv4, IPv6, ARP "
    "and ND are bound to the port.",
    _L2 | _ARP | _IP | _ND | _names(oxm.VLAN_VID, oxm.IP_FRAG, oxm.PKT_MARK),
    ("neighbor", "nd_guard", "conntrack"),
    "drop: unknown ports pass nothing",
)
ND_GUARD = Table(
    5,
    "nd_guard",
    "What a pod says in ARP, ND and MLD is checked in full: its length is exact, its hop limit right, and it has one "
    "option, its own link-layer address, or none.",
    _L2 | _ARP | _IP | _ND | _REGISTERS,
    ("neighbor",),
    "drop",
)
NEIGHBOR = Table(
    10,
    "neighbor",
    "Delivers ARP and neighbor discovery by what is asked for; never subject to policy.",
    _L2 | _ARP | _IP | _ND,
    ("flood",),
    "drop",
)
FLOOD = Table(
    15,
    "flood",
    "ARP and neighbor discovery that concern everybody: to every pod, the node and the uplink, but not back. The pods' "
    "ports are in chunks, a flow each, which the miss calls one after the other.",
    _names(FLOOD_CHUNK.register),
    ("flood",),
    "to all of them",
)
CONNTRACK = Table(
    20,
    "conntrack",
    "Looks the connection up in the bridge's one zone.",
    _names(oxm.ETH_TYPE, oxm.IP_PROTO),
    ("sctp_replies", "sctp", "destination"),
    "drop",
)
SCTP = Table(
    22,
    "sctp",
    "Userspace datapath only: looks up SCTP, answers in the bridge's zone, everything else in a zone that stays empty, "
    "for userspace conntrack knows SCTP without ports.",
    _names(oxm.ETH_TYPE) | _REGISTERS,
    ("destination",),
    "drop",
)
SCTP_REPLIES = Table(
    25,
    "sctp_replies",
    "Userspace datapath only: one learned flow for each SCTP association, matching its replies. Userspace "
    "conntrack knows SCTP without ports.",
    _IP | _names(oxm.ETH_TYPE, oxm.SCTP_SRC, oxm.SCTP_DST),
    (),
    "back to conntrack",
)
DESTINATION = Table(
    30,
    "destination",
    "The port the packet goes to, before any policy is asked: a local pod, the node, or the uplink.",
    _L2 | _IP | _REGISTERS | _names(oxm.CT_STATE, oxm.PKT_MARK),
    ("state",),
    "drop: nobody is there",
)
STATE = Table(
    40,
    "state",
    "Turns away what conntrack calls invalid, and sets apart the few packets whose part in their connection it cannot "
    "tell.",
    _names(oxm.ETH_TYPE, oxm.CT_STATE, oxm.IP_FRAG, oxm.IP_PROTO, oxm.TCP_FLAGS) | _REGISTERS,
    ("midstream", "related", "direction", "commit", "invalid"),
    "drop",
)
MIDSTREAM = Table(
    42,
    "midstream",
    "TCP that is new to conntrack but not by its flags: ports say who opened the connection. What cannot be told must "
    "be allowed in both readings.",
    _names(oxm.ETH_TYPE, oxm.CT_STATE, oxm.CT_NW_PROTO, oxm.CT_TP_SRC, oxm.CT_TP_DST, oxm.IP_FRAG, oxm.IP_PROTO),
    ("direction",),
    "drop",
)
RELATED = Table(
    43,
    "related",
    "ICMP errors about a known connection: from a pod only about its own.",
    _names(oxm.ETH_TYPE, oxm.CT_STATE, oxm.CT_NW_SRC, oxm.CT_NW_DST, oxm.CT_IPV6_SRC, oxm.CT_IPV6_DST) | _REGISTERS,
    ("direction",),
    "drop",
)
DIRECTION = Table(
    45,
    "direction",
    "Tells initiator from responder, so that both directions are judged as one connection.",
    _names(oxm.CT_STATE, oxm.PKT_MARK) | _REGISTERS,
    ("egress", "invalid"),
    "drop",
)
SAME_PORT = Table(
    47,
    "same_port",
    "Judges a reply that was refused once more, as a packet that opens, if both its ports are one.",
    _names(oxm.ETH_TYPE, oxm.CONJ_ID) | _REGISTERS,
    ("direction",),
    "back to where it was refused",
)
EGRESS = Table(
    50,
    "egress",
    "Egress rules of the pod that opened the connection, as conjunctive matches on the connection's original "
    "direction.",
    _TUPLE | _REGISTERS,
    ("same_port", "egress_default", "ingress", "limit"),
    "egress_default",
)
EGRESS_DEFAULT = Table(
    55,
    "egress_default",
    "No egress rule allowed: drops, and counts for each isolated pod.",
    _REGISTERS | _names(oxm.CT_STATE),
    ("deny",),
    "deny",
)
INGRESS = Table(
    60,
    "ingress",
    "Ingress rules of the pod that the connection was opened to, likewise.",
    _TUPLE | _REGISTERS,
    ("same_port", "ingress_default", "limit"),
    "ingress_default",
)
INGRESS_DEFAULT = Table(
    65,
    "ingress_default",
    "No ingress rule allowed: drops, and counts for each isolated pod.",
    _REGISTERS | _names(oxm.CT_STATE),
    ("deny",),
    "deny",
)
LIMIT = Table(
    67,
    "limit",
    "New connections of pods pass their pod's meter, which drops what is too many. Packets of connections that are "
    "recorded meet none.",
    _names(oxm.ETH_TYPE, oxm.IP_PROTO, oxm.CT_STATE, oxm.CT_MARK) | _REGISTERS,
    ("commit",),
    "commit",
)
COMMIT = Table(
    70,
    "commit",
    "Records new connections, so that their replies are known; passes fragments through reassembly once more, and "
    "turns back what was turned round to be judged.",
    _names(oxm.ETH_TYPE, oxm.CT_STATE, oxm.IP_FRAG, oxm.IP_PROTO) | _REGISTERS,
    ("direction", "output"),
    "output",
)
OUTPUT = Table(
    80,
    "output",
    "Sends the packet to the port that `destination` chose. Fragments that waited in vain are dropped here.",
    _REGISTERS | _names(oxm.CT_STATE, oxm.PKT_MARK),
    (),
    "output",
)
INVALID = Table(
    85,
    "invalid",
    "Drops what conntrack calls invalid, and counts it for each pod, with what is invalid by itself apart.",
    _REGISTERS,
    (),
    "drop",
)
DENY = Table(
    90,
    "deny",
    "The end of what policy refused. Of what the node sent with addresses that nobody knows the controller gets some "
    "copies.",
    _REGISTERS | _names(oxm.ETH_TYPE),
    (),
    "drop",
)

TABLES = (
    CLASSIFY, ND_GUARD, NEIGHBOR, FLOOD, CONNTRACK, SCTP, SCTP_REPLIES, DESTINATION, STATE, MIDSTREAM, RELATED,
    DIRECTION, SAME_PORT, EGRESS, EGRESS_DEFAULT, INGRESS, INGRESS_DEFAULT, LIMIT, COMMIT, OUTPUT, INVALID,
    DENY,
)  # fmt: skip
TABLES_BY_NUMBER = {table.number: table for table in TABLES}
TABLES_BY_NAME = {table.name: table for table in TABLES}
TABLE_NAMES = {table.number: table.name for table in TABLES}

# These are only looked up by resubmit, and what they do not match is done where that came from.
TABLES_WITHOUT_MISS = frozenset({SCTP_REPLIES.number, SAME_PORT.number, FLOOD.number})


def check_flow(flow: Flow) -> Flow:
    """The flow itself, when the declaration allows it; raises PipelineError with the table's name otherwise."""
    targets = [flow.goto] if flow.goto is not None else []
    for action in flow.actions:
        if isinstance(action, Ct | Resubmit) and action.table is not None:
            targets.append(action.table)
    _check_shape(flow.table, tuple(term.field.name for term in flow.match), tuple(targets))
    return flow


@lru_cache(maxsize=4096)
def _check_shape(number: int, fields: tuple[str, ...], targets: tuple[int, ...]) -> None:
    table = TABLES_BY_NUMBER.get(number)
    if table is None:
        raise PipelineError(f"table {number} is not declared")
    for name in fields:
        if name not in table.fields:
            raise PipelineError(f"table {table.name} does not declare a match on {name}")
    for target in targets:
        if target not in TABLES_BY_NUMBER or TABLES_BY_NUMBER[target].name not in table.leads_to:
            raise PipelineError(f"table {table.name} does not lead to {TABLE_NAMES.get(target, target)}")
