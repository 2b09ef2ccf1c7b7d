"""A DNS server in a lab's namespace, over UDP and TCP: it answers from a table, as it is told to."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from topology.host.netns import in_thread, inside

Table = Mapping[str, Sequence[str]]  # by name: addresses, or one name that it is an alias of
TTL = 60


def answer_to(wire: bytes, table: Table, ttl: int = TTL, whole: bool = True) -> bytes:
    """The answer to a query. Without `whole` one that is longer than the client takes is truncated."""
    query = dns.message.from_wire(wire)
    answer = dns.message.make_response(query)
    question = query.question[0]
    name, wanted = question.name.to_text().rstrip(".").lower(), question.rdtype
    for _ in range(8):
        found = table.get(name)
        if found is None:
            break
        if len(found) == 1 and not _is_address(found[0]):
            answer.answer.append(dns.rrset.from_text(f"{name}.", ttl, "IN", "CNAME", f"{found[0]}."))
            name = found[0]
            continue
        kind = dns.rdatatype.to_text(wanted)
        fitting = [one for one in found if (":" in one) == (kind == "AAAA")]
        if fitting and kind in ("A", "AAAA"):
            answer.answer.append(dns.rrset.from_text(f"{name}.", ttl, "IN", kind, *fitting))
        break
    else:
        answer.set_rcode(dns.rcode.SERVFAIL)
    encoded: bytes = answer.to_wire(max_size=65535)
    if not whole and len(encoded) > (query.payload if query.edns >= 0 else 512):
        answer.answer.clear()
        answer.flags |= dns.flags.TC
        encoded = answer.to_wire()
    return encoded


def _is_address(text: str) -> bool:
    return ":" in text or text.replace(".", "").isdigit()


@contextmanager
def dns_server(place: Path, table: Table, *, ttl: int = TTL, port: int = 53) -> Iterator[None]:
    """A server in a network namespace for as long as the block runs. `table` may change meanwhile."""
    with ExitStack() as stack:
        udp, tcp = in_thread(lambda: _sockets(place, port))
        stop = threading.Event()
        for one in (udp, tcp):
            stack.callback(one.close)
        stack.callback(stop.set)

        def serve_udp() -> None:
            while not stop.is_set():
                with suppress(OSError, Exception):
                    wire, sender = udp.recvfrom(65535)
                    udp.sendto(answer_to(wire, table, ttl, whole=False), sender)

        def serve_tcp() -> None:
            while not stop.is_set():
                with suppress(OSError):
                    client, _ = tcp.accept()
                    threading.Thread(target=_converse, args=(client, table, ttl), daemon=True).start()

        threads = [threading.Thread(target=one, daemon=True) for one in (serve_udp, serve_tcp)]
        for thread in threads:
            thread.start()
        yield


def _sockets(place: Path, port: int) -> tuple[socket.socket, socket.socket]:
    with inside(place):
        udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        tcp = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        for one in (udp, tcp):
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("::", port))
            one.settimeout(0.2)
        tcp.listen(64)
        return udp, tcp


def _converse(client: socket.socket, table: Table, ttl: int) -> None:
    with client, suppress(OSError):
        client.settimeout(5)
        while length := _exactly(client, 2):
            wire = answer_to(_exactly(client, struct.unpack("!H", length)[0]), table, ttl)
            client.sendall(struct.pack("!H", len(wire)) + wire)


def _exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := client.recv(size - len(data))):
        data += more
    return data


class Resolver:
    """A pod's resolver: it asks one server, over UDP and then over TCP where the answer is truncated."""

    def __init__(self, place: Path, server: str, port: int = 53) -> None:
        self._place, self._server = place, (server, port)

    def ask(self, name: str, kind: str = "A", timeout: float = 3.0, payload: int | None = None) -> list[str]:
        """The addresses of a name, in the order of the answer. `payload` is the longest answer over UDP, 512 bytes
        without it. Raises TimeoutError."""
        query = dns.message.make_query(name, kind, use_edns=0 if payload else False, payload=payload)
        answer = self._udp(query.to_wire(), query.id, timeout)
        if answer.flags & dns.flags.TC:
            answer = self._tcp(query.to_wire(), timeout)
        return [item.address for one in answer.answer for item in one if one.rdtype in (1, 28)]

    def _udp(self, wire: bytes, number: int, timeout: float) -> dns.message.Message:
        with self.new_socket(socket.SOCK_DGRAM) as client:
            client.settimeout(timeout)
            client.connect(self._server)
            client.send(wire)
            while True:
                answer = dns.message.from_wire(client.recv(65535))
                if answer.id == number:
                    return answer

    def _tcp(self, wire: bytes, timeout: float) -> dns.message.Message:
        with self.new_socket(socket.SOCK_STREAM) as client:
            client.settimeout(timeout)
            client.connect(self._server)
            client.sendall(struct.pack("!H", len(wire)) + wire)
            (length,) = struct.unpack("!H", _exactly(client, 2))
            return dns.message.from_wire(_exactly(client, length))

    def new_socket(self, kind: socket.SocketKind) -> socket.socket:
        """A socket of the pod."""
        family = socket.AF_INET6 if ":" in self._server[0] else socket.AF_INET
        made: socket.socket = in_thread(lambda: _socket(self._place, family, kind))
        return made

    def connects(self, address: str, port: int, timeout: float = 0.9) -> bool:
        """Whether TCP connects; the time is too short for a second SYN."""
        with self.open(address, port, timeout) as made:
            return bool(made.fileno() >= 0)

    @contextmanager
    def open(self, address: str, port: int, timeout: float = 0.9) -> Iterator[socket.socket]:
        """A connection, closed where it could not be made."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        client = in_thread(lambda: _socket(self._place, family, socket.SOCK_STREAM))
        client.settimeout(timeout)
        try:
            client.connect((address, port))
        except OSError:
            client.close()
        with client:
            yield client


def _socket(place: Path, family: int, kind: socket.SocketKind) -> socket.socket:
    with inside(place):
        return socket.socket(family, kind)


@contextmanager
def echo_server(place: Path, port: int) -> Iterator[None]:
    """A TCP server that echoes, on every address of a namespace."""

    def made() -> socket.socket:
        listener = _socket(place, socket.AF_INET6, socket.SOCK_STREAM)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::", port))
        listener.listen(256)
        listener.settimeout(0.2)
        return listener

    stop = threading.Event()
    with in_thread(made) as listener:

        def serve() -> None:
            while not stop.is_set():
                with suppress(OSError):
                    client, _ = listener.accept()
                    threading.Thread(target=_echo, args=(client, stop.is_set), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield
        finally:
            stop.set()


def _echo(client: socket.socket, stopped: Callable[[], bool]) -> None:
    client.settimeout(0.5)
    with client:
        while not stopped():
            try:
                data = client.recv(4096)
                if not data:
                    return
                client.sendall(data)
            except TimeoutError:
                continue
            except OSError:
                return
