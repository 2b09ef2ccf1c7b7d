"""The pipeline's tables, each declared once as data: identity, purpose, what it may match, where it may go, what a
miss does. Those that every bridge has stand here, the others in `optional_tables`.

The table names in OVSDB, the checks of every rendered flow and docs/pipeline.md all come from here. The flows of a
table are rendered in `flows.render`; their priorities are in `priorities`.
"""

from __future__ import annotations

from functools import lru_cache

from flows.openflow import match_fields as oxm
from flows.openflow.actions import Ct, Learn, Resubmit
from flows.openflow.flow import Flow
from flows.pipeline.registers import FLOOD_CHUNK, SOURCE_OFPORT
from flows.pipeline.table import ARP, IP_FIELDS, L2, ND, REGISTERS, TUPLE, Table, names

# Given out again, so that one module has all tables.
# isort: off
from flows.pipeline.optional_tables import (
    ADMIN_EGRESS as ADMIN_EGRESS, ADMIN_INGRESS as ADMIN_INGRESS, AFFINITY as AFFINITY, ANSWERS as ANSWERS,
    AUDIT as AUDIT, AUDIT_TABLES as AUDIT_TABLES, BASELINE_EGRESS as BASELINE_EGRESS,
    BASELINE_INGRESS as BASELINE_INGRESS, DIRECT as DIRECT, EGRESS_REFUSED as EGRESS_REFUSED, HAIRPIN as HAIRPIN,
    HASHED_ENDPOINT as HASHED_ENDPOINT, INGRESS_REFUSED as INGRESS_REFUSED, KEPT_ENDPOINT as KEPT_ENDPOINT,
    LISTENING as LISTENING, NAMES as NAMES, NAME_TABLES as NAME_TABLES, ND_ANSWER as ND_ANSWER,
    OPTIONAL_TABLES as OPTIONAL_TABLES, REFUSE as REFUSE, REPORT as REPORT, ROUTING_TABLES as ROUTING_TABLES,
    SEND as SEND, SERVICE as SERVICE, STAGED_CHANGE as STAGED_CHANGE, STAGED_EGRESS as STAGED_EGRESS,
    STAGED_INGRESS as STAGED_INGRESS, STAGED_TABLES as STAGED_TABLES, TIER_TABLES as TIER_TABLES,
)  # fmt: skip
# isort: on


class PipelineError(Exception):
    """A flow that the declaration does not allow: an unknown table, or a field or next table that is not declared."""


