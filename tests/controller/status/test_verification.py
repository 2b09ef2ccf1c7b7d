"""Which connections a comparison asks about: different ones, each that makes sense once at most."""

from __future__ import annotations

import random
from itertools import product

import pytest

from controller.status.verification import _Pairs, _probes, _usable
from flows.cluster.model import Key
from flows.cluster.net import parse_address
from flows.policy.probe import ICMP, Endpoint
from flows.reach.outside import Outside

PORTS = [(6, 80), (17, 53), (ICMP, None)]


def ends_by_chance(seed: int) -> list[Endpoint]:
    chance = random.Random(seed)
    found = [
        Endpoint(parse_address(address), pod=Key("x", f"p{pod}"))
        for pod in range(chance.randrange(5))
        for address in [f"10.0.{n}.{pod}" for n in range(chance.randrange(3))] + [f"fd00::{pod}"] * chance.randrange(2)
    ]
    found += [Endpoint(parse_address(f"192.0.2.{n}")) for n in range(chance.randrange(3))]
    chance.shuffle(found)
    return found


def sensible(ends: list[Endpoint]) -> set[tuple[Endpoint, Endpoint]]:
    return {
        (one, other)
        for one, other in product(ends, ends)
        if one.pod != other.pod and one.address.version == other.address.version
    }


@pytest.mark.parametrize("seed", range(30))
def test_each_pair_has_one_number(seed: int) -> None:
    ends = ends_by_chance(seed)
    pairs = _Pairs(ends)
    found = [pairs[number] for number in range(pairs.number)]
    assert len(set(found)) == len(found) and set(found) == sensible(ends)


def test_a_sample_has_no_connection_twice_and_can_be_had_again() -> None:
    pairs = _Pairs(next(ends for seed in range(99) if len(sensible(ends := ends_by_chance(seed))) > 20))
    every = pairs.number * len(PORTS)
    whole = list(_probes(pairs, PORTS, every, 1))
    assert len(set(whole)) == every
    some = list(_probes(pairs, PORTS, 20, 7))
    assert len(set(some)) == 20 and some == list(_probes(pairs, PORTS, 20, 7)) and set(some) <= set(whole)
    assert some != list(_probes(pairs, PORTS, 20, 8))


def test_an_address_outside_is_one_that_a_machine_can_have() -> None:
    whole = Outside(4, ((0, (1 << 32) - 1),))
    assert str(_usable(whole, (), ())) == "192.0.2.1"
    assert str(_usable(whole, [parse_address("192.0.2.1")], ())) == "198.51.100.1"
    loopback = Outside(4, ((127 << 24, (128 << 24) - 1),))
    assert _usable(loopback, (), ()) is None
    split = Outside(4, ((127 << 24, (128 << 24) - 1), (10 << 24, (10 << 24) + 9)))
    assert str(_usable(split, (), ())) == "10.0.0.0"
    assert str(_usable(Outside(6, ((0, (1 << 128) - 1),)), (), ())) == "2001:db8::1"
