"""Generated flows that a real switch takes: every match field and action of `flows`, in every combination it allows.

What the codec or the switch makes of them is the tests' business.
"""

from __future__ import annotations

from hypothesis import strategies as st

from flows.openflow import match_fields as oxm
from flows.openflow import port_numbers
from flows.openflow.actions import (
    Action,
    CheckLength,
    Clone,
    Conjunction,
    Ct,
    DecTtl,
    Learn,
    Load,
    Move,
    Multipath,
    Output,
    OutputRegister,
    Pop,
    Push,
    Resubmit,
    SetField,
)
from flows.openflow.flow import Flow
from flows.openflow.match import Match, Term, exactly, masked, match
from flows.openflow.register_bits import Range
from flows.pipeline import cookies, registers
from flows.pipeline.pod_limits import sctp_reply

_ANYWHERE = (oxm.IN_PORT, oxm.ETH_SRC, oxm.ETH_DST, *oxm.REGISTERS, oxm.PKT_MARK)
_IP = (oxm.CT_ZONE, oxm.CT_MARK, oxm.IP_TTL, oxm.CT_NW_PROTO, oxm.CT_TP_SRC, oxm.CT_TP_DST, oxm.CONJ_ID)
_BY_TYPE = {
    oxm.ETH_ARP: (oxm.ARP_OP, oxm.ARP_SPA, oxm.ARP_TPA, oxm.ARP_SHA),
    oxm.ETH_IPV4: (*_IP, oxm.IPV4_SRC, oxm.IPV4_DST, oxm.CT_NW_SRC, oxm.CT_NW_DST),
    oxm.ETH_IPV6: (*_IP, oxm.IPV6_SRC, oxm.IPV6_DST, oxm.CT_IPV6_SRC, oxm.CT_IPV6_DST),
}
_PORTED = {
    oxm.IP_PROTO_TCP: (oxm.TCP_SRC, oxm.TCP_DST, oxm.TCP_FLAGS),
    oxm.IP_PROTO_UDP: (oxm.UDP_SRC, oxm.UDP_DST),
    oxm.IP_PROTO_SCTP: (oxm.SCTP_SRC, oxm.SCTP_DST),
}
_NEVER_MASKED = frozenset({oxm.CT_ZONE})  # oxm allows it, the switch does not
_FRAGMENTS = [(0, 1), (1, 1), (0, 2), (2, 2), *((value, oxm.IP_FRAG.full_mask) for value in range(4))]
_VLANS = [(0, 0x1FFF), (0x1000, 0x1000), (0, 0x1000), (0x1005, 0x1FFF), (0x1005, 0x100F)]
# Tracked, and known not to be invalid: what the fields of the original direction need.
_TRACKED = oxm.CtState.TRK | oxm.CtState.INV


@st.composite
def terms(draw: st.DrawFn, field: oxm.Field) -> Term:
    """A term on a field, exact or masked."""
    if field is oxm.IP_FRAG:
        return masked(field, *draw(st.sampled_from(_FRAGMENTS)))
    if field is oxm.VLAN_VID:
        return masked(field, *draw(st.sampled_from(_VLANS)))
    if field is oxm.CT_STATE:
        more = draw(st.integers(0, 0x0F))
        return masked(field, oxm.CtState.TRK | draw(st.integers(0, 0x0F)) & more, _TRACKED | more)
    value = draw(st.integers(0, field.full_mask))
    if field is oxm.IN_PORT:
        return exactly(field, draw(st.sampled_from([1, 7, 0xFEFF, port_numbers.LOCAL_32])))
    if field is oxm.CT_NW_PROTO:
        return exactly(field, value or 1)
    if field is oxm.ARP_OP:
        return exactly(field, value & 0xFF)  # OVS knows 8 bits of it (ovs-fields(7))
    if field.maskable and field not in _NEVER_MASKED and draw(st.booleans()):
        mask = draw(st.integers(1, field.full_mask))
        return masked(field, value & mask, mask)
    return exactly(field, value)


