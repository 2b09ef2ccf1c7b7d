"""Flows to bytes and back: round trips, against os-ken, and with invalid bytes."""

from __future__ import annotations

import os
import struct

from flows.openflow import port_numbers
from flows.pipeline import cookies

os.environ.setdefault("OSKEN_HUB_TYPE", "native")

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from os_ken.ofproto import ofproto_v1_4_parser

from controller.openflow import messages
from controller.openflow.messages import BundleControl, FlowModCommand
from flows.cluster.model import Protocol
from flows.cluster.net import Net
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Conjunction, Ct, Learn, Output, Resubmit
from flows.openflow.flow import Flow
from flows.openflow.match import exactly, in_range, masked, match
from flows.pipeline.tables import SCTP_REPLIES
from flows.plan.encoder import RULE_COOKIE, FlowEncoder
from flows.plan.key_templates import Element
from flows.policy.service_ranges import ServiceRange, normalize
from flows.render.rules import STAGES, Stage, anything, peer_terms, service_terms
from flows.wire.codec import decode_flow, encode_flow
from flows.wire.dump import FlowDump, decode_stats
from flows.wire.errors import CodecError, MessageTooLong
from flows.wire.values import Body, FlowChanges, WireFlow, wire_flow
from tests.helpers.datapath.generated_flows import flows

MATCH_ALL = encode_flow(Flow(0, 0, ())).match
ENTRY = struct.Struct("!HBxIIHHHHH2xQQQ")


def entry(flow: WireFlow, packets: int = 0, octets: int = 0, seconds: int = 0) -> bytes:
    """ofp_flow_stats (OpenFlow 1.4.1 section 7.3.5.2)."""
    body = flow.match + flow.instructions
    return (
        ENTRY.pack(
            ENTRY.size + len(body), flow.table, seconds, 5, flow.priority, 0, 0, 0, 0, flow.cookie, packets, octets
        )
        + body
    )


def reply(*entries: bytes, more: bool = False) -> bytes:
    body = b"".join(entries)
    return struct.pack("!BBHIHH4x", 5, 19, 16 + len(body), 1, 1, int(more)) + body


@given(flows())
def test_decoding_gives_back_the_flow(flow: Flow) -> None:
    assert decode_flow(encode_flow(flow)) == flow


@given(flows())
def test_everything_is_padded_to_eight_bytes(flow: Flow) -> None:
    wire = encode_flow(flow)
    assert len(wire.match) % 8 == len(wire.instructions) % 8 == 0


@given(flows())
def test_os_ken_reads_and_writes_the_same_match(flow: Flow) -> None:
    wire = encode_flow(flow).match
    written = bytearray()
    ofproto_v1_4_parser.OFPMatch.parser(wire, 0).serialize(written, 0)
    assert bytes(written) == wire


@given(flows().filter(lambda flow: not any(isinstance(action, Learn) for action in flow.actions)))
def test_os_ken_reads_and_writes_the_same_instructions(flow: Flow) -> None:
    wire = encode_flow(flow).instructions
    written, offset = bytearray(), 0
    while offset < len(wire):
        instruction = ofproto_v1_4_parser.OFPInstruction.parser(wire, offset)
        instruction.serialize(written, offset)
        offset += instruction.len
    assert bytes(written) == wire


