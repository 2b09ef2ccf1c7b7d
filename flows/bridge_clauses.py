"""The clause flows of one bridge and direction: which rules each stands in, and the bands of priorities they are in.

A flow with more rules than a message can hold has them spread over bands, by the low bits of their numbers, as
`render_rules` does; all flows of the direction then are. What a rule's clauses are is `bridge_rules`'s business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Generic, TypeVar

from flows import render_rules
from flows.encoding import Element, FlowEncoder, FlowKey, Frames, Member
from flows.render_rules import Stage

W = TypeVar("W")


class Clauses(Generic[W]):
    """Clause flows by their keys. `dirty` has those that may have changed; whoever takes them clears it."""

    def __init__(self, stage: Stage, encoder: FlowEncoder[W], bands: int = 1, crowds: Iterable[Element] = ()) -> None:
        """`crowds` are elements of more rules than a message can hold, which all are yet to enter."""
        self.stage = stage
        self.bands = bands
        self.dirty: set[FlowKey] = set()
        self._encoder = encoder
        # Most clauses stand in one rule; those of more have them by number.
        self._clauses: dict[FlowKey, Member[W] | dict[int, Member[W]]] = {}
        self._overfull: set[FlowKey] = set()
        # How many rules each of the crowds would have in each of half as many bands.
        self._halves: dict[Element, Counter[int]] = {element: Counter() for element in crowds} if bands > 1 else {}

    @property
    def overfull(self) -> bool:
        """True when a flow is too long for a message: there must be more bands."""
        return bool(self._overfull)

    @property
    def fits(self) -> bool:
        """True when there are enough bands, and half as many would not be."""
        if self._overfull or self.bands == 1:
            return not self._overfull
        most = render_rules.MOST_CONJUNCTIONS
        return any(count > most for counts in self._halves.values() for count in counts.values())

    def keys(self) -> Iterator[FlowKey]:
        """All keys."""
        return iter(self._clauses)

    def hit(self, number: int) -> FlowKey:
        """The key of the flow that a complete rule ends in."""
        return self._frames(number).hit.key(number)

    def _frames(self, number: int) -> Frames:
        return self._encoder.frames(self.stage, number % self.bands)

    def enter(self, elements: Collection[Element], member: Member[W]) -> None:
        """A rule has these elements in this dimension now."""
        number = member.conjunction.conj_id
        keys = self._frames(number).keys(elements)
        clauses = self._clauses
        for key in keys:
            others = clauses.setdefault(key, member)
            if others is member:
                continue
            if not isinstance(others, dict):
                others = clauses[key] = {others.conjunction.conj_id: others}
            others[number] = member
            if len(others) > render_rules.MOST_CONJUNCTIONS:
                self._overfull.add(key)
        self.dirty.update(keys)
        self._count(elements, number, +1)

    def leave(self, elements: Collection[Element], number: int) -> None:
        """A rule has these elements no more."""
        keys = self._frames(number).keys(elements)
        clauses = self._clauses
        for key in keys:
            others = clauses[key]
            if not isinstance(others, dict):
                del clauses[key]
                continue
            del others[number]
            if len(others) == 1:
                clauses[key] = next(iter(others.values()))
            if len(others) <= render_rules.MOST_CONJUNCTIONS:
                self._overfull.discard(key)
        self.dirty.update(keys)
        self._count(elements, number, -1)

    def _count(self, elements: Iterable[Element], number: int, by: int) -> None:
        if self._halves:
            for element in elements:
                counts = self._halves.get(element)
                if counts is not None:
                    counts[number % (self.bands // 2)] += by

    def take(self) -> dict[FlowKey, W | None]:
        """The bodies of the flows that may have changed since the last call; None where one is gone."""
        dirty, self.dirty = self.dirty, set()
        found: dict[FlowKey, W | None] = {}
        same: dict[tuple[int, ...], W] = {}  # clauses of the same rules share their body
        for key in dirty:
            members = self._clauses.get(key)
            if members is None:
                found[key] = None
            elif isinstance(members, dict):
                who = tuple(map(id, members.values()))
                body = same.get(who)
                if body is None:
                    ordered = tuple([members[number].conjunction for number in sorted(members)])
                    body = same[who] = self._encoder.clause(ordered)
                found[key] = body
            else:
                found[key] = members.alone
        return found


def fewest_bands(rules: Iterable[tuple[int, list[frozenset[Element]]]]) -> tuple[int, Collection[Element]]:
    """The bands that rules of one direction need, which come as number and elements of each dimension; and the elements
    of more rules than a message can hold. Raises FlowError when there are none so many."""
    most = render_rules.MOST_CONJUNCTIONS
    known = list(rules)
    counts = Counter(element for _, dimensions in known for elements in dimensions for element in elements)
    crowds: dict[Element, list[int]] = {element: [] for element, count in counts.items() if count > most}
    if crowds:
        for number, dimensions in known:
            for elements in dimensions:
                for element in crowds.keys() & elements:
                    crowds[element].append(number)
    bands = 1
    while any(size > most for crowd in crowds.values() for size in Counter(n % bands for n in crowd).values()):
        bands = render_rules.more_bands(bands)
    return bands, crowds.keys()
