"""Probes that find out whether a node has an address: those of duplicate address detection, and the answers to them.

A node may have addresses that its Node object does not list, such as a second address on the bridge or that of a DNS
cache. The pipeline then takes its traffic for traffic that the node forwards, and policy applies to it. The node's
network stack knows better: it answers a probe with an unspecified sender for addresses of its own only, never as a
proxy (Linux, arp_process; an IPv6 proxy answers without the override flag). So Headgate probes the source address of a
packet that policy refused. A confirmed address counts as the node's for the pods on that node, which the node could
reach in any case. Confirmed addresses are probed again, and removed without an answer.

Example: the node sends a packet with source 169.254.20.10, and the switch sends it to the controller. `packet_in`
probes that address on the bridge's LOCAL port. The node's ARP reply comes as a packet-in, and NodeAnswered lists the
address.

Frames only; no socket, no thread. All state is bounded, whatever a pod sends (`OpenFlowLimits`).
Sources: RFC 5227 section 2.1.1, RFC 4862 section 5.4, RFC 4861 section 7.2; OpenFlow 1.4.1 sections 7.3.7 and 7.4.1.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from controller.openflow.messages import OPENFLOW_HEADER, OPENFLOW_VERSION
from controller.openflow.xids import Xid
from controller.peers.limits import OpenFlowLimits
from flows.cluster.net import ADDRESS_BITS, Net, host_address_error
from flows.openflow.port_numbers import CONTROLLER_32, LOCAL_32
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.registers import PROBE_MAC
from flows.render.neighbors import link_local
from flows.wire.errors import CodecError

PACKET_OUT = 13
PROBE_ANSWER_SECONDS = 1.0  # within which an answer counts
MAX_UNANSWERED_PROBES = 3  # probes in a row without an answer, after which an address is removed

_IPV4, _IPV6, _ARP = 0x0800, 0x86DD, 0x0806
_ETHERNET = struct.Struct("!6s6sH")
_ARP_BODY = struct.Struct("!HHBBH6s4s6s4s")
_IPV6_HEADER = struct.Struct("!IHBB16s16s")
_PACKET_IN = struct.Struct("!IHBBQHH")
_MATCH_HEAD = 4  # bytes of the match's type and length, which its length includes
_IN_PORT = b"\x80\x00\x00\x04"
_PACKET_OUT = struct.Struct("!BBHIIIH6x")
_OUTPUT = struct.Struct("!HHIH6x")
_ICMPV6, _SOLICIT, _ADVERTISE, _OVERRIDE = 58, 135, 136, 0x20000000
_OURS = cookie(CookieKind.PIPELINE)
_NO_BUFFER = 0xFFFFFFFF
_BROADCAST, _MAC = b"\xff" * 6, PROBE_MAC.to_bytes(6, "big")
_LINK_LOCAL = link_local(PROBE_MAC).value.to_bytes(16, "big")


class PacketIn(NamedTuple):
    """A frame from the switch, the cookie of the flow that sent it, and its ingress port (0 if not given). `match` has
    the fields of the packet's metadata, as bytes."""

    cookie: int
    in_port: int
    frame: bytes
    table: int = 0
    match: bytes = b""


def read_packet_in(message: bytes) -> PacketIn:
    """Read an OFPT_PACKET_IN, header included. Raises CodecError for a length that is not valid."""
    if len(message) < OPENFLOW_HEADER.size + _PACKET_IN.size:
        raise CodecError("a packet-in is truncated")
    _, _, _, table, cookie, _, length = _PACKET_IN.unpack_from(message, OPENFLOW_HEADER.size)
    fields = OPENFLOW_HEADER.size + _PACKET_IN.size
    frame = fields - _MATCH_HEAD + (length + 7 & ~7) + 2
    if length < _MATCH_HEAD or frame > len(message):
        raise CodecError(f"a packet-in with a match of {length} bytes")
    in_port = int.from_bytes(message[fields + 4 : fields + 8], "big") if message[fields:].startswith(_IN_PORT) else 0
    return PacketIn(cookie, in_port, message[frame:], table, message[fields : fields - _MATCH_HEAD + length])


