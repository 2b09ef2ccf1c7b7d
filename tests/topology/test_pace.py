"""How many probes are under way at once follows from how soon answers come."""

from __future__ import annotations

from topology.probe.pace import FIRST_WINDOW, MAX_WINDOW, MIN_WINDOW, ProbePace


def test_quick_answers_open_the_window_to_its_limit() -> None:
    pace = ProbePace()
    assert pace.window == FIRST_WINDOW
    for n in range(MAX_WINDOW):
        pace.answered(0.005, n * 0.001)
    assert pace.window == MAX_WINDOW


def test_late_answers_halve_it_once_for_all_that_were_under_way_together() -> None:
    pace = ProbePace()
    for n in range(20):
        pace.answered(0.5, 10 + n * 0.001)
    assert pace.window == FIRST_WINDOW // 2
    pace.answered(0.5, 11)
    assert pace.window == MIN_WINDOW
    pace.answered(0.5, 12)
    assert pace.window == MIN_WINDOW


def test_where_answers_are_slow_one_waits_longer_for_the_missing() -> None:
    pace = ProbePace()
    before = pace.fresh
    for n in range(50):
        pace.answered(1.0, float(n))
    assert pace.delay > 0.9
    assert pace.fresh > 2.7 > before
