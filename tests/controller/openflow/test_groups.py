"""Groups on a real ovs-vswitchd: one bundle with the flows that use them, dumps, errors in words, flushes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controller.reconcile.commands import DumpFlows, FlushConnections
from controller.reconcile.events import BundleDone, BundleFailed, FlushRefused, SwitchUp
from flows.cluster.net import Net, parse_address
from flows.interpret import packet as packets
from flows.interpret.frame_encoder import encode
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Ct, Load, Nat, NatKind, Output, ToGroup
from flows.openflow.flow import Flow
from flows.openflow.group import Bucket, Group, NatTarget
from flows.openflow.match import exactly, match
from flows.pipeline import registers
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.group_numbers import group_id
from flows.wire.codec import encode_flow
from flows.wire.groups import encode_group
from flows.wire.values import GroupChanges, WireGroup
from tests.controller.openflow.test_sessions import DPID, by_key, connect, flow
from tests.helpers.controller.fake_switch import FakeSwitch, fake_switch, message
from tests.helpers.controller.openflow_app import AppProcess, controller
from tests.helpers.ovs.open_vswitch import Bridge, OpenVSwitch, open_vswitch
from tests.helpers.waiting import until

pytestmark = [pytest.mark.switch, pytest.mark.process]

COOKIE = cookie(CookieKind.PIPELINE)
ONE, TWO = group_id(1), group_id(2, udp=True)


@pytest.fixture(scope="module")
def ovs() -> Iterator[OpenVSwitch]:
    with open_vswitch() as switch:
        yield switch


@pytest.fixture
def app() -> Iterator[AppProcess]:
    with controller("native") as one:
        yield one


@pytest.fixture
def bridge(ovs: OpenVSwitch) -> Iterator[Bridge]:
    one = ovs.add_bridge("br-g", dpid=DPID)
    yield one
    ovs.vsctl("del-br", "br-g")


def group(number: int, *ports: int) -> WireGroup:
    """A group that translates to these ports of 10.0.0.1."""
    buckets = (Bucket((Ct(7, 30, True, nat=Nat(NatKind.DESTINATION, 4, 0x0A000001, port)),)) for port in ports)
    return encode_group(Group(number, tuple(buckets)))


def add(*groups: WireGroup) -> GroupChanges:
    return GroupChanges(groups, (), ())


def test_groups_come_before_the_flows_that_use_them_and_go_after_them(app: AppProcess, bridge: Bridge) -> None:
    up = connect(bridge, app)
    bridge.switch.ofctl("add-group", bridge.target, "group_id=7,type=select,bucket=output:1")
    assert app.dump(up).groups is None
    assert app.dump(up, groups={}).groups == {}
    one, two = group(ONE, 80, 81), group(TWO, 53)
    using = flow(1, Load(registers.SOURCE_OFPORT, 5), ToGroup(ONE)), flow(2, ToGroup(TWO))
    assert app.send(up, 1, adds=using, groups=add(one, two)) == BundleDone(DPID, up.session, 1)
    found = app.dump(up, groups={})
    assert found.groups == {ONE: one.body, TWO: two.body}
    assert found.flows == by_key(*using)
    changed = group(ONE, 82)
    assert app.dump(up, groups={ONE: changed.body, TWO: two.body, group_id(3): b"?"}).groups == {
        ONE: one.body,
        group_id(3): None,
    }
    after = GroupChanges((), (changed,), (TWO,))
    assert app.send(up, 2, deletes=(using[1],), groups=after) == BundleDone(DPID, up.session, 2)
    found = app.dump(up, groups={})
    assert found.groups == {ONE: changed.body}
    assert found.flows == by_key(using[0])
    assert "group_id=7," in bridge.switch.ofctl("dump-groups", bridge.target)


def test_a_refused_group_is_named_and_nothing_of_the_bundle_is_in_force(app: AppProcess, bridge: Bridge) -> None:
    up = connect(bridge, app)
    one = group(ONE, 80)
    assert isinstance(app.send(up, 1, groups=add(one)), BundleDone)
    failed = app.send(up, 2, adds=(flow(1),), groups=add(group(TWO, 53), one))
    assert isinstance(failed, BundleFailed)
    assert failed.reason.startswith(f"the switch refused to add the group group_id={ONE},type=select,bucket=")
    assert "nat(dst=10.0.0.1:80)" in failed.reason
    assert "GROUP_EXISTS" in failed.reason
    missing = GroupChanges((), (group(TWO, 53),), ())
    failed = app.send(up, 3, adds=(flow(1),), groups=missing)
    assert isinstance(failed, BundleFailed)
    assert f"to modify the group group_id={TWO}" in failed.reason
    failed = app.send(up, 4, adds=(flow(1, ToGroup(TWO)),))
    assert isinstance(failed, BundleFailed)
    assert f"actions=group:{TWO}: OFPET_BAD_ACTION" in failed.reason
    assert "OFPBAC_BAD_OUT_GROUP" in failed.reason
    found = app.dump(up, groups={ONE: one.body})
    assert (found.flows, found.groups) == ({}, {})


def test_an_error_after_the_group_mods_leads_back_to_its_flow(app: AppProcess, bridge: Bridge) -> None:
    up = connect(bridge, app)
    bad = flow(3, Output(0xFFFFFF00))
    failed = app.send(up, 1, adds=(flow(1), bad), groups=add(group(ONE, 80), group(TWO, 53)))
    assert isinstance(failed, BundleFailed)
    assert "add table=classify" in failed.reason or "add cookie" in failed.reason
    assert app.dump(up, groups={}).groups == {}


def test_who_deletes_a_group_deletes_its_flows_and_that_is_reported(app: AppProcess, bridge: Bridge) -> None:
    up = connect(bridge, app)
    one, using = group(ONE, 80), flow(1, ToGroup(ONE))
    assert isinstance(app.send(up, 1, adds=(using,), groups=add(one)), BundleDone)
    bridge.switch.ofctl("del-groups", bridge.target, f"group_id={ONE}")
    assert app.drifted.get(timeout=30).removed == 1
    found = app.dump(up, by_key(using), {ONE: one.body})
    assert (found.flows, found.groups) == ({using.key: None}, {ONE: None})


def test_many_groups_are_made_and_dumped(app: AppProcess, bridge: Bridge) -> None:
    up = connect(bridge, app)
    many = [group(group_id(number), *range(1000, 1010)) for number in range(3000)]
    assert isinstance(app.send(up, 1, groups=add(*many), answer=BundleDone), BundleDone)
    found = app.dump(up, groups=dict(many))
    assert found.groups == {}
    gone = GroupChanges((), (), tuple(number for number, _ in many))
    assert isinstance(app.send(up, 2, groups=gone, answer=BundleDone), BundleDone)
    assert app.dump(up, groups={}).groups == {}


def test_open_vswitch_takes_a_flush(app: AppProcess, bridge: Bridge) -> None:
    up = connect(bridge, app)
    targets = NatTarget(7, 4, 0x0A000001, 53), NatTarget(7, 6, (0xFD << 120) + 1, 53), NatTarget(7, 0, 0, 0)
    app.tell("flush_connections", FlushConnections(DPID, up.session, targets))
    assert app.dump(up).flows == {}  # no FlushRefused came before


ZONE = 7
PROTOCOLS = (oxm.IP_PROTO_TCP, oxm.IP_PROTO_UDP)
SERVICES = {4: parse_address("10.96.0.1"), 6: parse_address("fd96::1")}
CLIENTS = {4: parse_address("10.0.0.9"), 6: parse_address("fd00::9")}
ENDPOINTS = {4: parse_address("10.0.0.1"), 6: parse_address("fd00::1")}


def translated_connections(bridge: Bridge) -> set[tuple[str, int, int]]:
    """Protocol, IP version and endpoint's port of each connection in the zone."""
    lines = [line for line in bridge.switch.appctl("dpctl/dump-conntrack").splitlines() if f"zone={ZONE}" in line]
    found = set()
    for line in lines:
        port = int(line.split("reply=(")[1].split("sport=")[1].split(",")[0])
        found.add((line.split(",")[0], 6 if "fd00::" in line else 4, port))
    return found


