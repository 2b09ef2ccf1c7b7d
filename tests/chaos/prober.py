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

from tests.chaos.history import Observation
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


class Prober(Background):
    """A context, in which `rate` probes a second are sent between `pairs`. `observed` has what came of them, in seconds
    of `clock`.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[str, str]],
        endpoints: Mapping[str, LabEndpoint],
        netns_folder: Path,
        seed: int,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.observed: list[Observation] = []
        self._pairs, self._endpoints, self._folder = pairs, endpoints, netns_folder
        self._chance = random.Random(seed)
        self._rate = rate
        self._clock = clock
        super().__init__("prober")
        self._selector = selectors.DefaultSelector()
        self._sources: dict[str, EndpointSockets] = {}
        self._namespaces: dict[str, int] = {}
        self._running: deque[tuple[float, LabProbe, ProbeAttempt]] = deque()
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
        finally:
            self._close()

    def _draw(self) -> LabProbe:
        source, destination = self._chance.choice(self._pairs)
        choose = self._chance.choice
        return LabProbe(source, destination, choose(PROTOCOLS), choose(PORTS), choose(FAMILIES))

    def _launch(self, probe: LabProbe) -> None:
        source, target = self._enter(probe.source), self._endpoints[probe.destination]
        kind = StreamAttempt if probe.protocol == "TCP" else DatagramAttempt
        attempt = kind(source, probe, target, self._selector)
        self._running.append((self._clock(), probe, attempt))
        attempt.start()

    def _poll(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            ready: Callable[[], None] = key.data
            ready()

    def _take_results(self) -> None:
        now = self._clock()
        still: deque[tuple[float, LabProbe, ProbeAttempt]] = deque()
        for started, probe, attempt in self._running:
            if attempt.outcome is None and now < started + PATIENCE[probe.protocol]:
                still.append((started, probe, attempt))
                continue
            self.observed.append(Observation(probe, started, now, attempt.outcome or Outcome.DENIED))
            attempt.close()
        self._running = still

    def _enter(self, name: str) -> EndpointSockets:
        if name not in self._namespaces:
            self._namespaces[name] = os.open(self._folder / self._endpoints[name].netns, os.O_RDONLY | os.O_CLOEXEC)
        enter(self._namespaces[name])
        if name not in self._sources:
            self._sources[name] = EndpointSockets(self._endpoints[name], self._selector)
        return self._sources[name]

    def _close(self) -> None:
        for _, _, attempt in self._running:
            attempt.close()
        for source in self._sources.values():
            source.close()
        for number in self._namespaces.values():
            os.close(number)
        self._selector.close()
