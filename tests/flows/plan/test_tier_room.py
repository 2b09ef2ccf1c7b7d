"""Where all rules of tiers would be too many flows, those that fit are exact, and the others deny for their pods alone.

Real plans, whose flows an interpreter carries out, compared with the verdict on random worlds.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.reconcile.events import ClusterChanged
from controller.status.missing import left_out_problems
from controller.status.policy_conditions import policy_conditions
from controller.status.reference import policy_views
from flows.bridge.network import NetworkOptions
from flows.bridge.state import BridgeState, InterfaceState
from flows.cluster.model import (
    Action,
    Cluster,
    ClusterPolicy,
    ClusterRule,
    Direction,
    DomainPeer,
    Key,
    Pod,
    Subject,
    Tier,
)
from flows.cluster.net import parse_address
from flows.interpret.conntrack import Datapath
from flows.pipeline import tables
from flows.pipeline.pod_limits import Limit
from flows.plan.bridge_plan import BridgePlan
from flows.plan.world import World
from flows.policy import flow_limits
from flows.policy.explanation import EndVerdict, Isolation
from flows.policy.tracked_sets import TrackedRule
from flows.policy.verdict import verdict
from flows.render.answers import DnsServer
from flows.wire.codec import decode_flow
from flows.wire.values import KEY_PREFIX, wire_flow
from tests.flows.render.test_flows_equal_verdict import UNSHRUNK, InterpretedSwitch
from tests.helpers.cluster.generated_clusters import NODES as NODES_OF_A_LINK
from tests.helpers.cluster.generated_clusters import probes
from tests.helpers.cluster.generated_tiers import tiered_clusters
from tests.helpers.cluster.model_objects import cluster_policy, cluster_rule, labels, tcp, with_cluster_policies
from tests.helpers.controller.reconcile_driver import Driver, port
from tests.helpers.datapath.node_networks import NODES
from tests.helpers.datapath.two_nodes import TwoNodes, first_packet, settled, where

PROBES = 40
ONE = ("db", "one")
Rank = tuple[int, int]
ALWAYS, NETWORK_POLICY, NOBODY = (-1, 0), (1, 0), (3, 0)


def bridge_of(node: str, kind: str, interfaces: tuple[InterfaceState, ...]) -> BridgeState:
    return BridgeState(node, "br-int", 1 + NODES.index(node), node, node, kind, interfaces=interfaces)


class Planned(TwoNodes):
    """Two nodes with the flows of a world's plans."""

    def apply(self, cluster: Cluster) -> None:
        self.cluster, self.world = cluster, World()
        self.world.set_cluster(cluster)
        for node in NODES:
            kind = "netdev" if self._userspace else "system"
            self.world.set_bridge(bridge_of(node, kind, self.plan.interfaces[node]))
        self.world.update_plans()
        for node in NODES:
            plan = self.plan_of(node)
            self.attached |= {one.pod: one.addresses for one in plan.binding.pods}
            self.switches[node].replace_flows([decode_flow(wire_flow(*one)) for one in plan.flows.items()])

    def plan_of(self, node: str) -> BridgePlan:
        plan = self.world.plan_of((node, "br-int"))
        assert plan is not None
        return plan

    def closing(self, pod: Key, direction: Direction) -> Rank:
        """The first place where the pod is denied everything for want of room."""
        plan = self.plan_of(self.cluster.pods[pod].node)
        ofports = {one.ofport for one in plan.binding.pods if one.pod == pod}
        tiers = [one for one in closing_rules(plan) if one.direction is direction]
        return min([rank(one) for one in tiers if ofports & set(ports_of(plan)(one))], default=NOBODY)


def closing_rules(plan: BridgePlan) -> list[TrackedRule]:
    return [one for one in plan.rules._instead.values() if one is not None]


def ports_of(plan: BridgePlan) -> Callable[[TrackedRule], list[int]]:
    everybody = [one.ofport for one in plan.binding.pods]
    return lambda rule: (
        everybody if rule.level is not None and rule.level.everyone else plan.rules._ports[rule.subjects]
    )


def rank(rule: TrackedRule) -> Rank:
    assert rule.level is not None
    return (0 if rule.level.tier is Tier.ADMIN else 2), rule.level.order


