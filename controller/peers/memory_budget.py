"""A bound on the bytes that many connections keep together."""

from __future__ import annotations

import threading


class MemoryBudget:
    """Each connection may keep `share` bytes; what it keeps beyond comes out of `pot`, which all connections share."""

    def __init__(self, share: int, pot: int) -> None:
        self._share, self._left = share, pot
        self._lock = threading.Lock()

    def resize(self, before: int, after: int) -> bool:
        """A connection that keeps `before` bytes will keep `after`. False, and no change, if the pot is too small."""
        more = max(0, after - self._share) - max(0, before - self._share)
        if not more:
            return True
        with self._lock:
            if more > self._left:
                return False
            self._left -= more
        return True
