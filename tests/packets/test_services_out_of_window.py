"""A packet out of a connection's window never comes to the client untranslated: it would answer with a reset.

Upstream's "proxy implementation should not be vulnerable to the invalid conntrack state bug" (its issue 74839): what
conntrack takes for invalid has no translation. The kernel's does so with such a packet; the userspace one only where
nobody told it not to, as between a restart of Open vSwitch and the next `headgate-node apply`.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from flows.interpret.frame_encoder import checksum
from tests.helpers.lab.datapath_choice import KERNEL
from tests.helpers.lab.overlay import listen
from tests.helpers.lab.service_lab import ServiceLab, cluster_ip, service_lab
from topology.host import netns
from topology.lab.pod import POD_INTERFACE

pytestmark = pytest.mark.lab

NUMBER, PORT = 40, 9000
CLIENTS = ("x/b", "x/d")  # on the server's node, and on the other one
SAID, LATE = b"said in time", b"said so late"
BEHIND = 100_000  # bytes, more than any window here
ETHERNET, IP_LENGTH = 14, {4: 20, 6: 40}
RESET, ALL_PROTOCOLS = 0x04, 0x0003
PATIENCE = 1.0


@pytest.fixture(scope="module")
def lab() -> Iterator[ServiceLab]:
    """The server is x/a on node-1."""
    with service_lab() as made:
        made.add_service("stream", NUMBER, ["x/a"])
        for kind in ("slice stream-4", "slice stream-6"):
            made.objects[kind]["ports"][0]["port"] = PORT
        made.objects["service stream"]["spec"]["ports"][0]["targetPort"] = PORT
        made.apply()
        yield made


@pytest.fixture(params=["checked", "unchecked"])
def sequences(lab: ServiceLab, request: pytest.FixtureRequest) -> Iterator[None]:
    """Whether conntrack checks sequence numbers."""
    if KERNEL and request.param == "unchecked":
        pytest.skip("the kernel's conntrack checks them")
    for node in lab.nodes.values() if not KERNEL else ():
        node.ovs.appctl(f"dpctl/ct-{'enable' if request.param == 'checked' else 'disable'}-tcp-seq-chk")
    yield
    for node in lab.nodes.values() if not KERNEL else ():
        node.ovs.appctl("dpctl/ct-disable-tcp-seq-chk")


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.usefixtures("sequences")
def test_a_packet_out_of_the_window_ends_no_connection(lab: ServiceLab, client: str, version: int) -> None:
    (server, own), (here, _) = lab.place("x/a"), lab.place(client)
    with (
        closing(listen(server, version, own[version], PORT, socket.SOCK_STREAM)) as listening,
        closing(ear(server)) as at_server,
        closing(ear(here)) as at_client,
        closing(socket_in(here, version)) as stream,
    ):
        stream.connect((cluster_ip(NUMBER, version), 80))
        accepted, _ = listening.accept()
        with accepted:
            accepted.settimeout(10)
            accepted.sendall(SAID)
            assert stream.recv(100) == SAID
            sent = next(one for one in heard(at_server) if one.endswith(SAID))
            at_server.send(out_of_window(sent, version))
            time.sleep(PATIENCE)  # in which it would have come, and its answer
            untranslated = socket.inet_pton(stream.family, own[version])
            assert not [one for one in heard(at_client) if untranslated in one[ETHERNET:]]
            assert not [one for one in heard(at_server) if is_reset(one, version)]
            for mine, other in ((stream, accepted), (accepted, stream)):
                mine.sendall(b"goes on")
                assert other.recv(100) == b"goes on"


def socket_in(where: Path, version: int) -> socket.socket:
    with netns.inside(where):
        made = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6)
    made.settimeout(10)
    return made


def ear(where: Path) -> socket.socket:
    """Hears and sends whole frames at a pod's interface."""
    with netns.inside(where):
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        made.bind((POD_INTERFACE, ALL_PROTOCOLS))
    made.setblocking(False)
    return made


def heard(one: socket.socket) -> list[bytes]:
    """The frames since the last call, those that went out among them."""
    frames = []
    with suppress(BlockingIOError):
        while True:
            frames.append(one.recv(1 << 16))
    return frames


def out_of_window(frame: bytes, version: int) -> bytes:
    """A frame of TCP with other data and a sequence number of long before; its checksum is right."""
    at = ETHERNET + IP_LENGTH[version]
    tcp = bytearray(frame[at:])
    tcp[-len(SAID) :] = LATE
    sequence = int.from_bytes(tcp[4:8], "big") - BEHIND
    tcp[4:8] = (sequence % (1 << 32)).to_bytes(4, "big")
    tcp[16:18] = bytes(2)
    ends = frame[at - (8 if version == 4 else 32) : at]  # both addresses
    pseudo = ends + struct.pack("!HH", socket.IPPROTO_TCP, len(tcp))
    tcp[16:18] = checksum(pseudo + tcp).to_bytes(2, "big")
    return frame[:at] + tcp


def is_reset(frame: bytes, version: int) -> bool:
    """Whether it is a TCP segment of the family with the flag of a reset."""
    ethertype, proto = {4: (b"\x08\x00", 23), 6: (b"\x86\xdd", 20)}[version]
    flags = ETHERNET + IP_LENGTH[version] + 13
    is_tcp = frame[12:14] == ethertype and frame[proto] == socket.IPPROTO_TCP
    return is_tcp and bool(frame[flags] & RESET)
