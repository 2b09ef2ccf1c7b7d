"""From a snapshot to the rules of a switch, computed from nothing: the reference that `engine` is held to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from flows.cluster.model import Cluster, Direction, Key, Selector
from flows.policy.flow_limits import peer_weight, rule_weight
from flows.policy.pod_index import PodIndex
from flows.policy.resolve import ResolvedRule, RuleResolver, rule_identity
from flows.policy.rule import CompiledRule, NodePolicy, policy_rules
from flows.policy.rule_numbers import assign_numbers
from flows.policy.tracked_sets import RuleKey, RuleRef


class PolicyCompiler:
    """Compiles one snapshot, for as many switches as are asked for; peer sets are computed once and shared."""

    def __init__(self, cluster: Cluster) -> None:
        self.index = PodIndex(cluster)
        self._variants = RuleResolver(self.index)
        self._isolation: dict[int, set[Direction]] = defaultdict(set)
        self._owners: dict[RuleKey, list[RuleRef]] = defaultdict(list)
        self._of_pod: dict[int, list[bytes]] = defaultdict(list)
        self._parts: dict[bytes, tuple[RuleKey, ResolvedRule]] = {}
        self._read(cluster)
        self._numbers = assign_numbers(self._parts)

    def _read(self, cluster: Cluster) -> None:
        isolating: set[tuple[str, Selector, Direction]] = set()
        for key in sorted(cluster.policies):
            policy = cluster.policies[key]
            isolating.update((key.namespace, policy.subjects, direction) for direction in policy.isolates)
            for rule, ref in policy_rules(policy):
                self._owners[rule].append(ref)
        for namespace, selector, direction in isolating:
            for n in self.index.select(namespace, selector):
                self._isolation[n].add(direction)
        for rule in self._owners:
            for variant in self._variants.of(self._variants.bind(rule)):
                name = rule_identity(rule, variant.services)
                self._parts[name] = rule, variant
                for n in variant.subjects:
                    self._of_pod[n].append(name)

    def for_pods(self, pods: Collection[Key]) -> NodePolicy:
        """The rules for a switch that has these pods. Unknown, finished and hostNetwork pods are no subjects."""
        local = frozenset(n for n in map(self.index.number.get, pods) if n is not None)
        names = dict.fromkeys(name for n in local for name in self._of_pod.get(n, ()))
        rules = [self._rule(self._numbers[name], *self._parts[name], local) for name in names]
        isolated = {self.index.pods[n].key: frozenset(self._isolation[n]) for n in local if n in self._isolation}
        return NodePolicy(isolated, tuple(sorted(rules, key=lambda rule: rule.conj_id)))

    def _rule(self, number: int, key: RuleKey, variant: ResolvedRule, local: frozenset[int]) -> CompiledRule:
        subjects = frozenset(self.index.pods[n].key for n in variant.subjects & local)
        weight = rule_weight(peer_weight(key.rule), variant.services)
        owners = tuple(self._owners[key])
        return CompiledRule(number, key.direction, subjects, variant.peers, variant.services, owners, weight)


def compile_policy(cluster: Cluster, pods: Iterable[Key]) -> NodePolicy:
    """The rules for a switch that has `pods`, from nothing but the snapshot."""
    return PolicyCompiler(cluster).for_pods(tuple(pods))
