"""All Services together have a budget: what came first stays, what waits gets room, and nothing is counted twice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.cluster.model import Key
from flows.services import limits
from flows.services.budget import ServiceBudget

A, B, C, D = (Key("x", name) for name in "abcd")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_COST", 100)
    monkeypatch.setattr(limits, "MAX_COST_OF_NEW", 80)


def test_what_came_first_stays_and_what_waits_gets_room() -> None:
    budget = ServiceBudget()
    assert budget.change({C: 50}) == (set(), [])
    assert budget.change({A: 40, B: 30}) == ({A}, [])
    assert budget.change({D: 1}) == ({D}, [])
    assert budget.waiting == [A, D]
    assert budget.change({C: 70}) == (set(), [])  # grows into the part that new ones do not get
    assert budget.change({C: 71}) == ({C}, [A])  # beyond everything: it waits itself, and another comes in
    assert budget.waiting == [C, D]  # in the order of their keys: D would have room
    assert budget.change({B: 0}) == (set(), [])
    assert budget.change({A: 0, D: 0}) == (set(), [C])
    assert budget.waiting == []


def test_one_that_shrinks_makes_room_for_another_of_the_same_change() -> None:
    budget = ServiceBudget()
    budget.change({A: 80})
    assert budget.change({A: 0, B: 80}) == (set(), [])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from([A, B, C, D]), st.integers(0, 90), min_size=1), max_size=12))
def test_it_is_never_overdrawn_and_says_all_that_changes(steps: list[dict[Key, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "MAX_COST", 100)
        patch.setattr(limits, "MAX_COST_OF_NEW", 80)
        budget = ServiceBudget()
        there: set[Key] = set()
        costs: dict[Key, int] = {}
        for step in steps:
            costs.update(step)
            before = set(there)
            refused, resumed = budget.change(step)
            there = (there - step.keys()) | {key for key in step if costs[key] and key not in refused} | set(resumed)
            assert sum(costs[key] for key in there) <= 100
            assert {key for key, cost in costs.items() if cost} == there | set(budget.waiting)
            assert not there & set(budget.waiting)
            assert before - step.keys() <= there  # nobody loses room by another's change
