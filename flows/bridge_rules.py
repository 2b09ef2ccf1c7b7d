"""The rule flows of one bridge, kept as its rules change: a change costs the flows that it changes.

Says the same as `render_rules` does from nothing, and falls back on it where numbers collide or a flow outgrows a
message.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from flows.attach import Attachment, SwitchView
from flows.builder import FlowSet
from flows.compile import CompiledRule, NodePolicy
from flows.engine import Part
from flows.fields import CookieKind, cookie
from flows.flow import Conjunction, Flow, Match, exactly, in_range, match
from flows.model import Direction, Key
from flows.net import Net
from flows.numbering import assign_numbers, number_of
from flows.oxm import CONJ_ID
from flows.render_rules import (
    MOST_CONJUNCTIONS,
    STAGES,
    Stage,
    anything,
    peer_terms,
    render_rules,
    service_terms,
)
from flows.services import Services

Slot = tuple[int, int, Match]  # table, priority, match
STAGE = {stage.direction: stage for stage in STAGES}


class Local(NamedTuple):
    """A part as one bridge has it: the ofports of its subjects there."""

    part: Part
    ports: frozenset[int]


class BridgeRules:
    """`take` hands out what may have changed since the last time: flows by what identifies them, None where one is
    gone."""

    def __init__(self, userspace: bool) -> None:
        self.userspace = userspace
        self._local: dict[bytes, Local] = {}
        self._numbers: dict[bytes, int] = {}
        self._by_number: dict[int, bytes] = {}
        self._clauses: dict[tuple[Direction, Match], dict[int, Conjunction]] = {}
        self._slots: set[Slot] = set()
        self._dirty: set[tuple[Direction, Match]] = set()
        self._changed: dict[Slot, Flow | None] = {}
        self._plain = True

    @property
    def rules(self) -> dict[int, Part]:
        """The parts on this bridge by their number."""
        return {number: self._local[name].part for name, number in self._numbers.items()}

    def update(self, name: bytes, new: Local | None) -> None:
        """A part has changed on this bridge, is new, or has no subjects here any more (None)."""
        old = self._local.get(name)
        if new is None:
            self._local.pop(name, None)
        else:
            self._local[name] = new
        if not self._plain or old == new:
            return
        number = self._number(name, old, new)
        if number is None:
            self._plain = False
            return
        self._exchange(number, old, new)
        if new is None:
            del self._numbers[name], self._by_number[number]

    def _number(self, name: bytes, old: Local | None, new: Local | None) -> int | None:
        """The part's number; None where another has it already."""
        if old is not None:
            return self._numbers[name]
        number = number_of(name)
        if new is None or self._by_number.setdefault(number, name) != name:
            return None
        self._numbers[name] = number
        return number

    def _exchange(self, number: int, old: Local | None, new: Local | None) -> None:
        direction = (new or old).part.direction  # type: ignore[union-attr]  # one of them is there
        stage = STAGE[direction]
        before = _dimensions(old, self.userspace)
        after = _dimensions(new, self.userspace)
        count = max(len(before), len(after))
        for place in range(count):
            had = before[place] if place < len(before) else frozenset()
            has = after[place] if place < len(after) else frozenset()
            for term in had - has:
                self._leave((direction, _match(stage, term, self.userspace)), number)
            for term in has - had if len(before) == len(after) else has:
                self._enter(
                    (direction, _match(stage, term, self.userspace)), Conjunction(number, place + 1, len(after))
                )
        hit = (stage.table.number, stage.priority(0), match(exactly(CONJ_ID, number)))
        if new is None:
            self._set(hit, None)
        elif old is None:
            owner = cookie(CookieKind.RULE, number)
            self._set(hit, Flow(*hit, (), stage.onward.number, owner))

    def _enter(self, clause: tuple[Direction, Match], conjunction: Conjunction) -> None:
        members = self._clauses.setdefault(clause, {})
        members[conjunction.conj_id] = conjunction
        self._dirty.add(clause)
        if len(members) > MOST_CONJUNCTIONS:
            self._plain = False

    def _leave(self, clause: tuple[Direction, Match], number: int) -> None:
        members = self._clauses[clause]
        del members[number]
        self._dirty.add(clause)
        if not members:
            del self._clauses[clause]

    def _set(self, slot: Slot, flow: Flow | None) -> None:
        if flow is None:
            self._slots.discard(slot)
        else:
            self._slots.add(slot)
        self._changed[slot] = flow

    def take(self) -> dict[Slot, Flow | None]:
        """What may have changed since the last call."""
        if not self._plain:
            self._rebuild()
        for direction, terms in self._dirty:
            stage = STAGE[direction]
            slot = (stage.table.number, stage.priority(0), terms)
            members = self._clauses.get((direction, terms))
            owner = cookie(CookieKind.CLAUSE)
            self._set(slot, Flow(*slot, tuple(sorted(members.values())), None, owner) if members else None)
        self._dirty.clear()
        changed, self._changed = self._changed, {}
        return changed

    def drop(self) -> dict[Slot, Flow | None]:
        """Give up all rule flows: they cannot be rendered. Everything is tried again at the next change."""
        self._plain = False
        gone = self._changed.keys() | self._slots
        self._slots, self._changed = set(), {}
        return dict.fromkeys(gone)

    def _rebuild(self) -> None:
        """From nothing, as the reference does; incremental again as soon as nothing collides and nothing is crowded."""
        self._dirty.clear()
        self._numbers = assign_numbers(self._local)
        self._by_number = {number: name for name, number in self._numbers.items()}
        rendered = self._render()
        before, self._slots = self._slots, set(rendered)
        self._changed.update(dict.fromkeys(before - self._slots))
        self._changed.update(rendered)
        self._clauses = {}
        collide = any(number_of(name) != number for name, number in self._numbers.items())
        crowded = False
        for name, local in self._local.items():
            for clause, conjunction in _clauses(local, self._numbers[name], self.userspace):
                members = self._clauses.setdefault(clause, {})
                members[conjunction.conj_id] = conjunction
                crowded = crowded or len(members) > MOST_CONJUNCTIONS
        self._plain = not collide and not crowded

    def _render(self) -> dict[Slot, Flow]:
        flows = FlowSet()
        attachments: dict[int, Attachment] = {}
        rules = []
        for name, local in self._local.items():
            keys = {port: Key("", str(port)) for port in local.ports}
            attachments.update((port, Attachment(port, "", key, None, ())) for port, key in keys.items())
            part = local.part
            rules.append(
                CompiledRule(
                    self._numbers[name],
                    part.direction,
                    frozenset(keys.values()),
                    part.variant.peers,
                    part.variant.services,
                    part.owners,
                )
            )
        view = SwitchView(attachments=tuple(attachments.values()), userspace=self.userspace)
        render_rules(flows, view, NodePolicy({}, tuple(rules)))
        return {(flow.table, flow.priority, flow.match): flow for flow in flows.flows()}


