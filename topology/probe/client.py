"""The clients: thousands of concurrent probes in one thread, which enters each network namespace to open its sockets.

A probe without an answer is repeated with a longer timeout before it counts as denied: on a busy machine answers can be
late, and a late answer is not a denial.
"""

from __future__ import annotations

import os
import selectors
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from topology.host.links import forget_neighbours
from topology.host.machine import has_sctp
from topology.host.netns import enter, in_thread
from topology.probe.attempts import (
    DatagramAttempt,
    EchoAttempt,
    EndpointSockets,
    ProbeAttempt,
    RawSctpAttempt,
    StreamAttempt,
)
from topology.probe.matrix import LabProbe, Matrix, Outcome
from topology.probe.pace import ProbePace
from topology.probe.servers import raise_file_limit
from topology.spec.address import LabEndpoint

PROBE_PATIENCE = (0.5, 1.0)
RETRY_PATIENCE = (1.5, 2.5)
MAX_PAIRS = 500
LAUNCH_BATCH = 16  # probes that are started before the sockets are polled again
Expectation = Callable[[LabProbe], bool]


def run_probes(
    probes: Iterable[LabProbe],
    endpoints: Mapping[str, LabEndpoint],
    netns_folder: Path,
    patience: Sequence[float] = PROBE_PATIENCE,
    expected: Expectation | None = None,
) -> Matrix:
    """Run all probes and return their outcomes, in the same order.

    `patience` has the seconds that each attempt waits for an answer. A denied probe that `expected` says is allowed is
    repeated with RETRY_PATIENCE. Runs in a thread of its own; the caller's network namespace does not change.
    """
    wanted = list(dict.fromkeys(probes))
    results = in_thread(lambda: _run(wanted, endpoints, netns_folder, patience, expected))
    return Matrix({probe: results[probe] for probe in wanted})


def _run(
    wanted: Sequence[LabProbe],
    endpoints: Mapping[str, LabEndpoint],
    netns_folder: Path,
    patience: Sequence[float],
    expected: Expectation | None,
) -> dict[LabProbe, Outcome]:
    raise_file_limit()
    results: dict[LabProbe, Outcome] = {}
    pending = sorted(wanted, key=lambda probe: probe.source)
    with _Prober(endpoints, netns_folder) as prober:
        for seconds in patience:
            prober.round(pending, seconds, results)
            pending = [probe for probe in pending if results[probe] is Outcome.DENIED]
        for seconds in RETRY_PATIENCE if expected is not None else ():
            pending = [probe for probe in pending if expected is not None and expected(probe)]
            if pending:
                # Neighbor entries of other labs count towards the same limit: free some, so that ARP can succeed.
                prober.forget_neighbours()
            prober.round(pending, seconds, results)
            pending = [probe for probe in pending if results[probe] is Outcome.DENIED]
    return results


def _portions(probes: Sequence[LabProbe]) -> list[list[LabProbe]]:
    """Split the probes into portions with at most MAX_PAIRS pairs of endpoints and family."""
    portions: list[list[LabProbe]] = [[]]
    pairs: set[tuple[str, str, int]] = set()
    for probe in probes:
        pair = (probe.source, probe.destination, probe.family)
        if pair not in pairs and len(pairs) == MAX_PAIRS:
            portions.append([])
            pairs = set()
        pairs.add(pair)
        portions[-1].append(probe)
    return portions


