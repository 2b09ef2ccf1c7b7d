"""How far the watch of one kind of object has come: the version of each known object, and waiting for a checkpoint.

A checkpoint is what a consistent list of the server held at one moment. The watch has reached it once every listed
object is known in that version or a later one, so a watch that is caught up is told from one that is silent without the
server's help. No requests here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from controller.sources.kubernetes.resources import ObjectChange, Version

# After which a watch that should have delivered something counts as suspect; doubled each time for slow machines.
SUSPICION_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All objects that the server had at resourceVersion `number`: name to the number of the object's version."""

    number: int
    versions: Mapping[str, int]


class WatchProgress:
    """The known objects of one kind. One thread records changes; any thread may read and wait.

    `resource_version` is the one up to which all changes are known, None when only a list can tell. `versions` has the
    version of each known object by its name, `problems` the number of problems in all of them.
    """

    def __init__(self) -> None:
        self.resource_version: int | None = None
        self.versions: dict[str, Version] = {}
        self.problems = 0
        self._problems: dict[str, int] = {}
        self._changed = threading.Condition()

    def record(self, changes: Iterable[ObjectChange], resource_version: int | None) -> None:
        """Record changes that were passed on, and the resourceVersion up to which all are known with them."""
        with self._changed:
            for name, version, unit in changes:
                if unit is None:
                    self.versions.pop(name, None)
                else:
                    self.versions[name] = version
                self.problems -= self._problems.pop(name, 0)
                if unit is not None and unit.problem_count:
                    self._problems[name] = unit.problem_count
                    self.problems += unit.problem_count
            self.resource_version = resource_version
            self._changed.notify_all()

    def wait_for(self, checkpoint: Checkpoint, deadline: float, suspect: Callable[[], None]) -> bool:
        """Wait until everything of `checkpoint` is known; False when time.monotonic() reaches `deadline` before.

        `suspect` is called when nothing has arrived for SUSPICION_SECONDS, then after growing times.
        """
        patience = SUSPICION_SECONDS
        suspect_at = time.monotonic() + patience
        with self._changed:
            while not self._has(checkpoint):
                now = time.monotonic()
                if now >= deadline:
                    return False
                if now >= suspect_at:
                    suspect()
                    patience *= 2
                    suspect_at = now + patience
                self._changed.wait(min(deadline, suspect_at) - now)
        return True

    def _has(self, checkpoint: Checkpoint) -> bool:
        """Whether the watch is past the checkpoint's resourceVersion, or knows all of its objects, each in the listed
        version or a later one, and no object that was deleted by then."""
        if self.resource_version is None:
            return False
        if self.resource_version >= checkpoint.number:
            return True
        there, listed = self.versions, checkpoint.versions
        return all(name in there and there[name].number >= number for name, number in listed.items()) and all(
            name in listed or version.number > checkpoint.number for name, version in there.items()
        )
