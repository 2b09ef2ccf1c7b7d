"""Where the pipeline keeps what it knows: registers, conntrack zones, cookie bits and priorities of special values.

Every range stands here once, named, and is checked for width and overlap when this module is imported. No bare bit
number may appear anywhere else.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from flows.openflow import match_fields as oxm


@dataclass(frozen=True, slots=True)
class Range:
    """Bits `start` to `end`, both included, of a register."""

    register: oxm.Field
    start: int
    end: int
    meaning: str

    @property
    def width(self) -> int:
        """The number of bits."""
        return self.end - self.start + 1

    @property
    def mask(self) -> int:
        """These bits' mask within the register."""
        return ((1 << self.width) - 1) << self.start

    def place(self, value: int) -> int:
        """`value` shifted to its place. Raises ValueError when it does not fit."""
        if value < 0 or value >> self.width:
            raise ValueError(f"{value} does not fit the {self.width} bits of {self.register.name} for {self.meaning}")
        return value << self.start


_R = oxm.REGISTERS
SOURCE = Range(_R[0], 0, 15, "the port the packet came from: an ofport, NODE_ITSELF or BEHIND_NODE")
DESTINATION = Range(_R[1], 0, 15, "the port the packet goes to, likewise")
INITIATOR = Range(_R[2], 0, 15, "SOURCE or DESTINATION, whichever opened the connection: the subject of egress rules")
RESPONDER = Range(_R[3], 0, 15, "the other one: the subject of ingress rules")
SOURCE_EGRESS = Range(_R[4], 0, 0, "the source pod is isolated for egress")
SOURCE_INGRESS = Range(_R[4], 1, 1, "the source pod is isolated for ingress")
DESTINATION_EGRESS = Range(_R[4], 2, 2, "the destination pod is isolated for egress")
DESTINATION_INGRESS = Range(_R[4], 3, 3, "the destination pod is isolated for ingress")
EGRESS_APPLIES = Range(_R[4], 4, 4, "the initiator is isolated for egress")
INGRESS_APPLIES = Range(_R[4], 5, 5, "the responder is isolated for ingress")
SCTP_ASSOCIATION = Range(_R[4], 8, 9, "userspace conntrack only: an SctpAssociation")
BROKEN = Range(_R[4], 13, 13, "the packet itself is invalid, whatever connection it would belong to")
LONGER = Range(_R[4], 16, 16, "ARP, ND and MLD: the frame is longer than such a message without options")
LONGEST = Range(_R[4], 17, 17, "ND: the frame is longer than one with a single link-layer address option")
READING = Range(_R[4], 10, 12, "a Reading: how a packet is judged whose part in a connection is in doubt")
OUTPUT = Range(_R[5], 0, 15, "the ofport to send to")
PORT_FROM = Range(_R[6], 0, 15, "the packet's source port, only while it is compared with the other one")
PORT_TO = Range(_R[6], 16, 31, "its destination port, likewise")
FLOOD_CHUNK = Range(_R[7], 0, 9, "which of the flood's chunks of ports is being served")
# What every commit writes. Conntrack calls a packet new until it is answered; this tells whether it is recorded.
RECORDED = Range(oxm.CT_MARK, 0, 0, "the connection stands in the zone")

RANGES = (
    SOURCE, DESTINATION, INITIATOR, RESPONDER, SOURCE_EGRESS, SOURCE_INGRESS, DESTINATION_EGRESS, DESTINATION_INGRESS,
    EGRESS_APPLIES, INGRESS_APPLIES, SCTP_ASSOCIATION, READING, BROKEN, LONGER, LONGEST, OUTPUT, PORT_FROM, PORT_TO,
    FLOOD_CHUNK,
)  # fmt: skip

# OpenFlow's LOCAL in 16 bits, which output:reg takes (ovs-actions(7)), and in 32 bits, as in_port has it.
LOCAL_16 = 0xFFFE
LOCAL_32 = 0xFFFFFFFE
IN_PORT_32 = 0xFFFFFFF8
IN_PORT_16 = 0xFFF8
# Where a copy of a packet goes to the controller, and how much of it: enough for addresses, ARP, or an advertisement.
CONTROLLER_32 = 0xFFFFFFFD
COPIED_BYTES = 128
# Who asks a node for its addresses: a locally administered MAC address that no interface has.
ASKER_MAC = 0x024847000001
# Values of SOURCE and DESTINATION that are no ofport: OVS never gives a port a number above 0xff00.
NODE_ITSELF = 0xFFFE
BEHIND_NODE = 0xFFFD
MAX_OFPORT = 0xFEFF
# Ports that one flow of the flood sends to. One flow for all would be too long for a message, and made anew for every
# port that comes or goes; with this many, the flow that calls all chunks fits a message for as many ports as there are.
FLOOD_PORTS = 64