def test_a_flush_ends_the_udp_connections_to_the_endpoint_and_no_others(app: AppProcess, bridge: Bridge) -> None:
    up = connect(bridge, app)
    bridge.add_ports({"g1": 1, "g2": 2})
    families = {4: (oxm.ETH_IPV4, oxm.IPV4_DST), 6: (oxm.ETH_IPV6, oxm.IPV6_DST)}
    flows, frames = [encode_flow(Flow(30, 1, (), (Output(2),), None, COOKIE))], []
    for version, (ether, field) in families.items():
        for offset, protocol in enumerate(PROTOCOLS * 2):
            service = SERVICES[version].value + offset // 2
            terms = match(exactly(oxm.ETH_TYPE, ether), exactly(oxm.IP_PROTO, protocol), exactly(field, service))
            nat = Nat(NatKind.DESTINATION, version, ENDPOINTS[version].value, 8000 + offset // 2)
            flows.append(encode_flow(Flow(0, 1, terms, (Ct(ZONE, 30, True, nat=nat),), None, COOKIE)))
            target = Net(version, service, SERVICES[version].prefix)
            frames.append(encode(packets.transport(CLIENTS[version], target, protocol, 1000 + offset, 80, packets.SYN)))
    assert isinstance(app.send(up, 1, adds=tuple(flows)), BundleDone)
    bridge.inject("g1", *frames)
    every = {(name, version, port) for name in ("tcp", "udp") for version in (4, 6) for port in (8000, 8001)}
    assert translated_connections(bridge) == every
    for version in (4, 6):
        one = NatTarget(ZONE, version, ENDPOINTS[version].value, 8001)
        app.tell("flush_connections", FlushConnections(DPID, up.session, (one,)))
        every.discard(("udp", version, 8001))
        until(lambda: translated_connections(bridge) == every, lambda: str(translated_connections(bridge)))
    app.tell("flush_connections", FlushConnections(DPID, up.session, (NatTarget(ZONE, 0, 0, 0),)))
    every = {one for one in every if one[0] == "tcp"}
    until(lambda: translated_connections(bridge) == every, lambda: str(translated_connections(bridge)))


def test_a_switch_that_cannot_flush_says_so(app: AppProcess) -> None:
    def answer(switch: FakeSwitch, kind: int, xid: int, whole: bytes) -> bool:
        if kind == 4:
            switch.socket.sendall(message(1, b"\0\1\0\3" + whole[:64], xid))
        return kind == 4

    with fake_switch(app.port, 5, answer=answer):
        up = app.next(SwitchUp)
        app.tell("flush_connections", FlushConnections(5, up.session, (NatTarget(7, 0, 0, 0),)))
        refused = app.next(FlushRefused)
        assert "Open vSwitch 3.1" in refused.reason
        assert "BAD_EXPERIMENTER" in refused.reason


def test_a_switch_with_more_groups_than_it_can_have_is_dropped() -> None:
    def answer(switch: FakeSwitch, kind: int, xid: int, whole: bytes) -> bool:
        if kind == 18 and whole[8:10] == b"\0\7":
            some = b"".join((8).to_bytes(2, "big") + b"\1\0" + number.to_bytes(4, "big") for number in range(50))
            switch.socket.sendall(message(19, b"\0\7\0\1\0\0\0\0" + some, xid))
            return True
        return False

    with controller("native", dump_groups=40) as app, fake_switch(app.port, 5, answer=answer):
        up = app.next(SwitchUp)
        app.tell("dump", DumpFlows(5, up.session, 1, {}, groups={}))
        app.wait_for_log("more than 40 groups")
