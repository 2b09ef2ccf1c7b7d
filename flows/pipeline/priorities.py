"""Every priority of every flow, by name: grouped by table, highest first, each with what it is for.

A name starts with its table's name. RULES_ stands for the two tables `egress` and `ingress`, DEFAULT_ for
`egress_default` and `ingress_default`. docs/pipeline.md lists all of this. No bare priority may appear anywhere else; a
test renders bridges and compares.
"""

from __future__ import annotations

from typing import NamedTuple


class DeclaredPriority(NamedTuple):
    """One priority of one or more tables, and what its flows do."""

    tables: tuple[str, ...]
    number: int
    purpose: str


DECLARED_PRIORITIES: list[DeclaredPriority] = []


def _declare(tables: str, number: int, purpose: str) -> int:
    DECLARED_PRIORITIES.append(DeclaredPriority(tuple(tables.split()), number, purpose))
    return number


# Above all others, so that the classifier looks here first whatever else it finds. See `flows.render.cache_marks`.
CACHE_MARK = _declare(
    "classify destination direction output",
    65535,
    "userspace datapath: a cache mark, which no packet matches",
)

CLASSIFY_VLAN = _declare("classify", 300, "a frame with a VLAN tag: dropped")
CLASSIFY_PROBE_ANSWER = _declare("classify", 295, "the node's answer to a probe of ours: copied to the controller")
CLASSIFY_PROBE_MAC = _declare("classify", 290, "anything else that is sent to the prober's MAC address: dropped")
CLASSIFY_OWN_DISCOVERY = _declare("classify", 230, "ND and MLD of a pod or the node about its own addresses: let in")
CLASSIFY_SPOOFED_DISCOVERY = _declare("classify", 220, "ND about these addresses from any other port: dropped")
CLASSIFY_OUTSIDE_DISCOVERY = _declare("classify", 215, "other ND and MLD from the uplink or the node: let in")
CLASSIFY_OTHER_DISCOVERY = _declare("classify", 210, "any other ND and MLD: dropped")
CLASSIFY_OWN_FRAGMENT = _declare("classify", 205, "a fragment from a pod's own address: through the pod's meter")
CLASSIFY_CHECKED = _declare("classify", 203, "routing: an answer to a health check: becomes the node's own")
CLASSIFY_OWN_ADDRESS = _declare("classify", 200, "IP and ARP of a pod or the node from its own address: let in")
CLASSIFY_TUNNEL_END = _declare("classify", 199, "from a tunnel to our own end: looked up again, as from the tunnel")
CLASSIFY_AUDITED = _declare("classify", 102, "anything else from the port of an audited pod: reported, and dropped")
CLASSIFY_SPOOFED = _declare("classify", 100, "IP and ARP from these addresses at any other port: dropped")
CLASSIFY_CONFIRMED_ADDRESS = _declare("classify", 60, "IP of the node from an address that it answered a probe for")
CLASSIFY_OUTSIDE = _declare("classify", 50, "other IP and ARP from the uplink or the node: let in")
CLASSIFY_OTHER_OF_POD = _declare("classify", 10, "anything else from a pod's port: dropped")

ND_GUARD_NO_TARGET = _declare("nd_guard", 200, "a solicitation without a target, so cut short: dropped")
ND_GUARD_OWN_OPTION = _declare("nd_guard", 100, "ND with one option, the pod's own MAC address: let in")
ND_GUARD_NO_OPTION = _declare("nd_guard", 60, "ND without options: let in")
ND_GUARD_HIDDEN_OPTION = _declare("nd_guard", 50, "ND whose option the switch does not see: dropped")
ND_GUARD_BOUNDED = _declare("nd_guard", 50, "ARP, router solicitations and MLD reports of allowed length: let in")
ND_GUARD_ANY_OPTION = _declare("nd_guard", 40, "ND with one option, of a pod whose MAC address is not known: let in")

NEIGHBOR_TO_ROUTERS = _declare("neighbor", 220, "router solicitations and MLD reports: to the node and the uplink only")
NEIGHBOR_ABOUT_ITSELF = _declare(
    "neighbor", 210, "an announcement or duplicate address detection: flooded; routing: dropped"
)
NEIGHBOR_ASKED = _declare("neighbor", 200, "a question for an address of a pod or the node: to its port")
NEIGHBOR_MAC = _declare("neighbor", 190, "to the MAC address of a pod or the node: to its port")
NEIGHBOR_IPV6 = _declare("neighbor", 180, "to the IPv6 address of a pod whose MAC address is not known: to its port")
NEIGHBOR_MULTICAST = _declare("neighbor", 100, "any other multicast: flooded")
NEIGHBOR_FROM_UPLINK = _declare("neighbor", 50, "anything else from the uplink: dropped")
NEIGHBOR_TO_UPLINK = _declare("neighbor", 40, "anything else: to the uplink")

