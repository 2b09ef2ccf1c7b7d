"""When changes are held until all earlier ones are known, and when they are released; without a server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator

import pytest

from controller.sources.kubernetes import ordering
from controller.sources.kubernetes.ordering import ChangeBuffer, Units


class Released(list[Units]):
    """The units that the buffer released, the buffer, and a catch-up check that succeeds once `caught_up` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.synced = 0
        self.catch_ups: list[Collection[object]] = []
        self.caught_up = threading.Event()
        self.during_catch_up: Callable[[], None] = lambda: None
        self.buffer = ChangeBuffer(self.append, self._catch_up, self._released)

    def _catch_up(self, deadline: float, without: Collection[object]) -> None:
        if not self.caught_up.is_set():
            raise TimeoutError("not now")
        self.catch_ups.append(without)
        self.during_catch_up()

    def _released(self) -> None:
        self.synced += 1

    def wait(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.01)


@pytest.fixture
def held_buffer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Released]:
    """A started buffer whose catch-up checks fail."""
    monkeypatch.setattr(ordering, "CATCH_UP_PAUSES", (0.01, 0.02))
    one = Released()
    one.buffer.start()
    yield one
    one.buffer.stop()


@pytest.fixture
def open_buffer(held_buffer: Released) -> Released:
    """A buffer that releases changes at once."""
    held_buffer.caught_up.set()
    held_buffer.buffer.all_listed()
    held_buffer.wait(lambda: held_buffer.synced == 1)
    held_buffer.catch_ups.clear()
    return held_buffer


def test_nothing_is_released_before_all_is_listed_and_checked(held_buffer: Released) -> None:
    held_buffer.caught_up.set()
    held_buffer.buffer.put({"pod": None})
    time.sleep(0.1)
    assert not held_buffer
    held_buffer.caught_up.clear()
    held_buffer.buffer.all_listed()
    time.sleep(0.1)
    assert not held_buffer
    held_buffer.caught_up.set()
    held_buffer.wait(lambda: held_buffer.synced == 1)
    assert held_buffer == [{"pod": None}]


def test_nothing_is_held_while_nothing_is_behind(open_buffer: Released) -> None:
    open_buffer.buffer.put({"a": None})
    open_buffer.buffer.put({"b": None})
    assert open_buffer == [{"a": None}, {"b": None}]
    assert not open_buffer.catch_ups


def test_missed_changes_are_released_together(open_buffer: Released) -> None:
    """An open watch may still have to deliver what it missed, however long that takes."""
    open_buffer.caught_up.clear()
    open_buffer.buffer.watch_lost("pods")
    open_buffer.buffer.watch_lost("policies")
    open_buffer.buffer.watch_resumed("pods")
    open_buffer.buffer.put({"pod": None})
    open_buffer.buffer.watch_resumed("policies")
    time.sleep(2 * ordering.RESUME_SECONDS)
    assert not open_buffer
    assert open_buffer.buffer.waiting_since is not None
    open_buffer.buffer.put({"policy": None})
    open_buffer.caught_up.set()
    open_buffer.wait(lambda: bool(open_buffer))
    assert open_buffer == [{"pod": None, "policy": None}]
    assert open_buffer.buffer.waiting_since is None


def test_a_check_does_not_count_if_a_watch_is_lost_meanwhile(open_buffer: Released) -> None:
    def lose() -> None:
        open_buffer.during_catch_up = lambda: None
        open_buffer.buffer.watch_lost("policies")
        open_buffer.buffer.put({"pod": None})

    open_buffer.during_catch_up = lose
    open_buffer.buffer.watch_lost("pods")
    open_buffer.buffer.watch_resumed("pods")
    open_buffer.wait(lambda: bool(open_buffer.catch_ups))
    time.sleep(0.1)
    assert not open_buffer
    open_buffer.buffer.put({"policy": None})
    open_buffer.buffer.watch_resumed("policies")
    open_buffer.wait(lambda: bool(open_buffer))
    assert open_buffer == [{"pod": None, "policy": None}]


