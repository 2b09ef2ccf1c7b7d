"""What is held back until all that came before it is known, and for how long; without a server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator

import pytest

from controller.sources.kubernetes import ordering
from controller.sources.kubernetes.ordering import ChangeBuffer, Units


class Opened(list[Units]):
    """What the gate let through, the gate, and the server's part: whether a proof can be had now."""

    def __init__(self) -> None:
        super().__init__()
        self.synced = 0
        self.proofs: list[Collection[object]] = []
        self.provable = threading.Event()
        self.while_proving: Callable[[], None] = lambda: None
        self.gate = ChangeBuffer(self.append, self._prove, self._opened)

    def _prove(self, deadline: float, without: Collection[object]) -> None:
        if not self.provable.is_set():
            raise TimeoutError("not now")
        self.proofs.append(without)
        self.while_proving()

    def _opened(self) -> None:
        self.synced += 1

    def wait(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.01)


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """A gate that has begun, and of which nothing can be proven."""
    monkeypatch.setattr(ordering, "CATCH_UP_PAUSES", (0.01, 0.02))
    one = Opened()
    one.gate.start()
    yield one
    one.gate.stop()


@pytest.fixture
def opened(closed: Opened) -> Opened:
    """A gate that is open."""
    closed.provable.set()
    closed.gate.begin()
    closed.wait(lambda: closed.synced == 1)
    closed.proofs.clear()
    return closed


def test_nothing_passes_before_it_was_all_read_and_proven(closed: Opened) -> None:
    closed.provable.set()
    closed.gate.put({"pod": None})
    time.sleep(0.1)
    assert not closed
    closed.provable.clear()
    closed.gate.begin()
    time.sleep(0.1)
    assert not closed
    closed.provable.set()
    closed.wait(lambda: closed.synced == 1)
    assert closed == [{"pod": None}]


def test_nothing_is_held_while_nothing_is_behind(opened: Opened) -> None:
    opened.gate.put({"a": None})
    opened.gate.put({"b": None})
    assert opened == [{"a": None}, {"b": None}]
    assert not opened.proofs


def test_what_was_missed_comes_together(opened: Opened) -> None:
    """However long it takes: a watch that is there again may still have to say what it missed."""
    opened.provable.clear()
    opened.gate.lost("pods")
    opened.gate.lost("policies")
    opened.gate.back("pods")
    opened.gate.put({"pod": None})
    opened.gate.back("policies")
    time.sleep(2 * ordering.RESUME_SECONDS)
    assert not opened
    assert opened.gate.waiting_since is not None
    opened.gate.put({"policy": None})
    opened.provable.set()
    opened.wait(lambda: bool(opened))
    assert opened == [{"pod": None, "policy": None}]
    assert opened.gate.waiting_since is None


def test_no_proof_counts_that_a_loss_came_into(opened: Opened) -> None:
    def lose() -> None:
        opened.while_proving = lambda: None
        opened.gate.lost("policies")
        opened.gate.put({"pod": None})

    opened.while_proving = lose
    opened.gate.lost("pods")
    opened.gate.back("pods")
    opened.wait(lambda: bool(opened.proofs))
    time.sleep(0.1)
    assert not opened
    opened.gate.put({"policy": None})
    opened.gate.back("policies")
    opened.wait(lambda: bool(opened))
    assert opened == [{"pod": None, "policy": None}]


def test_what_comes_during_a_proof_is_proven_too(opened: Opened) -> None:
    def more() -> None:
        if len(opened.proofs) == 1:
            opened.gate.put({"pod": None})
        else:
            assert not opened
            opened.gate.put({"policy": None})

    opened.while_proving = more
    opened.gate.lost("pods")
    opened.gate.back("pods")
    opened.wait(lambda: bool(opened))
    assert opened == [{"pod": None, "policy": None}]
    assert len(opened.proofs) == ordering.MAX_CATCH_UP_ROUNDS


def test_a_watch_that_ended_in_order_is_waited_for_without_a_proof(opened: Opened) -> None:
    opened.gate.ended("policies")
    opened.gate.put({"pod": None})
    time.sleep(2 * ordering.RESUME_SECONDS)
    assert not opened
    opened.gate.back("policies")
    opened.gate.put({"policy": None})
    opened.wait(lambda: bool(opened))
    assert opened == [{"pod": None, "policy": None}]
    assert not opened.proofs


def test_one_that_stays_away_holds_up_once(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "MAX_HOLD_SECONDS", 0.1)
    opened.gate.lost("nodes")
    opened.gate.put({"pod": None})
    assert not opened
    opened.wait(lambda: bool(opened))
    assert opened.gate.given_up == {"nodes"}
    opened.gate.lost("nodes")  # every try of it fails
    opened.gate.put({"other": None})
    assert len(opened) == 2
    opened.gate.lost("pods")
    opened.gate.put({"third": None})
    assert len(opened) == 2
    opened.gate.back("pods")  # what can be proven without it is
    opened.wait(lambda: len(opened) == 3)
    assert opened.proofs[-1] == {"nodes"}
    opened.provable.clear()
    opened.gate.back("nodes")
    assert opened.gate.given_up == frozenset()
    opened.gate.put({"fourth": None})
    assert len(opened) == 3


def test_what_cannot_be_proven_is_not_held_for_ever(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "MAX_HOLD_SECONDS", 0.3)
    opened.provable.clear()
    opened.gate.lost("pods")
    opened.gate.back("pods")
    opened.gate.put({"pod": None})
    assert not opened
    opened.wait(lambda: bool(opened))
    opened.gate.put({"other": None})
    assert len(opened) == 2


def test_a_proof_that_somebody_asks_for_counts(opened: Opened) -> None:
    opened.provable.clear()
    opened.gate.lost("pods")
    opened.gate.back("pods")
    opened.gate.put({"pod": None})
    with pytest.raises(TimeoutError, match="not now"):
        opened.gate.prove(time.monotonic() + 1)
    opened.provable.set()
    opened.gate.prove(time.monotonic() + 1)
    assert opened == [{"pod": None}]


def test_a_proof_says_nothing_of_a_watch_that_is_away(opened: Opened) -> None:
    opened.gate.lost("pods")
    with pytest.raises(TimeoutError, match="come and go"):
        opened.gate.prove(time.monotonic() + 0.05)


def test_what_is_not_taken_is_offered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "CATCH_UP_PAUSES", (0.01, 0.02))
    taken: list[Units] = []
    tries = iter([True, False])

    def apply(units: Units) -> None:
        if next(tries):
            raise ValueError
        taken.append(dict(units))

    gate = ChangeBuffer(apply, lambda deadline, without: None, lambda: None)
    gate.start()
    gate.put({"a": None})
    gate.begin()
    end = time.monotonic() + 30
    while not taken and time.monotonic() < end:
        time.sleep(0.01)
    gate.stop()
    assert taken == [{"a": None}]
