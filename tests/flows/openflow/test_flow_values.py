"""Registers, cookies, flows as values: the layout has no overlaps, a match without its prerequisites is refused."""

from __future__ import annotations

import pytest

from flows.openflow import match_fields as oxm
from flows.openflow.match import FlowError, Term, exactly, in_range, masked, match
from flows.openflow.register_bits import LayoutError, Range, check_layout
from flows.pipeline import cookies, registers
from flows.pipeline.cookies import CookieKind, cookie, read_cookie

IPV4 = exactly(oxm.ETH_TYPE, oxm.ETH_IPV4)
IPV6 = exactly(oxm.ETH_TYPE, oxm.ETH_IPV6)
ICMPV6 = (IPV6, exactly(oxm.IP_PROTO, oxm.IP_PROTO_ICMPV6))
TRACKED = masked(oxm.CT_STATE, oxm.CtState.TRK, oxm.CtState.TRK | oxm.CtState.INV)
REG = oxm.REGISTERS[7]


def test_no_ranges_overlap() -> None:
    check_layout(registers.RANGES)
    check_layout(registers.CT_MARKS)
    assert len({id(one) for one in registers.RANGES}) == len(registers.RANGES)
    for name, value in vars(registers).items():
        if isinstance(value, Range):
            assert value in (*registers.RANGES, *registers.CT_MARKS), f"{name} is not checked"


@pytest.mark.parametrize(
    "ranges",
    [
        (Range(REG, 0, 8, "one"), Range(REG, 8, 9, "other")),
        (Range(REG, 31, 32, "too wide"),),
        (Range(REG, 4, 3, "upside down"),),
    ],
)
def test_a_bad_layout_is_refused(ranges: tuple[Range, ...]) -> None:
    with pytest.raises(LayoutError):
        check_layout(ranges)


def test_values_are_shifted_to_their_bits() -> None:
    place = Range(REG, 4, 7, "four bits")
    assert (place.width, place.mask, place.place(0xF)) == (4, 0xF0, 0xF0)
    for value in (16, -1):
        with pytest.raises(ValueError, match="does not fit"):
            place.place(value)


@pytest.mark.parametrize("kind", CookieKind)
def test_cookies_are_read_back(kind: CookieKind) -> None:
    for number in (0, 1, cookies.COOKIE_NUMBER_MASK):
        value = cookie(kind, number)
        assert value & cookies.COOKIE_MASK == cookies.COOKIE_PREFIX << cookies.COOKIE_PREFIX_SHIFT
        assert read_cookie(value) == (kind, number)


def test_foreign_cookies_have_no_kind() -> None:
    assert read_cookie(0) is None
    assert read_cookie(2**64 - 1) is None
    assert read_cookie(cookie(CookieKind.PORT, 1) | 0xFF << cookies.COOKIE_KIND_SHIFT) is None
    with pytest.raises(ValueError, match="wider"):
        cookie(CookieKind.PORT, 2**40)


@pytest.mark.parametrize(
    "terms",
    [
        (exactly(oxm.IPV4_SRC, 1),),
        (IPV6, exactly(oxm.IPV4_SRC, 1)),
        (IPV4, exactly(oxm.SCTP_DST, 80)),
        (IPV4, exactly(oxm.IP_PROTO, oxm.IP_PROTO_TCP), exactly(oxm.SCTP_DST, 80)),
        (IPV4, exactly(oxm.IP_PROTO, oxm.IP_PROTO_ICMPV6), exactly(oxm.ICMPV6_TYPE, 135)),
        (*ICMPV6, exactly(oxm.ND_TARGET, 1)),
        (*ICMPV6, exactly(oxm.ICMPV6_TYPE, 136), exactly(oxm.ICMPV6_CODE, 0), exactly(oxm.ND_SLL, 1)),
        (*ICMPV6, exactly(oxm.ICMPV6_TYPE, 135), exactly(oxm.ND_TARGET, 1)),
        (*ICMPV6, exactly(oxm.ICMPV6_TYPE, 135), exactly(oxm.ICMPV6_CODE, 1), exactly(oxm.ND_TARGET, 1)),
        (IPV4, exactly(oxm.ARP_OP, 1)),
        (exactly(oxm.IP_FRAG, 1),),
        (exactly(oxm.CT_NW_PROTO, 6), exactly(oxm.CT_TP_DST, 80)),
        (TRACKED, exactly(oxm.CT_TP_DST, 80)),
        (IPV4, exactly(oxm.CT_NW_SRC, 1)),
        (IPV6, TRACKED, exactly(oxm.CT_NW_SRC, 1)),
        (masked(oxm.CT_STATE, oxm.CtState.TRK, oxm.CtState.TRK), exactly(oxm.CT_TP_DST, 80)),
    ],
)
def test_a_match_without_its_prerequisites_is_refused(terms: tuple[Term, ...]) -> None:
    with pytest.raises(FlowError, match="needs"):
        match(*terms)


@pytest.mark.parametrize(
    "terms",
    [
        (IPV6, exactly(oxm.IP_PROTO, oxm.IP_PROTO_SCTP), exactly(oxm.SCTP_DST, 80)),
        (*ICMPV6, exactly(oxm.ICMPV6_TYPE, 135), exactly(oxm.ICMPV6_CODE, 0), exactly(oxm.ND_SLL, 1)),
        (IPV4, TRACKED, exactly(oxm.CT_NW_SRC, 1), exactly(oxm.CT_NW_PROTO, 6), exactly(oxm.CT_TP_DST, 80)),
        (IPV6, TRACKED, exactly(oxm.CT_IPV6_DST, 1)),
    ],
)
def test_a_whole_match_is_the_same_in_any_order(terms: tuple[Term, ...]) -> None:
    assert match(*terms) == match(*reversed(terms))


def test_terms_on_one_register_merge_and_contradictions_are_refused() -> None:
    low, high = Range(REG, 0, 3, "low"), Range(REG, 4, 7, "high")
    assert match(in_range(low, 5), in_range(high, 6)) == (Term(REG, 0x65, 0xFF),)
    assert match(in_range(low, 5), in_range(low, 5)) == (Term(REG, 0x5, 0xF),)
    with pytest.raises(FlowError, match="twice"):
        match(in_range(low, 5), in_range(low, 6))


def test_values_and_masks_must_fit() -> None:
    for field, value, mask in ((REG, 1 << 32, 1 << 32), (REG, 3, 1), (REG, 0, 0), (oxm.IN_PORT, 1, 1)):
        with pytest.raises(FlowError):
            masked(field, value, mask)
    with pytest.raises(FlowError):
        exactly(oxm.IP_PROTO, 256)
    assert masked(oxm.IN_PORT, 3, 0xFFFFFFFF) == exactly(oxm.IN_PORT, 3)
