"""Runs one schedule on a stage and reports: probes and what was wrong with them, traffic, writers, what got stuck."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from tests.chaos.changes import Changer
from tests.chaos.faults import Breaker
from tests.chaos.history import Disturbance, Oracle, tally
from tests.chaos.lost_frames import MACHINE, LostFrames
from tests.chaos.places import Places
from tests.chaos.prober import Prober
from tests.chaos.schedule import Schedule, Step
from tests.chaos.stage import Stage, shifted
from tests.chaos.world import FAMILIES, NODES, PROTOCOLS
from tests.chaos.writers import Terms, terms, two_writers
from topology.probe.matrix import LabProbe
from topology.probe.traffic import Capture, Traffic, TrafficFlow

PROBE_RATE = 60.0  # a second
TRAFFIC_INTERVAL = 0.05  # seconds between the messages of a flow
ANSWER_SECONDS = 20.0  # for the last answers of traffic
GRACE_SECONDS = 90.0  # after the last step, until everything must be as it was
IP_NUMBERS = {"TCP": 6, "UDP": 17}
SERVERS, STRANGERS = ("w/s0", "w/s1"), ("w/d2", "w/d3")
CLIENTS = tuple(f"w/c{number}" for number in range(len(NODES)))
ALLOWED = [LabProbe(client, server, protocol, 80, family)
           for client in CLIENTS for server in SERVERS for protocol in PROTOCOLS for family in FAMILIES]  # fmt: skip
FIXED_PAIRS = [(one, server) for one in (*CLIENTS, *STRANGERS) for server in SERVERS]


@dataclass
class Report:
    """What came of a schedule. Every list has a line for each thing that is wrong, and is empty if nothing is."""

    schedule: Schedule
    wrong: list[str] = field(default_factory=list)
    writers: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    changes: int = 0
    longest_window: float = 0.0
    terms: Terms = field(default_factory=lambda: Terms(0, 0))
    messages: int = 0
    lost: int = 0
    leaked: int = 0
    lost_frames: str = ""

    @property
    def problems(self) -> list[str]:
        """Everything that is wrong."""
        found = [*self.wrong, *self.writers, *self.stuck]
        if self.lost:
            found.append(f"{self.lost} messages of allowed traffic were lost")
        if self.leaked:
            found.append(f"{self.leaked} packets of denied traffic arrived")
        return found

    def __str__(self) -> str:
        probes = ", ".join(f"{count} {name}" for name, count in sorted(self.outcomes.items()))
        return (
            f"seed {self.schedule.seed}: {len(self.schedule.faults)} faults, {self.changes} changes (the longest "
            f"window {self.longest_window:.1f} s), {sum(self.outcomes.values())} probes ({probes}), "
            f"{len(self.wrong)} wrong; "
            f"traffic: {self.messages} messages, {self.lost} lost, {self.leaked} leaked; {self.terms.terms} terms of "
            f"primaries, {self.terms.bundles} bundles, {len(self.writers)} by two writers; {len(self.stuck)} stuck"
            f"; frames lost before the switches: {self.lost_frames or 'none'}"
        )


def run_schedule(stage: Stage, schedule: Schedule) -> Report:
    """Run it. The stage is whole before, and after it if nothing is wrong."""
    start = time.monotonic()
    report = Report(schedule)
    run = _Run(stage, schedule, report, lambda: time.monotonic() - start)
    before = stage.flows()
    first = len(stage.heard)
    with ExitStack() as stack:
        netns = {name: node.netns for name, node in stage.lab.nodes.items()}
        lost_frames = stack.enter_context(LostFrames(netns, run.clock))
        captures = [stack.enter_context(stage.lab.capture(server)) for server in SERVERS]
        traffic = stack.enter_context(stage.lab.traffic(ALLOWED, TRAFFIC_INTERVAL))
        pairs = [*stage.world.pairs(schedule.seed), *FIXED_PAIRS]
        ends, folder = stage.lab.endpoints, stage.lab.netns_folder
        prober = Prober(pairs, run.places, ends, folder, schedule.seed, PROBE_RATE, run.clock)
        with prober:
            run.steps()
        run.settle(traffic)
    if prober.failure is not None:
        raise prober.failure
    run.judge(prober, lost_frames)
    report.leaked = sum(_leaked(stage, capture) for capture in captures)
    if not report.stuck:
        report.stuck += _differing(before, stage.flows())
    heard = shifted(stage.heard[first:], start)
    # Roles that were given before the schedule began count, too.
    report.writers = two_writers([*shifted(stage.heard[:first], start), *heard])
    report.terms = terms(heard)
    return report


class _Run:
    """One run under way."""

    def __init__(self, stage: Stage, schedule: Schedule, report: Report, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._stage, self._schedule, self._report = stage, schedule, report
        self._disturbed: list[Disturbance] = []
        self._changer = Changer(stage, clock, self._over)
        self._breaker = Breaker(stage, self._disturbed, clock, self._over)

    def places(self) -> Places:
        """Where the pods are now that may be probed."""
        return self._changer.places

    def steps(self) -> None:
        """All steps at their times, everything back as it was, and the end of the schedule."""
        threads = [
            threading.Thread(target=self._fault, args=(step,), name=str(step), daemon=True)
            for step in self._schedule.faults
        ]
        for one in threads:
            one.start()
        self._changer.carry_out([step for step in self._schedule.steps if step.is_change])
        for one in threads:
            one.join()
        self._changer.back()
        if (left := self._schedule.seconds - self.clock()) > 0:
            time.sleep(left)

    def settle(self, traffic: Traffic) -> None:
        """Until everything is as it was; then count the traffic."""
        try:
            self._stage.until_whole(max(20.0, self._deadline() - self.clock()))
        except AssertionError as error:
            self._report.stuck.append(f"the replicas are not whole again: {error}")
        disturbed = {one.node for one in self._disturbed}
        counted = [flow for flow in traffic.flows if not self._nodes(flow) & disturbed]
        traffic.drain(0.0)
        end = time.monotonic() + ANSWER_SECONDS
        while any(flow.lost for flow in counted) and time.monotonic() < end:
            time.sleep(0.05)
        self._report.messages = sum(flow.sent for flow in traffic.flows)
        self._report.lost = sum(flow.lost for flow in counted)
        self._flows_again(traffic)

    def judge(self, prober: Prober, lost_frames: LostFrames) -> None:
        """Have the oracle judge every probe; a wrong one tells which frames were lost meanwhile."""
        history, report = self._changer.history, self._report
        oracle = Oracle(history)
        for one in prober.observed:
            if line := oracle.wrong(one, self._disturbed):
                lost = lost_frames.between((one.source.node, one.destination.node, MACHINE), one.started, one.ended)
                report.wrong.append(f"{line}; frames lost before the switches meanwhile: {_frames(lost) or 'none'}")
        report.lost_frames = lost_frames.unknown or _frames(lost_frames.total())
        report.outcomes = tally(prober.observed)
        report.changes = len(history.changes)
        windows = [one.closed - one.begun for one in history.changes]
        report.longest_window = max((one for one in windows if math.isfinite(one)), default=0.0)
        report.stuck += [f"not realized: {one.what}" for one in history.changes if math.isinf(one.closed)]
        report.stuck += [f"{one.node} is not realized again" for one in self._disturbed if math.isinf(one.ended)]

    def _fault(self, step: Step) -> None:
        while self.clock() < step.at:
            time.sleep(0.01)
        try:
            self._breaker.carry_out(step)
        except Exception as error:  # noqa: BLE001 - a fault that fails is told with all others, not in its thread
            self._report.stuck.append(f"{step}: {error!r}")

    def _flows_again(self, traffic: Traffic) -> None:
        before = traffic.counts()
        traffic.resume()
        end = time.monotonic() + 30.0
        silent = list(before)
        while silent and time.monotonic() < end:
            time.sleep(0.1)
            silent = [probe for probe, (_, answered) in traffic.counts().items() if answered <= before[probe][1]]
        self._report.stuck += [f"{probe} does not flow again" for probe in silent]

    def _nodes(self, flow: TrafficFlow) -> set[str]:
        nodes = {pod.key: pod.node for pod in self._stage.world.pods}
        return {nodes[flow.probe.source], nodes[flow.probe.destination]}

    def _deadline(self) -> float:
        ends = [step.at + step.seconds for step in self._schedule.steps]
        return max([self._schedule.seconds, *ends]) + GRACE_SECONDS

    def _over(self) -> bool:
        return self.clock() > self._deadline()


def _frames(lost: Counter[str]) -> str:
    """How many frames were lost, and where."""
    return ", ".join(f"{count} at {node}" for node, count in sorted(lost.items()))


def _leaked(stage: Stage, capture: Capture) -> int:
    sources = (stage.lab.endpoints[one] for one in STRANGERS)
    return sum(capture.count(source, number, 80) for source in sources for number in IP_NUMBERS.values())


def _differing(before: dict[str, list[str]], after: dict[str, list[str]]) -> list[str]:
    found = []
    for node, lines in before.items():
        more, less = set(after[node]) - set(lines), set(lines) - set(after[node])
        if more or less:
            found.append(f"{node} has other flows than before: {sorted(more)[:3]} for {sorted(less)[:3]}")
    return found
