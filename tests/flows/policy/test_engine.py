"""The incremental engine says after any changes, however they are grouped, what the full computation says."""

from __future__ import annotations

import random
from types import MappingProxyType
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.cluster.model import (
    EVERYTHING,
    Cluster,
    ContainerPort,
    Direction,
    Key,
    Peer,
    Pod,
    Policy,
    Protocol,
    Rule,
)
from flows.cluster.net import parse_address
from flows.cluster.selectors import matches
from flows.policy.engine import PolicyChanges, PolicyEngine
from flows.policy.reference import PolicyCompiler
from flows.policy.tracked_sets import RuleRef, TrackedRule, TrackedSet, tracked_rules_on
from tests.helpers.cluster.generated_clusters import clusters
from tests.helpers.cluster.model_objects import block, tcp

Said = set[tuple[object, ...]]


class Walk:
    """An engine that goes from one cluster to another, and what it has said so far."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.engine = PolicyEngine()
        self.cluster = Cluster()
        self.parts: dict[bytes, TrackedRule] = {}
        self.sets: dict[TrackedSet[Any], set[Any]] = {}  # what the sets of the parts hold, as far as it was told
        self.isolated: dict[Key, frozenset[Direction]] = {}

    def load(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.engine.load(cluster)

    def towards(self, goal: Cluster) -> None:
        """One object after another in random order, each sometimes taken away for a moment, until it is `goal`."""
        sections = ("namespaces", "pods", "policies")
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
        sections = {one: getattr(self.cluster, one) for one in ("namespaces", "pods", "nodes", "policies")}
        self.cluster = Cluster(**{**sections, section: MappingProxyType(objects)})
        if section == "namespaces":
            namespace = self.cluster.namespaces.get(str(key))
            self.engine.put_namespace(str(key), namespace.labels if namespace else None)
        elif isinstance(value, Pod):
            self.engine.put_pod(value)
        elif isinstance(value, Policy):
            self.engine.put_policy(value)
        elif isinstance(key, Key):
            (self.engine.remove_pod if section == "pods" else self.engine.remove_policy)(key)

    def check(self) -> None:
        said = self.engine.settle()
        self.follow(said)
        compiler = PolicyCompiler(self.cluster)
        everything = compiler.for_pods(self.cluster.pods)
        there: Said = {
            (
                part.number,
                part.direction,
                frozenset(self.sets[part.subjects]),
                None if part.peers is None else frozenset(self.sets[part.peers]),
                *part[5:],
            )
            for part in self.parts.values()
        }
        assert there == {
            (r.conj_id, r.direction, r.subjects, r.peers, r.services, r.owners, r.weight) for r in everything.rules
        }
        isolated = {key: found for key in self.cluster.pods if (found := self.engine.isolated(key))}
        assert isolated == everything.isolated
        by: dict[tuple[Key, Direction], list[str]] = {}
        for policy in self.cluster.policies.values():
            for pod in self.cluster.pods.values():
                same = pod.key.namespace == policy.key.namespace and pod.key in self.engine.index.number
                for direction in policy.isolates if same and matches(policy.subjects, pod.labels) else ():
                    by.setdefault((pod.key, direction), []).append(str(policy.key))
        assert self.engine.isolating(self.cluster.pods) == {one: tuple(sorted(names)) for one, names in by.items()}
        keys = isolated.keys() | self.isolated.keys()
        assert {key for key in keys if isolated.get(key) != self.isolated.get(key)} <= said.isolation
        self.isolated = isolated
        for key in self.cluster.pods:
            n = self.engine.index.number.get(key)
            expected = {part.subjects for part in self.parts.values() if n in part.subjects.members}
            assert {found for found in self.engine.subjects_of(key) if tracked_rules_on(found)} == expected
            assert all(part == self.parts[part.identity] for found in expected for part in tracked_rules_on(found))

    def follow(self, said: PolicyChanges) -> None:
        """Each part is told once, and as it was told before; what is told did change."""
        for subjects, came, went in said.subjects:
            if subjects in self.sets:
                assert self.sets[subjects].issuperset(went)
                assert self.sets[subjects].isdisjoint(set(came) - set(went))
                self.sets[subjects] = self.sets[subjects].difference(went).union(came)
        for peers, gained, lost in said.peers:
            if peers in self.sets:
                assert self.sets[peers].issuperset(lost)
                assert self.sets[peers].isdisjoint(gained)
                self.sets[peers] = self.sets[peers] - lost | gained
        told = set()
        for old, new in said.parts:
            assert old != new
            name = (new or old).identity  # type: ignore[union-attr]  # one of them is there
            assert name not in told
            told.add(name)
            assert self.parts.pop(name, None) == old
            if new is not None:
                assert old is None or old.identity == new.identity
                self.parts[name] = new
        self.follow_sets()

    def follow_sets(self) -> None:
        """Sets of new parts are taken as they are; those that were known must be what was told."""
        known, self.sets, pods = self.sets, {}, self.engine.index.pods
        for part in self.parts.values():
            self.sets[part.subjects] = {pods[n].key for n in part.subjects.members}
            if part.peers is not None:
                self.sets[part.peers] = set(part.peers.members)
        assert all(self.sets[tracked] == told for tracked, told in known.items() if tracked in self.sets)


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(first=clusters(), second=clusters(), seed=st.integers(0, 1 << 30), loaded=st.booleans())
def test_after_any_changes_it_says_what_the_full_computation_says(
    first: Cluster, second: Cluster, seed: int, loaded: bool
) -> None:
    walk = Walk(seed)
    if loaded:
        walk.load(first)
        walk.check()
    else:
        walk.towards(first)
    walk.towards(second)
    walk.towards(Cluster())
    assert not walk.parts
    assert not walk.engine._rules  # nothing of what is gone is kept


def allow(name: str, *rules: Rule) -> Policy:
    return Policy(Key("x", name), isolates=frozenset({Direction.INGRESS}), ingress=rules)


FROM_ALL = Rule((Peer(pods=EVERYTHING),))
A = Pod(Key("x", "a"), addresses=(parse_address("10.0.0.1"),))


def test_a_rule_that_moves_to_another_policy_in_one_go_only_changes_owners() -> None:
    engine = PolicyEngine()
    engine.put_pod(A)
    engine.put_policy(allow("one", FROM_ALL))
    (first,) = engine.settle().parts
    engine.remove_policy(Key("x", "one"))
    engine.put_policy(allow("two", FROM_ALL))
    (change,) = engine.settle().parts
    assert change.old is not None
    assert change.old == first.new
    assert change.new == change.old._replace(owners=(RuleRef(Key("x", "two"), Direction.INGRESS, 0),))


def test_a_rule_that_comes_and_goes_in_one_go_was_never_there() -> None:
    engine = PolicyEngine()
    engine.put_pod(A)
    engine.put_policy(allow("one", FROM_ALL))
    engine.remove_policy(Key("x", "one"))
    assert not engine.settle().parts
    assert not engine.subjects_of(A.key)


def test_a_pod_that_goes_when_its_isolation_has_gone_is_told() -> None:
    engine = PolicyEngine()
    engine.put_pod(A)
    engine.put_policy(allow("one"))
    assert engine.settle().isolation == {A.key}
    engine.remove_policy(Key("x", "one"))
    engine.remove_pod(A.key)
    assert engine.settle().isolation == {A.key}


def test_two_addresses_that_merge_into_a_prefix_still_hold_their_pods_ports() -> None:
    """Peers are kept as few prefixes; a port's name is looked up in the pods behind them."""
    web = A._replace(ports=(ContainerPort("web", 8080, Protocol.TCP),))
    rule = Rule((block("10.0.0.0/32"), block("10.0.0.1/32")), (tcp("web"),))
    policy = Policy(Key("x", "p"), isolates=frozenset({Direction.EGRESS}), egress=(rule,))
    cluster = Cluster(pods={web.key: web}, policies={policy.key: policy})
    (found,) = PolicyCompiler(cluster).for_pods(cluster.pods).rules
    assert found.peers == frozenset({parse_address("10.0.0.1")})


