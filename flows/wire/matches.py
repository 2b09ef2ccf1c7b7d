"""Matches as bytes: `ofp_match` of OpenFlow 1.4, with the fields in the order and form in which OVS dumps them.

The order is that of OVS 3.1 (`nx_put_raw`); tests hold it against a real switch. Fields and their prerequisites are
declared in `flows.openflow.match_fields`.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from flows.openflow import match_fields as oxm
from flows.openflow.match import FlowError, Match, Term
from flows.openflow.match import match as build_match
from flows.wire.errors import CodecError

OFPMT_OXM = 1
MATCH_HEADER = struct.Struct("!HH")  # ofp_match: type, length without padding
_OXM_HEADER = struct.Struct("!HBB")
# OVS has only these two bits in ip_frag, so a mask with both is an exact match (ovs-fields(7)).
_IP_FRAG_BITS = 3
_CACHED_TERMS = 1 << 16
_CACHED_MATCHES = 1 << 12

_DUMP_ORDER = (
    oxm.CONJ_ID, oxm.IN_PORT, oxm.ETH_SRC, oxm.ETH_DST, oxm.ETH_TYPE, oxm.VLAN_VID, oxm.IPV4_SRC, oxm.IPV4_DST,
    oxm.IPV6_SRC, oxm.IPV6_DST, oxm.IP_FRAG, oxm.IP_TTL, oxm.IP_PROTO, oxm.TCP_SRC, oxm.TCP_DST, oxm.TCP_FLAGS,
    oxm.UDP_SRC, oxm.UDP_DST, oxm.SCTP_SRC, oxm.SCTP_DST, oxm.ICMPV6_TYPE, oxm.ICMPV6_CODE, oxm.ND_TARGET, oxm.ND_SLL,
    oxm.ND_TLL, oxm.ARP_OP, oxm.ARP_SPA, oxm.ARP_TPA, oxm.ARP_SHA, oxm.ARP_THA,
    oxm.TUN_SRC, oxm.TUN_DST, oxm.TUN_IPV6_SRC, oxm.TUN_IPV6_DST, *oxm.REGISTERS, oxm.PKT_MARK, oxm.CT_STATE,
    oxm.CT_ZONE, oxm.CT_MARK, oxm.CT_NW_SRC, oxm.CT_IPV6_SRC, oxm.CT_NW_DST, oxm.CT_IPV6_DST, oxm.CT_NW_PROTO,
    oxm.CT_TP_SRC, oxm.CT_TP_DST,
)  # fmt: skip
_PLACES = {field.name: place for place, field in enumerate(_DUMP_ORDER)}
_CT_PROTOCOL = _PLACES[oxm.CT_NW_PROTO.name]
_CT_PORTS = frozenset((_PLACES[oxm.CT_TP_SRC.name], _PLACES[oxm.CT_TP_DST.name]))


def size_of(field: oxm.Field) -> int:
    """The number of bytes of a field's value."""
    return (field.width + 7) // 8


_ADDRESSES = {
    field: (_PLACES[field.name], _OXM_HEADER.pack(field.oxm_class, field.number << 1, size_of(field)), size_of(field))
    for field in (oxm.CT_NW_SRC, oxm.CT_NW_DST, oxm.CT_IPV6_SRC, oxm.CT_IPV6_DST, oxm.IPV4_SRC, oxm.IPV4_DST,
                  oxm.IPV6_SRC, oxm.IPV6_DST, oxm.ARP_SPA, oxm.ARP_TPA)
}  # fmt: skip


def oxm_number(field: oxm.Field) -> int:
    """The 32-bit OXM header of an exact match; actions name a field by it too."""
    return field.oxm_class << 16 | field.number << 9 | size_of(field)