class _Prober:
    """The open namespaces and the event loop of one run, for one thread."""

    def __init__(self, endpoints: Mapping[str, LabEndpoint], netns_folder: Path) -> None:
        self._endpoints = endpoints
        self._folder = netns_folder
        self._selector = selectors.DefaultSelector()
        self._sources: dict[str, EndpointSockets] = {}
        self._namespaces: dict[str, int] = {}
        self._here = ""
        self._pace = ProbePace()
        self._kernel_sctp = has_sctp()

    def __enter__(self) -> _Prober:
        return self

    def __exit__(self, *_: object) -> None:
        for source in self._sources.values():
            source.close()
        for fd in self._namespaces.values():
            os.close(fd)
        self._selector.close()

    def round(self, probes: Sequence[LabProbe], patience: float, results: dict[LabProbe, Outcome]) -> None:
        """Run each probe once, waiting `patience` seconds for an answer; the outcomes go into `results`.

        All namespaces together have one limit of neighbor entries (net.ipv4.neigh.default.gc_thresh3, 1024 by default),
        a setting of the machine that a lab does not change. So many pairs run in portions, and the entries are deleted
        in between.
        """
        portions = _portions(probes)
        for portion in portions:
            if len(portions) > 1:
                self.forget_neighbours()
            self._portion(portion, patience, results)

    def forget_neighbours(self) -> None:
        """Empty the neighbor tables of all endpoints on this machine."""
        for name, endpoint in self._endpoints.items():
            if (self._folder / endpoint.netns).exists():
                self._enter(name)
                forget_neighbours()

    def _portion(self, probes: Sequence[LabProbe], patience: float, results: dict[LabProbe, Outcome]) -> None:
        """Run these probes, as many at once as the ProbePace allows.

        Probes without an answer for a while do not count: they are most likely denied and cause no load.
        """
        waiting = deque(probes)
        running: deque[tuple[float, LabProbe, ProbeAttempt]] = deque()
        while waiting or running:
            now = time.monotonic()
            fresh = sum(1 for started, _, _ in running if now - started < self._pace.fresh)
            for _ in range(min(len(waiting), LAUNCH_BATCH, self._pace.window - fresh)):
                probe = waiting.popleft()
                running.append((time.monotonic(), probe, self._launch(probe)))
            self._poll(0.0 if waiting and fresh + LAUNCH_BATCH < self._pace.window else 0.02)
            running = self._take_results(running, patience, results)

    def _take_results(
        self, running: Iterable[tuple[float, LabProbe, ProbeAttempt]], patience: float, results: dict[LabProbe, Outcome]
    ) -> deque[tuple[float, LabProbe, ProbeAttempt]]:
        """Take the outcomes of finished attempts; returns those that still run."""
        now = time.monotonic()
        # When answers are slow, a missing one takes longer to be certain.
        longest = patience + 4 * self._pace.delay
        still: deque[tuple[float, LabProbe, ProbeAttempt]] = deque()
        for started, probe, attempt in running:
            if attempt.outcome is None and now - started < longest:
                still.append((started, probe, attempt))
                continue
            if attempt.outcome is Outcome.ALLOWED:
                self._pace.answered(now - started, now)
            results[probe] = attempt.outcome or Outcome.DENIED
            attempt.close()
        return still

    def _poll(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            ready: Callable[[], None] = key.data
            ready()

    def _launch(self, probe: LabProbe) -> ProbeAttempt:
        source = self._enter(probe.source)
        target = self._endpoints[probe.destination]
        attempt: ProbeAttempt
        if probe.protocol == "TCP" or (probe.protocol == "SCTP" and self._kernel_sctp):
            attempt = StreamAttempt(source, probe, target, self._selector)
        elif probe.protocol == "UDP":
            attempt = DatagramAttempt(source, probe, target, self._selector)
        elif probe.protocol == "SCTP":
            attempt = RawSctpAttempt(source, probe, target)
        else:
            attempt = EchoAttempt(source, probe, target)
        attempt.start()
        return attempt

    def _enter(self, name: str) -> EndpointSockets:
        """Enter the namespace of the endpoint; returns its shared sockets."""
        if name != self._here:
            if name not in self._namespaces:
                path = self._folder / self._endpoints[name].netns
                self._namespaces[name] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            enter(self._namespaces[name])
            self._here = name
        if name not in self._sources:
            self._sources[name] = EndpointSockets(self._endpoints[name], self._selector)
        return self._sources[name]
