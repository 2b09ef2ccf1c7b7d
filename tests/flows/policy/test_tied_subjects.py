"""Policies of one priority: their index finds what comparing every two does, at a cost linear in their number."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.cluster.model import Action, Operator, Requirement, Selector, Subject
from flows.policy import tied_subjects
from flows.policy.levels import place_policies
from flows.policy.tied_subjects import MAX_COMPARED, MAX_NAMED, TiedSubjects, may_select_same
from tests.flows.policy.test_levels import ACCEPT, DENY, egress
from tests.helpers.cluster.model_objects import labels

KEYS, VALUES = ("a", "b", "c"), ("1", "2", "3")


def requirements() -> st.SearchStrategy[Requirement]:
    values = st.lists(st.sampled_from(VALUES), min_size=1, max_size=2, unique=True).map(lambda one: tuple(sorted(one)))
    return st.one_of(
        st.builds(Requirement, st.sampled_from(KEYS), st.sampled_from([Operator.IN, Operator.NOT_IN]), values),
        st.builds(
            Requirement,
            st.sampled_from(KEYS),
            st.sampled_from([Operator.EXISTS, Operator.DOES_NOT_EXIST]),
            st.just(()),
        ),
    )


SELECTORS = st.lists(requirements(), max_size=2).map(lambda found: Selector(tuple(found)))
SUBJECTS = st.builds(Subject, SELECTORS, SELECTORS)
SLOTS = st.fixed_dictionaries({action: st.integers(-1, 9) for action in Action})


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(SUBJECTS, SLOTS), max_size=40), st.sampled_from([2, MAX_COMPARED]))
def test_the_index_finds_what_comparing_all_finds(
    policies: list[tuple[Subject, dict[Action, int]]], compared: int
) -> None:
    """With few to compare it may find more, and never less."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tied_subjects, "MAX_COMPARED", compared)
        index = TiedSubjects([subject for subject, _ in policies])
        for number, (subject, slots) in enumerate(policies):
            before = [
                (name, had) for name, (other, had) in enumerate(policies[:number]) if may_select_same(subject, other)
            ]
            found = index.before(subject)
            most = {action: max([had[action] for _, had in before], default=-1) for action in Action}
            assert all(found.slots[action] >= most[action] for action in Action)
            assert found.policies >= len(before)
            if compared == MAX_COMPARED:
                assert found.slots == most
                assert found.names == tuple([f"p{name:02}" for name, _ in before][:MAX_NAMED])
                assert found.policies == len(before)
            index.add(subject, f"p{number:02}", slots)


WORLDS: dict[str, Any] = {
    "each namespace by its name": lambda n: Subject(labels(name=f"n{n}")),
    "some by another label": lambda n: Subject(labels(name=f"n{n}") if n % 10 else labels(team="t")),
    "pods by their app": lambda n: Subject(Selector(), labels(app=f"a{n}")),
    "all of them all pods": lambda n: Subject(),
    "each by a label of its own": lambda n: Subject(labels(**{f"k{n}": "v"})),
    "each but one": lambda n: Subject(Selector((Requirement("name", Operator.NOT_IN, (f"n{n}",)),))),
}


@pytest.mark.parametrize("world", WORLDS)
def test_the_cost_is_linear_in_the_policies(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in comparisons of two subjects, and in what is added to parts of the index."""
    operations = 0

    def counted(work: Any) -> Any:
        def call(*args: Any) -> Any:
            nonlocal operations
            operations += 1
            return work(*args)

        return call

    monkeypatch.setattr(tied_subjects, "may_select_same", counted(may_select_same))
    monkeypatch.setattr(tied_subjects._Many, "add", counted(tied_subjects._Many.add))
    costs = []
    for count in (250, 500, 1000):
        operations = 0
        place_policies([egress(f"p{number:04}", DENY, subject=WORLDS[world](number)) for number in range(count)])
        costs.append(operations / count)
    assert max(costs) <= 2 * MAX_COMPARED
    assert costs[2] <= 1.2 * costs[0] + 1


def test_a_note_names_a_few_and_counts_the_others() -> None:
    placed = place_policies([egress(f"p{number}", ACCEPT) for number in range(9)])["p8"]
    assert (placed.tied, placed.tied_count) == (("p0", "p1", "p2"), 8)
