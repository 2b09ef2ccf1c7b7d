"""Threads that must live for as long as the process: who they are, and which of them are gone.

`/healthz` fails when one has ended that nobody released. Threads of single peers and requests come and go, and do not
belong here. The registry takes no lock, so that green threads and real ones may both use it.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
import traceback
from collections.abc import Callable

from controller.base.native_threads import unpatched

log = logging.getLogger(__name__)

JOIN_POLL_SECONDS = 0.005
_LONGEST_TRACE = 4000  # characters of a traceback that are kept
_numbers = itertools.count()
_watched: dict[int, Watched] = {}


class Watched:
    """A thread that must live. Made by `watched`; `release` it before it may end."""

    def __init__(self, name: str, target: Callable[[], object], native: bool) -> None:
        self.name = name
        self.native = native
        self.reason = ""  # why it has ended though nobody released it
        self.trace = ""
        self.told = False
        self._target = target
        self._released = False
        self._number = next(_numbers)
        make = unpatched("threading").Thread if native else threading.Thread
        self._thread = make(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin, and be missed from now on."""
        for number, other in list(_watched.items()):
            if other.name == self.name and other.reason:
                _watched.pop(number, None)  # this one takes its place
        _watched[self._number] = self
        self._thread.start()

    def release(self) -> None:
        """It may end from now on."""
        self._released = True
        _watched.pop(self._number, None)

    def is_alive(self) -> bool:
        """Whether it has begun and not ended."""
        return bool(self._thread.is_alive())

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has ended, for at most `timeout` seconds; returns whether it has.

        Green threads run meanwhile, also while a real one is waited for.
        """
        if self._thread.ident is None:
            return True
        if not self.native:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._thread.is_alive():
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(JOIN_POLL_SECONDS)
        return True

    def _run(self) -> None:
        reason = "it ended by itself"
        try:
            self._target()
        except BaseException as error:  # noqa: BLE001 - whatever ends it, SystemExit and GreenletExit too, is missed
            reason = f"{type(error).__name__}: {error}"
            self.trace = traceback.format_exc()[-_LONGEST_TRACE:]
        finally:
            if not self._released:
                self.reason = reason
                # A real thread must not take the locks of logging, which are green; whoever asks next says it.
                if not self.native:
                    log_ended_threads()


def watched(name: str, target: Callable[[], object], *, native: bool = False) -> Watched:
    """A daemon thread, not started yet, without which the process is not healthy.

    `native` makes a real thread also where the hub's threads are green.
    """
    return Watched(name, target, native)


def ended_threads() -> tuple[str, ...]:
    """The threads that have ended and should not have, each with the reason; empty while all is well."""
    return tuple(f"{one.name}: {one.reason}" for one in list(_watched.values()) if one.reason)


def log_ended_threads() -> None:
    """Log, once each, the threads that are gone. For threads of the hub."""
    for one in list(_watched.values()):
        if one.reason and not one.told:
            one.told = True
            extra = {"stack": one.trace} if one.trace else {}
            log.critical("the thread %s is gone (%s); restart Headgate", one.name, one.reason, extra=extra)
