"""Who has a switch dump its flows for a question, and who takes the same dump: looking takes a part of the time only.

A question wants a dump that begins after it was asked. Those that come while one is under way share the next, which
begins after a rest of REST_FACTOR times as long as the last one took: however many ask, a switch and the hub spend a
quarter of the time on it at most. A question that comes alone waits for nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

REST_FACTOR = 3
LONGEST_REST = 5.0  # seconds


@dataclass(slots=True)
class _Turn:
    """The dumps of one switch: how many have begun, whether the last of them goes on, and how it ended."""

    begun: int = 0
    running: bool = False
    error: Exception | None = None
    rests_until: float = 0.0


class DumpTurns:
    """Turns by switch. Every method may be called from any thread of the hub."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._turns: dict[Hashable, _Turn] = {}

    def dump(self, name: Hashable, dump: Callable[[], None]) -> None:
        """Call `dump` for this switch, or wait for another thread's call that begins after this one. Raises what that
        raised."""
        with self._condition:
            turn = self._turns.setdefault(name, _Turn())
            wanted = turn.begun + 1
            while True:
                if turn.begun >= wanted and not turn.running:
                    if turn.error is not None:
                        raise turn.error
                    return
                left = turn.rests_until - time.monotonic()
                if not turn.running and turn.begun < wanted and left <= 0:
                    break
                self._condition.wait(None if turn.running else max(left, 0.0))
            turn.begun += 1
            turn.running = True
        began = time.monotonic()
        error: Exception | None = None
        try:
            dump()
        except Exception as raised:
            error = raised
            raise
        finally:
            with self._condition:
                now = time.monotonic()
                turn.error, turn.running = error, False
                turn.rests_until = now + min(LONGEST_REST, REST_FACTOR * (now - began))
                self._forget(now)
                self._condition.notify_all()

    def _forget(self, now: float) -> None:
        """Switches that nobody waits for are not kept."""
        for name in [name for name, one in self._turns.items() if not one.running and one.rests_until < now]:
            del self._turns[name]
