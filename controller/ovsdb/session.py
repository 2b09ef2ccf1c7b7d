"""JSON-RPC sessions with an OVSDB server, in both directions: the `ovs` package's, with the peer, errors and echoes.

What the database contains must not live here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from typing import Any, NamedTuple

import ovs.jsonrpc
import ovs.reconnect
import ovs.stream
import ovs.timeval
import ovs.util

from controller.config.addresses import canonical_address, format_address, is_tls, parse_host_port
from controller.ovsdb.contents_size import ContentsTooLarge, check_columns
from controller.ovsdb.json_stream import FramedConnection
from controller.ovsdb.tls_stream import TlsStream
from controller.peers.limits import OvsdbLimits
from controller.peers.memory_budget import MemoryBudget
from controller.tls.credentials import Credentials
from controller.tls.peer_certificates import certificate_names
from controller.tls.tls_socket import TlsSocket
from flows.bridge.connection_peer import ConnectionPeer


class _Reconnect(ovs.reconnect.Reconnect):  # type: ignore[misc]  # ovs has no types
    """The package's state machine, which also keeps the reason why a connection ended."""

    last_error = ""
    why = ""  # a better reason than the errno, for the next end

    def disconnected(self, now: float, error: int) -> None:
        if self.why:
            self.last_error, self.why = self.why, ""
        elif error == ovs.util.EOF:
            self.last_error = "closed by the peer"
        elif error > 0:
            self.last_error = os.strerror(error)
        elif not self.last_error:
            self.last_error = "timed out"
        super().disconnected(now, error)


class MessageBounds(NamedTuple):
    """Bounds of a session's messages: the limits, and the memory that all unfinished messages share."""

    limits: OvsdbLimits
    budget: MemoryBudget


