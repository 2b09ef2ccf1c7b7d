"""Native threads beside a hub of green ones, and how they pass values to green threads.

A native thread must never use what eventlet has patched: locks, queues, sleep, even os.write. It uses the `unpatched`
modules, and passes its results through a Mailbox, which wakes the green receiver by a byte on a socket. With the native
hub, the same code runs on the same modules.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def unpatched(name: str) -> Any:
    """A standard library module as it is without eventlet's patches."""
    if os.environ.get("OSKEN_HUB_TYPE") == "eventlet":
        from eventlet import patcher

        return patcher.original(name)
    return __import__(name)


class Mailbox(Generic[T]):
    """Values from native threads to one thread of the hub. `put` never blocks and loses nothing; `get` waits."""

    def __init__(self) -> None:
        self._values: deque[T] = deque()
        self._receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        self._descriptor = self._sender.fileno()
        self._write = unpatched("os").write
        self._closed = False

    def put(self, value: T) -> None:
        """Pass a value; for native threads."""
        self._values.append(value)
        self._wake()

    def get(self) -> T | None:
        """The next value, or None once closed; for one thread of the hub."""
        while not self._closed:
            if self._values:
                return self._values.popleft()
            self._receiver.recv(4096)
        return None

    def close(self) -> None:
        """Make `get` return None. Native threads that use the mailbox must have ended."""
        self._closed = True
        self._wake()

    def release(self) -> None:
        """Close the sockets, after `get` has returned None."""
        self._receiver.close()
        self._sender.close()

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # the socket is full of wake-ups, so the receiver will wake anyway
            self._write(self._descriptor, b"\0")
