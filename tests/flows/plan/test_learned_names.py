"""What pods learn is bounded and shared: generated worlds against a plain list of entries, and what nobody can take."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.cluster.domain_names import LearnedAddress
from flows.cluster.model import Key
from flows.cluster.net import Net
from flows.plan import learned_names
from flows.plan.learned_names import FULL_SWITCH, LearnedNames
from flows.plan.shared_room import SharedRoom

VICTIM = Key("victim", "p")
LIMITS = {
    "MAX_OF_NAME": 4, "MAX_NAMES_OF_ADDRESS": 3, "MAX_OF_POD": 8, "MAX_PAST_OF_POD": 3, "MAX_OF_SWITCH": 24,
    "MAX_OF_ALL": 40,
}  # fmt: skip


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a few steps reach."""
    for name, value in LIMITS.items():
        monkeypatch.setattr(learned_names, name, value)


def address(number: int) -> Net:
    return Net(4, 0x0A000000 + number, 32)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["learn", "learn", "learn", "expire", "forget", "restore"]),
        st.integers(0, 3),  # namespace
        st.integers(0, 2),  # pod, which stands on the switch of the same number
        st.integers(0, 3),  # name
        st.integers(0, 9),  # address
        st.integers(1, 5),  # life
    ),
    max_size=120,
)


@pytest.mark.usefixtures("small")
@settings(max_examples=80, deadline=None)
@given(STEPS)
def test_every_number_that_pods_drive_is_bounded_and_true(steps: list[tuple[str, int, int, int, int, int]]) -> None:
    found, now = LearnedNames(), 0.0
    until: dict[tuple[Key, str, Net], float] = {}  # the latest time that each entry was learned for
    for what, space, pod_number, name_number, number, life in steps:
        pod, name = Key(f"n{space}", f"p{pod_number}"), f"w{name_number}.example.com"
        if what == "learn":
            found.learn(pod, name, [(address(number), now + life)], pod_number)
            until[pod, name, address(number)] = max(until.get((pod, name, address(number)), 0), now + life)
        elif what == "restore":
            found.restore(pod, LearnedAddress(name, address(number), life > 2), now + life, pod_number)
            until.setdefault((pod, name, address(number)), now + life)
        elif what == "forget":
            found.forget(pod)
            until = {one: at for one, at in until.items() if one[0] != pod}
        else:
            now += life
            found.expire(now)
        check(found, now, until)


def check(found: LearnedNames, now: float, until: dict[tuple[Key, str, Net], float]) -> None:
    whole = found.snapshot()
    entries = [(pod, one) for pod, known in whole.items() for one in known]
    assert found.size == len(entries) <= LIMITS["MAX_OF_ALL"]
    assert len(found._due) <= 2 * found._live + 64
    for pod, known in whole.items():
        live = [one for one in known if one.live]
        assert len(live) <= LIMITS["MAX_OF_POD"]
        assert len(known) - len(live) <= LIMITS["MAX_PAST_OF_POD"]
        assert {(one.name, one.address) for one in live} == found.until(pod).keys()
        for name in {one.name for one in live}:
            assert sum(one.name == name for one in live) <= LIMITS["MAX_OF_NAME"]
        assert all(len(names) <= LIMITS["MAX_NAMES_OF_ADDRESS"] for names in found.of(pod).values())
        # Nothing is live longer than some answer said, but for what `expire` has not seen yet.
        assert all(until[pod, one.name, one.address] >= found.until(pod)[one.name, one.address] for one in live)
    for switch in range(3):
        assert sum(pod.name == f"p{switch}" for pod, _ in entries) <= LIMITS["MAX_OF_SWITCH"]
    groups = {(found._switch[pod], pod.namespace) for pod in whole}
    assert found._past._in.keys() <= groups
    assert found._all.used == found.size == sum(room.used for room in found._on.values())
    assert found._switch.keys() == whole.keys()


@pytest.mark.usefixtures("small")
@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(0, 2))
def test_no_namespace_keeps_another_from_learning(steps: list[tuple[str, int, int, int, int, int]], on: int) -> None:
    """Whatever four namespaces do on all switches, a fifth learns its share of what they leave."""
    found = LearnedNames()
    for step, (what, space, pod_number, name, number, life) in enumerate(steps):
        pod = Key(f"n{space}", f"{what}-{pod_number}-{name}-{step % 7}")
        found.learn(pod, f"w{name}-{step}.example.com", [(address(number), step + life)], pod_number)
        if what == "expire":
            found.expire(step)
    free = min(LIMITS["MAX_OF_SWITCH"] // 5, LIMITS["MAX_OF_ALL"] // 5) // 2
    assert free >= 2
    for number in range(free):
        assert found.learn(VICTIM, "www.example.com", [(address(number), 1000.0)], on)
    assert VICTIM not in found.full


@pytest.mark.usefixtures("small")
def test_what_expired_gives_way_before_anything_is_refused() -> None:
    found = LearnedNames()
    for number in range(40):
        pod = Key("x", f"p{number % 6}")
        assert found.learn(pod, "www.example.com", [(address(number), number + 1.0)], 1), number
        found.expire(number + 1.0)
    assert found.size == LIMITS["MAX_OF_SWITCH"] // 2
    assert not found.full
    for number in range(40, 60):
        found.learn(Key("x", f"p{number}"), "www.example.com", [(address(number), 1000.0)], 1)
    assert {one.live for known in found.snapshot().values() for one in known} == {True}
    assert found.full[Key("x", "p59")] == FULL_SWITCH


def test_a_shared_room_leaves_some_for_who_comes_next() -> None:
    room: SharedRoom[str] = SharedRoom(100)
    for holder, most in (("a", 50), ("b", 25), ("c", 13)):
        while room.has_room(holder):
            room.take(holder)
        assert room.of(holder) == most
    room.give_back("a", 50)
    assert (room.of("a"), room.used) == (0, 38)
    assert room.has_room("c", 24)
    assert not room.has_room("c", 50)
