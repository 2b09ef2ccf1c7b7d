"""How many probes may be under way at once: as many as the machines between answer soon.

Too many at once make answers late on a slow machine, one of emulated processors for instance, and a late answer looks
like none. So answers set the pace, as acknowledgements do for TCP: more while they come soon, half when they come late.
What a missing answer means is not decided here.
"""

from __future__ import annotations

MIN_WINDOW, FIRST_WINDOW, MAX_WINDOW = 8, 24, 300
LATE_SECONDS = 0.15


class ProbePace:
    """Counts and times of one run; all seconds are of one monotonic clock."""

    def __init__(self) -> None:
        self._window = float(FIRST_WINDOW)
        self._delay = 0.0
        self._cut_at = 0.0

    @property
    def window(self) -> int:
        """How many probes may be under way that still may be answered soon."""
        return int(self._window)

    @property
    def delay(self) -> float:
        """How many seconds answers take lately."""
        return self._delay

    @property
    def fresh(self) -> float:
        """For how many seconds an answer is to be expected. What is older loads nothing: it is most likely denied."""
        return max(LATE_SECONDS, 3 * self._delay)

    def answered(self, delay: float, now: float) -> None:
        """An answer took `delay` seconds."""
        self._delay += (delay - self._delay) / 8
        if delay <= LATE_SECONDS:
            self._window = min(MAX_WINDOW, self._window + 1)
        elif now - self._cut_at > delay:
            # Once for all that were under way together.
            self._window = max(MIN_WINDOW, self._window / 2)
            self._cut_at = now
