"""Which Node a bridge's host name stands for: no guesses, and the same result in any order."""

from __future__ import annotations

import random
from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.reconcile.events import BridgeChanged, BridgeGone, ClusterChanged, OvsdbPeer, OvsdbState
from controller.status.missing import unrealized
from controller.status.reference import problem_views, switch_views
from flows.bridge.connection_peer import ConnectionPeer
from flows.bridge.node_names import NodeNames
from flows.bridge.state import BridgeState
from flows.cluster.model import Cluster, Key, Node, Pod
from flows.cluster.net import parse_address
from tests.helpers.controller.reconcile_driver import Driver, port

A = Key("x", "a")


def world(*nodes: str, pods_on: str = "") -> Cluster:
    pod = Pod(A, node=pods_on or nodes[0], addresses=(parse_address("10.0.0.1"),))
    return Cluster(pods={A: pod}, nodes={name: Node(name) for name in nodes})


def bridge(hostname: str, ovsdb: str = "db", dpid: int = 7) -> BridgeState:
    return BridgeState(
        ovsdb, "br-int", dpid, hostname, datapath_type="netdev", interfaces=(port(f"a{dpid}", 1, "x/a"),)
    )


def driver(cluster: Cluster, *bridges: BridgeState) -> Driver:
    found = Driver([one.ovsdb for one in bridges])
    found.send(*map(BridgeChanged, bridges), ClusterChanged(cluster))
    found.sync(*(one.ovsdb for one in bridges))
    for one in bridges:
        found.connect(one.dpid)
    return found


def lacks(found: Driver) -> list[str]:
    return list(unrealized(found.core, found.core.revision))


@pytest.mark.parametrize(
    ("claimed", "nodes", "meant"),
    [
        ("worker-01", ["worker-01", "worker-02"], "worker-01"),
        ("Worker-01", ["worker-01", "worker-02"], "worker-01"),
        ("worker-01.corp.example", ["worker-01", "worker-02"], "worker-01"),
        ("Worker-01.corp.example", ["worker-01", "worker-02"], "worker-01"),
        ("WORKER-01", ["worker-01.corp.example"], "worker-01.corp.example"),
        ("worker-01.CORP.example", ["worker-01.corp.example", "worker-01.lab.example"], "worker-01.corp.example"),
        # It may stand for either machine.
        ("worker-01", ["worker-01.corp.example", "worker-01.lab.example"], None),
        ("worker-01.corp.example", ["worker-01", "worker-01.lab.example"], None),
        ("worker-01.corp.example", ["worker-01.lab.example"], None),
        ("worker-1", ["worker-01"], None),
        ("10.0.0.1", ["10.0.0.2"], None),
        ("10", ["10.0.0.2"], None),
    ],
)
def test_the_node_that_a_host_name_stands_for(claimed: str, nodes: list[str], meant: str | None) -> None:
    found = driver(world(*nodes), bridge(claimed))
    (view,) = switch_views(found.core, 0.0)
    assert view.node == (meant or claimed)
    if meant is not None:
        assert view.error == "" or meant != nodes[0]
        assert [a.pod for a in found.core.world.binding(("db", "br-int")).binding.pods] == (
            [A] if meant == nodes[0] else []
        )
        return
    (line,) = lacks(found)
    assert "ovs-vsctl set Open_vSwitch . external_ids:headgate-node-name=NAME" in line
    assert nodes[0] in line
    assert line.endswith(view.error)


def test_the_bridge_of_that_node_has_its_pods() -> None:
    found = driver(world("worker-01"), bridge("Worker-01.corp.example"))
    assert lacks(found) == []
    assert found.marks, "the pod's port is marked as installed"


def test_a_bridge_without_a_node_is_no_problem_while_all_nodes_with_pods_have_bridges() -> None:
    found = driver(world("n1"), bridge("n1"), bridge("gateway", "other", 8))
    assert lacks(found) == []


def test_without_node_objects_pods_tell_the_nodes() -> None:
    cluster = replace(world("n1"), nodes={})
    assert lacks(driver(cluster, bridge("n1"))) == []
    assert "host name N1 is no Node's" in lacks(driver(cluster, bridge("N1")))[0]


def test_a_node_that_is_added_later_is_found() -> None:
    found = driver(world("other", pods_on="worker-01"), bridge("Worker-01"))
    assert lacks(found) != []
    found.send(ClusterChanged(world("other", "worker-01", pods_on="worker-01")))
    assert lacks(found) == []
    found.send(ClusterChanged(world("other", "worker-01", "WORKER-01", pods_on="worker-01")))
    assert "Worker-01 is like those of several Nodes" in lacks(found)[0]