def encode_match(match: Match) -> bytes:
    """The whole padded ofp_match: type, length, fields, zeros up to a multiple of 8 bytes.

    Raises CodecError for a match that the switch accepts but dumps differently.
    """
    # Cached by name, value and mask: hashing a Field costs more than encoding it.
    terms = sorted(
        [
            _encode_address(field, value) if mask == field.full_mask and field in _ADDRESSES
            else _encode_term(field.name, value, mask)
            for field, value, mask in match
        ]
    )  # fmt: skip
    if terms and terms[-1][0] in _CT_PORTS and all(place != _CT_PROTOCOL for place, _ in terms[-3:-1]):
        raise CodecError(
            "OVS does not dump ct_tp_src or ct_tp_dst without ct_nw_proto: the flow would never equal its dump"
        )
    body = b"".join([part for _, part in terms])
    length = len(body) + 4
    return MATCH_HEADER.pack(OFPMT_OXM, length) + body + bytes(-length & 7)


def _encode_address(field: oxm.Field, value: int) -> tuple[int, bytes]:
    """A whole address: there are too many of them to cache."""
    place, header, size = _ADDRESSES[field]
    return place, header + value.to_bytes(size, "big")


@lru_cache(maxsize=_CACHED_TERMS)
def _encode_term(name: str, value: int, mask: int) -> tuple[int, bytes]:
    """A term's position in the order of dumps, and its bytes."""
    field = oxm.FIELDS_BY_NAME[name]
    size = size_of(field)
    exact = mask == field.full_mask
    if field is oxm.CT_NW_PROTO and not value:
        raise CodecError("OVS does not dump a match on ct_nw_proto=0, so the flow would never equal its dump")
    if field is oxm.IP_FRAG:
        exact, value, mask = mask & _IP_FRAG_BITS == _IP_FRAG_BITS, value & _IP_FRAG_BITS, mask & _IP_FRAG_BITS
    owner = _experimenter(field)
    body = owner + value.to_bytes(size, "big") + (b"" if exact else mask.to_bytes(size, "big"))
    return _PLACES[name], _OXM_HEADER.pack(field.oxm_class, field.number << 1 | (not exact), len(body)) + body


def _experimenter(field: oxm.Field) -> bytes:
    """The experimenter id before the value of a field of class EXPERIMENTER; no bytes for other classes."""
    return oxm.ONF.to_bytes(4, "big") if field.oxm_class == oxm.EXPERIMENTER else b""


@lru_cache(maxsize=_CACHED_MATCHES)
def decode_match(wire: bytes) -> Match:
    """The match of a padded ofp_match. Raises CodecError for bytes that are none, or an unknown field."""
    if len(wire) < MATCH_HEADER.size:
        raise CodecError("a match is shorter than its header")
    kind, length = MATCH_HEADER.unpack_from(wire)
    if kind != OFPMT_OXM or length < MATCH_HEADER.size or len(wire) != length + (-length & 7):
        raise CodecError(f"a match of type {kind} and length {length} in {len(wire)} bytes")
    terms: list[Term] = []
    offset = MATCH_HEADER.size
    while offset < length:
        term, offset = _decode_term(wire, offset, length)
        terms.append(term)
    try:
        return build_match(*terms)
    except FlowError as error:
        raise CodecError(f"a match that the switch would refuse: {error}") from None


def _decode_term(wire: bytes, offset: int, end: int) -> tuple[Term, int]:
    if end - offset < _OXM_HEADER.size:
        raise CodecError("a match ends within a field's header")
    oxm_class, number, size = _OXM_HEADER.unpack_from(wire, offset)
    field = oxm.FIELDS_BY_NUMBER.get((oxm_class, number >> 1))
    if field is None:
        raise CodecError(f"unknown match field {oxm_class:#06x}:{number >> 1}")
    owner = _experimenter(field)
    start = offset + _OXM_HEADER.size + len(owner)
    width = size_of(field)
    has_mask = bool(number & 1)
    size -= len(owner)
    if size != width * (2 if has_mask else 1) or start + size > end or wire[start - len(owner) : start] != owner:
        raise CodecError(f"{size} bytes of {field.name}")
    value = int.from_bytes(wire[start : start + width], "big")
    mask = int.from_bytes(wire[start + width : start + size], "big") if has_mask else field.full_mask
    if value > field.full_mask or value & ~mask:
        raise CodecError(f"{field.name} has the value {value:#x} outside its mask {mask:#x}")
    return Term(field, value, mask), start + size
