"""Exponential backoff: the wait of a key after a failure, doubled each time, forgotten after a while without one.

No clock here; the caller passes the time in seconds. Keys come from peers, so only the newest are remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
_SIZE = 8192


class _Failures(NamedTuple):
    times: int
    until: float


class Backoff(Generic[K]):
    """Waits by key: `first` seconds, doubled up to `longest`; reset `forget` seconds after the end of a wait."""

    def __init__(self, first: float, longest: float, forget: float, size: int = _SIZE) -> None:
        self._first, self._longest, self._forget, self._size = first, longest, forget, size
        self._failures: OrderedDict[K, _Failures] = OrderedDict()

    def failed(self, key: K, now: float) -> float:
        """Count a failure. Returns the seconds to wait from now."""
        known = self._failures.pop(key, None)
        count = known.times if known is not None and now < known.until + self._forget else 0
        wait = min(self._first * 2.0 ** min(count, 30), self._longest)
        self._failures[key] = _Failures(count + 1, now + wait)
        while len(self._failures) > self._size:
            self._failures.popitem(last=False)
        return wait

    def left(self, key: K, now: float) -> float:
        """Seconds that the key still has to wait."""
        known = self._failures.get(key)
        return max(0.0, known.until - now) if known is not None else 0.0

    def count(self, key: K, now: float) -> int:
        """The number of failures that are not forgotten."""
        known = self._failures.get(key)
        return known.times if known is not None and now < known.until + self._forget else 0

    def clear(self, key: K) -> None:
        """Forget the key's failures, after a success."""
        self._failures.pop(key, None)

    def __len__(self) -> int:
        return len(self._failures)
