"""Conditions that all replicas agree on: never realized while one that serves pods of a policy does not say so."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.status.detail_model import ConditionsPart, PolicyPart
from controller.status.policy_conditions import PolicyConditions, agreed_conditions
from flows.cluster.model import Key

PENDING = st.sampled_from(["", "not yet realized on n1", "not yet realized on n2"])
OWN = st.builds(PolicyConditions, st.sampled_from(["", "spec.tier: is required"]), PENDING, st.integers(1, 3))
PARTS = st.builds(PolicyPart, st.integers(1, 3), PENDING)
NAMES = ("one", "two")


@given(
    st.dictionaries(st.sampled_from(NAMES), OWN),
    st.dictionaries(st.sampled_from(["b", "c"]), st.dictionaries(st.sampled_from(NAMES), PARTS)),
)
def test_a_policy_is_realized_exactly_where_all_say_so(
    own: dict[str, PolicyConditions], said: dict[str, dict[str, PolicyPart]]
) -> None:
    others = {name: ConditionsPart(name, (), policies) for name, policies in said.items()}
    found = agreed_conditions({Key("", name): one for name, one in own.items()}, others)
    assert {key.name for key in found} == own.keys()
    for key, one in found.items():
        mine = own[key.name]
        parts = [policies.get(key.name, PolicyPart(0)) for policies in said.values()]
        all_say_so = not mine.pending and all(not part.pending and part.generation == mine.generation for part in parts)
        assert (not one.pending) == (bool(mine.problems) or all_say_so)
        assert (one.problems, one.generation) == (mine.problems, mine.generation)


def test_reasons_are_those_of_all_each_once() -> None:
    others = {
        "b": ConditionsPart("b", (), {"p": PolicyPart(2, "not yet realized on n1")}),
        "c": ConditionsPart("c", (), {"p": PolicyPart(1)}),
    }
    (found,) = agreed_conditions({Key("", "p"): PolicyConditions("", "not yet realized on n1", 2)}, others).values()
    assert found.pending == "not yet realized on n1; the replica c has not read it yet"
