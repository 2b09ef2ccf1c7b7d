"""Real threads beside a hub of green ones, and the way back from them.

A real thread must never touch what eventlet has replaced: locks, queues, sleep, even os.write. So it works with the
original modules, and hands its results over through a Mailbox, whose wake-up is a byte in a socket that a green thread
waits for. With plain threads all of this is the same code on the same modules.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def unpatched(name: str) -> Any:
    """A standard library module as it is without eventlet."""
    if os.environ.get("OSKEN_HUB_TYPE") == "eventlet":
        from eventlet import patcher

        return patcher.original(name)
    return __import__(name)


class Mailbox(Generic[T]):
    """Values from real threads to one receiver on the hub's side. `put` never blocks and loses nothing; `get` waits."""

    def __init__(self) -> None:
        self._values: deque[T] = deque()
        self._receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        self._descriptor = self._sender.fileno()
        self._write = unpatched("os").write
        self._closed = False

    def put(self, value: T) -> None:
        """Hand over a value; for real threads."""
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
        """End a waiting `get`. Real threads that use the mailbox must have ended."""
        self._closed = True
        self._wake()

    def release(self) -> None:
        """Give the sockets back, once `get` has returned None."""
        self._receiver.close()
        self._sender.close()

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # so many wake-ups are on their way that one more makes no difference
            self._write(self._descriptor, b"\0")
