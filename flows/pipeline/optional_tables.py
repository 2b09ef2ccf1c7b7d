"""The pipeline's tables that have flows on some bridges only, as `tables` declares those of every bridge."""

from __future__ import annotations

from flows.openflow import match_fields as oxm
from flows.pipeline.table import IP_FIELDS, REGISTERS, TUPLE, Table, names

# -- where the switch routes -------------------------------------------------------------------------------------------

ND_ANSWER = Table(
    12,
    "nd_answer",
    "Where the switch routes: fills in the gateway's MAC address in a neighbor advertisement, and sends it back.",
    IP_FIELDS | names(oxm.ETH_TYPE),
    (),
    "drop",
)
HAIRPIN = Table(
    13,
    "hairpin",
    "Where the switch routes: replies to a source that the switch gave; their source becomes the Service's address.",
    names(oxm.ETH_TYPE, oxm.CT_STATE) | REGISTERS,
    ("destination", "output"),
    "drop: it answers nothing",
)
SERVICE = Table(
    14,
    "service",
    "Where the switch routes: sends a new connection to the address of a Service to one of its endpoints, and its "
    "later packets to the same one.",
    names(oxm.ETH_TYPE, oxm.CT_STATE, oxm.CT_MARK, oxm.CT_NW_PROTO, oxm.CT_NW_SRC, oxm.CT_NW_DST, oxm.CT_IPV6_SRC,
           oxm.CT_IPV6_DST, oxm.CT_TP_DST, oxm.CT_ZONE, oxm.IP_FRAG, oxm.IP_PROTO, oxm.TCP_FLAGS) | REGISTERS,
    ("service", "affinity", "kept_endpoint", "hashed_endpoint", "refuse", "conntrack"),
    "drop",
)  # fmt: skip
AFFINITY = Table(
    16,
    "affinity",
    "Where the switch routes: one learned flow for each client of a Service with session affinity, which names the "
    "endpoint that the client was given.",
    names(oxm.ETH_TYPE, oxm.IPV4_SRC, oxm.IPV6_SRC) | REGISTERS,
    (),
    "return to service",
)
KEPT_ENDPOINT = Table(
    17,
    "kept_endpoint",
    "Where the switch routes: sends a client to the endpoint that `affinity` named, if the Service still has it.",
    names(oxm.ETH_TYPE) | REGISTERS,
    ("hashed_endpoint", "conntrack"),
    "drop",
)
HASHED_ENDPOINT = Table(
    18,
    "hashed_endpoint",
    "Where the switch routes: sends a connection to the endpoint that it was hashed to, and has the switch learn it "
    "for the client's next connections where the Service has session affinity.",
    names(oxm.ETH_TYPE) | REGISTERS,
    ("conntrack",),
    "drop",
)
REFUSE = Table(
    19,
    "refuse",
    "Where the switch routes: sends what no endpoint takes to the node, whose packet filter refuses it.",
    REGISTERS | names(oxm.ETH_TYPE, oxm.CT_ZONE, oxm.IP_FRAG),
    ("output", "refuse"),
    "drop",
)
DIRECT = Table(
    21,
    "direct",
    "Where the switch routes: an address of a Service that somebody else may have, too, such as a node's. Connections "
    "with whoever has it go on; all else is looked up among the Services.",
    names(oxm.ETH_TYPE, oxm.IP_PROTO, oxm.CT_STATE, oxm.CT_MARK, oxm.CT_NW_PROTO, oxm.CT_NW_DST, oxm.CT_IPV6_DST,
          oxm.CT_TP_DST) | REGISTERS,
    ("service", "destination"),
    "drop",
)  # fmt: skip
SEND = Table(
    82,
    "send",
    "Where the switch routes: sends the packet with one hop less.",
    REGISTERS | names(oxm.ETH_TYPE, oxm.IP_TTL),
    (),
    "drop",
)

# Without flows in mode `flat`, their misses included.
ROUTING_TABLES = frozenset(
    table.number
    for table in (ND_ANSWER, HAIRPIN, SERVICE, AFFINITY, KEPT_ENDPOINT, HASHED_ENDPOINT, REFUSE, DIRECT, SEND)
)

# -- tiers -------------------------------------------------------------------------------------------------------------

