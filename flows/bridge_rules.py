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
from flows.flow import Conjunction, Flow, Match, Term, exactly, in_range, match
from flows.model import Direction, Key
from flows.net import WIDTH, Net
from flows.numbering import assign_numbers, number_of
from flows.oxm import CONJ_ID, Field
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

# A term of a dimension: an ofport (subject), a prefix (peer), a match (service), or None (anything).
Element = int | Net | Match | None
STAGE = {stage.direction: stage for stage in STAGES}
CLAUSE = cookie(CookieKind.CLAUSE)


class Local(NamedTuple):
    """A part as one bridge has it: the ofports of its subjects there."""

    part: Part
    ports: frozenset[int]


class Clause:
    """A match in one direction's table, and the rules that it stands in, by number. Compared by identity."""

    __slots__ = ("direction", "element", "members")

    def __init__(self, direction: Direction, element: Element) -> None:
        self.direction = direction
        self.element = element
        self.members: dict[int, Conjunction] = {}


# What a flow is handed out under: its clause, a rule's number, or table, priority and match where all was rendered.
Handle = Clause | int | tuple[int, int, Match]


class BridgeRules:
    """`take` hands out what may have changed since the last time: flows by their handles, None where one is gone."""

    def __init__(self, userspace: bool) -> None:
        self.userspace = userspace
        self._local: dict[bytes, Local] = {}
        self._numbers: dict[bytes, int] = {}
        self._by_number: dict[int, bytes] = {}
        self._clauses: dict[tuple[Direction, Element], Clause] = {}
        self._there: set[Handle] = set()
        self._dirty: set[Clause] = set()
        self._changed: dict[Handle, Flow | None] = {}
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
                self._leave(direction, term, number)
            conjunction = Conjunction(number, place + 1, len(after))
            for term in has - had if len(before) == len(after) else has:
                self._enter(direction, term, conjunction)
        if new is None:
            self._set(number, None)
        elif old is None:
            self._hit(stage, number)

    def _hit(self, stage: Stage, number: int) -> None:
        hit = (stage.table.number, stage.priority(0), match(exactly(CONJ_ID, number)))
        self._set(number, Flow(*hit, (), stage.onward.number, cookie(CookieKind.RULE, number)))

    def _enter(self, direction: Direction, element: Element, conjunction: Conjunction) -> None:
        clause = self._clauses.get((direction, element))
        if clause is None:
            clause = self._clauses[direction, element] = Clause(direction, element)
        clause.members[conjunction.conj_id] = conjunction
        self._dirty.add(clause)
        if len(clause.members) > MOST_CONJUNCTIONS:
            self._plain = False

    def _leave(self, direction: Direction, element: Element, number: int) -> None:
        clause = self._clauses[direction, element]
        del clause.members[number]
        self._dirty.add(clause)
        if not clause.members:
            del self._clauses[direction, element]

    def _set(self, handle: Handle, flow: Flow | None) -> None:
        if flow is None:
            self._there.discard(handle)
        else:
            self._there.add(handle)
        self._changed[handle] = flow

    def take(self) -> dict[Handle, Flow | None]:
        """What may have changed since the last call."""
        if not self._plain:
            self._rebuild()
        for clause in self._dirty:
            self._set(clause, _flow(clause))
        self._dirty.clear()
        changed, self._changed = self._changed, {}
        return changed

    def drop(self) -> dict[Handle, Flow | None]:
        """Give up all rule flows: they cannot be rendered. Everything is tried again at the next change."""
        self._plain = False
        gone = self._changed.keys() | self._there
        self._there, self._changed = set(), {}
        return dict.fromkeys(gone)

    def _rebuild(self) -> None:
        """From nothing, as the reference does; incremental again as soon as nothing collides and nothing is crowded."""
        self._dirty.clear()
        self._numbers = assign_numbers(self._local)
        self._by_number = {number: name for name, number in self._numbers.items()}
        rendered = self._render()
        before, self._there = self._there, set(rendered)
        self._changed.update(dict.fromkeys(before - self._there))
        for slot, flow in rendered.items():
            self._changed[slot] = flow
        self._clauses = {}
        collide = any(number_of(name) != number for name, number in self._numbers.items())
        crowded = False
        for name, local in self._local.items():
            for element, conjunction in _clauses(local, self._numbers[name], self.userspace):
                key = (local.part.direction, element)
                clause = self._clauses.setdefault(key, Clause(*key))
                clause.members[conjunction.conj_id] = conjunction
                crowded = crowded or len(clause.members) > MOST_CONJUNCTIONS
        self._plain = not collide and not crowded
        if self._plain:
            # From now on flows are told by clause and number again.
            self._changed.update(dict.fromkeys(self._there))
            self._there = set()
            self._dirty.update(self._clauses.values())
            for local in self._local.values():
                self._hit(STAGE[local.part.direction], self._numbers[local.part.identity])

    def _render(self) -> dict[tuple[int, int, Match], Flow]:
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


def _flow(clause: Clause) -> Flow | None:
    """A clause's flow; None when it stands in no rule any more."""
    if not clause.members:
        return None
    stage = STAGE[clause.direction]
    members = tuple(clause.members.values())
    if len(members) > 1:
        members = tuple(sorted(members))
    return Flow(stage.table.number, stage.priority(0), _match(stage, clause.element), members, None, CLAUSE)


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


def _match(stage: Stage, element: Element) -> Match:
    if element is None:
        return match(*anything())
    if isinstance(element, int):
        return match(in_range(stage.subject, element))
    return _peer_match(stage.peer, element) if isinstance(element, Net) else element


def _peer_match(role: str, net: Net) -> Match:
    """What `match(*peer_terms(role, net))` gives; only the address differs from one to the next."""
    if net.prefix == 0:
        return match(*peer_terms(role, net))
    before, field, after = _peer_frame(role, net.version)
    mask = field.full_mask if net.prefix == field.width else net.mask
    return (*before, Term(field, net.value, mask), *after)


@lru_cache(maxsize=16)
def _peer_frame(role: str, version: int) -> tuple[Match, Field, Match]:
    whole = match(*peer_terms(role, Net(version, 1, WIDTH[version])))
    place = next(n for n, term in enumerate(whole) if term.mask.bit_length() == WIDTH[version] and term.value == 1)
    return whole[:place], whole[place].field, whole[place + 1 :]


def _clauses(local: Local, number: int, userspace: bool) -> Iterator[tuple[Element, Conjunction]]:
    dimensions = _dimensions(local, userspace)
    for place, elements in enumerate(dimensions, 1):
        for element in elements:
            yield element, Conjunction(number, place, len(dimensions))
