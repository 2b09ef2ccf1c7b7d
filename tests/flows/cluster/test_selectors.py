"""Label selectors: every operator against present, different and missing keys."""

from __future__ import annotations

import pytest

from flows.cluster.model import EVERYTHING, Operator, Requirement, Selector
from flows.cluster.selectors import matches, requirement_holds

IN_A = Requirement("app", Operator.IN, ("a",))
IN_AB = Requirement("app", Operator.IN, ("a", "b"))
NOT_A = Requirement("app", Operator.NOT_IN, ("a",))
EXISTS = Requirement("app", Operator.EXISTS)
MISSING = Requirement("app", Operator.DOES_NOT_EXIST)


@pytest.mark.parametrize(
    ("requirement", "with_a", "with_b", "with_empty", "without"),
    [
        (IN_A, True, False, False, False),
        (IN_AB, True, True, False, False),
        (NOT_A, False, True, True, True),  # a missing key satisfies NotIn
        (EXISTS, True, True, True, False),
        (MISSING, False, False, False, True),
        (Requirement("app", Operator.IN, ("",)), False, False, True, False),  # an empty value is a value
        (Requirement("app", Operator.NOT_IN, ("",)), True, True, False, True),
    ],
)
def test_operators(requirement: Requirement, with_a: bool, with_b: bool, with_empty: bool, without: bool) -> None:
    found = [requirement_holds(requirement, labels) for labels in ({"app": "a"}, {"app": "b"}, {"app": ""}, {"x": "a"})]
    assert found == [with_a, with_b, with_empty, without]


def test_the_empty_selector_matches_everything() -> None:
    assert matches(EVERYTHING, {})
    assert matches(EVERYTHING, {"app": "a"})


def test_all_requirements_must_hold() -> None:
    both = Selector((IN_AB, NOT_A))
    assert matches(both, {"app": "b"})
    assert not matches(both, {"app": "a"})
    assert not matches(both, {})
    assert not matches(Selector((EXISTS, MISSING)), {"app": "a"})
    assert not matches(Selector((EXISTS, MISSING)), {})
