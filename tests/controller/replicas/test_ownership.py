"""Who owns a switch: the same for everybody, evenly, and moving only what must move; generations in order."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.reconcile.ownership import (
    MAX_EPOCH,
    Member,
    View,
    epoch_of,
    generation,
    generation_after,
    is_stale,
    owner_of,
)

NAMES = st.sets(st.text("abcdefgh-0123", min_size=1, max_size=12), min_size=1, max_size=8)
SWITCHES = st.lists(st.text(max_size=20), min_size=1, max_size=40, unique=True)
NUMBERS = st.integers(0, (1 << 64) - 1)


@given(NAMES, st.text("xyz", min_size=1, max_size=4), SWITCHES)
def test_a_member_takes_only_what_becomes_its_own(names: set[str], new: str, switches: list[str]) -> None:
    for switch in switches:
        before, after = owner_of(switch, names), owner_of(switch, names | {new})
        assert after in (before, new)
        assert owner_of(switch, (names | {new}) - {new}) == before


@given(NAMES, SWITCHES)
def test_a_member_that_leaves_moves_only_its_own(names: set[str], switches: list[str]) -> None:
    gone = min(names)
    for switch in switches:
        before = owner_of(switch, names)
        if before != gone:
            assert owner_of(switch, names - {gone}) == before


def test_without_members_nobody_owns() -> None:
    assert owner_of("s", ()) == ""
    assert View(3, ()).owner("s") == ""


def test_switches_are_divided_evenly() -> None:
    owners = Counter(owner_of(f"{number:016x}", ("a", "b", "c")) for number in range(3000))
    assert all(900 < count < 1100 for count in owners.values())


def test_another_process_of_the_same_name_is_no_member() -> None:
    view = View(1, (Member("a", "1"),))
    assert view.has(Member("a", "1"))
    assert not view.has(Member("a", "2"))


@given(st.integers(0, MAX_EPOCH - 1), st.integers(1, 1000), st.text(max_size=9), st.text(max_size=9))
def test_a_later_epoch_is_a_newer_generation(epoch: int, more: int, one: str, other: str) -> None:
    later = min(epoch + more, MAX_EPOCH)
    assert is_stale(generation(epoch, one), generation(later, other))
    assert not is_stale(generation(later, other), generation(epoch, one))
    assert epoch_of(generation(later, other)) == later


@given(NUMBERS, st.text(max_size=9))
def test_a_switch_that_is_ahead_takes_the_next(found: int, name: str) -> None:
    assert not is_stale(generation_after(found, name), found)
    assert is_stale(found, generation_after(found, name)) or found == generation_after(found, name)


@pytest.mark.parametrize(
    ("number", "newest", "stale"),
    [(9, 10, True), (10, 10, False), (11, 10, False), (3, (1 << 64) - 6, False), ((1 << 64) - 6, 3, True)],
)
def test_generations_are_compared_by_the_sign_of_their_difference(number: int, newest: int, stale: bool) -> None:
    assert is_stale(number, newest) is stale
