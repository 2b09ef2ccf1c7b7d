"""How long a writer to the API server pauses after an error: longer each time in a row, longest without the right."""

from __future__ import annotations

import random

from controller.sources.kubernetes.stream import FORBIDDEN, ApiError

FORBIDDEN_SECONDS = 300.0
FIRST_SECONDS, LONGEST_SECONDS = 1.0, 60.0


class WritePause:
    """The errors in a row of one writer. It belongs to one thread."""

    def __init__(self) -> None:
        self._failures = 0

    @property
    def failing(self) -> bool:
        """Whether the last write failed."""
        return self._failures > 0

    def succeeded(self) -> None:
        """A write succeeded."""
        self._failures = 0

    def failed(self, error: ApiError) -> float:
        """A write failed; returns the seconds until the next may be tried, at least those that the server asks for."""
        self._failures += 1
        if error.status == FORBIDDEN:
            return FORBIDDEN_SECONDS
        pause = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(self._failures - 1, 10)) * random.uniform(0.5, 1.0)
        return max(pause, error.retry_after or 0.0)
