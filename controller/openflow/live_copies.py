"""Packets that `headgate explain --live` sends into a switch's tables, and the copies that come back. Bytes only.

One packet is awaited at a time, in the whole process. A copy counts when it comes from the session that it was sent to,
from a flow of `flows.render.live_probes`, with the frame that was sent: nothing that a pod or another switch sends is
taken for one.
"""

from __future__ import annotations

import struct
import threading
from typing import NamedTuple

from controller.openflow.messages import OPENFLOW_VERSION
from controller.openflow.node_probes import PACKET_OUT, PacketIn, read_packet_in
from controller.openflow.xids import Xid
from flows.cluster.net import ADDRESS_BITS, Net
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Load, Output, Resubmit, SetField
from flows.pipeline import tables
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.registers import COPIED_BYTES, OUTPUT_OFPORT, PROBED
from flows.wire.actions import encode_actions
from flows.wire.errors import CodecError

_PACKET_OUT = struct.Struct("!BBHIIIH6x")
_NO_BUFFER = 0xFFFFFFFF
_OURS = cookie(CookieKind.PIPELINE)
_OXM = struct.Struct("!HBB")
_NICIRA = PROBED.register.oxm_class  # the class of registers, and of tunnels' ends
_ETHERNET = 14  # bytes before the packet that is compared
# Of each family: its Ethernet type, where the length is in the packet, and what is not counted in it.
_LENGTHS = ((b"\x08\x00", 2, 0), (b"\x86\xdd", 4, 40))
_TUNNEL_ENDS = {oxm.TUN_DST: 4, oxm.TUN_IPV6_DST: 6}
MAX_KEPT = 8  # copies of one packet: a second is a surprise already


class Copy(NamedTuple):
    """A copy: the number of the table that the packet had come to, and there the port that it would go to (16 bits, 0
    for none) and the end of the tunnel."""

    table: int
    port: int
    tunnel_to: Net | None


def into_tables(frame: bytes, in_port: int, tunnel: tuple[Net, Net] | None) -> bytes:
    """The packet-out that has a frame pass the tables as if it had come from `in_port`, through a tunnel from one end
    to the other."""
    actions: list[Action] = []
    if tunnel is not None:
        source, target = tunnel
        actions.append(SetField(oxm.TUN_SRC if source.version == 4 else oxm.TUN_IPV6_SRC, source.value))
        actions.append(SetField(oxm.TUN_DST if target.version == 4 else oxm.TUN_IPV6_DST, target.value))
    return _message(frame, in_port, (*actions, Load(PROBED, 1), Resubmit(tables.CLASSIFY.number)))


def out_of_port(frame: bytes, port: int, in_port: int) -> bytes:
    """The packet-out that sends a frame to a port: no table has a say."""
    return _message(frame, in_port, (Output(port),))


def _message(frame: bytes, in_port: int, actions: tuple[Action, ...]) -> bytes:
    encoded = encode_actions(actions)
    length = _PACKET_OUT.size + len(encoded) + len(frame)
    head = _PACKET_OUT.pack(OPENFLOW_VERSION, PACKET_OUT, length, Xid.LIVE, _NO_BUFFER, in_port, len(encoded))
    return head + encoded + frame


class LiveCopies:
    """What is awaited now. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._awaited: tuple[int, int, bytes] | None = None
        self._copies: list[Copy] = []
        self._error = ""

    def expect(self, dpid: int, session: int, frame: bytes) -> None:
        """From now on await copies of this frame, from this session of a switch, and of no other."""
        with self._lock:
            self._awaited = dpid, session, _compared(frame)
            self._copies = []
            self._error = ""

    def forget(self) -> None:
        """Await nothing."""
        with self._lock:
            self._awaited = None

    def received(self) -> tuple[list[Copy], str]:
        """The copies so far, and why the switch refused to take the packet, else ''."""
        with self._lock:
            return list(self._copies), self._error

    def packet_in(self, dpid: int, session: int, message: bytes) -> bool:
        """A packet-in of a session. Returns whether it is a copy that is awaited. Raises CodecError."""
        if self._awaited is None:
            return False
        packet = read_packet_in(message)
        if packet.cookie != _OURS or not _fields(packet).get(PROBED.register.number, 0) >> PROBED.start & 1:
            return False
        with self._lock:
            mine = self._awaited == (dpid, session, _compared(packet.frame))
            if mine and len(self._copies) < MAX_KEPT:
                self._copies.append(_copy(packet))
        return mine

    def refused(self, dpid: int, session: int, reason: str) -> None:
        """The switch answered the packet-out with an error."""
        with self._lock:
            if self._awaited is not None and self._awaited[:2] == (dpid, session):
                self._error = reason


def _compared(frame: bytes) -> bytes:
    """What must be equal in a copy: the IP packet, as far as it is copied. The kernel's conntrack cuts off what fills a
    short frame up (`ovs_skb_network_trim`)."""
    length = len(frame) - _ETHERNET
    for ether, offset, header in _LENGTHS:
        if frame[12:_ETHERNET] == ether and len(frame) >= _ETHERNET + offset + 2:
            length = header + int.from_bytes(frame[_ETHERNET + offset : _ETHERNET + offset + 2], "big")
    return frame[_ETHERNET : min(_ETHERNET + length, COPIED_BYTES)]


def _fields(packet: PacketIn) -> dict[int, int]:
    """The Nicira fields of a packet-in's match, registers among them, by their numbers."""
    found: dict[int, int] = {}
    data, offset = packet.match, 0
    while offset + _OXM.size <= len(data):
        kind, number, size = _OXM.unpack_from(data, offset)
        offset += _OXM.size
        if offset + size > len(data):
            raise CodecError("a field of a packet-in is truncated")
        if kind == _NICIRA and not number & 1:  # a value without a mask
            found[number >> 1] = int.from_bytes(data[offset : offset + size], "big")
        offset += size
    return found


def _copy(packet: PacketIn) -> Copy:
    found = _fields(packet)
    port = found.get(OUTPUT_OFPORT.register.number, 0) & 0xFFFF
    ends = [
        Net(version, value, ADDRESS_BITS[version])
        for field, version in _TUNNEL_ENDS.items()
        if (value := found.get(field.number, 0))
    ]
    return Copy(packet.table, port, ends[0] if ends else None)
