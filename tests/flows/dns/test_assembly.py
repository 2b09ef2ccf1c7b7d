"""Packets around DNS: frames of scapy are read, fragments are refused, segments put together."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
from scapy.layers.l2 import Ether

from flows.cluster.model import Protocol
from flows.cluster.net import parse_address
from flows.dns.assembly import Stream, opened_stream
from flows.dns.packet import SYN, Datagram, PacketError, read_packet

ENDS = {4: ("10.0.0.53", "10.0.0.7"), 6: ("fd00::53", "fd00::7")}


def udp(version: int, data: bytes) -> Any:
    source, target = ENDS[version]
    network = IP(src=source, dst=target) if version == 4 else IPv6(src=source, dst=target)
    return network / UDP(sport=53, dport=40000) / data


@pytest.mark.parametrize("version", [4, 6])
def test_a_datagram_is_read(version: int) -> None:
    source, target = map(parse_address, ENDS[version])
    found = read_packet(bytes(Ether() / udp(version, b"data")) + b"padding")
    assert found == Datagram(Protocol.UDP, source, 53, target, 40000, b"data")
    segment = Ether() / IP(src=ENDS[4][0], dst=ENDS[4][1]) / TCP(sport=53, dport=4, seq=7, flags="SA") / b""
    assert read_packet(bytes(segment)) == Datagram(
        Protocol.TCP, parse_address(ENDS[4][0]), 53, parse_address(ENDS[4][1]), 4, b"", 7, 0x12
    )


@pytest.mark.parametrize("version", [4, 6])
def test_fragments_are_refused(version: int) -> None:
    data = bytes(range(256)) * 16
    if version == 4:
        parts = fragment(udp(4, data), 1400)  # type: ignore[no-untyped-call]
    else:
        source, target = ENDS[6]
        header = IPv6(src=source, dst=target) / IPv6ExtHdrFragment()
        parts = fragment6(header / UDP(sport=53, dport=40000) / data, 1400)  # type: ignore[no-untyped-call]
    for part in parts:
        with pytest.raises(PacketError):
            read_packet(bytes(Ether() / part))


@settings(max_examples=200, deadline=None)
@given(frame=st.binary(max_size=200), kind=st.sampled_from((b"\x08\x00", b"\x86\xdd", b"\x08\x06")))
def test_any_frame_is_read_or_refused(frame: bytes, kind: bytes) -> None:
    for one in (frame, bytes(12) + kind + frame, bytes(12) + b"\x08\x00\x45\x00" + frame):
        try:
            assert read_packet(one) is not None
        except PacketError:
            continue


@settings(max_examples=200, deadline=None)
@given(
    messages=st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5),
    cuts=st.lists(st.integers(1, 400), max_size=8),
    begin=st.integers(0, 0xFFFFFFFF),
    again=st.randoms(use_true_random=False),
)
def test_a_stream_gives_every_message_once(messages: list[bytes], cuts: list[int], begin: int, again: Any) -> None:
    sent = b"".join(len(one).to_bytes(2, "big") + one for one in messages)
    source, target = map(parse_address, ENDS[4])

    def segment(place: int, data: bytes, flags: int = 0) -> Datagram:
        return Datagram(Protocol.TCP, source, 53, target, 40000, data, (begin + place) % (1 << 32), flags)

    stream = opened_stream(segment(-1, b"", SYN))
    assert isinstance(stream, Stream)
    found: list[bytes] = []
    place = 0
    for size in [*cuts, len(sent)]:
        data = sent[place : place + size]
        if not data:
            break
        assert stream.add(segment(place + len(data) + 1, b"later")) is None
        found += stream.add(segment(place, data)) or []
        overlap = again.randrange(place + 1)
        with pytest.raises(PacketError):
            stream.add(segment(overlap, sent[overlap : place + len(data)]))
        place += len(data)
    assert found == messages
