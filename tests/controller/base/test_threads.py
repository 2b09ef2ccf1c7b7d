"""Threads that must live are reported when they end without being released, whatever ends them, and only then."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from controller.base import threads


def end() -> None:
    """A thread that returns, as one does whose loop ends on an error that it takes for the end."""


def fail() -> None:
    raise OSError(24, "Too many open files")


def leave() -> None:
    raise SystemExit(1)


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize(
    ("target", "reason"),
    [(end, "it ended by itself"), (fail, "OSError: [Errno 24] Too many open files"), (leave, "SystemExit: 1")],
)
def test_a_thread_that_ends_is_missed(
    target: Callable[[], None], reason: str, native: bool, caplog: pytest.LogCaptureFixture
) -> None:
    thread = threads.watched("listener", target, native=native)
    thread.start()
    assert thread.join(5)
    assert threads.ended_threads() == (f"listener: {reason}",)
    with caplog.at_level(logging.CRITICAL):
        threads.log_ended_threads()
        threads.log_ended_threads()
    assert sum("listener" in record.getMessage() for record in caplog.records) == 1, "said once"
    thread.release()
    assert threads.ended_threads() == ()


def test_a_thread_that_lives_or_was_released_is_not_missed() -> None:
    stop = threading.Event()
    thread = threads.watched("core", lambda: stop.wait() and None)
    thread.start()
    assert (thread.is_alive(), threads.ended_threads()) == (True, ())
    thread.release()
    stop.set()
    assert thread.join(5)
    assert (thread.is_alive(), threads.ended_threads()) == (False, ())


def test_a_thread_that_never_began_is_not_missed() -> None:
    thread = threads.watched("core", end)
    assert thread.join(0)
    assert threads.ended_threads() == ()


def test_one_that_takes_the_place_of_a_dead_one_ends_the_alarm() -> None:
    dead = threads.watched("log", fail)
    dead.start()
    dead.join(5)
    stop = threading.Event()
    living = threads.watched("log", lambda: stop.wait() and None)
    living.start()
    assert threads.ended_threads() == ()
    living.release()
    stop.set()
    living.join(5)
