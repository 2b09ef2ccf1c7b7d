"""A token bucket: what one peer may send at once and per second.

No clock and no thread here; time is passed in, in seconds.
"""

from __future__ import annotations

import math

_UNIT_BYTES = 4096


def message_cost(size: int) -> int:
    """What a message of `size` bytes costs, in units: one, and one more for each 4 KiB."""
    return 1 + size // _UNIT_BYTES


class TokenBucket:
    """Holds up to `burst` units and gains `rate` units a second. It belongs to one thread.

    More may be spent than it holds; that is a debt, of `debt` units at most, which must be paid before `wait` is 0.
    """

    def __init__(self, burst: float, rate: float, now: float, debt: float = math.inf) -> None:
        self._burst, self._rate, self._debt = float(burst), float(rate), debt
        self._units, self._at = self._burst, now

    def spend(self, units: int) -> None:
        """Take units out, also more than it holds."""
        self._units = max(-self._debt, self._units - units)

    def wait(self, now: float) -> float:
        """Seconds until it holds units again; 0 when it does."""
        self._units = min(self._burst, self._units + (now - self._at) * self._rate)
        self._at = now
        return 0.0 if self._units > 0 else (1 - self._units) / self._rate