@pytest.mark.parametrize("order", [1, -1])
def test_a_similar_name_never_replaces_the_exact_name(order: int) -> None:
    liar, honest = bridge("Worker-01", "liar", 8), bridge("worker-01", "honest", 7)
    found = driver(world("worker-01"), *(liar, honest)[::order])
    assert found.core.world.owners.refusal(("honest", "br-int")) == ""
    assert "node worker-01 has its switch at honest" in found.core.world.owners.refusal(("liar", "br-int"))


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_similar_names_neither_counts(order: int) -> None:
    one, two = bridge("worker-01.corp", "one", 7), bridge("worker-01.lab", "two", 8)
    found = driver(world("worker-01"), *(one, two)[::order])
    lines = lacks(found)
    assert len(lines) == 2
    assert all("both may stand for node worker-01" in line for line in lines)
    assert all("external_ids:headgate-node-name=NAME" in line for line in lines)
    found.bridge(replace(two, hostname="elsewhere"))
    assert lacks(found) == []


def test_a_certificate_decides_between_similar_names() -> None:
    one, two = bridge("worker-01.corp", "one", 7), bridge("worker-01.lab", "two", 8)
    found = driver(world("worker-01"), one, two)
    found.send(OvsdbPeer("two", ConnectionPeer("192.0.2.2", ("worker-01",))))
    assert found.core.world.owners.refusal(("two", "br-int")) == ""
    assert "has its switch at two" in found.core.world.owners.refusal(("one", "br-int"))


NAMES = ("a", "A", "a.x", "a.y", "A.X", "b", "b.x")


@given(st.lists(st.sampled_from(NAMES), unique=True), st.lists(st.sampled_from(NAMES), max_size=4), st.randoms())
def test_the_order_of_changes_does_not_matter(goal: list[str], before: list[str], order: random.Random) -> None:
    """The Node of a name depends on the present Nodes, not on their order; it is found without a search."""
    fresh, walked = NodeNames(), NodeNames()
    for name in goal:
        fresh.add_node(name)
    steps = [*before, *goal]
    order.shuffle(steps)
    for name in steps:
        walked.add_node(name)
    for name in set(before) - set(goal):
        walked.remove_node(name)
    for name in NAMES:
        meant = fresh.node_for(name)
        assert walked.node_for(name) == meant
        same = [node for node in goal if node.casefold() == name.casefold()]
        alike = [node for node in goal if node.partition(".")[0].casefold() == name.partition(".")[0].casefold()]
        if name in goal:
            assert meant == name
        elif same:
            assert meant == (same[0] if len(same) == 1 else name)
        elif len(alike) == 1 and ("." not in name or "." not in alike[0]):
            assert meant == alike[0]
        else:
            assert meant == name


def test_a_node_event_costs_only_the_bridges_that_it_can_change() -> None:
    """Each bridge and each event looks names up, and never goes through all of them."""
    names = NodeNames()
    for n in range(1000):
        names.add_node(f"n{n}")
        names.update_bridge((f"db{n}", "br-int"), None, bridge(f"N{n}.corp", f"db{n}", n + 1))
    assert list(names.add_node("n7.lab")) == [("db7", "br-int")]
    assert list(names.remove_node("n7.lab")) == [("db7", "br-int")]
    assert names.node_for("N7.corp") == "n7"


def test_a_world_that_starts_over_finds_the_same_nodes() -> None:
    found = driver(world("worker-01"), bridge("Worker-01"))
    before = found.core.world.bridges
    found.core.world.start_over()
    assert found.core.world.bridges == before
    whole = found.core.world.cluster
    assert whole is not None
    found.send(ClusterChanged(replace(whole, nodes=MappingProxyType({}))))
    assert "no Node's" in lacks(found)[0]


def test_an_ovsdb_without_a_managed_bridge_is_a_problem() -> None:
    found = Driver(["db"], bridges=("nope",))
    found.send(ClusterChanged(world("n1")))
    found.sync()
    why = "there is no bridge nope; make it there, or say with --bridge which one is Headgate's"
    assert [(one.where, one.reason) for one in problem_views(found.core)] == [("db", why)]
    assert lacks(found) == [f"db: {why}"]
    assert found.core.waiting_for() == [f"db: {why}"]
    found.send(OvsdbState("manager:x", True))
    assert len(problem_views(found.core)) == 2
    assert found.core.waiting_for() == [f"db: {why}"], "whoever calls does not decide whether the controller is ready"
    found.send(OvsdbState("db", True, "the same database as another"))
    assert found.core.waiting_for() == []
    found.sync()
    found.bridge(replace(bridge("n1"), name="nope"))
    found.connect(7)
    assert [one.where for one in problem_views(found.core)] == ["manager:x"]
    assert found.core.waiting_for() == []
    found.send(BridgeGone("db", "nope"))
    assert [one.where for one in problem_views(found.core)][:2] == ["db", "manager:x"]
