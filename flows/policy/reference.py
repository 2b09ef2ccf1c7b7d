"""From a snapshot to the rules of a switch, computed from nothing. Tests hold `engine` equal to this reference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from flows.cluster.model import AuditMode, Cluster, ClusterPolicy, Direction, Key, Selector, Tier
from flows.policy.audited_pods import WATCHED, watched_by
from flows.policy.flow_limits import peer_weight, rule_weight
from flows.policy.levels import place_policies
from flows.policy.node_index import NodeIndex
from flows.policy.pod_index import PodIndex
from flows.policy.resolve import ResolvedRule, RuleResolver, rule_identity
from flows.policy.rule import CompiledRule, NodePolicy, RuleKey, RuleRef, Staged, TierStage, Watch, policy_rules
from flows.policy.rule_numbers import assign_numbers
from flows.policy.staged_policies import promote


class PolicyCompiler:
    """Compiles one snapshot, for any number of switches; peer sets are computed once and shared."""

    def __init__(self, cluster: Cluster, audit: AuditMode = AuditMode.OFF) -> None:
        self.index = PodIndex(cluster)
        nodes = NodeIndex(self.index.changed_sets)
        for node in cluster.nodes.values():
            nodes.put_node(node)
        self._resolver = RuleResolver(self.index, nodes)
        self._tiers: dict[int, set[TierStage]] = defaultdict(set)
        self._promoted: dict[int, set[Staged]] = defaultdict(set)
        self._isolation: dict[int, set[Direction]] = defaultdict(set)
        self._owners: dict[RuleKey, list[RuleRef]] = defaultdict(list)
        self._of_pod: dict[int, list[bytes]] = defaultdict(list)
        self._resolved: dict[bytes, tuple[RuleKey, ResolvedRule]] = {}
        self._watched: dict[int, set[Watch]] = defaultdict(set)
        self._learned = cluster.learned
        self._read(cluster)
        self._read_audit(cluster, audit)
        self._numbers = assign_numbers(self._resolved)

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
        self._read_promoted(cluster)
        self._read_tiers(cluster)
        for rule in self._owners:
            for resolved in self._resolver.resolve(self._resolver.select(rule)):
                identity = rule_identity(rule, resolved.services)
                self._resolved[identity] = rule, resolved
                for n in resolved.subjects:
                    self._of_pod[n].append(identity)

    def _read_promoted(self, cluster: Cluster) -> None:
        """The rules as they are once staged policies are promoted, in the namespaces that have one."""
        namespaces = {key.namespace for key, policy in cluster.policies.items() if policy.staged is not None}
        for key, policy in cluster.policies.items():
            if key.namespace not in namespaces:
                continue
            found = promote(policy)
            for rule, ref in found.rules:
                self._owners[rule].append(ref)
            for n in self.index.select(key.namespace, policy.subjects):
                self._promoted[n].update(Staged(one, False) for one in found.selects)
                self._promoted[n].update(Staged(one, True) for one in found.isolates)
                if found.selects:
                    self._watched[n].add(Watch.STAGED)

    def _staged(self, n: int) -> frozenset[Staged]:
        found = self._promoted.get(n, set())
        selected = [one.direction for one in found if not one.isolated]
        return frozenset([Staged(one, Staged(one, True) in found) for one in selected])

    def _read_tiers(self, cluster: Cluster) -> None:
        levels: dict[tuple[Tier, int], list[ClusterPolicy]] = defaultdict(list)
        for policy in cluster.cluster_policies.values():
            levels[policy.tier, policy.priority].append(policy)
        for (tier, _), policies in levels.items():
            for placed in place_policies(policies).values():
                for rule, ref in placed.rules:
                    self._owners[rule].append(ref)
                    for n in self._resolver.subjects(rule.namespace, rule.subjects):
                        self._tiers[n].add((tier, rule.direction))
                        self._watched[n].update(watched_by(cluster.cluster_policies[ref.policy].audit, rule.direction))
        for refs in self._owners.values():
            refs.sort()

    def _read_audit(self, cluster: Cluster, default: AuditMode) -> None:
        for n, pod in self.index.pods.items():
            namespace = cluster.namespaces.get(pod.key.namespace)
            of_namespace = namespace.audit if namespace is not None else None
            self._watched[n].update(WATCHED[pod.audit or of_namespace or default])
        for key, policy in cluster.policies.items():
            for n in self.index.select(key.namespace, policy.subjects):
                for direction in policy.isolates:
                    self._watched[n].update(watched_by(policy.audit, direction))

    def for_pods(self, pods: Collection[Key]) -> NodePolicy:
        """The policy of a switch that has these pods. Unknown, finished and hostNetwork pods are no subjects."""
        local = frozenset(n for n in map(self.index.numbers.get, pods) if n is not None)
        identities = dict.fromkeys(one for n in local for one in self._of_pod.get(n, ()))
        rules = [self._rule(self._numbers[one], *self._resolved[one], local) for one in identities]
        isolated = {self.index.pods[n].key: frozenset(self._isolation[n]) for n in local if n in self._isolation}
        tiered = {self.index.pods[n].key: frozenset(self._tiers[n]) for n in local if n in self._tiers}
        watched = {self.index.pods[n].key: frozenset(self._watched[n]) for n in local if self._watched[n]}
        learned = {key: self._learned[key] for key in pods if key in self._learned}
        staged = {self.index.pods[n].key: found for n in local if (found := self._staged(n))}
        rules.sort(key=lambda rule: rule.conj_id)
        return NodePolicy(isolated, tuple(rules), tiered, watched, learned, staged)

    def _rule(self, number: int, key: RuleKey, resolved: ResolvedRule, local: frozenset[int]) -> CompiledRule:
        subjects = frozenset(self.index.pods[n].key for n in resolved.subjects & local)
        weight = rule_weight(peer_weight(key.rule), resolved.services)
        owners = tuple(self._owners[key])
        return CompiledRule(
            number, key.direction, subjects, resolved.peers, resolved.services, owners, weight, key.level
        )


def compile_policy(cluster: Cluster, pods: Iterable[Key], audit: AuditMode = AuditMode.OFF) -> NodePolicy:
    """The policy of a switch that has `pods`; `audit` is what is audited of pods without an annotation."""
    return PolicyCompiler(cluster, audit).for_pods(tuple(pods))
