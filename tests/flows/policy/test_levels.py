"""Where the rules of ClusterNetworkPolicies stand: static orders, ties by name, and what finds no place."""

from __future__ import annotations

from flows.cluster.model import (
    Action,
    ClusterPolicy,
    ClusterRule,
    Direction,
    IPBlock,
    Operator,
    Peer,
    Requirement,
    Selector,
    Subject,
    Tier,
)
from flows.cluster.net import parse_network
from flows.policy import levels
from flows.policy.levels import LAST_SLOT, SLOTS, place_policies
from flows.policy.rule import Level
from flows.policy.tied_subjects import may_select_same
from flows.policy.tier_policies import TierPolicies
from tests.helpers.cluster.model_objects import cluster_policy, labels

ACCEPT, DENY, PASS = Action.ACCEPT, Action.DENY, Action.PASS
NET = Peer(ip_block=IPBlock(parse_network("10.0.0.0/8")))
ON_X, ON_Y = Subject(labels(ns="x")), Subject(labels(ns="y"))


def egress(name: str, *actions: Action, subject: Subject = ON_X, priority: int = 7) -> ClusterPolicy:
    """A policy with a rule for each action, to a network: such rules have no companion in doubt."""
    return cluster_policy(name, subject, egress=[ClusterRule(one, (NET,)) for one in actions], priority=priority)


def slots(*policies: ClusterPolicy) -> dict[str, list[tuple[int, Action]]]:
    """The slots and actions of each policy's rules, without those in doubt."""
    found = place_policies(policies)
    return {
        name: [(key.level.order % SLOTS, key.level.action) for key, _ in placed.rules if key.level is not None]
        for name, placed in found.items()
    }


def test_an_order_follows_from_priority_and_place_alone() -> None:
    (placed,) = place_policies([egress("a", DENY, ACCEPT, PASS, priority=1000)]).values()
    assert [key.level and key.level.order for key, _ in placed.rules] == [64000, 64001, 64002]
    assert placed.error == "" and placed.tied == ()


def test_the_last_priority_of_all_fits() -> None:
    (placed,) = place_policies([egress("a", DENY, priority=1001)]).values()
    assert levels.SLOTS * 1002 < 65000 and [key.level and key.level.order for key, _ in placed.rules] == [64064]


def test_of_equal_priorities_the_smaller_name_stands_first() -> None:
    assert slots(egress("b", ACCEPT), egress("a", DENY, ACCEPT, DENY)) == {
        "a": [(0, DENY), (1, ACCEPT), (2, DENY)],
        "b": [(3, ACCEPT)],
    }


def test_rules_of_one_action_need_no_order() -> None:
    assert slots(egress("a", DENY, DENY), egress("b", DENY)) == {"a": [(0, DENY), (1, DENY)], "b": [(0, DENY)]}


def test_policies_that_select_no_pod_in_common_do_not_move_each_other() -> None:
    found = place_policies([egress("a", DENY), egress("b", ACCEPT, subject=ON_Y)])
    assert slots(egress("a", DENY), egress("b", ACCEPT, subject=ON_Y)) == {"a": [(0, DENY)], "b": [(0, ACCEPT)]}
    assert found["b"].tied == ()
    assert place_policies([egress("a", DENY), egress("b", ACCEPT)])["b"].tied == ("a",)


def test_what_finds_no_place_fails_closed() -> None:
    many = [ACCEPT, DENY] * 50
    placed = place_policies([egress("a", *many)])["a"]
    found = [(key.level.order % SLOTS, key.level.action) for key, _ in placed.rules if key.level is not None]
    assert found[LAST_SLOT - 1] == (LAST_SLOT - 1, ACCEPT)
    assert set(found[LAST_SLOT:]) == {(LAST_SLOT, DENY)}
    assert all(not key.has_peers for key, ref in placed.rules if ref.number >= LAST_SLOT)
    assert placed.error.startswith(f"egress[{LAST_SLOT}] has no place left")


def test_a_rule_in_doubt_stands_behind_its_pass_and_before_the_next_rule() -> None:
    rules = [ClusterRule(PASS, (Peer(None, Selector()),)), ClusterRule(ACCEPT, (NET,))]
    placed = place_policies([cluster_policy("a", ON_X, egress=rules)])["a"]
    assert [(key.level.order % SLOTS, key.level.action, ref.doubt) for key, ref in placed.rules if key.level] == [
        (0, PASS, False), (1, DENY, True), (2, ACCEPT, False),
    ]  # fmt: skip


def test_too_many_policies_of_one_priority_deny() -> None:
    policies = [egress(f"p{number:04}", ACCEPT, DENY) for number in range(levels.MAX_TIED_POLICIES + 1)]
    placed = place_policies(policies)[f"p{levels.MAX_TIED_POLICIES:04}"]
    ((key, _),) = placed.rules
    assert key.level is not None and key.level.action is DENY and not key.has_peers and placed.error


def test_selectors_that_exclude_each_other() -> None:
    def on(operator: Operator, *values: str) -> Subject:
        return Subject(pods=Selector((Requirement("a", operator, values),)))

    one = on(Operator.IN, "x")
    excluding = [on(Operator.IN, "y"), on(Operator.NOT_IN, "x", "z"), on(Operator.DOES_NOT_EXIST)]
    assert not any(may_select_same(one, other) or may_select_same(other, one) for other in excluding)
    sharing = [one, on(Operator.IN, "x", "y"), on(Operator.NOT_IN, "y"), on(Operator.EXISTS), Subject()]
    assert all(may_select_same(one, other) and may_select_same(other, one) for other in sharing)
    assert not may_select_same(on(Operator.EXISTS), on(Operator.DOES_NOT_EXIST))


def test_a_change_reports_the_policies_that_it_moves_and_no_others() -> None:
    tiers = TierPolicies()
    tiers.load([egress("b", ACCEPT), egress("c", DENY, priority=8), egress("d", ACCEPT, subject=ON_Y)])
    assert [change.policy.name for change in tiers.put(egress("a", DENY))] == ["b", "a"]
    assert [change.policy.name for change in tiers.put(egress("a", DENY, priority=3))] == ["b", "a"]
    assert {change.policy.name for change in tiers.remove(egress("a").key)} == {"a"}
    assert tiers.placed(egress("c").key).rules[0][0].level == Level(Tier.ADMIN, 8 * SLOTS, DENY)
    assert tiers.placed(egress("c").key).rules[0][1].direction is Direction.EGRESS
