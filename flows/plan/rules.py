"""The rules of one bridge: which parts have subjects there, and the flows that follow, kept as both change.

A part is on a bridge when its subjects have a port there. Says the same as `render_rules` does from nothing.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache

from flows.cluster.net import Net
from flows.openflow.match import match
from flows.plan.clauses import Clauses, ElementSet
from flows.plan.encoder import Element, FlowEncoder
from flows.policy import flow_limits
from flows.policy.services import Services
from flows.policy.tracked_sets import NetSet, PodSet, TrackedRule, tracked_rules_on
from flows.render.rules import STAGES, service_terms
from flows.wire.values import Body, FlowKey

PeersWatcher = Callable[[NetSet, bool], None]
_ANYTHING: frozenset[Element] = frozenset({None})


class BridgeRules:
    """`take` hands out what may have changed since the last time: bodies by their keys, None where one is gone.

    `watch` is told of sets of peers that are used here from now on, or no more: of these the bridge must be told what
    came and went, before anything else is.
    """

    # An event looks at few things of each of many bridges, whose memory is far apart: slots save a step to each.
    __slots__ = (
        "_encoder", "_out", "_parts", "_ports", "_sides", "_stirred", "_watch", "_weight", "_weights", "userspace",
    )  # fmt: skip

    def __init__(self, userspace: bool, encoder: FlowEncoder, watch: PeersWatcher | None = None) -> None:
        self.userspace = userspace
        self._encoder = encoder
        self._watch = watch
        self._ports: dict[PodSet, list[int]] = {}  # of the subjects that are here, sorted
        self._parts: dict[bytes, TrackedRule] = {}
        self._sides = {stage.direction: Clauses(stage, encoder) for stage in STAGES}
        self._stirred: dict[Clauses, None] = {}  # those of the sides where `take` may have something
        self._weights: dict[str, int] = {}  # of the parts, by namespace
        self._weight = 0
        self._out: frozenset[str] = frozenset()  # namespaces that ask for too much

    @property
    def rules(self) -> dict[int, TrackedRule]:
        """The parts on this bridge by their number."""
        return {part.number: part for part in self._parts.values()}

    def hit(self, identity: bytes) -> FlowKey | None:
        """The key of the flow that a part ends in here, which counts for it; None where there is no such part here."""
        part = self._parts.get(identity)
        return None if part is None else self._sides[part.direction].hit(part.number)

    @property
    def subjects(self) -> Collection[PodSet]:
        """The sets of subjects that have ports here."""
        return self._ports.keys()

    @property
    def peers(self) -> set[NetSet]:
        """The sets of peers of the parts here."""
        return {part.peers for part in self._parts.values() if part.peers is not None}

    @property
    def left_out(self) -> frozenset[str]:
        """The namespaces whose rules are not all in force here, because there are too many. Their pods stay
        isolated."""
        return self._out.union(*[side.left_out for side in self._sides.values()])

    # -- changes -----------------------------------------------------------------------------------------------------

    def enter(self, subjects: PodSet, ofport: int) -> None:
        """A subject has this port; with the first one all parts of these subjects come."""
        ports = self._ports.get(subjects)
        if ports is None:
            self._ports[subjects] = [ofport]
            for part in tracked_rules_on(subjects):
                self.put(part)
            return
        if ofport not in ports:
            self._move(subjects, (ofport,))
        insort(ports, ofport)

    def leave(self, subjects: PodSet, ofport: int) -> bool:
        """A subject has this port no more. Returns whether any has one still; else their parts are gone."""
        ports = self._ports[subjects]
        if len(ports) == 1:
            for part in tracked_rules_on(subjects):
                self.remove(part.identity)
            del self._ports[subjects]
            return False
        ports.remove(ofport)
        if ofport not in ports:
            self._move(subjects, (ofport,))
        return True

    def forget(self, subjects: PodSet) -> None:
        """There are no parts of these subjects any more."""
        del self._ports[subjects]

    def turn(self, peers: NetSet, elements: Collection[Net]) -> None:
        """Each of these prefixes came to a set of peers, or went from it."""
        self._move(peers, elements)

    def _move(self, source: ElementSet, elements: Collection[Element]) -> None:
        for side in self._sides.values():
            if side.uses(source):
                side.move(source, elements)
                self._stirred[side] = None

    def put(self, part: TrackedRule) -> None:
        """A part is new or has changed."""
        if part.subjects not in self._ports:
            return
        old = self._parts.get(part.identity)
        if old is not None:
            if old._replace(owners=part.owners) == part:
                self._parts[part.identity] = part
                return
            self.remove(part.identity)
        self._parts[part.identity] = part
        space = part.namespace
        self._weights[space] = self._weights.get(space, 0) + part.weight
        self._weight += part.weight
        if space not in self._out:
            self._install(part)

    def remove(self, identity: bytes) -> None:
        """A part is gone."""
        part = self._parts.pop(identity, None)
        if part is None:
            return
        space = part.namespace
        self._weight -= part.weight
        self._weights[space] -= part.weight
        if not self._weights[space]:
            del self._weights[space]
        if space not in self._out:
            self._withdraw(part)

    def _install(self, part: TrackedRule) -> None:
        side, peers = self._sides[part.direction], part.peers
        self._stirred[side] = None
        if self._watch is not None and peers is not None and not self._uses(peers):
            self._watch(peers, True)
        side.add(part.number, part.namespace)
        clauses = list(self._clauses(part))
        for place, (source, elements) in enumerate(clauses, 1):
            side.use(source, elements, self._encoder.member(part.number, place, len(clauses)))

    def _withdraw(self, part: TrackedRule) -> None:
        side, peers = self._sides[part.direction], part.peers
        self._stirred[side] = None
        side.remove(part.number)
        for source, elements in self._clauses(part):
            side.leave(source, elements, part.number)
        if self._watch is not None and peers is not None and not self._uses(peers):
            self._watch(peers, False)

    def _uses(self, peers: NetSet) -> bool:
        return any(side.uses(peers) for side in self._sides.values())

    def _clauses(self, part: TrackedRule) -> Iterator[tuple[ElementSet, Collection[Element]]]:
        """Subjects, then what restricts; as `render_rules` orders them."""
        yield part.subjects, self._ports[part.subjects]
        if part.peers is not None:
            yield part.peers, part.peers.members
        if part.services is not None:
            matches = _service_matches(part.services, self.userspace)
            yield matches, matches
        elif part.peers is None:
            yield _ANYTHING, _ANYTHING

    # -- flows -------------------------------------------------------------------------------------------------------

    def take(self) -> dict[FlowKey, Body | None]:
        """What may have changed since the last call."""
        if self._out or self._weight > flow_limits.MAX_BRIDGE_FLOWS:
            self._choose()
        found: dict[FlowKey, Body | None] = {}
        stirred, self._stirred = self._stirred, {}
        for side in stirred:
            taken = side.take()
            found = {**found, **taken} if found else taken
        return found

    def drop(self) -> dict[FlowKey, Body | None]:
        """Give up all rule flows: they cannot be rendered. All of them are tried again at the next `take`."""
        self._stirred = dict.fromkeys(self._sides.values())
        return {key: body for side in self._stirred for key, body in side.drop().items()}

    def _choose(self) -> None:
        """Leave out what is too much, and take in again what is not."""
        out = flow_limits.namespaces_over_limit(self._weights)
        differ, self._out = out ^ self._out, out
        if differ:
            for part in self._parts.values():
                if part.namespace in differ:
                    (self._withdraw if part.namespace in out else self._install)(part)


@lru_cache(maxsize=65536)
def _service_matches(services: Services, userspace: bool) -> frozenset[Element]:
    return frozenset(match(*terms) for terms in service_terms(services, userspace))
