"""The short form of the fault suite: one schedule with a fault of most kinds, on few pods."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.chaos.run import run_schedule
from tests.chaos.schedule import Kind, Schedule, Step
from tests.chaos.stage import stage
from tests.chaos.world import MIN_PODS
from tests.helpers.api_server.assets import skipped
from tests.helpers.wall_clock import can_build

pytestmark = [pytest.mark.api, pytest.mark.lab, pytest.mark.process, pytest.mark.switch, pytest.mark.slow]

STEPS = (
    Step(1.0, Kind.CUT_SWITCH.value, "r0/n1", 3.0),
    Step(1.5, Kind.POLICY.value, "y/closed"),
    Step(2.0, Kind.KILL.value, "r1", 1.0),
    Step(2.5, Kind.CUT_API.value, "r2", 2.0),
    Step(3.0, Kind.RELABEL.value, "x/p0"),
    Step(4.5, Kind.DATABASE.value, "n2", 0.2),
    Step(5.0, Kind.SWITCH.value, "n3", 0.2),
    Step(5.5, Kind.POLICY.value, "x/also-z"),
    Step(6.0, Kind.SLOW_DATABASE.value, "n0", 2.0),
    Step(6.5, Kind.SLOW_ETCD.value, "", 2.0),
    Step(7.0, Kind.READDRESS.value, "y/p1/n2"),
    Step(8.0, Kind.MOVE.value, "x/p0/n3"),
)
CLOCKS = (Step(1.0, Kind.CLOCK_BEHIND.value, "r0", 6.0), Step(2.0, Kind.CLOCK_AHEAD.value, "r2", 6.0))


def test_nothing_is_wrong_under_faults(record_property: Callable[[str, object], None]) -> None:
    if reason := skipped():
        pytest.skip(reason)
    with stage(MIN_PODS) as ready:
        steps = [*STEPS, *(CLOCKS if can_build() else ())]
        report = run_schedule(ready, Schedule(0, 8.0, MIN_PODS, tuple(sorted(steps))))
    record_property("counted", str(report))
    assert not report.problems, "\n".join([str(report), *report.problems])
    assert report.outcomes["allowed"] and report.outcomes["denied"] and report.terms.bundles
