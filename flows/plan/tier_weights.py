"""About how many flows the rules of tiers need on one bridge, counted before any is made.

Every level (`flows.policy.levels`) has its own clauses: so the pods that its rules name count again for each level,
and the flows are the product of both. Who may write ClusterNetworkPolicies is trusted, and may err.

A rule counts with its own weight; a set of subjects or peers counts once for each level that uses it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

Sized = tuple[Hashable, int]  # a set of elements, and how many it has


class TierWeights:
    """`total` is about the number of flows: exact but for elements that several sets of a level have. It is 0 only if
    there is no rule."""

    __slots__ = ("_levels", "_sizes", "total")

    def __init__(self) -> None:
        self.total = 0
        self._levels: dict[Hashable, dict[Hashable, int]] = {}  # by set and level: how many rules
        self._sizes: dict[Hashable, int] = {}

    def uses(self, elements: Hashable) -> bool:
        """Whether any rule uses a set."""
        return elements in self._levels

    def add(self, level: Hashable, weight: int, sets: Iterable[Sized]) -> None:
        """A rule of a level is new."""
        self.total += weight
        for elements, size in sets:
            self.resize(elements, size)
            levels = self._levels.setdefault(elements, {})
            self._sizes[elements] = size
            if level not in levels:
                self.total += size
            levels[level] = levels.get(level, 0) + 1

    def remove(self, level: Hashable, weight: int, sets: Iterable[Sized]) -> None:
        """A rule of a level is gone."""
        self.total -= weight
        for elements, _ in sets:
            levels = self._levels[elements]
            levels[level] -= 1
            if not levels[level]:
                del levels[level]
                self.total -= self._sizes[elements]
            if not levels:
                del self._levels[elements], self._sizes[elements]

    def resize(self, elements: Hashable, size: int) -> None:
        """A set has so many elements now."""
        known = self._sizes.get(elements)
        if known is not None and known != size:
            self.total += (size - known) * len(self._levels[elements])
            self._sizes[elements] = size
