"""The thread that accepts connections at a listening socket. It goes on after any error, until it is closed.

Out of descriptors or memory, it logs the error and waits before it tries again, up to a second.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)
ACCEPT_TIMEOUT = 0.5  # seconds, after which it checks whether it was closed
FIRST_ACCEPT_PAUSE, MAX_ACCEPT_PAUSE = 0.05, 1.0  # seconds, after an error
ACCEPTS_PER_TURN = 512  # connections accepted before other threads run: their peers give up soon
# Errors of the connection that would have been accepted, not of this process (accept(2)).
_PEER_ERRORS = frozenset({errno.ECONNABORTED, errno.EINTR, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.ENOPROTOOPT,
                          errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH})  # fmt: skip


class Acceptor:
    """Calls `accepted(connection, address)` for each connection at a listening socket, which it owns from now on.

    `run` is the thread's main function; it ends only after `close`. `accepted` must not wait, and may raise anything.
    `what` names the protocol in log lines.
    """

    def __init__(self, listening: socket.socket, what: str, accepted: Callable[[socket.socket, object], None]) -> None:
        self._socket = listening
        self._socket.settimeout(ACCEPT_TIMEOUT)
        self._what = what
        self._accepted = accepted
        self._closing = threading.Event()
        self._running = False
        self._rest = FIRST_ACCEPT_PAUSE

    def run(self) -> None:
        """Accept until closed."""
        self._running = True
        accepted = 0
        try:
            while not self._closing.is_set():
                self.accept_one()
                accepted += 1
                if accepted % ACCEPTS_PER_TURN == 0:
                    time.sleep(0)
        finally:
            self._socket.close()

    def accept_one(self) -> None:
        """Wait for one connection, up to ACCEPT_TIMEOUT, and hand it on. Raises nothing."""
        try:
            connection, address = self._socket.accept()
        except TimeoutError:
            return
        except Exception as error:  # noqa: BLE001 - no error of accept may end the thread
            self._failed(error)
            return
        try:
            self._accepted(connection, address)
        except Exception as error:  # noqa: BLE001 - the connection ends, not the thread
            connection.close()
            self._failed(error)
        else:
            self._rest = FIRST_ACCEPT_PAUSE

    def _failed(self, error: Exception) -> None:
        if self._closing.is_set():
            return
        if isinstance(error, OSError) and error.errno in _PEER_ERRORS:
            time.sleep(0)
            return
        log.error(f"cannot accept {self._what} connections; trying again", error=f"{type(error).__name__}: {error}")
        self._closing.wait(self._rest)
        self._rest = min(self._rest * 2, MAX_ACCEPT_PAUSE)

    def close(self) -> None:
        """Accept no more; `run` returns soon."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread
        if not self._running:
            self._socket.close()