NEIGHBOR_DUPLICATE = _declare("neighbor", 40, "routing: looks for a duplicate of its address: nobody answers")
NEIGHBOR_ANSWER = _declare("neighbor", 30, "routing: any other question: answered with the gateway's MAC address")

ND_ANSWER_SENT = _declare("nd_answer", 10, "the gateway's advertisement: sent back")

FLOOD_CHUNK_PORTS = _declare("flood", 10, "the ports of one chunk; above the miss, which calls the chunks")

HAIRPIN_OF_NODE = _declare("hairpin", 110, "from the node: back to it")
HAIRPIN_FROM_TUNNEL = _declare("hairpin", 105, "from the tunnel: to the node")
HAIRPIN_OF_POD = _declare("hairpin", 100, "from a pod: back to it")

SERVICE_PROBED = _declare("service", 400, "a live probe: to the controller; Services are not probed")
SERVICE_EXPIRED = _declare("service direct conntrack", 390, "userspace datapath: an expired fragment: dropped")
SERVICE_LATER_FRAGMENT = _declare(
    "service", 385, "userspace datapath: a later fragment that opens: a copy of it waits for the first"
)
SERVICE_FRAGMENT = _declare("service", 380, "userspace datapath: a first fragment that opens: after the later ones")
SERVICE_OF_POD = _declare("service", 300, "what a pod opens: through the pod's meter first")
SERVICE_REPLY_CLAIMED = _declare("service", 220, "to such an address, a reply: on, untranslated: policy comes first")
SERVICE_KNOWN_CLAIMED = _declare("service", 210, "to such an address, of a known connection: translated")
SERVICE_KNOWN = _declare("service", 200, "a packet of a known connection: on, translated")
SERVICE_FROM_TUNNEL = _declare("service", 190, "a new connection from the tunnel: on: its own switch has translated it")
SERVICE_FROM_OUTSIDE = _declare("service", 110, "policy Local: from outside, to an endpoint here, or dropped")
SERVICE_AT_NODE = _declare("service", 107, "policy Local: to a node port of another node, to an endpoint there")
SERVICE_AT_OTHERS = _declare("service", 105, "policy Local: to a node port of another node without endpoints: dropped")
SERVICE_PORT = _declare("service", 100, "a new connection to a port of a Service: to its endpoints, or dropped")
SERVICE_HOST_PORT = _declare("service", 95, "a new connection to a host port: to its pod")
SERVICE_OTHER_SOURCE = _declare("service", 90, "to a load balancer from a source that it does not admit: dropped")
SERVICE_NO_PORT = _declare("service", 20, "to no port of a Service, in a range that only Services have: refused")
SERVICE_OTHER = _declare("service", 10, "anything else: on, untranslated")

AFFINITY_LEARNED = _declare("affinity", 100, "a learned flow: the endpoint of one client of one port")

KEPT_ENDPOINT_SENT = _declare("kept_endpoint", 100, "to an endpoint that the port still has: translated")
KEPT_ENDPOINT_NONE = _declare("kept_endpoint", 10, "the client has no endpoint that the port still has: hashed")

HASHED_ENDPOINT_SENT = _declare("hashed_endpoint", 100, "to one endpoint of a port: translated")

WITH_COPIES = _declare(
    "conntrack refuse", 220, "userspace datapath: a first fragment, of whose others copies wait: completes the packet"
)
REFUSE_TO_NODE = _declare("refuse", 100, "from the node: back to it, which refuses it")
REFUSE_OF_OTHERS = _declare("refuse", 10, "anything else: to the node, which refuses it")

DIRECT_SCTP = _declare("direct", 110, "userspace datapath: SCTP, whose connections are not known here")
DIRECT_OF_SERVICE = _declare(
    "direct", 105, "UDP to a port of a Service, sent by who opened: looked up, also where it stood before"
)
DIRECT_RECORDED = _declare("direct", 100, "a connection to or from the address itself: on, as it is")
DIRECT_OTHER = _declare("direct", 10, "anything else: looked up in the Services' zone")

