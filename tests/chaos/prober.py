"""Probes at random, all the time, in one thread: each opens a connection of its own and is seen to its end.

Judges nothing: see `history`.
"""

from __future__ import annotations

import os
import random
import selectors
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.chaos.history import Observation
from tests.chaos.places import Place, Places
from tests.chaos.world import FAMILIES, PORTS, PROTOCOLS
from topology.host.netns import enter
from topology.probe.attempts import DatagramAttempt, EndpointSockets, ProbeAttempt, StreamAttempt
from topology.probe.background import Background
from topology.probe.matrix import LabProbe, Outcome
from topology.probe.servers import raise_file_limit
from topology.spec.address import LabEndpoint

# Long enough for a second SYN, after one second: a probe is no measurement of a loaded machine.
PATIENCE = {"TCP": 3.5, "UDP": 1.5}
TICK = 0.02


class _Running(NamedTuple):
    """A probe under way."""

    started: float
    probe: LabProbe
    attempt: ProbeAttempt
    here: Place
    there: Place


class _Source(NamedTuple):
    """What is open in a pod's network namespace. It is another namespace in each life of the pod."""

    place: Place
    sockets: EndpointSockets
    namespace: int

    def close(self) -> None:
        self.sockets.close()
        os.close(self.namespace)


class Prober(Background):
    """A context, in which `rate` probes a second are sent between `pairs`, whose pods are at `places`. `observed` has
    what came of them, in seconds of `clock`. Pairs of which one is not there are left out.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[str, str]],
        places: Callable[[], Places],
        endpoints: Mapping[str, LabEndpoint],
        netns_folder: Path,
        seed: int,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.observed: list[Observation] = []
        self._pairs, self._places, self._endpoints, self._folder = pairs, places, endpoints, netns_folder
        self._chance = random.Random(seed)
        self._rate = rate
        self._clock = clock
        super().__init__("prober")
        self._selector = selectors.DefaultSelector()
        self._sources: dict[str, _Source] = {}
        self._running: deque[_Running] = deque()
        self.failure: Exception | None = None

    def _run(self) -> None:
        """A thread of its own, since it enters network namespaces. It sees every probe to its end."""
        raise_file_limit()
        try:
            due = self._clock()
            while not self._stopping.is_set() or self._running:
                if self._stopping.is_set() or self._clock() < due:
                    self._poll(TICK)
                else:
                    self._launch(self._draw())
                    due += 1 / self._rate
                    self._poll(0.0)
                self._take_results()
        except Exception as error:  # noqa: BLE001 - a prober that has ended must not pass for one that saw nothing wrong
            self.failure = error

    def _draw(self) -> LabProbe:
        source, destination = self._chance.choice(self._pairs)
        choose = self._chance.choice
        return LabProbe(source, destination, choose(PROTOCOLS), choose(PORTS), choose(FAMILIES))

    def _launch(self, probe: LabProbe) -> None:
        places = self._places()
        here, there = places.get(probe.source), places.get(probe.destination)
        if here is None or there is None:
            return
        kind = StreamAttempt if probe.protocol == "TCP" else DatagramAttempt
        started = self._clock()
        attempt: ProbeAttempt | None = None
        try:
            source = self._enter(probe.source, here)
            attempt = kind(source, probe, there.endpoint(self._endpoints[probe.destination]), self._selector)
            attempt.start()
        except OSError:  # the pod is just going: its namespace or its address is gone
            if attempt is not None:
                attempt.close()
            self.observed.append(Observation(probe, started, self._clock(), Outcome.DENIED, here, there))
            return
        self._running.append(_Running(started, probe, attempt, here, there))

    def _poll(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            ready: Callable[[], None] = key.data
            ready()

    def _take_results(self) -> None:
        now = self._clock()
        still: deque[_Running] = deque()
        for one in self._running:
            outcome = one.attempt.outcome
            if outcome is None and now < one.started + PATIENCE[one.probe.protocol]:
                still.append(one)
                continue
            found = Observation(one.probe, one.started, now, outcome or Outcome.DENIED, one.here, one.there)
            self.observed.append(found)
            one.attempt.close()
        self._running = still

    def _enter(self, name: str, place: Place) -> EndpointSockets:
        """Enter the pod's network namespace. Raises OSError where it is gone."""
        before = self._sources.get(name)
        if before is None or before.place != place:
            endpoint = place.endpoint(self._endpoints[name])
            namespace = os.open(self._folder / endpoint.netns, os.O_RDONLY | os.O_CLOEXEC)
            if before is not None:
                before.close()
            self._sources[name] = _Source(place, EndpointSockets(endpoint, self._selector), namespace)
        enter(self._sources[name].namespace)
        return self._sources[name].sockets

    def _close(self) -> None:
        for one in self._running:
            one.attempt.close()
        for source in self._sources.values():
            source.close()
        self._selector.close()