@given(st.lists(flows(), max_size=5), st.lists(flows(), max_size=5), st.lists(flows(), max_size=5))
@settings(max_examples=30)
def test_os_ken_reads_the_same_bundle(adds: list[Flow], modifies: list[Flow], deletes: list[Flow]) -> None:
    changes = FlowChanges(*(tuple(map(encode_flow, some)) for some in (adds, modifies, deletes)))
    stream = b"".join(messages.flow_mod_chunks(changes, 9, 1000, chunk=200))
    offset = 0
    for index, (command, flow) in enumerate(messages.flow_mods_in_order(changes)):
        version, kind, length, xid, bundle, flags = struct.unpack_from("!BBHII2xH", stream, offset)
        assert (version, kind, xid, bundle, flags) == (5, 34, 1000 + index, 9, 3)
        assert messages.flow_mod_at(changes, index) == (command, flow)
        inner = stream[offset + 16 : offset + length]
        assert struct.unpack_from("!BBHI", inner) == (5, 14, len(inner), xid)
        fixed = struct.unpack_from("!QQBBHHHIIIHH", inner, 8)
        adding = command is FlowModCommand.ADD
        assert fixed[:4] == (flow.cookie if adding else flow.cookie & cookies.COOKIE_MASK,
                             0 if adding else cookies.COOKIE_MASK, flow.table, command)  # fmt: skip
        assert fixed[4:] == (0, 0, flow.priority, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0, 0)
        rest = flow.match + (b"" if command is FlowModCommand.DELETE_STRICT else flow.instructions)
        assert inner[48:] == rest
        offset += length
    assert offset == len(stream)
    assert messages.flow_mod_at(changes, len(adds) + len(modifies) + len(deletes)) is None


@pytest.mark.parametrize(
    "kind",
    [
        BundleControl.OPEN_REQUEST,
        BundleControl.CLOSE_REQUEST,
        BundleControl.COMMIT_REQUEST,
        BundleControl.DISCARD_REQUEST,
    ],
)
def test_os_ken_writes_the_same_bundle_control(kind: BundleControl) -> None:
    parsed = ofproto_v1_4_parser.OFPBundleCtrlMsg.parser(None, 5, 33, 16, 7, messages.bundle_control(kind, 3, 7))
    assert (parsed.bundle_id, parsed.type, parsed.flags) == (3, kind, 3)


@given(st.lists(st.tuples(flows(), st.integers(0, 1 << 60), st.integers(0, 1 << 60), st.integers(0, 1 << 31))))
def test_a_dump_gives_flows_and_counters(entries: list[tuple[Flow, int, int, int]]) -> None:
    wires = [encode_flow(flow) for flow, *_ in entries]
    message = reply(*(entry(wire, *rest) for wire, (_, *rest) in zip(wires, entries, strict=True)))
    decoded = list(decode_stats(message))
    assert [flow for flow, _ in decoded] == wires
    assert [tuple(counters) for _, counters in decoded] == [tuple(rest) for _, *rest in entries]
    dump = FlowDump()
    dump.add(message)
    assert dump.flows == {wire.key: wire.body for wire in wires}
    assert dump.counters == {flow.key: counters for flow, counters in decoded}
    assert dump.foreign_count == 0


@given(st.lists(flows(), max_size=8, unique_by=lambda flow: encode_flow(flow).key), st.data())
def test_a_dump_has_what_differs_from_the_expected_flows(some: list[Flow], data: st.DataObject) -> None:
    wires = [encode_flow(flow) for flow in some]
    known = {}
    for wire in wires:
        kind = data.draw(st.sampled_from(["there", "missing", "superfluous", "cookie", "instructions"]))
        if kind != "superfluous":
            known[wire.key] = {
                "cookie": wire.body._replace(cookie=wire.cookie ^ 1),
                "instructions": wire.body._replace(instructions=wire.instructions + bytes(8)),
            }.get(kind, wire.body)
    there = [wire for wire in wires if data.draw(st.booleans())]
    before = dict(known)
    dump = FlowDump(known, all_counters=False)
    half = len(there) // 2
    dump.add(reply(*map(entry, there[:half]), more=True))
    dump.add(reply(*map(entry, there[half:])))
    dump.end()
    assert known == before
    actual = {wire.key: wire.body for wire in there}
    differs = {key for key in known.keys() | actual.keys() if known.get(key) != actual.get(key)}
    assert dump.flows == {key: actual.get(key) for key in differs}
    of = cookies.CookieKind
    counting = (of.RULE, of.DENY_EGRESS, of.DENY_INGRESS, of.SENT, of.INVALID, of.BROKEN)
    assert dump.counters.keys() == {w.key for w in there if (cookies.read_cookie(w.cookie) or (None,))[0] in counting}