CONNTRACK_HAIRPIN = _declare("conntrack", 210, "routing: to a source that the switch gave: its zone first")
CONNTRACK_FROM_TUNNEL = _declare("conntrack", 205, "routing: from the tunnel to the node: the Services' zone first")
CONNTRACK_SERVICE = _declare("conntrack", 200, "routing: to an address of Services: looked up in their zone first")
CONNTRACK_SCTP = _declare("conntrack", 100, "userspace datapath: SCTP, by the learned table first")
CONNTRACK_IP = _declare("conntrack", 10, "IP: looked up in the bridge's zone")

SCTP_REPLY = _declare("sctp", 100, "a reply, as the learned table says: looked up in the bridge's zone")
SCTP_OTHER = _declare("sctp", 10, "any other SCTP: looked up in the zone that stays empty")

SCTP_REPLIES_LEARNED = _declare("sctp_replies", 100, "a learned flow: the replies of one association")

DESTINATION_COPY = _declare("destination", 220, "a copy of a denied packet: to its second look")
DESTINATION_NODE_FROM_UPLINK = _declare("destination", 210, "from the uplink to the node: straight there, no policy")
DESTINATION_HAIRPIN = _declare("destination", 207, "through a Service back to where it came from: gets another source")
DESTINATION_ITSELF = _declare("destination", 205, "from a pod to itself: back to its port")
DESTINATION_HERE = _declare("destination", 200, "to an address of a pod or the node here")
DESTINATION_OTHER_MAC = _declare("destination", 150, "to a pod's address with another MAC address: dropped")
DESTINATION_LOCAL_FROM_UPLINK = _declare("destination", 140, "from the uplink to the bridge's MAC: straight there")
DESTINATION_CONFIRMED_SCTP = _declare("destination", 121, "userspace datapath: SCTP replies to such an address")
DESTINATION_CONFIRMED_REPLY = _declare("destination", 120, "replies to an address that the node answered a probe for")
DESTINATION_FROM_TUNNEL = _declare("destination", 115, "anything else from the tunnel: dropped")
DESTINATION_SERVED_NODE = _declare("destination", 112, "replies to another node that came through ours")
DESTINATION_REMOTE = _declare("destination", 110, "to another node or its pods: through the tunnel")
DESTINATION_NO_POD_AUDITED = _declare("destination", 106, "routing: likewise, where pods are audited: reported")
DESTINATION_NO_POD = _declare("destination", 105, "routing: to an address of this node's pod ranges: no pod has it")
DESTINATION_BEHIND_NODE = _declare("destination", 100, "to the bridge's MAC address: to what is behind the node")
DESTINATION_FROM_UPLINK = _declare("destination", 90, "anything else from the uplink: dropped")
DESTINATION_NODE_TO_UPLINK = _declare("destination", 75, "anything else from the node: straight to the uplink")
DESTINATION_UPLINK = _declare("destination", 70, "anything else: to the uplink")
DESTINATION_SERVICE_BEHIND_NODE = _declare("destination", 66, "from the node through a Service to what is behind it")
DESTINATION_BACK_TO_NODE = _declare("destination", 65, "routing: anything else from the node: dropped")
DESTINATION_ROUTED_ON = _declare("destination", 60, "routing: anything else: to the node, which routes it on")
DESTINATION_PROBED = _declare("destination", 8, "a live probe that has no destination: to the controller")

DESTINATION_NOBODY = _declare("destination", 5, "where pods are audited: there is no such destination: reported")

STATE_REFUSAL = _declare("state", 225, "routing: a reset or ICMP error of the node that refuses: sent")
STATE_UNKNOWN_TO_TUNNEL = _declare("state", 222, "between node and tunnel, of no recorded connection: sent too")
STATE_NODE_AND_TUNNEL = _declare("state", 220, "between the node and the tunnel: no policy")
STATE_STALE_SYN = _declare("state", 210, "userspace datapath: a SYN at odds with an old connection: matched again")
STATE_BROKEN_UDP = _declare("state", 205, "invalid UDP is broken, for UDP has no state: counted")
STATE_INVALID = _declare("state", 202, "invalid and tracked: counted")
STATE_INVALID_UNTRACKED = _declare("state", 200, "invalid and not tracked: an expired fragment: dropped")
STATE_LATER_FRAGMENT = _declare("state", 190, "a later fragment has no ports: waits in reassembly for the first")
STATE_RELATED = _declare("state", 185, "an ICMP error about a known connection")
STATE_SCTP_REPLY = _declare("state", 180, "userspace datapath: original by conntrack, a reply by the learned table")
STATE_MIDSTREAM = _declare("state", 150, "new by conntrack, but no SYN: TCP in midstream")
STATE_TRACKED = _declare("state", 110, "everything else that is tracked")

