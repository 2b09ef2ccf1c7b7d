"""Finds what closes a descriptor that another green thread waits on.

The kernel forgets a closed descriptor, so nothing wakes that thread any more, and eventlet keeps it in its list: the
next connection that gets the number is "a second simultaneous reader". Who closes shuts down first, and lets the
thread that reads go.
"""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Callable
from typing import Any

FOUND = "a descriptor is closed that another thread waits on:"


def watch(found: Callable[[str], object]) -> None:
    """Tell `found` of each such close from now on, with where it happened. To be called once eventlet is installed."""
    from eventlet import getcurrent
    from eventlet.hubs import get_hub
    from eventlet.patcher import original

    plain: Any = original("socket").socket
    close = plain._real_close

    @functools.wraps(close)
    def watched(self: Any, *arguments: Any) -> None:
        number = self.fileno()
        waiting = [bucket[number] for bucket in get_hub().listeners.values() if number in bucket]
        if any(one.greenlet is not getcurrent() and not one.greenlet.dead for one in waiting):
            stacks = ["".join(traceback.format_stack(one.greenlet.gr_frame)) for one in waiting]
            found("\n".join((FOUND, *traceback.format_stack()[:-1], "waiting:", *stacks)))
        close(self, *arguments)

    plain._real_close = watched


def say(text: str) -> None:
    """Where it is only to be found in the process's output."""
    sys.stderr.write(text + "\n")


class ClosedDescriptorCheck:
    """For pytest: the run fails that closed such a descriptor."""

    def __init__(self) -> None:
        self.found: list[str] = []
        watch(self.found.append)

    def pytest_sessionfinish(self, session: Any) -> None:
        """Called by pytest at the end of the run."""
        if self.found:
            say("\n".join(self.found))
            session.exitstatus = 1
