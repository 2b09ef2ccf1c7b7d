"""Puts together what DNS servers send in parts: IP fragments of one datagram, and TCP segments with messages in them.

Everything is untrusted and bounded. What comes out of order in TCP is not kept: the server sends it again, and the pod
cannot read past the gap meanwhile.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from flows.dns.packet import SYN, Datagram, Fragment, PacketError, transport

MAX_DATAGRAM = 0xFFFF
MAX_FRAGMENTS = 64
_LENGTH = struct.Struct("!H")
_WRAP = 1 << 32


@dataclass(slots=True)
class Fragments:
    """The fragments of one datagram so far, by their offsets."""

    parts: dict[int, Fragment] = field(default_factory=dict)

    def add(self, part: Fragment) -> Datagram | None:
        """One more; the datagram once it is whole. Raises PacketError where they do not fit together."""
        if part.offset + len(part.data) > MAX_DATAGRAM or len(self.parts) >= MAX_FRAGMENTS:
            raise PacketError("too many or too long fragments")
        if self.parts.setdefault(part.offset, part) != part:
            raise PacketError("fragments that overlap")
        place, body = 0, b""
        for offset in sorted(self.parts):
            if offset < place:
                raise PacketError("fragments that overlap")
            if offset > place:
                return None
            one = self.parts[offset]
            body += one.data
            place += len(one.data)
            if not one.more:
                if len(self.parts) > 1 and offset != max(self.parts):
                    raise PacketError("a fragment behind the last")
                return transport(part.protocol, part.source, part.target, body)
        return None


@dataclass(slots=True)
class Stream:
    """The bytes that one TCP connection brings from a server. `following` is the number of the next byte."""

    following: int
    buffer: bytearray = field(default_factory=bytearray)

    def add(self, segment: Datagram) -> list[bytes] | None:
        """The messages that a segment completes. None where there is a gap before it.

        Raises PacketError for a segment of bytes that were there already.
        """
        behind = (self.following - segment.sequence) % _WRAP
        data = segment.data
        if behind:
            if behind >= _WRAP // 2:
                return None
            if behind >= len(data):
                raise PacketError("sent again")
            data = data[behind:]
        self.following = (self.following + len(data)) % _WRAP
        buffer = self.buffer
        buffer += data
        messages = []
        while len(buffer) >= _LENGTH.size:
            end = _LENGTH.size + int(_LENGTH.unpack_from(buffer)[0])
            if len(buffer) < end:
                break
            messages.append(bytes(buffer[_LENGTH.size : end]))
            del buffer[:end]
        return messages


def opened_stream(segment: Datagram) -> Stream | None:
    """The stream that begins with this segment; None where it is not the first of its connection."""
    return Stream((segment.sequence + 1) % _WRAP) if segment.flags & SYN else None
