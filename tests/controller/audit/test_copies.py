"""Packet-ins of audited packets: what the switch sends along is read, and nothing that it might send does harm."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.openflow.audit_copies import is_audit_copy, read_audit_copy
from controller.runtime.audit_events import invalid_reason
from flows.cluster.net import parse_address
from flows.explain.audited_packet import AuditedPacket
from flows.interpret.frame_encoder import encode
from flows.interpret.packet import Packet
from flows.openflow import match_fields as oxm
from flows.openflow.match_fields import TcpFlags
from flows.pipeline.registers import AUDITED, DESTINATION_OFPORT, INITIATOR_OFPORT, SOURCE_OFPORT, Audited
from flows.render.audit import AUDIT_COOKIE
from flows.wire.errors import CodecError
from flows.wire.matches import oxm_number


def message(fields: bytes, frame: bytes, cookie: int = AUDIT_COOKIE) -> bytes:
    """An OFPT_PACKET_IN (OpenFlow 1.4.1 section 7.4.1)."""
    length = 4 + len(fields)
    match = struct.pack("!HH", 1, length) + fields + bytes(-length % 8)
    body = struct.pack("!IHBBQ", 0xFFFFFFFF, len(frame), 1, 96, cookie) + match + bytes(2) + frame
    return struct.pack("!BBHI", 5, 10, 8 + len(body), 0) + body


def field(one: oxm.Field, value: int) -> bytes:
    number = oxm_number(one)
    return number.to_bytes(4, "big") + value.to_bytes(number & 0xFF, "big")


REASON = field(AUDITED.register, Audited.DENIED_INGRESS << AUDITED.start)
TCP = Packet(
    eth_src=1, eth_dst=2, eth_type=oxm.ETH_IPV4, source=0x0A000001, target=0x0A000002, proto=oxm.IP_PROTO_TCP,
    sport=40000, dport=80, flags=TcpFlags.SYN,
)  # fmt: skip


def test_ends_reason_and_frame_are_read() -> None:
    ports = [field(one.register, value) for one, value in ((SOURCE_OFPORT, 3), (DESTINATION_OFPORT, 4))]
    fields = field(oxm.IN_PORT, 3) + b"".join(ports) + field(INITIATOR_OFPORT.register, 3) + REASON
    found = read_audit_copy(message(fields, encode(TCP)[:128]))
    assert found == AuditedPacket(
        Audited.DENIED_INGRESS, 3, 3, 4, 3, 0, parse_address("10.0.0.1"), parse_address("10.0.0.2"),
        oxm.IP_PROTO_TCP, 40000, 80, TcpFlags.SYN, oxm.ETH_IPV4,
    )  # fmt: skip


def test_of_an_answer_the_tuple_counts_that_opened_its_connection() -> None:
    values = (
        (oxm.CT_STATE, oxm.CtState.TRK | oxm.CtState.RPL), (oxm.CT_NW_PROTO, oxm.IP_PROTO_TCP),
        (oxm.CT_NW_SRC, 0x0A000002), (oxm.CT_NW_DST, 0x0A000001), (oxm.CT_TP_SRC, 80), (oxm.CT_TP_DST, 40000),
    )  # fmt: skip
    fields = REASON + b"".join(field(one, value) for one, value in values)
    found = read_audit_copy(message(fields, encode(TCP)))
    assert (found.source, found.sport, found.dport) == (parse_address("10.0.0.2"), 80, 40000)


def test_the_state_of_the_connection_is_read_as_a_switch_sends_it() -> None:
    """Captured of Open vSwitch 3.1: a SYN ACK of port 80, whose ct_state has a mask."""
    sent = {
        0x80000004: 3, 0x80000A02: 0x800, 0x00010804: Audited.WOULD_DENY_INGRESS << AUDITED.start, 0x0001D402: 0x4847,
        0x0001D308: 0x2A000000FF, 0x0001D604: 1, 0x0001F004: 0x0A0A0201, 0x0001F204: 0x0A0A0102, 0x0001EE01: 6,
        0x0001F802: 55843, 0x0001FA02: 80,
    }  # fmt: skip
    fields = b"".join(head.to_bytes(4, "big") + value.to_bytes(head & 0xFF, "big") for head, value in sent.items())
    flags = TcpFlags.SYN | TcpFlags.ACK
    answer = replace(TCP, source=0x0A0A0102, target=0x0A0A0201, sport=80, dport=55843, flags=flags)
    found = read_audit_copy(message(fields, encode(answer)))
    assert (str(found.source), found.sport, found.dport) == ("10.10.2.1", 55843, 80)


def test_the_cookie_alone_says_what_a_packet_in_is() -> None:
    assert is_audit_copy(message(REASON, b""))
    assert not is_audit_copy(message(REASON, b"", cookie=1))
    assert not is_audit_copy(b"")


@given(fields=st.binary(max_size=80), frame=st.binary(max_size=150), reason=st.sampled_from((b"", REASON)))
def test_nothing_that_a_switch_sends_does_harm(fields: bytes, frame: bytes, reason: bytes) -> None:
    try:
        found = read_audit_copy(message(reason + fields, frame))
    except CodecError:
        return
    assert found.reason in Audited


@given(frame=st.binary(max_size=80), kind=st.sampled_from((0x0800, 0x86DD, 0x8100)))
def test_no_frame_does_harm(frame: bytes, kind: int) -> None:
    found = read_audit_copy(message(REASON, bytes(12) + kind.to_bytes(2, "big") + frame))
    assert found.source is None or found.protocol in range(256)


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (TcpFlags.SYN, "checksum"),
        (TcpFlags.SYN | TcpFlags.ACK, "mid-stream"),
        (TcpFlags.RST, "mid-stream"),
        (TcpFlags.ACK, "sequence"),
    ],
)
def test_invalid_packets_have_a_likely_reason(flags: TcpFlags, word: str) -> None:
    one = AuditedPacket(Audited.INVALID, 1, protocol=oxm.IP_PROTO_TCP, tcp_flags=int(flags))
    assert invalid_reason(one).startswith(word)
    assert invalid_reason(one._replace(reason=Audited.BROKEN)).startswith("checksum")
    assert invalid_reason(one._replace(protocol=oxm.IP_PROTO_UDP)).startswith("checksum")
    assert invalid_reason(one._replace(protocol=oxm.IP_PROTO_ICMP, tcp_flags=None)).startswith("mid-stream")
