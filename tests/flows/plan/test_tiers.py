"""Bridges with and without pods that a ClusterNetworkPolicy selects, and rules that cannot be rendered."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.bridge.state import BridgeState
from flows.cluster.model import Action, Cluster, Direction, Key, Peer, Pod, Policy, Rule, Selector, Subject
from flows.cluster.net import parse_address
from flows.pipeline import tables
from flows.plan.bridge_plan import TOO_MANY_OF_TIERS, BridgePlan
from flows.plan.tier_weights import TierWeights
from flows.plan.world import World
from flows.policy import flow_limits
from flows.render import rules
from flows.wire.values import KEY_PREFIX, FlowKey
from tests.helpers.cluster.model_objects import cluster_policy, cluster_rule, labels, tcp, with_cluster_policies
from tests.helpers.controller.reconcile_driver import port

TIER_TABLES = {table.number for table in tables.TIER_TABLES}
PLACE = ("db", "one")
A, B = Key("x", "a"), Key("x", "b")
ALLOW = Policy(Key("x", "p"), isolates=frozenset({Direction.INGRESS}), ingress=(Rule((Peer(pods=Selector()),)),))
BARE = Cluster(
    pods={
        key: Pod(key, {"app": key.name}, "one", addresses=(parse_address(f"10.0.0.{n}"),))
        for n, key in enumerate((A, B), 1)
    },
    policies={ALLOW.key: ALLOW},
)
ON_A = Subject(pods=labels(app="a"))
DENY = cluster_policy("deny", ON_A, ingress=[cluster_rule(Action.DENY)])


def planned(cluster: Cluster) -> World:
    world = World()
    world.set_cluster(cluster)
    ports = (port("a", 1, str(A)), port("b", 2, str(B)))
    world.set_bridge(BridgeState("db", "one", 1, "one", interfaces=ports))
    world.update_plans()
    return world


def plan_of(world: World) -> BridgePlan:
    plan = world.plan_of(PLACE)
    assert plan is not None
    return plan


def in_tiers(plan: BridgePlan) -> set[tuple[int, int]]:
    """Table and priority of the flows in tables of tiers."""
    places = (KEY_PREFIX.unpack_from(key) for key in plan.flows)
    return {(table, priority) for table, priority in places if table in TIER_TABLES}


def test_a_bridge_without_selected_pods_has_the_flows_that_it_had() -> None:
    world = planned(BARE)
    before = dict(plan_of(world).flows)
    assert not in_tiers(plan_of(world))
    on_others = cluster_policy("others", Subject(pods=labels(app="c")), ingress=[cluster_rule(Action.DENY)])
    world.set_cluster(with_cluster_policies(BARE, on_others))
    world.update_plans()
    assert plan_of(world).flows == before
    world.set_cluster(with_cluster_policies(BARE, DENY))
    world.update_plans()
    assert in_tiers(plan_of(world))
    world.set_cluster(BARE)
    world.update_plans()
    assert plan_of(world).flows == before


def test_rules_for_all_pods_name_none() -> None:
    """Such a policy costs a bridge the same, however many pods it has."""
    rule = cluster_rule(Action.DENY, tcp(80))
    cluster = with_cluster_policies(BARE, cluster_policy("everywhere", Subject(), ingress=[rule], egress=[rule]))
    world = planned(cluster)
    both = tier_flows(plan_of(world))
    world.set_bridge(BridgeState("db", "one", 1, "one", interfaces=(port("a", 1, str(A)),)))
    world.update_plans()
    assert tier_flows(plan_of(world)) == both


def tier_flows(plan: BridgePlan) -> set[FlowKey]:
    return {key for key in plan.flows if KEY_PREFIX.unpack_from(key)[0] in TIER_TABLES}


def test_a_change_of_one_policy_changes_its_own_flows_alone() -> None:
    other = cluster_policy("other", ON_A, ingress=[cluster_rule(Action.ACCEPT, tcp(80))], priority=11)
    world = planned(with_cluster_policies(BARE, DENY, other))
    changed = other._replace(ingress=(cluster_rule(Action.ACCEPT, tcp(81)),))
    world.set_cluster(with_cluster_policies(BARE, DENY, changed))
    (flows,) = world.update_plans().values()
    assert {KEY_PREFIX.unpack_from(key) for key in flows} == {(tables.ADMIN_INGRESS.number, 65000 - 11 * 64)}


def test_rules_that_fit_no_flow_deny_what_tiers_would_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_CONJUNCTIONS", 2)
    many = [
        cluster_policy(f"p{number}", ON_A, ingress=[cluster_rule(Action.ACCEPT, tcp(80 + number))])
        for number in range(3)
    ]
    world = planned(with_cluster_policies(BARE, *many))
    plan = plan_of(world)
    assert "as are those of pods that a ClusterNetworkPolicy selects" in plan.error
    assert (tables.ADMIN_INGRESS.number, 65200) in in_tiers(plan)
    world.set_cluster(with_cluster_policies(BARE, *many[:2]))
    world.update_plans()
    assert not plan.error and (tables.ADMIN_INGRESS.number, 65200) not in in_tiers(plan)


def test_too_many_flows_of_tiers_close_those_that_find_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods that rules name count again for each level. Whatever made them too many may go, and all is as before."""
    monkeypatch.setattr(flow_limits, "MAX_TIER_FLOWS", 200)
    few = [cluster_policy(f"p{n}", ON_A, ingress=[cluster_rule("Accept", tcp(80 + n))], priority=n) for n in range(5)]
    many = [cluster_policy(f"p{n}", ON_A, ingress=[cluster_rule("Accept", tcp(80 + n))], priority=n) for n in range(60)]
    crowd = {
        key: Pod(key, {"app": "c"}, "two", addresses=(parse_address(f"10.0.1.{n}"),))
        for n, key in enumerate((Key("x", f"c{n}") for n in range(1, 60)), 1)
    }
    fine = with_cluster_policies(BARE, *few)
    world = planned(fine)
    before = dict(plan_of(world).flows)
    of_network_policies = {key for key in before if KEY_PREFIX.unpack_from(key)[0] == tables.INGRESS.number}
    for over in (
        with_cluster_policies(BARE, *many),
        replace(fine, pods=MappingProxyType({**BARE.pods, **crowd})),
    ):
        for cluster, closed in ((over, True), (fine, False)):
            world.set_cluster(cluster)
            world.update_plans()
            plan = plan_of(world)
            assert plan.flows == planned(cluster).plan_of(PLACE).flows  # type: ignore[union-attr]
            assert not plan.error
            assert bool(world.closed_policies()) is closed
            assert of_network_policies <= plan.flows.keys()
            assert len(tier_flows(plan)) < 240
        assert plan.flows == before


