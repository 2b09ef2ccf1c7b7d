"""Other nodes on a bridge: each has a fixed number of flows, and a change of one changes its own flows alone."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import replace

from flows.bridge.routing import NetworkMode, NodeDifferences, RoutedNode, Routing
from flows.bridge.state import Binding, PodBinding
from flows.cluster.model import Key
from flows.cluster.net import Net, parse_address
from flows.plan.bridge_plan import BridgePlan
from flows.plan.encoder import FlowEncoder
from flows.plan.pieces import Pieces
from flows.plan.remote_nodes import RemoteNodes
from flows.policy.rule import NodePolicy
from flows.render.reference import render
from flows.wire.values import Body, FlowKey

ENCODER = FlowEncoder()
NOBODY = NodePolicy({}, ())
BOTH_FAMILIES = 16


def node(number: int, end: int = 0) -> RoutedNode:
    """A dual-stack node; `end` makes its tunnel end differ."""
    addresses = (Net(4, 0xC0000200 + number, 32), Net(6, (0xFD01 << 112) + number, 128))
    cidrs = Net(4, 0x0AF40000 + (number << 8), 24), Net(6, (0xFD02 << 112) + (number << 64), 64)
    return RoutedNode(f"node-{number:03}", Net(4, 0xC0000200 + number + (end << 8), 32), cidrs, addresses)


def binding(nodes: tuple[RoutedNode, ...], tunnel: int | None = 1) -> Binding:
    addresses = (Net(4, 0x0AF40105, 32), parse_address("fd02:0:0:1::5"))
    pod = PodBinding(5, "p5", Key("x", "p5"), 0x020000000005, addresses)
    routing = Routing(NetworkMode.OVERLAY, "node-001", nodes)
    return Binding(nodes[0].addresses, 0x020000000001, None, (pod,), True, None, routing, tunnel)


def full(view: Binding) -> dict[FlowKey, Body]:
    return dict(map(ENCODER.flow, render(view, NOBODY)))


def planned(view: Binding) -> BridgePlan:
    plan = BridgePlan(ENCODER, True, routes=True)
    plan.set_binding(view, lambda _: frozenset())
    plan.take()
    return plan


def test_every_change_of_nodes_equals_the_full_computation() -> None:
    chance = random.Random(1)
    nodes = {1: node(1)}
    view = binding((node(1),))
    plan = planned(view)
    for _ in range(200):
        number = chance.randrange(1, 12)
        if number > 1 and number in nodes and chance.random() < 0.4:
            del nodes[number]
        else:
            nodes[number] = node(number, chance.randrange(3))
        if chance.random() < 0.2:
            nodes[number] = nodes[number]._replace(tunnel_end=None) if number in nodes else node(number)
        view = binding(tuple(nodes[one] for one in sorted(nodes)), chance.choice((1, 1, 1, 2, None)))
        before = dict(plan.flows)
        plan.set_binding(view, lambda _: frozenset())
        changed = plan.take()
        wanted = full(view)
        assert plan.flows == wanted and plan.binding == view
        differs = {key for key in before.keys() | wanted.keys() if before.get(key) != wanted.get(key)}
        assert changed == {key: before.get(key) for key in differs}


def test_a_node_has_a_fixed_number_of_flows() -> None:
    few, more = full(binding((node(1), node(2)))), full(binding((node(1), node(2), node(3))))
    assert len(more) - len(few) <= BOTH_FAMILIES


def test_a_node_that_changes_its_tunnel_end_changes_its_own_flows_alone() -> None:
    nodes = tuple(node(number) for number in range(1, 200))
    plan = planned(binding(nodes))
    plan.set_binding(binding((*nodes[:100], node(101, 1), *nodes[101:])), lambda _: frozenset())
    changed = plan.take()
    assert 0 < len(changed) <= 2 * BOTH_FAMILIES
    before = set(full(binding((*nodes[:100], *nodes[101:]))))
    assert not before & changed.keys()


def test_in_mode_routed_other_nodes_have_no_flows() -> None:
    view = binding((node(1), node(2)), None)
    routed = replace(view, routing=replace(view.routing, mode=NetworkMode.ROUTED))
    alone = replace(routed, routing=replace(routed.routing, nodes=(node(1),)))
    assert full(routed) == full(alone)


def test_while_the_own_node_is_not_known_nothing_is_tunneled() -> None:
    view = binding((node(1), node(2)))
    unknown = replace(view, routing=replace(view.routing, node=""))
    assert unknown.routing.remotes == {}
    assert len(full(unknown)) < len(full(view)) - BOTH_FAMILIES + 1


class CountedPieces(Pieces):
    """Notes which pieces are written or dropped."""

    touched: frozenset[int] = frozenset()

    def put(self, piece: int, keys: tuple[FlowKey, ...], bodies: Collection[Body]) -> None:
        self.touched |= {piece}
        super().put(piece, keys, bodies)

    def drop(self, piece: int) -> None:
        self.touched |= {piece}
        super().drop(piece)


def test_a_change_of_one_node_touches_one_piece_and_is_found_once_for_all_bridges() -> None:
    nodes = tuple(node(number) for number in range(1, 200))
    encoder = FlowEncoder()
    bridges = [(f"node-{number:03}", CountedPieces()) for number in range(1, 200)]
    kept = [(name, pieces, RemoteNodes(pieces, encoder, 10)) for name, pieces in bridges]
    for name, _, remotes in kept:
        remotes.set(Routing(NetworkMode.OVERLAY, name, nodes), 1)
    rendered = encoder.remote_node.cache_info().misses
    assert rendered == len(nodes)
    for changed in ((*nodes[:100], node(101, 1), *nodes[101:]), (*nodes[:50], *nodes[51:]), (*nodes, node(201))):
        for _, pieces, _ in kept:
            pieces.touched = frozenset()
        differences = set()
        for name, pieces, remotes in kept:
            remotes.set(Routing(NetworkMode.OVERLAY, name, changed), 1)
            differences.add(id(encoder.node_differences.between(nodes, changed)))
            assert len(pieces.touched) <= 1
        assert len(differences) == 1
        for name, _, remotes in kept:
            remotes.set(Routing(NetworkMode.OVERLAY, name, nodes), 1)
    assert encoder.remote_node.cache_info().misses == rendered + 2


def test_the_difference_of_nodes_names_what_came_and_went() -> None:
    old, new = (node(1), node(2), node(3)), (node(2), node(3, 1), node(4))
    differences = NodeDifferences()
    found = differences.between(old, new)
    assert found == (("node-001",), (node(3, 1), node(4)))
    assert differences.between(old, new) is found
    assert differences.between(new, old) == (("node-004",), (node(1), node(3)))
    assert differences.between(new, new) == ((), ())
