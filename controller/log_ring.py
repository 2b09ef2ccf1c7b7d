"""The last lines of the log, kept in memory for `headgate support-bundle`. Bounded in lines and in their length."""

from __future__ import annotations

import logging
import re
from collections import deque

from controller.logs import RepeatFilter
from controller.secrets import without_secrets

LINES = 1000
LONGEST = 2000  # characters of one line
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class LogRing(logging.Handler):
    """Keeps what its formatter makes of each record, secrets left out."""

    def __init__(self, lines: int = LINES) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=lines)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        try:
            text = _COLOUR.sub("", self.format(record))
        except Exception:  # noqa: BLE001  # logging's own way: what cannot be formatted must not stop the program
            self.handleError(record)
            return
        text = without_secrets(text)
        self._lines.append(text if len(text) <= LONGEST else text[:LONGEST] + " ...")

    def lines(self) -> tuple[str, ...]:
        """What is kept, the oldest first."""
        return tuple(self._lines)


RING = LogRing()


def attach() -> None:
    """Keep from now on what the process logs, in the form in which it logs it."""
    root = logging.getLogger()
    formatter = next((handler.formatter for handler in root.handlers if handler.formatter is not None), None)
    if formatter is not None:
        RING.setFormatter(formatter)
    if RING not in root.handlers:
        root.addHandler(RING)
    if not RING.filters:
        RING.addFilter(RepeatFilter())
