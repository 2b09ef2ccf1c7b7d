"""Runs schedules for hours on one stage, and measures what must not grow: memory, descriptors, flows.

Only one replica is killed and stopped in a soak: the others live through all of it, and what they need is what must be
flat. Writes `soak.csv` and `soak.svg`; slopes are judged by `slopes`, absolute sizes are not.
"""

from __future__ import annotations

import csv
import os
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench.plot import svg
from tests.chaos.run import run_schedule
from tests.chaos.schedule import make_schedule
from tests.chaos.slopes import Slope, slope
from tests.chaos.stage import Stage, stage
from topology.probe.background import Background

VICTIMS = ("r2",)
# Parts of the mean in an hour that count as growth.
LIMITS = {"memory": 0.02, "descriptors": 0.02, "flows": 0.0}
SETTLE_SECONDS = 2.0
EVERY_SECONDS = 60.0  # between two lines of progress
PLOTTED = 60  # points of a line
COLUMNS = ("hours", "schedule", "who", "what", "value")


class Sample(NamedTuple):
    """One measurement: megabytes of memory, descriptors, or flows of a switch."""

    hours: float
    schedule: int
    who: str
    what: str
    value: float


def soak(hours: float, seed: int, pods: int, out: Path, say: Callable[[str], None]) -> int:
    """Run for so long; 1 if something was wrong or grows, else 0."""
    out.mkdir(parents=True, exist_ok=True)
    samples: list[Sample] = []
    problems: list[str] = []
    start = time.monotonic()
    with stage(pods, out / "logs") as ready, (out / "soak.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        number = 0
        while (elapsed := (time.monotonic() - start) / 3600) < hours or number < 2:
            ready.renew_tokens()
            ready.forget_bundles()
            with Progress(partial(_progress, ready, start, hours, number), EVERY_SECONDS):
                report = run_schedule(ready, make_schedule(seed + number, pods=pods, victims=VICTIMS))
            say(f"{elapsed:.2f} h: {report}")
            problems += [f"seed {seed + number}: {line}" for line in report.problems]
            time.sleep(SETTLE_SECONDS)
            for sample in measure(ready, (time.monotonic() - start) / 3600, number):
                samples.append(sample)
                writer.writerow(sample)
            file.flush()
            if report.stuck:
                break
            number += 1
    (out / "soak.svg").write_text(plot(samples), encoding="utf-8")
    problems += growing(samples)
    for line in problems:
        say(f"  WRONG: {line}")
    judged = slopes(samples)
    steepest = max(judged, key=lambda key: judged[key].per_hour, default=None)
    said = "too short to judge growth"
    if steepest is not None:
        (who, what), most = steepest, judged[steepest]
        said = f"{len(judged)} lines judged, the steepest {what} of {who}, "
        said += f"{most.per_hour:+.1%} an hour (+- {most.error:.1%})"
    say(f"{number} schedules in {hours:g} h, {len(problems)} problems; {said}; {out}/soak.csv, {out}/soak.svg")
    return 1 if problems else 0


class Progress(Background):
    """A context that writes a line to standard error at equal times, so that a silent hour is no hanging one."""

    def __init__(self, line: Callable[[], str], seconds: float) -> None:
        super().__init__("progress")
        self._line, self._seconds = line, seconds

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            sys.stderr.write(f"{self._line()}\n")
            sys.stderr.flush()


def _progress(ready: Stage, start: float, hours: float, number: int) -> str:
    elapsed = (time.monotonic() - start) / 3600
    running = sum(one.process is not None for one in ready.replicas.values())
    cut = ", ".join(sorted(ready.links.cuts())) or "none"
    return f"{elapsed:.2f} of {hours:g} h: schedule {number}, {running} replicas run, cut links: {cut}"


def measure(ready: Stage, hours: float, number: int) -> Iterator[Sample]:
    """What every replica needs and every switch has now."""
    for name, one in ready.replicas.items():
        if one.process is not None:
            status = Path(f"/proc/{one.process.pid}/status").read_text(encoding="utf-8")
            (kilobytes,) = re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
            yield Sample(hours, number, name, "memory", int(kilobytes) / 1024)
            yield Sample(hours, number, name, "descriptors", len(os.listdir(f"/proc/{one.process.pid}/fd")))
    for node, flows in ready.flows().items():
        yield Sample(hours, number, node, "flows", len(flows))


def series(samples: Sequence[Sample]) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """The samples by who and what, as hours and values."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for one in samples:
        found[one.who, one.what].append((one.hours, one.value))
    return dict(found)


def growing(samples: Sequence[Sample]) -> list[str]:
    """What grows, in words."""
    return [
        f"{what} of {who} grows by {line.per_hour:.1%} an hour (+- {line.error:.1%})"
        for (who, what), line in slopes(samples).items()
        if line.grows(LIMITS[what])
    ]


def slopes(samples: Sequence[Sample]) -> dict[tuple[str, str], Slope]:
    """The slopes by who and what. Those that are killed begin anew each time, and are not judged, nor are too few."""
    found = {key: slope(points) for key, points in series(samples).items() if key[0] not in VICTIMS}
    return {key: line for key, line in found.items() if line is not None}


def plot(samples: Sequence[Sample]) -> str:
    """The text of an SVG file: every line that is judged, in parts of its mean, over minutes."""
    lines = {}
    for (who, what), points in series(samples).items():
        mean = sum(value for _, value in points) / len(points)
        if who not in VICTIMS and mean:
            shown = points[:: max(1, len(points) // PLOTTED)]
            lines[f"{what} of {who}, {mean:,.0f}"] = [(60 * at, 100 * value / mean) for at, value in shown]
    return svg("What a fleet under faults needs", "minutes", "% of the mean, which is in MB for memory", lines, True)
