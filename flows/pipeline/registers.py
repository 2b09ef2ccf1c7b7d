"""Where the pipeline keeps values: register ranges, conntrack zones and the special values in them.

Every range is declared here once, by name, and checked for width and overlap when this module is imported. No bare bit
number may appear anywhere else. Cookies are declared in `cookies`, priorities in `priorities`.
"""

from __future__ import annotations

import enum

from flows.openflow import match_fields as oxm
from flows.openflow.register_bits import Range, check_layout

_R = oxm.REGISTERS
SOURCE_OFPORT = Range(_R[0], 0, 15, "the source port: an ofport, NODE_ITSELF or BEHIND_NODE")
DESTINATION_OFPORT = Range(_R[1], 0, 15, "the destination port, likewise")
INITIATOR_OFPORT = Range(
    _R[2], 0, 15, "SOURCE_OFPORT or DESTINATION_OFPORT, whichever opened the connection: the subject of egress rules"
)
RESPONDER_OFPORT = Range(_R[3], 0, 15, "the other one: the subject of ingress rules")
SOURCE_EGRESS = Range(_R[4], 0, 0, "the source pod is isolated for egress")
SOURCE_INGRESS = Range(_R[4], 1, 1, "the source pod is isolated for ingress")
DESTINATION_EGRESS = Range(_R[4], 2, 2, "the destination pod is isolated for egress")
DESTINATION_INGRESS = Range(_R[4], 3, 3, "the destination pod is isolated for ingress")
EGRESS_APPLIES = Range(_R[4], 4, 4, "the initiator is isolated for egress")
INGRESS_APPLIES = Range(_R[4], 5, 5, "the responder is isolated for ingress")
LOOKED_UP = Range(_R[4], 6, 6, "the destination was looked up among the addresses of Services")
THROUGH_SERVICE = Range(_R[4], 7, 7, "the destination was translated from the address of a Service")
REFUSAL = Range(_R[4], 14, 14, "of the node, of an unrecorded connection: sent though invalid")
CLAIMED = Range(_R[4], 18, 18, "sent to an address of a Service that somebody else may have, too")
METERED = Range(_R[4], 19, 19, "a new connection of a pod passed the pod's meter on its way to a Service")
TO_NODE = Range(_R[4], 15, 15, "sent to an address of a node, where Services have their node ports")
TO_OTHER_NODE = Range(_R[4], 28, 28, "and this node is not the one that has the address")
REFUSED = Range(_R[4], 20, 20, "to no endpoint: the node refuses it")
FROM_BEHIND_NODE = Range(_R[4], 25, 25, "came in through the node from elsewhere")
RELEASED = Range(_R[4], 26, 26, "a DNS packet that was looked at here, or that the controller held and released")
HEARD = Range(_R[4], 27, 27, "a DNS packet, while the controller listens to these")
LOOK = Range(_R[4], 29, 30, "of a packet that policy denied, and may have learned meanwhile to allow: a Look")
SCTP_ASSOCIATION = Range(_R[4], 8, 9, "userspace conntrack only: an SctpAssociation")
BROKEN = Range(_R[4], 13, 13, "the packet is invalid by itself, whatever its connection")
LONGER_THAN_BARE = Range(_R[4], 16, 16, "ARP, ND and MLD: the frame is longer than such a message without options")
LONGER_THAN_OPTION = Range(_R[4], 17, 17, "ND: the frame is longer than one with a single link-layer address option")
INTERPRETATION = Range(
    _R[4], 10, 12, "an Interpretation: how to match a packet whose role in its connection is not known"
)
# Of each of these, the lower bit stands for tier Admin and the higher one for tier Baseline: see TierBit.
SOURCE_EGRESS_TIERS = Range(_R[7], 16, 17, "the tiers with egress rules for the source pod")
SOURCE_INGRESS_TIERS = Range(_R[7], 18, 19, "the tiers with ingress rules for the source pod")
DESTINATION_EGRESS_TIERS = Range(_R[7], 20, 21, "the tiers with egress rules for the destination pod")
DESTINATION_INGRESS_TIERS = Range(_R[7], 22, 23, "the tiers with ingress rules for the destination pod")
EGRESS_TIERS = Range(_R[7], 24, 25, "the tiers with egress rules for the initiator")
INGRESS_TIERS = Range(_R[7], 26, 27, "the tiers with ingress rules for the responder")
AUDITED = Range(_R[4], 21, 24, "why a copy of the packet goes to the controller: an Audited")
# Of each of these, the lower bit says that a staged policy selects the pod, the higher one that the pod is isolated
# once all staged policies are promoted: see StagedBit.
SOURCE_EGRESS_STAGED = Range(_R[15], 0, 1, "what staged policies mean for egress of the source pod")
SOURCE_INGRESS_STAGED = Range(_R[15], 2, 3, "the same for its ingress")
DESTINATION_EGRESS_STAGED = Range(_R[15], 4, 5, "the same for egress of the destination pod")
DESTINATION_INGRESS_STAGED = Range(_R[15], 6, 7, "the same for its ingress")
EGRESS_STAGED = Range(_R[15], 8, 9, "the same for egress of the initiator")
INGRESS_STAGED = Range(_R[15], 10, 11, "the same for ingress of the responder")
STAGED_LOOKED_UP = Range(_R[15], 12, 12, "the packet was matched with the rules as they are once promoted")
STAGED_DENIES_EGRESS = Range(_R[15], 13, 13, "once all is promoted, egress of the initiator is denied")
STAGED_DENIES_INGRESS = Range(_R[15], 14, 14, "once all is promoted, ingress of the responder is denied")
STAGED_COUNTED = Range(_R[15], 15, 15, "what promotion would change for the packet was counted")
STAGED_CHANGE = Range(_R[15], 16, 18, "while it is counted: a StagedChange")
OUTPUT_OFPORT = Range(_R[5], 0, 15, "the ofport to send to")
COMPARED_SOURCE_PORT = Range(_R[6], 0, 15, "the packet's L4 source port, only while it is compared with the other one")
COMPARED_DESTINATION_PORT = Range(_R[6], 16, 31, "its L4 destination port, likewise")
PROBED = Range(_R[7], 31, 31, "a packet of the controller's own, that `headgate explain --live` sent: not delivered")
FLOOD_CHUNK = Range(_R[7], 0, 9, "the chunk of ports that the flood is sending to")
# While a connection's endpoint is looked up, and zero again before conntrack: what differs there is a flow of its own
# in the datapath.
SERVICE_PORT = Range(_R[8], 0, 31, "the port of a Service that is connected to, as the id of a group of it")
ENDPOINT_PORT = Range(_R[9], 0, 15, "the endpoint that the client was given before: its port, 0 for none")
ENDPOINT_INDEX = Range(_R[9], 16, 31, "the endpoint that the connection was hashed to: its place in the sorted list")
ENDPOINT_ADDRESS = (
    Range(_R[10], 0, 31, "the endpoint that the client was given before: its IPv4 address, or 32 bits of an IPv6 one"),
    Range(_R[11], 0, 31, "the next 32 bits of an IPv6 address"),
    Range(_R[12], 0, 31, "likewise"),
    Range(_R[13], 0, 31, "likewise"),
)
# Every commit writes it. Conntrack calls a connection new until it is answered; this tells whether it is recorded.
RECORDED = Range(oxm.CT_MARK, 0, 0, "the connection is recorded in the zone")
# Written where THROUGH_SERVICE may be: replies of the connection are translated back in the Services' zone.
CONNECTION_OF_SERVICE = Range(oxm.CT_MARK, 1, 1, "the connection was opened to the address of a Service")
# Written where FROM_BEHIND_NODE may be: its replies go back to the node, also to an address that a tunnel leads to.
OPENED_BEHIND_NODE = Range(oxm.CT_MARK, 2, 2, "the connection was opened from behind the node")
CT_MARKS = (RECORDED, CONNECTION_OF_SERVICE, OPENED_BEHIND_NODE)
RANGES = (
    SOURCE_OFPORT, DESTINATION_OFPORT, INITIATOR_OFPORT, RESPONDER_OFPORT, SOURCE_EGRESS, SOURCE_INGRESS,
    LOOKED_UP, THROUGH_SERVICE, REFUSAL, CLAIMED, METERED, TO_NODE, TO_OTHER_NODE, REFUSED, AUDITED, FROM_BEHIND_NODE,
    RELEASED, HEARD, LOOK,
    DESTINATION_EGRESS, DESTINATION_INGRESS, EGRESS_APPLIES, INGRESS_APPLIES, SCTP_ASSOCIATION, INTERPRETATION,
    BROKEN, LONGER_THAN_BARE, LONGER_THAN_OPTION, OUTPUT_OFPORT, COMPARED_SOURCE_PORT, COMPARED_DESTINATION_PORT,
    FLOOD_CHUNK, SOURCE_EGRESS_TIERS, SOURCE_INGRESS_TIERS, DESTINATION_EGRESS_TIERS, DESTINATION_INGRESS_TIERS,
    EGRESS_TIERS, INGRESS_TIERS, PROBED,
    SOURCE_EGRESS_STAGED, SOURCE_INGRESS_STAGED, DESTINATION_EGRESS_STAGED, DESTINATION_INGRESS_STAGED,
    EGRESS_STAGED, INGRESS_STAGED, STAGED_LOOKED_UP, STAGED_DENIES_EGRESS, STAGED_DENIES_INGRESS, STAGED_COUNTED,
    STAGED_CHANGE,
    SERVICE_PORT, ENDPOINT_PORT, ENDPOINT_INDEX, *ENDPOINT_ADDRESS,
)  # fmt: skip
COPIED_BYTES = 128  # of a packet copied to the controller: enough for addresses, ARP or an advertisement
# The sender of address probes: a locally administered MAC address that no interface has.
PROBE_MAC = 0x024847000001
# Values of SOURCE_OFPORT and DESTINATION_OFPORT that are no ofport: see `port_numbers.MAX_OFPORT`.
NODE_ITSELF = 0xFFFE
BEHIND_NODE = 0xFFFD
# One flow for all ports would be too long for a message, and would change with every port. With so many ports in a
# chunk, the flow that calls all chunks fits a message for any number of ports.
PORTS_PER_FLOOD_CHUNK = 64
# One zone for each bridge: it records the connections that policy allowed, and nothing else.
CONNTRACK_ZONE = 0x4847
# Nothing is ever committed here: a packet looked up in it is new, and its tuple is what its headers say.
EMPTY_CONNTRACK_ZONE = 0x4848
# Connections to addresses of Services, with the endpoint that each was given. Policy never looks here.
SERVICE_ZONE = 0x4849
# Those of them that would come back to where they came from, with the source that they were given instead.
HAIRPIN_ZONE = 0x484A
# Pods' checks of health check node ports, with what answers them at the node. Policy has judged them before.
CHECK_ZONE = 0x484B


