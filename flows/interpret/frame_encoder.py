"""Real frames out of Packet values, with every checksum right (unless the packet says that it is corrupt).

Userspace conntrack verifies checksums and TCP sequence numbers, so both are real. Both ends of a TCP connection use
one initial sequence number and send the same piece of data again and again, which needs no memory of the connection.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from flows.interpret.packet import ACK, NEIGHBOR_SOLICIT, SYN, Packet
from flows.openflow import match_fields as oxm

FIRST_SEQUENCE = 1000
# Fragments but the last carry so many bytes, a multiple of 8. OVS calls smaller ones than 1200 (IPv6: 1280) invalid.
PIECE = 1280
_LAST_PIECE = 16


@lru_cache(maxsize=65536)
def encode(packet: Packet) -> bytes:
    """The frame's bytes, at least 60 of them as on a real wire."""
    tag = b"" if packet.vlan is None else struct.pack("!HH", 0x8100, packet.vlan)
    ether = packet.eth_dst.to_bytes(6, "big") + packet.eth_src.to_bytes(6, "big") + tag
    frame = ether + struct.pack("!H", packet.eth_type) + _body(packet)
    return frame.ljust(60, b"\0")


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of `data`."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _make_crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC_TABLE = _make_crc_table()


def crc32c(data: bytes) -> int:
    """CRC-32C, the checksum of SCTP (RFC 9260, appendix A)."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _CRC_TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def _body(packet: Packet) -> bytes:
    if packet.eth_type == oxm.ETH_ARP:
        head = struct.pack("!HHBBH", 1, oxm.ETH_IPV4, 6, 4, packet.arp_op)
        sender = packet.arp_sha.to_bytes(6, "big") + packet.source.to_bytes(4, "big")
        return head + sender + packet.arp_tha.to_bytes(6, "big") + packet.target.to_bytes(4, "big")
    if packet.version == 4:
        return _ipv4(packet)
    if packet.version == 6:
        return _ipv6(packet)
    return struct.pack("!Q", packet.marker)


def _piece(packet: Packet) -> tuple[bytes, int, bool]:
    """The IP payload of this packet, its offset in bytes, and whether more fragments follow."""
    if packet.pieces == 1:
        return _transport(packet, 0), 0, False
    whole = _transport(packet.whole, PIECE * (packet.pieces - 1) + _LAST_PIECE)
    start = PIECE * packet.position
    more = packet.position < packet.pieces - 1
    return (whole[start : start + PIECE] if more else whole[start:]), start, more


def _ipv4(packet: Packet) -> bytes:
    payload, offset, more = _piece(packet)
    addresses = packet.source.to_bytes(4, "big") + packet.target.to_bytes(4, "big")
    place = offset // 8 | (0x2000 if more else 0)

    def header(check: int) -> bytes:
        length = 20 + len(payload)
        return (
            struct.pack("!BBHHHBBH", 0x45, 0, length, packet.train, place, packet.hops, packet.proto, check) + addresses
        )

    return header(checksum(header(0))) + payload


def _ipv6(packet: Packet) -> bytes:
    payload, offset, more = _piece(packet)
    protocol = packet.proto
    if packet.pieces > 1:
        payload = struct.pack("!BBHI", packet.proto, 0, offset | more, packet.train) + payload
        protocol = 44
    head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, packet.hops)
    return head + packet.source.to_bytes(16, "big") + packet.target.to_bytes(16, "big") + payload


def _transport(packet: Packet, length: int) -> bytes:
    """The transport header and payload of a whole packet, at least `length` bytes long in all."""
    marker = struct.pack("!Q", packet.marker)
    if packet.is_icmp:
        return _icmp(packet, marker, length)
    if packet.proto == oxm.IP_PROTO_TCP:
        payload = (b"" if packet.flags & SYN else marker).ljust(length - 20, b"\0")
        sequence = FIRST_SEQUENCE + (0 if packet.flags & SYN else 1)
        acknowledged = FIRST_SEQUENCE + 1 if packet.flags & ACK else 0
        ports = struct.pack("!HHIIBB", packet.sport, packet.dport, sequence, acknowledged, 0x50, packet.flags)
        return _summed(packet, ports + struct.pack("!HHH", 0xFFFF, 0, 0) + payload, 16)
    if packet.proto == oxm.IP_PROTO_UDP:
        payload = marker.ljust(length - 8, b"\0")
        return _summed(packet, struct.pack("!HHHH", packet.sport, packet.dport, 8 + len(payload), 0) + payload, 6)
    if packet.proto == oxm.IP_PROTO_SCTP:
        return _sctp(packet, marker.ljust(length - 28, b"\0"))
    return marker.ljust(length, b"\0")


def _sctp(packet: Packet, payload: bytes) -> bytes:
    """A DATA chunk, padded to a multiple of four bytes."""
    chunk = struct.pack("!BBHIHHI", 0, 3, 16 + len(payload), 1, 0, 0, 0) + payload
    chunk += bytes(-len(chunk) % 4)
    head = struct.pack("!HHI", packet.sport, packet.dport, 1)
    check = crc32c(head + bytes(4) + chunk) ^ packet.corrupt
    return head + struct.pack("<I", check) + chunk


def _icmp(packet: Packet, marker: bytes, length: int) -> bytes:
    if packet.quoted is not None:
        inner = _body(packet.quoted)
        rest = bytes(4) + inner[: 20 + 8 if packet.version == 4 else 120]
    elif packet.version == 6 and packet.sport in (135, 136):
        option = 1 if packet.sport == NEIGHBOR_SOLICIT else 2
        link = b"" if packet.nd_link is None else bytes((option, 1)) + packet.nd_link.to_bytes(6, "big")
        rest = packet.nd_flags.to_bytes(4, "big") + packet.nd_target.to_bytes(16, "big") + link
    else:
        rest = struct.pack("!HH", packet.ident, 1) + marker.ljust(length - 8, b"\0")
    return _summed(packet, struct.pack("!BBH", packet.sport, packet.dport, 0) + rest, 2)


def _summed(packet: Packet, data: bytes, place: int) -> bytes:
    """`data` with the checksum of the packet's protocol put at `place`."""
    pseudo = b""
    if packet.version == 6:
        pseudo = packet.source.to_bytes(16, "big") + packet.target.to_bytes(16, "big")
        pseudo += struct.pack("!IxxxB", len(data), packet.proto)
    elif not packet.is_icmp:
        pseudo = packet.source.to_bytes(4, "big") + packet.target.to_bytes(4, "big")
        pseudo += struct.pack("!xBH", packet.proto, len(data))
    check = checksum(pseudo + data) ^ packet.corrupt
    return data[:place] + struct.pack("!H", check or 0xFFFF) + data[place + 2 :]