def test_changes_during_a_check_are_checked_too(open_buffer: Released) -> None:
    def more() -> None:
        if len(open_buffer.catch_ups) == 1:
            open_buffer.buffer.put({"pod": None})
        else:
            assert not open_buffer
            open_buffer.buffer.put({"policy": None})

    open_buffer.during_catch_up = more
    open_buffer.buffer.watch_lost("pods")
    open_buffer.buffer.watch_resumed("pods")
    open_buffer.wait(lambda: bool(open_buffer))
    assert open_buffer == [{"pod": None, "policy": None}]
    assert len(open_buffer.catch_ups) == ordering.MAX_CATCH_UP_ROUNDS


def test_a_watch_that_ended_in_order_needs_no_check(open_buffer: Released) -> None:
    open_buffer.buffer.watch_ended("policies")
    open_buffer.buffer.put({"pod": None})
    time.sleep(2 * ordering.RESUME_SECONDS)
    assert not open_buffer
    open_buffer.buffer.watch_resumed("policies")
    open_buffer.buffer.put({"policy": None})
    open_buffer.wait(lambda: bool(open_buffer))
    assert open_buffer == [{"pod": None, "policy": None}]
    assert not open_buffer.catch_ups


def test_a_watch_that_stays_away_holds_changes_only_once(
    open_buffer: Released, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ordering, "MAX_HOLD_SECONDS", 0.1)
    open_buffer.buffer.watch_lost("nodes")
    open_buffer.buffer.put({"pod": None})
    assert not open_buffer
    open_buffer.wait(lambda: bool(open_buffer))
    assert open_buffer.buffer.given_up == {"nodes"}
    open_buffer.buffer.watch_lost("nodes")  # every attempt fails
    open_buffer.buffer.put({"other": None})
    assert len(open_buffer) == 2
    open_buffer.buffer.watch_lost("pods")
    open_buffer.buffer.put({"third": None})
    assert len(open_buffer) == 2
    open_buffer.buffer.watch_resumed("pods")  # a check without the missing watch succeeds
    open_buffer.wait(lambda: len(open_buffer) == 3)
    assert open_buffer.catch_ups[-1] == {"nodes"}
    open_buffer.caught_up.clear()
    open_buffer.buffer.watch_resumed("nodes")
    assert open_buffer.buffer.given_up == frozenset()
    open_buffer.buffer.put({"fourth": None})
    assert len(open_buffer) == 3


def test_changes_are_not_held_for_ever_without_a_check(open_buffer: Released, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "MAX_HOLD_SECONDS", 0.3)
    open_buffer.caught_up.clear()
    open_buffer.buffer.watch_lost("pods")
    open_buffer.buffer.watch_resumed("pods")
    open_buffer.buffer.put({"pod": None})
    assert not open_buffer
    open_buffer.wait(lambda: bool(open_buffer))
    open_buffer.buffer.put({"other": None})
    assert len(open_buffer) == 2


def test_a_requested_check_releases_changes(open_buffer: Released) -> None:
    open_buffer.caught_up.clear()
    open_buffer.buffer.watch_lost("pods")
    open_buffer.buffer.watch_resumed("pods")
    open_buffer.buffer.put({"pod": None})
    with pytest.raises(TimeoutError, match="not now"):
        open_buffer.buffer.catch_up(time.monotonic() + 1)
    open_buffer.caught_up.set()
    open_buffer.buffer.catch_up(time.monotonic() + 1)
    assert open_buffer == [{"pod": None}]


def test_a_check_fails_while_a_watch_is_away(open_buffer: Released) -> None:
    open_buffer.buffer.watch_lost("pods")
    with pytest.raises(TimeoutError, match="keep breaking"):
        open_buffer.buffer.catch_up(time.monotonic() + 0.05)


def test_changes_that_could_not_be_stored_are_passed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "CATCH_UP_PAUSES", (0.01, 0.02))
    taken: list[Units] = []
    tries = iter([True, False])

    def apply(units: Units) -> None:
        if next(tries):
            raise ValueError
        taken.append(dict(units))

    buffer = ChangeBuffer(apply, lambda deadline, without: None, lambda: None)
    buffer.start()
    buffer.put({"a": None})
    buffer.all_listed()
    end = time.monotonic() + 30
    while not taken and time.monotonic() < end:
        time.sleep(0.01)
    buffer.stop()
    assert taken == [{"a": None}]
