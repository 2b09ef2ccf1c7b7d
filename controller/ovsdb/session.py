"""Sessions with an OVSDB server, connecting or accepted: the `ovs` package's, with what it does not tell.

Nothing of the database's contents is known here.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import ovs.jsonrpc
import ovs.reconnect
import ovs.stream
import ovs.timeval
import ovs.util

from controller.ovsdb.remotes import split_address, tcp_name
from controller.ovsdb.wire import FramedConnection


class _Reconnect(ovs.reconnect.Reconnect):  # type: ignore[misc]  # ovs has no types
    """The package's state machine, which tells nobody why a connection ended; this one remembers."""

    last_error = ""

    def disconnected(self, now: float, error: int) -> None:
        if error == ovs.util.EOF:
            self.last_error = "closed by the peer"
        elif error > 0:
            self.last_error = os.strerror(error)
        elif not self.last_error:
            self.last_error = "timed out"
        super().disconnected(now, error)


class FramedSession(ovs.jsonrpc.Session):  # type: ignore[misc]  # ovs has no types
    """A session of FramedConnections, reconnecting with backoff (1 s, doubling to 8 s) if it is one that connects.

    It also carries questions of our own (`ask`), which mark a point in the stream of updates: ovsdb-server sends the
    updates of every change committed before it reads the question ahead of the answer.
    """

    rpc: Any
    reconnect: Any

    def __init__(self, reconnect: _Reconnect, rpc: Any, remotes: list[str]) -> None:
        self._asked: set[str] = set()
        self._count = 0
        self.answered: list[str] = []
        super().__init__(reconnect, rpc, remotes)

    @classmethod
    def connecting(cls, remote: str) -> FramedSession:
        """A session to `remote` (`unix:PATH` or `tcp:HOST:PORT`) that begins with the first run()."""
        now = ovs.timeval.msec()
        session = cls(_Reconnect(now), None, [remote])
        session.pick_remote()
        session.reconnect.enable(now)
        if remote.startswith("unix:"):
            session.reconnect.set_probe_interval(0)
        return session

    @classmethod
    def accepted(cls, sock: socket.socket, peer: str) -> FramedSession:
        """A session over an accepted socket; it ends when that ends."""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        now = ovs.timeval.msec()
        session = cls(_Reconnect(now), FramedConnection(ovs.stream.Stream(sock, peer, 0)), [peer])
        session.reconnect.set_name(peer)
        session.reconnect.set_max_tries(0)
        session.reconnect.connected(now)
        session.seqno = 1
        return session

    @property
    def last_error(self) -> str:
        """Why the last connection, or the last attempt, ended; empty before the first end."""
        return str(self.reconnect.last_error)

    @property
    def local_address(self) -> str | None:
        """Our own address on the connection; empty over a unix socket, None without a connection."""
        if self.rpc is None or self.rpc.get_status():
            return None
        sock = self.rpc.stream.socket
        if sock.family == socket.AF_UNIX:
            return ""
        try:
            return str(sock.getsockname()[0])
        except OSError:
            return None

    def pick_remote(self) -> None:
        """Choose what to connect to next: the address behind a host name is looked up anew before each attempt."""
        super().pick_remote()
        name = self.reconnect.get_name()
        if not name.startswith("tcp:"):
            return
        host, port = split_address(name[4:], 0)
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            return  # the attempt fails then, and says so
        self.reconnect.set_name(tcp_name(str(found[0][4][0]), port))

    def run(self) -> None:
        """Connect, send what waits, probe: whatever is due."""
        super().run()
        if self.rpc is not None and not isinstance(self.rpc, FramedConnection):
            self.rpc = FramedConnection(self.rpc.stream)
        if self.rpc is None:
            self._asked.clear()

    def ask(self) -> str:
        """Send an echo of our own; its id goes into `answered` once the answer came, after all that came before."""
        self._count += 1
        request = ovs.jsonrpc.Message.create_request("echo", [])
        request.id = f"headgate-{self._count}"
        self._asked.add(request.id)
        self.send(request)
        return str(request.id)

    def recv(self) -> Any:
        """The next message for the replica, or None for now."""
        message = super().recv()
        if message is None or not isinstance(message.id, str) or message.id not in self._asked:
            return message
        self._asked.discard(message.id)
        self.answered.append(message.id)
        return None
