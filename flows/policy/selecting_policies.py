"""Which policies select a pod in a direction: NetworkPolicies that isolate it, ClusterNetworkPolicies with rules, and
staged NetworkPolicies.

Kept by groups of pods. What rules say is not known here; see `engine`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import compress, product
from typing import TypeVar

from flows.cluster.model import Direction, Key, Policy, Selector, Tier
from flows.policy.groups import Group
from flows.policy.levels import PlacedPolicy
from flows.policy.pod_index import PodIndex
from flows.policy.rule import NO_STAGES, NOT_STAGED, Staged, TierStage
from flows.policy.staged_policies import PromotedPolicy

PoliciesOfGroups = dict[Group, Key | dict[Key, None]]  # one policy mostly
Place = TypeVar("Place")
_Selections = set[tuple[Place, str | Selector, Selector]]
# By whether each direction is among them: one object each, since very many pods have them.
_DIRECTIONS = {
    chosen: frozenset(compress(Direction, chosen)) for chosen in product((False, True), repeat=len(Direction))
}

_BY_BITS = [_DIRECTIONS[one, other] for other in (False, True) for one in (False, True)]  # the first is the lowest bit


class SelectingPolicies:
    """`changed` are the pods, by number, for which something here may have changed since `take_changed`."""

    def __init__(self, index: PodIndex) -> None:
        self._index = index
        self.changed: set[int] = set()
        self._isolating: dict[Direction, PoliciesOfGroups] = {one: {} for one in Direction}
        self._tiered: dict[TierStage, PoliciesOfGroups] = {
            (tier, one): {} for tier in (Tier.ADMIN, Tier.BASELINE) for one in Direction
        }
        # By what staged policies mean: those that are staged, and all that isolate once they are promoted.
        self._staged: dict[Staged, PoliciesOfGroups] = {
            Staged(one, isolated): {} for one in Direction for isolated in (False, True)
        }

    # -- changes -----------------------------------------------------------------------------------------------------

    def take_changed(self) -> set[int]:
        """The pods in `changed`, once."""
        found, self.changed = self.changed, set()
        return found

    def groups(self) -> list[PoliciesOfGroups]:
        """The groups that policies select, as several mappings of which none is empty."""
        every = (*self._isolating.values(), *self._tiered.values(), *self._staged.values())
        return list(filter(None, every))

    def replace_placed(self, policy: Key, old: PlacedPolicy, new: PlacedPolicy) -> None:
        """The rules of a ClusterNetworkPolicy are others. It holds its group once for each tier and direction."""
        self._replace_selections(self._tiered, policy, _selections(old), _selections(new))

    def replace_promoted(self, policy: Key, old: PromotedPolicy, new: PromotedPolicy) -> None:
        """A NetworkPolicy gives this to the promoted rules. It holds its group once for each entry."""
        self._replace_selections(self._staged, policy, _of_promoted(policy, old), _of_promoted(policy, new))

    def _replace_selections(
        self,
        places: Mapping[Place, PoliciesOfGroups],
        policy: Key,
        before: _Selections[Place],
        after: _Selections[Place],
    ) -> None:
        for place, where, pods in after - before:
            self._set(places[place], self._index.group(where, pods), policy, True)
        for place, where, pods in before - after:
            group = self._index.group(where, pods)
            self._set(places[place], group, policy, False)
            self._index.release(group)  # held by this call, and since it was selected
            self._index.release(group)

    def replace(self, old: Policy | None, new: Policy | None) -> None:
        """Isolate the pods of the new policy instead of those of the old one. A policy holds its group once."""
        after, before = self._isolated_group(new), self._isolated_group(old)
        if old is not None and before is not None:
            for direction in old.isolates:
                if before is not after or new is None or direction not in new.isolates:
                    self._set(self._isolating[direction], before, old.key, False)
        if new is not None and after is not None:
            for direction in new.isolates:
                if before is not after or old is None or direction not in old.isolates:
                    self._set(self._isolating[direction], after, new.key, True)
        if before is not None:  # held twice: since the old policy was added, and by the call above
            self._index.release(before)
            self._index.release(before)

    def _isolated_group(self, policy: Policy | None) -> Group | None:
        """The group that a policy isolates. Each call acquires it, even one for a policy that holds it already: a group
        that no one holds is deleted. The caller releases what it does not keep."""
        if policy is None or not policy.isolates:
            return None
        return self._index.group(policy.key.namespace, policy.subjects)

    def _set(self, groups: PoliciesOfGroups, group: Group, policy: Key, isolates: bool) -> None:
        policies = groups.get(group)
        if isinstance(policies, dict):
            if isolates:
                policies[policy] = None
            else:
                del policies[policy]
                if len(policies) == 1:
                    (groups[group],) = policies
            return
        if policies is not None and isolates:
            groups[group] = {policies: None, policy: None}
            return
        if isolates:
            groups[group] = policy
        else:
            del groups[group]
        self.changed |= group.members
        if group in self._index.changed_sets:
            # Also the pods added or removed since the last `compute_changes`: when it reads the log, no policy may
            # isolate the group any more.
            self.changed.update(group.changed())

    # -- questions ---------------------------------------------------------------------------------------------------

    def isolated(self, pod: Key) -> frozenset[Direction]:
        """The directions in which at least one policy isolates the pod."""
        n = self._index.numbers.get(pod)
        if n is None:
            return frozenset()
        ingress = egress = False
        of_ingress, of_egress = self._isolating.values()
        for group in self._index.groups_of(n):
            ingress = ingress or group in of_ingress
            egress = egress or group in of_egress
        return _DIRECTIONS[ingress, egress]

    def isolation_of_many(self) -> Callable[[Key], frozenset[Direction]]:
        """As `isolated`, until an object changes. It puts the pods of each direction together first, which costs more
        than asking for a few pods."""
        numbers = self._index.numbers
        # A byte for each number, with a bit for each direction: so few bytes stay in the processor's caches.
        chosen = bytearray(self._index.next_number)
        for bit, groups in enumerate(self._isolating.values()):
            for group in groups:
                for n in group.members:
                    chosen[n] |= 1 << bit
        none = frozenset[Direction]()

        def isolated(pod: Key) -> frozenset[Direction]:
            n = numbers.get(pod)
            return none if n is None else _BY_BITS[chosen[n]]

        return isolated

    @property
    def isolating_group_count(self) -> int:
        """How many groups of pods policies isolate, at most: one in two directions may count twice."""
        return sum(map(len, self._isolating.values()))

    @property
    def has_tiers(self) -> bool:
        """Whether some rule of a ClusterNetworkPolicy may select a pod."""
        return any(self._tiered.values())

    def tiered(self, pod: Key) -> frozenset[TierStage]:
        """The tiers and directions in which some rule of a ClusterNetworkPolicy selects the pod."""
        n = self._index.numbers.get(pod)
        if n is None or not self.has_tiers:
            return NO_STAGES
        groups = self._index.groups_of(n)
        return frozenset(
            [stage for stage, selecting in self._tiered.items() if not selecting.keys().isdisjoint(groups)]
        )

    def policies_of(self, pod: Key) -> Iterator[tuple[Direction, Iterable[Key]]]:
        """The policies that isolate a pod or have rules for it, by direction; a direction may come several times."""
        n = self._index.numbers.get(pod)
        groups = frozenset(self._index.groups_of(n)) if n is not None else frozenset()
        stages = ((stage[1], selecting) for stage, selecting in self._tiered.items())
        for direction, selecting in (*self._isolating.items(), *stages):
            for group in selecting.keys() & groups:
                yield direction, _each(selecting[group])

    def staged(self, pod: Key) -> frozenset[Staged]:
        """What staged policies mean for the pod, in the directions in which one selects it."""
        n = self._index.numbers.get(pod)
        if n is None or not any(self._staged.values()):
            return NOT_STAGED
        groups = list(self._index.groups_of(n))
        selected = {one for one, found in self._staged.items() if not found.keys().isdisjoint(groups)}
        return frozenset(
            [Staged(one, Staged(one, True) in selected) for one in Direction if Staged(one, False) in selected]
        )

    def staged_policies(self, pod: Key, direction: Direction) -> tuple[str, ...]:
        """The names of the staged policies that select a pod in a direction, sorted."""
        n = self._index.numbers.get(pod)
        selecting = self._staged[Staged(direction, False)]
        if n is None or not selecting:
            return ()
        found = [selecting[group] for group in self._index.groups_of(n) if group in selecting]
        return tuple(sorted({str(one) for policies in found for one in _each(policies)}))

    def promoted_policies(self, pod: Key) -> set[Key]:
        """The policies that select a pod once staged ones are promoted, and the staged ones that do."""
        n = self._index.numbers.get(pod)
        groups = list(self._index.groups_of(n)) if n is not None else []
        found = [selecting[group] for selecting in self._staged.values() for group in groups if group in selecting]
        return {one for policies in found for one in _each(policies)}

    def isolating_policies(self, pods: Iterable[Key]) -> dict[tuple[Key, Direction], tuple[str, ...]]:
        """The names of the policies that isolate each of these pods in each direction, sorted.

        Pods and directions without isolation are left out. Pods that the same policies isolate share one tuple.
        """
        found: dict[tuple[Key, Direction], tuple[str, ...]] = {}
        known: dict[tuple[Direction, frozenset[Group]], tuple[str, ...]] = {}
        for pod in pods:
            n = self._index.numbers.get(pod)
            groups = frozenset(self._index.groups_of(n)) if n is not None else frozenset()
            for direction, isolated in self._isolating.items():
                isolating = frozenset(isolated.keys() & groups)
                if not isolating:
                    continue
                key = direction, isolating
                if key not in known:
                    known[key] = tuple(sorted({str(one) for group in isolating for one in _each(isolated[group])}))
                found[pod, direction] = known[key]
        return found


def _each(policies: Key | dict[Key, None]) -> Iterable[Key]:
    return policies if isinstance(policies, dict) else (policies,)


def _of_promoted(policy: Key, promoted: PromotedPolicy) -> _Selections[Staged]:
    """What a NetworkPolicy selects, by what it means: `isolated` False stands for a staged policy."""
    here = policy.namespace, promoted.subjects
    staged: _Selections[Staged] = {(Staged(one, False), *here) for one in promoted.selects}
    return staged | {(Staged(one, True), *here) for one in promoted.isolates}


def _selections(placed: PlacedPolicy) -> _Selections[TierStage]:
    """What the rules of a ClusterNetworkPolicy select, by tier and direction."""
    found: _Selections[TierStage] = set()
    for (direction, namespaces, pods, _, level), _ in placed.rules:
        if level is not None and isinstance(namespaces, Selector):
            found.add(((level.tier, direction), namespaces, pods))
    return found
