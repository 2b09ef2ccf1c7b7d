"""Asking a node whether an address is its own: the probes that duplicate address detection sends, and the answers.

A node may have addresses that its Node object does not name: a second one on the bridge, or that of a DNS cache.
Traffic with them looks like traffic that the node forwards for somebody else, and policy is asked about it. The node's
own stack knows: to a probe with an unspecified sender it answers for addresses of its own alone, never as a proxy
(Linux, arp_process; an IPv6 proxy answers without the override flag). So the source of a packet that policy refused is
asked for, and what the node says of itself counts for its own pods, which a node could reach anyway. It is asked again
now and then, and forgotten when there is no answer.

Only frames are made and read here, within bounds that hold for whatever a pod sends; no socket, no thread.
Sources: RFC 5227 section 2.1.1, RFC 4862 section 5.4, RFC 4861 section 7.2; OpenFlow 1.4.1 sections 7.3.7 and 7.4.1.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from controller.openflow.messages import OPENFLOW_HEADER, OPENFLOW_VERSION
from controller.peers.limits import OpenFlowLimits
from flows.cluster.net import ADDRESS_BITS, Net, host_address_error
from flows.openflow.port_numbers import CONTROLLER_32, LOCAL_32
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.registers import PROBE_MAC
from flows.render.discovery import link_local
from flows.wire.errors import CodecError

PACKET_OUT = 13
PROBE_ANSWER_SECONDS = 1.0  # that an answer may take
MAX_UNANSWERED_PROBES = 3  # questions in a row, after which it is forgotten
PROBE_XID = 0x7FFFFFFD  # os-ken's own count from 1, and those of requests are above

_IPV4, _IPV6, _ARP = 0x0800, 0x86DD, 0x0806
_ETHERNET = struct.Struct("!6s6sH")
_ARP_BODY = struct.Struct("!HHBBH6s4s6s4s")
_IPV6_HEADER = struct.Struct("!IHBB16s16s")
_PACKET_IN = struct.Struct("!IHBBQHH")
_MATCH_HEAD = 4  # type and length of the match, which the length counts
_IN_PORT = b"\x80\x00\x00\x04"
_PACKET_OUT = struct.Struct("!BBHIIIH6x")
_OUTPUT = struct.Struct("!HHIH6x")
_ICMPV6, _SOLICIT, _ADVERTISE, _OVERRIDE = 58, 135, 136, 0x20000000
_OURS = cookie(CookieKind.PIPELINE)
_NO_BUFFER = 0xFFFFFFFF
_BROADCAST, _MAC = b"\xff" * 6, PROBE_MAC.to_bytes(6, "big")
_LINK_LOCAL = link_local(PROBE_MAC).value.to_bytes(16, "big")


class PacketIn(NamedTuple):
    """A frame that the switch handed over, and the port it came in by (0 where the switch does not say)."""

    cookie: int
    in_port: int
    frame: bytes


def read_packet_in(message: bytes) -> PacketIn:
    """An OFPT_PACKET_IN, header included. Raises CodecError where a length does not hold."""
    if len(message) < OPENFLOW_HEADER.size + _PACKET_IN.size:
        raise CodecError("a packet-in ends early")
    _, _, _, _, cookie, _, length = _PACKET_IN.unpack_from(message, OPENFLOW_HEADER.size)
    fields = OPENFLOW_HEADER.size + _PACKET_IN.size
    frame = fields - _MATCH_HEAD + (length + 7 & ~7) + 2
    if length < _MATCH_HEAD or frame > len(message):
        raise CodecError(f"a packet-in with a match of {length} bytes")
    in_port = int.from_bytes(message[fields + 4 : fields + 8], "big") if message[fields:].startswith(_IN_PORT) else 0
    return PacketIn(cookie, in_port, message[frame:])


def packet_out(frame: bytes, xid: int, port: int = LOCAL_32, in_port: int = CONTROLLER_32) -> bytes:
    """Have the switch send a frame out of a port; it comes from the controller unless `in_port` says otherwise."""
    length = _PACKET_OUT.size + _OUTPUT.size + len(frame)
    head = _PACKET_OUT.pack(OPENFLOW_VERSION, PACKET_OUT, length, xid, _NO_BUFFER, in_port, _OUTPUT.size)
    return head + _OUTPUT.pack(0, _OUTPUT.size, port, 0) + frame


def address_to_probe(frame: bytes) -> Net | None:
    """The address to ask for: the source of what the node sent. None where it is none that a node can have."""
    if len(frame) < _ETHERNET.size:
        return None
    *_, kind = _ETHERNET.unpack_from(frame)
    place = {_IPV4: (12, 4), _IPV6: (8, 16)}.get(kind)
    if place is None:
        return None
    start, size = place
    value = frame[_ETHERNET.size + start : _ETHERNET.size + start + size]
    if len(value) < size:
        return None
    version = 4 if size == 4 else 6
    found = Net(version, int.from_bytes(value, "big"), ADDRESS_BITS[version])
    return None if host_address_error(found) else found


def probe_frame(address: Net) -> bytes:
    """The frame that asks who has the address. IPv4's has an unspecified sender, for which no stack answers as a proxy;
    IPv6's has a sender of its own, so that the answer comes to it alone, and an answer of a proxy is told by its flag.
    """
    if address.version == 4:
        body = _ARP_BODY.pack(1, _IPV4, 6, 4, 1, _MAC, bytes(4), bytes(6), address.value.to_bytes(4, "big"))
        return _ETHERNET.pack(_BROADCAST, _MAC, _ARP) + body
    target = address.value.to_bytes(16, "big")
    group = bytes.fromhex("ff0200000000000000000001ff") + target[13:]
    message = struct.pack("!BBHI16sBB6s", _SOLICIT, 0, 0, 0, target, 1, 1, _MAC)
    checksum = _checksum(_LINK_LOCAL + group + struct.pack("!II", len(message), _ICMPV6) + message)
    message = message[:2] + checksum.to_bytes(2, "big") + message[4:]
    header = _IPV6_HEADER.pack(6 << 28, len(message), _ICMPV6, 255, _LINK_LOCAL, group)
    return _ETHERNET.pack(b"\x33\x33" + group[12:], _MAC, _IPV6) + header + message


def confirmed_address(frame: bytes) -> Net | None:
    """The address that a frame of the node says is its own; None for whatever is no answer to a probe."""
    if len(frame) < _ETHERNET.size:
        return None
    target, _, kind = _ETHERNET.unpack_from(frame)
    if target != _MAC:
        return None
    if kind == _ARP and len(frame) >= _ETHERNET.size + _ARP_BODY.size:
        _, protocol, _, _, operation, _, sender, _, asked = _ARP_BODY.unpack_from(frame, _ETHERNET.size)
        if protocol == _IPV4 and operation == 2 and asked == bytes(4):
            return Net(4, int.from_bytes(sender, "big"), ADDRESS_BITS[4])
    start = _ETHERNET.size + _IPV6_HEADER.size
    if kind == _IPV6 and len(frame) >= start + 24:
        _, _, following, hops, _, to = _IPV6_HEADER.unpack_from(frame, _ETHERNET.size)
        about, code, _, flags, whose = struct.unpack_from("!BBHI16s", frame, start)
        if (following, hops, about, code) == (_ICMPV6, 255, _ADVERTISE, 0) and to == _LINK_LOCAL and flags & _OVERRIDE:
            return Net(6, int.from_bytes(whose, "big"), ADDRESS_BITS[6])
    return None


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass(slots=True)
class _NodeAddress:
    """An address that the node answered for: when it was asked last, and how often since it answered."""

    asked: float
    unanswered: int = 0


class NodeProber:
    """The questions to one node. `send` queues a message, `found` takes all addresses of the node when they change.

    Used by one thread, but for `recheck`.
    """

    def __init__(
        self,
        send: Callable[[bytes], object],
        found: Callable[[tuple[Net, ...]], object],
        clock: Callable[[], float],
        limits: OpenFlowLimits,
    ) -> None:
        self._limits = limits
        self._send, self._found, self._clock = send, found, clock
        self._asked: dict[Net, float] = {}  # oldest first
        self._own: dict[Net, _NodeAddress] = {}
        self._second, self._in_second = 0.0, 0  # when it began, and how many were asked for in it
        self._believed: deque[Net] = deque(maxlen=limits.node_addresses)

    def recheck(self, addresses: Iterable[Net]) -> None:
        """The node answered for these in an earlier session. May be called from any thread."""
        self._believed.extend(addresses)

    def packet_in(self, message: bytes) -> None:
        """A packet-in: a packet whose source is to be asked for, or an answer. Raises CodecError."""
        packet = read_packet_in(message)
        if packet.in_port != LOCAL_32 or packet.cookie != _OURS:
            return  # of a foreign flow, perhaps
        said = confirmed_address(packet.frame)
        if said is not None:
            self._answered(said)
        elif (address := address_to_probe(packet.frame)) is not None and address not in self._own:
            self._ask(address)

    def check_timeouts(self) -> None:
        """Ask again for what the node answered for, and forget what it does not answer for any more."""
        now = self._clock()
        while self._believed:
            self._own.setdefault(self._believed.popleft(), _NodeAddress(now - self._limits.recheck))
        gone = []
        for address, held in self._own.items():
            if now - held.asked < (self._limits.recheck if not held.unanswered else PROBE_ANSWER_SECONDS):
                continue
            if held.unanswered >= MAX_UNANSWERED_PROBES:
                gone.append(address)
                continue
            held.asked = now
            held.unanswered += 1
            self._put_question(address)
        for address in gone:
            del self._own[address]
        if gone:
            self._found(tuple(self._own))

    def _answered(self, said: Net) -> None:
        held, now = self._own.get(said), self._clock()
        if held is not None:
            if held.unanswered:  # else nobody asked
                held.unanswered = 0
            return
        when = self._asked.pop(said, None)
        if when is not None and now - when < PROBE_ANSWER_SECONDS and len(self._own) < self._limits.node_addresses:
            self._own[said] = _NodeAddress(now)
            self._found(tuple(self._own))

    def _ask(self, address: Net) -> None:
        now = self._clock()
        when = self._asked.pop(address, None)
        if when is not None and now - when < self._limits.probe_again:
            self._asked[address] = when
            return
        if now - self._second >= 1.0:
            self._second, self._in_second = now, 0
        if self._in_second >= self._limits.probes_per_second:
            return  # whoever sends so many wears out nobody but himself, and is asked for next time
        self._in_second += 1
        while len(self._asked) >= self._limits.probed_addresses:
            del self._asked[next(iter(self._asked))]
        self._asked[address] = now
        self._put_question(address)

    def _put_question(self, address: Net) -> None:
        self._send(packet_out(probe_frame(address), PROBE_XID))
