"""From policies to rules per subject: what each switch must allow, as sets that a conjunctive match can hold.

This is the full computation, from nothing but a snapshot: the reference that the incremental `engine` is held to. What
a rule means stands in `variants`, how rules become flows in `render_rules`.

A rule is identified by what it says (namespace, subject selector, direction, peers, ports), not by the policy that says
it, so that equal rules share one conjunction and a pod that comes or goes changes no number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from flows.index import PodIndex
from flows.model import Cluster, Direction, Key, Policy, Selector
from flows.net import Net
from flows.numbering import assign_numbers
from flows.services import Services
from flows.tuples import new_tuple
from flows.variants import RuleKey, RuleRef, Variant, Variants, identity


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """One conjunction: these subjects may talk with these peers over these services, as responder or as initiator.

    `peers` and `services` are None where they do not restrict; neither is ever empty. `conj_id` is unique on its
    switch.
    """

    conj_id: int
    direction: Direction
    subjects: frozenset[Key]
    peers: frozenset[Net] | None
    services: Services | None
    owners: tuple[RuleRef, ...]


@dataclass(frozen=True, slots=True)
class NodePolicy:
    """All that policy says about the pods of one switch. Pods that nothing isolates are not in `isolated`."""

    isolated: Mapping[Key, frozenset[Direction]]
    rules: tuple[CompiledRule, ...]


def rules_of(policy: Policy) -> Iterable[tuple[RuleKey, RuleRef]]:
    """The rules of a policy that count, with where they stand in it."""
    for direction in policy.isolates:
        for number, rule in enumerate(policy.rules(direction)):
            if rule is not None:
                key = new_tuple(RuleKey, (direction, policy.key.namespace, policy.subjects, rule))
                yield key, new_tuple(RuleRef, (policy.key, direction, number))


class PolicyCompiler:
    """Compiles one snapshot, for as many switches as are asked for; peer sets are computed once and shared."""

    def __init__(self, cluster: Cluster) -> None:
        self.index: PodIndex[None] = PodIndex(cluster)
        self._variants = Variants(self.index)
        self._isolation: dict[int, set[Direction]] = defaultdict(set)
        self._owners: dict[RuleKey, list[RuleRef]] = defaultdict(list)
        self._of_pod: dict[int, list[tuple[RuleKey, Variant]]] = defaultdict(list)
        self._read(cluster)

    def _read(self, cluster: Cluster) -> None:
        isolating: set[tuple[str, Selector, Direction]] = set()
        for key in sorted(cluster.policies):
            policy = cluster.policies[key]
            isolating.update((key.namespace, policy.subjects, direction) for direction in policy.isolates)
            for rule, ref in rules_of(policy):
                self._owners[rule].append(ref)
        for namespace, selector, direction in isolating:
            for n in self.index.select(namespace, selector):
                self._isolation[n].add(direction)
        for rule in self._owners:
            for variant in self._variants.of(self._variants.bind(rule)):
                for n in variant.subjects:
                    self._of_pod[n].append((rule, variant))

    def for_pods(self, pods: Collection[Key]) -> NodePolicy:
        """The rules for a switch that has these pods. Unknown, finished and hostNetwork pods are no subjects."""
        local = frozenset(n for n in map(self.index.number.get, pods) if n is not None)
        parts = {
            identity(rule, variant.services): (rule, variant)
            for n in local
            for rule, variant in self._of_pod.get(n, ())
        }
        numbers = assign_numbers(parts)
        rules = [self._rule(numbers[one], *part, local) for one, part in parts.items()]
        isolated = {self.index.pods[n].key: frozenset(self._isolation[n]) for n in local if n in self._isolation}
        return NodePolicy(isolated, tuple(sorted(rules, key=lambda rule: rule.conj_id)))

    def _rule(self, number: int, key: RuleKey, variant: Variant, local: frozenset[int]) -> CompiledRule:
        subjects = frozenset(self.index.pods[n].key for n in variant.subjects & local)
        return CompiledRule(number, key.direction, subjects, variant.peers, variant.services, tuple(self._owners[key]))


def compile_policy(cluster: Cluster, pods: Iterable[Key]) -> NodePolicy:
    """The rules for a switch that has `pods`, from nothing but the snapshot."""
    return PolicyCompiler(cluster).for_pods(tuple(pods))