def test_an_expected_flow_replaced_by_a_foreign_one_is_missing() -> None:
    ours = WireFlow(1, 2, MATCH_ALL, cookies.cookie(cookies.CookieKind.PORT, 5), b"")
    dump = FlowDump({ours.key: ours.body})
    dump.add(reply(entry(ours._replace(cookie=5))))
    dump.end()
    assert (dump.flows, dump.foreign_count) == ({ours.key: None}, 1)


@given(flows())
def test_key_and_body_are_the_whole_flow(flow: Flow) -> None:
    key, body = FlowEncoder().flow(flow)
    assert wire_flow(key, body) == encode_flow(flow)


_NETS = st.one_of(
    st.builds(lambda value, prefix: Net(4, value >> (32 - prefix) << (32 - prefix), prefix),
              st.integers(0, (1 << 32) - 1), st.integers(0, 32)),
    st.builds(lambda value, prefix: Net(6, value >> (128 - prefix) << (128 - prefix), prefix),
              st.integers(0, (1 << 128) - 1), st.integers(0, 128)),
)  # fmt: skip


_SERVICES = st.builds(lambda protocol, low, size: ServiceRange(protocol, low, min(low + size, 0xFFFF)),
                      st.sampled_from(Protocol), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))  # fmt: skip


@given(
    st.sampled_from(STAGES),
    st.sampled_from([0, 1, 5]),
    st.one_of(
        st.lists(_NETS, unique=True, max_size=5),
        st.lists(st.integers(1, port_numbers.MAX_OFPORT), unique=True, max_size=5),
        st.just([None]),
        st.builds(
            lambda services, userspace: [match(*terms) for terms in service_terms(services, userspace)],
            st.lists(_SERVICES, min_size=1, max_size=3).map(normalize),
            st.booleans(),
        ),
    ),
    st.dictionaries(st.integers(1, 0xFFFFFFFF), st.integers(1, 3), min_size=1, max_size=40),
)
def test_rule_flows_in_bulk_equal_those_one_by_one(
    stage: Stage, band: int, elements: list[Element], members: dict[int, int]
) -> None:
    encoder = FlowEncoder()
    conjunctions = tuple(Conjunction(number, place, 3) for number, place in members.items())
    body = encoder.clause(conjunctions)
    place = (stage.table.number, stage.priority(band))
    for element, key in zip(elements, encoder.key_templates(stage, band).keys(elements), strict=True):
        terms = anything() if element is None else ()
        if isinstance(element, int):
            terms = (in_range(stage.subject, element),)
        elif isinstance(element, Net):
            terms = peer_terms(stage.peer, element)
        elif element is not None:
            terms = element
        flow = Flow(*place, match(*terms), conjunctions, None, cookies.cookie(cookies.CookieKind.CLAUSE))
        assert wire_flow(key, body) == encode_flow(flow)
    for number in members:
        owner = cookies.cookie(cookies.CookieKind.RULE, number)
        hit = Flow(*place, match(exactly(oxm.CONJ_ID, number)), (), stage.onward.number, owner)
        key = encoder.key_templates(stage, band).hit_key(number)
        assert wire_flow(key, Body(RULE_COOKIE | number, encoder.hit_instructions(stage))) == encode_flow(hit)


def test_foreign_flows_are_counted_and_learned_ones_left_out() -> None:
    ours = WireFlow(1, 2, MATCH_ALL, cookies.cookie(cookies.CookieKind.PORT, 5), b"")
    learned = ours._replace(table=SCTP_REPLIES.number, cookie=cookies.cookie(cookies.CookieKind.LEARNED, 5))
    disguised = learned._replace(table=2)  # nothing is learned in this table, so the cookie means nothing
    of_a_newer_version = ours._replace(priority=3, cookie=cookies.cookie(cookies.CookieKind.PIPELINE) | 0xEE << 40)
    dump = FlowDump()
    dump.add(
        reply(
            entry(ours._replace(cookie=0)),
            entry(ours),
            entry(learned),
            entry(disguised),
            entry(of_a_newer_version),
            more=True,
        )
    )
    dump.add(reply(entry(ours._replace(cookie=5 << 60))))
    assert list(dump.flows.items()) == [(one.key, one.body) for one in (ours, disguised, of_a_newer_version)]
    assert dump.foreign_count == 2


