"""The concurrency hub: eventlet's green threads or plain threads, chosen once before anything else is imported.

Code elsewhere uses the standard library's threading, queue and socket, which eventlet replaces; only what the standard
library cannot say stands here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
HUBS = ("eventlet", "native")


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


def offload(work: Callable[..., T], *args: object) -> T:
    """Run a long computation so that other threads go on, the switches' echo requests among them.

    Under eventlet it runs in a real thread of a pool while this green thread waits; plain threads are preempted anyway.
    """
    if os.environ.get("OSKEN_HUB_TYPE") != "eventlet":
        return work(*args)
    from eventlet import tpool

    result: T = tpool.execute(work, *args)
    return result
