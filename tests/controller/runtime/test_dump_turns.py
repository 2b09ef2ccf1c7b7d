"""Many questions about one switch share its dumps, and leave it alone for most of the time."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import pytest

from controller.runtime.dump_turns import REST_FACTOR, DumpTurns


@dataclass
class Dumps:
    """When each dump began and ended."""

    times: list[tuple[float, float]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self) -> None:
        with self.lock:  # two at once would wait for each other for ever
            began = time.monotonic()
            threading.Event().wait(0.01)
            self.times.append((began, time.monotonic()))


def test_every_question_gets_a_dump_that_began_after_it() -> None:
    turns, dumps = DumpTurns(), Dumps()
    asked: list[tuple[float, float]] = []

    def ask() -> None:
        for _ in range(5):
            began = time.monotonic()
            turns.dump("br-int", dumps)
            asked.append((began, time.monotonic()))

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert len(asked) == 100
    assert len(dumps.times) < 50, "they share"
    for began, ended in asked:
        assert any(began <= first and last <= ended for first, last in dumps.times)
    for (first, last), (after, _) in zip(dumps.times, dumps.times[1:], strict=False):
        assert after - last >= REST_FACTOR * (last - first) * 0.99


def test_switches_do_not_wait_for_each_other() -> None:
    turns, ended = DumpTurns(), threading.Event()
    other = threading.Thread(target=turns.dump, args=("one", lambda: ended.wait(20) and None))
    other.start()
    turns.dump("two", lambda: None)
    ended.set()
    other.join(20)


def test_what_goes_wrong_is_told_to_all_that_waited_for_it() -> None:
    turns, begun, go = DumpTurns(), threading.Event(), threading.Event()
    told: list[str] = []

    def fails() -> None:
        begun.set()
        go.wait(20)
        raise LookupError("the switch is away")

    def ask() -> None:
        try:
            turns.dump("br-int", fails)
        except LookupError as error:
            told.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for one in threads:
        one.start()
    begun.wait(20)
    go.set()
    for one in threads:
        one.join(20)
    assert told == ["the switch is away"] * 4
    with pytest.raises(LookupError):
        turns.dump("br-int", fails)
    turns.dump("br-int", lambda: None)


def test_nothing_is_kept_of_switches_that_are_gone() -> None:
    turns = DumpTurns()
    for number in range(1000):
        turns.dump(number, lambda: None)
    threading.Event().wait(0.01)
    turns.dump("last", lambda: None)
    assert len(turns._turns) < 20
