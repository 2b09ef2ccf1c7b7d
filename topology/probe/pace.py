"""Limits how many probes run at once, as a TCP congestion window: one more after a fast answer, half after a late one.

Too many concurrent probes make answers late on a slow machine, for instance one with emulated processors, and a late
answer looks like a denial. What a missing answer means is not decided here.
"""

from __future__ import annotations

MIN_WINDOW, FIRST_WINDOW, MAX_WINDOW = 8, 24, 300
LATE_SECONDS = 0.15


class ProbePace:
    """The window of one run. All times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._window = float(FIRST_WINDOW)
        self._delay = 0.0
        self._cut_at = 0.0

    @property
    def window(self) -> int:
        """How many probes may run whose answers are still expected."""
        return int(self._window)

    @property
    def delay(self) -> float:
        """The moving average of the seconds that answers take."""
        return self._delay

    @property
    def fresh(self) -> float:
        """For how many seconds an answer is expected. An older probe is most likely denied and causes no load."""
        return max(LATE_SECONDS, 3 * self._delay)

    def answered(self, delay: float, now: float) -> None:
        """An answer took `delay` seconds."""
        self._delay += (delay - self._delay) / 8
        if delay <= LATE_SECONDS:
            self._window = min(MAX_WINDOW, self._window + 1)
        elif now - self._cut_at > delay:
            # Once for all probes that were running together.
            self._window = max(MIN_WINDOW, self._window / 2)
            self._cut_at = now