class FramedSession(ovs.jsonrpc.Session):  # type: ignore[misc]  # ovs has no types
    """A session of FramedConnections. A connecting one reconnects with backoff (1 s, doubling to 8 s).

    `send_echo` marks a point in the stream of updates: ovsdb-server sends the updates of all changes committed before
    it reads the echo request, and then the reply. `echo_replies` has the ids of the replies so far.
    """

    rpc: Any
    reconnect: Any
    fault = ""  # the peer's breach of the protocol, or of a limit

    def __init__(
        self,
        reconnect: _Reconnect,
        rpc: Any,
        remotes: list[str],
        share: MessageBounds,
        credentials: Credentials | None = None,
    ) -> None:
        self._credentials = credentials
        self._share = share
        self._asked: set[str] = set()
        self._selecting = ""
        self.rows: list[Any] | None = None  # the reply to the last `select`
        self._count = 0
        self.echo_replies: list[str] = []
        super().__init__(reconnect, rpc, remotes)

    @classmethod
    def connecting(cls, remote: str, share: MessageBounds, credentials: Credentials | None = None) -> FramedSession:
        """A session to `remote` (`unix:PATH`, `tcp:HOST:PORT` or `ssl:HOST:PORT`) that begins with the first run()."""
        now = ovs.timeval.msec()
        session = cls(_Reconnect(now), None, [remote], share, credentials if is_tls(remote) else None)
        session.pick_remote()
        session.reconnect.enable(now)
        if remote.startswith("unix:"):
            session.reconnect.set_probe_interval(0)
        return session

    @classmethod
    def accepted(
        cls, sock: socket.socket, peer: str, share: MessageBounds, credentials: Credentials | None = None
    ) -> FramedSession:
        """A session over an accepted socket, with TLS if there are credentials. It ends with its connection."""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        now = ovs.timeval.msec()
        stream = TlsStream(sock, peer, credentials, True) if credentials else ovs.stream.Stream(sock, peer, 0)
        session = cls(_Reconnect(now), FramedConnection(stream, *share), [peer], share)
        session.reconnect.set_name(peer)
        session.reconnect.set_max_tries(0)
        session.reconnect.connected(now)
        session.seqno = 1
        return session

    @property
    def last_error(self) -> str:
        """Why the last connection or attempt ended; empty before the first end."""
        return str(self.reconnect.last_error)

    @property
    def peer(self) -> ConnectionPeer:
        """The peer, by its address and, in TLS, its certificate. Empty for a unix socket."""
        if self.rpc is None or self.rpc.get_status():
            return ConnectionPeer()
        sock = self.rpc.stream.socket
        if sock.family == socket.AF_UNIX:
            return ConnectionPeer()
        certificate = sock.certificate() if isinstance(sock, TlsSocket) else {}
        try:
            return ConnectionPeer(canonical_address(str(sock.getpeername()[0])), certificate_names(certificate))
        except (OSError, ValueError):
            return ConnectionPeer("", certificate_names(certificate))

    @property
    def local_address(self) -> str | None:
        """The local address of the connection; empty for a unix socket, None without a connection."""
        if self.rpc is None or self.rpc.get_status():
            return None
        sock = self.rpc.stream.socket
        if sock.family == socket.AF_UNIX:
            return ""
        try:
            return str(sock.getsockname()[0])
        except OSError:
            return None

    @property
    def received_bytes(self) -> int:
        """Bytes that the present connection has received."""
        return int(self.rpc.get_received_bytes()) if self.rpc is not None else 0

    def pick_remote(self) -> None:
        """Choose the address to connect to. A host name is resolved before each attempt."""
        super().pick_remote()
        name = self.reconnect.get_name()
        if not name.startswith(("tcp:", "ssl:")):
            return
        host, port = parse_host_port(name[4:], name)
        with contextlib.suppress(OSError):  # the attempt then fails with an error of its own
            host = str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])
        # TLS starts once TCP is connected.
        self.reconnect.set_name(format_address("tcp", host, port))

    def is_connected(self) -> bool:
        """Whether messages can be exchanged; with TLS, once the peer is authenticated."""
        return self.rpc is not None and (self._tls is None or self._tls.ready)

    @property
    def _tls(self) -> TlsStream | None:
        stream = self.rpc.stream if self.rpc is not None else None
        return stream if isinstance(stream, TlsStream) else None

    def run(self) -> None:
        """Connect, send queued messages, probe: whatever is due."""
        if self._tls is not None:
            self.reconnect.why = self._tls.failure
        if isinstance(self.rpc, FramedConnection) and self.rpc.failure:
            self.reconnect.why = self.fault = self.rpc.failure
        super().run()
        if self.rpc is not None and not isinstance(self.rpc, FramedConnection):
            self.rpc = FramedConnection(self._secured(self.rpc.stream), *self._share)
        tls = self._tls
        if tls is not None and not tls.ready and tls.connect() == errno.EPROTO and self.rpc is not None:
            self.rpc.error(errno.EPROTO)
        if self.rpc is None:
            self._asked.clear()

    def _secured(self, stream: Any) -> Any:
        """The stream, with TLS if there are credentials."""
        if self._credentials is None:
            return stream
        sock, stream.socket = stream.socket, None  # so that the old stream does not close the socket
        return TlsStream(sock, self.remotes[0], self._credentials, False)

    def give_up(self, reason: str) -> None:
        """End the connection for this reason; a connecting session tries again."""
        self.reconnect.why = reason
        self.force_reconnect()

    def send_echo(self) -> str:
        """Send an echo request. Returns its id, which is added to `echo_replies` with the reply."""
        self._count += 1
        request = ovs.jsonrpc.Message.create_request("echo", [])
        request.id = f"headgate-{self._count}"
        self._asked.add(request.id)
        self.send(request)
        return str(request.id)

    def select(self, table: str, columns: list[str]) -> None:
        """Query columns that are not monitored. The reply goes to `rows`; a later query replaces this one."""
        self._count += 1
        operation = {"op": "select", "table": table, "where": [], "columns": columns}
        request = ovs.jsonrpc.Message.create_request("transact", ["Open_vSwitch", operation])
        self._selecting = request.id = f"headgate-{self._count}"
        self.send(request)

    def _selected(self, message: Any) -> bool:
        """Whether a message is the reply to `select`; if so, keep its rows."""
        if not self._selecting or message.id != self._selecting:
            return False
        self._selecting = ""
        results = message.result
        first = results[0] if isinstance(results, list) and results else None
        rows = first.get("rows") if isinstance(first, dict) else None
        self.rows = rows if isinstance(rows, list) else []
        return True

    def recv(self) -> Any:
        """The next message for the replica, or None for now."""
        message = self._checked(super().recv())
        if message is None or not isinstance(message.id, str):
            return message
        if self._selected(message):
            return None
        if message.id not in self._asked:
            return message
        self._asked.discard(message.id)
        self.echo_replies.append(message.id)
        return None

    def _checked(self, message: Any) -> Any:
        """The message, or None (and the connection ends) if a row exceeds the limits."""
        if message is None:
            return None
        tables = message.params[-1] if isinstance(message.params, list) and message.params else message.result
        if isinstance(tables, list) and tables:  # a reply to monitor_cond_since
            tables = tables[-1]
        try:
            check_columns(tables, self._share.limits)
        except ContentsTooLarge as error:
            self.rpc.fail(str(error))
            return None
        return message
