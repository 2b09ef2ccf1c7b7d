"""Ranges and addresses that several nodes claim are nobody's."""

from __future__ import annotations

from flows.bridge.routing import ContestedNet, NetworkMode, RoutedNode, Routing, uncontested
from flows.cluster.net import parse_address, parse_network


def node(name: str, end: str = "", cidrs: str = "", addresses: str = "") -> RoutedNode:
    return RoutedNode(
        name,
        parse_address(end) if end else None,
        tuple(map(parse_network, cidrs.split())),
        tuple(map(parse_address, addresses.split())),
    )


A = node("a", "192.0.2.1", "10.244.1.0/24 fd00:1::/64", "192.0.2.1 2001:db8::1")
B = node("b", "192.0.2.2", "10.244.2.0/24 fd00:2::/64", "192.0.2.2")


def test_nodes_without_contests_are_kept_as_they_are() -> None:
    found = uncontested([B, A])
    assert found.nodes == (A, B) and not found.contested
    assert found.nodes[0] is A


def test_a_range_within_another_nodes_range_is_nobodys() -> None:
    wide = node("wide", "192.0.2.3", "10.244.0.0/16")
    found = uncontested([A, B, wide])
    assert [one.pod_cidrs for one in found.nodes] == [
        (parse_network("fd00:1::/64"),),
        (parse_network("fd00:2::/64"),),
        (),
    ]
    assert ContestedNet(parse_network("10.244.1.0/24"), "a", "wide") in found.contested
    assert {one.node for one in found.contested} == {"a", "b", "wide"}


def test_a_node_may_have_a_range_within_its_own() -> None:
    one = node("a", "192.0.2.1", "10.244.0.0/16 10.244.1.0/24", "10.244.0.1")
    assert uncontested([one]).nodes == (one,)


def test_an_address_within_the_pods_of_another_is_nobodys() -> None:
    found = uncontested([A, B, node("thief", "192.0.2.9", "", "10.244.1.7")])
    assert found.nodes[0].pod_cidrs == (parse_network("fd00:1::/64"),) and found.nodes[2].addresses == ()


def test_a_tunnel_end_of_two_nodes_is_nobodys() -> None:
    found = uncontested([A, B, node("c", "192.0.2.1", "10.244.3.0/24")])
    assert [one.tunnel_end for one in found.nodes] == [None, B.tunnel_end, None]


def test_many_claims_to_one_range_cost_no_more_than_their_number() -> None:
    whole = "0.0.0.0/0 10.0.0.0/8 10.244.0.0/16"
    found = uncontested(node(f"n{number}", cidrs=whole) for number in range(3000))
    assert len(found.contested) == 9000 and all(not one.pod_cidrs for one in found.nodes)


def test_remote_nodes_are_all_but_the_own_and_those_without_a_tunnel_end() -> None:
    nodes = (A, B, node("c", "", "10.244.3.0/24"))
    assert Routing(NetworkMode.OVERLAY, "a", nodes).remotes == {"b": B}
    assert Routing(NetworkMode.OVERLAY, "", nodes).remotes == {}
    assert Routing(NetworkMode.ROUTED, "a", nodes).remotes == {}
    assert Routing(NetworkMode.OVERLAY, "a", nodes).own is A
