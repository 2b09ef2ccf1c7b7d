"""Requests to the kernel's rtnetlink (rtnetlink(7)): headers, attributes, acknowledgements and dumps.

What the requests mean stands in `links` and `routes`. A socket belongs to the network namespace in which it was opened.
"""

from __future__ import annotations

import os
import struct

from node.errors import NodeError
from node.quick import TYPE_CHECKING, socket

if TYPE_CHECKING:
    from collections.abc import Iterator

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK = 0x1, 0x4
NLM_F_DUMP = 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF
MAX_DUMP = 1 << 16  # messages of one dump
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_ERROR = struct.Struct("=i")
_BUFFER = 1 << 18
_TIMEOUT = 10.0


class NetlinkError(NodeError):
    """The kernel refused a request: `number` is its errno."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"{what}: {os.strerror(number)}")
        self.number = number


class Netlink:
    """One socket of NETLINK_ROUTE in the network namespace of the caller. Use it as a context manager."""

    def __init__(self) -> None:
        self._sequence = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.settimeout(_TIMEOUT)
        self._socket.bind((0, 0))

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def change(self, kind: int, body: bytes, flags: int = 0, what: str = "netlink") -> None:
        """Send a request and wait for its acknowledgement. Raises NetlinkError, which begins with `what`."""
        for _ in self._ask(kind, body, flags | NLM_F_ACK, what):
            pass

    def get(self, kind: int, body: bytes, what: str = "netlink") -> bytes:
        """Ask for one object and return its message's body. Raises NetlinkError."""
        for answer in self._ask(kind, body, NLM_F_ACK, what):
            return answer
        raise NodeError(f"{what}: the kernel answered nothing")

    def dump(self, kind: int, body: bytes, what: str = "netlink") -> list[bytes]:
        """Ask for all objects of a kind and return the bodies of their messages. Raises NetlinkError."""
        return list(self._ask(kind, body, NLM_F_DUMP, what))

    def _ask(self, kind: int, body: bytes, flags: int, what: str) -> Iterator[bytes]:
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(body), kind, flags | NLM_F_REQUEST, self._sequence, 0)
        try:
            self._socket.send(header + body)
            found = 0
            while True:
                for answer, content in self._receive():
                    if answer == NLMSG_ERROR:
                        number = -_ERROR.unpack_from(content)[0]
                        if number:
                            raise NetlinkError(number, what)
                        return
                    if answer == NLMSG_DONE:
                        return
                    found += 1
                    if found > MAX_DUMP:
                        raise NodeError(f"{what}: more than {MAX_DUMP} objects")
                    yield content
        except OSError as error:
            raise NodeError(f"{what}: {error.strerror or error}") from None

    def _receive(self) -> Iterator[tuple[int, bytes]]:
        """The messages of one datagram that answer our last request: type and body."""
        data = self._socket.recv(_BUFFER)
        position = 0
        while position + _HEADER.size <= len(data):
            length, kind, _, sequence, _ = _HEADER.unpack_from(data, position)
            if length < _HEADER.size or position + length > len(data):
                raise NodeError("the kernel's answer is cut off")
            if sequence == self._sequence:
                yield kind, data[position + _HEADER.size : position + length]
            position += (length + 3) & ~3


def attribute(kind: int, *contents: bytes) -> bytes:
    """One attribute with its header, padded to four bytes. Contents that are attributes make it a nested one."""
    content = b"".join(contents)
    length = _ATTRIBUTE.size + len(content)
    return _ATTRIBUTE.pack(length, kind) + content + b"\0" * (-length % 4)


def number(kind: int, value: int) -> bytes:
    """An attribute of an unsigned 32-bit number."""
    return attribute(kind, struct.pack("=I", value))


def text(kind: int, value: str) -> bytes:
    """An attribute of a text that ends with a zero byte."""
    return attribute(kind, value.encode() + b"\0")


def attributes(body: bytes, offset: int) -> dict[int, bytes]:
    """The attributes behind a message's fixed part of `offset` bytes, by type; of two of a type the last."""
    found: dict[int, bytes] = {}
    position = (offset + 3) & ~3
    while position + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, position)
        if length < _ATTRIBUTE.size or position + length > len(body):
            raise NodeError("an attribute of the kernel's answer is cut off")
        found[kind & NLA_TYPE_MASK] = body[position + _ATTRIBUTE.size : position + length]
        position += (length + 3) & ~3
    return found
