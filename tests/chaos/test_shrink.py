"""Shrinking: what is left still fails, nothing of it can be left out, and the questions are bounded."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.schedule import Step, make_schedule
from tests.chaos.shrink import shrink


@given(st.sets(st.integers(0, 29), max_size=4), st.integers(1, 30))
def test_the_smallest_part_is_found(guilty: set[int], size: int) -> None:
    guilty = {one for one in guilty if one < size}
    assert set(shrink(range(size), lambda kept: guilty <= set(kept), 10_000)) == guilty


@given(st.integers(0, 20), st.sets(st.integers(0, 29), max_size=4))
def test_questions_are_bounded_and_the_result_fails(runs: int, guilty: set[int]) -> None:
    asked: list[Sequence[int]] = []

    def fails(kept: Sequence[int]) -> bool:
        asked.append(kept)
        return guilty <= set(kept)

    assert guilty <= set(shrink(range(30), fails, runs))
    assert len(asked) <= runs


def test_one_of_two_that_fail_alone_is_enough() -> None:
    assert len(shrink("abcdefgh", lambda kept: "c" in kept or "f" in kept, 100)) == 1


def test_a_schedule_shrinks_to_the_steps_that_it_takes() -> None:
    made = make_schedule(3)
    one, other = made.steps[2], made.steps[9]

    def fails(kept: Sequence[Step]) -> bool:
        return {one, other} <= set(made.only(kept).steps)

    assert made.only(shrink(made.steps, fails, 200)).steps == (one, other)
