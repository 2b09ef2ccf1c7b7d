"""What is flat and what grows, told apart by slopes; the soak's sentences and its plot."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.plot import LEFT, PLOT_HEIGHT, PLOT_WIDTH, TOP, svg
from tests.chaos.slopes import slope
from tests.chaos.soak import Progress, Sample, growing, plot
from tests.chaos.world import NODES, REPLICAS
from tests.helpers.waiting import until


@given(st.floats(1, 1e6), st.floats(-0.5, 0.5), st.integers(8, 100))
def test_the_slope_of_a_line_is_found(mean: float, per_hour: float, count: int) -> None:
    points = [(n / count, mean * (1 + per_hour * (n / count - 0.5))) for n in range(count)]
    found = slope(points)
    assert found is not None
    assert abs(found.per_hour - per_hour) < 0.2 * abs(per_hour) + 1e-6
    assert found.error < 1e-6
    assert found.grows(0.02) == (found.per_hour - 2 * found.error > 0.02)


def test_too_few_samples_say_nothing() -> None:
    assert slope([]) is None
    assert slope([(0.0, 1.0)] * 100) is None
    assert slope([(n / 4, 1.0) for n in range(5)]) is None


def test_warming_up_is_no_growth() -> None:
    points = [(n / 20, 100.0 if n > 4 else 20.0 * n) for n in range(41)]
    found = slope(points)
    assert found is not None and not found.grows(0.0)


def samples(of_r0: float) -> list[Sample]:
    """Two hours, noise of 1 %; r0 grows by this part in an hour, and r2 begins anew each time."""
    chance = random.Random(1)
    made = []
    for number in range(60):
        hours = number / 30
        for name in REPLICAS:
            grown = of_r0 * hours if name == "r0" else hours if name == "r2" else 0.0
            made.append(Sample(hours, number, name, "memory", 100 * (1 + grown + chance.uniform(-0.01, 0.01))))
            made.append(Sample(hours, number, name, "descriptors", 40))
        made += [Sample(hours, number, node, "flows", 900) for node in NODES]
    return made


def test_a_leak_is_told_and_noise_is_not() -> None:
    assert growing(samples(0.0)) == []
    (line,) = growing(samples(0.1))
    assert line.startswith("memory of r0 grows by")


def test_one_flow_more_each_time_is_told() -> None:
    more = [one._replace(value=900 + one.schedule) if one.who == "n1" else one for one in samples(0.0)]
    (line,) = growing(more)
    assert line.startswith("flows of n1 grows by")


def test_progress_is_told_until_the_schedule_ends(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []

    def line() -> str:
        told.append(f"line {len(told)}")
        return told[-1]

    with Progress(line, 0.001):
        until(lambda: len(told) >= 3)
    assert capsys.readouterr().err.splitlines() == told


def test_the_plot_has_every_line_that_is_judged() -> None:
    text = plot([one for one in samples(0.0) if one.hours > 0])
    for name in ("memory of r0, 100", "descriptors of r1, 40", "flows of n3, 900"):
        assert name in text
    assert "r2" not in text


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=30), st.floats(0, 1e5))
def test_a_linear_scale_has_all_values_and_some_ticks(values: list[float], other: float) -> None:
    text = svg("t", "x", "y", {"line": list(enumerate(values)), "other": [(0.0, other)]}, linear=True)
    for x, y in re.findall(r'<circle cx="([^"]*)" cy="([^"]*)"', text):
        assert LEFT - 1 <= float(x) <= PLOT_WIDTH and TOP - 1 <= float(y) <= PLOT_HEIGHT
    assert 2 <= text.count("<text") <= 30
