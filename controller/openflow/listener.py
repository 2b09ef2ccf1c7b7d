"""A listening TCP socket for OpenFlow, with a thread for each connection.

The TLS handshake runs in the thread of the connection. `controller.peers.connection_limiter` decides which connections
are accepted; the OpenFlow messages are read in `session`.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable

from controller.base.errors import StartError
from controller.base.threads import PromptThread
from controller.config.addresses import HostPort
from controller.openflow.session import SwitchSession
from controller.peers.acceptor import Acceptor
from controller.peers.connection_limiter import AcceptedConnection, ConnectionLimiter, TooManyConnections
from controller.peers.limits import ConnectionLimits, OpenFlowLimits
from controller.tls.credentials import Credentials
from controller.tls.peer_certificates import TlsRefused
from controller.tls.tls_socket import TlsSocket

_LOG = logging.getLogger(__name__)
_BACKLOG = 1024
SessionFactory = Callable[["socket.socket | TlsSocket", object, str], SwitchSession]


class OpenFlowListener:
    """Accepts connections at one address and runs a SwitchSession for each. `address` is the one that was bound.

    `make` makes a session of a socket, its address and the name in its certificate. `refused` is called with the
    kind of each refusal. Raises StartError when it cannot listen.
    """

    def __init__(
        self,
        where: HostPort,
        make: SessionFactory,
        limits: OpenFlowLimits,
        connection_limits: ConnectionLimits,
        tls: Credentials | None = None,
        refused: Callable[[str], None] = lambda kind: None,
    ) -> None:
        self._make = make
        self._limits = limits
        self._tls = tls
        self._refused = refused
        self._limiter = ConnectionLimiter(connection_limits)
        self._closing = False
        self._lock = threading.Lock()
        self._sessions: dict[SwitchSession, AcceptedConnection] = {}
        self._handshaking: set[socket.socket] = set()  # in the TLS handshake
        self._connections = 0
        listening = _listen(where)
        self.address = HostPort(*listening.getsockname()[:2])
        self._acceptor = Acceptor(listening, "OpenFlow", self._accepted)
        self.run = self._acceptor.run

    def announce(self) -> None:
        """Log the address. `run` accepts connections, in a thread of its own."""
        _LOG.info("waiting for OpenFlow connections at %s:%s", "ssl" if self._tls else "tcp", self.address)

    def close(self) -> None:
        """Stop accepting and end all sessions; returns at once."""
        self._closing = True
        self._acceptor.close()
        with self._lock:
            handshaking = tuple(self._handshaking)
        for connection in handshaking:
            _shut(connection)
        for session in self.sessions():
            session.end("the controller is closing")

    def join(self, deadline: float) -> None:
        """Wait until all sessions have ended, or until `deadline` by the monotonic clock."""
        while self._connections and time.monotonic() < deadline:
            time.sleep(0.01)

    def sessions(self) -> tuple[SwitchSession, ...]:
        """The running sessions."""
        with self._lock:
            return tuple(self._sessions)

    def mark_proven(self, session: SwitchSession) -> bool:
        """The session has identified its switch. False when the session belongs to another listener."""
        with self._lock:
            accepted = self._sessions.get(session)
        if accepted is not None:
            self._limiter.mark_proven(accepted)
        return accepted is not None

    def _accepted(self, connection: socket.socket, address: object) -> None:
        """Serve a connection that the socket has accepted, or close it if there are too many."""
        try:
            accepted = self._limiter.accept_settled(
                _host(address), lambda reason: self._evict(connection, address, reason)
            )
        except TooManyConnections as error:
            connection.close()
            self._refused(error.kind)
            # Without numbers that vary, so that the log can collapse repeated warnings.
            _LOG.warning("refusing OpenFlow connections of %s (%s)", _host(address), error.kind)
            _LOG.debug("refused %s: %s", address, error)
            return
        with self._lock:
            self._connections += 1
        try:
            PromptThread(self._serve, f"session-{address}", (connection, address, accepted)).start()
        except BaseException:  # no more threads
            self._left(accepted, None)
            raise

    def _evict(self, connection: socket.socket, address: object, reason: str) -> None:
        self._refused("unproven")
        _LOG.warning("ended an OpenFlow connection of %s: %s", _host(address), reason)
        _shut(connection)

    def _serve(self, connection: socket.socket, address: object, accepted: AcceptedConnection) -> None:
        session: SwitchSession | None = None
        fault = True
        try:
            channel, name = self._secure(connection, address) if self._tls else (connection, "")
            session = self._make(channel, address, name)
            with self._lock:
                self._sessions[session] = accepted
            if self._closing:
                session.end("the controller is closing")
            session.serve()
            fault = bool(session.fault) or session.counts_against_address
        except TlsRefused as refused:
            _LOG.warning("refused the OpenFlow connection from %s: %s", _host(address), refused.text)
        except OSError as error:
            _LOG.warning("connection from %s failed: %s", _host(address), error)
        except Exception:  # noqa: BLE001 - only this connection ends
            _LOG.exception("serving %s failed", _host(address))
        finally:
            connection.close()
            self._left(accepted, session, fault)

    def _left(self, accepted: AcceptedConnection, session: SwitchSession | None, fault: bool = False) -> None:
        with self._lock:
            self._connections -= 1
            if session is not None:
                self._sessions.pop(session, None)
        self._limiter.release(accepted, fault)

    def _secure(self, connection: socket.socket, address: object) -> tuple[TlsSocket, str]:
        """Do the TLS handshake. Returns the encrypted socket and the peer's name. Raises TlsRefused."""
        if self._tls is None:
            raise RuntimeError("there are no credentials for TLS")
        with self._lock:
            self._handshaking.add(connection)
        try:
            channel = self._tls.secure(connection, server_side=True)
            channel.shake_hands(self._limits.handshake)
            name = self._tls.authorize(channel)
        except TlsRefused as refused:
            if not self._closing:
                self._tls.count("openflow", _host(address), refused)
            raise
        finally:
            with self._lock:
                self._handshaking.discard(connection)
        _LOG.info("%s at %s authenticated with %s", name, _host(address), channel.version())
        return channel, name


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it may be closed already
        connection.shutdown(socket.SHUT_RDWR)


def _host(address: object) -> str:
    """A peer's address without its port, which changes with every attempt, so that repeated warnings are equal."""
    return str(address[0]) if isinstance(address, tuple) and address else str(address)


def _listen(where: HostPort) -> socket.socket:
    """A socket that listens at the first address of a host. Raises StartError."""
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
    return one
