"""Numbers of rules are a function of the set of rules, however it came about, and a collision moves nobody else."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.policy import rule_numbers
from flows.policy.rule_numbers import RuleNumbers, assign_numbers, nth_number

names = st.integers(0, 60).map(lambda n: b"rule %d" % n)


@given(st.lists(names, max_size=120), st.sampled_from((6, 7, 8)))
def test_kept_numbers_are_those_of_the_set(toggled: list[bytes], bits: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rule_numbers, "NUMBER_BITS", bits)
        numbers, known = RuleNumbers(), dict[bytes, int]()
        for name in toggled:
            if name in known:
                del known[name]
                numbers.leave(name)
            else:
                known[name] = 0
                known[name] = numbers.enter(name)
            for moved in numbers.moved:
                known[moved] = numbers.of(moved)
            numbers.moved.clear()
            assert known == assign_numbers(known)
            assert known == {one: numbers.of(one) for one in known}
            assert len(set(known.values())) == len(known) == len(numbers)
        for name in known:
            numbers.leave(name)
        assert not len(numbers)
        assert not numbers._attempts
        assert not numbers._waiting


def test_a_collision_moves_only_those_that_collide() -> None:
    found: dict[int, bytes] = {}
    pair: tuple[bytes, bytes] | None = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rule_numbers, "NUMBER_BITS", 16)
        for n in range(5000):
            name = b"%d" % n
            other = found.setdefault(nth_number(name, 0), name)
            if other != name:
                pair = other, name
                break
        assert pair is not None
        numbers = RuleNumbers()
        others = [name for name in found.values() if name not in pair]
        random.Random(1).shuffle(others)
        before = {name: numbers.enter(name) for name in others}
        first, last = sorted(pair)
        numbers.enter(last)
        assert numbers.of(last) == nth_number(last, 0)
        numbers.moved.clear()
        numbers.enter(first)
        assert numbers.moved == {last}
        assert numbers.of(last) != numbers.of(first) == nth_number(first, 0)
        assert {name: numbers.of(name) for name in others} == before
        numbers.leave(first)
        assert numbers.of(last) == nth_number(last, 0)


def test_numbers_stay_what_they_were_in_another_version() -> None:
    assert nth_number(b"a rule", 0) == 2034489882
