"""Datagrams larger than a link carries: every piece of what is allowed arrives, no piece of what is not."""

from __future__ import annotations

import socket

import pytest

from flows.interpret.packet import ETHER
from flows.openflow import match_fields as oxm
from tests.helpers.lab.policies import pods, policies, port
from tests.helpers.lab.raw_frames import FrameListener
from topology.host.netns import in_thread, inside
from topology.lab.lab import Lab

pytestmark = pytest.mark.lab

POLICY = policies(
    {
        "x/deny": {"policyTypes": ["Ingress"]},
        "y/deny": {"policyTypes": ["Egress"]},
        "x/serve": {
            "podSelector": pods("a"),
            "ingress": [
                {"from": [{"podSelector": pods("b", "c")}], "ports": [port(80, "UDP")]},
                {"from": [{"namespaceSelector": {"matchLabels": {"ns": "y"}}}]},
            ],
        },
    }
)
LARGE = (1473, 3000, 9000)
WAYS = [(source, family) for source in ("x/b", "x/c") for family in (4, 6)]


def asker(lab: Lab, source: str, family: int) -> socket.socket:
    """A UDP socket of an endpoint."""
    version = socket.AF_INET if family == 4 else socket.AF_INET6

    def make() -> socket.socket:
        with inside(lab.netns(source)):
            sock = socket.socket(version, socket.SOCK_DGRAM)
            sock.bind((lab.endpoints[source].addresses[family], 0))
            return sock

    return in_thread(make)


def answered(sock: socket.socket, to: tuple[str, int], data: bytes) -> bool:
    """Whether a datagram came back whole; one that a busy machine lost is sent again."""
    sock.settimeout(2)
    for _ in range(5):
        sock.sendto(data, to)
        try:
            if sock.recv(65536).endswith(data):
                return True
        except TimeoutError:
            continue
    return False


@pytest.mark.parametrize(("source", "family"), WAYS)
def test_all_pieces_or_none(lab: Lab, source: str, family: int) -> None:
    there = lab.endpoints["x/a"].addresses[family]
    ether = ETHER[family].to_bytes(2, "big")
    try:
        lab.apply(POLICY)
        with asker(lab, source, family) as sock:
            for size in LARGE:
                assert answered(sock, (there, 80), bytes([size % 251]) * size), size
        denied = {source: 81, f"y/{source[-1]}": 80}  # by the port, and by the sender's own egress
        for name, number in denied.items():
            with FrameListener(lab, ["x/a", "x/b", "x/c"]) as ears, asker(lab, name, family) as sock:
                for size in LARGE:
                    for _ in range(3):
                        sock.sendto(b"\xd1" * size, (there, number))
                ears.fence(name)
                arrived = [frame for frame in ears.frames("x/a") if b"\xd1" * 8 in frame and frame[12:14] == ether]
                assert arrived == [], f"{len(arrived)} pieces of {name}"
    finally:
        lab.reset()


@pytest.mark.parametrize(("source", "family"), WAYS)
def test_denied_pieces_do_not_ride_on_what_is_allowed(lab: Lab, source: str, family: int) -> None:
    """Between the same two pods, in turns with large datagrams that pass."""
    there = lab.endpoints["x/a"].addresses[family]
    try:
        lab.apply(POLICY)
        with FrameListener(lab, ["x/a", "x/b", "x/c"]) as ears, asker(lab, source, family) as sock:
            for _ in range(5):
                sock.sendto(b"\xd2" * 3000, (there, 81))
                assert answered(sock, (there, 80), b"\xd3" * 3000)
            ears.fence(source)
            assert [frame for frame in ears.frames("x/a") if b"\xd2" * 8 in frame] == []
            assert len([frame for frame in ears.frames("x/a") if b"\xd3" * 8 in frame]) >= 15
    finally:
        lab.reset()


def test_the_protocols_are_what_the_kernel_sent(lab: Lab) -> None:
    """The datagrams above are fragmented indeed; without that the tests show nothing."""
    with FrameListener(lab, ["x/a", "x/c"]) as ears, asker(lab, "x/b", 4) as four, asker(lab, "x/b", 6) as six:
        for sock, family in ((four, 4), (six, 6)):
            assert answered(sock, (lab.endpoints["x/a"].addresses[family], 80), b"\xd4" * 3000)
        ears.fence("x/b")
        pieces = [frame for frame in ears.frames("x/a") if b"\xd4" * 8 in frame]
        ipv4 = [frame for frame in pieces if frame[12:14] == ETHER[4].to_bytes(2, "big")]
        assert len(ipv4) >= 3
        assert all(int.from_bytes(frame[20:22], "big") & 0x3FFF for frame in ipv4)
        ipv6 = [frame for frame in pieces if frame[12:14] == ETHER[6].to_bytes(2, "big")]
        assert len(ipv6) >= 3
        assert {frame[20] for frame in ipv6} == {44}
        assert oxm.IP_PROTO_UDP in {frame[54] for frame in ipv6}
