"""The concurrency hub: eventlet's green threads or native threads, chosen once before anything else is imported.

Theory of operation. With the hub "eventlet", `install` replaces the standard library's threading, queue and socket by
green ones: one native thread runs all green threads, and switches between them where one waits. With "native", the
standard library stays. All other code uses the standard library and runs on both hubs; only what the standard library
cannot do is here, in `threads` and in `native_threads`.

A green thread that computes for a second stops all others, so that switches miss their echo replies and close their
sessions. Long computations therefore run in a native thread, by `offload`. Example: the event loop computes the flows
of a large cluster with `offload(reconciler.handle, events, now)`; OpenFlow sessions go on meanwhile.

os-ken's own `hub` is for os-ken only: its native form ends a thread silently on any exception, its `Event.wait` has no
timeout, and its `kill` does nothing.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")
HUBS = ("eventlet", "native")
# How long a computation beside the hub keeps the interpreter to itself (sys.setswitchinterval; 5 ms without this). Each
# read and write of a socket gives the interpreter away, so that the hub waits that long for it again: with 5 ms, a
# thousand connections get fewer answers to their echo requests than they send while a large fleet is planned.
SWITCH_SECONDS = 0.001
_REST_SECONDS = 1.0  # after an exception, so that a lasting error does not fill the log
_LOG = logging.getLogger(__name__)


def install(hub: str) -> None:
    """Choose the hub for this process. Must run before os_ken, ovs, or anything that uses sockets is imported.

    Raises ValueError for a name that is not in HUBS.
    """
    if hub not in HUBS:
        raise ValueError(f"hub {hub!r} is not one of {', '.join(HUBS)}")
    os.environ["OSKEN_HUB_TYPE"] = hub
    if hub == "eventlet":
        import eventlet

        eventlet.monkey_patch()
        sys.setswitchinterval(SWITCH_SECONDS)
        _speed_up_current_thread()
        _close_after_failed_handshakes()


def _speed_up_current_thread() -> None:
    """Make `threading.current_thread` look its thread up in a dictionary.

    eventlet's searches a list of all threads, at each log line and each end of a thread: when thousands of sessions
    ended together, that took minutes.
    """
    threads: dict[int, threading.Thread] = threading._active  # type: ignore[attr-defined]
    original, ident = threading.current_thread, threading.get_ident

    def current_thread() -> threading.Thread:
        found = threads.get(ident())
        return found if found is not None else original()

    threading.current_thread = current_thread


def _close_after_failed_handshakes() -> None:
    """Have TLS sockets closed when they cannot be made, as the standard library does.

    eventlet leaves that to the garbage collector, which runs seldom here: while an API server did not answer, each
    attempt to reach it kept a descriptor.
    """
    from eventlet.green import ssl

    original = ssl.GreenSSLSocket.__init__

    def begin(self: ssl.GreenSSLSocket, *arguments: object, **options: object) -> None:
        try:
            original(self, *arguments, **options)
        except BaseException:
            self.close()
            raise

    ssl.GreenSSLSocket.__init__ = begin


def log_exceptions(handler: Callable[P, object]) -> Callable[P, None]:
    """Decorator for an os-ken event handler: logs every exception, which would otherwise end the calling thread.

    Put it below `set_ev_cls`, which marks the function it gets.
    """

    @functools.wraps(handler)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            handler(*args, **kwargs)
        except Exception:  # noqa: BLE001 - the purpose of this decorator
            _LOG.exception("the handler %s failed", getattr(handler, "__qualname__", handler))

    return call


def run_until(ended: threading.Event, work: Callable[[], object]) -> Callable[[], None]:
    """A main function for a thread that must live (see `controller.base.threads`).

    It calls `work` again and again until `ended` is set, and logs what `work` raises.
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
    """Call `work` so that other threads go on meanwhile, such as OpenFlow sessions that answer echo requests.

    With eventlet, a native thread of a pool runs it while this green thread waits; native threads are preempted anyway.
    """
    if os.environ.get("OSKEN_HUB_TYPE") != "eventlet":
        return work(*args)
    from eventlet import tpool

    result: T = tpool.execute(work, *args)
    return result
