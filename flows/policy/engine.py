"""The incremental engine: from changes of pods, namespaces and policies to changes of rules.

An event costs what it changes, not what there is. `reference` computes the same from nothing; tests hold the two equal
after every step. Nothing of bridges, ports or flows may live here.

Theory of operation. An event passes through five stages:
1. index: `put_pod` updates the PodIndex. The pod enters and leaves groups, one group for each selector in use. Each
   group that changes enters the change log.
2. sets: `compute_changes` first propagates the logged changes to the sets computed from groups (`combined_sets`).
3. rules: a rule compiles to other conjunctions only when one of its sets becomes empty or ceases to be empty, or when a
   policy adds or drops the rule. Only these rules are computed again. An element that is added to a set with members
   changes no rule.
4. numbers: new conjunctions get their conjunction ids (`rule_numbers`), which may renumber others on a collision.
5. changes: PolicyChanges has the rules that are new, gone or different, what was added to sets and removed from them,
   and the pods whose isolation may differ. `flows.plan` passes them on to the bridges concerned.

Example. Policy x/p selects `app: db` for ingress and allows TCP 5432 from `app: web`; pod db-1 has `app: db`. No pod
has `app: web`, so the rule has no conjunction: db-1 is isolated, and no rule allows.
- Pod web-1 (`app: web`, 10.0.0.7) is added. The group `app: web` and its addresses are logged. The peers cease to be
  empty, so the rule is computed again: `rules` has RuleChange(None, new). The sets of a new rule are read as they are.
- Pod web-2 (10.0.0.8) is added. The addresses are logged, but had members before: no rule is computed. `peers` has
  PeerChange(peers, {10.0.0.8}, {}), which costs one flow on each bridge with the rule.
- Policy x/p is deleted. The rule has no owner: RuleChange(old, None); `isolation` has db-1. The sets are released.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from flows.cluster.model import (
    Action,
    AuditMode,
    Cluster,
    ClusterPolicy,
    Direction,
    Key,
    Labels,
    Node,
    Pod,
    Policy,
    Selector,
    Subject,
)
from flows.cluster.net import Net
from flows.cluster.tuples import new_tuple
from flows.policy.audited_pods import AuditedPods
from flows.policy.flow_limits import rule_weight
from flows.policy.node_index import NodeIndex
from flows.policy.pod_index import PodIndex
from flows.policy.policy_changes import NO_CHANGES, PeerChange, PolicyChanges, RuleChange, SubjectChange
from flows.policy.resolve import rule_identity
from flows.policy.rule import (
    NOT_STAGED,
    Applies,
    RuleKey,
    RuleRef,
    Staged,
    TierStage,
    Watch,
    applying,
    policy_rules,
)
from flows.policy.rule_numbers import RuleNumbers
from flows.policy.rule_sets import RuleSets
from flows.policy.selecting_policies import SelectingPolicies
from flows.policy.service_ranges import ServiceRanges
from flows.policy.staged_policies import StagedPolicies
from flows.policy.tier_policies import PlacedChange, TierPolicies
from flows.policy.tracked_sets import NetSet, PodSet, PolicyRule, TrackedRule

_PUT_TOGETHER = 10  # so many pods or groups are put together in the time in which one pod is compared with its groups


class UnnumberedRule(NamedTuple):
    """A TrackedRule before it has a number and owners."""

    identity: bytes
    subjects: PodSet
    peers: NetSet | None
    services: ServiceRanges | None
    weight: int


class PolicyEngine:
    """The rules of all policies, kept as objects change: call `put_*` and `remove_*` for every change, then
    `compute_changes`."""

    def __init__(self, audit: AuditMode = AuditMode.OFF) -> None:
        """`audit` is what is audited of pods without an annotation."""
        self.index = PodIndex()
        self.nodes = NodeIndex(self.index.changed_sets)
        self.tiers = TierPolicies()
        self._promoted = StagedPolicies()
        self._sets = RuleSets(self.index, self.nodes)
        self._policies: dict[Key, Policy] = {}
        self._rules: dict[RuleKey, PolicyRule] = {}
        self._numbers = RuleNumbers()
        self._rule_of: dict[bytes, PolicyRule] = {}  # by the identities of its tracked rules
        self._cluster_policies: dict[Key, ClusterPolicy] = {}  # those that are audited
        self._selecting = SelectingPolicies(self.index)
        self._audited = AuditedPods(self.index, self._selecting, audit)
        # To be computed again, in the order of the changes, so that rules that come together are close in memory.
        self._affected: dict[PolicyRule, None] = {}
        self._failed: dict[PolicyRule, str] = {}

    def load(self, cluster: Cluster) -> None:
        """Load a snapshot into an empty engine. Namespaces and pods come first, so that each group is computed once."""
        self.index.load(cluster)
        for namespace in cluster.namespaces.values():
            self._audited.put_namespace(namespace.name, namespace.audit)
        for pod in cluster.pods.values():
            if pod.audit is not None:
                with self._audited.noting(pod.key):
                    self._audited.put_pod(pod)
        for node in cluster.nodes.values():
            self.nodes.put_node(node)
        for policy in cluster.policies.values():
            self.put_policy(policy)
        self._replace_placed(self.tiers.load(cluster.cluster_policies.values()))
        for cluster_policy in cluster.cluster_policies.values():
            self._audit_cluster_policy(cluster_policy.key, cluster_policy)

    # -- changes -----------------------------------------------------------------------------------------------------

    def put_namespace(self, name: str, labels: Labels | None, audit: AuditMode | None = None) -> None:
        """A namespace has these labels and this annotation now; None when its object is deleted."""
        self.index.put_namespace(name, labels)
        self._audited.put_namespace(name, audit)

    def put_pod(self, pod: Pod) -> None:
        """A pod is new or has changed."""
        if pod.audit is None and not self._audited.any:
            self.index.put_pod(pod)
            return
        with self._audited.noting(pod.key):
            self.index.put_pod(pod)
            self._audited.put_pod(pod)

    def remove_pod(self, key: Key) -> None:
        """A pod is deleted."""
        if not self._audited.any:
            self.index.remove_pod(key)
            return
        with self._audited.noting(key):
            self.index.remove_pod(key)
            self._audited.remove_pod(key)

    def put_node(self, node: Node) -> None:
        """A node is new or has changed."""
        self.nodes.put_node(node)

    def remove_node(self, name: str) -> None:
        """A node is deleted."""
        self.nodes.remove_node(name)

    def put_cluster_policy(self, policy: ClusterPolicy) -> None:
        """A ClusterNetworkPolicy is new or has changed."""
        self._replace_placed(self.tiers.put(policy))
        self._audit_cluster_policy(policy.key, policy)

    def remove_cluster_policy(self, key: Key) -> None:
        """A ClusterNetworkPolicy is deleted."""
        self._audit_cluster_policy(key, None)
        self._replace_placed(self.tiers.remove(key))

    def _audit_cluster_policy(self, key: Key, new: ClusterPolicy | None) -> None:
        old = self._cluster_policies.pop(key, None)
        if new is not None and new.audit is not AuditMode.OFF:
            self._cluster_policies[key] = new
        audited = [one for one in (old, new) if one is not None and one.audit is not AuditMode.OFF]
        if audited:
            subjects = {n for one in audited for n in self.subject_pods(one.subject)}
            self._audited.replace_cluster_policy(old, new, subjects)

    def _replace_placed(self, changes: Iterable[PlacedChange]) -> None:
        for key, old, new in changes:
            self._replace_rules(old.rules, new.rules)
            self._selecting.replace_placed(key, old, new)

    def put_policy(self, policy: Policy) -> None:
        """A policy is new or has changed."""
        old = self._policies.get(policy.key)
        self._policies[policy.key] = policy
        self._replace_policy(old, policy)

    def remove_policy(self, key: Key) -> None:
        """A policy is deleted."""
        self._replace_policy(self._policies.pop(key, None), None)

    def _replace_policy(self, old: Policy | None, new: Policy | None) -> None:
        self._replace_rules(policy_rules(old) if old else (), policy_rules(new) if new else ())
        if old is None or new is None or (old.subjects, old.isolates) != (new.subjects, new.isolates):
            self._selecting.replace(old, new)
        if (old is not None and old.audit is not AuditMode.OFF) or (new is not None and new.audit is not AuditMode.OFF):
            self._audited.replace_policy(old, new)
        for key, before, after in self._promoted.replace(old, new):
            self._replace_rules(before.rules, after.rules)
            self._selecting.replace_promoted(key, before, after)

    def _replace_rules(self, old: Iterable[tuple[RuleKey, RuleRef]], new: Iterable[tuple[RuleKey, RuleRef]]) -> None:
        before = {ref: key for key, ref in old} if old else {}
        for key, ref in new:
            previous = before.pop(ref, None) if before else None
            if previous != key:
                self._add_owner(key, ref)
                if previous is not None:
                    self._remove_owner(previous, ref)
        for ref, key in before.items():
            self._remove_owner(key, ref)

    def _add_owner(self, key: RuleKey, ref: RuleRef) -> None:
        rule = self._rules.get(key)
        if rule is None:
            rule = self._rules[key] = self._sets.acquire(key)
        insort(rule.owners, ref)
        self._affected[rule] = None

    def _remove_owner(self, key: RuleKey, ref: RuleRef) -> None:
        rule = self._rules[key]
        rule.owners.remove(ref)
        self._affected[rule] = None

    # -- results -----------------------------------------------------------------------------------------------------

    def compute_changes(self) -> PolicyChanges:
        """What changed in rules, sets and isolation since the last call; NO_CHANGES where nothing did."""
        index = self.index
        if not (self._affected or self._selecting.changed or index.changed_sets or index.port_changes):
            if index.removed_pods:
                index.removed_pods = {}
            return NO_CHANGES
        subjects: tuple[SubjectChange, ...] = ()
        peers: tuple[PeerChange, ...] = ()
        if index.changed_sets or index.port_changes:
            self._sets.propagate()
            subjects, peers = self._read_log()
        rules = self._compute_affected() if self._affected else ()
        self._sets.drop_empty_sets()
        isolation: frozenset[Key] = frozenset()
        if self._selecting.changed:
            isolation = frozenset(self._keys(self._selecting.take_changed()))
        index.removed_pods = {}
        return new_tuple(PolicyChanges, (rules, subjects, peers, isolation))

    def _compute_affected(self) -> tuple[RuleChange, ...]:
        """Compute the affected rules again. Returns what differs in tracked rules."""
        affected, self._affected = self._affected, {}
        # All rules get their numbers before the first RuleChange is made, because a new rule may renumber others.
        computed = {rule: self._compute_or_fail(rule) for rule in affected}
        numbers = {rule: self._number(rule, unnumbered) for rule, unnumbered in computed.items()}
        changes: list[RuleChange] = []
        for rule in affected:
            self._replace(rule, computed[rule], numbers[rule], changes)
        if self._numbers.renumbered:
            changes += self._renumber(affected)
        for rule in affected:
            if not rule.owners:
                del self._rules[rule.key]
                self._failed.pop(rule, None)
                self._sets.release(rule)
        return tuple(changes)

    def _read_log(self) -> tuple[tuple[SubjectChange, ...], tuple[PeerChange, ...]]:
        """What was added to the sets of rules and removed from them. Marks the rules to compute again: those whose sets
        became empty or ceased to be empty, and those of a changed set that could not be computed before."""
        log = self.index.changed_sets
        subjects, peers = [], []
        selecting = self._selecting.groups()
        for tracked in log:
            added, removed = tracked.take_changes()
            if not added and not removed:
                continue
            size, rules = len(tracked.members), tracked.rules
            if rules and (not size or size == len(added) - len(removed)):
                self._affected.update(dict.fromkeys(rules))
            elif self._failed:
                self._affected.update(dict.fromkeys(self._failed.keys() & rules))
            if isinstance(tracked, PodSet):
                for groups in selecting:
                    if tracked in groups:
                        self._selecting.changed.update(added, removed)
                        break
                if rules:
                    change = tracked, self._keys(added) if added else (), self._keys(removed) if removed else ()
                    subjects.append(new_tuple(SubjectChange, change))
            elif rules and isinstance(tracked, NetSet):
                peers.append(new_tuple(PeerChange, (tracked, added, removed)))
        log.clear()
        return tuple(subjects), tuple(peers)

    def _keys(self, numbers: Iterable[int]) -> tuple[Key, ...]:
        """The keys of these pods, which may be gone."""
        pods, removed_pods = self.index.pods, self.index.removed_pods
        return tuple([pods[n].key if n in pods else removed_pods[n] for n in numbers])

    def _compute_or_fail(self, rule: PolicyRule) -> list[UnnumberedRule]:
        """As `_compute`. A rule that cannot be computed allows nothing until one of its sets changes: with an action
        that is not Accept it denies everything to its subjects."""
        try:
            computed = self._compute(rule)
        except Exception as error:  # noqa: BLE001 - any exception concerns this rule and no other
            denies = rule.key.level is not None and rule.key.level.action is not Action.ACCEPT
            does = "denies everything" if denies else "allows nothing"
            self._failed[rule] = f"cannot be computed, so it {does}: {type(error).__name__}: {error}"
            denial = UnnumberedRule(rule_identity(rule.key, ()), rule.group, None, None, 1)
            return [denial] if denies and rule.group.members else []
        if self._failed:
            self._failed.pop(rule, None)
        return computed

    def _compute(self, rule: PolicyRule) -> list[UnnumberedRule]:
        """The tracked rules that a rule compiles to; their services differ. Changes nothing."""
        resolved = rule.resolve()
        if not resolved:
            return []
        identities = {one.services: one.identity for one in rule.compiled} if rule.compiled else {}
        key, prefixes = rule.key, rule.weight
        found = []
        for subjects, peers, services in resolved:
            identity = identities.get(services) or rule_identity(key, services)
            weight = rule_weight(prefixes, services)
            found.append(new_tuple(UnnumberedRule, (identity, subjects, peers, services, weight)))
        return found

    def _number(self, rule: PolicyRule, unnumbered: list[UnnumberedRule]) -> list[int]:
        """The numbers of the new tracked rules of a rule. Those that it had before keep theirs; the numbers of others
        are freed."""
        unused = {one.identity: one.number for one in rule.compiled} if rule.compiled else {}
        numbers = []
        for one in unnumbered:
            identity = one.identity
            number = unused.pop(identity, None)
            if number is None:
                number = self._numbers.add(identity)
                self._rule_of[identity] = rule
            numbers.append(number)
        for identity in unused:
            self._numbers.remove(identity)
            del self._rule_of[identity]
        return numbers

    def _replace(
        self, rule: PolicyRule, unnumbered: list[UnnumberedRule], numbers: list[int], changes: list[RuleChange]
    ) -> None:
        """Set the tracked rules of a rule. `changes` get what differs."""
        before = {one.identity: one for one in rule.compiled} if rule.compiled else {}
        owners = tuple(rule.owners)
        direction, _, _, _, level = rule.key
        if level is not None and rule in self._failed:
            level = level._replace(action=Action.DENY)
        compiled = []
        renumbered = self._numbers.renumbered
        for (identity, subjects, peers, services, weight), number in zip(unnumbered, numbers, strict=True):
            old = before.pop(identity, None)
            if renumbered and identity in renumbered:
                number = self._numbers.number(identity)
            new = new_tuple(
                TrackedRule, (identity, number, direction, subjects, peers, services, owners, weight, level)
            )
            compiled.append(new)
            if new != old:
                changes.append(new_tuple(RuleChange, (old, new)))
        rule.compiled = tuple(compiled)
        if before:
            changes += [RuleChange(gone, None) for gone in before.values()]

    def _renumber(self, computed: Collection[PolicyRule]) -> Iterator[RuleChange]:
        """Set the numbers of renumbered tracked rules whose rules were not computed. Yields what differs."""
        for rule in {self._rule_of[one]: None for one in self._numbers.renumbered if one in self._rule_of}:
            if rule in computed:
                continue
            before = rule.compiled
            rule.compiled = tuple([one._replace(number=self._numbers.number(one.identity)) for one in before])
            yield from (RuleChange(old, new) for old, new in zip(before, rule.compiled, strict=True) if old != new)
        self._numbers.renumbered.clear()

    # -- questions ---------------------------------------------------------------------------------------------------

    @property
    def failures(self) -> dict[RuleRef, str]:
        """The rules that allow nothing because they cannot be computed, and the reason."""
        return {ref: reason for rule, reason in self._failed.items() for ref in rule.owners}

    def tracked_rules_of(self, policy: Key) -> list[TrackedRule]:
        """The tracked rules of a policy as of the last `compute_changes`; a rule that can allow nothing has none."""
        known = self._policies.get(policy)
        pairs = policy_rules(known) if known is not None else self.tiers.placed(policy).rules
        rules = [self._rules.get(key) for key, _ in pairs]
        return [one for rule in rules if rule is not None for one in rule.compiled]

    @property
    def pod_numbers(self) -> Mapping[Key, int]:
        """The numbers that stand for pods in the members of a PodSet. A view: it follows changes."""
        return self.index.numbers

    def pod(self, key: Key) -> Pod | None:
        """A pod as it was put; None for a pod that does not exist or that no policy can select."""
        n = self.index.numbers.get(key)
        return None if n is None else self.index.pods[n]

    def pods_with(self, numbers: Iterable[int]) -> list[Pod]:
        """The pods that these numbers stand for."""
        pods = self.index.pods
        return [pods[n] for n in numbers]

    def selected_pods(self, namespace: str, selector: Selector) -> Collection[int]:
        """The numbers of the pods that `selector` selects in a namespace. Not to be changed, nor kept up to date."""
        return self.index.select(namespace, selector)

    def subject_pods(self, subject: Subject) -> Collection[int]:
        """The numbers of the pods that a ClusterNetworkPolicy's subject selects. Not to be changed."""
        group = self.index.group(subject.namespaces, subject.pods)
        self.index.release(group)
        return group.members

    def pods_with_address(self, address: Net) -> list[Pod]:
        """The pods that have this address, in the order of their numbers; several when it is contested."""
        return self.pods_with(sorted(self.index.claimants(address)))

    def has_pod_with(self, address: Net) -> bool:
        """True when some pod has this address."""
        return bool(self.index.claimants(address))

    def subjects_of(self, pod: Key) -> list[PodSet]:
        """The sets of subjects that a pod is in and that rules have."""
        n = self.index.numbers.get(pod)
        if n is None:
            return []
        groups = dict.fromkeys(self.index.groups_of(n))
        return [found for group in groups for found in self._sets.subject_sets(group, n)]

    @property
    def tracked_rule_count(self) -> int:
        """The number of tracked rules."""
        return len(self._rule_of)

    def isolated(self, pod: Key) -> frozenset[Direction]:
        """The directions in which at least one policy isolates the pod."""
        return self._selecting.isolated(pod)

    def tiered(self, pod: Key) -> frozenset[TierStage]:
        """The tiers and directions in which some rule of a ClusterNetworkPolicy selects the pod."""
        return self._selecting.tiered(pod)

    def watched(self, pod: Key) -> frozenset[Watch]:
        """What of the pod's packets is audited. Staging a policy is asking for what it would deny."""
        found = self._audited.watched(pod)
        return found | {Watch.STAGED} if self.staged(pod) else found

    def staged(self, pod: Key) -> frozenset[Staged]:
        """What staged policies mean for the pod, in the directions in which one selects it."""
        return self._selecting.staged(pod) if self._promoted.any else NOT_STAGED

    def applying_to(self, pods: int) -> Callable[[Key], frozenset[Applies]]:
        """What applies to a pod: the directions in which NetworkPolicies isolate it, the tiers that have rules for it,
        its audit, and what staged policies mean for it. It is going to be asked about so many pods, and holds until an
        object changes."""
        selecting = self._selecting
        together = pods * _PUT_TOGETHER
        many = together > len(self.index.numbers) and together > selecting.isolating_group_count
        isolated = selecting.isolation_of_many() if many else selecting.isolated
        if not (self._promoted.any or self._audited.any or self.tiers.policies):
            return isolated
        return lambda pod: applying(isolated(pod), self.tiered(pod), self.watched(pod), self.staged(pod))

    def promoted_policies(self, pod: Key) -> set[Key]:
        """As `SelectingPolicies.promoted_policies`."""
        return self._selecting.promoted_policies(pod) if self._promoted.any else set()

    def staged_policies(self, pod: Key, direction: Direction) -> tuple[str, ...]:
        """The names of the staged policies that select a pod in a direction, sorted."""
        return self._selecting.staged_policies(pod, direction)

    def isolating_policies(self, pods: Iterable[Key]) -> dict[tuple[Key, Direction], tuple[str, ...]]:
        """As `SelectingPolicies.isolating_policies`."""
        return self._selecting.isolating_policies(pods)
