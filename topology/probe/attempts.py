"""One attempt of one probe, for each kind of socket. `outcome` is set as soon as the result is known.

Sockets are created in the network namespace of the calling thread and never block. Attempts with raw sockets share one
for each source, protocol and family; packets belong to an attempt by port or sequence number.
"""

from __future__ import annotations

import errno
import random
import selectors
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable

from topology.probe import wire
from topology.probe.matrix import LabProbe, Outcome
from topology.spec.address import LabEndpoint

QUESTION = b"?\n"
_LINGER_RESET = struct.pack("ii", 1, 0)
PacketHandler = Callable[[bytes], None]


class EndpointSockets:
    """The raw sockets that attempts from one endpoint share, and the receivers of their packets by key."""

    def __init__(self, endpoint: LabEndpoint, selector: selectors.BaseSelector) -> None:
        self.endpoint = endpoint
        self._selector = selector
        self._raw: dict[tuple[int, int], socket.socket] = {}
        self.receivers: dict[Hashable, PacketHandler] = {}
        self._next = random.randrange(20000, 40000)

    def number(self) -> int:
        """A number that no other attempt from this endpoint uses now, for a source port or a sequence number."""
        self._next = self._next + 1 if self._next < 60000 else 20000
        return self._next

    def raw_socket(self, family: int, protocol: int, key_of: Callable[[bytes], Hashable]) -> socket.socket:
        """The raw socket of a family and protocol; the receiver under `key_of(packet)` gets each packet."""
        if (family, protocol) not in self._raw:
            sock = socket.socket(_family(family), socket.SOCK_RAW, protocol)
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ, lambda: self._receive(sock, family, key_of))
            self._raw[family, protocol] = sock
        return self._raw[family, protocol]

    def close(self) -> None:
        """Close the raw sockets."""
        for sock in self._raw.values():
            self._selector.unregister(sock)
            sock.close()

    def _receive(self, sock: socket.socket, family: int, key_of: Callable[[bytes], Hashable]) -> None:
        try:
            while True:
                data = wire.without_ip(family, sock.recv(65536))
                receiver = self.receivers.get(key_of(data))
                if receiver is not None:
                    receiver(data)
        except OSError:
            return  # no more packets now, or an ICMP error of one packet, whose attempt times out


class ProbeAttempt(ABC):
    """One attempt. `start` sends the first packet, the event loop does the rest, `close` ends it in any state."""

    def __init__(self, source: EndpointSockets, probe: LabProbe, target: LabEndpoint) -> None:
        self.source = source
        self.probe = probe
        self.target = target
        self.outcome: Outcome | None = None

    @property
    def here(self) -> str:
        """The source's address."""
        return self.source.endpoint.addresses[self.probe.family]

    @property
    def there(self) -> str:
        """The destination's address."""
        return self.target.addresses[self.probe.family]

    def answered(self, name: bytes) -> None:
        """A server with this name answered."""
        self.outcome = Outcome.ALLOWED if name == self.target.name.encode() else Outcome.WRONG

    @abstractmethod
    def start(self) -> None:
        """Open sockets and send the first packet."""

    @abstractmethod
    def close(self) -> None:
        """Close sockets."""


class _Socket(ProbeAttempt):
    """An attempt with a socket of its own."""

    def __init__(
        self, source: EndpointSockets, probe: LabProbe, target: LabEndpoint, selector: selectors.BaseSelector
    ) -> None:
        super().__init__(source, probe, target)
        self._selector = selector
        self._sock: socket.socket | None = None

    def open(self, kind: int, protocol: int, events: int) -> int:
        """Make the socket, bind it to the source's address and connect; returns the error number, 0 for none."""
        sock = socket.socket(_family(self.probe.family), kind, protocol)
        self._sock = sock
        sock.setblocking(False)
        sock.bind((self.here, 0))
        code = sock.connect_ex((self.there, self.probe.port))
        self._selector.register(sock, events, self.ready)
        return code

    def close(self) -> None:
        """Close sockets."""
        self.leave_loop()
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def leave_loop(self) -> None:
        """Unregister the socket: a broken one would be reported as ready again and again."""
        if self._sock is not None and self._sock.fileno() in self._selector.get_map():
            self._selector.unregister(self._sock)

    @abstractmethod
    def ready(self) -> None:
        """The socket can be read or written."""

    def failed(self, code: int) -> None:
        """An error of the socket: a refusal is a result, after any other error the attempt times out."""
        self.leave_loop()
        if code in (errno.ECONNREFUSED, errno.ECONNRESET):
            self.outcome = Outcome.CLOSED


