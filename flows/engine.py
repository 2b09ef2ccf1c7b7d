"""The incremental engine: an event costs what it changes, not what there is.

Holds the rules of all policies over a living index. Changes of pods, namespaces and policies mark the rules that they
can concern; `settle`
computes those again and says which really changed, and for which pods isolation did. The full computation in
`compile` is the
reference: after every step both must say the same.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from typing import NamedTuple

from flows.compile import rules_of
from flows.index import Group, PodIndex, PortName, Touched
from flows.model import Cluster, Direction, Key, Labels, Pod, Policy
from flows.services import Services, named
from flows.variants import RuleKey, RuleRef, Variant, Variants, identity


class Part(NamedTuple):
    """One variant of a rule, with the policies it stands in, and the name that its number is made of."""

    identity: bytes
    direction: Direction
    variant: Variant
    owners: tuple[RuleRef, ...]


class Change(NamedTuple):
    """A part that is new (`old` is None), gone (`new` is None) or different."""

    old: Part | None
    new: Part | None


class Settled(NamedTuple):
    """What followed from all changes since the last time. `isolation` has pods whose isolated directions may differ."""

    parts: tuple[Change, ...]
    isolation: frozenset[Key]


class PolicyEngine:
    """Pods, namespaces and policies in; changed rules out."""

    def __init__(self) -> None:
        self.index = PodIndex()
        self._variants = Variants(self.index)
        self._policies: dict[Key, Policy] = {}
        self._owners: dict[RuleKey, list[RuleRef]] = {}
        self._parts: dict[RuleKey, dict[Services | None, Part]] = {}
        self._isolating: dict[Group, dict[Direction, int]] = {}
        self._port_users: dict[PortName, set[RuleKey]] = {}
        self._affected: set[RuleKey] = set()
        self._moved: set[Key] = set()

    def load(self, cluster: Cluster) -> None:
        """Take a whole snapshot; namespaces and pods first, so that each group is computed once."""
        for name, namespace in cluster.namespaces.items():
            self.index.put_namespace(name, namespace.labels)
        for pod in cluster.pods.values():
            self.index.put_pod(pod)
        for policy in cluster.policies.values():
            self.put_policy(policy)

    # -- changes -----------------------------------------------------------------------------------------------------

    def put_namespace(self, name: str, labels: Labels | None) -> None:
        """A namespace has these labels now, or no object any more (None)."""
        self._concern(self.index.put_namespace(name, labels))

    def put_pod(self, pod: Pod) -> None:
        """A pod is new or has changed."""
        self._concern(self.index.put_pod(pod), pod.key)

    def remove_pod(self, key: Key) -> None:
        """A pod is gone."""
        self._concern(self.index.remove_pod(key), key)

    def put_policy(self, policy: Policy) -> None:
        """A policy is new or has changed."""
        old = self._policies.get(policy.key)
        self._policies[policy.key] = policy
        self._exchange(old, policy)

    def remove_policy(self, key: Key) -> None:
        """A policy is gone."""
        self._exchange(self._policies.pop(key, None), None)

    def _concern(self, touched: Touched, pod: Key | None = None) -> None:
        for group in touched.groups:
            self._affected.update(group.users)  # type: ignore[arg-type]  # all users here are RuleKeys
            if pod is not None and group in self._isolating:
                self._moved.add(pod)
        for name in touched.ports:
            self._affected.update(self._port_users.get(name, ()))

    def _exchange(self, old: Policy | None, new: Policy | None) -> None:
        before = dict(_numbered(old))
        after = dict(_numbered(new))
        for ref, rule in before.items():
            if after.get(ref) != rule:
                self._disown(rule, ref)
        for ref, rule in after.items():
            if before.get(ref) != rule:
                self._own(rule, ref)
        if _isolation(old) != _isolation(new):
            self._isolate(old, -1)
            self._isolate(new, +1)

    def _own(self, rule: RuleKey, ref: RuleRef) -> None:
        owners = self._owners.get(rule)
        if owners is None:
            owners = self._owners[rule] = []
            for group in self._groups(rule):
                group.users.add(rule)
            for name in _port_names(rule):
                self._port_users.setdefault(name, set()).add(rule)
        insort(owners, ref)
        self._affected.add(rule)

    def _disown(self, rule: RuleKey, ref: RuleRef) -> None:
        owners = self._owners[rule]
        owners.remove(ref)
        self._affected.add(rule)
        if owners:
            return
        del self._owners[rule]
        for group in self._groups(rule):
            group.users.discard(rule)
        for name in _port_names(rule):
            self._port_users[name].discard(rule)

    def _groups(self, rule: RuleKey) -> list[Group]:
        return [self._variants.subjects(rule), *self._variants.peers(rule)]

    def _isolate(self, policy: Policy | None, by: int) -> None:
        if policy is None or not policy.isolates:
            return
        group = self.index.group(policy.key.namespace, policy.subjects)
        counts = self._isolating.setdefault(group, {})
        for direction in policy.isolates:
            before = counts.get(direction, 0)
            counts[direction] = before + by
            if not before or not counts[direction]:
                self._moved.update(self.index.pods[n].key for n in group.members)
            if not counts[direction]:
                del counts[direction]
        if not counts:
            del self._isolating[group]

    # -- results -----------------------------------------------------------------------------------------------------

    def settle(self) -> Settled:
        """What all changes since the last call come to."""
        changes: list[Change] = []
        for rule in self._affected:
            old = self._parts.get(rule, {})
            new = self._compute(rule)
            if new:
                self._parts[rule] = new
            else:
                self._parts.pop(rule, None)
            for services in old.keys() | new.keys():
                before, after = old.get(services), new.get(services)
                if before != after:
                    changes.append(Change(before, after))
        self._affected = set()
        moved, self._moved = frozenset(self._moved), set()
        return Settled(tuple(changes), moved)

    def _compute(self, rule: RuleKey) -> dict[Services | None, Part]:
        owners = self._owners.get(rule)
        if owners is None:
            return {}
        old = self._parts.get(rule, {})
        found = {}
        for variant in self._variants.of(rule):
            before = old.get(variant.services)
            name = before.identity if before else identity(rule, variant.services)
            found[variant.services] = Part(name, rule.direction, variant, tuple(owners))
        return found

    def parts_of(self, pod: Key) -> list[Part]:
        """The parts of which a pod is a subject."""
        n = self.index.number.get(pod)
        if n is None:
            return []
        rules = {user for group in self.index.groups_of(n) for user in group.users}
        return [
            part
            for rule in rules
            for part in self._parts.get(rule, {}).values()  # type: ignore[call-overload]  # all users are RuleKeys
            if n in part.variant.subjects
        ]

    def isolated(self, pod: Key) -> frozenset[Direction]:
        """The directions in which some policy isolates the pod."""
        n = self.index.number.get(pod)
        if n is None or not self._isolating:
            return frozenset()
        return frozenset(d for group in self.index.groups_of(n) for d in self._isolating.get(group, ()))


def _numbered(policy: Policy | None) -> Iterable[tuple[RuleRef, RuleKey]]:
    return ((ref, rule) for rule, ref in rules_of(policy)) if policy else ()


def _isolation(policy: Policy | None) -> object:
    return (policy.subjects, policy.isolates) if policy else None


def _port_names(rule: RuleKey) -> list[PortName]:
    return [(str(spec.port), spec.protocol) for spec in named(rule.rule.ports)]
