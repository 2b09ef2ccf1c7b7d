"""After any changes, however grouped, the incremental engine has the rules that `reference` computes from nothing."""

from __future__ import annotations

import random
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.cluster.model import (
    EVERYTHING,
    Cluster,
    ClusterPolicy,
    ContainerPort,
    Direction,
    Key,
    Node,
    Peer,
    Pod,
    Policy,
    Protocol,
    Rule,
)
from flows.cluster.net import parse_address
from flows.cluster.selectors import matches
from flows.policy.engine import PolicyEngine
from flows.policy.policy_changes import PolicyChanges
from flows.policy.reference import PolicyCompiler
from flows.policy.rule import Applies, RuleRef
from flows.policy.tracked_sets import TrackedRule, TrackedSet, tracked_rules_on
from tests.helpers.cluster.generated_clusters import clusters
from tests.helpers.cluster.generated_tiers import tiered_clusters
from tests.helpers.cluster.model_objects import block, tcp

NOTHING: frozenset[Applies] = frozenset()
RuleValues = set[tuple[object, ...]]


class Walk:
    """An engine that goes from one cluster to another, and the rules and sets that follow from its PolicyChanges."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.engine = PolicyEngine()
        self.cluster = Cluster()
        self.rules: dict[bytes, TrackedRule] = {}
        self.sets: dict[TrackedSet[Any], set[Any]] = {}  # the sets' members by what was reported
        self.applying: dict[Key, frozenset[Applies]] = {}

    def load(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.engine.load(cluster)

    def walk_to(self, goal: Cluster) -> None:
        """Change one object after another in random order, some deleted in between, until the cluster is `goal`."""
        sections = ("namespaces", "pods", "policies", "nodes", "cluster_policies")
        steps: list[tuple[str, object, object]] = []
        for section in sections:
            before, after = getattr(self.cluster, section), getattr(goal, section)
            for key in before.keys() | after.keys():
                if before.get(key) != after.get(key) or self.random.random() < 0.2:
                    steps.append((section, key, after.get(key)))
        steps.sort(key=lambda step: (step[0], str(step[1])))
        self.random.shuffle(steps)
        for section, key, value in steps:
            if self.random.random() < 0.3:
                self.put(section, key, None)
            self.put(section, key, value)
            if self.random.random() < 0.4:
                self.check()
        self.check()

    def put(self, section: str, key: object, value: object) -> None:
        objects = dict(getattr(self.cluster, section))
        objects.pop(key, None)
        if value is not None:
            objects[key] = value
        self.cluster = replace(self.cluster, **{section: MappingProxyType(objects)})
        if section == "namespaces":
            namespace = self.cluster.namespaces.get(str(key))
            self.engine.put_namespace(str(key), *((namespace.labels, namespace.audit) if namespace else (None, None)))
        elif isinstance(value, Pod):
            self.engine.put_pod(value)
        elif isinstance(value, Policy):
            self.engine.put_policy(value)
        elif isinstance(value, ClusterPolicy):
            self.engine.put_cluster_policy(value)
        elif isinstance(value, Node):
            self.engine.put_node(value)
        elif section == "nodes":
            self.engine.remove_node(str(key))
        elif section == "cluster_policies" and isinstance(key, Key):
            self.engine.remove_cluster_policy(key)
        elif isinstance(key, Key):
            (self.engine.remove_pod if section == "pods" else self.engine.remove_policy)(key)

    def check(self) -> None:
        changes = self.engine.compute_changes()
        self.apply(changes)
        compiler = PolicyCompiler(self.cluster)
        everything = compiler.for_pods(self.cluster.pods)
        tracked: RuleValues = {
            (
                one.number,
                one.direction,
                frozenset(self.sets[one.subjects]),
                None if one.peers is None else frozenset(self.sets[one.peers]),
                *one[5:],
            )
            for one in self.rules.values()
        }
        assert tracked == {
            (r.conj_id, r.direction, r.subjects, r.peers, r.services, r.owners, r.weight, r.level)
            for r in everything.rules
        }
        isolated = {key: found for key in self.cluster.pods if (found := self.engine.isolated(key))}
        assert isolated == everything.isolated
        tiered = {key: stages for key in self.cluster.pods if (stages := self.engine.tiered(key))}
        assert tiered == everything.tiered
        watched = {key: watch for key in self.engine.pod_numbers if (watch := self.engine.watched(key))}
        assert watched == everything.watched
        applying, at_once = (
            {key: asked(key) for key in self.cluster.pods} for asked in map(self.engine.applying_to, (0, 1 << 20))
        )
        assert applying == at_once
        by: dict[tuple[Key, Direction], list[str]] = {}
        for policy in self.cluster.policies.values():
            for pod in self.cluster.pods.values():
                same = pod.key.namespace == policy.key.namespace and pod.key in self.engine.pod_numbers
                for direction in policy.isolates if same and matches(policy.subjects, pod.labels) else ():
                    by.setdefault((pod.key, direction), []).append(str(policy.key))
        assert self.engine.isolating_policies(self.cluster.pods) == {
            one: tuple(sorted(names)) for one, names in by.items()
        }
        keys = applying.keys() | self.applying.keys()
        differ = {key for key in keys if applying.get(key, NOTHING) != self.applying.get(key, NOTHING)}
        assert differ <= changes.isolation
        self.applying = applying
        for key in self.cluster.pods:
            n = self.engine.pod_numbers.get(key)
            expected = {one.subjects for one in self.rules.values() if n in one.subjects.members}
            assert {found for found in self.engine.subjects_of(key) if tracked_rules_on(found)} == expected
            assert all(one == self.rules[one.identity] for found in expected for one in tracked_rules_on(found))

    def apply(self, changes: PolicyChanges) -> None:
        """Apply reported changes. Each rule is reported at most once, with its last reported value, and it differs."""
        for subjects, added, removed in changes.subjects:
            if subjects in self.sets:
                assert self.sets[subjects].issuperset(removed)
                assert self.sets[subjects].isdisjoint(set(added) - set(removed))
                self.sets[subjects] = self.sets[subjects].difference(removed).union(added)
        for peers, gained, lost in changes.peers:
            if peers in self.sets:
                assert self.sets[peers].issuperset(lost)
                assert self.sets[peers].isdisjoint(gained)
                self.sets[peers] = self.sets[peers] - lost | gained
        reported = set()
        for old, new in changes.rules:
            assert old != new
            identity = (new or old).identity  # type: ignore[union-attr]  # one of them is not None
            assert identity not in reported
            reported.add(identity)
            assert self.rules.pop(identity, None) == old
            if new is not None:
                assert old is None or old.identity == new.identity
                self.rules[identity] = new
        self.check_sets()

    def check_sets(self) -> None:
        """Sets of new rules are read as they are; sets known before must have the members reported."""
        known, self.sets = self.sets, {}
        for one in self.rules.values():
            self.sets[one.subjects] = {pod.key for pod in self.engine.pods_with(one.subjects.members)}
            if one.peers is not None:
                self.sets[one.peers] = set(one.peers.members)
        assert all(self.sets[tracked] == members for tracked, members in known.items() if tracked in self.sets)


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(
    first=st.one_of(clusters(), tiered_clusters()),
    second=st.one_of(clusters(), tiered_clusters()),
    seed=st.integers(0, 1 << 30),
    loaded=st.booleans(),
)
def test_after_any_changes_the_engine_equals_the_reference(
    first: Cluster, second: Cluster, seed: int, loaded: bool
) -> None:
    walk = Walk(seed)
    if loaded:
        walk.load(first)
        walk.check()
    else:
        walk.walk_to(first)
    walk.walk_to(second)
    walk.walk_to(Cluster())
    assert not walk.rules
    assert not walk.engine._rules  # rules of deleted policies are released
    assert not walk.engine.nodes._groups
    assert not walk.engine.index._selected.scopes


def allow(name: str, *rules: Rule) -> Policy:
    return Policy(Key("x", name), isolates=frozenset({Direction.INGRESS}), ingress=rules)


FROM_ALL = Rule((Peer(pods=EVERYTHING),))
A = Pod(Key("x", "a"), addresses=(parse_address("10.0.0.1"),))


def test_a_rule_that_moves_to_another_policy_in_one_step_only_changes_owners() -> None:
    engine = PolicyEngine()
    engine.put_pod(A)
    engine.put_policy(allow("one", FROM_ALL))
    (first,) = engine.compute_changes().rules
    engine.remove_policy(Key("x", "one"))
    engine.put_policy(allow("two", FROM_ALL))
    (change,) = engine.compute_changes().rules
    assert change.old is not None
    assert change.old == first.new
    assert change.new == change.old._replace(owners=(RuleRef(Key("x", "two"), Direction.INGRESS, 0),))


def test_a_rule_added_and_removed_in_one_step_is_not_reported() -> None:
    engine = PolicyEngine()
    engine.put_pod(A)
    engine.put_policy(allow("one", FROM_ALL))
    engine.remove_policy(Key("x", "one"))
    assert not engine.compute_changes().rules
    assert not engine.subjects_of(A.key)


def test_a_pod_deleted_with_its_isolating_policy_is_reported() -> None:
    engine = PolicyEngine()
    engine.put_pod(A)
    engine.put_policy(allow("one"))
    assert engine.compute_changes().isolation == {A.key}
    engine.remove_policy(Key("x", "one"))
    engine.remove_pod(A.key)
    assert engine.compute_changes().isolation == {A.key}


def test_named_ports_resolve_in_addresses_merged_into_a_prefix() -> None:
    """Peers are collapsed to few prefixes; a port's name is resolved in the pods with addresses in them."""
    web = A._replace(ports=(ContainerPort("web", 8080, Protocol.TCP),))
    rule = Rule((block("10.0.0.0/32"), block("10.0.0.1/32")), (tcp("web"),))
    policy = Policy(Key("x", "p"), isolates=frozenset({Direction.EGRESS}), egress=(rule,))
    cluster = Cluster(pods={web.key: web}, policies={policy.key: policy})
    (found,) = PolicyCompiler(cluster).for_pods(cluster.pods).rules
    assert found.peers == frozenset({parse_address("10.0.0.1")})