def packet_out(frame: bytes, xid: int, port: int = LOCAL_32, in_port: int = CONTROLLER_32) -> bytes:
    """An OFPT_PACKET_OUT that sends a frame out of `port`, as if received from `in_port`."""
    length = _PACKET_OUT.size + _OUTPUT.size + len(frame)
    head = _PACKET_OUT.pack(OPENFLOW_VERSION, PACKET_OUT, length, xid, _NO_BUFFER, in_port, _OUTPUT.size)
    return head + _OUTPUT.pack(0, _OUTPUT.size, port, 0) + frame


def address_to_probe(frame: bytes) -> Net | None:
    """The source address of a frame from the node. None without one, or if no node can have it."""
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
    """The frame that asks for the owner of an address. IPv4's has an unspecified sender, which no proxy answers;
    IPv6's has a sender of its own, which alone gets the answer; a flag of the answer tells whether a proxy sent it.
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
    """The address that the node confirms as its own; None if the frame does not answer a probe."""
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
    """A confirmed address: the time of its last probe, and the probes since without an answer."""

    probed_at: float
    unanswered: int = 0


class NodeProber:
    """Probes one node. `send` queues a message; `found` is called with all confirmed addresses when they change.

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
        self._probed: dict[Net, float] = {}  # oldest first
        self._confirmed: dict[Net, _NodeAddress] = {}
        self._second, self._in_second = 0.0, 0  # the start of the present second, and the probes in it
        self._to_recheck: deque[Net] = deque(maxlen=limits.node_addresses)

    def recheck(self, addresses: Iterable[Net]) -> None:
        """Probe addresses that the node confirmed in an earlier session. May be called from any thread."""
        self._to_recheck.extend(addresses)

    def packet_in(self, message: bytes) -> None:
        """Handle a packet-in: a packet whose source is to be probed, or an answer. Raises CodecError."""
        packet = read_packet_in(message)
        if packet.in_port != LOCAL_32 or packet.cookie != _OURS:
            return  # from a foreign flow, or another port
        confirmed = confirmed_address(packet.frame)
        if confirmed is not None:
            self._confirm(confirmed)
        elif (address := address_to_probe(packet.frame)) is not None and address not in self._confirmed:
            self._probe(address)

    def check_timeouts(self) -> None:
        """Probe confirmed addresses again, and remove those without answers."""
        now = self._clock()
        while self._to_recheck:
            self._confirmed.setdefault(self._to_recheck.popleft(), _NodeAddress(now - self._limits.recheck))
        gone = []
        for address, held in self._confirmed.items():
            if now - held.probed_at < (self._limits.recheck if not held.unanswered else PROBE_ANSWER_SECONDS):
                continue
            if held.unanswered >= MAX_UNANSWERED_PROBES:
                gone.append(address)
                continue
            held.probed_at = now
            held.unanswered += 1
            self._send_probe(address)
        for address in gone:
            del self._confirmed[address]
        if gone:
            self._found(tuple(self._confirmed))

    def _confirm(self, address: Net) -> None:
        held, now = self._confirmed.get(address), self._clock()
        if held is not None:
            if held.unanswered:  # otherwise no probe is open
                held.unanswered = 0
            return
        when = self._probed.pop(address, None)
        if (
            when is not None
            and now - when < PROBE_ANSWER_SECONDS
            and len(self._confirmed) < self._limits.node_addresses
        ):
            self._confirmed[address] = _NodeAddress(now)
            self._found(tuple(self._confirmed))

    def _probe(self, address: Net) -> None:
        now = self._clock()
        when = self._probed.pop(address, None)
        if when is not None and now - when < self._limits.probe_again:
            self._probed[address] = when
            return
        if now - self._second >= 1.0:
            self._second, self._in_second = now, 0
        if self._in_second >= self._limits.probes_per_second:
            return  # too many new addresses at once; this one is probed when it is seen again
        self._in_second += 1
        while len(self._probed) >= self._limits.probed_addresses:
            del self._probed[next(iter(self._probed))]
        self._probed[address] = now
        self._send_probe(address)

    def _send_probe(self, address: Net) -> None:
        self._send(packet_out(probe_frame(address), Xid.PROBE))
