"""Puts together what DNS servers send in parts: TCP segments with messages in them.

Everything is untrusted and bounded. What comes out of order in TCP is not kept: the server sends it again, and the pod
cannot read past the gap meanwhile.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from flows.dns.packet import SYN, Datagram, PacketError

_LENGTH = struct.Struct("!H")
_WRAP = 1 << 32


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
