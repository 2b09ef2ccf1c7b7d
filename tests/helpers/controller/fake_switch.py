"""OpenFlow peers made of bytes: switches that say yes to everything, and those that do what no switch does."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

HEADER = struct.Struct("!BBHI")
HELLO = HEADER.pack(5, 0, 8, 1)
PORTS = struct.pack("!BBHIHH4x", 5, 19, 16, 3, 13, 0)
OURS = 0x4847 << 48 | 2 << 40  # a cookie of Headgate's


def message(kind: int, body: bytes = b"", xid: int = 1) -> bytes:
    return HEADER.pack(5, kind, HEADER.size + len(body), xid) + body


def features(dpid: int) -> bytes:
    return message(6, struct.pack("!QIBB2xII", dpid, 0, 254, 0, 0, 0), 2)


def dial(port: int, source: str = "127.0.0.1") -> socket.socket:
    """A connection that comes from an address of this machine's loopback."""
    one = socket.create_connection(("127.0.0.1", port), source_address=(source, 0))
    one.settimeout(60)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one


def flow_entry(number: int, padding: int = 0) -> bytes:
    """An ofp_flow_stats of a made-up flow that bears our cookie, longer by `padding` bytes of instructions."""
    match = struct.pack("!HHHBBQ", 1, 16, 0x8000, 2 << 1, 8, number)  # metadata
    size = 48 + len(match) + padding
    head = struct.pack("!HBxIIHHHH4xQQQ", size, 60, 1, 0, 1000, 0, 0, 0, OURS | number, 1, 1)
    return head + match + number.to_bytes(padding, "big") if padding else head + match


def flow_reply(xid: int, entries: bytes, more: bool) -> bytes:
    return message(19, struct.pack("!HHI", 1, int(more), 0) + entries, xid)


def asks_for_flows(kind: int, whole: bytes) -> bool:
    """Whether a message is a request for all flows."""
    return kind == 18 and whole[8:10] == b"\0\1"


class FakeSwitch(threading.Thread):
    """A switch of this datapath id that answers echo requests, dumps with nothing and bundles with yes.

    `answer`, given kind, xid and message, may answer in its place, and returns whether it has.
    """

    def __init__(
        self,
        port: int,
        dpid: int,
        source: str = "127.0.0.1",
        answer: Callable[[FakeSwitch, int, int, bytes], bool] = lambda *_: False,
    ) -> None:
        super().__init__(daemon=True)
        self.dpid = dpid
        self.socket = dial(port, source)
        self.seen: list[int] = []
        self._answer = answer
        self.socket.sendall(HELLO + features(dpid) + PORTS)

    def run(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            self.socket.settimeout(None)
            while True:
                kind, xid, whole = self._next()
                self.seen.append(kind)
                if self._answer(self, kind, xid, whole):
                    continue
                if kind == 2:
                    self.socket.sendall(message(3, whole[8:], xid))
                elif asks_for_flows(kind, whole):
                    self.socket.sendall(flow_reply(xid, b"", more=False))
                elif kind == 33:
                    bundle, what, flags = struct.unpack("!IHH", whole[8:16])
                    self.socket.sendall(message(33, struct.pack("!IHH", bundle, what + 1, flags), xid))

    def _next(self) -> tuple[int, int, bytes]:
        head = self._exactly(HEADER.size)
        _, kind, length, xid = HEADER.unpack(head)
        return kind, xid, head + self._exactly(length - HEADER.size)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.join(10)
        self.socket.close()


@contextmanager
def fake_switch(
    port: int,
    dpid: int,
    source: str = "127.0.0.1",
    answer: Callable[[FakeSwitch, int, int, bytes], bool] = lambda *_: False,
) -> Iterator[FakeSwitch]:
    """A FakeSwitch that runs within the block."""
    one = FakeSwitch(port, dpid, source, answer)
    one.start()
    try:
        yield one
    finally:
        one.close()


def ended(one: socket.socket) -> bool:
    """Read until the other side has closed; False when it has not within the socket's timeout."""
    try:
        while one.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True
