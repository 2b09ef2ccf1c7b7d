"""What waits to be sent to one switch: short messages first, then the next chunk of a bundle.

A bundle's chunks are made one at a time when there is room, so a slow switch costs one chunk of memory. What the bytes
mean is not known here.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

_TOGETHER = 1 << 16  # bytes of short messages that go out in one: a thousand echo replies are not a thousand calls


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

    def wait_for_room(self) -> None:
        """Wait while too much is queued, which is how a peer that does not read is not read either."""
        with self._changed:
            while self._size > self._limit and not self._closed:
                self._changed.wait()

    def put(self, message: bytes) -> bool:
        """Queue a short message. Never waits: who answers a peer's messages waits for room before it takes them.

        False when the session is over.
        """
        with self._changed:
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
                    return self._take_short()
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

    def _take_short(self) -> bytes:
        """The short messages that wait, as many as go out together. Holds the lock."""
        taken, size = [], 0
        while self._short and size < _TOGETHER:
            taken.append(self._short.popleft())
            size += len(taken[-1])
        self._size -= size
        self._changed.notify_all()
        return b"".join(taken)
