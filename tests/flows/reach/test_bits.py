"""Sets of numbers as integers: dense and sparse ones, the empty one, and the edges."""

from __future__ import annotations

import random

import pytest

from flows.reach.bits import bits_between, bits_of, numbers_of, span


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 1.0])
def test_a_set_gives_its_numbers_back(share: float) -> None:
    chance = random.Random(int(share * 100))
    numbers = [n for n in range(3, 2000) if chance.random() < share]
    assert list(numbers_of(bits_of(numbers, 2000))) == list(numbers_of(bits_between(numbers))) == numbers


def test_a_span_has_its_first_and_not_its_end() -> None:
    assert list(numbers_of(span(7, 10))) == [7, 8, 9]
    assert span(7, 7) == 0
