"""Rule numbers depend on the set of rules alone, and a collision renumbers only the rules that collide."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.cluster.model import (
    EVERYTHING,
    Direction,
    IPBlock,
    Operator,
    Peer,
    PortSpec,
    Requirement,
    Rule,
    Selector,
)
from flows.cluster.net import Net
from flows.policy import rule_numbers
from flows.policy.resolve import rule_identity
from flows.policy.rule import RuleKey
from flows.policy.rule_numbers import RuleNumbers, assign_numbers, nth_number

names = st.integers(0, 60).map(lambda n: b"rule %d" % n)


@given(st.lists(names, max_size=120), st.sampled_from((6, 7, 8)))
def test_incremental_numbers_equal_assigned_numbers(toggled: list[bytes], bits: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rule_numbers, "NUMBER_BITS", bits)
        numbers, known = RuleNumbers(), dict[bytes, int]()
        for name in toggled:
            if name in known:
                del known[name]
                numbers.remove(name)
            else:
                known[name] = 0
                known[name] = numbers.add(name)
            for other in numbers.renumbered:
                known[other] = numbers.number(other)
            numbers.renumbered.clear()
            assert known == assign_numbers(known)
            assert known == {one: numbers.number(one) for one in known}
            assert len(set(known.values())) == len(known) == len(numbers)
        for name in known:
            numbers.remove(name)
        assert not len(numbers)
        assert not numbers._attempts
        assert not numbers._waiting


def test_a_collision_renumbers_only_the_rules_that_collide() -> None:
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
        before = {name: numbers.add(name) for name in others}
        first, last = sorted(pair)
        numbers.add(last)
        assert numbers.number(last) == nth_number(last, 0)
        numbers.renumbered.clear()
        numbers.add(first)
        assert numbers.renumbered == {last}
        assert numbers.number(last) != numbers.number(first) == nth_number(first, 0)
        assert {name: numbers.number(name) for name in others} == before
        numbers.remove(first)
        assert numbers.number(last) == nth_number(last, 0)


def test_numbers_do_not_change_between_versions() -> None:
    assert nth_number(b"a rule", 0) == 2034489882


nets = st.builds(lambda value, prefix: Net(4, value << 32 - prefix, prefix), st.integers(0, 255), st.integers(8, 32))
peers = st.one_of(
    nets.map(lambda net: Peer(ip_block=IPBlock(net))),
    nets.map(lambda net: Peer(ip_block=IPBlock(net._replace(prefix=8), (net,)))),
    st.just(Peer(pods=EVERYTHING)),
    st.just(Peer(namespaces=Selector((Requirement("a", Operator.IN, ("b",)),)))),
)


@given(st.lists(peers, max_size=20), st.sampled_from(((), (PortSpec(port=80),))))
def test_a_rules_identity_is_the_json_of_its_key(found: list[Peer], ports: tuple[PortSpec, ...]) -> None:
    """Other versions derive the same numbers from it, so it must never be written in another way."""
    key = RuleKey(Direction.INGRESS, 'a"b', EVERYTHING, Rule(tuple(found), ports))
    assert rule_identity(key, None) == json.dumps([key[:4], None]).encode()