class StreamAttempt(_Socket):
    """TCP, or SCTP if the kernel has it: connect, read the server's name, send a line and read its echo."""

    def start(self) -> None:
        """Send the first packet."""
        self._buffer = b""
        self._connected = False
        protocol = socket.IPPROTO_TCP if self.probe.protocol == "TCP" else socket.IPPROTO_SCTP
        code = self.open(socket.SOCK_STREAM, protocol, selectors.EVENT_WRITE)
        if code not in (0, errno.EINPROGRESS):
            self.failed(code)

    def ready(self) -> None:
        """Handle the socket's data or error."""
        sock = self._sock
        if sock is None or self.outcome is not None:
            return
        try:
            if not self._connected:
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    self.failed(code)
                    return
                self._connected = True
                sock.send(QUESTION)
                self._selector.modify(sock, selectors.EVENT_READ, self.ready)
                return
            data = sock.recv(4096)
            self._buffer += data
            name, line, echo = self._buffer.partition(b"\n")
            if line and echo.startswith(QUESTION):
                self.answered(name)
            elif not data:
                self.outcome = Outcome.CLOSED
        except BlockingIOError:
            return
        except OSError as error:
            self.failed(error.errno or 0)

    def close(self) -> None:
        """Close sockets."""
        if self._sock is not None and self.probe.protocol == "TCP":
            # A reset instead of FIN: no state stays in TIME_WAIT here or in the switch's connection tracker.
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        super().close()


class DatagramAttempt(_Socket):
    """UDP: one datagram, answered with the server's name and the datagram."""

    def start(self) -> None:
        """Send the first packet."""
        code = self.open(socket.SOCK_DGRAM, socket.IPPROTO_UDP, selectors.EVENT_READ)
        if code == 0 and self._sock is not None:
            try:
                self._sock.send(QUESTION)
            except OSError as error:
                self.failed(error.errno or 0)

    def ready(self) -> None:
        """Handle the socket's data or error."""
        if self._sock is None or self.outcome is not None:
            return
        try:
            data = self._sock.recv(4096)
        except BlockingIOError:
            return
        except OSError as error:
            self.failed(error.errno or 0)
            return
        name, _, echo = data.partition(b"\n")
        if echo == QUESTION:
            self.answered(name)


class RawSctpAttempt(ProbeAttempt):
    """SCTP without the kernel: the four packets that open an association, then an ABORT."""

    def start(self) -> None:
        """Send the first packet."""
        self._port = self.source.number()
        self._tag = random.randrange(1, 1 << 32)
        self._peer_tag = 0
        self._name = b""
        self._sock = self.source.raw_socket(self.probe.family, socket.IPPROTO_SCTP, _sctp_port)
        self.source.receivers["SCTP", self._port] = self._receive
        self._send(wire.sctp_init(self._port, self.probe.port, self._tag))

    def close(self) -> None:
        """Close sockets."""
        if self.outcome is Outcome.ALLOWED:
            self._send(wire.Sctp(self._port, self.probe.port, self._peer_tag, wire.ABORT).encode())
        self.source.receivers.pop(("SCTP", self._port), None)

    def _send(self, packet: bytes) -> None:
        try:
            self._sock.sendto(packet, (self.there, 0))
        except OSError:
            return  # no route at the moment: the attempt times out

    def _receive(self, data: bytes) -> None:
        packet = wire.decode_sctp(data)
        if packet is None or packet.tag != self._tag or packet.source != self.probe.port:
            return
        if packet.chunk == wire.ABORT:
            self.outcome = Outcome.CLOSED
        elif packet.chunk == wire.INIT_ACK:
            cookie, peer_tag = wire.cookie_of(packet), wire.init_tag(packet)
            if cookie is not None and peer_tag is not None:
                self._peer_tag, self._name = peer_tag, cookie[4:]
                self._send(wire.Sctp(self._port, self.probe.port, peer_tag, wire.COOKIE_ECHO, 0, cookie).encode())
        elif packet.chunk == wire.COOKIE_ACK and self._name:
            self.answered(self._name)


class EchoAttempt(ProbeAttempt):
    """ICMP or ICMPv6 echo. The kernel answers, so the server's name is not checked."""

    def start(self) -> None:
        """Send the first packet."""
        family = self.probe.family
        self._key = ("ICMP", self.source.number())
        protocol = socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6
        sock = self.source.raw_socket(family, protocol, _echo_key(family))
        self.source.receivers[self._key] = lambda data: self.answered(self.target.name.encode())
        try:
            sock.sendto(wire.icmp_echo_request(family, 0x4847, self._key[1]), (self.there, 0))
        except OSError:
            return  # no route at the moment: the attempt times out

    def close(self) -> None:
        """Close sockets."""
        self.source.receivers.pop(self._key, None)


def _family(family: int) -> socket.AddressFamily:
    return socket.AF_INET if family == 4 else socket.AF_INET6


def _sctp_port(data: bytes) -> Hashable:
    return "SCTP", int.from_bytes(data[2:4], "big")


def _echo_key(family: int) -> Callable[[bytes], Hashable]:
    def key(data: bytes) -> Hashable:
        found = wire.icmp_echo_reply(family, data)
        return ("ICMP", found[1]) if found is not None and found[0] == 0x4847 else None

    return key
