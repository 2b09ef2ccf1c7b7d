"""SCTP and ICMP packets as bytes, for probes with raw sockets. Of SCTP only what opens an association (RFC 9260, 5.1).

Pure functions. An association is opened by four packets: INIT, INIT ACK with a cookie, COOKIE ECHO, COOKIE ACK.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

INIT, INIT_ACK, ABORT, COOKIE_ECHO, COOKIE_ACK = 1, 2, 6, 10, 11
_PARAMETER_COOKIE = 7
_TAG_REFLECTED = 1
_COMMON = struct.Struct("!HHII")
_INIT = struct.Struct("!IIHHI")


def _table() -> tuple[int, ...]:
    entries = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        entries.append(byte)
    return tuple(entries)


_CRC = _table()


def crc32c(data: bytes) -> int:
    """The Castagnoli CRC that SCTP uses (RFC 9260, appendix A), as the number to store little-endian."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _CRC[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


class Sctp(NamedTuple):
    """One SCTP packet with one chunk. `tag` is the verification tag; `body` the chunk's value without its header."""

    source: int
    destination: int
    tag: int
    chunk: int
    flags: int = 0
    body: bytes = b""

    def encode(self) -> bytes:
        """The packet with its checksum."""
        chunk = struct.pack("!BBH", self.chunk, self.flags, 4 + len(self.body)) + self.body
        chunk += bytes(-len(chunk) % 4)
        bare = _COMMON.pack(self.source, self.destination, self.tag, 0) + chunk
        return bare[:8] + crc32c(bare).to_bytes(4, "little") + bare[12:]


def decode_sctp(data: bytes) -> Sctp | None:
    """The packet's header and first chunk; None if it is truncated or its checksum is wrong."""
    if len(data) < 16 or crc32c(data[:8] + bytes(4) + data[12:]) != int.from_bytes(data[8:12], "little"):
        return None
    source, destination, tag, _ = _COMMON.unpack_from(data)
    chunk, flags, length = struct.unpack_from("!BBH", data, 12)
    if length < 4 or 12 + length > len(data):
        return None
    return Sctp(source, destination, tag, chunk, flags, data[16 : 12 + length])


def sctp_init(source: int, destination: int, tag: int) -> bytes:
    """An INIT; `tag` is the verification tag that the other end must use."""
    return Sctp(source, destination, 0, INIT, 0, _INIT.pack(tag, 65536, 1, 1, 1)).encode()


def init_tag(packet: Sctp) -> int | None:
    """The initiate tag of an INIT or INIT ACK, None if the chunk is too short."""
    return int(_INIT.unpack_from(packet.body)[0]) if len(packet.body) >= _INIT.size else None


def sctp_init_ack(request: Sctp, peer_tag: int, own_tag: int, cookie: bytes) -> bytes:
    """The answer to an INIT, carrying `cookie`."""
    parameter = struct.pack("!HH", _PARAMETER_COOKIE, 4 + len(cookie)) + cookie
    body = _INIT.pack(own_tag, 65536, 1, 1, 1) + parameter
    return Sctp(request.destination, request.source, peer_tag, INIT_ACK, 0, body).encode()


def cookie_of(packet: Sctp) -> bytes | None:
    """The cookie of an INIT ACK, None if there is none."""
    at = _INIT.size
    while at + 4 <= len(packet.body):
        kind, length = struct.unpack_from("!HH", packet.body, at)
        if kind == _PARAMETER_COOKIE:
            return packet.body[at + 4 : at + length]
        at += max(4, length + -length % 4)
    return None


def sctp_abort(request: Sctp, peer_tag: int) -> bytes:
    """The ABORT that answers an INIT to a port without a server."""
    return Sctp(request.destination, request.source, peer_tag, ABORT, 0).encode()


def internet_checksum(data: bytes) -> int:
    """The one's complement sum of RFC 1071."""
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def icmp_echo_request(family: int, identifier: int, sequence: int, data: bytes = b"headgate") -> bytes:
    """An ICMP echo request. For IPv6 the kernel fills in the checksum."""
    kind = 8 if family == 4 else 128
    bare = struct.pack("!BBHHH", kind, 0, 0, identifier, sequence) + data
    if family == 6:
        return bare
    return bare[:2] + internet_checksum(bare).to_bytes(2, "big") + bare[4:]


def icmp_echo_reply(family: int, data: bytes) -> tuple[int, int] | None:
    """Identifier and sequence number of an echo reply, None if it is anything else."""
    if len(data) < 8 or data[0] != (0 if family == 4 else 129):
        return None
    identifier, sequence = struct.unpack_from("!HH", data, 4)
    return identifier, sequence


def without_ip(family: int, data: bytes) -> bytes:
    """A packet of a raw socket without its IPv4 header; raw IPv6 sockets deliver none."""
    return data[(data[0] & 0x0F) * 4 :] if family == 4 and data else data
