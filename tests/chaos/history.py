"""The history of what was wanted, and the oracle: which outcomes a probe may have had. Pure.

Changes are made one after the other. Change n leads from state n to state n + 1; it is open from just before it was
sent to the API server until a replica announced that everything is realized (`/wait`). While it is open either state
may be in force, at each switch for itself: so at each end of a connection. Outside of it only one state may. A probe
has an interval, from its first packet to its answer, or until it was given up; its outcome is right if some state
that may have been in force within the interval leads to it.

Pods move: a state has the places of the pods that are there, and an observation those of its ends. A connection is
possible in a state only between pods that are where the observation had them.

A switch that is killed or loses its database loses packets, until it is announced as realized again: then a probe
through it may fail. It may never succeed where no state allows it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from flows.cluster.model import Cluster, Key, Protocol
from flows.cluster.net import parse_address
from flows.policy.probe import Endpoint, Probe
from flows.policy.verdict import verdict
from tests.chaos.places import Place, Places
from topology.probe.matrix import LabProbe, Outcome


@dataclass(frozen=True)
class State:
    """What is wanted, and where the pods are."""

    cluster: Cluster
    places: Places


@dataclass
class Change:
    """A change of what is wanted; `closed` is infinite until it is announced as realized."""

    what: str
    begun: float
    closed: float = math.inf


@dataclass(frozen=True)
class Disturbance:
    """A node whose switch loses packets for a while."""

    node: str
    begun: float
    ended: float = math.inf


@dataclass(frozen=True)
class Observation:
    """One probe: when its first packet was sent, when its outcome was known, and which it was; where its ends were."""

    probe: LabProbe
    started: float
    ended: float
    outcome: Outcome
    source: Place
    destination: Place


@dataclass
class History:
    """All states in their order, and the changes between them."""

    states: list[State]
    changes: list[Change] = field(default_factory=list)

    def begin(self, what: str, state: State, now: float) -> Change:
        """A change to this state begins. Raises ValueError while another is open."""
        if self.changes and math.isinf(self.changes[-1].closed):
            raise ValueError(f"{self.changes[-1].what} is not realized yet")
        self.states.append(state)
        self.changes.append(Change(what, now))
        return self.changes[-1]

    def possible(self, started: float, ended: float) -> range:
        """The numbers of the states that may have been in force at some time within an interval."""
        numbers = [
            number
            for number in range(len(self.states))
            if (number == 0 or self.changes[number - 1].begun <= ended)
            and (number == len(self.changes) or self.changes[number].closed >= started)
        ]
        return range(numbers[0], numbers[-1] + 1)


class Oracle:
    """Judges observations by a history."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._verdicts: dict[tuple[int, LabProbe, Place, Place], tuple[bool, bool]] = {}

    def may(self, one: Observation) -> frozenset[bool]:
        """The verdicts that may have been in force within the probe's interval."""
        ends = [self._ends(number, one) for number in self._history.possible(one.started, one.ended)]
        if one.source.node == one.destination.node:
            return frozenset(egress and ingress for egress, ingress in ends)  # one switch, one bundle
        return frozenset(egress and ingress for egress, _ in ends for _, ingress in ends)

    def wrong(self, one: Observation, disturbances: Iterable[Disturbance]) -> str:
        """Why an outcome is wrong, "" if it is right."""
        if one.outcome is Outcome.WRONG:
            return f"{describe(one)}: another pod answered"
        may = self.may(one)
        if one.outcome.reachable in may:
            return ""
        if not one.outcome.reachable and self._excused(one, disturbances):
            return ""
        return f"{describe(one)}, but {self._reason(one)}"

    def _excused(self, one: Observation, disturbances: Iterable[Disturbance]) -> bool:
        ways = {one.source.node, one.destination.node}
        return any(d.node in ways and d.begun <= one.ended and d.ended >= one.started for d in disturbances)

    def _reason(self, one: Observation) -> str:
        numbers = self._history.possible(one.started, one.ended)
        states = f"state {numbers[0]}" if len(numbers) == 1 else f"each of the states {numbers[0]} to {numbers[-1]}"
        return f"{states} {'denies' if one.outcome.reachable else 'allows'} it"

    def _ends(self, number: int, one: Observation) -> tuple[bool, bool]:
        key = number, one.probe, one.source, one.destination
        found = self._verdicts.get(key)
        if found is None:
            found = self._verdicts[key] = self._decide(self._history.states[number], one)
        return found

    def _decide(self, state: State, one: Observation) -> tuple[bool, bool]:
        probe, ends = one.probe, []
        for name, place in ((probe.source, one.source), (probe.destination, one.destination)):
            if state.places.get(name) != place:
                return False, False
            ends.append(Endpoint(parse_address(place.address(probe.family)), pod=Key(*name.split("/"))))
        answer = verdict(state.cluster, Probe(ends[0], ends[1], Protocol[probe.protocol], probe.port))
        return answer.egress.allowed, answer.ingress.allowed


def describe(one: Observation) -> str:
    """An observation in words."""
    return f"{one.probe} was {one.outcome.value} between {one.started:.2f} and {one.ended:.2f} s"


def tally(observations: Iterable[Observation]) -> Counter[str]:
    """How many there were of each outcome."""
    return Counter(one.outcome.value for one in observations)
