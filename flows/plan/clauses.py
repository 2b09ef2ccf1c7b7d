"""The clause flows of one bridge and direction, kept as rules and the sets that they refer to change.

Theory of operation. A rule has up to three dimensions: subjects, peers and services. Each names a set of elements
(ofports, prefixes, matches), which several rules may share. A clause flow matches one element, and its actions name the
conjunctions of all rules with that element in a dimension. So this keeps

- for each set, the dimensions of the rules that use it;
- for each element, the set that it is in, or the *shared clause* of all its sets if there are several.

An element that comes to a set then costs one flow, and elements of the same sets share one body.

Example. Rules 1 and 2 use the set of peers A, rule 3 uses B. 10.0.0.1 is in A, 10.0.0.2 in A and B:

    ct_nw_src=10.0.0.1    conjunction(1,2/3),conjunction(2,2/3)                       body of A
    ct_nw_src=10.0.0.2    conjunction(1,2/3),conjunction(2,2/3),conjunction(3,2/2)    body of {A, B}

If 10.0.0.1 is added to B as well, its membership in B is *toggled*: the element moves to the shared clause {A, B},
whose body exists already. If rule 2 is deleted, the bodies of A and of {A, B} are encoded again, and all their elements
are *dirty*: their flows must be sent again.

A flow's actions must fit into one OpenFlow message. Where they do not, the rules are spread over bands of priorities by
their numbers, as `render_rules` does (`conj_id % bands`); where even the most bands do not suffice, rules of some
namespaces are left out.

Must not live here: which rules and sets exist. `flows.plan.rules`, the only caller, decides that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import cast

from flows.cluster.model import Action
from flows.cluster.net import Net
from flows.cluster.tuples import new_tuple
from flows.plan.encoder import RULE_COOKIE, Dimension, FlowEncoder
from flows.plan.key_templates import Element, KeyTemplates
from flows.plan.named_peers import NamedPeers
from flows.policy.tracked_sets import TrackedSet
from flows.render import rules as rule_flows
from flows.render.rules import AnyStage
from flows.wire.values import Body, FlowKey

# Ofports of subjects, prefixes of peers, addresses that subjects learned for names, or matches of services (of
# `anything`: None), which never change.
ElementSet = TrackedSet[int] | TrackedSet[Net] | frozenset[Element] | NamedPeers

_FEW = 4  # elements that are toggled one by one, which takes less time then
_UNKNOWN = Body(0, b"")


class SharedClause:
    """The conjunctions that the same flows name: those of one set with several rules, or of the elements that are in
    exactly these `sets`.

    `alone` is the flows' body while there is one band, `bodies` are those of several bands. They are None until they
    are needed.
    """

    __slots__ = ("alone", "bodies", "count", "dimensions", "sets")

    def __init__(self, sets: frozenset[ElementSet], dimensions: dict[int, Dimension] | None) -> None:
        self.sets = sets
        self.dimensions = dimensions  # by conjunction id, for one set; None for several sets
        self.count = 0  # elements in exactly these sets, for several sets
        self.alone: Body | None = None
        self.bodies: dict[int, Body] | None = None


class Clauses:
    """`take` hands out the flows that may have changed: bodies by key, None where a flow is gone.

    `bands` is how many bands of priorities the flows use now. `users` has the sets that rules use: asked so often that
    there is no function for it.
    """

    __slots__ = (
        "_actions",
        "_bands_needed",
        "_dirty",
        "_dirty_rules",
        "_emptied",
        "_encoder",
        "_first_band",
        "_left_out",
        "_namespaces",
        "_sets_of",
        "_several",
        "_shared",
        "_shared_of_set",
        "_toggled",
        "bands",
        "stage",
        "users",
    )  # fmt: skip

    def __init__(self, stage: AnyStage, encoder: FlowEncoder) -> None:
        self.stage = stage
        self.bands = 1
        self._encoder = encoder
        self._first_band: KeyTemplates | None = None  # nearly always the only one
        # By set: the one rule that uses it, as most have, or several.
        self.users: dict[ElementSet, Dimension | SharedClause] = {}
        self._sets_of: dict[Element, ElementSet | SharedClause] = {}
        self._shared: dict[frozenset[ElementSet], SharedClause] = {}
        self._shared_of_set: dict[ElementSet, set[SharedClause]] = {}
        self._emptied: set[SharedClause] = set()  # shared clauses that lost their last element
        self._bands_needed: dict[SharedClause, int] = {}  # where one is not enough
        self._left_out: dict[SharedClause, frozenset[str]] = {}  # namespaces
        self._namespaces: dict[int, str] = {}  # of rules, by number
        self._actions: dict[int, Action] = {}  # of those of a tier
        # Changes since the last `take`: elements added to or removed from sets (one set, or a list of them), elements
        # whose flows must be encoded again, and rules added or removed.
        self._toggled: dict[Element, ElementSet | list[ElementSet]] = {}
        self._several = False  # whether there may be a list among them
        self._dirty: set[Element] = set()
        self._dirty_rules: set[int] = set()

    # -- changes -----------------------------------------------------------------------------------------------------

    def add(self, number: int, namespace: str, action: Action | None = None) -> None:
        """A rule with this number is new; `action` is that of a ClusterNetworkPolicy's rule."""
        self._namespaces[number] = namespace
        if action is not None:
            self._actions[number] = action
        self._dirty_rules.add(number)

    def remove(self, number: int) -> None:
        """A rule is gone."""
        del self._namespaces[number]
        if self._actions:
            self._actions.pop(number, None)
        self._dirty_rules.add(number)

    @property
    def is_empty(self) -> bool:
        """Whether there is no rule, and all flows were handed out as gone."""
        return not (self._namespaces or self._dirty_rules or self._dirty or self._toggled)

    def use(self, element_set: ElementSet, elements: Collection[Element], dimension: Dimension) -> None:
        """A rule uses a set, which has these elements, for one of its dimensions."""
        known = self.users.get(element_set)
        if known is None:
            self.users[element_set] = dimension
            self._note_toggles(element_set, elements)
        else:
            if not isinstance(known, SharedClause):
                dimensions = {known.conj_id: known}
                known = self.users[element_set] = SharedClause(frozenset(), dimensions)
            if known.dimensions is not None:
                known.dimensions[dimension.conj_id] = dimension
            self._dirty.update(elements)
            self._forget(known)
        if self._shared_of_set:
            self._invalidate_shared(element_set)

    def leave(self, element_set: ElementSet, elements: Collection[Element], number: int) -> None:
        """A rule uses a set no more."""
        known = self.users[element_set]
        if isinstance(known, SharedClause) and known.dimensions is not None:
            del known.dimensions[number]
            self._forget(known)
            self._dirty.update(elements)
            if len(known.dimensions) == 1:
                (self.users[element_set],) = known.dimensions.values()
        else:
            del self.users[element_set]
            self._note_toggles(element_set, elements)
        if self._shared_of_set:
            self._invalidate_shared(element_set)

    def toggle(self, element_set: ElementSet, elements: Collection[Element]) -> None:
        """Each of these elements came to a set that some rule uses, or went from it."""
        self._note_toggles(element_set, elements)

    def _note_toggles(self, element_set: ElementSet, elements: Collection[Element]) -> None:
        toggled = self._toggled
        if not toggled:
            self._toggled = dict.fromkeys(elements, element_set)
            return
        if len(elements) <= _FEW:
            for element in elements:
                size = len(toggled)
                before = toggled.setdefault(element, element_set)
                if len(toggled) == size:
                    self._toggle_again(element, before, element_set)
            return
        if toggled.keys().isdisjoint(elements):
            toggled.update(dict.fromkeys(elements, element_set))
            return
        again = toggled.keys() & elements
        toggled.update(dict.fromkeys(again.symmetric_difference(elements), element_set))
        for element in again:
            self._toggle_again(element, toggled[element], element_set)

    def _toggle_again(self, element: Element, before: ElementSet | list[ElementSet], element_set: ElementSet) -> None:
        """An element that was toggled since `take`, in `before`, came to a set or went from it."""
        if before is element_set:
            del self._toggled[element]  # it is where it was, but the rules of the set may be others
            self._dirty.add(element)
        elif isinstance(before, list):
            before.append(element_set)
        else:
            self._toggled[element] = [before, element_set]
            self._several = True

    def _invalidate_shared(self, element_set: ElementSet) -> None:
        for shared in self._shared_of_set.get(element_set, ()):
            self._forget(shared)

    # -- which sets elements are in ----------------------------------------------------------------------------------

    def _apply(self) -> None:
        """Bring `_sets_of` up to date. An element that came to a set and went again is where it was."""
        toggled, self._toggled = self._toggled, {}
        several, self._several = self._several, False
        self._dirty.update(toggled)
        at = self._sets_of
        if not at:  # as in a first plan: all those in one set are there
            in_several = [one for one, sets in toggled.items() if isinstance(sets, list)] if several else ()
            at = self._sets_of = cast(dict[Element, ElementSet | SharedClause], toggled)
            toggled = {one: toggled.pop(one) for one in in_several}
        # Many elements go the same way: work out each way once.
        positions: dict[object, ElementSet | SharedClause | None] = {}
        for element, sets in toggled.items():
            before = at.get(element)
            if not isinstance(sets, list):
                if before is None:
                    at[element] = sets
                    continue
                if sets is before:
                    del at[element]
                    continue
                sets = [sets]
            key = before, *sets
            if key in positions:
                after = positions[key]
            else:
                after = positions[key] = self._position_after(before, sets)
            self._set_position(element, before, after)
        if self._emptied:
            for shared in self._emptied:
                if not shared.count:
                    self._remove_shared(shared)
            self._emptied = set()

    def _position_after(
        self, before: ElementSet | SharedClause | None, toggled: Iterable[ElementSet]
    ) -> ElementSet | SharedClause | None:
        """Where an element is after it came to or went from each of these sets."""
        sets: set[ElementSet] = set()
        if before is not None:
            sets.update(before.sets if isinstance(before, SharedClause) else (before,))
        for element_set in toggled:
            if element_set in sets:
                sets.discard(element_set)
            else:
                sets.add(element_set)
        if len(sets) < 2:
            return next(iter(sets), None)
        key = frozenset(sets)
        shared = self._shared.get(key)
        if shared is None:
            shared = self._shared[key] = SharedClause(key, None)
            for element_set in key:
                self._shared_of_set.setdefault(element_set, set()).add(shared)
        return shared

    def _set_position(
        self, element: Element, before: ElementSet | SharedClause | None, after: ElementSet | SharedClause | None
    ) -> None:
        if isinstance(before, SharedClause):
            before.count -= 1
            if not before.count:
                self._emptied.add(before)
        if after is None:
            self._sets_of.pop(element, None)
            return
        self._sets_of[element] = after
        if isinstance(after, SharedClause):
            after.count += 1

    def _remove_shared(self, shared: SharedClause) -> None:
        del self._shared[shared.sets]
        for element_set in shared.sets:
            others = self._shared_of_set[element_set]
            others.discard(shared)
            if not others:
                del self._shared_of_set[element_set]
        self._forget(shared)

    def _forget(self, shared: SharedClause) -> None:
        """Its flows name other conjunctions, or there are none any more."""
        shared.alone = shared.bodies = None
        if self._bands_needed:
            self._bands_needed.pop(shared, None)
            self._left_out.pop(shared, None)

    # -- flows -------------------------------------------------------------------------------------------------------

    @property
    def namespaces_left_out(self) -> frozenset[str]:
        """The namespaces whose rules are missing in some flow, which even the most bands could not hold."""
        return frozenset().union(*self._left_out.values())

    def take(self) -> dict[FlowKey, Body | None]:
        """The flows that may have changed since the last call: their bodies, None for a removed flow."""
        if self._toggled:
            self._apply()
        found: dict[FlowKey, Body | None] = {}
        if self._dirty or self.bands != 1:
            dirty = list(self._dirty)
            bodies = self._bodies(dirty) if self.bands == 1 else None
            if bodies is None:
                found = self._take_bands(dirty)
            else:
                templates = self._first_band or self._templates(0)
                found = dict(zip(templates.keys(dirty), bodies, strict=True))
            self._dirty = set()
        if self._dirty_rules:
            self._take_hits(found)
            self._dirty_rules = set()
        return found

    def _take_hits(self, found: dict[FlowKey, Body | None]) -> None:
        """Add the `conj_id` flows of the rules that came or went."""
        hit_key = self._templates(0).hit_key if self.bands == 1 else self._hit_key
        there, actions = self._namespaces, self._actions
        accepts = self._encoder.hit_instructions(self.stage) if not actions else b""
        for number in self._dirty_rules:
            if number not in there:
                found[hit_key(number)] = None
                continue
            does = self._encoder.hit_instructions(self.stage, actions.get(number)) if actions else accepts
            found[hit_key(number)] = new_tuple(Body, (RULE_COOKIE | number, does))

    def _bodies(self, elements: Iterable[Element]) -> list[Body | None] | None:
        """The bodies of the flows of these elements in the only band; None where one band is not enough."""
        known: dict[ElementSet | SharedClause | None, Body | None] = {None: None}
        at, users, found = self._sets_of.get, self.users, []
        for place in map(at, elements):
            body = known.get(place, _UNKNOWN)
            if body is _UNKNOWN and place is not None:
                one = place if isinstance(place, SharedClause) else users[place]
                body = known[place] = self._shared_body(one) if isinstance(one, SharedClause) else one.alone
            found.append(body)
        return None if self._bands_needed else found

    def _shared_body(self, shared: SharedClause) -> Body | None:
        """The body of the flows of a shared clause; None where one band is not enough."""
        if shared.alone is None:
            self._note_bands(shared)
            if not self._bands_needed:
                dimensions = self._dimensions_of(shared)
                conjunctions = tuple([dimensions[number].conjunction for number in sorted(dimensions)])
                shared.alone = self._encoder.clause(conjunctions)
        return shared.alone

    def _take_bands(self, dirty: list[Element]) -> dict[FlowKey, Body | None]:
        """The flows of these elements in as many bands as they need now; all flows where that number changes."""
        found: dict[FlowKey, Body | None] = {}
        users = self._users_at(dirty)
        for shared in {one for one in users if isinstance(one, SharedClause) and one.bodies is None}:
            self._note_bands(shared)
        bands = max(self._bands_needed.values()) if self._bands_needed else 1
        if bands != self.bands:
            found = self._all_gone()
            self._restart(bands)
            dirty = list(self._dirty)
            users = self._users_at(dirty)
        for band in range(self.bands):
            bodies = [self._body(one, band) for one in users]
            found.update(zip(self._templates(band).keys(dirty), bodies, strict=True))
        return found

    def _users_at(self, elements: Iterable[Element]) -> list[Dimension | SharedClause | None]:
        """What names the conjunctions of each of these elements."""
        at, users = self._sets_of, self.users
        places = [at.get(element) for element in elements]
        return [one if one is None or isinstance(one, SharedClause) else users[one] for one in places]

    def drop(self) -> dict[FlowKey, Body | None]:
        """All flows, as gone. The next `take` has all of them again."""
        self._apply()
        found = self._all_gone()
        self._restart(self.bands)
        return found

    def _all_gone(self) -> dict[FlowKey, Body | None]:
        elements = list(self._dirty.union(self._sets_of))
        found: dict[FlowKey, Body | None] = {}
        for band in range(self.bands):
            found.update(dict.fromkeys(self._templates(band).keys(elements)))
        found.update(dict.fromkeys(map(self._hit_key, self._dirty_rules.union(self._namespaces))))
        return found

    def _restart(self, bands: int) -> None:
        """Have the next `take` hand out everything, in so many bands."""
        self.bands = bands
        self._dirty.update(self._sets_of)
        self._dirty_rules.update(self._namespaces)
        for one in [*self.users.values(), *self._shared.values()]:
            if isinstance(one, SharedClause):
                one.alone = one.bodies = None

    def hit_flow(self, number: int) -> FlowKey | None:
        """The key of a rule's `conj_id` flow; None where there is no such rule."""
        return self._hit_key(number) if number in self._namespaces else None

    def _hit_key(self, number: int) -> FlowKey:
        return self._templates(number % self.bands).hit_key(number)

    def _templates(self, band: int) -> KeyTemplates:
        if band:
            return self._encoder.key_templates(self.stage, band)
        if self._first_band is None:
            self._first_band = self._encoder.key_templates(self.stage, 0)
        return self._first_band

    def _dimensions_of(self, shared: SharedClause) -> dict[int, Dimension]:
        if shared.dimensions is not None:
            return shared.dimensions
        found: dict[int, Dimension] = {}
        for element_set in shared.sets:
            one = self.users[element_set]
            found.update(self._dimensions_of(one) if isinstance(one, SharedClause) else {one.conj_id: one})
        return found

    def _note_bands(self, shared: SharedClause) -> None:
        """Note how many bands a shared clause needs."""
        self._forget(shared)
        dimensions = self._dimensions_of(shared)
        if self.stage.order is not None:
            rule_flows.check_order(len(dimensions))
        elif len(dimensions) > rule_flows.MAX_CONJUNCTIONS:
            self._bands_needed[shared] = rule_flows.fewest_bands(dimensions)

    def _body(self, one: Dimension | SharedClause | None, band: int) -> Body | None:
        if one is None:
            return None
        if not isinstance(one, SharedClause):
            return one.alone if self.bands == 1 or one.conj_id % self.bands == band else None
        if one.bodies is None:
            one.bodies = self._encode(one)
        return one.bodies.get(band)

    def _encode(self, shared: SharedClause) -> dict[int, Body]:
        dimensions = self._dimensions_of(shared)
        by_band: dict[int, list[int]] = {}
        for number in sorted(dimensions):
            by_band.setdefault(number % self.bands, []).append(number)
        found = {}
        left_out: set[str] = set()
        for band, numbers in by_band.items():
            kept, out = rule_flows.fitting(numbers, self._namespaces)
            left_out |= out
            if kept:
                found[band] = self._encoder.clause(tuple([dimensions[number].conjunction for number in kept]))
        if left_out:
            self._left_out[shared] = frozenset(left_out)
        else:
            self._left_out.pop(shared, None)
        return found
