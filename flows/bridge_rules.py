"""The rule flows of one bridge, kept as its rules change: a change costs the flows that it changes.

Says the same as `render_rules` does from nothing, and falls back on it where numbers collide.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

from flows.attach import Attachment, SwitchView
from flows.bridge_clauses import Clauses, fewest_bands
from flows.builder import FlowSet
from flows.compile import CompiledRule, NodePolicy
from flows.encoding import Element, FlowEncoder, FlowKey
from flows.engine import Part
from flows.flow import match
from flows.model import Direction, Key
from flows.numbering import assign_numbers, number_of
from flows.render_rules import STAGES, render_rules, service_terms
from flows.services import Services

W = TypeVar("W")


class Local(NamedTuple):
    """A part as one bridge has it, by its number there, with the ofports of its subjects."""

    number: int
    part: Part
    ports: tuple[int, ...]


class BridgeRules(Generic[W]):
    """`take` hands out what may have changed since the last time: bodies by their keys, None where one is gone."""

    def __init__(self, userspace: bool, encoder: FlowEncoder[W]) -> None:
        self.userspace = userspace
        self._encoder = encoder
        self._local: dict[bytes, Local] = {}  # by the parts' identities
        self._taken: set[int] = set()  # their numbers
        self._sides = {stage.direction: Clauses(stage, encoder) for stage in STAGES}
        self._changed: dict[FlowKey, W | None] = {}
        # None while everything is kept piece by piece; else the flows as they were rendered from nothing.
        self._rendered: dict[FlowKey, W] | None = None
        self._anew = False  # everything is to be rendered from nothing

    @property
    def rules(self) -> dict[int, Part]:
        """The parts on this bridge by their number."""
        return {local.number: local.part for local in self._local.values()}

    def hit(self, name: bytes) -> FlowKey | None:
        """The key of the flow that a part ends in here, which counts for it; None where this bridge has no such part.

        It counts nothing while numbers collide.
        """
        local = self._local.get(name)
        return None if local is None else self._sides[local.part.direction].hit(local.number)

    def update(self, name: bytes, part: Part | None, ports: tuple[int, ...]) -> None:
        """A part is this now, with subjects at these ports; None, or no ports: it has nothing here any more."""
        old = self._local.get(name)
        new = Local(old.number if old else number_of(name), part, ports) if part is not None and ports else None
        if new == old:
            return
        collides = old is None and new is not None and new.number in self._taken
        if (self._rendered is not None or collides) and not self._anew:
            self._give_up()
        if new is None:
            del self._local[name]
        else:
            self._local[name] = new
        if self._anew:
            return
        self._exchange(old, new)
        if new is not None:
            self._taken.add(new.number)
        elif old is not None:
            self._taken.discard(old.number)

    def _exchange(self, old: Local | None, new: Local | None) -> None:
        one = new or old
        if one is None:
            return
        number, side = one.number, self._sides[one.part.direction]
        if side.overfull:
            # All of it is rendered again when the flows are taken.
            if new is None:
                self._changed[side.hit(number)] = None
            return
        before, after = _dimensions(old, self.userspace), _dimensions(new, self.userspace)
        alike = len(before) == len(after)
        for place, had in enumerate(before):
            gone = had - after[place] if alike else had
            if gone:
                side.leave(gone, number)
        for place, has in enumerate(after):
            came = has - before[place] if alike else has
            if came:
                side.enter(came, self._encoder.member(number, place + 1, len(after)))
        if new is None:
            self._changed[side.hit(number)] = None
        elif old is None:
            self._changed[side.hit(number)] = self._encoder.hit(side.stage, number)

    def take(self) -> dict[FlowKey, W | None]:
        """What may have changed since the last call. Raises FlowError where rules cannot be rendered at all."""
        if self._anew:
            self._rebuild()
        for direction, side in self._sides.items():
            if not side.fits:
                self._restage(direction)
        for side in self._sides.values():
            if side.dirty:
                self._changed.update(side.take())
        changed, self._changed = self._changed, {}
        return changed

    def drop(self) -> dict[FlowKey, W | None]:
        """Give up all rule flows: they cannot be rendered. Everything is tried again at the next change."""
        self._give_up()
        gone, self._changed = self._changed, {}
        return gone

    def _give_up(self) -> None:
        """What was there is gone, until all of it is rendered from nothing."""
        self._changed = dict.fromkeys((*self._changed, *self._keys()))
        self._sides = {stage.direction: Clauses(stage, self._encoder) for stage in STAGES}
        self._rendered = None
        self._anew = True

    def _keys(self) -> Iterator[FlowKey]:
        """The keys of all flows that were handed out, or are about to be."""
        if self._rendered is not None:
            yield from self._rendered
            return
        for side in self._sides.values():
            yield from side.keys()
            yield from side.dirty
        for local in self._local.values():
            yield self._sides[local.part.direction].hit(local.number)

    def _restage(self, direction: Direction) -> None:
        """A direction may need more bands, or fewer: then all of its flows get other priorities."""
        stage, before = self._sides[direction].stage, self._sides[direction]
        here = [local for local in self._local.values() if local.part.direction is direction]
        bands, crowds = fewest_bands((local.number, _dimensions(local, self.userspace)) for local in here)
        side = self._sides[direction] = Clauses(stage, self._encoder, bands, crowds)
        side.dirty.update(before.dirty, before.keys())
        self._changed.update(dict.fromkeys(before.hit(local.number) for local in here))
        for local in here:
            self._exchange(None, local)

    def _rebuild(self) -> None:
        """From nothing; piece by piece again as soon as no numbers collide."""
        numbers = assign_numbers(self._local)
        self._local = {name: local._replace(number=numbers[name]) for name, local in self._local.items()}
        self._taken = set(numbers.values())
        self._anew = False
        if any(number_of(name) != number for name, number in numbers.items()):
            self._rendered = self._render()
            self._changed.update(self._rendered)
            return
        for local in self._local.values():
            self._exchange(None, local)

    def _render(self) -> dict[FlowKey, W]:
        flows = FlowSet()
        attachments: dict[int, Attachment] = {}
        rules = []
        for local in self._local.values():
            keys = {port: Key("", str(port)) for port in local.ports}
            attachments.update((port, Attachment(port, "", key, None, ())) for port, key in keys.items())
            part = local.part
            rules.append(
                CompiledRule(
                    local.number,
                    part.direction,
                    frozenset(keys.values()),
                    part.variant.peers,
                    part.variant.services,
                    part.owners,
                )
            )
        view = SwitchView(attachments=tuple(attachments.values()), userspace=self.userspace)
        render_rules(flows, view, NodePolicy({}, tuple(rules)))
        return dict(map(self._encoder.flow, flows.flows()))


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
