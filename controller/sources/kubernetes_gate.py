"""What holds changes back while some watches are behind the others.

Each kind of object has a watch of its own. After an outage one may be up to date while another still lacks what came
first: a pod would be seen before the policy that was made before it, and stand open. So changes wait until all watches
are back, but not for long: one that stays away must not hold up the others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import structlog

from controller.sources.manifest import Unit

SETTLE_SECONDS = 0.2  # in which a watch that was opened again says what it missed
HOLD_SECONDS = 10.0  # the longest that a change waits

Units = Mapping[str, Unit | None]

log = structlog.get_logger("headgate")


class Gate:
    """Passes units on to `apply`, in order. Thread-safe."""

    def __init__(self, apply: Callable[[Units], None]) -> None:
        self._apply = apply
        self._condition = threading.Condition()
        self._behind: set[object] = set()
        self._given_up: set[object] = set()  # they stay away, and hold up nothing more until they are back
        self._held: dict[str, Unit | None] = {}
        self._held_since = 0.0
        self._settled_at = 0.0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="kubernetes-gate", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, keeping what is held for ever."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()

    def lost(self, watch: object) -> None:
        """A watch is behind from now on."""
        with self._condition:
            if watch not in self._given_up:
                self._behind.add(watch)

    def back(self, watch: object) -> None:
        """It goes on where it was lost, and has only to say what it missed: changes, or that it cannot go on."""
        with self._condition:
            self._given_up.discard(watch)
            if watch in self._behind:
                self._behind.discard(watch)
                self._settled_at = time.monotonic() + SETTLE_SECONDS
                self._condition.notify_all()

    def put(self, units: Units) -> None:
        """Pass these on, now or together with others."""
        with self._condition:
            if not self._held:
                self._held_since = time.monotonic()
            self._held.update(units)
            if time.monotonic() >= self._due():
                self._open()
            else:
                self._condition.notify_all()

    def flush(self) -> None:
        """Pass on what is held: all watches are known to be up to date."""
        with self._condition:
            self._open()

    def _due(self) -> float:
        """When to pass on what is held, as it looks now."""
        return self._held_since + HOLD_SECONDS if self._behind else self._settled_at

    def _open(self) -> None:
        if self._held:
            self._apply(self._held)
            self._held = {}

    def _run(self) -> None:
        with self._condition:
            while not self._stopping:
                if not self._held:
                    self._condition.wait()
                elif (left := self._due() - time.monotonic()) > 0:
                    self._condition.wait(left)
                else:
                    self._given_up |= self._behind
                    self._behind.clear()
                    self._try_open()

    def _try_open(self) -> None:
        try:
            self._open()
        except Exception:
            # What is held would never be passed on without this thread, nor anything after it.
            log.exception("changes of the Kubernetes API could not be taken in; they are kept and tried again")
            self._settled_at = time.monotonic() + HOLD_SECONDS
