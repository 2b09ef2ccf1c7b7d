"""Runs schedules of faults, or a soak: `python -m tests.chaos run|soak` (`make chaos`, `make soak`). Needs root."""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.chaos.run import Report, run_schedule
from tests.chaos.schedule import Schedule, Step, make_schedule, read_schedule
from tests.chaos.shrink import shrink
from tests.chaos.soak import soak
from tests.chaos.stage import stage
from tests.helpers.api_server.assets import skipped
from tests.helpers.wall_clock import can_build
from topology.errors import LabError, MissingError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; 0 if nothing was wrong, 2 if it could not be run."""
    found = _parser().parse_args(arguments)
    if reason := skipped():
        say(reason)
        return 2
    if not can_build():
        say("chaos: no C compiler here, with which clocks are built that jump; install Debian's gcc and libc6-dev")
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started must end with this
    try:
        return int(found.run(found))
    except KeyboardInterrupt:
        say("chaos: interrupted")
        return 2
    except (LabError, MissingError, ValueError) as error:
        say(f"chaos: {error}")
        return 2


def say(line: str) -> None:
    """A line for whoever watches."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    jobs = parser.add_subparsers(required=True)
    run = jobs.add_parser("run", help="run schedules of faults")
    run.add_argument("--seed", type=int, default=None, help="the first seed; by chance without it")
    run.add_argument("--schedule", type=Path, help="a file that an earlier run has written; its seed counts")
    run.add_argument("--schedules", type=int, default=3, help="how many schedules, each with the next seed")
    run.add_argument("--seconds", type=float, default=40.0, help="of traffic in each schedule")
    run.add_argument("--faults", type=int, default=6, help="in each schedule")
    run.add_argument("--changes", type=int, default=12, help="of policies and pods in each schedule")
    run.add_argument("--pods", type=int, default=60)
    run.add_argument("--shrink", type=int, default=12, metavar="RUNS", help="runs at most, to make a failure smaller")
    run.add_argument("--out", type=Path, default=Path("build/chaos"), help="the folder for failures")
    run.set_defaults(run=_run)
    long = jobs.add_parser("soak", help="run schedules for hours, and measure")
    long.add_argument("--hours", type=float, default=1.0)
    long.add_argument("--seed", type=int, default=1)
    long.add_argument("--pods", type=int, default=60)
    long.add_argument("--out", type=Path, default=Path("build/soak"), help="the folder for the CSV and the plot")
    long.set_defaults(run=lambda given: soak(given.hours, given.seed, given.pods, given.out, say))
    return parser


def _run(given: argparse.Namespace) -> int:
    schedules = _schedules(given)
    reports = []
    for report in _reports(schedules, given.out, say):
        reports.append(report)
        if report.problems:
            _failed(report, given)
            return 1
    say(_total(reports))
    return 0


def _schedules(given: argparse.Namespace) -> list[Schedule]:
    if given.schedule is not None:
        return [read_schedule(given.schedule.read_text(encoding="utf-8"))]
    first = random.SystemRandom().randrange(1 << 31) if given.seed is None else given.seed
    return [
        make_schedule(first + number, given.seconds, given.pods, given.faults, given.changes)
        for number in range(given.schedules)
    ]


def _reports(schedules: Sequence[Schedule], out: Path, tell: Callable[[str], None]) -> list[Report]:
    """The reports of schedules on one stage, up to the first that fails."""
    found: list[Report] = []
    tell(f"starting an API server, 4 switches, 3 replicas and {schedules[0].pods} pods")
    with stage(schedules[0].pods, out / "logs") as ready:
        for schedule in schedules:
            tell(str(schedule))
            began = time.monotonic()
            found.append(run_schedule(ready, schedule))
            tell(f"{found[-1]}; {time.monotonic() - began:.0f} s")
            if found[-1].problems:
                break
    return found


def _failed(report: Report, given: argparse.Namespace) -> None:
    """Tell what is wrong, and write the schedule and a smaller one."""
    for line in report.problems[:40]:
        say(f"  WRONG: {line}")
    schedule = report.schedule
    _write(given.out / f"seed-{schedule.seed}.json", schedule)
    if given.shrink:
        say(f"looking for fewer steps that fail, in at most {given.shrink} runs")

        def fails(steps: Sequence[Step]) -> bool:
            return bool(_reports([schedule.only(steps)], given.out / "smaller", say)[0].problems)

        _write(
            given.out / f"seed-{schedule.seed}-small.json", schedule.only(shrink(schedule.steps, fails, given.shrink))
        )


def _write(path: Path, schedule: Schedule) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(schedule.text(), encoding="utf-8")
    say(f"run it again: make chaos SEED={schedule.seed} SCHEDULE={path} ({len(schedule.steps)} steps)")


def _total(reports: Sequence[Report]) -> str:
    faults = sum(len(one.schedule.faults) for one in reports)
    probes = sum(sum(one.outcomes.values()) for one in reports)
    messages = sum(one.messages for one in reports)
    changes = sum(one.changes for one in reports)
    return (
        f"{len(reports)} schedules, {faults} faults, {changes} changes, {probes} probes and "
        f"{messages} messages of traffic: none wrong, none lost, none leaked, never two writers"
    )


if __name__ == "__main__":
    sys.exit(main())
