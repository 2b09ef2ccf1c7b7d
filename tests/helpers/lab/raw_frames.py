"""Raw Ethernet frames: sends them from any interface, and captures what arrives at others.

Sockets of the kernel would refuse to say what is not so; these go below them. What a frame should lead to is the
tests' business.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from flows.interpret.frame_encoder import encode
from flows.interpret.packet import ARP_REQUEST, arp
from tests.helpers.lab.datapath_choice import KERNEL
from tests.helpers.lab.truth_lab import PLACEMENT
from topology.host.netns import in_thread, inside
from topology.lab.lab import Lab
from topology.lab.node import LAB_BRIDGE
from topology.lab.pod import POD_INTERFACE
from topology.probe.background import Background

_ALL_PROTOCOLS = 0x0003
_PATIENCE = 2.0
_STRAGGLERS_SECONDS = 0.5
_FENCES = 20


def number(address: str) -> int:
    """An IP or MAC address as the number that packets carry."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return int.from_bytes(socket.inet_pton(family, address), "big")
        except OSError:
            continue
    return int(address.replace(":", ""), 16)


def mac(lab: Lab, name: str) -> int:
    """An endpoint's MAC address as a number."""
    return number(lab.endpoints[name].mac)


def _open(netns: Path, interface: str, protocol: int) -> socket.socket:
    def make() -> socket.socket:
        with inside(netns):
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            sock.bind((interface, protocol))
            return sock

    return in_thread(make)


def put(lab: Lab, name: str, frames: Iterable[bytes]) -> None:
    """Send frames out of an endpoint's interface, exactly as they are."""
    send_from(lab.netns(name), LAB_BRIDGE if name.startswith("node:") else POD_INTERFACE, frames)


def send_from(netns: Path, interface: str, frames: Iterable[bytes]) -> None:
    """Send frames out of any interface."""
    with _open(netns, interface, 0) as sock:
        for frame in frames:
            sock.send(frame)


def wait_for_stragglers() -> None:
    """On the kernel's datapath wait for frames that others overtake."""
    if KERNEL:
        time.sleep(_STRAGGLERS_SECONDS)


class Listener(Background):
    """What arrives at some interfaces, each a namespace and a device by a name of the caller's, from entering the
    context on; `heard` may be asked any time."""

    def __init__(self, places: Mapping[str, tuple[Path, str]]) -> None:
        self._places = places
        self._frames: dict[str, list[bytes]] = {name: [] for name in places}
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._selector = selectors.DefaultSelector()
        super().__init__("ears")

    def __enter__(self) -> Self:
        for name, (netns, interface) in self._places.items():
            sock = self._stack.enter_context(_open(netns, interface, _ALL_PROTOCOLS))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ, name)
        return super().__enter__()

    def _close(self) -> None:
        self._stack.close()
        self._selector.close()

    def heard(self, part: bytes) -> list[str]:
        """The places at which a frame with these bytes arrived, once for each time."""
        with self._lock:
            return [name for name, frames in self._frames.items() for frame in frames if part in frame]

    def count(self, name: str, part: bytes) -> int:
        """How many frames with these bytes arrived at one place."""
        return self.heard(part).count(name)

    def frames(self, name: str) -> list[bytes]:
        """Everything that arrived at a place so far."""
        with self._lock:
            return list(self._frames[name])

    def _run(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select(0.05):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                try:
                    while True:
                        frame, where = sock.recvfrom(65536)
                        if where[2] != socket.PACKET_OUTGOING:
                            with self._lock:
                                self._frames[key.data].append(frame)
                except BlockingIOError:
                    continue


class FrameListener(Listener):
    """What arrives at the interfaces of some endpoints of a lab."""

    def __init__(self, lab: Lab, names: Sequence[str]) -> None:
        self._lab = lab
        self._names = names
        self._fences = 0
        super().__init__(
            {name: (lab.netns(name), LAB_BRIDGE if name.startswith("node:") else POD_INTERFACE) for name in names}
        )

    def fence(self, sender: str) -> None:
        """Return when whatever `sender`, a pod, sent before has come to its end, wherever that is.

        A switch keeps the order of a port's frames: an honest request for everybody that comes last arrives last.
        After many frames at once it may find no room, and is sent again. The kernel's datapath does not keep the order:
        what its cache does not know passes ovs-vswitchd, and what comes later overtakes it.
        """
        wanted = set(self._names) - {sender}
        own = mac(self._lab, sender), number(self._lab.endpoints[sender].addresses[4])
        for _ in range(_FENCES):
            self._fences += 1
            frame = encode(arp(ARP_REQUEST, own, (0, 0x0A0AFD00 + self._fences)))
            put(self._lab, sender, [frame])
            deadline = time.monotonic() + _PATIENCE
            while time.monotonic() < deadline:
                if wanted <= set(self.heard(frame)):
                    wait_for_stragglers()
                    return
                time.sleep(0.01)
        raise AssertionError(f"a request of {sender} for everybody reached only {self.heard(frame)}")


def neighbours_of(pod: str) -> tuple[str, ...]:
    """All that could hear a pod: the world's other pods, both nodes and the machine outside."""
    return (*(other for other in PLACEMENT if other != pod), "node:one", "node:two", "external:outside")
