"""The incremental engine: an event costs what it changes, not what there is.

Holds the rules of all policies over a living index. Changes of pods, namespaces and policies mark the rules that they
can concern; `settle`
computes those again and says which really changed, and for which pods isolation did. The full computation in
`compile` is the
reference: after every step both must say the same.
"""

from __future__ import annotations

from bisect import insort
from itertools import chain
from typing import NamedTuple

from flows.compile import rules_of
from flows.groups import Group, PortName, Touched
from flows.index import PodIndex
from flows.model import Cluster, Direction, Key, Labels, Pod, Policy
from flows.services import named
from flows.tuples import new_tuple
from flows.variants import Bound, RuleKey, RuleRef, Variant, Variants, identity


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


class Live(Bound["Live"]):
    """A rule that stands in some policy: its owners, sorted, and its parts as of the last `settle`.

    There is one for each RuleKey, compared by identity, for a key costs much to hash.
    """

    __slots__ = ("owners", "parts")

    def __init__(self, key: RuleKey, subjects: Group[Live], peers: list[Group[Live]]) -> None:
        super().__init__(key, subjects, peers)
        self.owners: list[RuleRef] = []
        self.parts: tuple[Part, ...] = ()


class PolicyEngine:
    """Pods, namespaces and policies in; changed rules out."""

    def __init__(self) -> None:
        self.index: PodIndex[Live] = PodIndex()
        self._variants = Variants(self.index)
        self._policies: dict[Key, Policy] = {}
        self._rules: dict[RuleKey, Live] = {}
        # How many policies isolate a group, by direction.
        self._isolating: dict[Direction, dict[Group[Live], int]] = {direction: {} for direction in Direction}
        self._port_users: dict[PortName, set[Live]] = {}
        # To be computed again, in the order of the changes: what came together lies together in memory.
        self._affected: dict[Live, None] = {}
        self._failed: dict[Live, str] = {}
        self._moved: set[Key] = set()
        self._moved_numbers: set[int] = set()  # the same of pods that are still there, by their number

    def load(self, cluster: Cluster) -> None:
        """Take a whole snapshot into an engine that has nothing yet; namespaces and pods first, so that each group is
        computed once."""
        self.index.load(cluster)
        for policy in cluster.policies.values():
            self.put_policy(policy)

    # -- changes -----------------------------------------------------------------------------------------------------

    def put_namespace(self, name: str, labels: Labels | None) -> None:
        """A namespace has these labels now, or no object any more (None)."""
        self._concern(self.index.put_namespace(name, labels))

    def put_pod(self, pod: Pod) -> None:
        """A pod is new or has changed."""
        if pod.networked:
            self._concern(self.index.put_pod(pod), pod.key)
        else:
            self.remove_pod(pod.key)

    def remove_pod(self, key: Key) -> None:
        """A pod is gone."""
        n = self.index.number.get(key)
        if n in self._moved_numbers:
            self._moved_numbers.discard(n)
            self._moved.add(key)
        self._concern(self.index.remove_pod(key), key)

    def put_policy(self, policy: Policy) -> None:
        """A policy is new or has changed."""
        old = self._policies.get(policy.key)
        self._policies[policy.key] = policy
        self._exchange(old, policy)

    def remove_policy(self, key: Key) -> None:
        """A policy is gone."""
        self._exchange(self._policies.pop(key, None), None)

    def _concern(self, touched: Touched[Live], pod: Key | None = None) -> None:
        for group in touched.groups:
            self._affected.update(dict.fromkeys(group.users))
            if pod is not None and any(group in groups for groups in self._isolating.values()):
                self._moved.add(pod)
        for name in touched.ports:
            self._affected.update(dict.fromkeys(self._port_users.get(name, ())))

    def _exchange(self, old: Policy | None, new: Policy | None) -> None:
        before = {ref: rule for rule, ref in rules_of(old)} if old else {}
        for rule, ref in rules_of(new) if new else ():
            was = before.pop(ref, None) if before else None
            if was != rule:
                self._own(rule, ref)
                if was is not None:
                    self._disown(was, ref)
        for ref, rule in before.items():
            self._disown(rule, ref)
        if old is None or new is None or (old.subjects, old.isolates) != (new.subjects, new.isolates):
            self._isolate(old, -1)
            self._isolate(new, +1)

    def _own(self, rule: RuleKey, ref: RuleRef) -> None:
        live = self._rules.get(rule)
        if live is None:
            live = self._rules[rule] = Live(rule, self._variants.subjects(rule), self._variants.peers(rule))
            live.subjects.users.add(live)
            for group in live.peers:
                group.users.add(live)
            for name in _port_names(rule) if rule.rule.ports else ():
                self._port_users.setdefault(name, set()).add(live)
        if live.owners:
            insort(live.owners, ref)
        else:
            live.owners.append(ref)
        self._affected[live] = None

    def _disown(self, rule: RuleKey, ref: RuleRef) -> None:
        live = self._rules[rule]
        live.owners.remove(ref)
        self._affected[live] = None

    def _forget(self, live: Live) -> None:
        """A rule that stands in no policy any more. Not before `settle`, for until then another may come to say it."""
        del self._rules[live.key]
        for group in (live.subjects, *live.peers):
            group.users.discard(live)
        for name in _port_names(live.key):
            self._port_users[name].discard(live)

    def _isolate(self, policy: Policy | None, by: int) -> None:
        if policy is None or not policy.isolates:
            return
        group = self.index.group(policy.key.namespace, policy.subjects)
        for direction in policy.isolates:
            counts = self._isolating[direction]
            before = counts.get(group, 0)
            after = counts[group] = before + by
            if not before or not after:
                self._moved_numbers.update(group.members)
            if not after:
                del counts[group]

    # -- results -----------------------------------------------------------------------------------------------------

    def settle(self) -> Settled:
        """What all changes since the last call come to."""
        affected, self._affected = self._affected, {}
        changes: list[Change] = []
        for live in affected:
            old, new = live.parts, self._contained(live)
            live.parts = new
            if old:
                changes.extend(_differences(old, new))
            else:
                changes.extend([new_tuple(Change, (None, part)) for part in new])
            if not live.owners:
                self._forget(live)
        pods = self.index.pods
        moved = frozenset(chain(self._moved, [pods[n].key for n in self._moved_numbers]))
        self._moved, self._moved_numbers = set(), set()
        return Settled(tuple(changes), moved)

    def _contained(self, live: Live) -> tuple[Part, ...]:
        """A rule that cannot be computed allows nothing, until something of it changes."""
        try:
            parts = self._compute(live)
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this rule and no other
            self._failed[live] = f"cannot be computed, so it allows nothing: {type(error).__name__}: {error}"
            return ()
        if self._failed:
            self._failed.pop(live, None)
        return parts

    @property
    def failures(self) -> dict[RuleRef, str]:
        """The rules of policies that allow nothing because they cannot be computed, and why."""
        return {ref: reason for live, reason in self._failed.items() for ref in live.owners}

    def _compute(self, live: Live) -> tuple[Part, ...]:
        if not live.owners:
            return ()
        names = {part.variant.services: part.identity for part in live.parts} if live.parts else {}
        key, owners = live.key, tuple(live.owners)
        return tuple(
            [
                new_tuple(Part, (names.get(v.services) or identity(key, v.services), key.direction, v, owners))
                for v in self._variants.of(live)
            ]
        )

    def parts_of(self, pod: Key) -> list[Part]:
        """The parts of which a pod is a subject."""
        n = self.index.number.get(pod)
        if n is None:
            return []
        rules = {user for group in self.index.groups_of(n) for user in group.users}
        return [part for live in rules for part in live.parts if n in part.variant.subjects]

    def parts_of_policy(self, key: Key) -> list[Part]:
        """The parts of a policy's rules as of the last `settle`; a rule that can allow nothing has none."""
        policy = self._policies.get(key)
        rules = rules_of(policy) if policy is not None else ()
        return [part for rule, _ in rules if rule in self._rules for part in self._rules[rule].parts]

    def isolated(self, pod: Key) -> frozenset[Direction]:
        """The directions in which some policy isolates the pod."""
        n = self.index.number.get(pod)
        if n is None:
            return frozenset()
        groups = list(self.index.groups_of(n))
        return frozenset(d for d, counts in self._isolating.items() if any(group in counts for group in groups))


def _differences(old: tuple[Part, ...], new: tuple[Part, ...]) -> list[Change]:
    """Variants differ from one another in their services."""
    before = {part.variant.services: part for part in old}
    after = {part.variant.services: part for part in new}
    pairs = [(before.get(services), after.get(services)) for services in {**before, **after}]
    return [Change(one, other) for one, other in pairs if one != other]


def _port_names(rule: RuleKey) -> list[PortName]:
    return [(str(spec.port), spec.protocol) for spec in named(rule.rule.ports)]