# A term of a dimension: an ofport (subject), a prefix (peer), a match (service), or None (anything).
Element = int | Net | Match | None


def _dimensions(local: Local | None, userspace: bool) -> list[frozenset[Element]]:
    """Subjects, then what restricts; as `render_rules` orders them."""
    if local is None:
        return []
    found: list[frozenset[Element]] = [frozenset(local.ports)]
    variant = local.part.variant
    if variant.peers is not None:
        found.append(variant.peers)
    if variant.services is not None:
        found.append(_service_matches(variant.services, userspace))
    return found if len(found) > 1 else [*found, frozenset({None})]


@lru_cache(maxsize=65536)
def _service_matches(services: Services, userspace: bool) -> frozenset[Element]:
    return frozenset(match(*terms) for terms in service_terms(services, userspace))


def _match(stage: Stage, element: Element, userspace: bool) -> Match:
    if element is None:
        return match(*anything())
    if isinstance(element, int):
        return match(in_range(stage.subject, element))
    return _peer_match(stage.peer, element) if isinstance(element, Net) else element


@lru_cache(maxsize=1 << 20)
def _peer_match(role: str, net: Net) -> Match:
    return match(*peer_terms(role, net))


def _clauses(local: Local, number: int, userspace: bool) -> Iterator[tuple[tuple[Direction, Match], Conjunction]]:
    dimensions = _dimensions(local, userspace)
    direction = local.part.direction
    for place, elements in enumerate(dimensions, 1):
        for element in elements:
            yield (direction, _match(STAGE[direction], element, userspace)), Conjunction(number, place, len(dimensions))
