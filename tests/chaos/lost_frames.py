"""Counts frames that were lost before a switch saw them, so that a probe that a starved machine lost can be told from
one that was denied.

A switch with the userspace datapath reads its ports through packet sockets. What comes while a socket's buffer is full
is dropped there, since the switch got no CPU, and no flow counts it. The kernel counts these drops by socket
(SOCK_DIAG, packet_diag; linux/packet_diag.h), and those of its own queue, which all namespaces share, in
/proc/net/softnet_stat. Judges nothing: see `history`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from topology.host.netns import in_thread, inside
from topology.probe.background import Background

MACHINE = "the machine"  # of the kernel's own queue, which belongs to no node
EVERY = 0.5  # seconds between two samples
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _DUMP_REQUEST = 4, 20, 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_SHOW_MEMORY = 0x10  # PACKET_SHOW_MEMINFO
_MEMORY = 6  # PACKET_DIAG_MEMINFO: SK_MEMINFO_VARS numbers
_DROPS = 8  # SK_MEMINFO_DROPS
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBHIIII")  # packet_diag_req
_ANSWER = struct.Struct("=BBHI8x")  # packet_diag_msg: family, type, protocol, inode, cookie
_ATTRIBUTE = struct.Struct("=HH")


class PacketSockets:
    """The packet sockets of one network namespace."""

    def __init__(self, netns: Path) -> None:
        def make() -> socket.socket:
            with inside(netns):
                return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)

        self._netlink = in_thread(make)

    def drops(self) -> dict[int, int]:
        """How many frames each has dropped since it was made, by inode. Raises OSError."""
        request = _REQUEST.pack(socket.AF_PACKET, 0, 0, 0, _SHOW_MEMORY, 0xFFFFFFFF, 0xFFFFFFFF)
        self._netlink.send(
            _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _DUMP_REQUEST, 1, 0) + request
        )
        found: dict[int, int] = {}
        while True:
            data = self._netlink.recv(1 << 16)
            at = 0
            while at < len(data):
                length, kind, *_ = _HEADER.unpack_from(data, at)
                if kind == _NLMSG_ERROR:
                    (number,) = struct.unpack_from("=i", data, at + _HEADER.size)
                    raise OSError(-number, f"packet sockets: {os.strerror(-number)}")
                if kind == _NLMSG_DONE:
                    return found
                inode, drops = _read(data[at + _HEADER.size : at + length])
                found[inode] = drops
                at += length + 3 & ~3

    def close(self) -> None:
        """Close the netlink socket."""
        self._netlink.close()


def _read(message: bytes) -> tuple[int, int]:
    """The inode and the drops of one packet_diag_msg."""
    inode = _ANSWER.unpack_from(message)[3]
    at = _ANSWER.size
    while at < len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        if kind == _MEMORY:
            return inode, struct.unpack_from("=I", message, at + _ATTRIBUTE.size + 4 * _DROPS)[0]
        at += length + 3 & ~3
    return inode, 0


def queue_drops(text: str) -> int:
    """Frames that the kernel's own queue has dropped, from the text of /proc/net/softnet_stat."""
    return sum(int(line.split()[1], 16) for line in text.splitlines())


class LostFrames(Background):
    """A context that counts while it is entered; `netns` are the namespaces of the nodes' switches, by node.

    `unknown` is why this kernel does not count; "" where it does.
    """

    def __init__(self, netns: Mapping[str, Path], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__("lost-frames")
        self._clock = clock
        self._sockets = {node: PacketSockets(path) for node, path in netns.items()}
        self._last: dict[tuple[str, int], int] = {}  # as read last, by node and inode
        # Between these two times so many frames were lost.
        self._found: list[tuple[float, float, Counter[str]]] = []
        self._lock = threading.Lock()
        self._sampled_at = clock()
        self.unknown = ""
        try:
            self._last = {(node, number): drops for node, number, drops in self._read()}
        except OSError as error:
            self.unknown = str(error)

    def total(self) -> Counter[str]:
        """How many frames were lost so far, by node; those of the kernel's own queue under MACHINE."""
        return self.between((*self._sockets, MACHINE), 0.0, self._clock())

    def between(self, nodes: Iterable[str], begin: float, end: float) -> Counter[str]:
        """How many frames of these nodes were lost at some time within an interval, by its samples."""
        wanted, found = set(nodes), Counter[str]()
        with self._lock:
            for first, last, counts in self._found:
                if first <= end and last >= begin:
                    found.update({node: count for node, count in counts.items() if node in wanted})
        return found

    def sample(self) -> None:
        """Count what was lost since the last sample."""
        if self.unknown:
            return
        with self._lock:
            now, counts = self._clock(), Counter[str]()
            for node, number, drops in self._read():
                # A switch that was started again has new sockets, which begin at 0.
                counts[node] += max(0, drops - self._last.get((node, number), 0))
                self._last[node, number] = drops
            if +counts:
                self._found.append((self._sampled_at, now, +counts))
            self._sampled_at = now

    def _run(self) -> None:
        while not self._stopping.wait(EVERY):
            self.sample()
        self.sample()

    def _read(self) -> Iterator[tuple[str, int, int]]:
        for node, sockets in self._sockets.items():
            for inode, drops in sockets.drops().items():
                yield node, inode, drops
        with contextlib.suppress(FileNotFoundError):
            yield MACHINE, 0, queue_drops(Path("/proc/net/softnet_stat").read_text(encoding="ascii"))

    def _close(self) -> None:
        for sockets in self._sockets.values():
            sockets.close()
