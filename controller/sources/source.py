"""What a source of Kubernetes objects is to the rest: it starts, stops, is read again, and says how it is doing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from controller.base.errors import StartError


class SourceError(StartError):
    """A source cannot start. The message says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class SourceState:
    """How a source is doing.

    `current_at` is the time.monotonic() at which it was last known to be current, None before the first sync; `reason`
    says why it is not current, "" when it is; `problems` counts what it could not take as it stands, and `ignored` what
    is none of Headgate's business, by what it is.
    """

    name: str
    kind: str
    synced: bool
    current_at: float | None
    problems: int
    reason: str
    ignored: tuple[tuple[str, int], ...] = ()


class Source(Protocol):
    """A source feeds a Store; the Store starts and stops it. All methods are called on the hub's side of things."""

    def start(self) -> None:
        """Begin to feed the store. Raises SourceError when that cannot work."""

    def stop(self) -> None:
        """End everything that `start` began, within a second. The store keeps what it has."""

    def reread(self, timeout: float) -> None:
        """Return once the store has all that stood in the source at the call.

        Raises TimeoutError after `timeout` seconds.
        """

    def state(self) -> SourceState:
        """How it is doing now."""
