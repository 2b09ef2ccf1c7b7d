"""Where switches connect to: one listening TCP socket, a thread for each connection, bounds on both.

TLS begins here, in the thread of the connection. What is said on a connection is `session`'s.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable

from controller.endpoints import HostPort
from controller.errors import StartError
from controller.reconcile.events import Event
from controller.switch.limits import Limits
from controller.switch.session import Session
from controller.tls.channel import TlsSocket
from controller.tls.credentials import Credentials
from controller.tls.peers import Refused

_LOG = logging.getLogger(__name__)
_BACKLOG = 1024
_LOOK_SECONDS = 0.5
_REST_SECONDS = 0.1


class Listener:
    """Accepts connections at one address and runs a Session for each. `address` is the one that was really bound."""

    def __init__(
        self, where: HostPort, post: Callable[[Event], None], limits: Limits, tls: Credentials | None = None
    ) -> None:
        self._post = post
        self._limits = limits
        self._tls = tls
        self._closing = False
        self._lock = threading.Lock()
        self._sessions: set[Session] = set()
        self._shaking: set[socket.socket] = set()  # in the TLS handshake
        self._connections = 0
        self._socket = _listen(where)
        self.address = HostPort(*self._socket.getsockname()[:2])
        self._thread = threading.Thread(target=self._accept_loop, name=f"accept-{self.address}", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()
        _LOG.info("waiting for OpenFlow connections at %s:%s", "ssl" if self._tls else "tcp", self.address)

    def close(self) -> None:
        """Accept no more and end all sessions; returns at once."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread
        if self._thread.ident is None:
            self._socket.close()  # nobody accepts yet, so nobody else would
        with self._lock:
            shaking = tuple(self._shaking)
        for connection in shaking:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for session in self.sessions():
            session.end("the controller is closing")

    def join(self, deadline: float) -> None:
        """Wait until all threads have ended, or until `deadline` by the monotonic clock."""
        while (self._thread.is_alive() or self._connections) and time.monotonic() < deadline:
            time.sleep(0.01)

    def sessions(self) -> tuple[Session, ...]:
        """The sessions that run now."""
        with self._lock:
            return tuple(self._sessions)

    def _accept_loop(self) -> None:
        refusing = False
        with self._socket:
            while not self._closing:
                try:
                    connection, address = self._socket.accept()
                except TimeoutError:
                    continue
                except OSError as error:
                    if not self._closing:
                        _LOG.error("cannot accept an OpenFlow connection: %s", error)
                        time.sleep(_REST_SECONDS)  # out of file descriptors: somebody must end first
                    continue
                reason = self._why_not()
                if reason and not refusing:
                    _LOG.warning("refusing OpenFlow connections: %s", reason)
                refusing = bool(reason)
                if reason:
                    connection.close()
                    continue
                self._begin(connection, address)

    def _why_not(self) -> str:
        with self._lock:
            negotiated = sum(session.is_negotiated for session in self._sessions)
            if self._connections >= self._limits.connections:
                return f"there are {self._connections} already"
            if self._connections - negotiated >= self._limits.handshakes:
                return f"{self._connections - negotiated} have not finished their handshake"
            return ""

    def _begin(self, connection: socket.socket, address: object) -> None:
        with self._lock:
            self._connections += 1
        thread = threading.Thread(
            target=self._serve, args=(connection, address), name=f"session-{address}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # no more threads
            _LOG.error("cannot serve %s: %s", address, error)
            connection.close()
            with self._lock:
                self._connections -= 1

    def _serve(self, connection: socket.socket, address: object) -> None:
        session: Session | None = None
        try:
            channel = self._secure(connection, address) if self._tls else connection
            session = Session(channel, address, self._post, self._limits)
            with self._lock:
                self._sessions.add(session)
            if self._closing:
                session.end("the controller is closing")
            session.serve()
        except Refused as refused:
            _LOG.warning("refused the OpenFlow connection from %s: %s", _host(address), refused.text)
            connection.close()
        except OSError as error:
            _LOG.warning("connection from %s failed: %s", address, error)
            connection.close()
        finally:
            with self._lock:
                self._connections -= 1
                if session is not None:
                    self._sessions.discard(session)

    def _secure(self, connection: socket.socket, address: object) -> TlsSocket:
        """The connection in TLS, of a peer that may come in. Raises Refused."""
        if self._tls is None:
            raise RuntimeError("there are no credentials for TLS")
        with self._lock:
            self._shaking.add(connection)
        try:
            channel = self._tls.secure(connection, server_side=True)
            channel.shake_hands(self._limits.handshake)
            name = self._tls.admit(channel)
        except Refused as refused:
            if not self._closing:
                self._tls.count("openflow", _host(address), refused)
            raise
        finally:
            with self._lock:
                self._shaking.discard(connection)
        _LOG.info("%s at %s proved itself with %s", name, _host(address), channel.version())
        return channel


def _host(address: object) -> str:
    """Where a peer is, without its port, which changes with every attempt: a repeated warning is one warning."""
    return str(address[0]) if isinstance(address, tuple) and address else str(address)


def _listen(where: HostPort) -> socket.socket:
    """A socket that listens at a host's first address. Raises StartError."""
    one: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        one = socket.socket(family, kind, protocol)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(address)
        one.listen(_BACKLOG)
    except OSError as error:
        if one is not None:
            one.close()
        raise StartError(f"cannot listen for OpenFlow at {where}: {error.strerror or error}") from None
    one.settimeout(_LOOK_SECONDS)
    return one
