"""Threads that must live as long as the process. `/healthz` fails when one of them ends without being released.

Threads of single connections and requests do not belong here. The registry takes no lock, so that both green and native
threads may use it.
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
    """A thread that must live. Made by `watched`; call `release` before it may end."""

    def __init__(self, name: str, target: Callable[[], object], native: bool) -> None:
        self.name = name
        self.native = native
        self.reason = ""  # why it ended without being released
        self.trace = ""
        self.logged = False
        self._target = target
        self._released = False
        self._number = next(_numbers)
        make = unpatched("threading").Thread if native else threading.Thread
        self._thread = make(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; from now on it must live."""
        for number, other in list(_watched.items()):
            if other.name == self.name and other.reason:
                _watched.pop(number, None)  # this one replaces it
        _watched[self._number] = self
        self._thread.start()

    def release(self) -> None:
        """From now on the thread may end."""
        self._released = True
        _watched.pop(self._number, None)

    def is_alive(self) -> bool:
        """Whether it was started and has not ended."""
        return bool(self._thread.is_alive())

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has ended, for at most `timeout` seconds; returns whether it has.

        Green threads run meanwhile, also while it waits for a native one.
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
        except BaseException as error:  # noqa: BLE001 - SystemExit and GreenletExit end it too
            reason = f"{type(error).__name__}: {error}"
            self.trace = traceback.format_exc()[-_LONGEST_TRACE:]
        finally:
            if not self._released:
                self.reason = reason
                # A native thread must not take logging's green locks; the next log_ended_threads() logs it.
                if not self.native:
                    log_ended_threads()


class _NotWaitedFor(threading.Event):
    def wait(self, timeout: float | None = None) -> bool:
        return True


class PromptThread(threading.Thread):
    """A daemon thread whose `start` does not wait until it runs.

    The standard library's waits. With green threads that is until all others that can run have had their turn, so that
    a listener which starts a thread for each connection accepts one in a turn, however many wait.
    """

    def __init__(self, target: Callable[..., object], name: str, args: tuple[object, ...] = ()) -> None:
        super().__init__(target=target, name=name, args=args, daemon=True)
        self._started = _NotWaitedFor()  # what `start` waits for

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has run and ended, for at most `timeout` seconds for each."""
        if threading.Event.wait(self._started, timeout):
            super().join(timeout)


def watched(name: str, target: Callable[[], object], *, native: bool = False) -> Watched:
    """A daemon thread, not started yet, without which the process is not healthy.

    `native`: a native thread on either hub.
    """
    return Watched(name, target, native)


def ended_threads() -> tuple[str, ...]:
    """The threads that ended without being released, each with the reason."""
    return tuple(f"{one.name}: {one.reason}" for one in list(_watched.values()) if one.reason)


def log_ended_threads() -> None:
    """Log each thread that ended without being released, once. For threads of the hub."""
    for one in list(_watched.values()):
        if one.reason and not one.logged:
            one.logged = True
            extra = {"stack": one.trace} if one.trace else {}
            log.critical("the thread %s has ended (%s); restart Headgate", one.name, one.reason, extra=extra)
