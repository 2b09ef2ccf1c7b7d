"""ARP and neighbor discovery reach every port, however many there are; and a change of one costs one chunk."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.reconcile.commands import SendBundle
from controller.reconcile.events import BridgeChanged, ClusterChanged
from flows.bridge.state import Binding, BridgeState, InterfaceState, PodBinding
from flows.cluster.model import Cluster, Key, Pod
from flows.cluster.net import Net
from flows.interpret.frame_encoder import encode
from flows.interpret.packet import arp
from flows.openflow.port_numbers import MAX_OFPORT
from flows.pipeline.tables import FLOOD
from flows.plan.bridge_plan import BridgePlan
from flows.plan.encoder import FlowEncoder
from flows.plan.world import World
from flows.render.flood import flood_chunk, render_flood_to_all
from flows.render.flow_set import FlowSet
from flows.wire.codec import decode_flow
from flows.wire.values import wire_flow
from tests.helpers.controller.reconcile_driver import Driver
from tests.helpers.ovs.open_vswitch import open_vswitch

BASE, MAC = 0x0A000000, 0x020000000000
REAL = {"p1": 1, "p70": 70, "p4097": 4097, "p4200": 4200}
PORTS = range(1, 4201)


def cluster() -> Cluster:
    pods = {key: Pod(key, node="n", addresses=(Net(4, BASE + n, 32),)) for n in PORTS if (key := Key("x", f"p{n}"))}
    return Cluster(pods=pods)


def bridge() -> BridgeState:
    ports = tuple(
        InterfaceState(
            f"u{n}", f"p{n}", n, "", {"iface-id": f"x/p{n}", "attached-mac": (MAC + n).to_bytes(6, "big").hex(":")}
        )
        for n in PORTS
    )
    return BridgeState("db", "br-int", 1, "n", datapath_type="dummy", interfaces=ports)


@pytest.mark.switch
def test_a_switch_floods_to_more_ports_than_one_flow_can_name() -> None:
    made: World = World()
    made.set_bridge(bridge())
    made.set_cluster(cluster())
    made.update_plans()
    plan = made.plan_of(("db", "br-int"))
    assert plan is not None and not plan.error and not plan.refused
    flows = [wire_flow(key, body) for key, body in plan.flows.items()]
    # Of the ports' own flows only those of ports that are there, which is quicker.
    numbers = {0, *REAL.values()}
    wanted = [decode_flow(flow) for flow in flows if flow.table == FLOOD.number or flow.cookie & 0xFFFF in numbers]
    with open_vswitch() as ovs:
        one = ovs.add_bridge()
        one.add_ports(REAL)
        one.install(wanted)
        request = arp(1, (MAC + 1, BASE + 1), (0, 0x0AFFFFFF))
        got = one.inject("p1", encode(request))
        assert sorted(got) == ["br-int", "p4097", "p4200", "p70"]
        assert {len(frames) for frames in got.values()} == {1}


def test_the_flow_that_calls_all_chunks_fits_a_message() -> None:
    chunks = range(flood_chunk(1), flood_chunk(MAX_OFPORT) + 1)
    found = FlowSet()
    render_flood_to_all(found, chunks, uplink=MAX_OFPORT)
    (flow,) = found.flows()
    _, body = FlowEncoder().flow(flow)
    assert len(body.instructions) < 0xFFFF - 200
    assert len(chunks) < 4000, "OVS follows 4,096 resubmits for a packet"


def test_a_port_more_or_less_changes_its_own_flows_and_one_chunk() -> None:
    pods = tuple(PodBinding(n, f"p{n}", Key("x", f"p{n}"), MAC + n, (Net(4, BASE + n, 32),)) for n in range(1, 301))
    plan = BridgePlan(FlowEncoder(), userspace=True)
    plan.set_binding(Binding(pods=pods, userspace=True), lambda _: frozenset())
    plan.take()
    plan.set_binding(Binding(pods=pods[:-1], userspace=True), lambda _: frozenset())
    gone = plan.take()
    assert sum(key[0] == FLOOD.number for key in gone) == 1
    assert len(gone) < 30
    plan.set_binding(Binding(pods=pods, userspace=True), lambda _: frozenset())
    assert plan.take().keys() == gone.keys()


@pytest.mark.slow
def test_one_bridge_with_too_much_of_everything_stops_no_other() -> None:
    driver = Driver()
    many, other = bridge(), replace(bridge(), name="br-x", dpid=2, interfaces=bridge().interfaces[:2])
    driver.connect(1)
    driver.connect(2)
    driver.sync()
    commands = driver.send(BridgeChanged(many), BridgeChanged(other), ClusterChanged(cluster()))
    assert {one.dpid for one in commands if isinstance(one, SendBundle)} == {1, 2}
    assert all(switch.realized for switch in driver.core.switches.values())
