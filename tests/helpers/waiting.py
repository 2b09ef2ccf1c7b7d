"""Waiting until something holds, and TCP ports that are free."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from bench.ports import free_ports

WAIT_SECONDS = 120.0
# Between looks. Few in the long run: a look may start a program, while the clock stands still (tests/kernel).
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS, _GROWTH = 0.01, 0.25, 1.1
T = TypeVar("T")


def until(found: Callable[[], T], what: str | Callable[[], str] = "it", seconds: float = WAIT_SECONDS) -> T:
    """Wait until `found()` is true and return its value.

    Raises AssertionError after `seconds`. Its message starts with `what`, which may be computed only then.
    """
    deadline, pause = time.monotonic() + seconds, _FIRST_PAUSE_SECONDS
    while not (value := found()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what if isinstance(what, str) else what()}: not within {seconds:.0f} s")
        time.sleep(pause)
        pause = min(pause * _GROWTH, _LONGEST_PAUSE_SECONDS)
    return value


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now."""
    return free_ports(1)[0]
