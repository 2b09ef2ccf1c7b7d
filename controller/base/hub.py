"""The concurrency hub: eventlet's green threads or plain threads, chosen once before anything else is imported.

Code elsewhere uses the standard library's threading, queue and socket, which eventlet replaces; only what the standard
library cannot say stands here. os-ken's own `hub` is used by os-ken alone: its native form takes every exception for
the wish to end a thread and says nothing, its `Event.wait` knows no timeout, and its `kill` does nothing.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")
HUBS = ("eventlet", "native")
_REST_SECONDS = 1.0  # after an exception, so that a fault that stays does not fill the log
_LOG = logging.getLogger(__name__)


def install(hub: str) -> None:
    """Choose the hub for this process. Must run before os_ken, ovs, or anything that uses sockets is imported.

    Raises ValueError for a name that is not in HUBS.
    """
    if hub not in HUBS:
        raise ValueError(f"hub {hub!r} is none of {', '.join(HUBS)}")
    os.environ["OSKEN_HUB_TYPE"] = hub
    if hub == "eventlet":
        import eventlet

        eventlet.monkey_patch()
        _know_threads()


def _know_threads() -> None:
    """Let `threading.current_thread` look its thread up.

    eventlet's goes through a list of all threads at a thread's every call, and each log line and each end of a thread
    makes one: thousands of sessions that ended together took minutes.
    """
    known: dict[int, threading.Thread] = threading._active  # type: ignore[attr-defined]
    slowly, ident = threading.current_thread, threading.get_ident

    def current_thread() -> threading.Thread:
        found = known.get(ident())
        return found if found is not None else slowly()

    threading.current_thread = current_thread


def log_exceptions(handler: Callable[P, object]) -> Callable[P, None]:
    """A handler that os-ken calls, with every exception logged here, before it ends the thread that calls it.

    Put it below `set_ev_cls`, which marks what it is given.
    """

    @functools.wraps(handler)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            handler(*args, **kwargs)
        except Exception:  # noqa: BLE001 - that is what this is for
            _LOG.exception("the handler %s failed", getattr(handler, "__qualname__", handler))

    return call


def run_until(ended: threading.Event, work: Callable[[], object]) -> Callable[[], None]:
    """A main for a thread that must live (see `controller.base.threads`).

    `work` is called again and again until `ended`, whatever it raises.
    """

    def main() -> None:
        while not ended.is_set():
            try:
                work()
            except Exception:  # noqa: BLE001 - the thread must live
                _LOG.exception("%s failed; going on", getattr(work, "__qualname__", work))
                ended.wait(_REST_SECONDS)

    return main


def offload(work: Callable[..., T], *args: object) -> T:
    """Run a long computation so that other threads go on, the switches' echo requests among them.

    Under eventlet it runs in a real thread of a pool while this green thread waits; plain threads are preempted anyway.
    """
    if os.environ.get("OSKEN_HUB_TYPE") != "eventlet":
        return work(*args)
    from eventlet import tpool

    result: T = tpool.execute(work, *args)
    return result