def test_a_name_that_adds_nothing_to_a_number_beside_it_takes_nothing_away() -> None:
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
    parts = [change.new for change in engine.settle().parts if change.new]
    told = {part.services: part.peers and frozenset(part.peers.members) for part in parts}
    assert told == {
        ((Protocol.TCP, 80, 80),): None,
        ((Protocol.TCP, 8080, 8080),): frozenset({parse_address("10.0.0.3")}),
    }
    compiled = PolicyCompiler(cluster).for_pods([Key("x", "subject")]).rules
    assert {one.services: one.peers for one in compiled} == told


def test_an_identity_is_the_json_of_what_the_rule_says() -> None:
    """Numbers are made of it, and they must outlive a restart with another version."""
    engine = PolicyEngine()
    engine.put_pod(A)
    engine.put_policy(allow("one", Rule((Peer(pods=EVERYTHING), block("10.0.0.0/8", "10.1.0.0/16")), (tcp(80, 90),))))
    (change,) = engine.settle().parts
    assert change.new is not None
    peers = "[[[[]], null, null], [null, null, [[4, 167772160, 8], [[4, 167837696, 16]]]]]"
    assert change.new.identity.decode() == (f'[["ingress", "x", [[]], [{peers}, [[6, 80, 90]]]], [[6, 80, 90]]]')
