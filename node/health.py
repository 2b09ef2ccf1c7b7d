"""`headgate-node health`: answers a load balancer's checks of a Service's health check node port.

Who has an endpoint here is the switch's to know, and it tells with where it sends a check: to one address of this node,
at the port that is the number of ready endpoints, or at NONE. The node's packet filter brings all of these ports to the
one that is listened at, and conntrack still has the port that was meant. So this knows no Service, keeps nothing, and
says just what the switch does. Status and body are those of kube-proxy (pkg/proxy/healthcheck), but for the Service's
name, which is not in the packet.

systemd gives the sockets and starts this with the first check (`sd_listen_fds(3)`); then it ends after a minute without
any. Elsewhere it makes them itself, and goes on. Everything that clients can make long is bounded.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import struct
import time
from contextlib import suppress
from pathlib import Path

from node.errors import NodeError
from node.host_names import FAMILIES, HEALTH, HEALTH_PORT, NO_ENDPOINTS

MAX_CLIENTS = 64  # at a time; further ones wait in the kernel
MAX_REQUEST = 8192  # bytes before the end of the headers
SECONDS = 5.0  # that a client has for its request, and to take the answer
IDLE = 60.0  # seconds without a client after which a server that systemd started ends
_ORIGINAL_DESTINATION = 80  # SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST (linux/netfilter_ipv4.h, netfilter_ipv6)
_FIRST_GIVEN = 3  # SD_LISTEN_FDS_START


def serve(pid_file: Path | None = None) -> None:
    """Answer until nobody asks any more, or for ever. `pid_file` gets this process' number once it listens.

    Returns at once where another process listens already. Raises NodeError.
    """
    given = _given()
    listening = given or _listen()
    if not listening:
        return
    if pid_file is not None:
        pid_file.parent.mkdir(parents=True, exist_ok=True)
        pid_file.write_text(f"{os.getpid()}\n", encoding="ascii")
    _Server(listening, IDLE if given else None).run()


def answer(endpoints: int) -> bytes:
    """The answer to any request, where this node has so many ready endpoints."""
    body = f'{{\n\t"localEndpoints": {endpoints},\n\t"serviceProxyHealthy": true\n}}'.encode()
    status = "200 OK" if endpoints else "503 Service Unavailable"
    lines = (
        f"HTTP/1.1 {status}",
        "Content-Type: application/json",
        "X-Content-Type-Options: nosniff",
        f"X-Load-Balancing-Endpoint-Weight: {endpoints}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


class _Server:
    """`idle`: seconds without a client after which `run` ends."""

    def __init__(self, listening: list[socket.socket], idle: float | None) -> None:
        self._listening = listening
        self._idle = idle
        self._selector = selectors.DefaultSelector()
        self._clients: dict[socket.socket, tuple[float, bytes]] = {}  # deadline, and what was read
        self._accepting = False

    def run(self) -> None:
        last = time.monotonic()
        while True:
            self._accept_while_there_is_room()
            deadlines = [deadline for deadline, _ in self._clients.values()]
            if self._idle is not None:
                deadlines.append(last + self._idle)
            wait = max(min(deadlines) - time.monotonic(), 0.0) if deadlines else None
            for key, _ in self._selector.select(wait):
                self._take(key.fileobj)  # type: ignore[arg-type]  # only sockets are registered
                last = time.monotonic()
            now = time.monotonic()
            for client in [one for one, (deadline, _) in self._clients.items() if deadline <= now]:
                self._end(client)
            if self._idle is not None and not self._clients and now >= last + self._idle:
                return

    def _accept_while_there_is_room(self) -> None:
        room = len(self._clients) < MAX_CLIENTS
        if room != self._accepting:
            self._accepting = room
            for one in self._listening:
                self._selector.register(one, selectors.EVENT_READ) if room else self._selector.unregister(one)

    def _take(self, ready: socket.socket) -> None:
        if ready in self._listening:
            with suppress(OSError):
                client, _ = ready.accept()
                client.setblocking(False)
                self._clients[client] = time.monotonic() + SECONDS, b""
                self._selector.register(client, selectors.EVENT_READ)
        elif ready in self._clients:
            try:
                self._read(ready)
            except OSError:
                self._end(ready)

    def _read(self, client: socket.socket) -> None:
        deadline, before = self._clients[client]
        more = client.recv(MAX_REQUEST)
        text = before + more
        self._clients[client] = deadline, text
        if b"\r\n\r\n" in text:
            client.send(answer(_endpoints(client)))  # it fits the socket's empty buffer
            client.shutdown(socket.SHUT_WR)
        elif more and len(text) < MAX_REQUEST:
            return
        self._end(client)

    def _end(self, client: socket.socket) -> None:
        del self._clients[client]
        self._selector.unregister(client)
        client.close()


def _endpoints(client: socket.socket) -> int:
    """How many endpoints the switch told with the port that the client was sent to. Raises OSError where it was not."""
    level = socket.IPPROTO_IP if client.family == socket.AF_INET else socket.IPPROTO_IPV6
    meant = client.getsockopt(level, _ORIGINAL_DESTINATION, 28)  # a sockaddr: the family, then the port
    number = int(struct.unpack_from("!H", meant, 2)[0])
    return 0 if number == NO_ENDPOINTS else number


def _given() -> list[socket.socket]:
    """The sockets from systemd, none without it."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(os.environ.get("LISTEN_FDS", "0"))
    found = [socket.socket(fileno=_FIRST_GIVEN + number) for number in range(count)]
    for one in found:
        one.setblocking(False)
    return found


def _listen() -> list[socket.socket]:
    """Sockets of both families, as far as the kernel has them; none where another process has them."""
    found = []
    for family in FAMILIES:
        try:
            made = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            continue  # a kernel without this family
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # The address may come later: `apply` sets it.
        level, free = (socket.IPPROTO_IP, 15) if family == socket.AF_INET else (socket.IPPROTO_IPV6, 78)
        made.setsockopt(level, free, 1)  # IP_FREEBIND, IPV6_FREEBIND
        try:
            made.bind((HEALTH[family], HEALTH_PORT))
            made.listen(MAX_CLIENTS)
        except OSError as error:
            made.close()
            if error.errno == errno.EADDRINUSE:
                return []
            continue  # a machine without this family
        found.append(made)
    if not found:
        raise NodeError(f"port {HEALTH_PORT} can be listened at in no family")
    return found
