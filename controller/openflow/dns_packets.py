"""Packets of DNS between switch and reconciler: packet-ins of the flows in table `answers`, and their release.

What they mean is decided in `controller.reconcile.held_answers`. Frames only; no socket, no thread.
Source: OpenFlow 1.4.1 sections 7.2.3 (match), 7.3.7 (packet-out) and 7.4.1 (packet-in); ovs-fields(7).
"""

from __future__ import annotations

import struct

from controller.openflow.messages import OPENFLOW_HEADER, OPENFLOW_VERSION, MessageType
from controller.openflow.xids import Xid
from controller.reconcile.events import DnsPacket
from flows.cluster.net import ADDRESS_BITS, Net
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Load, Resubmit, SetField
from flows.pipeline.cookies import CookieKind, cookie, read_cookie
from flows.pipeline.registers import RELEASED
from flows.pipeline.tables import CLASSIFY, LISTENING
from flows.render.answers import LISTENING_SECONDS, listening_flow
from flows.wire.actions import encode_actions
from flows.wire.codec import encode_body, encode_key
from flows.wire.errors import CodecError
from flows.wire.matches import oxm_number
from flows.wire.values import KEY_PREFIX

PACKET_OUT = 13
_PACKET_IN = struct.Struct("!IHBBQHH")
_PACKET_OUT = struct.Struct("!BBHIIIH6x")
_FIELD = struct.Struct("!I")
_FLOW_MOD = struct.Struct("!BBHIQQBBHHHIIIHH")
_NO_BUFFER = _ANY = 0xFFFFFFFF
_LONGEST = 0xFFFF
_OURS = cookie(CookieKind.DNS) >> 40
_IN_PORT = oxm_number(oxm.IN_PORT)
_TUNNEL_FIELDS = ({4: oxm.TUN_SRC, 6: oxm.TUN_IPV6_SRC}, {4: oxm.TUN_DST, 6: oxm.TUN_IPV6_DST})
# Which end a field names, and its family.
_TUNNELS = {
    oxm_number(field): (end, version) for end, fields in enumerate(_TUNNEL_FIELDS) for version, field in fields.items()
}
_READ = frozenset({_IN_PORT, *_TUNNELS})
_AGAIN: tuple[Action, ...] = (Load(RELEASED, 1), Resubmit(CLASSIFY.number))


def is_dns_packet(message: bytes) -> bool:
    """Whether a packet-in is of a flow that hands over DNS."""
    if len(message) < OPENFLOW_HEADER.size + _PACKET_IN.size:
        return False
    return int(_PACKET_IN.unpack_from(message, OPENFLOW_HEADER.size)[4]) >> 40 == _OURS


def read_dns_packet(message: bytes, dpid: int, session: int) -> DnsPacket:
    """The packet in such a packet-in. Raises CodecError for a length that is not valid, or where fields are missing."""
    _, _, _, _, flow, _, length = _PACKET_IN.unpack_from(message, OPENFLOW_HEADER.size)
    start = OPENFLOW_HEADER.size + _PACKET_IN.size
    end = start - 4 + length
    frame = start - 4 + (length + 7 & ~7) + 2
    if length < 4 or frame > len(message):
        raise CodecError(f"a packet-in with a match of {length} bytes")
    known = read_cookie(flow)
    if known is None:
        raise CodecError("a packet-in of a foreign flow")
    in_port, ends = 0, dict[int, Net]()
    while start + _FIELD.size <= end:
        (header,) = _FIELD.unpack_from(message, start)
        start += _FIELD.size
        size = header & 0xFF
        if header in _READ:  # of some twenty
            value = int.from_bytes(message[start : start + size], "big")
            if header == _IN_PORT:
                in_port = value
            else:
                end_of_tunnel, version = _TUNNELS[header]
                ends[end_of_tunnel] = Net(version, value, ADDRESS_BITS[version])
        start += size
    if not in_port:
        raise CodecError("a packet-in without its port")
    tunnel = (ends[0], ends[1]) if len(ends) == len(_TUNNEL_FIELDS) else None
    return DnsPacket(dpid, session, known[1], in_port, message[frame:], tunnel)


def release_message(packet: DnsPacket) -> bytes:
    """The packet-out that sends a held packet through the pipeline again. No bytes for one that is too long."""
    actions = _AGAIN
    if packet.tunnel is not None:
        pairs = zip(_TUNNEL_FIELDS, packet.tunnel, strict=True)
        actions = (*(SetField(fields[end.version], end.value) for fields, end in pairs), *actions)
    body = encode_actions(actions)
    length = _PACKET_OUT.size + len(body) + len(packet.frame)
    if length > _LONGEST:
        return b""
    head = _PACKET_OUT.pack(OPENFLOW_VERSION, PACKET_OUT, length, Xid.DNS, _NO_BUFFER, packet.in_port, len(body))
    return head + body + packet.frame


def listening_message() -> bytes:
    """The flow-mod that makes, or renews, the flow by which a switch hands over packets."""
    flow = listening_flow()
    match = encode_key(flow.table, flow.priority, flow.match)[KEY_PREFIX.size :]
    body = encode_body(flow.cookie, flow.actions, flow.goto)
    length = _FLOW_MOD.size + len(match) + len(body.instructions)
    head = _FLOW_MOD.pack(
        OPENFLOW_VERSION, MessageType.FLOW_MOD, length, Xid.DNS, body.cookie, 0, LISTENING.number, 0, 0,
        LISTENING_SECONDS, flow.priority, _NO_BUFFER, _ANY, _ANY, 0, 0,
    )  # fmt: skip
    return head + match + body.instructions