CLASSIFY = Table(
    0,
    "classify",
    "Finds the source port (pod, uplink or the node itself), and drops spoofed packets: MAC address, IPv4, IPv6, ARP "
    "and ND are bound to the port.",
    L2
    | ARP
    | IP_FIELDS
    | ND
    | names(oxm.VLAN_VID, oxm.IP_FRAG, oxm.PKT_MARK, oxm.TUN_SRC, oxm.TUN_IPV6_SRC, oxm.TUN_DST, oxm.TUN_IPV6_DST,
            oxm.TCP_FLAGS, oxm.CT_ZONE, SOURCE_OFPORT.register),
    ("classify", "neighbor", "nd_guard", "conntrack", "audit"),
    "drop: nothing passes from other ports",
)  # fmt: skip
ND_GUARD = Table(
    5,
    "nd_guard",
    "Checks ARP, ND and MLD of pods in full: the length is exact, the hop limit right, and the only option, if any, is "
    "the pod's own link-layer address.",
    L2 | ARP | IP_FIELDS | ND | REGISTERS,
    ("neighbor",),
    "drop",
)
NEIGHBOR = Table(
    10,
    "neighbor",
    "Delivers ARP and neighbor discovery by the address in question. Policy does not apply. Where the switch routes, "
    "it answers questions itself.",
    L2 | ARP | IP_FIELDS | ND,
    ("nd_answer", "flood"),
    "drop",
)
FLOOD = Table(
    15,
    "flood",
    "Floods ARP and neighbor discovery to every pod, the node and the uplink, but not back. Each chunk of the pods' "
    "ports has one flow; the miss calls the chunks one after the other.",
    names(FLOOD_CHUNK.register),
    ("flood",),
    "call every chunk, then send to the node and the uplink",
)
CONNTRACK = Table(
    20,
    "conntrack",
    "Looks the connection up in the bridge's conntrack zone; where the switch routes, one to the address of a Service "
    "in the Services' zone first.",
    names(oxm.ETH_TYPE, oxm.CT_STATE, oxm.CT_ZONE, oxm.IP_FRAG, oxm.IP_PROTO, oxm.IPV4_DST, oxm.IPV6_DST) | REGISTERS,
    ("direct", "hairpin", "service", "conntrack", "sctp_replies", "sctp", "destination"),
    "drop",
)
SCTP = Table(
    22,
    "sctp",
    "Userspace datapath only: looks SCTP up, replies in the bridge's zone and everything else in a zone that stays "
    "empty, for userspace conntrack ignores SCTP's ports.",
    names(oxm.ETH_TYPE) | REGISTERS,
    ("destination",),
    "drop",
)
SCTP_REPLIES = Table(
    25,
    "sctp_replies",
    "Userspace datapath only: one learned flow for each SCTP association, which matches its replies. Userspace "
    "conntrack ignores SCTP's ports.",
    IP_FIELDS | names(oxm.ETH_TYPE, oxm.SCTP_SRC, oxm.SCTP_DST),
    (),
    "return to conntrack",
)
DESTINATION = Table(
    30,
    "destination",
    "Finds the destination port, before policy: a local pod, the node, the uplink or the tunnel.",
    L2 | IP_FIELDS | REGISTERS | names(oxm.CT_STATE, oxm.CT_MARK, oxm.PKT_MARK),
    ("state", "output", "deny", "audit"),
    "drop: there is no such destination",
)
STATE = Table(
    40,
    "state",
    "Drops what conntrack calls invalid, and singles out the few packets whose role in their connection conntrack "
    "cannot tell.",
    names(oxm.ETH_TYPE, oxm.CT_STATE, oxm.IP_FRAG, oxm.IP_PROTO, oxm.TCP_FLAGS) | REGISTERS,
    ("midstream", "related", "direction", "commit", "output", "invalid"),
    "drop",
)
MIDSTREAM = Table(
    42,
    "midstream",
    "TCP that conntrack calls new although it has no SYN. The ports tell which end opened the connection; where they "
    "do not, both interpretations must be allowed.",
    names(oxm.ETH_TYPE, oxm.CT_STATE, oxm.CT_NW_PROTO, oxm.CT_TP_SRC, oxm.CT_TP_DST, oxm.IP_FRAG, oxm.IP_PROTO,
          oxm.TCP_FLAGS),
    ("direction",),
    "drop",
)  # fmt: skip
RELATED = Table(
    43,
    "related",
    "ICMP errors about a known connection: a pod may report only on its own.",
    names(oxm.ETH_TYPE, oxm.CT_STATE, oxm.CT_NW_SRC, oxm.CT_NW_DST, oxm.CT_IPV6_SRC, oxm.CT_IPV6_DST) | REGISTERS,
    ("direction",),
    "drop",
)
DIRECTION = Table(
    45,
    "direction",
    "Finds initiator and responder, so that policy applies to both directions of a connection alike.",
    names(oxm.CT_STATE, oxm.PKT_MARK) | REGISTERS,
    ("admin_egress", "egress", "invalid", "staged_egress", "direction"),
    "drop",
)
EGRESS = Table(
    50,
    "egress",
    "Egress rules of the pod that opened the connection, as conjunctive matches on the connection's original "
    "direction.",
    TUPLE | REGISTERS,
    ("same_port", "egress_default", "ingress", "limit"),
    "egress_default",
)
EGRESS_DEFAULT = Table(
    55,
    "egress_default",
    "Drops what no egress rule allowed, and counts it for each isolated pod.",
    REGISTERS | names(oxm.CT_STATE),
    ("deny", "audit", "staged_change", "egress_default"),
    "deny",
)
SAME_PORT = Table(
    57,
    "same_port",
    "Matches a denied reply once more, as a packet that opens, if its source and destination port are equal.",
    names(oxm.ETH_TYPE, oxm.CONJ_ID) | REGISTERS,
    ("direction",),
    "return to where it was denied",
)
INGRESS = Table(
    60,
    "ingress",
    "Ingress rules of the pod to which the connection was opened, likewise.",
    TUPLE | REGISTERS,
    ("same_port", "ingress_default", "limit"),
    "ingress_default",
)
INGRESS_DEFAULT = Table(
    65,
    "ingress_default",
    "Drops what no ingress rule allowed, and counts it for each isolated pod.",
    REGISTERS | names(oxm.CT_STATE),
    ("deny", "audit", "staged_change", "ingress_default"),
    "deny",
)
LIMIT = Table(
    67,
    "limit",
    "Sends new connections of a pod through the pod's meter, which drops those above its rate. Packets of recorded "
    "connections pass no meter.",
    names(oxm.ETH_TYPE, oxm.IP_PROTO, oxm.CT_STATE, oxm.CT_MARK) | REGISTERS,
    ("commit", "staged_change", "limit"),
    "commit",
)
COMMIT = Table(
    70,
    "commit",
    "Records new connections in conntrack, so that their replies are recognized; sends fragments through reassembly "
    "once more, and swaps back the ends of packets that were swapped to be matched.",
    REGISTERS
    | names(
        oxm.ETH_TYPE,
        oxm.CT_STATE,
        oxm.CT_MARK,
        oxm.IP_FRAG,
        oxm.IP_PROTO,
        oxm.CT_NW_PROTO,
        oxm.CT_NW_DST,
        oxm.CT_IPV6_DST,
        oxm.CT_TP_DST,
    ),
    ("direction", "commit", "output", "audit"),
    "output",
)
OUTPUT = Table(
    80,
    "output",
    "Sends the packet to the port that `destination` chose. Drops expired fragments. Where the switch routes, the "
    "packet gets the MAC addresses of its next hop here.",
    REGISTERS
    | names(
        oxm.CT_STATE,
        oxm.PKT_MARK,
        oxm.CT_MARK,
        oxm.ETH_TYPE,
        oxm.CT_NW_PROTO,
        oxm.CT_NW_DST,
        oxm.CT_IPV6_DST,
        oxm.CT_TP_DST,
        oxm.IP_PROTO,
        oxm.TCP_DST,
        oxm.IP_FRAG,
    ),
    ("answers", "listening", "send", "output"),
    "output; where the switch routes: drop",
)
INVALID = Table(
    85,
    "invalid",
    "Drops what conntrack calls invalid, and counts it for each pod; broken packets are counted apart.",
    REGISTERS,
    ("audit",),
    "drop",
)
DENY = Table(
    90,
    "deny",
    "Drops what policy denied. The controller gets rate-limited copies of packets that the node sent from unknown "
    "addresses. What a pod opens that some rule with domain names selects gets a second look first.",
    REGISTERS | names(oxm.ETH_TYPE, oxm.IP_PROTO, oxm.IP_FRAG, oxm.CT_STATE, oxm.CT_ZONE),
    ("destination",),
    "drop",
)

