"""The servers in the pods: one process for a lab, with sockets in the network namespace of every endpoint.

A TCP server sends its endpoint's name and a newline, then echoes everything. A UDP server answers each datagram with
its name, a newline and the datagram. SCTP works as TCP if the kernel has it; otherwise a raw socket answers the opening
of an association.

Run as `python -m topology.probe.servers JOB READY`: JOB is a JSON file, a list of {"name", "netns", "ports":
[[protocol, port], …]}; READY is a descriptor to which a line is written once all sockets are open.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from topology.host.machine import has_sctp
from topology.host.netns import inside
from topology.probe import wire
from topology.probe.buffers import make_room

SERVER_BACKLOG = 512
Handler = Callable[[], None]


class Servers:
    """All servers of the process, in one event loop."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._kernel_sctp = has_sctp()

    def open(self, name: str, netns: Path, ports: list[tuple[str, int]]) -> None:
        """Open one endpoint's sockets in its namespace. Raises OSError."""
        with inside(netns):
            for protocol, port in ports:
                if protocol == "TCP" or (protocol == "SCTP" and self._kernel_sctp):
                    self._listen(name, socket.IPPROTO_TCP if protocol == "TCP" else socket.IPPROTO_SCTP, port)
                elif protocol == "UDP":
                    self._datagrams(name, port)
            if not self._kernel_sctp:
                served = frozenset(port for protocol, port in ports if protocol == "SCTP")
                for family in (4, 6):
                    self._raw_sctp(name, family, served)

    def run(self) -> None:
        """Serve for ever."""
        while True:
            for key, _ in self._selector.select():
                handler: Handler = key.data
                try:
                    handler()
                except OSError:
                    continue  # of one client: an ICMP error of a datagram socket, a full buffer

    def _watch(self, sock: socket.socket, handler: Handler) -> None:
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, handler)

    def _listen(self, name: str, protocol: int, port: int) -> None:
        sock = _dual_stack(socket.SOCK_STREAM, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("", port))
        sock.listen(SERVER_BACKLOG)

        def accept() -> None:
            connection, _ = sock.accept()
            self._watch(connection, lambda: self._echo(connection))
            connection.send(name.encode() + b"\n")

        self._watch(sock, accept)

    def _echo(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(65536)
            if data:
                connection.send(data)
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # reset by the client
        self._selector.unregister(connection)
        connection.close()

    def _datagrams(self, name: str, port: int) -> None:
        sock = _dual_stack(socket.SOCK_DGRAM, socket.IPPROTO_UDP)
        make_room(sock)
        sock.bind(("", port))

        def answer() -> None:
            for _ in range(64):
                data, peer = sock.recvfrom(65536)
                sock.sendto(name.encode() + b"\n" + data, peer)

        self._watch(sock, answer)

    def _raw_sctp(self, name: str, family: int, served: frozenset[int]) -> None:
        try:
            sock = socket.socket(
                socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_SCTP
            )
        except OSError:
            return  # a kernel without this family

        def answer() -> None:
            for _ in range(64):
                data, peer = sock.recvfrom(65536)
                reply = sctp_answer(name, served, wire.without_ip(family, data))
                if reply is not None:
                    sock.sendto(reply, (peer[0], 0))

        self._watch(sock, answer)


def sctp_answer(name: str, served: frozenset[int], data: bytes) -> bytes | None:
    """The answer of a stateless server to an SCTP packet, None for no answer.

    The cookie has all its state: the client's tag, then the endpoint's name.
    """
    packet = wire.decode_sctp(data)
    if packet is None:
        return None
    if packet.chunk == wire.INIT:
        tag = wire.init_tag(packet)
        if tag is None:
            return None
        if packet.destination not in served:
            return wire.sctp_abort(packet, tag)
        return wire.sctp_init_ack(packet, tag, tag ^ 0x5A5A5A5A, tag.to_bytes(4, "big") + name.encode())
    if packet.chunk == wire.COOKIE_ECHO and packet.destination in served and len(packet.body) > 4:
        tag = int.from_bytes(packet.body[:4], "big")
        return wire.Sctp(packet.destination, packet.source, tag, wire.COOKIE_ACK).encode()
    return None


def _dual_stack(kind: int, protocol: int) -> socket.socket:
    """A socket for both families, or for IPv4 only if the kernel has no IPv6."""
    try:
        sock = socket.socket(socket.AF_INET6, kind, protocol)
    except OSError:
        return socket.socket(socket.AF_INET, kind, protocol)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return sock


def raise_file_limit() -> None:
    """Raise the limit of open files to the hard limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    """Serve until killed."""
    raise_file_limit()
    servers = Servers()
    job: list[dict[str, Any]] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for entry in job:
        servers.open(entry["name"], Path(entry["netns"]), [(protocol, port) for protocol, port in entry["ports"]])
    ready = int(sys.argv[2])
    os.write(ready, b"\n")
    os.close(ready)
    servers.run()


if __name__ == "__main__":
    main()