MIDSTREAM_RESET = _declare("midstream", 110, "a client's reset of a connection that conntrack does not know: dropped")
MIDSTREAM_FROM_CLIENT = _declare("midstream", 100, "from an ephemeral port to another: it opens")
MIDSTREAM_FRAGMENT = _declare("midstream", 90, "a fragment, whose ends cannot be swapped: dropped")
MIDSTREAM_TO_CLIENT = _declare("midstream", 80, "to an ephemeral port from another: a reply")
MIDSTREAM_UNKNOWN = _declare("midstream", 10, "the ports do not tell: must be allowed both ways")

RELATED_UNMATCHED = _declare(
    "related", 110, "kernel's datapath: the connection is not known, and an end of it has rules: dropped"
)
RELATED_ALLOWED = _declare("related", 100, "from the node, the uplink, or a pod about its own connection")

DIRECTION_BROKEN = _declare("direction", 130, "userspace datapath: invalid in the empty zone, so broken: counted")
DIRECTION_AS_REPLY_STAGED = _declare("direction", 128, "as a reply, with staged policies: looked up in `staged_egress`")
DIRECTION_REPLY_STAGED = _declare("direction", 127, "a reply, with staged policies for either end: likewise")
DIRECTION_ORIGINAL_STAGED = _declare("direction", 126, "anything else with staged policies for either end: likewise")
DIRECTION_AS_REPLY_TIERED = _declare("direction", 125, "interpreted as a reply, of or to a pod with rules of a tier")
DIRECTION_AS_REPLY = _declare("direction", 120, "interpreted as a reply: the destination opened")
DIRECTION_REPLY_TIERED = _declare("direction", 115, "a reply, of or to a pod with rules of a tier")
DIRECTION_REPLY = _declare("direction", 110, "a reply: the destination opened")
DIRECTION_ORIGINAL_TIERED = _declare("direction", 105, "anything else, of or to a pod with rules of a tier")
DIRECTION_ORIGINAL = _declare("direction", 100, "anything else: the source opened")

_TIERS = "admin_egress baseline_egress admin_ingress baseline_ingress"
TIERS_NODE = _declare("admin_egress", 65400, "the node opens it to its own pods: no policy")
TIERS_NONE = _declare(_TIERS, 65300, "no rule of the tier selects the subject in this direction")
TIERS_UNSEEN_PORTS = _declare(_TIERS, 65250, "userspace datapath: a fragment of SCTP, whose ports are not seen: denied")
TIERS_CLOSED = _declare(_TIERS, 65200, "the rules cannot be rendered: everything is denied")
# A rule has its order less (`flows.policy.levels`): 64 for each of the priorities 0 to 1001.
TIERS = _declare(_TIERS, 65000, "the rules, by their order; later ones take the priorities below")
REFUSED_SAME_PORT = _declare("egress_refused ingress_refused", 10, "a refused reply: looked up in `same_port`")

STAGED_NODE = _declare("staged_egress", 29000, "the node and its own pods: no policy")
STAGED_NOT_ISOLATED = _declare("staged_egress staged_ingress", 28000, "nothing isolates the subject once promoted")
STAGED_RULES = _declare("staged_egress staged_ingress", 20000, "the rules; bands of them take the priorities below")
STAGED_DENIED = _declare("staged_egress staged_ingress", 10, "no rule allows it: noted")
STAGED_OF_POD = _declare("staged_change", 100, "what promotion would change for one pod: counted")

SAME_PORT_EQUAL = _declare("same_port", 100, "both ports are one, bit by bit: matched again as a packet that opens")

RULES_ITSELF = _declare("egress", 30000, "a pod always reaches itself")
RULES_NODE = _declare("egress", 29000, "the node and its own pods: no policy")
RULES_NOT_ISOLATED = _declare("egress ingress", 28000, "nothing isolates the subject in this direction")
# Conjunctive matches, in up to `render.rules.MAX_BANDS` bands: this priority and those below it.
RULES = _declare("egress ingress", 20000, "the rules; bands of them take the priorities below")
RULES_SAME_PORT = _declare("egress ingress", 10, "a refused reply of UDP or SCTP: looked up in `same_port`")

DEFAULT_PROBED = _declare("egress_default ingress_default", 900, "a denied live probe: to the controller, not counted")
DEFAULT_MATCHED_AGAIN = _declare("egress_default ingress_default", 200, "matched again elsewhere: not counted here")
DEFAULT_LOOKED_AGAIN = _declare(
    "egress_default ingress_default", 190, "denied at the second look, too: counted at the first"
)
DEFAULT_STAGED = _declare(
    "egress_default ingress_default", 150, "promotion of staged policies would allow it: looked up in `staged_change`"
)
DEFAULT_OF_POD = _declare("egress_default ingress_default", 100, "what the isolation of one pod drops: counted")

