"""Frames with DNS in them: from Ethernet to the bytes of UDP or TCP. Everything is untrusted.

Only what the pipeline lets through comes here: IPv4 and IPv6 without VLAN tags, whose addresses it has checked, and
whose connection it knows. Fragments do not come (`flows.render.answers`), and are refused.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from flows.cluster.model import Protocol
from flows.cluster.net import ADDRESS_BITS, Net

_ETHERNET = 14
_KIND = struct.Struct("!H")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_UDP = struct.Struct("!HHHH")
_TCP = struct.Struct("!HHIIBBHHH")
_SKIPPED = frozenset({0, 43, 60})  # hop-by-hop options, routing, destination options
MAX_EXTENSIONS = 8
SYN, FIN, RST = 2, 1, 4


class PacketError(Exception):
    """A frame that is cut off, or that is neither UDP nor TCP."""


class Datagram(NamedTuple):
    """One packet of UDP or TCP: its ends, and its bytes. `sequence` and `flags` are TCP's, 0 for UDP."""

    protocol: Protocol
    source: Net
    sport: int
    target: Net
    dport: int
    data: bytes
    sequence: int = 0
    flags: int = 0


def read_packet(frame: bytes) -> Datagram:
    """The packet in an Ethernet frame. Raises PacketError."""
    if len(frame) < _ETHERNET:
        raise PacketError("a frame without a header")
    (kind,) = _KIND.unpack_from(frame, 12)
    if kind == 0x0800:
        return _ipv4(frame[_ETHERNET:])
    if kind == 0x86DD:
        return _ipv6(frame[_ETHERNET:])
    raise PacketError("a frame that is not IP")


def _ipv4(packet: bytes) -> Datagram:
    if len(packet) < _IPV4.size:
        raise PacketError("IPv4 without a header")
    first, _, total, _, flags, _, protocol, _, source, target = _IPV4.unpack_from(packet)
    head = (first & 15) * 4
    if first >> 4 != 4 or head < _IPV4.size or not head <= total <= len(packet):
        raise PacketError("IPv4 with a wrong length")
    if flags & 0x3FFF:
        raise PacketError("a fragment")
    return transport(protocol, _net(source), _net(target), packet[head:total])


def _ipv6(packet: bytes) -> Datagram:
    if len(packet) < _IPV6.size:
        raise PacketError("IPv6 without a header")
    first, length, following, _, source, target = _IPV6.unpack_from(packet)
    if first >> 28 != 6 or _IPV6.size + length > len(packet):
        raise PacketError("IPv6 with a wrong length")
    ends = _net(source), _net(target)
    body = packet[_IPV6.size : _IPV6.size + length]
    for _ in range(MAX_EXTENSIONS):
        if following not in _SKIPPED:
            break
        if len(body) < 8 or len(body) < body[1] * 8 + 8:
            raise PacketError("an extension header ends early")
        following, body = body[0], body[body[1] * 8 + 8 :]
    return transport(following, *ends, body)


def transport(protocol: int, source: Net, target: Net, body: bytes) -> Datagram:
    """The datagram in the payload of a whole IP packet. Raises PacketError."""
    if protocol == Protocol.UDP and len(body) >= _UDP.size:
        sport, dport, length, _ = _UDP.unpack_from(body)
        if not _UDP.size <= length <= len(body):
            raise PacketError("UDP with a wrong length")
        return Datagram(Protocol.UDP, source, sport, target, dport, body[_UDP.size : length])
    if protocol == Protocol.TCP and len(body) >= _TCP.size:
        sport, dport, sequence, _, offset, flags, _, _, _ = _TCP.unpack_from(body)
        head = (offset >> 4) * 4
        if not _TCP.size <= head <= len(body):
            raise PacketError("TCP with a wrong length")
        return Datagram(Protocol.TCP, source, sport, target, dport, body[head:], sequence, flags)
    raise PacketError("neither UDP nor TCP")


def _net(raw: bytes) -> Net:
    version = 4 if len(raw) == 4 else 6
    return Net(version, int.from_bytes(raw, "big"), ADDRESS_BITS[version])
