"""A terminating pod without a port keeps its address until another pod with a port has it."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from controller.reconcile.events import ClusterChanged
from flows.bridge.state import BridgeState, InterfaceState
from flows.cluster.model import (
    Cluster,
    Direction,
    Key,
    Labels,
    Node,
    Peer,
    Pod,
    Policy,
    Requirement,
    Rule,
    Selector,
)
from flows.cluster.model import Operator as Op
from flows.cluster.net import Net
from flows.parse.objects import parse_pod
from tests.helpers.controller.reconcile_driver import Driver, port

ADDRESS, OTHER = Net(4, 0x0A000001, 32), Net(4, 0x0A000002, 32)
OLD, NEW, THIRD = Key("x", "old"), Key("x", "new"), Key("x", "third")
PICK = Selector((Requirement("app", Op.IN, ("new",)),))
ALLOW = Policy(Key("x", "p"), isolates=frozenset({Direction.INGRESS}), ingress=(Rule((Peer(pods=PICK),)),))


def pod(key: Key, leaving: bool = False, *, labels: Labels | None = None, node: str = "n1") -> Pod:
    return Pod(key, labels or {"app": key.name}, node, f"uid-{key.name}", (ADDRESS,), terminating=leaving)


def cluster(*pods: Pod) -> Cluster:
    server = Pod(Key("x", "server"), node="n1", addresses=(OTHER,))
    return Cluster(
        pods={one.key: one for one in (server, *pods)}, nodes={"n1": Node("n1")}, policies={ALLOW.key: ALLOW}
    )


def bridge(*ports: InterfaceState) -> BridgeState:
    return BridgeState("db", "br-int", 7, "n1", datapath_type="netdev", interfaces=(port("s0", 9, "x/server"), *ports))


def driver(cluster_now: Cluster, *ports: InterfaceState) -> Driver:
    found = Driver()
    found.bridge(bridge(*ports))
    found.sync()
    found.connect(7)
    found.send(ClusterChanged(cluster_now))
    return found


def let_in(found: Driver) -> set[Net]:
    index = found.core.world.engine.index
    return index.addresses(index.group("x", PICK))


NEW_PORT, OLD_PORT = port("new0", 1, "x/new"), port("old0", 2, "x/old")


@pytest.mark.parametrize(
    ("pods", "ports", "expected"),
    [
        ([pod(OLD, True), pod(NEW)], [NEW_PORT], {ADDRESS}),
        ([pod(OLD, True), pod(NEW)], [], set()),
        ([pod(OLD), pod(NEW)], [NEW_PORT], set()),
        ([pod(OLD, True), pod(NEW)], [NEW_PORT, OLD_PORT], set()),
        ([pod(OLD, True), pod(NEW), pod(THIRD)], [NEW_PORT], set()),
        ([pod(NEW, True)], [], {ADDRESS}),
        ([pod(NEW, True), pod(OLD, True)], [], set()),
        ([pod(NEW, True), pod(OLD, True)], [OLD_PORT], set()),
        ([pod(NEW, True), pod(OLD, True)], [NEW_PORT], {ADDRESS}),
    ],
    ids=[
        "who-has-the-port", "nobody-has-one", "none-is-deleted", "both-have-one", "a-third-contests-it", "nobody-else",
        "all-leave", "the-other-has-the-port", "of-two-that-leave-who-has-the-port",
    ],
)  # fmt: skip
def test_which_pod_has_the_address(pods: list[Pod], ports: list[InterfaceState], expected: set[Net]) -> None:
    for order in permutations(pods):
        assert let_in(driver(cluster(*order), *ports)) == expected


def test_it_follows_ports_and_pods_as_they_change() -> None:
    stuck, running = pod(OLD, True), pod(NEW)
    found = driver(cluster(stuck, running))
    assert let_in(found) == set()
    flows = dict(found.switches[7].flows)
    found.bridge(bridge(NEW_PORT))
    assert let_in(found) == {ADDRESS}
    found.bridge(bridge())
    assert let_in(found) == set()
    assert found.switches[7].flows == flows
    found.bridge(bridge(NEW_PORT))
    found.send(ClusterChanged(cluster(replace_leaving(stuck, False), running)))
    assert let_in(found) == set()
    found.send(ClusterChanged(cluster(stuck, running)))
    assert let_in(found) == {ADDRESS}
    found.core.start_over()
    found.send(ClusterChanged(cluster(stuck, running)))
    found.bridge(replace(bridge(NEW_PORT), ovs_version="3.1.0"))
    assert let_in(found) == {ADDRESS}
    found.send(ClusterChanged(cluster(stuck)))
    assert let_in(found) == set(), "its own labels count again where nobody else has the address"
    index = found.core.world.engine.index
    assert index.addresses(index.group("x", Selector((Requirement("app", Op.IN, ("old",)),)))) == {ADDRESS}


def replace_leaving(one: Pod, leaving: bool) -> Pod:
    return one._replace(terminating=leaving)


@pytest.mark.parametrize(("stamp", "leaving"), [("2026-01-01T00:00:00Z", True), (None, False), ("", False)])
def test_a_deletion_timestamp_makes_a_pod_terminating(stamp: str | None, leaving: bool) -> None:
    metadata = {"name": "a", "namespace": "x", "deletionTimestamp": stamp}
    assert parse_pod({"metadata": metadata}, []).terminating is leaving


def test_a_deletion_timestamp_that_is_no_text_is_a_problem() -> None:
    from flows.parse.untrusted import Errors

    errors: Errors = []
    metadata = {"name": "a", "namespace": "x", "deletionTimestamp": 1}
    assert not parse_pod({"metadata": metadata}, errors).terminating
    assert [error.field for error in errors] == ["metadata.deletionTimestamp"]