@given(st.lists(flows(), min_size=1, max_size=3), st.data())
def test_a_dump_that_is_cut_or_changed_raises_nothing_but_codec_error(some: list[Flow], data: st.DataObject) -> None:
    message = bytearray(reply(*(entry(encode_flow(flow)) for flow in some)))
    for _ in range(data.draw(st.integers(0, 3))):
        message[data.draw(st.integers(16, len(message) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(message[: data.draw(st.integers(16, len(message)))])
    try:
        for wire, _ in decode_stats(cut):
            decode_flow(wire)
    except CodecError:
        pass


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_made_up_bytes_raise_nothing_but_codec_error(match_bytes: bytes, instructions: bytes) -> None:
    for wire in (WireFlow(0, 0, match_bytes, 0, b""), WireFlow(0, 0, MATCH_ALL, 0, instructions)):
        try:
            decode_flow(wire)
        except CodecError:
            continue


def test_actions_of_equal_numbers_differ_as_values_and_on_the_wire() -> None:
    assert len({Output(5), Resubmit(5), Ct(1, 2, True), Conjunction(1, 2, 1)}) == 4
    wires = {encode_flow(Flow(0, 0, (), (action,))).instructions
             for action in (Output(5), Resubmit(5), Ct(1, 2, True), Conjunction(1, 2, 1))}  # fmt: skip
    assert len(wires) == 4


@pytest.mark.parametrize(
    ("fragment", "written"),
    [((1, 1), "000135020101"), ((2, 2), "000135020202"), ((3, 3), "0001340103"), ((0, 3), "0001340100")],
)
def test_a_mask_of_all_fragment_bits_is_no_mask(fragment: tuple[int, int], written: str) -> None:
    flow = Flow(0, 0, match(exactly(oxm.ETH_TYPE, oxm.ETH_IPV4), masked(oxm.IP_FRAG, *fragment)))
    assert written in encode_flow(flow).match.hex()


def test_a_match_that_the_switch_would_not_dump_is_refused() -> None:
    tracked = masked(oxm.CT_STATE, oxm.CtState.TRK, oxm.CtState.TRK | oxm.CtState.INV)
    terms = match(exactly(oxm.ETH_TYPE, oxm.ETH_IPV4), tracked, exactly(oxm.CT_NW_PROTO, 0))
    with pytest.raises(CodecError, match="would never equal its dump"):
        encode_flow(Flow(0, 0, terms))


def test_a_flow_of_more_than_64_kib_is_refused_with_its_name() -> None:
    most = tuple(Conjunction(number, 1, 2) for number in range(4095))
    assert len(encode_flow(Flow(3, 4, (), most)).instructions) == 8 + 16 * 4095
    with pytest.raises(MessageTooLong, match="table 3, priority 4"):
        encode_flow(Flow(3, 4, (), (*most, Conjunction(5000, 1, 2))))
    with pytest.raises(MessageTooLong, match=r"longer than allowed, to add .*table=3"):
        list(messages.flow_mod_chunks(FlowChanges((encode_flow(Flow(3, 4, (), most)),), (), ()), 1))


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (struct.pack("!HH", 4, 9), "OFPET_BAD_MATCH(4) OFPBMC_BAD_PREREQ(9)"),
        (struct.pack("!HH", 17, 13), "OFPET_BUNDLE_FAILED(17) OFPBFC_MSG_FAILED(13)"),
        (struct.pack("!HHI", 0xFFFF, 15, 0x2320), "NXBAC_BAD_CONJUNCTION"),
        (struct.pack("!HHI", 0xFFFF, 15, 0x99), "error 15 of experimenter 0x99"),
        (struct.pack("!HH", 99, 3), "error of type 99, code 3"),
        (b"", "a truncated error message"),
    ],
)
def test_errors_in_words(error: bytes, text: str) -> None:
    assert messages.error_text(struct.pack("!BBHI", 5, 1, 8 + len(error), 1) + error) == text
