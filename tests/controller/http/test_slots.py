"""The bounds of HTTP connections: silent clients keep no others out, and probes are always answered."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.http import slots as bounds
from controller.http.slots import ConnectionSlot, ConnectionSlots

ADDRESSES = st.integers(0, 6).map(lambda n: f"10.0.0.{n}")
WHATS = st.sampled_from(["come", "come", "come", "ask", "ask probes", "leave", "late"])
STEPS = st.lists(st.tuples(WHATS, ADDRESSES, st.integers(0, 400)), max_size=300)


@settings(deadline=None, max_examples=100)
@given(steps=STEPS)
def test_bounds_hold_and_probes_are_always_answered(steps: list[tuple[str, str, int]]) -> None:
    slots = ConnectionSlots()
    there: list[ConnectionSlot] = []
    cut: list[ConnectionSlot] = []
    probes = 0
    for what, address, number in steps:
        if what == "come":
            slot = slots.arrive(address, lambda: None)
            slot.close = lambda slot=slot: cut.append(slot)  # type: ignore[misc]
            there.append(slot)
            assert slot in slots._arriving, "the newest connection is never closed"
        elif what.startswith("ask") and there:
            slot = there[number % len(there)]
            if slot.answered or slot not in slots._arriving:
                continue
            answered = slots.answer(slot, what == "ask probes")
            if what == "ask probes":
                assert answered == (probes < bounds.MAX_PROBES)
                probes += answered
        elif what == "leave" and there:
            slot = there.pop(number % len(there))
            probes -= slot.probe
            slots.leave(slot)
        elif what == "late":
            slots.close_late(3600)
        assert len(slots._arriving) <= bounds.MAX_ARRIVING
        assert all(count <= bounds.MAX_ARRIVING_PER_ADDRESS for count in slots._arriving_of.values())
        assert sum(slots._arriving_of.values()) == len(slots._arriving)
        assert sum(slots._answered_of.values()) == len(slots._answered) <= bounds.MAX_ANSWERED
    for slot in there:
        slots.leave(slot)
    assert (len(slots._arriving), len(slots._answered), slots._probes) == (0, 0, 0)
    assert not slots._arriving_of
    assert not slots._answered_of


def test_who_has_most_gives_way() -> None:
    slots = ConnectionSlots()
    cut: list[str] = []
    honest = slots.arrive("10.0.0.1", lambda: cut.append("honest"))
    for n in range(1000):
        slots.arrive(f"10.0.1.{n % 5}", lambda: cut.append("greedy"))
    assert set(cut) == {"greedy"}
    assert slots.answer(honest, probe=False)


def test_those_that_never_ask_are_cut_in_time() -> None:
    slots = ConnectionSlots()
    cut: list[int] = []
    slot = slots.arrive("10.0.0.1", lambda: cut.append(1))
    slots.close_late(10)
    assert not cut
    slot.began -= 11
    slots.close_late(10)
    assert cut == [1]
    assert not slots.answer(slot, probe=True)
