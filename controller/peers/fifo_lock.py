"""A lock that is handed over in the order in which threads asked for it."""

from __future__ import annotations

import threading
from collections import deque


class FifoLock:
    """`with lock:` waits until all threads that asked before have had it. It is not reentrant.

    Sessions handle their messages under one of these, so other threads run between two sessions' turns, however many
    switches send much. The holder must not wait for anything.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()  # until the holder releases it; a lock that all threads wait for keeps no order

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