def decided_at(end: EndVerdict, network: Planned) -> Rank:
    """Where the verdict of one end is decided."""
    if not end.walk and end.isolation not in (Isolation.ISOLATED, Isolation.NOT_ISOLATED):
        return ALWAYS
    step = end.decided_by
    if step is None:
        return NETWORK_POLICY if end.isolation is Isolation.ISOLATED else NOBODY
    placed = network.world.placed(step.policy).rules
    orders = [key.level.order for key, ref in placed
              if key.level is not None and (ref.direction, ref.number) == (step.direction, step.rule)]  # fmt: skip
    return (0 if step.tier is Tier.ADMIN else 2), max(orders, default=0)


def exact(end: EndVerdict, network: Planned) -> bool:
    return (
        end.end.pod is None
        or decided_at(end, network) < network.closing(end.end.pod, end.direction)
        or (network.closing(end.end.pod, end.direction) == NOBODY)
    )


@pytest.mark.parametrize("datapath", Datapath, ids=lambda one: one.value)
@settings(max_examples=60, deadline=None, phases=UNSHRUNK, suppress_health_check=list(HealthCheck))
@given(found=tiered_clusters(NODES_OF_A_LINK), room=st.integers(0, 40), seed=st.integers(0, 1 << 16))
def test_what_fits_is_exact_and_nothing_is_ever_wider(datapath: Datapath, found: Cluster, room: int, seed: int) -> None:
    chance = random.Random(seed)
    cluster = replace(settled(found), learned=MappingProxyType({}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow_limits, "MAX_TIER_FLOWS", room)
        network = Planned(cluster, {node: InterpretedSwitch(datapath, chance) for node in NODES},
                          datapath is Datapath.USERSPACE)  # fmt: skip
    asked = probes(cluster)
    for number, probe in enumerate(chance.sample(asked, min(PROBES, len(asked))), 1):
        ends = probe.source, probe.destination
        if not network.decidable(probe) or not all(map(network.reachable, ends)):
            continue
        answer = verdict(cluster, probe)
        packet = network.addressed(first_packet(probe, number), *ends)
        passes = any(who == where(probe.destination) for who, _ in network.send(probe.source, packet))
        network.forget_connections()
        assert answer.allowed or not passes, "\n".join(answer.explain())
        if answer.allowed and exact(answer.egress, network) and exact(answer.ingress, network):
            closed = any(network.plan_of(node).rules.tiers_left_out for node in NODES)
            assert passes or closed, "\n".join(answer.explain())


@settings(max_examples=40, deadline=None, phases=UNSHRUNK, suppress_health_check=list(HealthCheck))
@given(st.lists(tiered_clusters(NODES_OF_A_LINK), min_size=2, max_size=4), st.integers(0, 60))
def test_changes_lead_to_what_is_planned_from_nothing(steps: list[Cluster], room: int) -> None:
    world, last = World(), settled(steps[0])
    interfaces = Planned(last, {node: InterpretedSwitch(Datapath.KERNEL, random.Random(0)) for node in NODES},
                         False).plan.interfaces  # fmt: skip
    bridges = [bridge_of(node, "system", interfaces[node]) for node in NODES]
    for bridge in bridges:
        world.set_bridge(bridge)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow_limits, "MAX_TIER_FLOWS", room)
        for cluster in steps:
            for half in (replace(last, cluster_policies=cluster.cluster_policies), settled(cluster)):
                last = replace(half, learned=MappingProxyType({}))
                world.set_cluster(last)
                world.update_plans()
            fresh = World()
            fresh.set_cluster(last)
            for bridge in bridges:
                fresh.set_bridge(bridge)
            fresh.update_plans()
            for node in NODES:
                one, other = (found.plan_of((node, "br-int")) for found in (world, fresh))
                assert one is not None and other is not None
                assert one.flows == other.flows
                assert one.rules.closed_policies == other.rules.closed_policies


PODS = {
    key: Pod(key, {f"in-{name}": "" for name in names}, "one", addresses=(parse_address(f"10.0.0.{n}"),))
    for n, names in enumerate(("a", "ab", "bc", "c"), 1)
    for key in (Key("x", f"p{n}"),)
}


