"""Copies of live probes: only those of the frame that was sent, with the mark, from the session that was asked."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.openflow.live_copies import MAX_KEPT, Copy, LiveCopies, into_tables, out_of_port
from controller.openflow.messages import OPENFLOW_HEADER
from flows.cluster.net import parse_address
from flows.interpret.frame_encoder import encode
from flows.interpret.packet import SYN, transport
from flows.openflow import match_fields as oxm
from flows.openflow.actions import Action, Load, Output, Resubmit, SetField
from flows.pipeline import tables
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.registers import PROBED
from flows.wire.actions import decode_actions
from flows.wire.errors import CodecError

FRAME = bytes(range(60))
OURS = cookie(CookieKind.PIPELINE)
MARK = {7: 1 << PROBED.start}


def packet_in(
    registers: dict[int, int], frame: bytes = FRAME, table: int = tables.OUTPUT.number, ours: int = OURS
) -> bytes:
    fields = b"".join(struct.pack("!HBBI", 1, number << 1, 4, value) for number, value in registers.items())
    match = struct.pack("!HH", 1, len(fields) + 4) + fields
    match += bytes(-len(match) & 7)
    body = struct.pack("!IHBBQ", 0xFFFFFFFF, len(frame), 1, table, ours) + match + b"\0\0" + frame
    return OPENFLOW_HEADER.pack(5, 10, OPENFLOW_HEADER.size + len(body), 0) + body


def actions_of(message: bytes) -> tuple[Action, ...]:
    length = struct.unpack_from("!H", message, 16)[0]
    assert message.endswith(FRAME) and len(message) == struct.unpack_from("!H", message, 2)[0]
    return decode_actions(message[24 : 24 + length])


def test_the_packet_passes_the_tables_with_the_mark() -> None:
    load, look_up = Load(PROBED, 1), Resubmit(tables.CLASSIFY.number)
    marked, resubmitted = actions_of(into_tables(FRAME, 3, None))
    assert isinstance(marked, Load) and resubmitted == look_up
    assert (marked.place.register, marked.place.start, marked.value) == (PROBED.register, PROBED.start, load.value)
    source, target = parse_address("192.0.2.1"), parse_address("2001:db8::2")
    there = actions_of(into_tables(FRAME, 3, (source, target)))
    assert {SetField(oxm.TUN_SRC, source.value), SetField(oxm.TUN_IPV6_DST, target.value)} <= set(there)
    assert actions_of(out_of_port(FRAME, 5, 3)) == (Output(5),)


@pytest.mark.parametrize("family", [4, 6])
def test_what_fills_a_short_frame_up_may_be_missing_in_a_copy(family: int) -> None:
    """As on the kernel's datapath."""
    ends = [parse_address(text) for text in (("10.0.0.1", "10.0.0.2") if family == 4 else ("fd00::1", "fd00::2"))]
    frame = encode(transport(ends[0], ends[1], oxm.IP_PROTO_TCP, 61_234, 80, SYN))
    length = 14 + {4: 40, 6: 60}[family]
    live = LiveCopies()
    live.expect(1, 1, frame.ljust(length + 6, b"\0"))
    assert live.packet_in(1, 1, packet_in(MARK, frame=frame[:length]))
    assert not live.packet_in(1, 1, packet_in(MARK, frame=frame[: length - 1]))


def test_what_counts_as_a_copy() -> None:
    live = LiveCopies()
    assert not live.packet_in(1, 1, packet_in(MARK))  # nothing is awaited
    live.expect(1, 1, FRAME)
    others = (
        packet_in({}), packet_in({7: 1}), packet_in(MARK, ours=7), packet_in(MARK, frame=FRAME[:-1] + b"x"),
    )  # fmt: skip
    assert not any(live.packet_in(1, 1, one) for one in others)
    assert not live.packet_in(2, 1, packet_in(MARK)) and not live.packet_in(1, 2, packet_in(MARK))
    assert live.received() == ([], "")
    assert live.packet_in(1, 1, packet_in({**MARK, 5: 9, 32: 0x0A000001}, table=65))
    assert live.received() == ([Copy(65, 9, parse_address("10.0.0.1"))], "")
    for _ in range(3 * MAX_KEPT):
        live.packet_in(1, 1, packet_in(MARK))
    assert len(live.received()[0]) == MAX_KEPT
    live.refused(1, 2, "no")
    live.refused(1, 1, "bad")
    assert live.received()[1] == "bad"
    live.forget()
    assert not live.packet_in(1, 1, packet_in(MARK))


@given(st.binary(max_size=200))
def test_any_bytes_are_no_copy(body: bytes) -> None:
    live = LiveCopies()
    live.expect(1, 1, FRAME)
    try:
        assert not live.packet_in(1, 1, OPENFLOW_HEADER.pack(5, 10, 8 + len(body), 0) + body)
    except CodecError:
        assert live.received() == ([], "")


def test_a_truncated_field_is_an_error() -> None:
    live = LiveCopies()
    live.expect(1, 1, FRAME)
    match = struct.pack("!HHHBB", 1, 8, 1, 7 << 1, 4)
    body = struct.pack("!IHBBQ", 0, len(FRAME), 1, 80, OURS) + match + b"\0\0" + FRAME
    with pytest.raises(CodecError):
        live.packet_in(1, 1, OPENFLOW_HEADER.pack(5, 10, 8 + len(body), 0) + body)
