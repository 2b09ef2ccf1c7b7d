"""Which Services a bridge has room for, where all together would be too many: those that came first.

What is in force stays so, whatever comes later; it may grow to the whole budget, and what is new gets a part of it.
What finds no room waits, and the first by key gets room again as soon as it is enough. So below the limit the order of
events makes no difference. Beyond it one that waits may hold up smaller ones behind it: a walk over all that wait, for
each event, would be the price of others' numbers.

A change costs the logarithm of what waits.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Mapping
from typing import NamedTuple

from flows.cluster.model import Key
from flows.services import limits


class Room(NamedTuple):
    """What a change led to: of the changed ones those without room, and earlier ones that have room now."""

    refused: Collection[Key] = ()
    resumed: Collection[Key] = ()


class ServiceBudget:
    """The costs of all Services with room, and of those that wait for it."""

    def __init__(self) -> None:
        self._used = 0
        self._costs: dict[Key, int] = {}
        self._waiting: dict[Key, int] = {}
        self._queue: list[Key] = []  # the keys that wait, sorted

    @property
    def waiting(self) -> list[Key]:
        """Those without room, sorted; the caller only reads."""
        return self._queue

    def change(self, costs: Mapping[Key, int]) -> Room:
        """These cost so much now, 0 for one that is gone."""
        refused, resumed = set(), []
        # What shrinks comes first: the order of the others is that of their keys.
        for key in sorted(costs, key=lambda one: (costs[one] > self._costs.get(one, 0), one)):
            if not self._set(key, costs[key]):
                refused.add(key)
        while self._queue:
            first = self._queue[0]
            if not self._fits(first, self._waiting[first]):
                break
            if first in refused:
                refused.discard(first)
            else:
                resumed.append(first)
            self._set(first, self._waiting[first])
        return Room(refused, resumed)

    def _fits(self, key: Key, cost: int) -> bool:
        before = self._costs.get(key, 0)
        most = limits.MAX_COST if before else limits.MAX_COST_OF_NEW
        return cost <= before or self._used - before + cost <= most

    def _set(self, key: Key, cost: int) -> bool:
        fits = self._fits(key, cost)
        self._used -= self._costs.pop(key, 0)
        if self._waiting.pop(key, None) is not None:
            del self._queue[bisect_left(self._queue, key)]
        if not fits:
            self._waiting[key] = cost
            insort(self._queue, key)
        elif cost:
            self._used += cost
            self._costs[key] = cost
        return fits
