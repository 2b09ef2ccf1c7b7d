"""A connected socket spoken to in TLS, alike under both hubs and safe for one thread that reads and one that writes.

The standard library's TLS sockets are neither: two threads in one of them race in OpenSSL, and eventlet's cannot have
two green threads wait on one of them. Here OpenSSL works on memory, a call at a time, and only plain bytes wait on the
plain socket. Who the peer is and whether it may come in is `credentials`'s business.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import threading
import time
from typing import Any

from controller.tls.peer_certificates import tls_refusal

_READ = 1 << 16
_CHUNK = 1 << 16  # bytes that are encrypted at a time


class TlsSocket:
    """The calls of a socket that a connection needs, in TLS. Errors are OSError, as with sockets.

    Like a plain one it blocks, has a timeout, or neither, as `settimeout` and `setblocking` say.
    """

    def __init__(self, plain: socket.socket, context: ssl.SSLContext, server_side: bool) -> None:
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side)
        self._lock = threading.Lock()  # OpenSSL's object takes one call at a time
        self._sending = threading.Lock()  # what is encrypted leaves in the order in which it was
        self._left = b""  # encrypted, and not taken by the socket yet
        self._promised = 0  # bytes of the caller's that are in `_left`, and not reported as sent yet

    @property
    def family(self) -> socket.AddressFamily:
        """The plain socket's."""
        return socket.AddressFamily(self._plain.family)

    @property
    def unsent(self) -> bool:
        """True while something waits until the socket can be written to."""
        return bool(self._left)

    @property
    def pending(self) -> bool:
        """True when there is something to read of which the plain socket does not know any more."""
        with self._lock:
            return bool(self._tls.pending() or self._incoming.pending)

    def certificate(self) -> dict[str, Any]:
        """The peer's, as `ssl` gives it; empty before the handshake."""
        with self._lock:
            try:
                return dict(self._tls.getpeercert() or {})
            except ValueError:  # the handshake is not done
                return {}

    def version(self) -> str:
        """The version of TLS that was agreed on, like TLSv1.3."""
        return self._tls.version() or ""

    def shake_hands(self, seconds: float) -> None:
        """The whole handshake, within `seconds`. Raises Refused."""
        deadline = time.monotonic() + seconds
        done = False
        while not done:
            left = deadline - time.monotonic()
            if left <= 0:
                raise tls_refusal(TimeoutError())
            self._plain.settimeout(left)
            done = self.step()

    def step(self) -> bool:
        """One step of the handshake: True when it is done. Raises Refused, or BlockingIOError when it has to wait."""
        try:
            with self._sending:
                self._flush()
            if self._try_handshake():
                return True
            raw = self._plain.recv(_READ)
            if not raw:
                raise ssl.SSLEOFError("closed in the handshake")
        except BlockingIOError:
            raise
        except OSError as error:
            raise tls_refusal(error) from None
        with self._lock:
            self._incoming.write(raw)
        return False

    def _try_handshake(self) -> bool:
        try:
            with self._lock:
                self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._answer()
            return False
        except ssl.SSLError:
            with contextlib.suppress(OSError):
                self._answer()  # tells the peer why
            raise
        self._answer()
        return True

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes; none at the peer's end. Raises TimeoutError or BlockingIOError when there is nothing.

        The socket is read once at most, so that a peer that sends a byte at a time holds nobody up for longer than the
        timeout.
        """
        for fresh in (False, True):
            if fresh:
                raw = self._plain.recv(_READ)
                if not raw:
                    return b""
                with self._lock:
                    self._incoming.write(raw)
            try:
                with self._lock:
                    data = self._tls.read(size)
            except ssl.SSLWantReadError:
                self._answer()
                continue
            except ssl.SSLZeroReturnError:
                return b""
            return bytes(data)
        if self._plain.gettimeout() == 0.0:
            raise BlockingIOError(errno.EAGAIN, "only a part of a TLS record came")
        raise TimeoutError("only a part of a TLS record came")

    def send(self, data: bytes | memoryview) -> int:
        """How many bytes of `data` were sent, one at least.

        After TimeoutError or BlockingIOError it must be called again with the same data, which has been encrypted.
        """
        with self._sending:
            if not self._promised:
                with self._lock:
                    self._promised = self._tls.write(data[:_CHUNK])
                    self._left += self._outgoing.read()
            self._flush()
            sent, self._promised = self._promised, 0
            return sent

    def _answer(self) -> None:
        """Send what reading made TLS say. Where another thread is sending, that comes with its next message."""
        if not self._sending.acquire(blocking=False):
            return
        try:
            with self._lock:
                self._left += self._outgoing.read()
            with contextlib.suppress(TimeoutError, BlockingIOError):
                self._flush()
        finally:
            self._sending.release()

    def _flush(self) -> None:
        while self._left:
            self._left = self._left[self._plain.send(self._left) :]

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """As the plain socket's."""
        self._plain.setsockopt(level, option, value)

    def settimeout(self, seconds: float | None) -> None:
        """As the plain socket's."""
        self._plain.settimeout(seconds)

    def setblocking(self, blocking: bool) -> None:
        """As the plain socket's."""
        self._plain.setblocking(blocking)

    def fileno(self) -> int:
        """As the plain socket's; what it says of being ready is only true while nothing is `pending`."""
        return self._plain.fileno()

    def getpeername(self) -> Any:
        """The plain socket's peer."""
        return self._plain.getpeername()

    def getsockname(self) -> Any:
        """As the plain socket's."""
        return self._plain.getsockname()

    def shutdown(self, how: int) -> None:
        """End the connection without TLS's goodbye, which OpenFlow and JSON-RPC do without."""
        self._plain.shutdown(how)

    def close(self) -> None:
        """As the plain socket's."""
        self._plain.close()
