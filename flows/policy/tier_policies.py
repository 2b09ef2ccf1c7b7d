"""The ClusterNetworkPolicies of the engine, placed. A change is worked out for its tier and priority."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from flows.cluster.model import ClusterPolicy, Key, Tier
from flows.policy.levels import PlacedPolicy, place_policies

__all__ = ["PlacedChange", "PlacedPolicy", "TierPolicies"]
_NOT_PLACED = PlacedPolicy()


class PlacedChange(NamedTuple):
    """The rules of a policy before and after a change."""

    policy: Key
    old: PlacedPolicy
    new: PlacedPolicy


class TierPolicies:
    """All ClusterNetworkPolicies, by tier and priority."""

    def __init__(self) -> None:
        self.policies: dict[Key, ClusterPolicy] = {}
        self._at: dict[tuple[Tier, int], dict[Key, ClusterPolicy]] = {}
        self._placed: dict[Key, PlacedPolicy] = {}

    def load(self, policies: Iterable[ClusterPolicy]) -> list[PlacedChange]:
        """Put all of these."""
        for policy in policies:
            self.policies[policy.key] = policy
            self._at.setdefault((policy.tier, policy.priority), {})[policy.key] = policy
        return [change for place in list(self._at) for change in self._place(place)]

    def put(self, policy: ClusterPolicy) -> list[PlacedChange]:
        """A policy is new or has changed. Returns the policies whose rules differ."""
        old = self.policies.get(policy.key)
        place = policy.tier, policy.priority
        moved = old is not None and (old.tier, old.priority) != place
        self.policies[policy.key] = policy
        self._at.setdefault(place, {})[policy.key] = policy
        return [*(self._leave(old) if old is not None and moved else ()), *self._place(place)]

    def remove(self, key: Key) -> list[PlacedChange]:
        """A policy is deleted. Returns the policies whose rules differ."""
        old = self.policies.pop(key, None)
        if old is None:
            return []
        changes = self._leave(old)
        return [*changes, PlacedChange(key, self._placed.pop(key, _NOT_PLACED), _NOT_PLACED)]

    def _leave(self, old: ClusterPolicy) -> list[PlacedChange]:
        place = old.tier, old.priority
        del self._at[place][old.key]
        if self._at[place]:
            return self._place(place)
        del self._at[place]
        return []

    def _place(self, place: tuple[Tier, int]) -> list[PlacedChange]:
        policies = self._at[place]
        placed = place_policies(policies.values())
        changes = []
        for key in policies:
            old, new = self._placed.get(key, _NOT_PLACED), placed.get(key.name, _NOT_PLACED)
            self._placed[key] = new
            if old.rules != new.rules:
                changes.append(PlacedChange(key, old, new))
        return changes

    def placed(self, key: Key) -> PlacedPolicy:
        """The rules of a policy with their levels; nothing for an unknown policy."""
        return self._placed.get(key, _NOT_PLACED)
