"""A TLS socket that works the same under both hubs, and with one reading and one sending thread.

The standard library's TLS sockets do not: two threads in one of them race in OpenSSL, and eventlet's cannot have two
green threads wait on one of them. Which peers are allowed must not live here: see `credentials`.

Theory of operation. OpenSSL reads and writes memory buffers (`ssl.MemoryBIO`), one call at a time under `_lock`; only
the plain socket waits, outside that lock. `send` encrypts up to _CHUNK bytes into `_left` and sends that under
`_sending`, so records leave in the order in which they were encrypted. `recv` reads the plain socket at most once and
decrypts. Decrypting can make TLS produce output (an alert, a key update): `_send_output` sends it, or leaves it to the
sending thread.

Example: `send(b"x" * 100_000)` on a socket with a timeout encrypts 65,536 bytes. The peer's window is full, so only a
part of the records is sent and TimeoutError is raised; `_promised` is 65,536. The caller calls `send` with the same
data again, nothing is encrypted twice, and when the last record has left it returns 65,536.
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
_CHUNK = 1 << 16  # bytes that are encrypted in one call


class TlsSocket:
    """The methods of a socket that a connection needs, with TLS. Errors are OSError, as with sockets.

    Blocking, non-blocking or with a timeout, as set with `settimeout` and `setblocking`.
    """

    def __init__(self, plain: socket.socket, context: ssl.SSLContext, server_side: bool) -> None:
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side)
        self._lock = threading.Lock()  # OpenSSL's object takes one call at a time
        self._sending = threading.Lock()  # records are sent in the order in which they were encrypted
        self._left = b""  # encrypted, and not sent yet
        self._promised = 0  # bytes of the caller that are in `_left`, and not reported as sent yet

    @property
    def family(self) -> socket.AddressFamily:
        """As the plain socket's."""
        return socket.AddressFamily(self._plain.family)

    @property
    def unsent(self) -> bool:
        """Whether encrypted bytes wait for the socket to be writable."""
        return bool(self._left)

    @property
    def pending(self) -> bool:
        """Whether there is data to read that has left the plain socket already."""
        with self._lock:
            return bool(self._tls.pending() or self._incoming.pending)

    def certificate(self) -> dict[str, Any]:
        """The peer's certificate, as `getpeercert` returns it; empty before the handshake."""
        with self._lock:
            try:
                return dict(self._tls.getpeercert() or {})
            except ValueError:  # the handshake is not done
                return {}

    def version(self) -> str:
        """The negotiated version of TLS, such as TLSv1.3."""
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
            received = self._plain.recv(_READ)
            if not received:
                raise ssl.SSLEOFError("closed in the handshake")
        except BlockingIOError:
            raise
        except OSError as error:
            raise tls_refusal(error) from None
        with self._lock:
            self._incoming.write(received)
        return False

    def _try_handshake(self) -> bool:
        try:
            with self._lock:
                self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send_output()
            return False
        except ssl.SSLError:
            with contextlib.suppress(OSError):
                self._send_output()  # the alert that tells the peer the reason
            raise
        self._send_output()
        return True

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end of the stream. Raises TimeoutError or BlockingIOError without data.

        The socket is read at most once, so that a peer that sends one byte at a time cannot exceed the timeout.
        """
        for fresh in (False, True):
            if fresh:
                received = self._plain.recv(_READ)
                if not received:
                    return b""
                with self._lock:
                    self._incoming.write(received)
            try:
                with self._lock:
                    data = self._tls.read(size)
            except ssl.SSLWantReadError:
                self._send_output()
                continue
            except ssl.SSLZeroReturnError:
                return b""
            return bytes(data)
        if self._plain.gettimeout() == 0.0:
            raise BlockingIOError(errno.EAGAIN, "an incomplete TLS record")
        raise TimeoutError("an incomplete TLS record")

    def send(self, data: bytes | memoryview) -> int:
        """Send up to _CHUNK bytes of `data`. Returns how many were sent, at least one.

        After TimeoutError or BlockingIOError, call it again with the same data, which is encrypted already.
        """
        with self._sending:
            if not self._promised:
                with self._lock:
                    self._promised = self._tls.write(data[:_CHUNK])
                    self._left += self._outgoing.read()
            self._flush()
            sent, self._promised = self._promised, 0
            return sent

    def _send_output(self) -> None:
        """Send alerts and other output of TLS. If another thread is sending, its next call sends them."""
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
        """As the plain socket's; poll it only while nothing is `pending`."""
        return self._plain.fileno()

    def getpeername(self) -> Any:
        """As the plain socket's."""
        return self._plain.getpeername()

    def getsockname(self) -> Any:
        """As the plain socket's."""
        return self._plain.getsockname()

    def shutdown(self, how: int) -> None:
        """End the connection without a close_notify alert, which OpenFlow and JSON-RPC do not need."""
        self._plain.shutdown(how)

    def close(self) -> None:
        """As the plain socket's."""
        self._plain.close()