def test_where_nothing_has_room_all_tiers_deny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_limits, "MAX_TIER_FLOWS", 2)
    world = planned(with_cluster_policies(BARE, DENY))
    assert plan_of(world).error == TOO_MANY_OF_TIERS
    assert (tables.ADMIN_INGRESS.number, 65200) in in_tiers(plan_of(world))
    world.set_cluster(BARE)
    world.update_plans()
    assert not plan_of(world).error and plan_of(world).flows == planned(BARE).plan_of(PLACE).flows  # type: ignore[union-attr]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.lists(st.sampled_from("abcd"), max_size=2, unique=True)), max_size=25),
       st.data())  # fmt: skip
def test_weights_are_those_of_the_rules_that_are_there(rules: list[tuple[int, list[str]]], data: st.DataObject) -> None:
    weights, sizes, there = TierWeights(), dict.fromkeys("abcd", 1), []
    for level, sets in rules:
        weights.add(level, 1, [(one, sizes[one]) for one in sets])
        there.append((level, sets))
        if data.draw(st.booleans()):
            gone_level, gone = there.pop(data.draw(st.integers(0, len(there) - 1)))
            weights.remove(gone_level, 1, [(one, sizes[one]) for one in gone])
        changed = data.draw(st.sampled_from("abcd"))
        sizes[changed] = data.draw(st.integers(0, 5))
        weights.resize(changed, sizes[changed])
        used = {(at, one) for at, names in there for one in names}
        assert weights.total == len(there) + sum(sizes[one] for _, one in used)


def test_a_rule_that_cannot_be_computed_denies_unless_it_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.policy.engine import PolicyEngine

    compute = PolicyEngine._compute

    def broken(self: PolicyEngine, rule: object) -> object:
        if getattr(rule, "key").level is not None:  # noqa: B009 - any rule
            raise RuntimeError("no")
        return compute(self, rule)  # type: ignore[arg-type]

    monkeypatch.setattr(PolicyEngine, "_compute", broken)
    accept = cluster_policy("accept", ON_A, ingress=[cluster_rule(Action.ACCEPT)], priority=1)
    passing = cluster_policy("pass", ON_A, ingress=[cluster_rule(Action.PASS)], priority=2)
    world = planned(with_cluster_policies(BARE, accept, passing))
    assert world.rules_of_policy(accept.key) == []
    found = [one for one in world.rules_of_policy(passing.key) if one.level is not None]
    assert found and all(one.level and one.level.action is Action.DENY and one.peers is None for one in found)
    assert {reason for _, _, reason in world.rule_errors()} == {
        "cannot be computed, so it allows nothing: RuntimeError: no",
        "cannot be computed, so it denies everything: RuntimeError: no",
    }
