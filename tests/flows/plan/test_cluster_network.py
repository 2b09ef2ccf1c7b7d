"""Every bridge knows what its nodes' objects say, and its OVSDB gets the settings that follow, as nodes change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest

from flows.bridge.connection_peer import ConnectionPeer
from flows.bridge.network import NETWORK_KEYS, NO_NETWORK, NetworkOptions, NodeNetwork
from flows.bridge.routing import FLAT, NetworkMode
from flows.bridge.state import BridgeState
from flows.cluster.model import Cluster, Key, Node, Service, ServiceCidr
from flows.cluster.net import parse_address, parse_network
from flows.plan.cluster_network import API_SERVICE
from flows.plan.world import World

OVERLAY = NetworkOptions(NetworkMode.OVERLAY, service_cidrs=(parse_network("10.96.0.0/12"),))


def node(number: int, cidr: str = "", address: str = "") -> Node:
    addresses = (parse_address(address or f"192.0.2.{number}"),)
    return Node(
        f"n{number}", addresses, (parse_network(cidr or f"10.244.{number}.0/24"),), f"2026-01-01T00:00:{number:02}Z"
    )


def bridge_of(number: int) -> BridgeState:
    return BridgeState(f"o{number}", "br-int", dpid=number, hostname=f"n{number}")


def world_of(*nodes: Node, options: NetworkOptions = OVERLAY, bridges: int = 2) -> World:
    world = World(options)
    world.set_cluster(Cluster(nodes={one.name: one for one in nodes}))
    for number in range(1, bridges + 1):
        world.set_bridge(bridge_of(number))
    world.update_plans()
    return world


def set_nodes(world: World, *nodes: Node) -> set[str]:
    """Have these nodes; returns the OVSDBs of the bridges that differ."""
    before = {name: bridge.routing for name, bridge in world.bridges.items()}
    world.set_cluster(Cluster(nodes=MappingProxyType({one.name: one for one in nodes})))
    world.update_plans()
    return {name[0] for name, bridge in world.bridges.items() if bridge.routing != before[name]}


def settings(world: World, number: int) -> Mapping[str, str]:
    return world.network.network_of(world.bridges[f"o{number}", "br-int"]).external_ids


def test_in_a_flat_network_nothing_is_kept_and_nothing_is_written() -> None:
    world = world_of(node(1), node(2), options=NetworkOptions())
    bridge = world.bridges["o1", "br-int"]
    assert bridge.routing is FLAT and world.network.network_of(bridge) == NO_NETWORK == NodeNetwork({}, "")
    assert not world.network.routed_nodes() and not world.network.problems_of("n1")


def test_all_bridges_share_the_nodes() -> None:
    world = world_of(node(1), node(2))
    one, two = (world.bridges[name, "br-int"].routing for name in ("o1", "o2"))
    assert one.nodes is two.nodes and [each.name for each in one.nodes] == ["n1", "n2"]
    assert (one.node, two.node) == ("n1", "n2")
    assert list(one.remotes) == ["n2"] and one.service_cidrs == OVERLAY.service_cidrs


def test_the_settings_of_a_bridge_are_those_of_its_node() -> None:
    found = settings(world_of(node(1), node(2)), 1)
    assert set(found) == set(NETWORK_KEYS)
    assert {key: value for key, value in found.items() if key != "headgate-revision"} == {
        "headgate-network": "overlay",
        "headgate-encap": "geneve",
        "headgate-pod-cidrs": "10.244.1.0/24",
        "headgate-cluster-cidrs": "10.244.1.0/24 10.244.2.0/24",
        "headgate-service-cidrs": "10.96.0.0/12",
        "headgate-node-ips": "192.0.2.1",
        "headgate-mtu": "1450",
        "headgate-node-ports": "30000-32767",
    }


@pytest.mark.parametrize(
    ("options", "address", "mtu"),
    [
        (NetworkOptions(NetworkMode.OVERLAY), "192.0.2.1", "1450"),
        (NetworkOptions(NetworkMode.OVERLAY, "vxlan"), "2001:db8::1", "1430"),
        (NetworkOptions(NetworkMode.ROUTED), "192.0.2.1", "1500"),
        (NetworkOptions(NetworkMode.OVERLAY, mtu=8950), "192.0.2.1", "8950"),
    ],
)
def test_the_mtu_follows_from_the_mode_and_the_family_of_the_tunnels(
    options: NetworkOptions, address: str, mtu: str
) -> None:
    found = world_of(node(1, address=address), options=options, bridges=1)
    assert settings(found, 1)["headgate-mtu"] == mtu
    network = found.network.network_of(found.bridges["o1", "br-int"])
    assert network.tunnel == (options.encap if options.mode is NetworkMode.OVERLAY else "")


def test_the_revision_changes_with_what_the_node_must_do_and_with_nothing_else() -> None:
    world = world_of(node(1), node(2))
    first = settings(world, 1)["headgate-revision"]
    assert set_nodes(world, node(1), node(2, address="192.0.2.20")) == {"o1", "o2"}
    assert settings(world, 1)["headgate-revision"] == first
    assert settings(world, 2)["headgate-revision"] != first
    set_nodes(world, node(1), node(2), node(3))
    assert settings(world, 1)["headgate-revision"] != first
    assert settings(world, 1)["headgate-cluster-cidrs"] == "10.244.1.0/24 10.244.2.0/23"


def test_with_the_ranges_of_the_cluster_a_new_node_changes_no_other_nodes_settings() -> None:
    options = NetworkOptions(NetworkMode.OVERLAY, pod_cidrs=(parse_network("10.244.0.0/16"),))
    world = world_of(node(1), node(2), options=options)
    before = settings(world, 1)
    assert before["headgate-cluster-cidrs"] == "10.244.0.0/16"
    set_nodes(world, node(1), node(2), node(3))
    assert settings(world, 1) == before


def test_a_node_comes_changes_and_goes_at_all_bridges() -> None:
    world = world_of(node(1), node(2))
    assert set_nodes(world, node(1), node(2), node(3)) == {"o1", "o2"}
    assert list(world.bridges["o1", "br-int"].routing.remotes) == ["n2", "n3"]
    assert not set_nodes(world, node(1), node(2), node(3))
    assert set_nodes(world, node(1), node(2)) == {"o1", "o2"}
    assert list(world.bridges["o1", "br-int"].routing.remotes) == ["n2"]


def test_a_node_that_claims_another_nodes_range_and_end_changes_nothing_there() -> None:
    world = world_of(node(1), node(2))
    before = world.bridges["o2", "br-int"].routing
    thief = Node("a", node(2).addresses, node(2).pod_cidrs, "2000-01-01T00:00:00Z")
    set_nodes(world, node(1), node(2), thief)
    after = world.bridges["o2", "br-int"].routing
    assert after.own == before.own and [one.nets for one in after.nodes if one.name == "a"] == [()]
    assert settings(world, 2)["headgate-pod-cidrs"] == "10.244.2.0/24"
    assert len(world.network.problems_of("a")) == 3


def test_after_a_start_the_node_whose_connection_comes_from_an_address_has_it() -> None:
    victim = replace(node(2), created="2026-06-01T00:00:00Z")
    thief = replace(node(3), addresses=(*node(3).addresses, *node(2).addresses))
    world = World(OVERLAY)
    world.set_cluster(Cluster(nodes={one.name: one for one in (node(1), victim, thief)}))
    for number in (1, 2, 3):
        world.set_bridge(bridge_of(number))
    world.update_plans()
    routing = world.bridges["o1", "br-int"].routing
    assert [one.tunnel_end for one in routing.nodes if one.name == "n2"] == [None]
    world.owners.set_peer("o3", ConnectionPeer("192.0.2.3"))
    world.owners.set_peer("o2", ConnectionPeer("192.0.2.2"))
    world.update_plans()
    for bridge in world.bridges.values():
        assert {one.name: one.addresses for one in bridge.routing.nodes} == {
            one.name: one.addresses for one in (node(1), node(2), node(3))
        }
    assert "that of n2 already" in world.network.problems_of("n3")[0] and not world.network.problems_of("n2")


def test_after_an_error_everything_is_computed_anew_and_equal() -> None:
    world = world_of(node(1), node(2))
    before = [bridge.routing for bridge in world.bridges.values()]
    world.start_over()
    world.update_plans()
    assert [bridge.routing for bridge in world.bridges.values()] == before


def test_a_bridge_that_finds_its_node_later_routes_for_it() -> None:
    world = World(OVERLAY)
    world.set_bridge(bridge_of(1))
    world.set_cluster(Cluster(nodes={"n1.example": Node("n1.example", node(1).addresses, node(1).pod_cidrs)}))
    world.update_plans()
    routing = world.bridges["o1", "br-int"].routing
    assert routing.node == "n1.example" and routing.own is not None


def test_the_range_of_services_is_the_operators_else_the_apis_else_the_api_servers_address() -> None:
    api = Service(API_SERVICE, (parse_address("10.96.0.1"),))
    ranges = {"kubernetes": ServiceCidr("kubernetes", (parse_network("10.96.0.0/12"),))}
    world = world_of(node(1), options=NetworkOptions(NetworkMode.ROUTED), bridges=1)

    def found(services: dict[Key, Service], cidrs: dict[str, ServiceCidr]) -> str:
        world.set_cluster(Cluster(nodes={"n1": node(1)}, services=services, service_cidrs=cidrs))
        world.update_plans()
        return settings(world, 1).get("headgate-service-cidrs", "")

    assert found({}, {}) == ""
    assert found({API_SERVICE: api}, {}) == "10.96.0.1"
    assert world.network.problems_of("n1")
    more = {"more": ServiceCidr("more", (parse_network("10.112.0.0/16"),))}
    assert found({API_SERVICE: api}, {**ranges, **more}) == "10.96.0.0/12 10.112.0.0/16"
    assert not world.network.problems_of("n1")
    assert found({API_SERVICE: api}, ranges) == "10.96.0.0/12"
    assert found({}, {}) == ""
    assert settings(world_of(node(1)), 1)["headgate-service-cidrs"] == "10.96.0.0/12"


def test_a_node_whose_range_is_that_of_the_services_is_refused() -> None:
    world = world_of(node(1, "10.96.1.0/24"), node(2))
    assert "which is that of the Services already" in world.network.problems_of("n1")[0]
    assert "headgate-pod-cidrs" not in settings(world, 1)


def test_a_range_of_services_that_is_not_known_is_told() -> None:
    world = world_of(node(1), options=NetworkOptions(NetworkMode.ROUTED), bridges=1)
    assert ["--service-cidr" in one for one in world.network.problems_of("n1")] == [True]
    assert "headgate-service-cidrs" not in settings(world, 1)