def test_a_name_equal_to_a_number_in_the_same_rule_removes_nothing() -> None:
    pods = {
        Key("x", name): Pod(Key("x", name), addresses=(parse_address(f"10.0.0.{n}"),), ports=ports)
        for n, (name, ports) in enumerate(
            {
                "subject": (),
                "same": (ContainerPort("web", 80, Protocol.TCP),),
                "other": (ContainerPort("web", 8080, Protocol.TCP),),
            }.items(),
            1,
        )
    }
    rule = Rule(ports=(tcp(80), tcp("web")))
    policy = Policy(Key("x", "p"), isolates=frozenset({Direction.EGRESS}), egress=(rule,))
    cluster = Cluster(pods=pods, policies={policy.key: policy})
    engine = PolicyEngine()
    engine.load(cluster)
    rules = [change.new for change in engine.compute_changes().rules if change.new]
    tracked = {one.services: one.peers and frozenset(one.peers.members) for one in rules}
    assert tracked == {
        ((Protocol.TCP, 80, 80),): None,
        ((Protocol.TCP, 8080, 8080),): frozenset({parse_address("10.0.0.3")}),
    }
    compiled = PolicyCompiler(cluster).for_pods([Key("x", "subject")]).rules
    assert {one.services: one.peers for one in compiled} == tracked


def test_an_identity_is_the_json_of_the_rule() -> None:
    """Numbers are derived from it, and must be the same after a restart with another version."""
    engine = PolicyEngine()
    engine.put_pod(A)
    engine.put_policy(allow("one", Rule((Peer(pods=EVERYTHING), block("10.0.0.0/8", "10.1.0.0/16")), (tcp(80, 90),))))
    (change,) = engine.compute_changes().rules
    assert change.new is not None
    peers = "[[[[]], null, null], [null, null, [[4, 167772160, 8], [[4, 167837696, 16]]]]]"
    assert change.new.identity.decode() == (f'[["ingress", "x", [[]], [{peers}, [[6, 80, 90]]]], [[6, 80, 90]]]')