class TierBit(enum.IntEnum):
    """The tiers of ClusterNetworkPolicies, as bits of a range of tiers."""

    ADMIN = 1
    BASELINE = 2


class Audited(enum.IntEnum):
    """Why the controller gets a copy of an audited packet."""

    NOT = 0
    DENIED_EGRESS = 1  # by egress rules of the pod that opened the connection
    DENIED_INGRESS = 2  # by ingress rules of the pod that it was opened to
    FORGED = 3  # not from an address of the sender's own, or from another pod's
    INVALID = 4  # at odds with its connection
    BROKEN = 5  # invalid by itself
    NOBODY = 6  # nobody has the destination
    OPENED = 7  # allowed: the first packet of a connection
    # For policies that are staged: allowed, and would be denied.
    WOULD_DENY_EGRESS = 8
    WOULD_DENY_INGRESS = 9


class Look(enum.IntEnum):
    """Which look policy takes at a packet: see `flows.render.second_looks`."""

    FIRST = 0
    COPY = 1  # of one that is audited: on its way to the second
    SECOND = 2


class StagedBit(enum.IntEnum):
    """What staged policies mean for a pod in a direction."""

    SELECTED = 1
    ISOLATED = 2


class StagedChange(enum.IntEnum):
    """What the promotion of staged policies would change for a packet."""

    EGRESS_DENIED = 1  # it passes now
    INGRESS_DENIED = 2
    EGRESS_ALLOWED = 3  # it is denied now, at this end
    INGRESS_ALLOWED = 4


class SctpAssociation(enum.IntEnum):
    """Whether an SCTP packet is a reply, by the learned table (userspace datapath only)."""

    UNKNOWN = 0
    REPLY = 1


class Interpretation(enum.IntEnum):
    """How a packet is matched whose role in its connection conntrack cannot tell: see
    `flows.render.interpretations`."""

    AS_TRACKED = 0  # as the connection that conntrack knows, or a new one: nearly every packet
    AS_REPLY = 1  # as a reply: its ends are swapped while it is matched, and nothing is recorded
    BOTH_WAYS = 2  # it is not known which end opened: allowed only if both ways are; nothing is recorded
    AS_OPENING = 3  # a denied reply, matched as a packet that opens; nothing is recorded
    REPLACING = 4  # a SYN for which conntrack has an old connection: once allowed, it replaces that one


check_layout(RANGES)
check_layout(CT_MARKS)
