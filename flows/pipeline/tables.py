"""The pipeline's tables, each declared once as data: identity, purpose, what it may match, where it may go, what a
miss does.

The table names in OVSDB, the checks of every rendered flow and docs/pipeline.md all come from here. The flows of a
table are rendered in `flows.render`; their priorities are in `priorities`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from flows.openflow import match_fields as oxm
from flows.openflow.actions import Ct, Learn, Resubmit
from flows.openflow.flow import Flow
from flows.pipeline.registers import FLOOD_CHUNK


class PipelineError(Exception):
    """A flow that the declaration does not allow: an unknown table, or a field or next table that is not declared."""


@dataclass(frozen=True, slots=True)
class Table:
    """One OpenFlow table. `fields` are the names of the fields that its flows may match, `leads_to` the tables that
    they may go to, resubmit to or recirculate to. `does` and `miss` are for docs/pipeline.md."""

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
    "Finds the source port (pod, uplink or the node itself), and drops spoofed packets: MAC address, IPv4, IPv6, ARP "
    "and ND are bound to the port.",
    _L2
    | _ARP
    | _IP
    | _ND
    | _names(oxm.VLAN_VID, oxm.IP_FRAG, oxm.PKT_MARK, oxm.TUN_SRC, oxm.TUN_IPV6_SRC, oxm.TCP_FLAGS, oxm.CT_ZONE),
    ("classify", "neighbor", "nd_guard", "conntrack", "audit"),
    "drop: nothing passes from other ports",
)
ND_GUARD = Table(
    5,
    "nd_guard",
    "Checks ARP, ND and MLD of pods in full: the length is exact, the hop limit right, and the only option, if any, is "
    "the pod's own link-layer address.",
    _L2 | _ARP | _IP | _ND | _REGISTERS,
    ("neighbor",),
    "drop",
)
NEIGHBOR = Table(
    10,
    "neighbor",
    "Delivers ARP and neighbor discovery by the address in question. Policy does not apply. Where the switch routes, "
    "it answers questions itself.",
    _L2 | _ARP | _IP | _ND,
    ("nd_answer", "flood"),
    "drop",
)
ND_ANSWER = Table(
    12,
    "nd_answer",
    "Where the switch routes: fills in the gateway's MAC address in a neighbor advertisement, and sends it back.",
    _IP | _names(oxm.ETH_TYPE),
    (),
    "drop",
)
HAIRPIN = Table(
    13,
    "hairpin",
    "Where the switch routes: replies to a source that the switch gave; their source becomes the Service's address.",
    _names(oxm.ETH_TYPE, oxm.CT_STATE) | _REGISTERS,
    ("destination", "output"),
    "drop: it answers nothing",
)
SERVICE = Table(
    14,
    "service",
    "Where the switch routes: sends a new connection to the address of a Service to one of its endpoints, and its "
    "later packets to the same one.",
    _names(oxm.ETH_TYPE, oxm.CT_STATE, oxm.CT_MARK, oxm.CT_NW_PROTO, oxm.CT_NW_SRC, oxm.CT_NW_DST, oxm.CT_IPV6_SRC,
           oxm.CT_IPV6_DST, oxm.CT_TP_DST, oxm.CT_ZONE, oxm.IP_FRAG, oxm.IP_PROTO, oxm.TCP_FLAGS) | _REGISTERS,
    ("service", "affinity", "kept_endpoint", "hashed_endpoint", "refuse", "conntrack"),
    "drop",
)  # fmt: skip
FLOOD = Table(
    15,
    "flood",
    "Floods ARP and neighbor discovery to every pod, the node and the uplink, but not back. Each chunk of the pods' "
    "ports has one flow; the miss calls the chunks one after the other.",
    _names(FLOOD_CHUNK.register),
    ("flood",),
    "call every chunk, then send to the node and the uplink",
)
AFFINITY = Table(
    16,
    "affinity",
    "Where the switch routes: one learned flow for each client of a Service with session affinity, which names the "
    "endpoint that the client was given.",
    _names(oxm.ETH_TYPE, oxm.IPV4_SRC, oxm.IPV6_SRC) | _REGISTERS,
    (),
    "return to service",
)
KEPT_ENDPOINT = Table(
    17,
    "kept_endpoint",
    "Where the switch routes: sends a client to the endpoint that `affinity` named, if the Service still has it.",
    _names(oxm.ETH_TYPE) | _REGISTERS,
    ("hashed_endpoint", "conntrack"),
    "drop",
)
HASHED_ENDPOINT = Table(
    18,
    "hashed_endpoint",
    "Where the switch routes: sends a connection to the endpoint that it was hashed to, and has the switch learn it "
    "for the client's next connections where the Service has session affinity.",
    _names(oxm.ETH_TYPE) | _REGISTERS,
    ("conntrack",),
    "drop",
)
REFUSE = Table(
    19,
    "refuse",
    "Where the switch routes: sends what no endpoint takes to the node, whose packet filter refuses it.",
    _REGISTERS | _names(oxm.ETH_TYPE, oxm.CT_ZONE, oxm.IP_FRAG),
    ("output", "refuse"),
    "drop",
)
CONNTRACK = Table(
    20,
    "conntrack",
    "Looks the connection up in the bridge's conntrack zone; where the switch routes, one to the address of a Service "
    "in the Services' zone first.",
    _names(oxm.ETH_TYPE, oxm.CT_STATE, oxm.CT_ZONE, oxm.IP_FRAG, oxm.IP_PROTO, oxm.IPV4_DST, oxm.IPV6_DST) | _REGISTERS,
    ("direct", "hairpin", "service", "conntrack", "sctp_replies", "sctp", "destination"),
    "drop",
)
DIRECT = Table(
    21,
    "direct",
    "Where the switch routes: an address of a Service that somebody else may have, too, such as a node's. Connections "
    "with whoever has it go on; all else is looked up among the Services.",
    _names(oxm.ETH_TYPE, oxm.IP_PROTO, oxm.CT_STATE, oxm.CT_MARK),
    ("service", "destination"),
    "drop",
)
SCTP = Table(
    22,
    "sctp",
    "Userspace datapath only: looks SCTP up, replies in the bridge's zone and everything else in a zone that stays "
    "empty, for userspace conntrack ignores SCTP's ports.",
    _names(oxm.ETH_TYPE) | _REGISTERS,
    ("destination",),
    "drop",
)
SCTP_REPLIES = Table(
    25,
    "sctp_replies",
    "Userspace datapath only: one learned flow for each SCTP association, which matches its replies. Userspace "
    "conntrack ignores SCTP's ports.",
    _IP | _names(oxm.ETH_TYPE, oxm.SCTP_SRC, oxm.SCTP_DST),
    (),
    "return to conntrack",
)
DESTINATION = Table(
    30,
    "destination",
    "Finds the destination port, before policy: a local pod, the node, the uplink or the tunnel.",
    _L2 | _IP | _REGISTERS | _names(oxm.CT_STATE, oxm.CT_MARK, oxm.PKT_MARK),
    ("state", "output", "audit"),
    "drop: there is no such destination",
)
STATE = Table(
    40,
    "state",
    "Drops what conntrack calls invalid, and singles out the few packets whose role in their connection conntrack "
    "cannot tell.",
    _names(oxm.ETH_TYPE, oxm.CT_STATE, oxm.IP_FRAG, oxm.IP_PROTO, oxm.TCP_FLAGS) | _REGISTERS,
    ("midstream", "related", "direction", "commit", "output", "invalid"),
    "drop",
)
MIDSTREAM = Table(
    42,
    "midstream",
    "TCP that conntrack calls new although it has no SYN. The ports tell which end opened the connection; where they "
    "do not, both interpretations must be allowed.",
    _names(oxm.ETH_TYPE, oxm.CT_STATE, oxm.CT_NW_PROTO, oxm.CT_TP_SRC, oxm.CT_TP_DST, oxm.IP_FRAG, oxm.IP_PROTO),
    ("direction",),
    "drop",
)
RELATED = Table(
    43,
    "related",
    "ICMP errors about a known connection: a pod may report only on its own.",
    _names(oxm.ETH_TYPE, oxm.CT_STATE, oxm.CT_NW_SRC, oxm.CT_NW_DST, oxm.CT_IPV6_SRC, oxm.CT_IPV6_DST) | _REGISTERS,
    ("direction",),
    "drop",
)
DIRECTION = Table(
    45,
    "direction",
    "Finds initiator and responder, so that policy applies to both directions of a connection alike.",
    _names(oxm.CT_STATE, oxm.PKT_MARK) | _REGISTERS,
    ("admin_egress", "egress", "invalid", "staged_egress", "direction"),
    "drop",
)
STAGED_EGRESS = Table(
    92,
    "staged_egress",
    "The egress rules as they are once all staged policies are promoted, for pods that one selects. Notes what they "
    "deny; nothing is dropped.",
    _TUPLE | _REGISTERS,
    ("staged_ingress",),
    "return to direction",
)
STAGED_INGRESS = Table(
    93,
    "staged_ingress",
    "The ingress rules, likewise.",
    _TUPLE | _REGISTERS,
    ("staged_change",),
    "return to direction",
)
STAGED_CHANGE = Table(
    94,
    "staged_change",
    "Counts for each pod what the promotion of staged policies would deny or allow, and reports what it would deny.",
    _REGISTERS,
    ("audit",),
    "return to where it was looked up",
)
ADMIN_EGRESS = Table(
    46,
    "admin_egress",
    "ClusterNetworkPolicies of tier Admin: egress rules of the pod that opened the connection, the first of which "
    "decides. Only connections of pods that some ClusterNetworkPolicy selects come here.",
    _TUPLE | _REGISTERS | _names(oxm.CT_MARK),
    ("baseline_egress", "admin_ingress", "egress_refused", "limit"),
    "baseline_egress",
)
BASELINE_EGRESS = Table(
    47,
    "baseline_egress",
    "The same for tier Baseline, unless NetworkPolicies isolate the pod for egress, or tier Admin accepted.",
    _TUPLE | _REGISTERS | _names(oxm.CT_MARK),
    ("admin_ingress", "egress_refused"),
    "admin_ingress",
)
ADMIN_INGRESS = Table(
    48,
    "admin_ingress",
    "ClusterNetworkPolicies of tier Admin: ingress rules of the pod to which the connection was opened.",
    _TUPLE | _REGISTERS,
    ("baseline_ingress", "egress", "ingress_refused"),
    "baseline_ingress",
)
BASELINE_INGRESS = Table(
    49,
    "baseline_ingress",
    "The same for tier Baseline, unless NetworkPolicies isolate the pod for ingress, or tier Admin accepted.",
    _TUPLE | _REGISTERS,
    ("egress", "ingress_refused"),
    "egress",
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
EGRESS_REFUSED = Table(
    52,
    "egress_refused",
    "What a rule of a ClusterNetworkPolicy denied for egress. Replies between equal ports are matched once more.",
    _REGISTERS | _names(oxm.ETH_TYPE, oxm.CT_STATE, oxm.IP_PROTO, oxm.IP_FRAG),
    ("same_port", "egress_default"),
    "egress_default",
)
EGRESS_DEFAULT = Table(
    55,
    "egress_default",
    "Drops what no egress rule allowed, and counts it for each isolated pod.",
    _REGISTERS | _names(oxm.CT_STATE),
    ("deny", "audit", "staged_change", "egress_default"),
    "deny",
)
SAME_PORT = Table(
    57,
    "same_port",
    "Matches a denied reply once more, as a packet that opens, if its source and destination port are equal.",
    _names(oxm.ETH_TYPE, oxm.CONJ_ID) | _REGISTERS,
    ("direction",),
    "return to where it was denied",
)
INGRESS = Table(
    60,
    "ingress",
    "Ingress rules of the pod to which the connection was opened, likewise.",
    _TUPLE | _REGISTERS,
    ("same_port", "ingress_default", "limit"),
    "ingress_default",
)
INGRESS_REFUSED = Table(
    62,
    "ingress_refused",
    "What a rule of a ClusterNetworkPolicy denied for ingress, likewise.",
    _REGISTERS | _names(oxm.ETH_TYPE, oxm.CT_STATE, oxm.IP_PROTO, oxm.IP_FRAG),
    ("same_port", "ingress_default"),
    "ingress_default",
)
INGRESS_DEFAULT = Table(
    65,
    "ingress_default",
    "Drops what no ingress rule allowed, and counts it for each isolated pod.",
    _REGISTERS | _names(oxm.CT_STATE),
    ("deny", "audit", "staged_change", "ingress_default"),
    "deny",
)
LIMIT = Table(
    67,
    "limit",
    "Sends new connections of a pod through the pod's meter, which drops those above its rate. Packets of recorded "
    "connections pass no meter.",
    _names(oxm.ETH_TYPE, oxm.IP_PROTO, oxm.CT_STATE, oxm.CT_MARK) | _REGISTERS,
    ("commit", "staged_change", "limit"),
    "commit",
)
COMMIT = Table(
    70,
    "commit",
    "Records new connections in conntrack, so that their replies are recognized; sends fragments through reassembly "
    "once more, and swaps back the ends of packets that were swapped to be matched.",
    _names(oxm.ETH_TYPE, oxm.CT_STATE, oxm.CT_MARK, oxm.IP_FRAG, oxm.IP_PROTO) | _REGISTERS,
    ("direction", "commit", "output", "audit"),
    "output",
)
OUTPUT = Table(
    80,
    "output",
    "Sends the packet to the port that `destination` chose. Drops expired fragments. Where the switch routes, the "
    "packet gets the MAC addresses of its next hop here.",
    _REGISTERS
    | _names(
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
ANSWERS = Table(
    81,
    "answers",
    "DNS between a server and a pod that some rule with domain names selects: the controller gets copies of queries, "
    "and holds answers until it has opened what they say.",
    _REGISTERS | _names(oxm.CT_STATE, oxm.CT_NW_PROTO),
    ("output",),
    "output",
)
SEND = Table(
    82,
    "send",
    "Where the switch routes: sends the packet with one hop less.",
    _REGISTERS | _names(oxm.ETH_TYPE, oxm.IP_TTL),
    (),
    "drop",
)
LISTENING = Table(
    83,
    "listening",
    "Has a flow while the controller listens to DNS: it must be renewed, so it ends soon after the controller is away.",
    _REGISTERS,
    (),
    "return to output",
)
NAMES = Table(
    84,
    "names",
    "No packet comes here. The flows remember what pods learned from DNS answers, for the next controller.",
    _REGISTERS | _names(oxm.ETH_TYPE, oxm.IPV4_DST, oxm.IPV6_DST),
    (),
    "drop",
)
INVALID = Table(
    85,
    "invalid",
    "Drops what conntrack calls invalid, and counts it for each pod; broken packets are counted apart.",
    _REGISTERS,
    ("audit",),
    "drop",
)
DENY = Table(
    90,
    "deny",
    "Drops what policy denied. The controller gets rate-limited copies of packets that the node sent from unknown "
    "addresses.",
    _REGISTERS | _names(oxm.ETH_TYPE),
    (),
    "drop",
)
AUDIT = Table(
    95,
    "audit",
    "Where pods are audited: sends what is to be reported through a meter of the pod that sent it, or else of the pod "
    "that it is for, so that what one pod sends does not hide what others do.",
    _names(oxm.IN_PORT) | _REGISTERS,
    ("report",),
    "report",
)
REPORT = Table(
    96,
    "report",
    "Where pods are audited: copies the packet to the controller, through a meter of the bridge.",
    frozenset(),
    (),
    "copied to the controller",
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

# Without flows in mode `flat`, their misses included.
ROUTING_TABLES = frozenset(
    table.number
    for table in (ND_ANSWER, HAIRPIN, SERVICE, AFFINITY, KEPT_ENDPOINT, HASHED_ENDPOINT, REFUSE, DIRECT, SEND)
)
# Without flows, their misses included, on bridges without a pod that some ClusterNetworkPolicy selects.
TIER_TABLES = (ADMIN_EGRESS, BASELINE_EGRESS, ADMIN_INGRESS, BASELINE_INGRESS, EGRESS_REFUSED, INGRESS_REFUSED)
# Likewise on bridges without a pod that is audited.
AUDIT_TABLES = (AUDIT, REPORT)
# Likewise, without a pod that some rule with domain names selects.
NAME_TABLES = (ANSWERS, NAMES)
OPTIONAL_TABLES = (*TIER_TABLES, *AUDIT_TABLES, *NAME_TABLES)
# Without flows on bridges without a pod that some staged policy selects.
STAGED_TABLES = frozenset({STAGED_EGRESS.number, STAGED_INGRESS.number, STAGED_CHANGE.number})
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
