"""The incremental engine: an event costs what it changes, not what there is.

Holds the rules of all policies over a living index. Changes of pods, namespaces and policies change the sets that the
rules stand on; `settle` says what came to these and what went, which rules came, went or differ, and for which pods
isolation may. The full computation in `compile` is the reference: after every step both must say the same.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from flows.cluster.model import Cluster, Direction, Key, Labels, Pod, Policy
from flows.cluster.net import Net
from flows.cluster.tuples import new_tuple
from flows.policy.flow_limits import rule_weight
from flows.policy.groups import Group
from flows.policy.pod_index import PodIndex
from flows.policy.resolve import rule_identity
from flows.policy.rule import policy_rules
from flows.policy.rule_numbers import RuleNumbers
from flows.policy.rule_sets import RuleSets
from flows.policy.services import Services
from flows.policy.tracked_sets import NetSet, PodSet, PolicyRule, RuleKey, RuleRef, TrackedRule


class UnnumberedRule(NamedTuple):
    """A part that has no number yet."""

    identity: bytes
    subjects: PodSet
    peers: NetSet | None
    services: Services | None
    weight: int


class RuleChange(NamedTuple):
    """A part that is new (`old` is None), gone (`new` is None) or different. What its sets hold is no part of it."""

    old: TrackedRule | None
    new: TrackedRule | None


class SubjectChange(NamedTuple):
    """The pods that came to a set of subjects, and those that went."""

    subjects: PodSet
    came: tuple[Key, ...]
    went: tuple[Key, ...]


class PeerChange(NamedTuple):
    """The prefixes that came to a set of peers, and those that went."""

    peers: NetSet
    came: set[Net]
    went: set[Net]


class PolicyChanges(NamedTuple):
    """What followed from all changes since the last time. `isolation` has pods whose isolated directions may differ.

    The sets of a part that is new are not told of: they are as they are.
    """

    parts: tuple[RuleChange, ...]
    subjects: tuple[SubjectChange, ...]
    peers: tuple[PeerChange, ...]
    isolation: frozenset[Key]


class PolicyEngine:
    """Pods, namespaces and policies in; changed rules out."""

    def __init__(self) -> None:
        self.index = PodIndex()
        self._sets = RuleSets(self.index)
        self._policies: dict[Key, Policy] = {}
        self._rules: dict[RuleKey, PolicyRule] = {}
        self._numbers = RuleNumbers()
        self._named: dict[bytes, PolicyRule] = {}  # by the identities of their parts
        # The policies that isolate a group, by direction: mostly one.
        self._isolating: dict[Direction, dict[Group, Key | dict[Key, None]]] = {one: {} for one in Direction}
        # To be computed again, in the order of the changes: what came together lies together in memory.
        self._affected: dict[PolicyRule, None] = {}
        self._failed: dict[PolicyRule, str] = {}
        self._moved: set[int] = set()  # pods whose isolation policies may have changed

    def load(self, cluster: Cluster) -> None:
        """Take a whole snapshot into an engine that has nothing yet; namespaces and pods first, so that each group is
        computed once."""
        self.index.load(cluster)
        for policy in cluster.policies.values():
            self.put_policy(policy)

    # -- changes -----------------------------------------------------------------------------------------------------

    def put_namespace(self, name: str, labels: Labels | None) -> None:
        """A namespace has these labels now, or no object any more (None)."""
        self.index.put_namespace(name, labels)

    def put_pod(self, pod: Pod) -> None:
        """A pod is new or has changed."""
        self.index.put_pod(pod)

    def remove_pod(self, key: Key) -> None:
        """A pod is gone."""
        self.index.remove_pod(key)

    def put_policy(self, policy: Policy) -> None:
        """A policy is new or has changed."""
        old = self._policies.get(policy.key)
        self._policies[policy.key] = policy
        self._exchange(old, policy)

    def remove_policy(self, key: Key) -> None:
        """A policy is gone."""
        self._exchange(self._policies.pop(key, None), None)

    def _exchange(self, old: Policy | None, new: Policy | None) -> None:
        before = {ref: rule for rule, ref in policy_rules(old)} if old else {}
        for rule, ref in policy_rules(new) if new else ():
            was = before.pop(ref, None) if before else None
            if was != rule:
                self._own(rule, ref)
                if was is not None:
                    self._disown(was, ref)
        for ref, rule in before.items():
            self._disown(rule, ref)
        if old is None or new is None or (old.subjects, old.isolates) != (new.subjects, new.isolates):
            self._isolate(old, new)

    def _own(self, rule: RuleKey, ref: RuleRef) -> None:
        live = self._rules.get(rule)
        if live is None:
            live = self._rules[rule] = self._sets.bind(rule)
        insort(live.owners, ref)
        self._affected[live] = None

    def _disown(self, rule: RuleKey, ref: RuleRef) -> None:
        live = self._rules[rule]
        live.owners.remove(ref)
        self._affected[live] = None

    def _isolate(self, old: Policy | None, new: Policy | None) -> None:
        """A policy isolates these now instead of those. It holds its group once."""
        after, before = self._isolates(new), self._isolates(old)
        if old is not None and before is not None:
            for direction in old.isolates:
                if before is not after or new is None or direction not in new.isolates:
                    self._set_isolating(direction, before, old.key, False)
        if new is not None and after is not None:
            for direction in new.isolates:
                if before is not after or old is None or direction not in old.isolates:
                    self._set_isolating(direction, after, new.key, True)
        if before is not None:
            self.index.release(before)
            self.index.release(before)

    def _isolates(self, policy: Policy | None) -> Group | None:
        """The group that a policy isolates, held once more."""
        if policy is None or not policy.isolates:
            return None
        return self.index.group(policy.key.namespace, policy.subjects)

    def _set_isolating(self, direction: Direction, group: Group, policy: Key, there: bool) -> None:
        groups = self._isolating[direction]
        policies = groups.get(group)
        if isinstance(policies, dict):
            if there:
                policies[policy] = None
            else:
                del policies[policy]
                if len(policies) == 1:
                    (groups[group],) = policies
            return
        if policies is not None and there:
            groups[group] = {policies: None, policy: None}
            return
        if there:
            groups[group] = policy
        else:
            del groups[group]
        if group.members or group in self.index.log:
            # Those that came or went in this step too: the log is read when the group may isolate no more.
            self._moved.update(group.members, group.touched())

    # -- results -----------------------------------------------------------------------------------------------------

    def settle(self) -> PolicyChanges:
        """What all changes since the last call come to."""
        self._sets.follow()
        subjects, peers = self._read_log()
        affected, self._affected = self._affected, {}
        # All get their numbers before any is told, for those that come may move others.
        drafts = {live: self._contained(live) for live in affected}
        numbers = {live: self._number(live, wanted) for live, wanted in drafts.items()}
        changes = [change for live in affected for change in self._replace(live, drafts[live], numbers[live])]
        changes += self._renumber(affected)
        for live in affected:
            if not live.owners:
                del self._rules[live.key]
                self._failed.pop(live, None)
                self._sets.release(live)
        self._sets.prune()
        pods, departed = self.index.pods, self.index.departed
        isolation = frozenset([pods[n].key if n in pods else departed[n] for n in self._moved])
        self._moved = set()
        self.index.departed = {}
        return PolicyChanges(tuple(changes), subjects, peers, isolation)

    def _read_log(self) -> tuple[tuple[SubjectChange, ...], tuple[PeerChange, ...]]:
        """What came and went in the sets that rules stand on; marks the rules of sets that are empty now, or were, and
        those that could not be computed before."""
        log = self.index.log
        moves, turns = [], []
        pods, departed = self.index.pods, self.index.departed
        ingress, egress = self._isolating.values()
        for tracked in log:
            came, went = tracked.take()
            if not came and not went:
                continue
            now = len(tracked.members)
            if not now or now == len(came) - len(went):
                self._affected.update(dict.fromkeys(tracked.rules))
            elif self._failed:
                self._affected.update(dict.fromkeys(self._failed.keys() & tracked.rules))
            if isinstance(tracked, PodSet):
                if tracked in ingress or tracked in egress:
                    self._moved |= came | went
                if tracked.rules:
                    keys = [tuple([pods[n].key if n in pods else departed[n] for n in found]) for found in (came, went)]
                    moves.append(SubjectChange(tracked, keys[0], keys[1]))
            elif tracked.rules and isinstance(tracked, NetSet):
                turns.append(PeerChange(tracked, came, went))
        log.clear()
        return tuple(moves), tuple(turns)

    def _contained(self, live: PolicyRule) -> list[UnnumberedRule]:
        """A rule that cannot be computed allows nothing, until something of it changes."""
        try:
            drafts = self._compute(live)
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this rule and no other
            self._failed[live] = f"cannot be computed, so it allows nothing: {type(error).__name__}: {error}"
            return []
        if self._failed:
            self._failed.pop(live, None)
        return drafts

    def _compute(self, live: PolicyRule) -> list[UnnumberedRule]:
        """What a rule comes to; changes nothing. Variants differ from one another in their services."""
        names = {part.services: part.identity for part in live.parts}
        key, weight = live.key, live.weight
        return [
            new_tuple(
                UnnumberedRule,
                (
                    names.get(services) or rule_identity(key, services),
                    subjects,
                    peers,
                    services,
                    rule_weight(weight, services),
                ),
            )
            for subjects, peers, services in live.variants()
        ]

    def _number(self, live: PolicyRule, wanted: list[UnnumberedRule]) -> list[int]:
        """These parts of a rule have numbers from now on, and no others. Returns those that they had or got."""
        known = {part.identity: part.number for part in live.parts}
        numbers = []
        for draft in wanted:
            name = draft.identity
            number = known.pop(name, None)
            if number is None:
                number = self._numbers.enter(name)
                self._named[name] = live
            numbers.append(number)
        for name in known:
            self._numbers.leave(name)
            del self._named[name]
        return numbers

    def _replace(self, live: PolicyRule, wanted: list[UnnumberedRule], numbers: list[int]) -> Iterator[RuleChange]:
        """The parts of a rule are these now; what is told of them."""
        before = {part.identity: part for part in live.parts}
        owners = tuple(live.owners)
        direction = live.key.direction
        parts = []
        moved = self._numbers.moved
        for (name, subjects, peers, services, weight), number in zip(wanted, numbers, strict=True):
            old = before.pop(name, None)
            if name in moved:
                number = self._numbers.of(name)
            part = new_tuple(TrackedRule, (name, number, direction, subjects, peers, services, owners, weight))
            parts.append(part)
            if part != old:
                yield RuleChange(old, part)
        live.parts = tuple(parts)
        for gone in before.values():
            yield RuleChange(gone, None)

    def _renumber(self, computed: Iterable[PolicyRule]) -> Iterator[RuleChange]:
        """Rules whose number another one has now, or that have another's number."""
        if not self._numbers.moved:
            return
        for live in {self._named[name]: None for name in self._numbers.moved if name in self._named}:
            if live in computed:
                continue
            parts = live.parts
            live.parts = tuple([part._replace(number=self._numbers.of(part.identity)) for part in parts])
            yield from (RuleChange(old, new) for old, new in zip(parts, live.parts, strict=True) if old != new)
        self._numbers.moved.clear()

    # -- asking ------------------------------------------------------------------------------------------------------

    @property
    def failures(self) -> dict[RuleRef, str]:
        """The rules of policies that allow nothing because they cannot be computed, and why."""
        return {ref: reason for live, reason in self._failed.items() for ref in live.owners}

    def parts_of(self, policy: Key) -> list[TrackedRule]:
        """The parts of a policy's rules as of the last `settle`; a rule that can allow nothing has none."""
        known = self._policies.get(policy)
        lives = [self._rules.get(rule) for rule, _ in policy_rules(known)] if known is not None else []
        return [part for live in lives if live is not None for part in live.parts]

    def subjects_of(self, pod: Key) -> list[PodSet]:
        """The sets of subjects that a pod is in, of which there are parts."""
        n = self.index.number.get(pod)
        if n is None:
            return []
        return [found for group in {*self.index.groups_of(n)} for found in self._sets.subjects(group, n)]

    def isolated(self, pod: Key) -> frozenset[Direction]:
        """The directions in which some policy isolates the pod."""
        n = self.index.number.get(pod)
        if n is None:
            return frozenset()
        groups = list(self.index.groups_of(n))
        return frozenset([d for d, isolated in self._isolating.items() if not isolated.keys().isdisjoint(groups)])

    def isolating(self, pods: Iterable[Key]) -> dict[tuple[Key, Direction], tuple[str, ...]]:
        """For each of these pods and each direction in which it is isolated, the policies that isolate it, by name. It
        costs what there is of these; pods that the same policies isolate share their names."""
        found: dict[tuple[Key, Direction], tuple[str, ...]] = {}
        known: dict[tuple[Direction, frozenset[Group]], tuple[str, ...]] = {}
        for pod in pods:
            n = self.index.number.get(pod)
            groups = frozenset(self.index.groups_of(n)) if n is not None else frozenset()
            for direction, isolated in self._isolating.items():
                which = direction, frozenset(isolated.keys() & groups)
                if not which[1]:
                    continue
                if which not in known:
                    known[which] = tuple(sorted({str(one) for group in which[1] for one in _each(isolated[group])}))
                found[pod, direction] = known[which]
        return found


def _each(policies: Key | dict[Key, None]) -> Iterable[Key]:
    return policies if isinstance(policies, dict) else (policies,)