@st.composite
def matches(draw: st.DrawFn, ether: int | None = None, protocol: int | None = None) -> Match:
    """A match that OVS takes, prerequisites and all."""
    chosen = list(draw(st.lists(st.sampled_from((*_ANYWHERE, oxm.VLAN_VID)), unique=True, max_size=4)))
    fixed: list[Term] = []
    if ether is None:
        ether = draw(st.sampled_from([None, oxm.ETH_ARP, oxm.ETH_IPV4, oxm.ETH_IPV6]))
    if ether is not None:
        fixed.append(exactly(oxm.ETH_TYPE, ether))
        chosen += draw(st.lists(st.sampled_from(_BY_TYPE[ether]), unique=True, max_size=6))
    if ether in (oxm.ETH_IPV4, oxm.ETH_IPV6):
        more, some = draw(_transport(ether, protocol, protocol is not None))
        fixed += more
        chosen += some
    if any(field in oxm.NEED_CT_STATE for field in chosen) or draw(st.booleans()):
        chosen.append(oxm.CT_STATE)
    if {oxm.CT_TP_SRC, oxm.CT_TP_DST} & set(chosen) and oxm.CT_NW_PROTO not in chosen:
        chosen.append(oxm.CT_NW_PROTO)  # else the switch keeps the port to itself when it dumps the flow
    return match(*fixed, *[draw(terms(field)) for field in chosen])


@st.composite
def _transport(draw: st.DrawFn, ether: int, protocol: int | None, ports: bool) -> tuple[list[Term], list[oxm.Field]]:
    """Exact terms on protocol and type, and fields that then may follow. `ports`: there must be some."""
    icmp = oxm.IP_PROTO_ICMPV6 if ether == oxm.ETH_IPV6 else oxm.IP_PROTO_ICMP
    if protocol is None:
        protocols = [None, oxm.IP_PROTO_TCP, oxm.IP_PROTO_UDP, oxm.IP_PROTO_SCTP, icmp]
        protocol = draw(st.sampled_from(protocols))
    if protocol is None:
        return [], draw(st.sampled_from([[], [oxm.IP_FRAG]]))
    fixed = [exactly(oxm.IP_PROTO, protocol)]
    if not ports and draw(st.booleans()):
        return fixed, [oxm.IP_FRAG]
    if protocol in _PORTED:
        return fixed, draw(st.lists(st.sampled_from(_PORTED[protocol]), unique=True))
    if protocol == oxm.IP_PROTO_ICMPV6:
        kind = draw(st.sampled_from([1, 135, 136]))
        fixed += [exactly(oxm.ICMPV6_TYPE, kind), exactly(oxm.ICMPV6_CODE, 0)]
        options = {135: [oxm.ND_TARGET, oxm.ND_SLL], 136: [oxm.ND_TARGET, oxm.ND_TLL]}.get(kind, [])
        return fixed, draw(st.lists(st.sampled_from(options), unique=True)) if options else []
    return fixed, []


_DECLARED = {(one.register, one.start, one.end) for one in registers.RANGES}
_WHOLE = [Range(register, 0, 31, "") for register in oxm.REGISTERS if (register, 0, 31) not in _DECLARED]
_RANGES = st.one_of(st.sampled_from(registers.RANGES), st.sampled_from(_WHOLE))
_PORTS = st.sampled_from(
    [1, 2, 500, 0xFEFF, port_numbers.LOCAL_32, port_numbers.IN_PORT_32, port_numbers.CONTROLLER_32]
)
_CONJUNCTIONS = st.lists(
    st.builds(lambda number, count, clause: Conjunction(number, min(clause, count), count),
              st.integers(1, 0xFFFFFFFF), st.integers(2, 64), st.integers(1, 64)),
    min_size=1, max_size=5, unique_by=lambda one: one.conj_id,
)  # fmt: skip


