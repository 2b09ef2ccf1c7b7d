"""The match fields Headgate uses, as OpenFlow extensible match (OXM) definitions with their prerequisites.

Sources: OpenFlow 1.4.1 section 7.2.3.8 for class 0x8000, ovs-fields(7) for the Nicira class 0x0001. The ranges of
registers are declared in `flows.pipeline.registers`; `flows.wire.matches` has the bytes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

OPENFLOW_BASIC = 0x8000
NICIRA_1 = 0x0001
EXPERIMENTER = 0xFFFF
ONF = 0x4F4E4600  # the experimenter whose fields OVS speaks in OpenFlow 1.3 and 1.4
ERICSSON = 0x1000  # the class of further fields of neighbor discovery (ovs-fields(7))


Needs = tuple[tuple[str, tuple[int, ...]], ...]


class FieldKind(enum.Enum):
    """How a value prints in ovs-ofctl's syntax."""

    DECIMAL = "decimal"
    HEX = "hex"
    MAC = "mac"
    IPV4 = "ipv4"
    IPV6 = "ipv6"
    PORT = "port"
    CT_STATE = "ct_state"
    FRAGMENT = "fragment"
    TCP_FLAGS = "tcp_flags"


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One match field. `name` is ovs-ofctl's, `width` is in bits, `full_mask` the mask of an exact match.

    `needs` are its prerequisites: each (field name, allowed values) must be in the match, exact. Fields are compared by
    identity: matches are hashed often, and so that is cheap.
    """

    name: str
    oxm_class: int
    number: int
    width: int
    kind: FieldKind = FieldKind.DECIMAL
    maskable: bool = False
    needs: Needs = ()
    full_mask: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "full_mask", (1 << self.width) - 1)


ETH_IPV4, ETH_IPV6, ETH_ARP = 0x0800, 0x86DD, 0x0806
IP_PROTO_ICMP, IP_PROTO_TCP, IP_PROTO_UDP, IP_PROTO_ICMPV6, IP_PROTO_SCTP = 1, 6, 17, 58, 132
VLAN_PRESENT = 0x1000

_IP = (("eth_type", (ETH_IPV4, ETH_IPV6)),)
_IPV4 = (("eth_type", (ETH_IPV4,)),)
_IPV6 = (("eth_type", (ETH_IPV6,)),)
_ARP = (("eth_type", (ETH_ARP,)),)
_TCP = (*_IP, ("ip_proto", (IP_PROTO_TCP,)))
_UDP = (*_IP, ("ip_proto", (IP_PROTO_UDP,)))
_SCTP = (*_IP, ("ip_proto", (IP_PROTO_SCTP,)))
_ICMPV6 = (*_IPV6, ("ip_proto", (IP_PROTO_ICMPV6,)))
# Headgate demands the code: OVS passes the fields of neighbor discovery to the kernel datapath only where type and code
# are both matched exactly (docs/adr/0006).
_CODE = ("icmpv6_code", (0,))
_NS = (*_ICMPV6, ("icmpv6_type", (135,)), _CODE)
_NA = (*_ICMPV6, ("icmpv6_type", (136,)), _CODE)
_ND = (*_ICMPV6, ("icmpv6_type", (135, 136)), _CODE)


def _basic(name: str, number: int, width: int, kind: FieldKind, mask: bool, needs: Needs = ()) -> Field:
    return Field(name, OPENFLOW_BASIC, number, width, kind, mask, needs)


def _nicira(name: str, number: int, width: int, kind: FieldKind, mask: bool, needs: Needs = ()) -> Field:
    return Field(name, NICIRA_1, number, width, kind, mask, needs)


IN_PORT = _basic("in_port", 0, 32, FieldKind.PORT, False)
ETH_DST = _basic("eth_dst", 3, 48, FieldKind.MAC, True)
ETH_SRC = _basic("eth_src", 4, 48, FieldKind.MAC, True)
ETH_TYPE = _basic("eth_type", 5, 16, FieldKind.HEX, False)
VLAN_VID = _basic("vlan_vid", 6, 13, FieldKind.HEX, True)
IP_PROTO = _basic("ip_proto", 10, 8, FieldKind.DECIMAL, False, _IP)
IPV4_SRC = _basic("ipv4_src", 11, 32, FieldKind.IPV4, True, _IPV4)
IPV4_DST = _basic("ipv4_dst", 12, 32, FieldKind.IPV4, True, _IPV4)
TCP_SRC = _basic("tcp_src", 13, 16, FieldKind.DECIMAL, True, _TCP)
TCP_DST = _basic("tcp_dst", 14, 16, FieldKind.DECIMAL, True, _TCP)
UDP_SRC = _basic("udp_src", 15, 16, FieldKind.DECIMAL, True, _UDP)
UDP_DST = _basic("udp_dst", 16, 16, FieldKind.DECIMAL, True, _UDP)
SCTP_SRC = _basic("sctp_src", 17, 16, FieldKind.DECIMAL, True, _SCTP)
SCTP_DST = _basic("sctp_dst", 18, 16, FieldKind.DECIMAL, True, _SCTP)
ARP_OP = _basic("arp_op", 21, 16, FieldKind.DECIMAL, False, _ARP)
ARP_SPA = _basic("arp_spa", 22, 32, FieldKind.IPV4, True, _ARP)
ARP_TPA = _basic("arp_tpa", 23, 32, FieldKind.IPV4, True, _ARP)
ARP_SHA = _basic("arp_sha", 24, 48, FieldKind.MAC, True, _ARP)
ARP_THA = _basic("arp_tha", 25, 48, FieldKind.MAC, True, _ARP)
IPV6_SRC = _basic("ipv6_src", 26, 128, FieldKind.IPV6, True, _IPV6)
IPV6_DST = _basic("ipv6_dst", 27, 128, FieldKind.IPV6, True, _IPV6)
ICMPV6_TYPE = _basic("icmpv6_type", 29, 8, FieldKind.DECIMAL, False, _ICMPV6)
ICMPV6_CODE = _basic("icmpv6_code", 30, 8, FieldKind.DECIMAL, False, _ICMPV6)
ND_TARGET = _basic("nd_target", 31, 128, FieldKind.IPV6, True, _ND)
ND_SLL = _basic("nd_sll", 32, 48, FieldKind.MAC, True, _NS)
ND_TLL = _basic("nd_tll", 33, 48, FieldKind.MAC, True, _NA)
# Twelve bits in two bytes (ovs-fields(7)).
TCP_FLAGS = Field("tcp_flags", EXPERIMENTER, 42, 12, FieldKind.TCP_FLAGS, True, _TCP)

# Only written, never matched: the flags of a neighbor advertisement with what is reserved after them, and its option.
ND_RESERVED = Field("nd_reserved", ERICSSON, 1, 32, FieldKind.DECIMAL, False, _ND)
ND_OPTIONS_TYPE = Field("nd_options_type", ERICSSON, 2, 8, FieldKind.DECIMAL, False, _ND)

REGISTERS = tuple(_nicira(f"reg{n}", n, 32, FieldKind.HEX, True) for n in range(16))
IP_FRAG = _nicira("ip_frag", 26, 8, FieldKind.FRAGMENT, True, _IP)
IP_TTL = _nicira("ip_ttl", 29, 8, FieldKind.DECIMAL, False, _IP)
# The outer addresses of a tunneled packet.
TUN_SRC = _nicira("tun_src", 31, 32, FieldKind.IPV4, True)
TUN_DST = _nicira("tun_dst", 32, 32, FieldKind.IPV4, True)
TUN_IPV6_SRC = _nicira("tun_ipv6_src", 109, 128, FieldKind.IPV6, True)
TUN_IPV6_DST = _nicira("tun_ipv6_dst", 110, 128, FieldKind.IPV6, True)
PKT_MARK = _nicira("pkt_mark", 33, 32, FieldKind.HEX, True)
CONJ_ID = _nicira("conj_id", 37, 32, FieldKind.DECIMAL, False)
CT_STATE = _nicira("ct_state", 105, 32, FieldKind.CT_STATE, True)
CT_ZONE = _nicira("ct_zone", 106, 16, FieldKind.DECIMAL, True)
CT_MARK = _nicira("ct_mark", 107, 32, FieldKind.HEX, True)
CT_NW_PROTO = _nicira("ct_nw_proto", 119, 8, FieldKind.DECIMAL, False)
CT_NW_SRC = _nicira("ct_nw_src", 120, 32, FieldKind.IPV4, True, _IPV4)
CT_NW_DST = _nicira("ct_nw_dst", 121, 32, FieldKind.IPV4, True, _IPV4)
CT_IPV6_SRC = _nicira("ct_ipv6_src", 122, 128, FieldKind.IPV6, True, _IPV6)
CT_IPV6_DST = _nicira("ct_ipv6_dst", 123, 128, FieldKind.IPV6, True, _IPV6)
CT_TP_SRC = _nicira("ct_tp_src", 124, 16, FieldKind.DECIMAL, True)
CT_TP_DST = _nicira("ct_tp_dst", 125, 16, FieldKind.DECIMAL, True)

# Fields that need a ct_state that is tracked and not invalid (ovs-fields(7), prerequisite CT).
NEED_CT_STATE = frozenset({CT_NW_PROTO, CT_NW_SRC, CT_NW_DST, CT_IPV6_SRC, CT_IPV6_DST, CT_TP_SRC, CT_TP_DST})

ALL_FIELDS: tuple[Field, ...] = (
    IN_PORT, ETH_DST, ETH_SRC, ETH_TYPE, VLAN_VID, IP_PROTO, IPV4_SRC, IPV4_DST, TCP_SRC, TCP_DST, TCP_FLAGS,
    UDP_SRC, UDP_DST, SCTP_SRC, SCTP_DST, ARP_OP, ARP_SPA, ARP_TPA, ARP_SHA, ARP_THA, IPV6_SRC, IPV6_DST, ICMPV6_TYPE,
    ICMPV6_CODE, ND_TARGET, ND_SLL, ND_TLL, TUN_SRC, TUN_DST, TUN_IPV6_SRC, TUN_IPV6_DST, *REGISTERS,
    IP_FRAG, IP_TTL, PKT_MARK, CONJ_ID, CT_STATE, CT_ZONE, CT_MARK,
    CT_NW_PROTO, CT_NW_SRC, CT_NW_DST, CT_IPV6_SRC, CT_IPV6_DST, CT_TP_SRC, CT_TP_DST,
)  # fmt: skip
FIELDS_BY_NAME = {field.name: field for field in ALL_FIELDS}
FIELDS_BY_NUMBER = {(field.oxm_class, field.number): field for field in ALL_FIELDS}


class CtState(enum.IntFlag):
    """Bits of ct_state (ovs-fields(7))."""

    NEW = 0x01
    EST = 0x02
    REL = 0x04
    RPL = 0x08
    INV = 0x10
    TRK = 0x20


class TcpFlags(enum.IntFlag):
    """Bits of tcp_flags (RFC 9293, section 3.1)."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20
    ECE = 0x40
    CWR = 0x80
    NS = 0x100


class Fragment(enum.IntFlag):
    """Bits of ip_frag (ovs-fields(7)): ANY is set on every fragment, LATER on all but the first."""

    ANY = 0x01
    LATER = 0x02
