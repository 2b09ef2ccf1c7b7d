"""What is known of one kind of object of a Kubernetes API: versions, how far the watch has come, and waiting for more.

It tells "caught up" from "nothing happens" without the server's help: whoever wrote before a consistent list was made
is in that list, so everything is here once each object of it is, in that version or a later one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from controller.sources.kubernetes.resources import ObjectChange, Version

# After which a watch that should have said something is not trusted any more; longer each time, for slow machines.
SUSPICION_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All objects that the server had at `number`, with the numbers of their versions."""

    number: int
    versions: Mapping[str, int]


class WatchProgress:
    """Versions by name. One thread changes them, any may ask and wait."""

    def __init__(self) -> None:
        self.seen: int | None = None  # everything up to here is known; None: only a list can tell
        self.versions: dict[str, Version] = {}
        self.problems = 0  # how many there are in all objects
        self._problems: dict[str, int] = {}
        self._changed = threading.Condition()

    def take(self, changes: Iterable[ObjectChange], seen: int | None) -> None:
        """Note changes that were handed on, and how far that brings us."""
        with self._changed:
            for name, version, unit in changes:
                if unit is None:
                    self.versions.pop(name, None)
                else:
                    self.versions[name] = version
                self.problems -= self._problems.pop(name, 0)
                if unit is not None and unit.faults:
                    self._problems[name] = unit.faults
                    self.problems += unit.faults
            self.seen = seen
            self._changed.notify_all()

    def reach(self, mark: Checkpoint, deadline: float, doubt: Callable[[], None]) -> bool:
        """Wait until everything of `mark` is known, at the latest until time.monotonic() is `deadline`.

        `doubt` is called now and then when nothing happens.
        """
        patience = SUSPICION_SECONDS
        grace = time.monotonic() + patience
        with self._changed:
            while not self._has(mark):
                now = time.monotonic()
                if now >= deadline:
                    return False
                if now >= grace:
                    doubt()
                    patience *= 2
                    grace = now + patience
                self._changed.wait(min(deadline, grace) - now)
        return True

    def _has(self, mark: Checkpoint) -> bool:
        """Either the server has said something later, or every object of the mark is known as it was then or later, and
        none is left that was gone by then."""
        if self.seen is None:
            return False
        known = self.versions
        return self.seen >= mark.number or (
            all(name in known and known[name].number >= number for name, number in mark.versions.items())
            and all(name in mark.versions or version.number > mark.number for name, version in known.items())
        )
