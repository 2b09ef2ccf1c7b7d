"""Schedules: one for each seed, the same after a file, and any part of one is one."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.schedule import (
    CHANGES,
    CLOCKS,
    CUTS,
    FIRST_AT,
    MOVES,
    PROCESS,
    Kind,
    Schedule,
    Step,
    links_of,
    make_schedule,
    read_schedule,
    touched,
)
from tests.chaos.world import FLAPPING, NODES, REPLICAS, World

SEEDS = st.integers(0, 1 << 31)


@given(SEEDS)
def test_a_seed_has_one_schedule_and_a_file_keeps_it(seed: int) -> None:
    made = make_schedule(seed)
    assert made == make_schedule(seed)
    assert read_schedule(made.text()) == made
    assert list(made.steps) == sorted(made.steps)


@given(SEEDS, st.integers(0, 12))
def test_no_two_faults_break_the_same_thing_at_once(seed: int, faults: int) -> None:
    made = make_schedule(seed, faults=faults)
    for one, other in combinations(made.faults, 2):
        if touched(one) & touched(other):
            assert one.at + one.seconds < other.at or other.at + other.seconds < one.at


@given(SEEDS)
def test_steps_concern_what_there_is(seed: int) -> None:
    made = make_schedule(seed, pods=20, victims=("r2",))
    for step in made.steps:
        assert step.at >= FIRST_AT
        if step.what in PROCESS:
            assert step.target == "r2"
        elif step.what in CUTS:
            replica, _, node = step.target.partition("/")
            assert replica in REPLICAS and (node in NODES or step.what is Kind.CUT_API)
            assert links_of(step)
        elif step.what in MOVES:
            key, _, node = step.target.rpartition("/")
            assert key in World(20).movable and node in NODES
        elif step.what in CLOCKS:
            assert step.target in REPLICAS
        elif step.what is Kind.POLICY:
            assert step.target in FLAPPING
        elif step.what is Kind.RELABEL:
            assert step.target in World(20).movable


def test_every_kind_comes_up() -> None:
    kinds = {step.what for seed in range(60) for step in make_schedule(seed).steps}
    assert kinds == set(Kind)
    assert {Kind.POLICY, Kind.RELABEL} | MOVES == CHANGES


def test_a_part_of_a_schedule_keeps_everything_else() -> None:
    made = make_schedule(7)
    part = made.only(made.steps[::-2])
    assert (part.seed, part.seconds, part.pods) == (made.seed, made.seconds, made.pods)
    assert list(part.steps) == sorted(made.steps[::-2])


SCHEDULE = '{"seed":1,"seconds":1,"pods":1,"steps":[%s]}'
STRANGE = ('{"at":1}', '{"at":1,"kind":"flood","target":"","seconds":1}')


@pytest.mark.parametrize("text", ["[]", "{", '{"seed": 1}', *(SCHEDULE % one for one in STRANGE)])
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_schedule(text)


def test_a_step_in_words() -> None:
    assert str(Step(1.5, "kill", "r0", 2.0)) == "  1.50 s  kill r0 for 2 s"
    assert "seed 3" in str(Schedule(3, 10.0, 12, ()))


def test_the_fixed_pods_do_not_depend_on_the_size() -> None:
    small, large = World(12), World(60)
    assert len(large.pods) == 60
    assert small.pods == large.pods[: len(small.pods)]
    assert {pod.node for pod in small.pods} == set(NODES)
    assert small.pairs(1) == small.pairs(1)
    assert all(pod in large.movable for pair in large.pairs(2) for pod in pair)
