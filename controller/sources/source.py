"""The interface of a source of Kubernetes objects, and its state. How a source reads does not belong here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from controller.base.errors import StartError


class SourceError(StartError):
    """A source cannot start. The message says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class SourceState:
    """The state of a source.

    `current_at` is the time.monotonic() at which it was last known to be current, None before the first sync. `reason`
    says why it is not current, "" when it is. `problems` is the number of problems in its objects. `ignored` has the
    number of objects and files that Headgate does not read, by kind.
    """

    name: str
    kind: str
    synced: bool
    current_at: float | None
    problems: int
    reason: str
    ignored: tuple[tuple[str, int], ...] = ()


class Source(Protocol):
    """Feeds a Store, which starts and stops it. All methods are called in threads of the hub."""

    def start(self) -> None:
        """Begin to feed the store. Raises SourceError when the source cannot be read at all."""

    def stop(self) -> None:
        """End everything that `start` began, within a second. The store keeps its objects."""

    def reread(self, timeout: float) -> None:
        """Return once the store has everything that was in the source at the call.

        Raises TimeoutError after `timeout` seconds.
        """

    def state(self) -> SourceState:
        """The state now."""
