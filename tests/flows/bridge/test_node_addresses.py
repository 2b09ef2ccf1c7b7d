"""Addresses of a node in external_ids of its bridge: they count unless a pod has the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.reconcile.events import ClusterChanged
from controller.status.missing import unrealized
from controller.status.reference import switch_views
from flows.bridge.external_ids import MAX_NODE_ADDRESSES, parse_node_addresses
from flows.bridge.state import BridgeState, InterfaceState
from flows.cluster.model import Cluster, Key, Node, Pod
from flows.cluster.net import Net, parse_address
from tests.helpers.controller.reconcile_driver import Driver, port

NODE, MORE, LINK_LOCAL = (parse_address(text) for text in ("10.0.0.254", "10.0.0.77", "169.254.20.10"))
A, B = Key("x", "a"), Key("x", "b")


def cluster(*elsewhere: Net) -> Cluster:
    pods = {A: Pod(A, node="n1", addresses=(parse_address("10.0.0.1"),)), B: Pod(B, node="n2", addresses=elsewhere)}
    return Cluster(pods=pods, nodes={name: Node(name, (NODE,) if name == "n1" else ()) for name in ("n1", "n2")})


def bridge(said: str, *ports: InterfaceState, number: int = 1) -> BridgeState:
    node = f"n{number}"
    return BridgeState(node, "br-int", number, node, datapath_type="netdev", interfaces=ports, node_addresses_text=said)


def driver(said: str) -> Driver:
    found = Driver(["n1", "n2"])
    found.bridge(bridge(said, port("a0", 1, "x/a")))
    found.bridge(bridge("", port("b0", 1, "x/b"), number=2))
    found.sync("n1", "n2")
    found.connect(1)
    found.connect(2)
    found.send(ClusterChanged(cluster()))
    return found


def own(found: Driver, node: str = "n1") -> set[Net]:
    plan = found.core.world.plan_of((node, "br-int"))
    assert plan is not None
    assert plan.binding.node_addresses == found.core.world.binding((node, "br-int")).binding.node_addresses
    return set(plan.binding.node_addresses)


def test_addresses_of_the_bridge_are_the_nodes() -> None:
    found = driver("10.0.0.77/16, 169.254.20.10 10.0.0.254")
    assert own(found) == {NODE, MORE, LINK_LOCAL}
    assert own(found, "n2") == set()
    found.bridge(bridge("", port("a0", 1, "x/a")))
    assert own(found) == {NODE}


def test_they_count_for_their_own_switch_only() -> None:
    before = driver("").switches[2].flows
    assert driver(f"{MORE}").switches[2].flows == before


def test_a_pod_with_the_address_wins_wherever_it_is() -> None:
    found = driver(f"{MORE} {LINK_LOCAL}")
    found.send(ClusterChanged(cluster(MORE)))
    assert own(found) == {NODE, LINK_LOCAL}
    found.send(ClusterChanged(cluster()))
    assert own(found) == {NODE, LINK_LOCAL, MORE}
    # A pod whose address only its port has.
    found.bridge(bridge("", port("b0", 1, "x/b", ip_addresses=str(MORE)), number=2))
    assert own(found) == {NODE, LINK_LOCAL}
    found.bridge(bridge("", port("b0", 1, "x/b"), number=2))
    assert own(found) == {NODE, LINK_LOCAL, MORE}
    # A pod on the same switch keeps the address of its port.
    whole = cluster()
    found.send(ClusterChanged(replace(whole, pods={**whole.pods, A: Pod(A, node="n1")})))
    found.bridge(bridge(f"{MORE}", port("a0", 1, "x/a", ip_addresses=str(MORE))))
    assert own(found) == {NODE}
    assert [one.addresses for one in found.core.world.binding(("n1", "br-int")).binding.pods] == [(MORE,)]
    before = dict(found.switches[1].flows)
    found.core.start_over()
    found.send(ClusterChanged(cluster(LINK_LOCAL)), ClusterChanged(replace(whole, pods={A: Pod(A, node="n1")})))
    assert found.switches[1].flows == before


@pytest.mark.parametrize("said", ["10.0.0.77 nonsense", "10.0.0.77,127.0.0.1", "10.0.0.77 224.0.0.1 ::"])
def test_an_address_that_does_not_count_is_a_problem(said: str) -> None:
    found = driver(said)
    assert own(found) == {NODE, MORE}
    error = switch_views(found.core, 0.0)[0].error
    assert error.startswith("external_ids:headgate-node-addresses of the bridge: ")
    assert any(error in line for line in unrealized(found.core, found.core.revision))


def test_their_number_is_limited() -> None:
    addresses, problem = parse_node_addresses(" ".join(f"10.1.0.{n}" for n in range(1, MAX_NODE_ADDRESSES + 10)))
    assert len(addresses) == MAX_NODE_ADDRESSES
    assert "the first 64 count" in problem
