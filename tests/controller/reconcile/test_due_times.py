"""The kept times at which switches are due equal the smallest of all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.reconcile.due_times import DueTimes

STEPS = st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 20).map(float)), max_size=300)


@given(STEPS, st.sets(st.integers(0, 5)))
def test_the_earliest_time_is_that_of_a_known_switch(steps: list[tuple[int, float | None]], known: set[int]) -> None:
    kept, times = DueTimes(), dict[int, float]()
    for dpid, at in steps:
        kept.set(dpid, at)
        times.pop(dpid, None)
        if at is not None:
            times[dpid] = at
        times = {one: time for one, time in times.items() if one in known}
        assert kept.earliest(known) == min(times.values(), default=None)
    assert len(kept) <= 6


def test_times_that_are_set_again_and_again_take_no_more_room() -> None:
    kept = DueTimes()
    for number in range(10_000):
        kept.set(number % 3, float(number))
    assert kept.entries < 200
    assert kept.earliest(range(3)) == 9997.0
