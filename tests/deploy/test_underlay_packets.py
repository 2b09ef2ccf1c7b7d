"""What arrives at the underlay interface, or at an uplink, reaches the node once. At the first also what is left to
hardware. Real packets."""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.deploy.cni_node import CniNode, made_cni_node, with_controller
from tests.deploy.machine import NODE, UPLINK
from tests.helpers.lab.datapath_choice import DATAPATH_TYPE
from topology.host import links, netns

pytestmark = [pytest.mark.lab, pytest.mark.slow]
ADDRESSES = {4: ("192.0.2.7", "192.0.2.1/24"), 6: ("2001:db8:2::7", "2001:db8:2::1/64")}
MAC = "0a:58:c0:00:02:07"  # the interface's, and then the bridge's (tests.deploy.machine)
AMOUNT = 1_000_000
ARP = 0x0806


@pytest.fixture
def node() -> Iterator[CniNode]:
    with made_cni_node() as made:
        yield made


@pytest.fixture
def other(node: CniNode) -> Iterator[Path]:
    """Another machine, at the other end of the node's interface."""
    path = node.machine.folder / "other"
    netns.create(path)
    try:
        node.machine.run("ip", "link", "set", "wire", "netns", str(path))
        with netns.inside(path):
            links.quiet_namespace()
            for _, address in ADDRESSES.values():
                # An address whose uniqueness is still being probed is no source: the kernel would choose ::1.
                probed = ["nodad"] if ":" in address else []
                subprocess.run(["ip", "addr", "add", address, "dev", "wire", *probed], check=True)
            subprocess.run(["ip", "link", "set", "wire", "up"], check=True)
        yield path
    finally:
        netns.remove(path)


@pytest.mark.parametrize("family", [4, 6])
def test_a_stream_that_is_left_to_hardware_arrives(node: CniNode, other: Path, family: int) -> None:
    """A veth leaves checksums to the other end, and the cutting of a stream into packets."""
    with_controller(node)
    node.setup("--underlay", UPLINK)
    address = (ADDRESSES[family][0], 7000)
    with netns.inside(node.machine.netns):
        server = socket.create_server(address, family=socket.AF_INET if family == 4 else socket.AF_INET6)
    with closing(server):
        server.settimeout(10)
        with netns.inside(other):
            client = socket.create_connection(address, timeout=10)
        with closing(client):
            accepted, _ = server.accept()
            sender = threading.Thread(target=client.sendall, args=(bytes(AMOUNT),))
            sender.start()
            with closing(accepted):
                accepted.settimeout(10)
                came = 0
                while came < AMOUNT:
                    some = len(accepted.recv(1 << 16))
                    assert some
                    came += some
            sender.join()


def test_the_node_takes_each_packet_once_and_has_one_address_on_the_wire(node: CniNode, other: Path) -> None:
    """The userspace datapath reads copies of what comes to its port: the node's own stack must not take them too."""
    with_controller(node)
    node.setup("--underlay", UPLINK)
    takes_each_packet_once(node, other)


def test_so_it_does_where_the_addresses_of_an_uplink_are_on_the_pods_bridge(node: CniNode, other: Path) -> None:
    machine = node.machine
    arguments = ("--datapath", DATAPATH_TYPE, "--controller", "198.51.100.1", "--uplink", UPLINK, "--move-addresses")
    done = machine.script(NODE, *arguments, **node.env)
    assert done.returncode == 0, done.stderr
    machine.run("ovs-ofctl", "add-flow", f"unix:{machine.folder}/br-int.mgmt", "actions=NORMAL")
    takes_each_packet_once(node, other)
    node.undo()
    assert "netdev headgate" not in machine.run("nft", "list", "ruleset")
    assert "192.0.2.7/24" in machine.run("ip", "addr", "show", "dev", UPLINK)


def takes_each_packet_once(node: CniNode, other: Path) -> None:
    assert arp_answers(other) == {MAC}
    with netns.inside(node.machine.netns):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with netns.inside(other):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with closing(receiver), closing(sender):
        receiver.settimeout(10)
        receiver.bind(("", 7000))
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for text, to in ((b"to all", "192.0.2.255"), (b"to one", "192.0.2.7")):
            with netns.inside(other):
                sender.sendto(text, (to, 7000))
        came = [receiver.recv(100)]
        while came[-1] != b"to one":
            came.append(receiver.recv(100))
        assert came == [b"to all", b"to one"]


def arp_answers(other: Path) -> set[str]:
    """The MAC addresses that answer for the node's address. The switch's is the slowest: all have come with it."""
    with netns.inside(other):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ARP))
        wire.bind(("wire", ARP))
    with closing(wire):
        wire.settimeout(10)
        own = wire.getsockname()[4]
        asked = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + own + socket.inet_aton("192.0.2.1")
        asked += bytes(6) + socket.inet_aton("192.0.2.7")
        wire.send(b"\xff" * 6 + own + struct.pack("!H", ARP) + asked)
        found: set[str] = set()
        while MAC not in found:
            frame = wire.recv(100)
            if frame[20:22] == b"\0\2":  # a reply
                found.add(frame[22:28].hex(":"))
        return found