@st.composite
def _loads(draw: st.DrawFn) -> Load:
    place = draw(_RANGES)
    return Load(place, draw(st.integers(0, (1 << place.width) - 1)))


@st.composite
def _moves(draw: st.DrawFn) -> Move:
    source = draw(_RANGES)
    return Move(source, draw(_RANGES.filter(lambda place: place.width == source.width)))


@st.composite
def _written(draw: st.DrawFn) -> SetField:
    field = draw(st.sampled_from((oxm.ETH_SRC, oxm.ETH_DST, oxm.TUN_DST, oxm.TUN_IPV6_DST)))
    return SetField(field, draw(st.integers(0, field.full_mask)))


def _simple(table: int) -> st.SearchStrategy[Action]:
    return st.one_of(
        st.builds(Output, _PORTS),
        st.builds(OutputRegister, _RANGES),
        _loads(),
        _moves(),
        st.builds(
            CheckLength,
            st.integers(0, 0xFFFF),
            st.sampled_from([registers.LONGER_THAN_BARE, registers.LONGER_THAN_OPTION]),
        ),
        st.builds(Resubmit, st.integers(0, 254)),
        st.builds(
            lambda zone, table, commit, force: Ct(zone, table, commit, commit and force),
            st.integers(1, 0xFFFF),
            st.one_of(st.none(), st.integers(table + 1, 254)),
            st.booleans(),
            st.booleans(),
        ),
        st.builds(lambda zone: Clone(Ct(zone)), st.integers(1, 0xFFFF)),
        _written(),
        st.just(DecTtl()),
        st.builds(Push, _RANGES),
        st.builds(Pop, _RANGES),
        st.builds(Multipath, st.integers(0, 0xFFFF), st.integers(1, 0x10000), st.just(registers.ENDPOINT_INDEX)),
    )


@st.composite
def _learns(draw: st.DrawFn, version: int) -> Learn:
    cookie = cookies.cookie(cookies.CookieKind.LEARNED, draw(st.integers(0, 99)))
    some = draw(st.lists(st.sampled_from(oxm.REGISTERS), unique=True))
    terms = (*sctp_reply(version), *[exactly(one, draw(st.integers(0, one.full_mask))) for one in some])
    return Learn(draw(st.integers(0, 254)), draw(st.integers(0, 0xFFFF)), cookie, draw(st.integers(0, 0xFFFF)),
                 draw(st.integers(1, 0xFFFFFFFF)), terms, tuple(draw(st.lists(_loads(), max_size=6))))  # fmt: skip


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    """A flow with a cookie of ours that a switch takes and dumps as our own."""
    table, priority = draw(st.integers(0, 200)), draw(st.integers(0, 0xFFFF))
    kind = draw(st.sampled_from([kind for kind in cookies.CookieKind if kind is not cookies.CookieKind.LEARNED]))
    cookie = cookies.cookie(kind, draw(st.integers(0, cookies.COOKIE_NUMBER_MASK)))
    goto = draw(st.one_of(st.none(), st.integers(table + 1, 254)))
    shape = draw(st.sampled_from(["drop", "actions", "conjunction", "learn"]))
    if shape == "drop":
        return Flow(table, priority, draw(matches()), (), goto, cookie)
    if shape == "conjunction":
        plain = draw(matches().filter(lambda one: all(term.field is not oxm.CONJ_ID for term in one)))
        return Flow(table, priority, plain, tuple(draw(_CONJUNCTIONS)), None, cookie)
    actions = draw(st.lists(_simple(table), min_size=1, max_size=5))
    ether = draw(st.sampled_from([oxm.ETH_IPV4, oxm.ETH_IPV6]))  # ct needs an IP packet
    if shape == "learn":
        actions.append(draw(_learns(4 if ether == oxm.ETH_IPV4 else 6)))
        return Flow(table, priority, draw(matches(ether, oxm.IP_PROTO_SCTP)), tuple(actions), goto, cookie)
    return Flow(table, priority, draw(matches(ether)), tuple(actions), goto, cookie)
