"""OVS dumps what was encoded, byte for byte: every field and action, on a real switch."""

from __future__ import annotations

import os
from collections.abc import Iterator

from flows.openflow import port_numbers, register_bits
from flows.pipeline import cookies, registers

os.environ.setdefault("OSKEN_HUB_TYPE", "native")

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.cluster.model import Cluster
from flows.openflow import match_fields as oxm
from flows.openflow.actions import (
    Action,
    CheckLength,
    Clone,
    Conjunction,
    Ct,
    DecTtl,
    FromPacket,
    HandOver,
    Learn,
    Load,
    Meter,
    Move,
    Multipath,
    Nat,
    NatKind,
    Note,
    Output,
    OutputRegister,
    Resubmit,
    SetField,
    ToGroup,
)
from flows.openflow.flow import Flow
from flows.openflow.match import Match, exactly, in_range, masked, match
from flows.pipeline.group_numbers import group_id
from flows.pipeline.pod_limits import Limit, meter_number
from flows.policy.reference import compile_policy
from flows.render.gateway import answer_arp, answer_solicitation
from flows.render.interpretations import swap_ends
from flows.render.neighbors import NEIGHBOR_ADVERTISEMENT, NEIGHBOR_SOLICITATION, discovery
from flows.render.reference import render
from flows.render.terms import IS_IPV4, IS_IPV6
from flows.wire.codec import decode_flow, encode_flow
from flows.wire.dump import FlowDump
from flows.wire.text import format_flow
from flows.wire.values import FlowChanges, WireFlow, wire_flow
from tests.helpers.cluster import generated_clusters
from tests.helpers.datapath.generated_flows import flows
from tests.helpers.datapath.learning import learn_reply
from tests.helpers.datapath.node_networks import NODES
from tests.helpers.datapath.two_nodes import place_pods, settled, view
from tests.helpers.ovs.open_vswitch import Bridge, open_vswitch
from tests.helpers.ovs.openflow_client import Client, client

pytestmark = pytest.mark.switch


COOKIE = cookies.cookie(cookies.CookieKind.PIPELINE)
METER = meter_number(Limit.FRAGMENTS, 5)
GROUP = group_id(5)
MARK = register_bits.Range(oxm.CT_MARK, 1, 1, "")
ICMPV6 = exactly(oxm.IP_PROTO, oxm.IP_PROTO_ICMPV6)
TCP = exactly(oxm.IP_PROTO, oxm.IP_PROTO_TCP)
UDP = exactly(oxm.IP_PROTO, oxm.IP_PROTO_UDP)
SCTP = exactly(oxm.IP_PROTO, oxm.IP_PROTO_SCTP)
TRACKED = masked(oxm.CT_STATE, oxm.CtState.TRK, oxm.CtState.TRK | oxm.CtState.INV)


@pytest.fixture(scope="module")
def bridge() -> Iterator[Bridge]:
    with open_vswitch() as switch:
        made = switch.add_bridge("br-c")
        made.add_meters(METER)
        switch.ofctl("-O", "OpenFlow14", "add-group", made.target, f"group_id={GROUP},type=select")
        yield made


@pytest.fixture(scope="module")
def wire(bridge: Bridge) -> Iterator[Client]:
    with client(bridge.target) as one:
        yield one


def wires(dump: FlowDump) -> list[WireFlow]:
    return [wire_flow(key, body) for key, body in dump.flows.items() if body is not None]


def replace_all(wire: Client, some: list[Flow]) -> None:
    """Replace all flows of the switch by these, in one bundle."""
    there = tuple(wires(wire.dump()))
    assert wire.commit(FlowChanges(tuple(encode_flow(flow) for flow in some), (), there)) == []


