"""Traffic that one side alone keeps up, from entering a context on: replies without questions, and knocking at closed
doors.

What both sides keep up is `topology.probe.traffic.Traffic`.
"""

from __future__ import annotations

import errno
import selectors
import socket
from collections.abc import Collection, Iterable
from contextlib import ExitStack, suppress

from topology.host.netns import in_thread, inside
from topology.lab.lab import Lab
from topology.probe.background import Background
from topology.probe.matrix import LabProbe

_INTERVAL = 0.01
_CONNECT_SECONDS = 10.0
_TCP_REPAIR = 19  # linux/tcp.h
SIDES = ("client", "server")


def _socket(lab: Lab, name: str, family: int, kind: int, port: int) -> socket.socket:
    version = socket.AF_INET if family == 4 else socket.AF_INET6

    def make() -> socket.socket:
        with inside(lab.netns(name)):
            sock = socket.socket(version, kind)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((lab.endpoints[name].addresses[family], port))
            return sock

    return in_thread(make)


class Replies:
    """A connection whose client spoke once and now only listens, and whose server goes on sending.

    `probe` names both ends and the port, on which the lab itself must not serve; TCP or UDP. `sent` counts what the
    server's kernel took, `received` what reached the client.
    """

    def __init__(self, lab: Lab, probe: LabProbe) -> None:
        self.probe = probe
        self.sent = 0
        self.received = 0
        with ExitStack() as stack:
            self._server, self._client = (stack.enter_context(one) for one in self._pair(lab))
            self._stack = stack.pop_all()

    def _pair(self, lab: Lab) -> tuple[socket.socket, socket.socket]:
        probe = self.probe
        kind = socket.SOCK_STREAM if probe.protocol == "TCP" else socket.SOCK_DGRAM
        client = _socket(lab, probe.source, probe.family, kind, 0)
        with _socket(lab, probe.destination, probe.family, kind, probe.port) as waiting:
            for sock in (client, waiting):
                sock.settimeout(_CONNECT_SECONDS)
            if kind == socket.SOCK_STREAM:
                waiting.listen(1)
            client.connect(waiting.getsockname()[:2])
            if kind == socket.SOCK_STREAM:
                server, _ = waiting.accept()
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            else:
                client.send(b"?\n")
                _, peer = waiting.recvfrom(64)
                waiting.connect(peer)
                server = waiting.dup()
        for sock in (server, client):
            sock.setblocking(False)
        return server, client

    def step(self) -> None:
        """The server sends one message, the client takes what has come."""
        with suppress(OSError):  # a full buffer, while nothing passes
            self._server.send(b"%d\n" % self.sent)
            self.sent += 1
        with suppress(OSError):
            while data := self._client.recv(65536):
                self.received += data.count(b"\n")

    def close(self) -> None:
        """Close both ends."""
        self._stack.close()


class LongLived:
    """One TCP connection that lives through everything. `speakers` are the sides that send a message each step.

    `probe` names both ends and the port, on which the lab itself must not serve; `sport` is the client's port, 0 lets
    the kernel choose. `said` and `heard` count messages by the side that said them.
    """

    def __init__(
        self, lab: Lab, probe: LabProbe, speakers: Collection[str], sport: int = 0, patience: float = _CONNECT_SECONDS
    ) -> None:
        self.probe = probe
        self.speakers = speakers
        self.said = dict.fromkeys(SIDES, 0)
        self.heard = dict.fromkeys(SIDES, 0)
        with ExitStack() as stack:
            client = stack.enter_context(_socket(lab, probe.source, probe.family, socket.SOCK_STREAM, sport))
            with _socket(lab, probe.destination, probe.family, socket.SOCK_STREAM, probe.port) as waiting:
                for sock in (client, waiting):
                    sock.settimeout(patience)
                waiting.listen(1)
                client.connect(waiting.getsockname()[:2])
                server = stack.enter_context(waiting.accept()[0])
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setblocking(False)
            self._sockets = {"client": client, "server": server}
            self._stack = stack.pop_all()

    def say(self, side: str) -> None:
        """Send one message; one that the kernel does not take is not counted."""
        with suppress(OSError):
            self._sockets[side].send(b"!\n")
            self.said[side] += 1

    def step(self) -> None:
        """Let the speakers speak, and take what has come."""
        for side in self.speakers:
            self.say(side)
        for speaker, listener in (SIDES, SIDES[::-1]):
            with suppress(OSError):
                while data := self._sockets[listener].recv(65536):
                    self.heard[speaker] += data.count(b"\n")

    def forget(self) -> None:
        """End at both sides without a packet, as machines do that lose their power (tcp(7), TCP_REPAIR)."""
        for sock in self._sockets.values():
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
        self.close()

    def close(self) -> None:
        """Close both ends."""
        self._stack.close()


class ForbiddenAttempts:
    """Tries again and again what must not pass: new TCP connections and datagrams of ever new source ports."""

    def __init__(self, lab: Lab, probe: LabProbe) -> None:
        self.probe = probe
        self.sent = 0
        self.passed = 0
        self._lab = lab
        self._target = lab.endpoints[probe.destination].addresses[probe.family], probe.port
        self._kind = socket.SOCK_STREAM if probe.protocol == "TCP" else socket.SOCK_DGRAM
        self._selector = selectors.DefaultSelector()
        self._open: list[socket.socket] = []

    def step(self) -> None:
        """Knock once more, and see whether anybody answers what was sent before."""
        sock = _socket(self._lab, self.probe.source, self.probe.family, self._kind, 0)
        sock.setblocking(False)
        if sock.connect_ex(self._target) in (0, errno.EINPROGRESS):
            if self._kind == socket.SOCK_DGRAM:
                sock.send(b"?\n")
            self.sent += 1
        self._selector.register(sock, selectors.EVENT_READ)
        self._open.append(sock)
        for key, _ in self._selector.select(0):
            self.passed += 1  # an answer, or a refusal, which is one
            self._selector.unregister(key.fileobj)
        if len(self._open) > 50:
            self._end(self._open.pop(0))

    def _end(self, sock: socket.socket) -> None:
        with suppress(KeyError):
            self._selector.unregister(sock)
        sock.close()

    def close(self) -> None:
        """Give up."""
        for sock in self._open:
            self._end(sock)
        self._selector.close()


class BackgroundStreams(Background):
    """Lets streams go on in a thread, each a step every 10 ms, from entering the context until leaving it.

    With `closing` they are closed at its end.
    """

    def __init__(self, streams: Iterable[Replies | LongLived | ForbiddenAttempts], closing: bool = True) -> None:
        self.streams = list(streams)
        self._closing = closing
        super().__init__("streams")

    def _close(self) -> None:
        for stream in self.streams if self._closing else ():
            stream.close()

    def _run(self) -> None:
        while not self._stopping.wait(_INTERVAL):
            for stream in self.streams:
                stream.step()
