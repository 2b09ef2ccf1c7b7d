"""Asking a node for its addresses: a real Linux stack answers for its own, whatever it would forward or proxy."""

from __future__ import annotations

import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.switch.asking import AGAIN_SECONDS, MOST_ASKED, Asker, answer, concerned, probe, read_packet_in
from controller.switch.errors import CodecError
from controller.switch.messages import HEADER
from flows.fields import LOCAL_32
from flows.net import Net, parse_address
from topology import netns

OURS = ("192.0.2.1", "192.0.2.77", "169.254.20.10", "2001:db8:7::1", "2001:db8:7::2")
OTHERS = ("198.51.100.9", "192.0.2.78", "2001:db8:7::3", "2001:db8:8::1")


def packet_in(frame: bytes, in_port: int) -> bytes:
    match = struct.pack("!HHI", 1, 12, 0x80000004) + struct.pack("!I4x", in_port)
    body = struct.pack("!IHBBQ", 0xFFFFFFFF, len(frame), 1, 0, 0) + match + b"\0\0" + frame
    return HEADER.pack(5, 10, HEADER.size + len(body), 0) + body


def ip_frame(source: str, destination: str) -> bytes:
    one, other = parse_address(source), parse_address(destination)
    if one.version == 4:
        return bytes(12) + b"\x08\x00" + bytes(12) + one.value.to_bytes(4, "big") + other.value.to_bytes(4, "big")
    return bytes(12) + b"\x86\xdd" + bytes(8) + one.value.to_bytes(16, "big") + other.value.to_bytes(16, "big")


@pytest.fixture(scope="module")
def wire() -> Iterator[socket.socket]:
    """A raw socket on the other end of a node's interface. The node forwards and is a proxy for all that it can be."""
    with tempfile.TemporaryDirectory(prefix="hg-ask-") as folder:
        place = Path(folder) / "node"
        netns.create(place)

        def run(*command: str) -> None:
            subprocess.run(command, check=True)

        try:
            with netns.inside(place):
                run("ip", "link", "add", "br0", "type", "veth", "peer", "name", "wire")
                run("ip", "link", "add", "far", "type", "veth", "peer", "name", "away")
                for name in ("br0", "wire", "far", "away"):
                    run("ip", "link", "set", name, "up")
                run("ip", "addr", "add", "192.0.2.1/24", "dev", "br0")
                run("ip", "addr", "add", "192.0.2.77/24", "dev", "br0")
                run("ip", "addr", "add", "169.254.20.10/32", "dev", "far")
                run("ip", "route", "add", "198.51.100.0/24", "dev", "far")
                run("ip", "addr", "add", "2001:db8:7::1/64", "dev", "br0", "nodad")
                run("ip", "addr", "add", "2001:db8:7::2/64", "dev", "br0", "nodad")
                run("ip", "-6", "route", "add", "2001:db8:8::/64", "dev", "far")
                for path in ("ipv4/ip_forward", "ipv4/conf/br0/proxy_arp", "ipv6/conf/all/forwarding",
                             "ipv6/conf/br0/proxy_ndp", "ipv6/conf/all/proxy_ndp"):  # fmt: skip
                    Path("/proc/sys/net", path).write_text("1")
                run("ip", "-6", "neigh", "add", "proxy", "2001:db8:8::1", "dev", "br0")
                raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
                raw.bind(("wire", 0))
            raw.settimeout(1.5)
            yield raw
            raw.close()
        finally:
            netns.remove(place)


@pytest.mark.lab
@pytest.mark.parametrize("text", [*OURS, *OTHERS])
def test_a_node_answers_for_its_own_addresses_alone(wire: socket.socket, text: str) -> None:
    address = parse_address(text)
    wire.send(probe(address))
    said = None
    try:
        while (said := answer(wire.recv(2048))) != address:
            pass
    except TimeoutError:
        said = None
    assert (said == address) == (text in OURS)


def test_the_address_asked_for_is_the_one_that_is_not_the_pods() -> None:
    for source, destination in (("192.0.2.1", "10.1.1.1"), ("2001:db8::1", "2001:db8::2")):
        frame = ip_frame(source, destination)
        assert concerned(read_packet_in(packet_in(frame, LOCAL_32))) == parse_address(source)
        assert concerned(read_packet_in(packet_in(frame, 5))) == parse_address(destination)


def asker(now: list[float]) -> tuple[Asker, list[bytes], list[Net]]:
    sent: list[bytes] = []
    found: list[Net] = []
    return Asker(sent.append, found.append, lambda: now[0]), sent, found


def arp_answer(text: str) -> bytes:
    sender = parse_address(text).value.to_bytes(4, "big")
    asker_mac = bytes.fromhex("024847000001")
    body = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 2, b"\x02" * 6, sender, asker_mac, bytes(4))
    return asker_mac + b"\x02" * 6 + b"\x08\x06" + body


def test_only_what_was_asked_for_is_believed_and_only_for_a_while() -> None:
    now = [0.0]
    one, sent, found = asker(now)
    one.take(packet_in(arp_answer("192.0.2.9"), LOCAL_32))
    assert found == []
    one.take(packet_in(ip_frame("192.0.2.9", "10.1.1.1"), LOCAL_32))
    assert len(sent) == 1
    one.take(packet_in(arp_answer("192.0.2.9"), 7))  # not the node
    assert found == []
    one.take(packet_in(arp_answer("192.0.2.9"), LOCAL_32))
    assert found == [parse_address("192.0.2.9")]
    now[0] = 2.0
    one.take(packet_in(arp_answer("192.0.2.9"), LOCAL_32))
    assert len(found) == 1


def test_questions_are_bounded_whatever_a_pod_sends() -> None:
    now = [0.0]
    one, sent, _ = asker(now)
    for number in range(3 * MOST_ASKED):
        one.take(packet_in(ip_frame("10.1.1.1", f"203.{number >> 8}.{number & 255}.1"), 5))
    assert len(one._asked) == MOST_ASKED
    before = len(sent)
    for _ in range(100):
        one.take(packet_in(ip_frame("10.1.1.1", "203.2.255.1"), 5))
    assert len(sent) == before
    now[0] = AGAIN_SECONDS
    one.take(packet_in(ip_frame("10.1.1.1", "203.2.255.1"), 5))
    assert len(sent) == before + 1


@given(st.binary(max_size=120), st.integers(0, 0xFFFFFFFF))
def test_any_bytes_are_taken_or_refused(data: bytes, port: int) -> None:
    one, _, found = asker([0.0])
    one.take(packet_in(data, port))
    for message in (HEADER.pack(5, 10, 8, 0) + data, packet_in(data, port)[: 10 + len(data)]):
        try:
            one.take(message)
        except CodecError:
            continue
    assert found == []
