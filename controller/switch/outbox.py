"""What waits to be sent to one switch: short messages first, then the next chunk of a bundle.

A bundle's chunks are made one at a time when there is room, so a slow switch costs one chunk of memory. What the bytes
mean is not known here.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator


class Outbox:
    """A bounded queue between any number of threads that write and the one that sends."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self._short: deque[bytes] = deque()
        self._size = 0
        self._stream: Iterator[bytes] | None = None
        self._closed = False
        self._finishing = False

    def put(self, message: bytes) -> bool:
        """Queue a short message; waits while too much is queued. False when the session is over."""
        with self._changed:
            while self._size > self._limit and not self._closed:
                self._changed.wait()
            return self._append(message)

    def put_at_once(self, message: bytes) -> bool:
        """Queue a message of our own making, of which there are never many. Never waits. False when it is over."""
        with self._changed:
            return self._append(message)

    def _append(self, message: bytes) -> bool:
        if self._closed or self._finishing:
            return False
        self._short.append(message)
        self._size += len(message)
        self._changed.notify_all()
        return True

    def stream(self, chunks: Iterator[bytes]) -> None:
        """Send these chunks whenever no short message waits. Replaces an earlier stream."""
        with self._changed:
            self._stream = chunks
            self._changed.notify_all()

    def stop_stream(self) -> None:
        """Ask for no more chunks; one that was taken still goes out."""
        with self._changed:
            self._stream = None

    def finish(self) -> None:
        """Take no more; what waits still goes out."""
        with self._changed:
            self._finishing = True
            self._changed.notify_all()

    def close(self) -> None:
        """Forget everything, wake everybody."""
        with self._changed:
            self._closed = True
            self._short.clear()
            self._stream = None
            self._changed.notify_all()

    def take(self) -> bytes | None:
        """The next bytes to send; waits for some. None when there will be no more."""
        while True:
            with self._changed:
                while not (self._short or self._stream or self._closed or self._finishing):
                    self._changed.wait()
                if self._closed:
                    return None
                if self._short:
                    message = self._short.popleft()
                    self._size -= len(message)
                    self._changed.notify_all()
                    return message
                if self._finishing:
                    return None
                stream = self._stream
            # Made outside the lock: it takes a while, and must not hold up an echo reply.
            chunk = next(stream, None) if stream is not None else None
            if chunk is not None:
                return chunk
            with self._changed:
                if self._stream is stream:
                    self._stream = None
