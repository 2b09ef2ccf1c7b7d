"""Queries, answers and lies for `bench.dns_cost`: each a process whose sockets are in namespaces of a lab.

A name says its address: `nN-anything.example.com` is HONEST plus N, so that the server needs no table. An answer ends
with the time at which it was sent, and the kernel notes when it reaches the pod: what is between is not this process's.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from topology.host.netns import inside

PORT = 53
SOCKETS = 64  # of a pod, that ask in turns
HONEST = 0x2C000000  # 44.0.0.0/8
LIES = {"wrong id": 1, "oversize": 2, "fragmented": 3, "wrong port": 4, "wrong server": 5, "no subject": 6}
FORGED = 0xC6336400  # 198.51.100.0/24; its last byte says which lie
LOST_AFTER = 3.0
_TICK = 0.002
_HEADER = struct.Struct("!HHHHHH")
_QUESTION = b"\x07example\x03com\x00\x00\x01\x00\x01"
_RECORD = b"\xc0\x0c\x00\x01\x00\x01" + struct.pack("!IH", 60, 4)
_WHEN = struct.Struct("!Q")
_TIME_RECORD = b"\x00\x00\x10\x00\x01" + struct.pack("!IHB", 0, 1 + _WHEN.size, _WHEN.size)  # TXT of the root
_UDP = struct.Struct("!HHHH")
_SO_TIMESTAMPNS = 35  # socket(7); Python has no name for it
_TIMESTAMP = struct.Struct("qq")


class Heard(NamedTuple):
    """What became of the queries of all pods: seconds that each answer took from the server, how many were asked, and
    the numbers of the last addresses that each pod heard."""

    delays: list[float]
    asked: int
    last: list[list[int]]


def query(number: int, label: bytes) -> bytes:
    """A query for LABEL.example.com, A."""
    return _HEADER.pack(number, 0x0100, 1, 0, 0, 0) + bytes((len(label),)) + label + _QUESTION


def answer(question: bytes, addresses: Iterable[int], now: int) -> bytes:
    """The answer to a query with these addresses, sent at this time in nanoseconds."""
    records = b"".join(_RECORD + address.to_bytes(4, "big") for address in addresses)
    head = _HEADER.pack(int.from_bytes(question[:2], "big"), 0x8180, 1, len(records) // 16, 0, 1)
    return head + question[_HEADER.size :] + records + _TIME_RECORD + _WHEN.pack(now)


def udp_socket(place: Path, port: int = 0) -> socket.socket:
    """A UDP socket in a namespace."""
    with inside(place):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    made.bind(("0.0.0.0", port))
    return made


def serve(place: Path, block: int) -> None:
    """Answer each query with an address of the block, for ever."""
    server = udp_socket(place, PORT)
    while True:
        question, client = server.recvfrom(2048)
        label = question[_HEADER.size + 1 : _HEADER.size + 1 + question[_HEADER.size]]
        number = int(label[1:].partition(b"-")[0])
        address = block + number if block == HONEST else block + LIES["wrong server"]
        server.sendto(answer(question, (address,), time.time_ns()), client)


class Asker:
    """Sockets of all pods, that ask one server in turns."""

    def __init__(self, places: Iterable[Path], server: str) -> None:
        self.pods = [[udp_socket(place) for _ in range(SOCKETS)] for place in places]
        self._asked = 0  # so that later names have other addresses
        self._poll = select.epoll()
        self._of = {}
        for pod in self.pods:
            for one in pod:
                one.connect((server, PORT))
                one.setblocking(False)
                one.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
                self._poll.register(one, select.EPOLLIN)
                self._of[one.fileno()] = one

    def ports(self) -> list[list[int]]:
        """The ports of each pod's sockets."""
        return [[one.getsockname()[1] for one in pod] for pod in self.pods]

    def ask(self, rate: int, seconds: float, known: bool = False) -> Heard:
        """Ask for a new name each time, or for the same one; then wait for what is late."""
        asked, open_ = 0, dict[tuple[int, int], tuple[int, int]]()
        delays: list[float] = []
        last: list[list[int]] = [[] for _ in self.pods]
        run = os.urandom(3).hex().encode()
        began = time.monotonic()
        while (now := time.monotonic()) - began < seconds or (open_ and now - began < seconds + LOST_AFTER):
            while asked < min(now - began, seconds) * rate:
                pod, turn = asked % len(self.pods), asked // len(self.pods)
                one, number = self.pods[pod][turn % SOCKETS], turn // SOCKETS & 0xFFFF
                of_name = pod if known else self._asked + asked
                with contextlib.suppress(ConnectionRefusedError):  # of an earlier query, while no server runs yet
                    one.send(query(number, b"n%d-%s" % (of_name, b"known" if known else run)))
                open_[one.fileno(), number] = pod, of_name
                asked += 1
            for descriptor, _ in self._poll.poll(_TICK):
                for message, when in self._arrived(descriptor):
                    about = open_.pop((descriptor, int.from_bytes(message[:2], "big")), None)
                    if about is not None:
                        last[about[0]] = [*last[about[0]][-2:], about[1]]
                        delays.append((when - _WHEN.unpack(message[-_WHEN.size :])[0]) / 1e9)
        self._asked += asked
        return Heard(delays, asked, last)

    def _arrived(self, descriptor: int) -> Iterator[tuple[bytes, int]]:
        """The honest answers that a socket has, and when the kernel got them."""
        while True:
            try:
                message, more, *_ = self._of[descriptor].recvmsg(4096, 64)
            except (BlockingIOError, ConnectionRefusedError):
                return
            seconds, nanoseconds = _TIMESTAMP.unpack(more[0][2][: _TIMESTAMP.size])
            at = message.find(_RECORD)
            if message[-_WHEN.size - len(_TIME_RECORD) :].startswith(_TIME_RECORD) and message[at + 12] == HONEST >> 24:
                yield message, seconds * 1_000_000_000 + nanoseconds


def lie(place: Path, victims: list[tuple[str, list[int]]], rate: int) -> None:
    """Send lies from the server's own address and port, for ever, as many of each kind in turns: what a machine that
    can forge this address sends. `victims` are pods' addresses, and the ports that wait for answers."""
    with inside(place):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
    kinds = ("wrong id", "oversize", "wrong id", "wrong port", "wrong id", "fragmented")
    began, count = time.monotonic(), 0
    while True:
        while count < (time.monotonic() - began) * rate:
            kind = kinds[count % len(kinds)]
            address, ports = victims[count // len(kinds) % len(victims)]
            port = 9 if kind == "wrong port" else ports[count // len(victims) % len(ports)]
            many = {"oversize": 85, "fragmented": 240}.get(kind, 1)
            question = query(0x8000 | count & 0x7FFF, b"n%d-forged" % count)
            message = answer(question, [FORGED + LIES[kind]] * many, time.time_ns())
            raw.sendto(_UDP.pack(PORT, port, _UDP.size + len(message), 0) + message, (address, 0))
            count += 1
        time.sleep(_TICK)


def ask_for_ever(places: list[Path], server: str, rate: int) -> None:
    """Ask a server for new names, for ever, and hear nothing."""
    asker = Asker(places, server)
    while True:
        asker.ask(rate, 5.0)