TABLES = (
    CLASSIFY, ND_GUARD, NEIGHBOR, ND_ANSWER, HAIRPIN, SERVICE, FLOOD, AFFINITY, KEPT_ENDPOINT, HASHED_ENDPOINT, REFUSE,
    CONNTRACK, DIRECT, SCTP, SCTP_REPLIES, DESTINATION, STATE, MIDSTREAM,
    RELATED, DIRECTION, ADMIN_EGRESS, BASELINE_EGRESS, ADMIN_INGRESS, BASELINE_INGRESS, EGRESS, EGRESS_REFUSED,
    EGRESS_DEFAULT, SAME_PORT, INGRESS, INGRESS_REFUSED, INGRESS_DEFAULT, LIMIT, COMMIT, OUTPUT, ANSWERS,
    SEND, LISTENING, NAMES, INVALID, DENY, STAGED_EGRESS, STAGED_INGRESS, STAGED_CHANGE, AUDIT, REPORT,
)  # fmt: skip
TABLES_BY_NUMBER = {table.number: table for table in TABLES}
TABLES_BY_NAME = {table.name: table for table in TABLES}
TABLE_NAMES = {table.number: table.name for table in TABLES}

# Their flows are the switch's own, made by learn actions, or end by themselves. They are never compared.
LEARNED_TABLES = frozenset({SCTP_REPLIES.number, AFFINITY.number, LISTENING.number})
# Reached by resubmit only: a packet without a match returns to the table that resubmitted it.
TABLES_WITHOUT_MISS = LEARNED_TABLES | STAGED_TABLES | {SAME_PORT.number, FLOOD.number}


def check_flow(flow: Flow) -> Flow:
    """The flow itself, where the declaration allows it. Raises PipelineError with the table's name."""
    targets = [flow.goto] if flow.goto is not None else []
    for action in flow.actions:
        if isinstance(action, Ct | Resubmit) and action.table is not None:
            targets.append(action.table)
        elif isinstance(action, Learn) and action.table not in LEARNED_TABLES:
            raise PipelineError(f"nothing may be learned in table {TABLE_NAMES.get(action.table, action.table)}")
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
