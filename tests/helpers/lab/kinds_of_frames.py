"""Every kind of frame that a pod may make up: a table of Ethernet types, tags, protocols, options, extension headers,
kinds of ICMPv6 and fragments. Where such frames may arrive is the tests' business.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from flows.interpret.frame_encoder import checksum

EVERYBODY = 0xFFFFFFFFFFFF
# Ethernet types besides IP and ARP: LLDP, EAPOL, PTP, slow protocols, PPPoE, RARP, IPX, MACsec, MPLS twice, NSH, FCoE,
# ATA, experiments, and loopback.
TYPES = (0x88CC, 0x888E, 0x88F7, 0x8809, 0x8863, 0x8864, 0x8035, 0x8137, 0x88E5, 0x8847, 0x8848, 0x894F, 0x8906,
         0x88A2, 0x88B5, 0x9000)  # fmt: skip
GROUPS = (0x0180C2000000, 0x0180C200000E, 0x01000CCCCCCC, 0x01005E000001, 0x333300000001, EVERYBODY)
PROTOCOLS = (1, 2, 4, 6, 17, 33, 41, 47, 50, 51, 58, 59, 89, 103, 112, 115, 132, 136, 253, 255)
HEADERS = (0, 43, 60, 135, 139, 140)  # IPv6 extension headers, those of no use included
ICMPV6 = (*range(6), 100, *range(128, 156), 200)


class Ends(NamedTuple):
    """The addresses of sender and receiver, as numbers."""

    eth_src: int
    eth_dst: int
    four: tuple[int, int]
    six: tuple[int, int]


class Made(NamedTuple):
    """A frame, its description, and the bytes that identify it where it arrives."""

    what: str
    frame: bytes
    marker: bytes


def ether(ends: Ends, kind: int, payload: bytes, to: int | None = None) -> bytes:
    """A frame of Ethernet."""
    head = (ends.eth_dst if to is None else to).to_bytes(6, "big") + ends.eth_src.to_bytes(6, "big")
    return (head + kind.to_bytes(2, "big") + payload).ljust(60, b"\0")


def ipv4(ends: Ends, protocol: int, payload: bytes, place: int = 0, options: bytes = b"", train: int = 7) -> bytes:
    """An IPv4 packet."""
    source, target = ends.four
    size = 20 + len(options)

    def head(check: int) -> bytes:
        return struct.pack("!BBHHHBBH", 0x40 | size // 4, 0, size + len(payload), train, place, 64, protocol, check) + (
            source.to_bytes(4, "big") + target.to_bytes(4, "big") + options
        )

    return head(checksum(head(0))) + payload


def ipv6(ends: Ends, following: int, payload: bytes, hops: int = 255) -> bytes:
    """An IPv6 packet."""
    source, target = ends.six
    head = struct.pack("!IHBB", 6 << 28, len(payload), following, hops)
    return head + source.to_bytes(16, "big") + target.to_bytes(16, "big") + payload


def udp(sport: int, dport: int, payload: bytes) -> bytes:
    """A UDP datagram without a checksum."""
    return struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload


def layer_2(ends: Ends, mark: bytes) -> Iterator[tuple[str, bytes]]:
    """Whatever is no IP."""
    for kind in TYPES:
        yield f"type {kind:#x}", ether(ends, kind, mark)
        yield f"type {kind:#x} to a group", ether(ends, kind, mark, GROUPS[kind % len(GROUPS)])
    inside = ipv4(ends, 17, udp(1, 80, mark))
    for tag in (0x8100, 0x88A8, 0x9100):
        for vlan in (0, 1, 4095):
            yield f"tag {tag:#x} {vlan}", ether(ends, tag, struct.pack("!HH", vlan, 0x0800) + inside)
        double = struct.pack("!HHHH", 1, 0x8100, 1, 0x0800) + inside
        yield f"two tags {tag:#x}", ether(ends, tag, double)
    yield "MPLS with IP in it", ether(ends, 0x8847, struct.pack("!I", 16 << 12 | 0x1FF) + inside)
    yield "802.3 with LLC", ether(ends, 0x0040, b"\x42\x42\x03" + mark)
    yield "802.3 with SNAP and IP", ether(ends, 8 + len(inside), b"\xaa\xaa\x03\0\0\0\x08\0" + inside)
    for group in GROUPS:
        yield f"IPv4 to the MAC {group:012x}", ether(ends, 0x0800, inside, group)
        yield f"IPv6 to the MAC {group:012x}", ether(ends, 0x86DD, ipv6(ends, 17, udp(1, 80, mark)), group)


def layer_3(ends: Ends, mark: bytes) -> Iterator[tuple[str, bytes]]:
    """IP with all that may stand in it."""
    for protocol in PROTOCOLS:
        yield f"IPv4 protocol {protocol}", ether(ends, 0x0800, ipv4(ends, protocol, mark * 4))
        yield f"IPv6 protocol {protocol}", ether(ends, 0x86DD, ipv6(ends, protocol, mark * 4))
    for kind in (1, 7, 68, 131, 137, 148):
        options = bytes((kind, 3, 4, 0)) if kind > 1 else b"\1\1\1\1"
        yield f"IPv4 option {kind}", ether(ends, 0x0800, ipv4(ends, 17, udp(1, 80, mark), options=options))
    for header in HEADERS:
        extended = bytes((17, 0)) + b"\1\4\0\0\0\0" + udp(1, 80, mark)
        yield f"IPv6 header {header}", ether(ends, 0x86DD, ipv6(ends, header, extended))
        twice = bytes((header, 0)) + b"\1\4\0\0\0\0" + extended
        yield f"IPv6 header {header} twice", ether(ends, 0x86DD, ipv6(ends, header, twice))
    for kind in ICMPV6:
        for place, name in ((-1, ""), (0, " in an atomic fragment"), (1, " in a first fragment")):
            message = _icmpv6(ends, kind, mark)
            fragment = struct.pack("!BxHI", 58, max(place, 0), 7) + message
            packet = ipv6(ends, 58, message) if place < 0 else ipv6(ends, 44, fragment)
            yield f"ICMPv6 {kind}{name}", ether(ends, 0x86DD, packet)
    for ports in ((67, 68), (68, 67), (546, 547), (547, 546), (5353, 5353)):
        yield f"UDP {ports}", ether(ends, 0x0800, ipv4(ends, 17, udp(*ports, mark)))
        yield f"UDP {ports} of IPv6", ether(ends, 0x86DD, ipv6(ends, 17, udp(*ports, mark)))
    nobody = ends._replace(four=(0, 0xFFFFFFFF))
    yield "DHCP of nobody", ether(nobody, 0x0800, ipv4(nobody, 17, udp(68, 67, mark)), EVERYBODY)


def _icmpv6(ends: Ends, kind: int, mark: bytes) -> bytes:
    body = bytes(4) + ends.six[0].to_bytes(16, "big") + bytes((1, 1)) + mark[:6] + mark
    plain = struct.pack("!BBH", kind, 0, 0) + body
    pseudo = ends.six[0].to_bytes(16, "big") + ends.six[1].to_bytes(16, "big")
    check = checksum(pseudo + struct.pack("!IxxxB", len(plain), 58) + plain)
    return plain[:2] + struct.pack("!H", check) + plain[4:]


def pieces(ends: Ends, mark: bytes, size: int = 1400) -> Iterator[tuple[str, bytes]]:
    """Fragments of at most `size` bytes and some: overlapping ones, tiny ones, some beyond the end, some twice."""
    whole = udp(1, 80, mark * (size * 3 // 16))
    cuts = {
        "that overlap": ((0, size, True), (size - 200, len(whole), False)),
        "that overlap the ports": ((8, size + 8, True), (0, 24, True), (16, size + 16, False)),
        "twice": ((0, size, True), (0, size, True), (size, len(whole), False)),
        "tiny": ((0, 8, True), (8, size + 8, True), (size + 8, len(whole), False)),
        "the last first": ((size, len(whole), False), (0, size, True)),
        "beyond the end": ((65528 - size, 65528, True),),
    }
    for train, (name, some) in enumerate(cuts.items(), 100):
        for start, end, more in some:
            part = whole[start:end] if start < len(whole) else mark * (size // 8)
            place = start // 8 | (0x2000 if more else 0)
            yield f"fragments {name}", ether(ends, 0x0800, ipv4(ends, 17, part, place, train=train))
            head = struct.pack("!BxHI", 17, start | more, train)
            yield f"fragments of IPv6 {name}", ether(ends, 0x86DD, ipv6(ends, 44, head + part))