# One zone a bridge: every connection that a policy let through stands in it, and nothing else.
CT_ZONE = 0x4847
# Nothing is ever committed here: a packet that is looked up in it is new, and its tuple is what its header says.
CT_ZONE_EMPTY = 0x4848


class SctpAssociation(enum.IntEnum):
    """What the learned table said of an SCTP packet (userspace datapath only): whether it answers an association."""

    UNKNOWN = 0
    REPLY = 1


class Reading(enum.IntEnum):
    """How a packet is judged whose part in its connection conntrack cannot tell (docs/adr/0010)."""

    RECORDED = 0  # as the connection that conntrack knows, or a new one: nearly every packet
    BACKWARD = 1  # its sender answers: the packet is turned round while it is judged, and nothing is recorded
    EITHER = 2  # who opened the connection cannot be told: both readings must be allowed, and nothing is recorded
    ITS_OWN = 3  # a reply to what policy denies, judged as one that opens; nothing is recorded
    REPLACING = 4  # a SYN where an old connection stands in conntrack: once allowed, it takes that one's place


COOKIE_PREFIX = 0x4847
COOKIE_PREFIX_SHIFT = 48
COOKIE_KIND_SHIFT = 40
COOKIE_MASK = 0xFFFF << COOKIE_PREFIX_SHIFT
COOKIE_NUMBER_MASK = (1 << COOKIE_KIND_SHIFT) - 1


class CookieKind(enum.IntEnum):
    """What a cookie's number (its low 40 bits) counts."""

    PIPELINE = 0  # a flow that is there on every switch; number 0
    PORT = 1  # an ofport: admission to and delivery at a port
    CLAUSE = 2  # one dimension of one or more rules; number 0
    RULE = 3  # a conjunction id: the flow that allows, and counts, for one rule
    DENY_EGRESS = 4  # an ofport: what its isolation for egress dropped
    DENY_INGRESS = 5  # an ofport: what its isolation for ingress dropped
    LEARNED = 6  # made by the switch's own learn action: never compared, never deleted
    SENT = 7  # an ofport: admission of what it sends from its own addresses, and how much that is
    INVALID = 8  # an ofport: what of that conntrack called invalid, other than broken packets
    BROKEN = 9  # an ofport: what of that is invalid by itself, as with a wrong checksum


def cookie(kind: CookieKind, number: int = 0) -> int:
    """A cookie of ours. Raises ValueError when the number is wider than 40 bits."""
    if number & ~COOKIE_NUMBER_MASK:
        raise ValueError(f"cookie number {number} is wider than {COOKIE_KIND_SHIFT} bits")
    return COOKIE_PREFIX << COOKIE_PREFIX_SHIFT | kind << COOKIE_KIND_SHIFT | number


def read_cookie(value: int) -> tuple[CookieKind, int] | None:
    """Kind and number of a cookie, or None for a foreign one."""
    if value >> COOKIE_PREFIX_SHIFT != COOKIE_PREFIX:
        return None
    kind = value >> COOKIE_KIND_SHIFT & 0xFF
    if kind not in CookieKind.__members__.values():
        return None
    return CookieKind(kind), value & COOKIE_NUMBER_MASK


class LayoutError(Exception):
    """Two ranges overlap, or one is wider than its register."""


def check_layout(ranges: tuple[Range, ...]) -> None:
    """Raise LayoutError unless every range lies within its register and no two share a bit."""
    taken: dict[str, int] = {}
    for one in ranges:
        if not 0 <= one.start <= one.end < one.register.width:
            raise LayoutError(f"bits {one.start}..{one.end} are not within {one.register.name}")
        if taken.get(one.register.name, 0) & one.mask:
            raise LayoutError(f"{one.register.name} bits {one.start}..{one.end} ({one.meaning}) are taken already")
        taken[one.register.name] = taken.get(one.register.name, 0) | one.mask


check_layout(RANGES)
check_layout((RECORDED,))
