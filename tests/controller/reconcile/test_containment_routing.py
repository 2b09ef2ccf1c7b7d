"""Whatever raises about Nodes, Services, tiers or learned names concerns one object or bridge, where switches route."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from controller.reconcile.events import BridgeChanged, ClusterChanged
from flows.bridge.network import NetworkOptions
from flows.bridge.node_claims import NodeClaims
from flows.bridge.node_names import NodeNames
from flows.bridge.routing import TUNNEL_INTERFACE, NetworkMode
from flows.bridge.state import BridgeState, InterfaceState
from flows.cluster.model import (
    Action,
    Cluster,
    ClusterPolicy,
    ClusterRule,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Key,
    Namespace,
    Node,
    Pod,
    Protocol,
    Service,
    ServicePort,
    Tier,
)
from flows.cluster.net import parse_address, parse_network
from flows.plan import encoder
from flows.plan.bridge_services import BridgeServices
from flows.plan.cluster_network import ClusterNetwork
from flows.plan.cluster_services import ClusterServices
from flows.plan.encoder import FlowEncoder
from flows.plan.remote_nodes import RemoteNodes
from flows.policy.engine import PolicyEngine
from flows.services.index import ServiceIndex
from tests.controller.reconcile.test_containment import Fault, armed
from tests.flows.plan.test_incremental import full
from tests.helpers.controller.reconcile_driver import Driver, port

NODES = ("n1", "n2", "n3")
BAD_SERVICE, BAD_NODE, BAD_POLICY = Key("x", "bad"), "n3", Key("", "bad")
NETWORK = NetworkOptions(NetworkMode.OVERLAY, service_cidrs=(parse_network("10.96.0.0/16"),))


def node(number: int, **more: Any) -> Node:
    address, cidr = parse_address(f"192.0.2.{number}"), parse_network(f"10.0.{number}.0/24")
    return replace(Node(f"n{number}", (address,), (cidr,)), **more)


def pod(number: int, last: int, role: str) -> Pod:
    key = Key("x", f"n{number}-{last}")
    return Pod(key, {"role": role}, f"n{number}", "", (parse_address(f"10.0.{number}.{last}"),))


def service(name: str, number: int) -> Service:
    ports = (ServicePort("", Protocol.TCP, 80),)
    return Service(Key("x", name), (parse_address(f"10.96.0.{number}"),), ports)


def endpoints(name: str, *addresses: str) -> EndpointSlice:
    there = tuple(Endpoint(parse_address(address), "n1") for address in addresses)
    return EndpointSlice(Key("x", f"{name}-1"), name, there, (EndpointPort("", Protocol.TCP, 8080),))


def tier_policy(name: str, priority: int, action: Action) -> ClusterPolicy:
    return ClusterPolicy(Key("", name), "ClusterNetworkPolicy", Tier.ADMIN, priority, ingress=(ClusterRule(action),))


PODS = [pod(number, last, "ab"[last % 2]) for number in (1, 2, 3) for last in (10, 11)]
CLUSTER = Cluster(
    namespaces={"x": Namespace("x", {"ns": "x"})},
    pods=MappingProxyType({one.key: one for one in PODS}),
    nodes=MappingProxyType({one.name: one for one in map(node, (1, 2, 3))}),
    services=MappingProxyType({one.key: one for one in (service("good", 5), service("bad", 6))}),
    endpoint_slices=MappingProxyType(
        {one.key: one for one in (endpoints("good", "10.0.1.10", "10.0.2.10"), endpoints("bad", "10.0.1.11"))}
    ),
    cluster_policies=MappingProxyType(
        {one.key: one for one in (tier_policy("good", 1, Action.PASS), tier_policy("bad", 2, Action.DENY))}
    ),
)


def bridge(number: int) -> BridgeState:
    local = InterfaceState(f"uuid-{number}", "br-int", 0xFFFE, f"02:00:00:00:01:0{number}")
    ports = [port(f"p{last}", last, f"x/n{number}-{last}", **{"attached-mac": f"02:00:00:00:0{number}:{last:02x}"})
             for last in (10, 11)]  # fmt: skip
    datapath = "system" if number == 1 else "netdev"
    there = (local, port(TUNNEL_INTERFACE, 99), *ports)
    return BridgeState(f"db{number}", "br-int", number, f"n{number}", datapath_type=datapath, interfaces=there)


def without_node(cluster: Cluster) -> Cluster:
    return replace(cluster, nodes={name: one for name, one in cluster.nodes.items() if name != BAD_NODE})


def without_service(cluster: Cluster) -> Cluster:
    return replace(cluster, services={key: one for key, one in cluster.services.items() if key != BAD_SERVICE})


def with_closed_tier(cluster: Cluster) -> Cluster:
    if BAD_POLICY not in cluster.cluster_policies:
        return cluster
    closed = ClusterRule(Action.DENY, unreadable=True)
    changed = cluster.cluster_policies[BAD_POLICY]._replace(ingress=(closed,))
    return replace(cluster, cluster_policies={**cluster.cluster_policies, BAD_POLICY: changed})


def of(name: str) -> Callable[..., bool]:
    """Whether the first of some values that has a name or a key is of this one."""
    return lambda _, *rest: any(getattr(getattr(one, "key", one), "name", one) == name for one in rest[:1] if one)


def of_bad_service(_: object, first: Any, second: Any = "", *__: object) -> bool:
    served = second if isinstance(first, bytes) else first
    return getattr(getattr(served, "service", None), "key", None) == BAD_SERVICE


FAULTS = (
    Fault(ClusterNetwork, "set_node", lambda _, name, one: name == BAD_NODE and one is not None, without_node),
    Fault(NodeClaims, "put", of(BAD_NODE), without_node),
    Fault(NodeClaims, "_decide", of(BAD_NODE)),
    Fault(NodeNames, "add_node", of(BAD_NODE), without_node),
    Fault(PolicyEngine, "put_node", of(BAD_NODE), without_node),
    Fault(encoder, "render_remote_node", lambda _, one, __: one.name == BAD_NODE, without_node),
    Fault(ServiceIndex, "put_service", lambda _, key, one: key == BAD_SERVICE and one is not None, without_service),
    Fault(ClusterServices, "_put", of_bad_service, without_service),
    Fault(FlowEncoder, "service_port", of_bad_service, without_service),
    Fault(PolicyEngine, "put_cluster_policy",
          lambda _, one: one.key == BAD_POLICY and not one.ingress[0].unreadable, with_closed_tier),
    Fault(BridgeServices, "set_place", lambda _, __, place: place.node == "n1"),
    Fault(BridgeServices, "update", lambda services, *_: services._place is not None and services._place.node == "n1"),
    Fault(RemoteNodes, "set", lambda _, routing, *__: routing.node == "n1"),
)  # fmt: skip


class Play:
    """Three nodes that route, with their switches."""

    def __init__(self) -> None:
        self.driver = Driver([f"db{number}" for number in (1, 2, 3)], network=NETWORK)
        self.cluster = Cluster()
        for number in (1, 2, 3):
            self.driver.send(BridgeChanged(bridge(number)))
        self.driver.send(ClusterChanged(self.cluster))
        for number in (1, 2, 3):
            self.driver.sync(f"db{number}")
            self.driver.connect(number)

    def become(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.driver.send(ClusterChanged(cluster))

    def tick(self) -> None:
        self.driver.now += 70.0
        self.driver.send()

    def check(self, spared: Cluster, *numbers: int) -> None:
        """These switches have what the full computation says."""
        bridges = dict(self.driver.core.world.bridges)
        routed = {one.name for one in next(iter(bridges.values())).routing.nodes}
        assert routed == spared.nodes.keys()
        flows, groups, _ = full(spared, bridges)
        for number in numbers:
            switch = self.driver.switches[number]
            assert switch.flows == flows[f"db{number}", "br-int"]
            assert switch.groups == groups[f"db{number}", "br-int"]


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
@pytest.mark.parametrize("early", [True, False], ids=["from the start", "later"])
def test_what_keeps_raising_concerns_nobody_else(fault: Fault, early: bool) -> None:
    play = Play()
    less = with_closed_tier(without_node(without_service(CLUSTER)))
    if not early:
        play.become(less)
    with pytest.MonkeyPatch.context() as patch:
        armed(patch, fault, 1 << 30)
        play.become(CLUSTER)
        play.tick()
        play.check(fault.spares(CLUSTER), 2)
        # And all others go on to change.
        more = replace(CLUSTER, services={**CLUSTER.services, Key("x", "new"): service("new", 7)})
        more = replace(more, endpoint_slices={**more.endpoint_slices, Key("x", "new-1"): endpoints("new", "10.0.2.11")})
        play.become(more)
        play.tick()
        play.check(fault.spares(more), 2)
        world = play.driver.core.world
        told = [*play.driver.core.contained_problems(), *world.failures, *world.refused_service_ports()]
        assert told or world.network.problems_of(BAD_NODE)
    # What was rejected is tried again when it changes.
    play.become(less)
    play.become(CLUSTER)
    for _ in range(3):
        play.tick()
    play.check(CLUSTER, 1, 2, 3)
    assert not [*play.driver.core.contained_problems()]
