"""The send queue of one switch: short messages first, then the next chunk of a bundle.

A bundle's chunks are made one at a time when there is room, so a slow switch costs the memory of one chunk. What the
bytes mean must not live here.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

_BATCH_BYTES = 1 << 16  # of short messages sent in one call, such as echo replies


class Outbox:
    """A bounded queue with any number of writing threads and one sending thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self._short: deque[bytes] = deque()
        self._size = 0
        self._stream: Iterator[bytes] | None = None
        self._closed = False
        self._finishing = False

    def wait_for_room(self) -> None:
        """Wait while more than the limit is queued, so that a peer that does not read is not read from either."""
        with self._changed:
            while self._size > self._limit and not self._closed:
                self._changed.wait()

    def put(self, message: bytes) -> bool:
        """Queue a short message; returns at once. The receiver calls `wait_for_room` before it handles messages.

        False when the session has ended.
        """
        with self._changed:
            if self._closed or self._finishing:
                return False
            self._short.append(message)
            self._size += len(message)
            self._changed.notify_all()
            return True

    def stream(self, chunks: Iterator[bytes]) -> None:
        """Send these chunks while no short message waits. Replaces an earlier stream."""
        with self._changed:
            self._stream = chunks
            self._changed.notify_all()

    def stop_stream(self) -> None:
        """Take no more chunks from the stream; one that was taken is still sent."""
        with self._changed:
            self._stream = None

    def finish(self) -> None:
        """Accept no more messages; queued ones are still sent."""
        with self._changed:
            self._finishing = True
            self._changed.notify_all()

    def close(self) -> None:
        """Drop what is queued, and end all waits."""
        with self._changed:
            self._closed = True
            self._short.clear()
            self._stream = None
            self._changed.notify_all()

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def take(self) -> bytes | None:
        """Wait for the next bytes to send. None when there will be no more."""
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
            # The chunk is made outside the lock, so that it does not delay an echo reply.
            chunk = next(stream, None) if stream is not None else None
            if chunk is not None:
                return chunk
            with self._changed:
                if self._stream is stream:
                    self._stream = None

    def _take_short(self) -> bytes:
        """Queued short messages, up to _BATCH_BYTES. Holds the lock."""
        taken, size = [], 0
        while self._short and size < _BATCH_BYTES:
            taken.append(self._short.popleft())
            size += len(taken[-1])
        self._size -= size
        self._changed.notify_all()
        return b"".join(taken)