@given(st.lists(flows(), min_size=1, max_size=12, unique_by=lambda flow: encode_flow(flow).key))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
def test_the_dump_equals_what_was_encoded(wire: Client, some: list[Flow]) -> None:
    replace_all(wire, some)
    dumped = wire.dump()
    wanted = {one.key: one.body for one in map(encode_flow, some)}
    assert dumped.flows == wanted
    assert {decode_flow(one) for one in wires(dumped)} == set(some)
    assert dumped.foreign_count == 0


@given(generated_clusters.clusters(), st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_flows_of_random_worlds_are_dumped_as_encoded(wire: Client, cluster: Cluster, userspace: bool) -> None:
    cluster = settled(cluster)
    for node in NODES:
        seen = view(cluster, place_pods(cluster), node, userspace)
        some = render(seen, compile_policy(cluster, [one.pod for one in seen.pods]))
        replace_all(wire, some)
        assert wire.dump().flows == {one.key: one.body for one in map(encode_flow, some)}


EVERY_FIELD: list[Match] = [
    match(
        exactly(oxm.CONJ_ID, 7), exactly(oxm.IN_PORT, 5), exactly(oxm.ETH_SRC, 5),
        masked(oxm.ETH_DST, 1 << 40, 1 << 40), IS_IPV4, exactly(oxm.VLAN_VID, 0x1005), exactly(oxm.IPV4_DST, 5),
        masked(oxm.IPV4_SRC, 0x0A000000, 0xFF000000), masked(oxm.IP_FRAG, 0, 2), SCTP, exactly(oxm.SCTP_SRC, 4),
        masked(oxm.SCTP_DST, 4, 0xFFFC),
        *[exactly(register, 5) for register in oxm.REGISTERS], TRACKED, exactly(oxm.CT_ZONE, 5),
        exactly(oxm.CT_MARK, 5), masked(oxm.PKT_MARK, 4, 4), exactly(oxm.IP_TTL, 5), exactly(oxm.CT_NW_SRC, 5),
        masked(oxm.CT_NW_DST, 1 << 31, 1 << 31), exactly(oxm.CT_NW_PROTO, 132),
        masked(oxm.CT_TP_DST, 80, 0xFFF0),
    ),
    match(exactly(oxm.ETH_TYPE, oxm.ETH_ARP), exactly(oxm.ARP_OP, 1), exactly(oxm.ARP_SPA, 5),
          masked(oxm.ARP_TPA, 1 << 31, 1 << 31), masked(oxm.ARP_SHA, 1 << 40, 0xFF << 40),
          masked(oxm.ARP_THA, 1 << 40, 0xFF << 40)),
    match(exactly(oxm.IN_PORT, 5), exactly(oxm.TUN_SRC, 5), masked(oxm.TUN_DST, 1 << 31, 1 << 31), IS_IPV4,
          in_range(registers.SOURCE_OFPORT, 5)),
    match(exactly(oxm.IN_PORT, 5), exactly(oxm.TUN_IPV6_SRC, 5), masked(oxm.TUN_IPV6_DST, 1 << 127, 1 << 127), IS_IPV6),
    match(IS_IPV6, ICMPV6, exactly(oxm.ICMPV6_TYPE, 135), exactly(oxm.ICMPV6_CODE, 0),
          exactly(oxm.ND_TARGET, 5), exactly(oxm.ND_SLL, 5),
          masked(oxm.IPV6_SRC, 1 << 127, 1 << 127), exactly(oxm.IPV6_DST, 7), exactly(oxm.IP_TTL, 255), TRACKED,
          masked(oxm.CT_MARK, 0, 1), exactly(oxm.CT_IPV6_SRC, 5),
          masked(oxm.CT_IPV6_DST, 1 << 127, 3 << 126), exactly(oxm.CT_NW_PROTO, 6)),
    match(IS_IPV6, ICMPV6, exactly(oxm.ICMPV6_TYPE, 136), exactly(oxm.ICMPV6_CODE, 0),
          exactly(oxm.ND_TLL, 5), in_range(registers.SOURCE_OFPORT, 5),
          in_range(registers.SCTP_ASSOCIATION, 1)),
    match(IS_IPV4, TCP, exactly(oxm.TCP_SRC, 5), masked(oxm.TCP_DST, 1 << 15, 1 << 15), masked(oxm.TCP_FLAGS, 2, 0x12),
          TRACKED, exactly(oxm.CT_NW_PROTO, 6), masked(oxm.CT_TP_SRC, 1 << 15, 1 << 15)),
    match(IS_IPV6, TCP, exactly(oxm.TCP_FLAGS, 0x12), TRACKED, exactly(oxm.CT_NW_PROTO, 6), exactly(oxm.CT_TP_SRC, 5),
          exactly(oxm.CT_TP_DST, 5)),
    match(IS_IPV6, UDP, masked(oxm.UDP_SRC, 1 << 15, 1 << 15), exactly(oxm.UDP_DST, 5)),
]  # fmt: skip


def learn_client(ether: int, source: oxm.Field) -> Learn:
    """Learn what this packet's source is to have, as session affinity does."""
    terms = exactly(oxm.ETH_TYPE, ether), exactly(oxm.REGISTERS[8], GROUP), FromPacket(source, source)
    loads = (
        Load(registers.ENDPOINT_INDEX, 8080),
        *(Load(place, 0xFFFFFFFF - n) for n, place in enumerate(registers.ENDPOINT_ADDRESS)),
    )
    return Learn(16, 100, COOKIE, 65535, 7, terms, loads)


EVERY_ACTION: list[tuple[Match, tuple[Action, ...], int | None]] = [
    (
        match(),
        (
            Output(5),
            Output(port_numbers.LOCAL_32),
            Output(port_numbers.IN_PORT_32),
            OutputRegister(registers.OUTPUT_OFPORT),
        ),
        None,
    ),
    (
        match(),
        (
            Load(registers.SOURCE_OFPORT, 5),
            Load(registers.SCTP_ASSOCIATION, 2),
            Move(registers.SOURCE_OFPORT, registers.DESTINATION_OFPORT),
        ),
        7,
    ),
    (match(), (Load(register_bits.Range(oxm.REGISTERS[6], 0, 31, ""), 0xFFFFFFFF), Resubmit(9)), None),
    (match(), (HandOver(), Note(b"x/a\x00+www.example.com."), Note(b"even")), 7),
    (match(), (Meter(METER), CheckLength(86, registers.LONGER_THAN_OPTION), Load(registers.SOURCE_OFPORT, 5)), 7),
    (match(), (Meter(METER),), 9),
    (
        match(IS_IPV4),
        (
            SetField(oxm.ETH_SRC, 5),
            SetField(oxm.ETH_DST, 0x0A4847000001),
            SetField(oxm.TUN_DST, 5),
            DecTtl(),
            Output(5),
        ),
        None,
    ),
    (match(IS_IPV6), (SetField(oxm.TUN_IPV6_DST, (0xFD << 120) + 1), DecTtl()), 7),
    (match(exactly(oxm.ETH_TYPE, oxm.ETH_ARP), exactly(oxm.ARP_OP, 1)), tuple(answer_arp()), None),
    (match(*discovery(NEIGHBOR_SOLICITATION)), tuple(answer_solicitation()), 7),
    (match(*discovery(NEIGHBOR_ADVERTISEMENT)), (SetField(oxm.ND_TLL, 5), Output(port_numbers.IN_PORT_32)), None),
    (match(), (), 9),
    (match(), (), None),
    (match(IS_IPV4), (Ct(5), Ct(5, 7), Ct(5, commit=True), Ct(6, 9, True)), 7),
    (match(IS_IPV4), (Ct(5, commit=True, force=True), Ct(6, 9, True, True)), 7),
    (match(IS_IPV4), (Ct(5, 7, nat=Nat()), Ct(5, commit=True, nat=Nat())), 7),
    (match(IS_IPV4, TCP), (Ct(5, 7, True, nat=Nat(NatKind.DESTINATION, 4, 0x0A000001, 80)),), 7),
    (match(IS_IPV6, TCP), (Ct(5, 7, True, nat=Nat(NatKind.DESTINATION, 6, (0xFD << 120) + 1, 80)),), 7),
    (match(IS_IPV4), (Ct(5, 7, True, nat=Nat(NatKind.SOURCE, 4, 0x0A000001)),), 7),
    (match(IS_IPV6), (Ct(5, 7, True, True, Nat(NatKind.SOURCE, 6, (0xFD << 120) + 1)),), 7),
    (match(IS_IPV4), (Ct(5, 7, True, marks=(Load(MARK, 1),)),), 7),
    (match(IS_IPV4), (Ct(5, 7, True, nat=Nat(), marks=(Move(registers.SOURCE_EGRESS, MARK),)),), 7),
    (match(IS_IPV4), (Clone(Ct(5)), Ct(6, 7)), None),
    (match(), (Load(registers.SOURCE_OFPORT, 5), ToGroup(GROUP)), 7),
    (match(IS_IPV4, TCP), tuple(swap_ends(IS_IPV4, TCP)), 7),
    (match(IS_IPV6, TCP), tuple(swap_ends(IS_IPV6, TCP)), 7),
    (match(IS_IPV4, SCTP), tuple(swap_ends(IS_IPV4, SCTP)), 7),
    (
        match(IS_IPV6, UDP),
        (*swap_ends(IS_IPV6, UDP), Move(register_bits.Range(oxm.UDP_SRC, 0, 15, ""), registers.COMPARED_SOURCE_PORT)),
        7,
    ),
    (match(IS_IPV6), (Conjunction(5, 1, 2), Conjunction(0xFFFFFFFF, 64, 64)), None),
    (match(IS_IPV4, SCTP), (learn_reply(4, 1, COOKIE, 1000),), 5),
    (match(IS_IPV6, SCTP), (learn_reply(6, 2, COOKIE, 1000),), 5),
    (match(IS_IPV4), (learn_client(oxm.ETH_IPV4, oxm.IPV4_SRC),), 5),
    (match(IS_IPV6), (learn_client(oxm.ETH_IPV6, oxm.IPV6_SRC),), 5),
    (match(), (Multipath(0xFFFF, 1 << 16, registers.ENDPOINT_INDEX), Multipath(0, 1, registers.ENDPOINT_INDEX)), 5),
]


def by_hand() -> list[Flow]:
    plain = [Flow(0, 10, one, (), None, COOKIE) for one in EVERY_FIELD]
    return plain + [Flow(1, 10 + n, *one, COOKIE) for n, one in enumerate(EVERY_ACTION)]


def test_the_flows_by_hand_use_every_field_and_every_action() -> None:
    assert {term.field for flow in by_hand() for term in flow.match} == set(oxm.ALL_FIELDS)
    assert {type(action) for flow in by_hand() for action in flow.actions} == set(Action.__args__)


@pytest.mark.parametrize("flow", by_hand(), ids=[str(n) for n in range(len(by_hand()))])
def test_ovs_ofctl_makes_the_same_bytes_of_a_flow_as_text(bridge: Bridge, wire: Client, flow: Flow) -> None:
    replace_all(wire, [])
    bridge.switch.ofctl("add-flow", bridge.target, format_flow(flow))
    assert wires(wire.dump()) == [encode_flow(flow)]


def test_ovs_ofctl_prints_what_we_installed(bridge: Bridge, wire: Client) -> None:
    def printed() -> list[str]:
        lines = bridge.switch.ofctl("--no-stats", "dump-flows", bridge.target, "--no-names").splitlines()
        return sorted(line for line in lines if "OFPST" not in line)

    replace_all(wire, by_hand())
    ours = printed()
    replace_all(wire, [])
    for flow in by_hand():
        bridge.switch.ofctl("add-flow", bridge.target, format_flow(flow))
    assert printed() == ours
    assert len(ours) == len(by_hand())