def policies(sizes: dict[str, int], priorities: list[int]) -> list[ClusterPolicy]:
    """Policies whose rule has so many ports; `a` is for pods 1 and 2, `b` for 2 and 3, `c` for 3 and 4."""
    return [
        cluster_policy(name, Subject(pods=labels(**{f"in-{name}": ""})), priority=priority,
                       ingress=[cluster_rule("Accept", *(tcp(1000 + 2 * n) for n in range(size)))])
        for (name, size), priority in zip(sizes.items(), priorities, strict=True)
    ]  # fmt: skip


def planned(*found: ClusterPolicy) -> tuple[World, BridgePlan]:
    world = World()
    world.set_cluster(with_cluster_policies(Cluster(pods=PODS), *found))
    ports = tuple(port(key.name, n, str(key)) for n, key in enumerate(PODS, 1))
    world.set_bridge(BridgeState("db", "one", 1, "one", interfaces=ports))
    world.update_plans()
    plan = world.plan_of(ONE)
    assert plan is not None and not plan.error
    return world, plan


def test_one_policy_that_has_no_room_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of `flows.plan.tier_room`."""
    monkeypatch.setattr(flow_limits, "MAX_TIER_FLOWS", 110)
    first, second, third = policies({"a": 60, "b": 70, "c": 30}, [1, 2, 3])
    world, plan = planned(first, second, third)
    assert world.closed_policies() == {second.key: {ONE}}
    (closing,) = closing_rules(plan)
    assert sorted(ports_of(plan)(closing)) == [2, 3] and rank(closing) == (0, 2 * 64)
    world.set_cluster(with_cluster_policies(Cluster(pods=PODS), first, third))
    world.update_plans()
    assert not world.closed_policies() and not closing_rules(plan)


def test_what_shares_a_place_and_pods_is_closed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two conjunctions of one place that differ, for one pod, would leave it to the switch which of them acts."""
    monkeypatch.setattr(flow_limits, "MAX_TIER_FLOWS", 110)
    first, second, third = policies({"a": 60, "b": 70, "c": 30}, [5, 5, 6])
    world, plan = planned(first, second, third)
    assert world.closed_policies() == {first.key: {ONE}, second.key: {ONE}}
    assert [sorted(ports_of(plan)(one)) for one in closing_rules(plan)] == [[1, 2], [2, 3]]


def test_what_is_closed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_limits, "MAX_TIER_FLOWS", 110)
    first, second, third = policies({"a": 60, "b": 70, "c": 30}, [1, 2, 3])
    driver = Driver()
    driver.send(ClusterChanged(with_cluster_policies(Cluster(pods=PODS), first, second, third)))
    ports = tuple(port(key.name, n, str(key)) for n, key in enumerate(PODS, 1))
    driver.sync()
    driver.bridge(BridgeState("db", "one", 1, "one", interfaces=ports))
    told = {view.key: view.reason for view in policy_views(driver.core)}
    assert "its pods there are denied all" in told["b"]
    assert not any("denied" in told[key] for key in ("a", "c"))
    assert list(left_out_problems(driver.core)) == [second.key]
    assert "denied all" in policy_conditions(driver.core)[second.key].pending


def test_answers_are_held_for_names_that_have_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_limits, "MAX_TIER_FLOWS", 50)
    (large,) = policies({"a": 43}, [1])
    names = cluster_policy("names", priority=2, egress=[ClusterRule(Action.ACCEPT, (DomainPeer("*.example.com"),))])
    world = World(NetworkOptions(dns_servers=(DnsServer(parse_address("10.0.9.53")),)))
    ports = tuple(port(key.name, n, str(key)) for n, key in enumerate(PODS, 1))
    world.set_bridge(BridgeState("db", "one", 1, "one", interfaces=ports, metered=(Limit.DNS,)))
    small = policies({"a": 40}, [1])[0]
    for one, held in ((small, True), (large, False), (small, True)):
        world.set_cluster(with_cluster_policies(Cluster(pods=PODS), one, names))
        world.update_plans()
        plan = world.plan_of(ONE)
        assert plan is not None and set(world.closed_policies()) == (set() if held else {names.key})
        assert bool(plan.answers.ports) is held
        assert any(KEY_PREFIX.unpack_from(key)[0] == tables.ANSWERS.number for key in plan.flows) is held
