"""The last lines of the log, kept in memory for `headgate support-bundle`. Bounded in lines and in their length."""

from __future__ import annotations

import re
from collections import deque

from controller.base import logs
from controller.base.secrets import without_secrets

RING_LINES = 1000
MAX_SHOWN = 2000  # characters of an event in a support bundle
MAX_KEPT = 4 * MAX_SHOWN  # characters of an event in memory, before secrets are removed, which costs more than logging
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class LogRing:
    """Keeps formatted events; `lines` returns them without secrets."""

    def __init__(self, lines: int = RING_LINES) -> None:
        self._lines: deque[str] = deque(maxlen=lines)

    def take(self, line: str) -> None:
        """Keep an event. Cheap, for the logging thread waits for it."""
        self._lines.append(line if len(line) <= MAX_KEPT else _shown(line))

    def lines(self) -> tuple[str, ...]:
        """The kept events without secrets, the oldest first."""
        return tuple(map(_shown, tuple(self._lines)))


def _shown(line: str) -> str:
    text = without_secrets(_COLOUR.sub("", line).rstrip("\n"))
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 4] + " ..."


RING = LogRing()


def keep_log_lines() -> None:
    """From now on, keep every event that the process logs."""
    logs.add_log_listener(RING.take)
