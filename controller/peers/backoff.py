"""How long somebody who failed has to wait: twice as long each time, forgotten after a while without a failure.

No clock here; the caller gives the time in seconds. Keys come from outside, so only the newest are remembered.
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
    """Waits by key: `first` seconds, doubled up to `longest`; `forget` seconds after a wait's end it starts afresh."""

    def __init__(self, first: float, longest: float, forget: float, size: int = _SIZE) -> None:
        self._first, self._longest, self._forget, self._size = first, longest, forget, size
        self._failures: OrderedDict[K, _Failures] = OrderedDict()

    def failed(self, key: K, now: float) -> float:
        """Another failure. Returns how long it has to wait from now."""
        known = self._failures.pop(key, None)
        count = known.times if known is not None and now < known.until + self._forget else 0
        wait = min(self._first * 2.0 ** min(count, 30), self._longest)
        self._failures[key] = _Failures(count + 1, now + wait)
        while len(self._failures) > self._size:
            self._failures.popitem(last=False)
        return wait

    def left(self, key: K, now: float) -> float:
        """Seconds that it still has to wait."""
        known = self._failures.get(key)
        return max(0.0, known.until - now) if known is not None else 0.0

    def count(self, key: K, now: float) -> int:
        """Failures that are not forgotten."""
        known = self._failures.get(key)
        return known.times if known is not None and now < known.until + self._forget else 0

    def clear(self, key: K) -> None:
        """It has done well."""
        self._failures.pop(key, None)

    def __len__(self) -> int:
        return len(self._failures)
