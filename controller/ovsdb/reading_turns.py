"""Turns to read a database's contents: only some connections of a process read at a time, in the order of arrival.

After a restart all OVSDBs connect within seconds. Contents that are read all at once come late for each of them, while
their servers wait for an answer to an echo for five seconds; then they connect again, and what was read is read again.
So a connection that has no turn answers echoes, and asks for nothing.

Example: 500 OVSDBs connect, 16 of them are read. Each one that is done makes room for the next; the last one waits for
as long as reading 500 takes, and its connection stays. One whose peer stays silent for PATIENCE_SECONDS loses its turn
to the next, and goes on without one, so that such peers hold up nobody for long.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

TURNS = 16  # at a time; a connection takes several round trips, in which others are read
PATIENCE_SECONDS = 1.0


class ReadingTurns:
    """Gives turns to any number of readers. Every method may be called from any thread."""

    def __init__(self, turns: int = TURNS) -> None:
        self._turns = turns
        self._lock = threading.Lock()
        self._reading: set[object] = set()
        self._waiting: dict[object, Callable[[], None]] = {}

    def take(self, reader: object, wake: Callable[[], None]) -> bool:
        """Whether it is this reader's turn; else `wake` is called once it is. It must `end` in any case."""
        with self._lock:
            if reader in self._reading:
                return True
            if len(self._reading) >= self._turns:
                self._waiting.setdefault(reader, wake)
                return False
            self._waiting.pop(reader, None)
            self._reading.add(reader)
            return True

    def end(self, reader: object) -> None:
        """The reader needs no turn any more."""
        wake: Callable[[], None] | None = None
        with self._lock:
            self._waiting.pop(reader, None)
            if reader in self._reading:
                self._reading.discard(reader)
                following = next(iter(self._waiting), None)
                if following is not None:
                    wake = self._waiting.pop(following)
                    self._reading.add(following)
        if wake is not None:
            wake()


class Turn:
    """One connection's place among those that are read. It belongs to the connection's thread."""

    def __init__(self, turns: ReadingTurns, wake: Callable[[], None]) -> None:
        self._turns, self._wake = turns, wake
        self._has_asked = False
        self._heard = (-1, 0.0)  # bytes received, and since when no more
        self.is_over = False  # no turn is needed any more

    def begin(self) -> None:
        """There is no connection: the next one needs a turn."""
        self.end()
        self.is_over = self._has_asked = False

    def take(self) -> bool:
        """Whether the contents may be read: it is this connection's turn, or it needs none any more."""
        return self.is_over or self._turns.take(self, self._wake)

    def ask_who(self) -> bool:
        """Whether to ask which database this is: once for each connection."""
        first, self._has_asked = not self._has_asked, True
        return first

    def note(self, received: int, now: float) -> None:
        """So many bytes have been received. A peer that has been silent for too long loses its turn."""
        if received != self._heard[0]:
            self._heard = received, now
        elif now - self._heard[1] >= PATIENCE_SECONDS:
            self.end()

    def end(self) -> None:
        """The contents have been read, or the connection has ended."""
        self.is_over = True
        self._turns.end(self)
