"""What a bridge knows of its own node and of the others."""

from __future__ import annotations

from flows.bridge.routing import NetworkMode, RoutedNode, Routing
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


def test_remote_nodes_are_all_but_the_own_and_those_without_a_tunnel_end() -> None:
    nodes = (A, B, node("c", "", "10.244.3.0/24"))
    assert Routing(NetworkMode.OVERLAY, "a", nodes).remotes == {"b": B}
    assert Routing(NetworkMode.OVERLAY, "", nodes).remotes == {}
    assert Routing(NetworkMode.ROUTED, "a", nodes).remotes == {}
    assert Routing(NetworkMode.OVERLAY, "a", nodes).own is A
    assert Routing(NetworkMode.OVERLAY, "z", nodes).own is None
