"""Room that several holders share, so that none of them can take what the others need.

A holder may take as long as it has no more than what is free. So one holder gets half of the room at most, two get a
third each, and n of them leave one part of n + 1 free for who comes next; what a holder has stays its own. Nothing has
to be known of who may come, and nothing is taken away from anybody.
Source: dynamic queue thresholds of Choudhury and Hahne (1998), with alpha = 1.

Example. Of 100, a takes 50 and is refused more. b takes 25, and 25 are free for c.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

H = TypeVar("H", bound=Hashable)


class SharedRoom(Generic[H]):
    """`used` of `total` units are taken, by all holders together."""

    __slots__ = ("_of", "total", "used")

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self._of: dict[H, int] = {}

    def of(self, holder: H) -> int:
        """What a holder has."""
        return self._of.get(holder, 0)

    def has_room(self, holder: H, units: int = 1) -> bool:
        """Whether a holder may take so much more."""
        return self._of.get(holder, 0) + self.used + units <= self.total

    def take(self, holder: H, units: int = 1) -> None:
        """A holder takes so much, whether there is room or not."""
        self._of[holder] = self._of.get(holder, 0) + units
        self.used += units

    def give_back(self, holder: H, units: int = 1) -> None:
        """A holder has so much less."""
        left = self._of[holder] - units
        self.used -= units
        if left:
            self._of[holder] = left
        else:
            del self._of[holder]
