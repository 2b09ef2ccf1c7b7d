"""What is too much for a bridge is left out there, alone, and its policies say so; and what one event costs."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from controller.reconcile.reconciler import Reconciler
from controller.status.missing import policy_problems
from controller.status.reference import policy_views
from flows.bridge.state import BridgeState
from flows.cluster.model import (
    EVERYTHING,
    Cluster,
    Direction,
    IPBlock,
    Key,
    Peer,
    Pod,
    Policy,
    PortSpec,
    Protocol,
    Rule,
)
from flows.cluster.net import Net
from flows.openflow.actions import Action
from flows.plan import encoder
from flows.plan.world import World
from flows.policy import flow_limits
from flows.wire.codec import encode_body
from flows.wire.values import Body
from tests.helpers.controller.reconcile_driver import port

INGRESS = frozenset({Direction.INGRESS})


def blocks(namespace: str, count: int) -> Policy:
    peers = tuple(Peer(ip_block=IPBlock(Net(4, 0x0B000000 + 2 * n, 32))) for n in range(count))
    return Policy(Key(namespace, "p"), isolates=INGRESS, ingress=(Rule(peers),))


def pod(namespace: str, number: int, node: str = "one") -> Pod:
    return Pod(Key(namespace, f"pod-{number}"), node=node, addresses=(Net(4, 0x0A000000 + number, 32),))


def test_a_namespace_that_asks_for_too_much_of_a_bridge_is_shut_there_and_the_others_go_on() -> None:
    pods = {one.key: one for one in (pod("big", 1), pod("small", 2))}
    policies = {one.key: one for one in (blocks("big", 100), blocks("small", 5))}
    core = Reconciler((), 0.0)
    ports = tuple(port(f"p{n}", n, str(key)) for n, key in enumerate(pods, 1))
    core.world.set_bridge(BridgeState("db", "br", 1, "one", interfaces=ports))
    cluster = Cluster(pods=pods, policies=policies)
    core.world.set_cluster(cluster)
    core.world.update_plans()
    plan = core.world.plan_of(("db", "br"))
    assert plan is not None
    whole = len(plan.flows)
    assert not policy_problems(core)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow_limits, "MAX_BRIDGE_FLOWS", 50)
        core.world.set_bridge(BridgeState("db", "br", 1, "one", interfaces=ports[::-1]))
        core.world.update_plans()
        # Its own 95 prefixes, its subject, and the `conj_id` flow of its rule.
        assert len(plan.flows) == whole - 97
        (fault,) = policy_problems(core).items()
        assert fault[0] == Key("big", "p")
        assert "too many flows on one" in fault[1]
        assert [view.realized for view in policy_views(core) if view.key == "big/p"] == [False]
        fewer = MappingProxyType({**policies, Key("big", "p"): blocks("big", 20)})
        core.world.set_cluster(replace(cluster, policies=fewer))
        core.world.update_plans()
        assert not policy_problems(core)


def test_an_address_in_many_rules_costs_a_flow_on_each_bridge_and_no_encoding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """100 rules of 10 bridges let everybody in: one pod more is one flow more on each, whose body is there already."""
    nodes = [f"node-{n}" for n in range(10)]
    pods = {one.key: one for one in (pod("x", n, nodes[n % 10]) for n in range(100))}
    anybody = Peer(namespaces=EVERYTHING)
    policies = {}
    for n in range(100):
        rule = Rule((anybody,), (PortSpec(Protocol.TCP, 1000 + n),))
        policies[Key("x", f"p{n}")] = Policy(Key("x", f"p{n}"), isolates=INGRESS, ingress=(rule,))
    world = World()
    for number, node in enumerate(nodes, 1):
        ports = tuple(port(f"p{n}", n + 1, f"x/pod-{n}") for n in range(100) if n % 10 == number - 1)
        world.set_bridge(BridgeState("db", node, number, node, interfaces=ports))
    cluster = Cluster(pods=pods, policies=policies)
    world.set_cluster(cluster)
    world.update_plans()
    encoded: list[Body] = []

    def counting(cookie: int, actions: tuple[Action, ...], goto: int | None) -> Body:
        encoded.append(encode_body(cookie, actions, goto))
        return encoded[-1]

    monkeypatch.setattr(encoder, "encode_body", counting)
    guest = pod("elsewhere", 1000, "node-unknown")
    world.set_cluster(replace(cluster, pods={**pods, guest.key: guest}))
    assert [len(flows) for flows in world.update_plans().values()] == [1] * 10
    world.set_cluster(cluster)
    assert [len(flows) for flows in world.update_plans().values()] == [1] * 10
    assert not encoded
