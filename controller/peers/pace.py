"""A peer's share: how much it may have handled at once and by the second, whose turn it is, and what all of them may
keep together.

No clock and no thread here; time is passed in, in seconds.
"""

from __future__ import annotations

import math
import threading
from collections import deque

_UNIT_BYTES = 4096


def message_cost(size: int) -> int:
    """What a message of `size` bytes costs, in units."""
    return 1 + size // _UNIT_BYTES


class TokenBucket:
    """A bucket of `burst` units that fills by `rate` units a second. It belongs to one thread.

    What is spent beyond its contents is a debt, of `debt` units at most.
    """

    def __init__(self, burst: float, rate: float, now: float, debt: float = math.inf) -> None:
        self._burst, self._rate, self._debt = float(burst), float(rate), debt
        self._units, self._at = self._burst, now

    def spend(self, units: int) -> None:
        """Take units out, also more than there are."""
        self._units = max(-self._debt, self._units - units)

    def wait(self, now: float) -> float:
        """Seconds until there is something in it again; 0 when there is."""
        self._units = min(self._burst, self._units + (now - self._at) * self._rate)
        self._at = now
        return 0.0 if self._units > 0 else (1 - self._units) / self._rate


class FifoLock:
    """One turn at a time, in the order in which they were asked for: `with turns:` waits for it.

    However many peers have much to say, everybody else runs between any two of their turns. What a peer does in its
    turn must not wait for anything.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()  # until the turn is handed over: a lock that everybody may take knows no order

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False


class MemoryBudget:
    """Bytes that many keep together: each has `share` for itself, and what it has beyond comes out of one pot."""

    def __init__(self, share: int, pot: int) -> None:
        self._share, self._left = share, pot
        self._lock = threading.Lock()

    def resize(self, before: int, after: int) -> bool:
        """Somebody who keeps `before` bytes wants to keep `after`. False, and nothing changes, when it is too much."""
        more = max(0, after - self._share) - max(0, before - self._share)
        if not more:
            return True
        with self._lock:
            if more > self._left:
                return False
            self._left -= more
        return True
