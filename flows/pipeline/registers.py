"""Where the pipeline keeps what it knows: registers, conntrack zones, cookie bits and priorities of special values.

Every range stands here once, named, and is checked for width and overlap when this module is imported. No bare bit
number may appear anywhere else.
"""

from __future__ import annotations

import enum

from flows.openflow import match_fields as oxm
from flows.openflow.register_bits import Range, check_layout

_R = oxm.REGISTERS
SOURCE_OFPORT = Range(_R[0], 0, 15, "the port the packet came from: an ofport, NODE_ITSELF or BEHIND_NODE")
DESTINATION_OFPORT = Range(_R[1], 0, 15, "the port the packet goes to, likewise")
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
SCTP_ASSOCIATION = Range(_R[4], 8, 9, "userspace conntrack only: an SctpAssociation")
MALFORMED = Range(_R[4], 13, 13, "the packet itself is invalid, whatever connection it would belong to")
LONGER_THAN_BARE = Range(_R[4], 16, 16, "ARP, ND and MLD: the frame is longer than such a message without options")
LONGER_THAN_OPTION = Range(_R[4], 17, 17, "ND: the frame is longer than one with a single link-layer address option")
INTERPRETATION = Range(_R[4], 10, 12, "a Interpretation: how a packet is judged whose part in a connection is in doubt")
OUTPUT_OFPORT = Range(_R[5], 0, 15, "the ofport to send to")
COMPARED_SOURCE_PORT = Range(_R[6], 0, 15, "the packet's source port, only while it is compared with the other one")
COMPARED_DESTINATION_PORT = Range(_R[6], 16, 31, "its destination port, likewise")
FLOOD_CHUNK = Range(_R[7], 0, 9, "which of the flood's chunks of ports is being served")
# What every commit writes. Conntrack calls a packet new until it is answered; this tells whether it is recorded.
RECORDED = Range(oxm.CT_MARK, 0, 0, "the connection stands in the zone")
RANGES = (
    SOURCE_OFPORT, DESTINATION_OFPORT, INITIATOR_OFPORT, RESPONDER_OFPORT, SOURCE_EGRESS, SOURCE_INGRESS,
    DESTINATION_EGRESS, DESTINATION_INGRESS, EGRESS_APPLIES, INGRESS_APPLIES, SCTP_ASSOCIATION, INTERPRETATION,
    MALFORMED, LONGER_THAN_BARE, LONGER_THAN_OPTION, OUTPUT_OFPORT, COMPARED_SOURCE_PORT, COMPARED_DESTINATION_PORT,
    FLOOD_CHUNK,
)  # fmt: skip
COPIED_BYTES = 128
# Who asks a node for its addresses: a locally administered MAC address that no interface has.
PROBE_MAC = 0x024847000001
# Values of SOURCE_OFPORT and DESTINATION_OFPORT that are no ofport: OVS never gives a port a number above 0xff00.
NODE_ITSELF = 0xFFFE
BEHIND_NODE = 0xFFFD
# Ports that one flow of the flood sends to. One flow for all would be too long for a message, and made anew for every
# port that comes or goes; with this many, the flow that calls all chunks fits a message for as many ports as there are.
PORTS_PER_FLOOD_CHUNK = 64
# One zone a bridge: every connection that a policy let through stands in it, and nothing else.
CONNTRACK_ZONE = 0x4847
# Nothing is ever committed here: a packet that is looked up in it is new, and its tuple is what its header says.
EMPTY_CONNTRACK_ZONE = 0x4848


class SctpAssociation(enum.IntEnum):
    """What the learned table said of an SCTP packet (userspace datapath only): whether it answers an association."""

    UNKNOWN = 0
    REPLY = 1


class Interpretation(enum.IntEnum):
    """How a packet is judged whose part in its connection conntrack cannot tell (docs/adr/0010)."""

    AS_TRACKED = 0  # as the connection that conntrack knows, or a new one: nearly every packet
    AS_REPLY = 1  # its sender answers: the packet is turned round while it is judged, and nothing is recorded
    BOTH_WAYS = 2  # who opened the connection cannot be told: both readings must be allowed, and nothing is recorded
    AS_OPENING = 3  # a reply to what policy denies, judged as one that opens; nothing is recorded
    REPLACING = 4  # a SYN where an old connection stands in conntrack: once allowed, it takes that one's place


check_layout(RANGES)
check_layout((RECORDED,))
