"""Continuous traffic during a test: numbered messages, counted at both ends.

`Traffic` sends on TCP connections and UDP ports and counts the answers. `Capture` counts packets that arrive at an
endpoint, answered or not, so that a packet that leaks in one direction only is seen as well.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from topology.errors import LabError
from topology.host.netns import in_thread, inside
from topology.probe.background import Background
from topology.probe.buffers import make_room
from topology.probe.matrix import LabProbe
from topology.spec.address import LabEndpoint

TRAFFIC_CONNECT_SECONDS = 10.0
_ETH_P_ALL = 0x0003
_INCOMING = 0
_VLAN_FREE = {0x0800: 4, 0x86DD: 6}


class TrafficFlow:
    """One stream of numbered messages, for TCP on one connection, for UDP from one port.

    `sent` and `answered` count messages; `lost` is their difference, which for TCP means not yet answered.
    """

    def __init__(self, probe: LabProbe, sock: socket.socket) -> None:
        self.probe = probe
        self.sent = 0
        self.answered = 0
        self._sock = sock

    @property
    def lost(self) -> int:
        """Messages without an answer."""
        return self.sent - self.answered

    def send(self) -> None:
        """Send the next message; one that the kernel rejects does not count."""
        with suppress(OSError):
            self._sock.send(b"%d\n" % self.sent)
            self.sent += 1

    def receive(self) -> bool:
        """Count answers; False when the connection is closed."""
        try:
            data = self._sock.recv(65536)
        except BlockingIOError:
            return True
        except OSError:  # an ICMP error of a datagram socket, or a reset connection
            return self.probe.protocol == "UDP"
        if self.probe.protocol == "UDP":
            self.answered += 1
            return True
        self.answered += data.count(b"\n")
        return bool(data)

    def close(self) -> None:
        """Close the socket, a TCP connection with a reset."""
        if self.probe.protocol == "TCP":
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()


class Traffic(Background):
    """Flows that each send a message every `interval` seconds while the context is entered.

    The constructor connects TCP flows and raises LabError if one cannot connect.
    """

    def __init__(
        self, probes: Iterable[LabProbe], endpoints: Mapping[str, LabEndpoint], netns: Path, interval: float = 0.005
    ) -> None:
        self.flows = [_open(probe, endpoints, netns) for probe in probes]
        self._interval = interval
        self._sending = threading.Event()
        super().__init__("traffic")

    def __enter__(self) -> Self:
        self._sending.set()
        return super().__enter__()

    def _close(self) -> None:
        for flow in self.flows:
            flow.close()

    def drain(self, patience: float = 3.0) -> None:
        """Stop sending, and wait until all is answered or `patience` seconds have passed."""
        self._sending.clear()
        deadline = time.monotonic() + patience
        while any(flow.lost for flow in self.flows) and time.monotonic() < deadline:
            time.sleep(0.01)

    def resume(self) -> None:
        """Send again after `drain`."""
        self._sending.set()

    def counts(self) -> dict[LabProbe, tuple[int, int]]:
        """Messages sent and answered so far, by flow."""
        return {flow.probe: (flow.sent, flow.answered) for flow in self.flows}

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for flow in self.flows:
                selector.register(flow, selectors.EVENT_READ, flow)
            due = time.monotonic()
            while not self._stopping.is_set():
                for key, _ in selector.select(max(0.0, due - time.monotonic())):
                    if not key.data.receive():
                        selector.unregister(key.fileobj)
                if time.monotonic() >= due:
                    due = time.monotonic() + self._interval
                    if self._sending.is_set():
                        for flow in self.flows:
                            flow.send()


def _open(probe: LabProbe, endpoints: Mapping[str, LabEndpoint], netns: Path) -> TrafficFlow:
    source, target = endpoints[probe.source], endpoints[probe.destination]
    family = socket.AF_INET if probe.family == 4 else socket.AF_INET6
    kinds = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
    if probe.protocol not in kinds:
        raise LabError(f"{probe}: continuous traffic is TCP or UDP")

    def make() -> socket.socket:
        with inside(netns / source.netns):
            sock = socket.socket(family, kinds[probe.protocol])
            sock.bind((source.addresses[probe.family], 0))
            return sock

    sock = in_thread(make)
    make_room(sock)
    sock.settimeout(TRAFFIC_CONNECT_SECONDS)
    try:
        sock.connect((target.addresses[probe.family], probe.port))
        if probe.protocol == "TCP":
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            greeting = b""
            while not greeting.endswith(b"\n"):
                greeting += sock.recv(1) or b"\n"
    except OSError as error:
        sock.close()
        raise LabError(f"{probe}: cannot connect: {error}") from error
    sock.setblocking(False)
    return TrafficFlow(probe, sock)


class Arrival(NamedTuple):
    """The key under which an arriving packet is counted. `port` is the destination port, 0 if there is none."""

    source: str
    protocol: int
    port: int


class Capture(Background):
    """Counts IP packets that arrive at an endpoint's interface while the context is entered; no later fragments."""

    def __init__(self, endpoint: LabEndpoint, netns: Path) -> None:
        def make() -> socket.socket:
            with inside(netns / endpoint.netns):
                return socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))

        self.arrived: Counter[Arrival] = Counter()
        self._sock = in_thread(make)
        make_room(self._sock)
        self._sock.settimeout(0.05)
        super().__init__("capture")

    def _close(self) -> None:
        self._sock.close()

    def count(self, source: LabEndpoint, protocol: int, port: int) -> int:
        """The number of packets from `source` to `port` with this IP protocol number."""
        return sum(self.arrived[Arrival(address, protocol, port)] for address in source.addresses.values())

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                data, where = self._sock.recvfrom(256)
            except TimeoutError:
                continue
            if where[2] == _INCOMING and where[0] != "lo":
                arrival = arrival_of(_VLAN_FREE.get(where[1], 0), data)
                if arrival is not None:
                    self.arrived[arrival] += 1


def arrival_of(family: int, packet: bytes) -> Arrival | None:
    """The key of an IP packet; None for other packets and later fragments. IPv6 extension headers are not followed."""
    if family == 4 and len(packet) >= 20:
        if int.from_bytes(packet[6:8], "big") & 0x1FFF:
            return None
        protocol, start, source = packet[9], (packet[0] & 0x0F) * 4, socket.inet_ntop(socket.AF_INET, packet[12:16])
    elif family == 6 and len(packet) >= 40:
        protocol, start, source = packet[6], 40, socket.inet_ntop(socket.AF_INET6, packet[8:24])
    else:
        return None
    ports = protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_SCTP)
    return Arrival(source, protocol, int.from_bytes(packet[start + 2 : start + 4], "big") if ports else 0)
