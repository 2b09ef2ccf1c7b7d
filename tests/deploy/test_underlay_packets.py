"""What arrives at the underlay interface reaches the node, whatever the other end leaves to hardware. Real packets."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.deploy.cni_node import CniNode, made_cni_node, with_controller
from tests.deploy.machine import UPLINK
from topology.host import links, netns

pytestmark = [pytest.mark.lab, pytest.mark.slow]
ADDRESSES = {4: ("192.0.2.7", "192.0.2.1/24"), 6: ("2001:db8:2::7", "2001:db8:2::1/64")}
AMOUNT = 1_000_000


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
                subprocess.run(["ip", "addr", "add", address, "dev", "wire"], check=True)
            subprocess.run(["ip", "link", "set", "wire", "up"], check=True)
        yield path
    finally:
        netns.remove(path)


# Seen to fail on a machine on which it passed before, from one hour to the next: the first segment gets no answer.
_UNEXPLAINED = pytest.mark.xfail(reason="fails on some machines, the cause is not known", strict=False)


@pytest.mark.parametrize("family", [4, pytest.param(6, marks=_UNEXPLAINED)])
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
