"""Log lines on problems of the sources: only new ones, bounded in number, at the cost of the change."""

from __future__ import annotations

from typing import Any

import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.reconcile.events import ClusterChanged
from controller.reconcile.problem import Problem
from controller.status.missing import first_lines, source_problem_lines
from controller.status.source_problems import MAX_PROBLEM_LINES, SourceProblemLog
from flows.cluster.model import Cluster, Key, Policy, Selector

NOTHING: tuple[Any, ...] = ()


def policy(name: str, *errors: str) -> Policy:
    return Policy(Key("x", name), Selector(()), frozenset(), (), (), errors)


def problems(count: int, start: int = 0) -> tuple[Problem, ...]:
    return tuple(Problem(f"f{n}", "", "", "odd") for n in range(start, start + count))


def test_only_what_is_new_is_said() -> None:
    notes = SourceProblemLog()
    with structlog.testing.capture_logs() as logs:
        notes.take(ClusterChanged(Cluster(), problems(3)))
        notes.take(ClusterChanged(Cluster(), problems(4)))
        notes.take(ClusterChanged(Cluster(), problems(2)))
        notes.take(ClusterChanged(Cluster(), problems(3)))
    assert [line["where"] for line in logs] == ["f0", "f1", "f2", "f3", "f2"]


def test_the_lines_of_one_change_are_bounded_and_the_rest_is_counted() -> None:
    with structlog.testing.capture_logs() as logs:
        SourceProblemLog().take(ClusterChanged(Cluster(), problems(5000)))
    assert len(logs) == MAX_PROBLEM_LINES + 1
    assert logs[-1]["more"] == 5000 - MAX_PROBLEM_LINES


class Compared:
    """Counts comparisons of problems."""

    count = 0


class Odd(Problem):
    """A problem that counts how often it is compared."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        Compared.count += 1
        return self is other or (isinstance(other, Problem) and self.where == other.where)

    def __hash__(self) -> int:
        return hash(self.where)


def test_noting_3000_standing_problems_takes_no_step_while_they_stand_and_one_each_when_they_change() -> None:
    notes = SourceProblemLog()
    standing = tuple(Odd(f"f{n}", "", "", "odd") for n in range(3000))
    notes.take(ClusterChanged(Cluster(), standing))
    Compared.count = 0
    for _ in range(10):
        notes.take(ClusterChanged(Cluster(), standing, changed=NOTHING))
    assert Compared.count == 0
    notes.take(ClusterChanged(Cluster(), tuple(Odd(f"f{n}", "", "", "odd") for n in range(3001))))
    assert Compared.count <= 4 * 3001


@settings(deadline=None, max_examples=100)
@given(steps=st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=4), max_size=8))
def test_kept_policy_problems_equal_those_computed_anew(steps: list[list[tuple[int, int]]]) -> None:
    notes = SourceProblemLog()
    policies: dict[Key, Policy] = {}
    for number, step in enumerate(steps):
        for name, state in step:
            if state:
                policies[Key("x", f"q{name}")] = policy(f"q{name}", *["bad"] * (state - 1))
            else:
                policies.pop(Key("x", f"q{name}"), None)
        touched = tuple(("NetworkPolicy", Key("x", f"q{name}")) for name, _ in step)
        before = notes.policy_problems
        event = ClusterChanged(Cluster(policies=dict(policies)), changed=touched if number else None)
        notes.take(event)
        assert notes.policy_problems == {key: "bad" for key, one in policies.items() if one.errors}
        assert notes.policy_problems is before or notes.policy_problems != before


def test_what_is_missing_is_told_up_to_a_bound() -> None:
    lines = first_lines(source_problem_lines(problems(3000), {Key("x", "q"): "bad"}))
    assert (len(lines), lines[-1]) == (1001, "and 2001 more")
    assert source_problem_lines((Problem("x.yaml", "", "", "is not UTF-8"),), {}) == ["x.yaml: is not UTF-8"]
