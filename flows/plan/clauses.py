"""The clause flows of one bridge and direction, kept as its rules and their sets change.

A rule has a clause of subjects, and one each of peers and services where it restricts them. What a clause is about is
its source: a set that several rules may share. So each element is kept with the sources that it is in, and each source
with its rules: an element that comes to a source costs one flow, however many rules that flow then names.

Flows with more rules than a message can hold have them spread over bands of priorities, as `render_rules` does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from flows.cluster.net import Net
from flows.plan.encoder import Dimension, Element, FlowEncoder, KeyTemplates
from flows.policy.tracked_sets import TrackedSet
from flows.render import rules
from flows.render.rules import Stage
from flows.wire.values import Body, FlowKey

# Ports of subjects, prefixes of peers, or what never changes: matches of services, and of anything.
ElementSet = TrackedSet[int] | TrackedSet[Net] | frozenset[Element]


class SharedClause:
    """Rules that stand in the same flows: of one source, or of the `sources` that some elements have in common.

    `bodies` are those of the flows, by band; None until they are asked for.
    """

    __slots__ = ("bodies", "count", "members", "sources")

    def __init__(self, sources: frozenset[ElementSet], members: dict[int, Dimension] | None) -> None:
        self.sources = sources
        self.members = members  # by number; of several sources they stand with these
        self.count = 0  # elements that have these sources, where they are several
        self.bodies: dict[int, Body] | None = None


class Clauses:
    """Flows by their keys. `take` hands out what may have changed: bodies, None where a flow is gone.

    `left_out` has the namespaces whose rules are missing in some flow, for even the most bands could not hold it.
    """

    __slots__ = (
        "_at", "_crowds", "_crowds_of", "_dirty", "_encoder", "_first", "_hits", "_left", "_needs", "_rules",
        "_short", "_spaces", "_turned", "bands", "stage",
    )  # fmt: skip

    def __init__(self, stage: Stage, encoder: FlowEncoder) -> None:
        self.stage = stage
        self.bands = 1
        self._encoder = encoder
        self._first: KeyTemplates | None = None  # those of the first band, which is nearly always the only one
        # Most sources have one rule.
        self._rules: dict[ElementSet, Dimension | SharedClause] = {}
        self._at: dict[Element, ElementSet | SharedClause] = {}
        self._crowds: dict[frozenset[ElementSet], SharedClause] = {}
        self._crowds_of: dict[ElementSet, set[SharedClause]] = {}
        self._left: set[SharedClause] = set()  # by all of their elements
        self._needs: dict[SharedClause, int] = {}  # how many bands, where one is not enough
        self._short: dict[SharedClause, frozenset[str]] = {}
        self._spaces: dict[int, str] = {}  # the namespaces of rules, by number
        # What changed since `take`: elements that came to a source or went, those whose rules differ, and rules.
        self._turned: dict[Element, ElementSet | list[ElementSet]] = {}
        self._dirty: set[Element] = set()
        self._hits: set[int] = set()

    # -- changes -----------------------------------------------------------------------------------------------------

    def add(self, number: int, namespace: str) -> None:
        """There is a rule of this number."""
        self._spaces[number] = namespace
        self._hits.add(number)

    def remove(self, number: int) -> None:
        """The rule is gone."""
        del self._spaces[number]
        self._hits.add(number)

    def uses(self, source: ElementSet) -> bool:
        """True when some rule has the source."""
        return source in self._rules

    def use(self, source: ElementSet, elements: Collection[Element], member: Dimension) -> None:
        """A rule has a source, which has these elements."""
        known = self._rules.get(source)
        if known is None:
            self._rules[source] = member
            self._turn(source, elements)
        else:
            if not isinstance(known, SharedClause):
                members = {known.conjunction.conj_id: known}
                known = self._rules[source] = SharedClause(frozenset(), members)
            if known.members is not None:
                known.members[member.conjunction.conj_id] = member
            self._dirty.update(elements)
            known.bodies = None
            self._forget(known)
        self._stir(source)

    def leave(self, source: ElementSet, elements: Collection[Element], number: int) -> None:
        """A rule has a source no more."""
        known = self._rules[source]
        if isinstance(known, SharedClause) and known.members is not None:
            del known.members[number]
            known.bodies = None
            self._forget(known)
            self._dirty.update(elements)
            if len(known.members) == 1:
                (self._rules[source],) = known.members.values()
        else:
            del self._rules[source]
            self._turn(source, elements)
        self._stir(source)

    def move(self, source: ElementSet, elements: Collection[Element]) -> None:
        """Each of these elements came to a source that some rule has, or went from it."""
        self._turn(source, elements)

    def _turn(self, source: ElementSet, elements: Collection[Element]) -> None:
        turned = self._turned
        if not turned:
            self._turned = dict.fromkeys(elements, source)
            return
        if turned.keys().isdisjoint(elements):
            turned.update(dict.fromkeys(elements, source))
            return
        for element in elements:
            before = turned.get(element)
            if before is None:
                turned[element] = source
            elif isinstance(before, list):
                before.append(source)
            else:
                turned[element] = [before, source]

    def _stir(self, source: ElementSet) -> None:
        for crowd in self._crowds_of.get(source, ()):
            crowd.bodies = None
            self._forget(crowd)

    # -- where elements are ------------------------------------------------------------------------------------------

    def _apply(self) -> None:
        """Bring the sources of elements up to date. An element that came to a source and went is where it was."""
        if not self._turned:
            return
        turned, self._turned = self._turned, {}
        self._dirty.update(turned)
        at = self._at
        # Elements that move alike are worked out once.
        moves: dict[object, ElementSet | SharedClause | None] = {}
        for element, sources in turned.items():
            before = at.get(element)
            if not isinstance(sources, list):
                if before is None:
                    at[element] = sources
                    continue
                if sources is before:
                    del at[element]
                    continue
                sources = [sources]
            name = before, *sources
            if name in moves:
                after = moves[name]
            else:
                after = moves[name] = self._moved(before, sources)
            self._put(element, before, after)
        if self._left:
            for crowd in self._left:
                if not crowd.count:
                    self._disband(crowd)
            self._left = set()

    def _moved(
        self, before: ElementSet | SharedClause | None, turned: Iterable[ElementSet]
    ) -> ElementSet | SharedClause | None:
        """Where an element is after these sources took it or gave it up."""
        sources: set[ElementSet] = set()
        if before is not None:
            sources.update(before.sources if isinstance(before, SharedClause) else (before,))
        for source in turned:
            if source in sources:
                sources.discard(source)
            else:
                sources.add(source)
        if len(sources) < 2:
            return next(iter(sources), None)
        name = frozenset(sources)
        crowd = self._crowds.get(name)
        if crowd is None:
            crowd = self._crowds[name] = SharedClause(name, None)
            for source in name:
                self._crowds_of.setdefault(source, set()).add(crowd)
        return crowd

    def _put(
        self, element: Element, before: ElementSet | SharedClause | None, after: ElementSet | SharedClause | None
    ) -> None:
        if isinstance(before, SharedClause):
            before.count -= 1
            if not before.count:
                self._left.add(before)
        if after is None:
            self._at.pop(element, None)
            return
        self._at[element] = after
        if isinstance(after, SharedClause):
            after.count += 1

    def _disband(self, crowd: SharedClause) -> None:
        del self._crowds[crowd.sources]
        for source in crowd.sources:
            beside = self._crowds_of[source]
            beside.discard(crowd)
            if not beside:
                del self._crowds_of[source]
        self._forget(crowd)

    def _forget(self, crowd: SharedClause) -> None:
        self._needs.pop(crowd, None)
        self._short.pop(crowd, None)

    # -- flows -------------------------------------------------------------------------------------------------------

    @property
    def left_out(self) -> frozenset[str]:
        """See above."""
        return frozenset().union(*self._short.values())

    def take(self) -> dict[FlowKey, Body | None]:
        """The bodies of the flows that may have changed since the last call; None where one is gone."""
        self._apply()
        found: dict[FlowKey, Body | None] = {}
        dirty = list(self._dirty)
        holders = self._holders(dirty)
        bands = max(self._needs.values()) if self._needs else 1
        if bands != self.bands:
            found = self._gone()
            self._restage(bands)
            dirty = list(self._dirty)
            holders = [self._rules_at(element) for element in dirty]
        if dirty:
            self._dirty = set()
            for band in range(self.bands):
                bodies = [None if one is None else self._body(one, band) for one in holders]
                found.update(zip(self._frames(band).keys(dirty), bodies, strict=True))
        if self._hits:
            for number in self._hits:
                found[self._hit(number)] = self._encoder.hit(self.stage, number) if number in self._spaces else None
            self._hits = set()
        return found

    def _holders(self, elements: Iterable[Element]) -> list[Dimension | SharedClause | None]:
        """The rules that stand at each of these elements; it is noted how many bands they need."""
        at, rules = self._at, self._rules
        found: list[Dimension | SharedClause | None] = []
        unknown: list[SharedClause] = []
        for element in elements:
            source = at.get(element)
            one = source if source is None or isinstance(source, SharedClause) else rules[source]
            found.append(one)
            if isinstance(one, SharedClause) and one.bodies is None:
                unknown.append(one)
        for crowd in set(unknown) if unknown else ():
            self._measure(crowd)
        return found

    def drop(self) -> dict[FlowKey, Body | None]:
        """All flows, as gone; the next `take` has all of them again."""
        self._apply()
        found = self._gone()
        self._restage(self.bands)
        return found

    def _gone(self) -> dict[FlowKey, Body | None]:
        elements = list(self._dirty.union(self._at))
        found: dict[FlowKey, Body | None] = {}
        for band in range(self.bands):
            found.update(dict.fromkeys(self._frames(band).keys(elements)))
        found.update(dict.fromkeys(map(self._hit, self._hits.union(self._spaces))))
        return found

    def _restage(self, bands: int) -> None:
        """Everything is to be handed out again, in so many bands."""
        self.bands = bands
        self._dirty.update(self._at)
        self._hits.update(self._spaces)
        for one in [*self._rules.values(), *self._crowds.values()]:
            if isinstance(one, SharedClause):
                one.bodies = None

    def hit(self, number: int) -> FlowKey | None:
        """The key of the flow that the rule with this number ends in, None where there is no such rule."""
        return self._hit(number) if number in self._spaces else None

    def _hit(self, number: int) -> FlowKey:
        """The key of the flow that a complete rule ends in."""
        return self._frames(number % self.bands).hit.key(number)

    def _frames(self, band: int) -> KeyTemplates:
        if band:
            return self._encoder.frames(self.stage, band)
        if self._first is None:
            self._first = self._encoder.frames(self.stage, 0)
        return self._first

    def _rules_at(self, element: Element) -> Dimension | SharedClause | None:
        at = self._at.get(element)
        return at if at is None or isinstance(at, SharedClause) else self._rules[at]

    def _members(self, crowd: SharedClause) -> dict[int, Dimension]:
        if crowd.members is not None:
            return crowd.members
        found: dict[int, Dimension] = {}
        for source in crowd.sources:
            one = self._rules[source]
            found.update(self._members(one) if isinstance(one, SharedClause) else {one.conjunction.conj_id: one})
        return found

    def _measure(self, crowd: SharedClause) -> None:
        """Note how many bands a crowd needs."""
        self._forget(crowd)
        members = self._members(crowd)
        if len(members) > rules.MOST_CONJUNCTIONS:
            self._needs[crowd] = rules.fewest_bands(members)

    def _body(self, one: Dimension | SharedClause, band: int) -> Body | None:
        if not isinstance(one, SharedClause):
            return one.alone if self.bands == 1 or one.conjunction.conj_id % self.bands == band else None
        if one.bodies is None:
            one.bodies = self._encode(one)
        return one.bodies.get(band)

    def _encode(self, crowd: SharedClause) -> dict[int, Body]:
        members = self._members(crowd)
        by_band: dict[int, list[int]] = {}
        for number in sorted(members):
            by_band.setdefault(number % self.bands, []).append(number)
        found = {}
        short: set[str] = set()
        for band, numbers in by_band.items():
            kept, out = rules.fitting(numbers, self._spaces)
            short |= out
            if kept:
                found[band] = self._encoder.clause(tuple([members[number].conjunction for number in kept]))
        if short:
            self._short[crowd] = frozenset(short)
        else:
            self._short.pop(crowd, None)
        return found
