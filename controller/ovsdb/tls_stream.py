"""A TLS stream for the `ovs` package whose handshake does not block its thread.

The package's own SSLStream uses one certificate for the whole process, reloads it without reporting errors, and only
connects. Which peers are allowed must not live here: see `controller.tls`.
"""

from __future__ import annotations

import errno
import ssl
import time
from typing import Any

import ovs.poller
import ovs.stream
import structlog

from controller.tls.credentials import Credentials
from controller.tls.peer_certificates import TlsRefused, tls_refusal

log = structlog.get_logger(__name__)
HANDSHAKE_SECONDS = 8.0  # for the TLS handshake


class TlsStream(ovs.stream.Stream):  # type: ignore[misc]  # ovs has no types
    """TLS over a connected, non-blocking socket. `failure` is the reason of its end, empty before."""

    socket: Any

    def __init__(self, sock: Any, name: str, credentials: Credentials, server_side: bool) -> None:
        super().__init__(credentials.secure(sock, server_side), name, 0)
        self.failure = ""
        self._credentials = credentials
        self._ready = False
        self._deadline = time.monotonic() + HANDSHAKE_SECONDS

    @property
    def ready(self) -> bool:
        """Whether the peer is authenticated and allowed."""
        return self._ready and not self.failure

    def connect(self) -> int:
        """Continue the handshake: 0 when it is done, EAGAIN while it waits for the peer, EPROTO when it refuses it."""
        if self.failure:
            return errno.EPROTO
        if self._ready:
            return 0
        try:
            while not self.socket.step():
                pass
            name = self._credentials.authorize(self.socket)
        except BlockingIOError:
            return errno.EAGAIN if time.monotonic() < self._deadline else self._refuse(tls_refusal(TimeoutError()))
        except TlsRefused as refused:
            return self._refuse(refused)
        self._ready = True
        log.info("OVSDB peer authenticated", peer=self.name, certificate=name, version=self.socket.version())
        return 0

    def _refuse(self, refused: TlsRefused) -> int:
        self.failure = refused.text
        # Without the port, which changes with every attempt, so that repeated warnings are equal.
        where = self.name.rpartition(":")[0]
        log.warning("refused the OVSDB connection", peer=where, reason=refused.text)
        self._credentials.count("ovsdb", where, refused)
        return errno.EPROTO

    def recv(self, n: int) -> tuple[int, bytes | str]:
        """As the package's: (0, data), (0, empty) at the end of the stream, or (errno, empty)."""
        try:
            return self._recv(n)  # type: ignore[no-any-return]
        except OSError as error:
            return self._failed(error), b""

    def send(self, buf: str | bytes) -> int:
        """As the package's: bytes sent, or a negative errno."""
        try:
            return self._send(buf)  # type: ignore[no-any-return]
        except OSError as error:
            return -self._failed(error)

    def _failed(self, error: OSError) -> int:
        if isinstance(error, ssl.SSLError):
            self.failure = tls_refusal(error).text  # TLS 1.3: a server's refusal may come this late
            return errno.EPROTO
        return error.errno or errno.EPROTO

    def wait(self, poller: Any, wait: int) -> None:
        """Wake the poller when the next step can be done."""
        if self.failure or (self._ready and wait == self.W_RECV and self.socket.pending):
            poller.immediate_wake()
            return
        sending = wait == self.W_SEND if self._ready else self.socket.unsent
        poller.fd_wait(self.socket, ovs.poller.POLLOUT if sending else ovs.poller.POLLIN)

    def run_wait(self, poller: Any) -> None:
        """Wake the poller when the handshake can continue."""
        if not self._ready:
            self.wait(poller, self.W_CONNECT)