LIMIT_PROBED = _declare("limit", 500, "a live probe: no meter")
LIMIT_STAGED = _declare("limit", 400, "promotion of staged policies would deny it: looked up in `staged_change`")
LIMIT_UNRECORDED = _declare("limit", 300, "an interpreted packet is never recorded: no meter")
LIMIT_SCTP = _declare("limit", 200, "userspace datapath: SCTP always looks new, and its flows are limited: no meter")
LIMIT_OF_POD = _declare("limit", 100, "what a pod opens: through the pod's meter")

COMMIT_PROBED = _declare("commit", 400, "a live probe: never recorded")
COMMIT_AUDITED = _declare("commit", 310, "opens a connection of an audited pod: recorded and sent, then reported")
COMMIT_INTERPRETED = _declare("commit", 300, "an interpreted packet: sent, matched the other way too, or put in place")
COMMIT_NEW_FRAGMENT = _declare("commit", 200, "a fragment that opens: reassembled, and recorded")
COMMIT_FRAGMENT = _declare("commit", 190, "any other fragment: reassembled")
COMMIT_SCTP_REPLY = _declare("commit", 160, "userspace datapath: an SCTP reply is not learned from")
COMMIT_SCTP_OF_POD = _declare("commit", 155, "userspace datapath: SCTP of a pod, learned under the pod's own limit")
COMMIT_SCTP = _declare("commit", 150, "userspace datapath: other SCTP, learned under the bridge's limit")
COMMIT_NEW_QUERY = _declare("commit", 110, "kernel's datapath: DNS that opens: recorded, and looked up again")
COMMIT_NEW = _declare("commit", 100, "a packet that opens: recorded")

OUTPUT_PROBED = _declare("output", 110, "a live probe: to the controller instead of its port")
OUTPUT_INVALID = _declare("output", 100, "an expired fragment: dropped")
OUTPUT_DNS = _declare("output", 98, "DNS of a configured server, once: looked at in `answers`")
OUTPUT_MASQUERADED = _declare("output", 95, "routing: from outside through a Service to another node: gets our source")
OUTPUT_CHECK = _declare("output", 93, "routing: to a health check node port of the node: to what answers there")
OUTPUT_OF_SERVICE = _declare("output", 90, "routing: a reply of a Service: its source becomes the Service's address")
OUTPUT_REFUSED = _declare("output", 80, "routing: to no endpoint: to the node, which refuses it")
OUTPUT_ROUTED = _declare("output", 60, "routing: gets the MAC addresses of its next hop")

ANSWERS_HELD = _declare("answers", 100, "an answer to a pod with rules for names: to the controller, which releases it")
ANSWERS_QUERY = _declare("answers", 90, "a query of such a pod: copied to the controller")

LISTENING_NOW = _declare("listening", 100, "while the controller listens")

NAMES_LEARNED = _declare("names", 100, "what one pod learned of one address, as a note")

SEND_AS_IT_IS = _declare("send", 100, "from the node or the tunnel: sent with the hops that it has")
SEND_EXPIRED = _declare("send", 90, "of a pod, with no hop left: to the node, which answers with an ICMP error")
SEND_ROUTED = _declare("send", 80, "of a pod: sent with one hop less")

INVALID_PROBED = _declare("invalid", 200, "an invalid live probe: to the controller, not counted")
INVALID_BROKEN = _declare("invalid", 110, "broken packets of one pod: counted, and dropped")
INVALID_OF_POD = _declare("invalid", 100, "other invalid packets of one pod: counted, and dropped")

DENY_LOOKED_AGAIN = _declare("deny", 120, "denied at the second look, too: by its own port and address, and dropped")
DENY_SECOND_LOOK = _declare("deny", 110, "opens a connection of a pod with rules for names: matched once more")
DENY_COPY = _declare("deny", 100, "of the node, from an address that nobody has: copied to the controller")

AUDIT_OF_SENDER = _declare("audit", 100, "what a pod sent: through the pod's meter")
AUDIT_OF_RECEIVER = _declare("audit", 50, "anything else that is for an audited pod: through that pod's meter")

# A table's miss flow stands at priority 1, not 0: a bridge made without a controller has a foreign NORMAL flow at 0.
MISS = 1
