"""Worlds whose rules outgrow a flow message: a switch takes them, and lets through just what they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from flows.bridge.state import BridgeState, InterfaceState
from flows.cluster.model import Cluster, Direction, IPBlock, Key, Peer, Pod, Policy, PortSpec, Rule
from flows.cluster.net import ADDRESS_BITS, Net
from flows.interpret.frame_encoder import encode
from flows.interpret.packet import Packet, transport
from flows.plan.world import World
from flows.wire.codec import decode_flow
from flows.wire.values import wire_flow
from tests.helpers.ovs.open_vswitch import open_vswitch

pytestmark = pytest.mark.switch


SERVER, CLIENT = Key("one", "server"), Key("one", "client")
HERE, THERE = Net(4, 0x0A000001, 32), Net(4, 0x0A000002, 32)
MACS = {SERVER: 0x020000000001, CLIENT: 0x020000000002}
TCP, SYN = 6, 2
OPEN, SHUT = 4000, 4001


def _block(number: int) -> Peer:
    return Peer(ip_block=IPBlock(Net(4, 0xAC100000 + 2 * number, ADDRESS_BITS[4])))


def _cluster(policies: list[tuple[Rule, ...]]) -> Cluster:
    pods = {key: Pod(key, addresses=(net,)) for key, net in ((SERVER, HERE), (CLIENT, THERE))}
    made = {
        (key := Key("one", f"p{n}")): Policy(key, isolates=frozenset({Direction.INGRESS}), ingress=rules)
        for n, rules in enumerate(policies)
    }
    return Cluster(pods=pods, policies=made)


def _bridge() -> BridgeState:
    ports = [
        InterfaceState(
            str(n), f"p{n}", n, "", {"iface-id": str(key), "attached-mac": MACS[key].to_bytes(6, "big").hex(":")}
        )
        for n, key in enumerate((SERVER, CLIENT), 1)
    ]
    return BridgeState("db", "br-int", 1, "node", datapath_type="dummy", interfaces=tuple(ports))


def _many_policies() -> list[tuple[Rule, ...]]:
    others = [(Rule((_block(n),), (PortSpec(port=5000 + n),)),) for n in range(5000)]
    return [*others, (Rule((Peer(ip_block=IPBlock(THERE)),), (PortSpec(port=OPEN),)),)]


def _same_peer() -> list[tuple[Rule, ...]]:
    """All of them let the client in, so the client's address stands in more rules than a flow can name."""
    return [(Rule((Peer(ip_block=IPBlock(THERE)),), (PortSpec(port=n),)),) for n in range(4000, 9000) if n != SHUT]


def _many_peers() -> list[tuple[Rule, ...]]:
    peers = (*map(_block, range(5000)), Peer(ip_block=IPBlock(THERE)))
    return [(Rule(peers, (PortSpec(port=OPEN),)),)]


def _many_ports() -> list[tuple[Rule, ...]]:
    return [(Rule((Peer(ip_block=IPBlock(THERE)),), tuple(PortSpec(port=n) for n in range(2000, 4001, 2))),)]


def _syn(port: int) -> Packet:
    return replace(transport(THERE, HERE, TCP, 50000 + port, port, SYN), eth_src=MACS[CLIENT], eth_dst=MACS[SERVER])


@pytest.mark.switch
@pytest.mark.slow
@pytest.mark.parametrize("world", [_many_policies, _same_peer, _many_peers, _many_ports])
def test_a_crowded_world_passes_what_it_allows_and_nothing_else(world: Callable[[], list[tuple[Rule, ...]]]) -> None:
    made: World = World()
    made.set_bridge(_bridge())
    made.set_cluster(_cluster(world()))
    made.update_plans()
    plan = made.plan_of(("db", "br-int"))
    assert plan is not None
    assert not plan.error
    flows = [wire_flow(key, body) for key, body in plan.flows.items()]
    assert max(len(flow.match) + len(flow.instructions) for flow in flows) < 0xFFFF - 200
    with open_vswitch() as ovs:
        bridge = ovs.add_bridge()
        bridge.add_ports({"p1": 1, "p2": 2})
        bridge.install([decode_flow(flow) for flow in flows])
        for port, passes in ((OPEN, True), (SHUT, False)):
            assert ("p1" in bridge.inject("p2", encode(_syn(port)))) is passes, port
