"""Asking a node for its addresses: a real Linux stack answers for its own, whatever it forwards or is a proxy for."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.openflow.messages import OPENFLOW_HEADER
from controller.openflow.node_probes import (
    MAX_UNANSWERED_PROBES,
    NodeProber,
    address_to_probe,
    confirmed_address,
    probe_frame,
)
from controller.peers.limits import OpenFlowLimits
from flows.cluster.net import parse_address
from flows.openflow.port_numbers import LOCAL_32
from flows.pipeline.cookies import CookieKind, cookie
from flows.wire.errors import CodecError
from topology.host import netns

LIMITS = OpenFlowLimits()
OURS = ("192.0.2.1", "192.0.2.77", "169.254.20.10", "2001:db8:7::1", "2001:db8:7::2")
OTHERS = ("198.51.100.9", "192.0.2.78", "2001:db8:7::3", "2001:db8:8::1")


def packet_in(frame: bytes, in_port: int, ours: int = cookie(CookieKind.PIPELINE)) -> bytes:
    match = struct.pack("!HHI", 1, 12, 0x80000004) + struct.pack("!I4x", in_port)
    body = struct.pack("!IHBBQ", 0xFFFFFFFF, len(frame), 1, 0, ours) + match + b"\0\0" + frame
    return OPENFLOW_HEADER.pack(5, 10, OPENFLOW_HEADER.size + len(body), 0) + body


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
    wire.send(probe_frame(address))
    said = None
    try:
        while (said := confirmed_address(wire.recv(2048))) != address:
            pass
    except TimeoutError:
        said = None
    assert (said == address) == (text in OURS)


def test_the_address_asked_for_is_the_source() -> None:
    for source, destination in (("192.0.2.1", "10.1.1.1"), ("2001:db8::1", "2001:db8::2")):
        assert address_to_probe(ip_frame(source, destination)) == parse_address(source)
    for source, destination in (("127.0.0.1", "10.1.1.1"), ("0.0.0.0", "10.1.1.1"), ("::", "::1"), ("ff02::1", "::1")):
        assert address_to_probe(ip_frame(source, destination)) is None
    assert address_to_probe(b"") is None
    assert address_to_probe(ip_frame("192.0.2.1", "10.1.1.1")[:28]) is None


class Node:
    """A node that answers for some addresses, and the prober that probes it."""

    def __init__(self, *own: str) -> None:
        self.now = 0.0
        self.own = set(own)
        self.sent = 0
        self.found: list[set[str]] = []
        self.prober = NodeProber(
            self._asked, lambda found: self.found.append(set(map(str, found))), lambda: self.now, LIMITS
        )

    def _asked(self, message: bytes) -> None:
        self.sent += 1
        target = parse_address(socket.inet_ntop(socket.AF_INET, message[-4:]))
        if str(target) in self.own:
            self.prober.packet_in(packet_in(arp_answer(str(target)), LOCAL_32))

    def sends(self, source: str, in_port: int = LOCAL_32) -> None:
        self.prober.packet_in(packet_in(ip_frame(source, "10.1.1.1"), in_port))

    def passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1.0
            self.prober.check_timeouts()


def arp_answer(text: str) -> bytes:
    sender = parse_address(text).value.to_bytes(4, "big")
    asker_mac = bytes.fromhex("024847000001")
    body = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 2, b"\x02" * 6, sender, asker_mac, bytes(4))
    return asker_mac + b"\x02" * 6 + b"\x08\x06" + body


def test_only_what_was_asked_for_is_believed_and_only_for_a_while() -> None:
    node = Node()
    node.prober.packet_in(packet_in(arp_answer("192.0.2.9"), LOCAL_32))
    assert node.found == []
    node.sends("192.0.2.9", in_port=7)
    node.prober.packet_in(packet_in(ip_frame("192.0.2.9", "10.1.1.1"), LOCAL_32, 0))
    assert node.sent == 0, "only the node's packets are asked about, and only those that flows of ours copy"
    node.sends("192.0.2.9")
    assert node.sent == 1
    node.prober.packet_in(packet_in(arp_answer("192.0.2.9"), 7))
    node.prober.packet_in(packet_in(arp_answer("192.0.2.8"), LOCAL_32))
    node.now = 2.0
    node.prober.packet_in(packet_in(arp_answer("192.0.2.9"), LOCAL_32))
    assert node.found == []


def test_what_the_node_answers_for_is_its_own_until_it_does_not_any_more() -> None:
    node = Node("192.0.2.9", "192.0.2.10")
    for source in ("192.0.2.9", "192.0.2.9", "192.0.2.10", "198.51.100.1"):
        node.sends(source)
    assert node.found == [{"192.0.2.9"}, {"192.0.2.9", "192.0.2.10"}]
    node.passes(int(10 * LIMITS.recheck))
    assert len(node.found) == 2
    node.own.discard("192.0.2.9")
    node.passes(int(LIMITS.recheck) + MAX_UNANSWERED_PROBES + 1)
    assert node.found[2:] == [{"192.0.2.10"}]


def test_what_was_believed_is_asked_for_at_once() -> None:
    node = Node("192.0.2.9")
    node.prober.recheck([parse_address("192.0.2.9"), parse_address("192.0.2.10")])
    node.passes(1)
    assert node.sent == 2
    node.passes(MAX_UNANSWERED_PROBES + 1)
    assert node.found == [{"192.0.2.9"}]


def test_there_is_an_end_to_a_nodes_addresses() -> None:
    own = [f"192.0.2.{n}" for n in range(1, 100)]
    node = Node(*own)
    for address in own:
        node.passes(1)
        node.sends(address)
    assert max(map(len, node.found)) == LIMITS.node_addresses


def test_questions_are_bounded_whatever_comes() -> None:
    node = Node()
    for number in range(10 * LIMITS.probed_addresses):
        node.sends(f"203.{number >> 8}.{number & 255}.1")
    assert node.sent == LIMITS.probes_per_second
    for number in range(10 * LIMITS.probed_addresses):
        node.passes(1)
        node.sends(f"203.{number >> 8}.{number & 255}.1")
    assert len(node.prober._probed) == LIMITS.probed_addresses
    before = node.sent
    for _ in range(100):
        node.sends("203.9.255.1")
    assert node.sent == before
    node.now += LIMITS.probe_again
    node.sends("203.9.255.1")
    assert node.sent == before + 1


@given(st.binary(max_size=200), st.sampled_from([LOCAL_32, 5]))
def test_nothing_that_a_switch_hands_over_does_harm(frame: bytes, in_port: int) -> None:
    node = Node()
    node.prober.packet_in(packet_in(frame, in_port))
    asker_mac = bytes.fromhex("024847000001")
    node.prober.packet_in(packet_in(asker_mac + frame, in_port))
    assert node.found == []


@given(st.binary(max_size=80))
def test_a_message_that_cannot_be_read_is_a_fault(body: bytes) -> None:
    with contextlib.suppress(CodecError):
        Node().prober.packet_in(OPENFLOW_HEADER.pack(5, 10, OPENFLOW_HEADER.size + len(body), 0) + body)