ADMIN_EGRESS = Table(
    46,
    "admin_egress",
    "ClusterNetworkPolicies of tier Admin: egress rules of the pod that opened the connection, the first of which "
    "decides. Only connections of pods that some ClusterNetworkPolicy selects come here.",
    TUPLE | REGISTERS | names(oxm.CT_MARK),
    ("baseline_egress", "admin_ingress", "egress_refused", "limit"),
    "baseline_egress",
)
BASELINE_EGRESS = Table(
    47,
    "baseline_egress",
    "The same for tier Baseline, unless NetworkPolicies isolate the pod for egress, or tier Admin accepted.",
    TUPLE | REGISTERS | names(oxm.CT_MARK),
    ("admin_ingress", "egress_refused"),
    "admin_ingress",
)
ADMIN_INGRESS = Table(
    48,
    "admin_ingress",
    "ClusterNetworkPolicies of tier Admin: ingress rules of the pod to which the connection was opened.",
    TUPLE | REGISTERS,
    ("baseline_ingress", "egress", "ingress_refused"),
    "baseline_ingress",
)
BASELINE_INGRESS = Table(
    49,
    "baseline_ingress",
    "The same for tier Baseline, unless NetworkPolicies isolate the pod for ingress, or tier Admin accepted.",
    TUPLE | REGISTERS,
    ("egress", "ingress_refused"),
    "egress",
)
EGRESS_REFUSED = Table(
    52,
    "egress_refused",
    "What a rule of a ClusterNetworkPolicy denied for egress. Replies between equal ports are matched once more.",
    REGISTERS | names(oxm.ETH_TYPE, oxm.CT_STATE, oxm.IP_PROTO, oxm.IP_FRAG),
    ("same_port", "egress_default"),
    "egress_default",
)
INGRESS_REFUSED = Table(
    62,
    "ingress_refused",
    "What a rule of a ClusterNetworkPolicy denied for ingress, likewise.",
    REGISTERS | names(oxm.ETH_TYPE, oxm.CT_STATE, oxm.IP_PROTO, oxm.IP_FRAG),
    ("same_port", "ingress_default"),
    "ingress_default",
)

# Without flows, their misses included, on bridges without a pod that some ClusterNetworkPolicy selects.
TIER_TABLES = (ADMIN_EGRESS, BASELINE_EGRESS, ADMIN_INGRESS, BASELINE_INGRESS, EGRESS_REFUSED, INGRESS_REFUSED)

# -- audit -------------------------------------------------------------------------------------------------------------

AUDIT = Table(
    95,
    "audit",
    "Where pods are audited: sends what is to be reported through a meter of the pod that sent it, or else of the pod "
    "that it is for, so that what one pod sends does not hide what others do.",
    names(oxm.IN_PORT) | REGISTERS,
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

# Likewise on bridges without a pod that is audited.
AUDIT_TABLES = (AUDIT, REPORT)

# -- domain names ------------------------------------------------------------------------------------------------------

ANSWERS = Table(
    81,
    "answers",
    "DNS between a server and a pod that some rule with domain names selects: the controller gets copies of queries, "
    "and holds answers until it has opened what they say.",
    REGISTERS | names(oxm.CT_STATE, oxm.CT_NW_PROTO),
    ("output",),
    "output",
)
LISTENING = Table(
    83,
    "listening",
    "Has a flow while the controller listens to DNS: it must be renewed, so it ends soon after the controller is away.",
    REGISTERS,
    (),
    "return to output",
)
NAMES = Table(
    84,
    "names",
    "No packet comes here. The flows remember what pods learned from DNS answers, for the next controller.",
    REGISTERS | names(oxm.ETH_TYPE, oxm.IPV4_DST, oxm.IPV6_DST),
    (),
    "drop",
)

# Likewise, without a pod that some rule with domain names selects.
NAME_TABLES = (ANSWERS, NAMES)
OPTIONAL_TABLES = (*TIER_TABLES, *AUDIT_TABLES, *NAME_TABLES)

# -- staged policies ---------------------------------------------------------------------------------------------------

STAGED_EGRESS = Table(
    92,
    "staged_egress",
    "The egress rules as they are once all staged policies are promoted, for pods that one selects. Notes what they "
    "deny; nothing is dropped.",
    TUPLE | REGISTERS,
    ("staged_ingress",),
    "return to direction",
)
STAGED_INGRESS = Table(
    93,
    "staged_ingress",
    "The ingress rules, likewise.",
    TUPLE | REGISTERS,
    ("staged_change",),
    "return to direction",
)
STAGED_CHANGE = Table(
    94,
    "staged_change",
    "Counts for each pod what the promotion of staged policies would deny or allow, and reports what it would deny.",
    REGISTERS,
    ("audit",),
    "return to where it was looked up",
)

# Without flows on bridges without a pod that some staged policy selects.
STAGED_TABLES = frozenset({STAGED_EGRESS.number, STAGED_INGRESS.number, STAGED_CHANGE.number})
