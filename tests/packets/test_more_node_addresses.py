"""A node with addresses that its Node object does not name: what stands at its bridge of them is the node's as well."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packets.policies import policies
from topology.lab import Lab
from topology.netns import in_thread, inside
from topology.node import BRIDGE

pytestmark = pytest.mark.lab

SECOND, CACHE = "10.10.0.77", "169.254.20.10"
DENY = policies({"x/deny": {"policyTypes": ["Ingress", "Egress"]}})


def run(netns: Path, *command: str) -> None:
    def work() -> None:
        with inside(netns):
            subprocess.run(command, check=True)

    in_thread(work)


def open_socket(netns: Path, kind: socket.SocketKind, address: str, port: int = 0) -> socket.socket:
    def work() -> socket.socket:
        with inside(netns):
            made = socket.socket(socket.AF_INET, kind)
            made.bind((address, port))
            made.settimeout(1.0)
            return made

    made: socket.socket = in_thread(work)
    return made


def reaches_pod(lab: Lab, source: str) -> bool:
    """A probe of the kubelet: TCP from an address of the node to its pod x/a."""
    with open_socket(lab.nodes["one"].netns, socket.SOCK_STREAM, source) as probe:
        try:
            probe.connect((lab.endpoints["x/a"].addresses[4], 80))
        except OSError:
            return False
        return True


def reaches_node(lab: Lab, target: str) -> bool:
    """A question of x/a to its node, over UDP."""
    own = lab.endpoints["x/a"].addresses[4]
    with (
        open_socket(lab.nodes["one"].netns, socket.SOCK_DGRAM, target, 5353) as server,
        open_socket(lab.netns("x/a"), socket.SOCK_DGRAM, own) as client,
    ):
        client.sendto(b"q", (target, 5353))
        try:
            return server.recv(10) == b"q"
        except TimeoutError:
            return False


@pytest.fixture
def more(lab: Lab) -> Iterator[Lab]:
    """The lab with two more addresses on a node, and a route to one of them in a pod."""
    node = lab.nodes["one"]
    for address in (f"{SECOND}/16", f"{CACHE}/32"):
        run(node.netns, "ip", "addr", "add", address, "dev", BRIDGE)
    run(lab.netns("x/a"), "ip", "route", "replace", f"{CACHE}/32", "via", lab.endpoints["node:one"].addresses[4])
    lab.apply(DENY)
    yield lab
    node.vsctl(["remove", "Bridge", BRIDGE, "external_ids", "headgate-node-addresses"])
    for address in (f"{SECOND}/16", f"{CACHE}/32"):
        run(node.netns, "ip", "addr", "del", address, "dev", BRIDGE)
    run(lab.netns("x/a"), "ip", "route", "del", f"{CACHE}/32")
    lab.reset()


def test_an_isolated_pod_and_all_addresses_of_its_node(more: Lab) -> None:
    assert reaches_pod(more, more.endpoints["node:one"].addresses[4])
    assert not reaches_pod(more, SECOND)
    more.nodes["one"].vsctl(["set", "Bridge", BRIDGE, f'external_ids:headgate-node-addresses="{SECOND},{CACHE}"'])
    more.wait()
    assert reaches_pod(more, SECOND)
    assert reaches_node(more, SECOND)
    assert reaches_node(more, CACHE)
    more.product.stop()
    more.product.start()
    more.wait()
    assert reaches_pod(more, SECOND), "it stands in OVSDB, so it outlives the controller"


def test_another_pod_does_not_become_the_node(more: Lab) -> None:
    """What the setting names is the node's where it comes from the node, and nobody else's."""
    more.nodes["one"].vsctl(["set", "Bridge", BRIDGE, f'external_ids:headgate-node-addresses="{SECOND}"'])
    more.wait()
    run(more.netns("y/a"), "ip", "addr", "add", f"{SECOND}/32", "dev", "eth0")
    try:
        with open_socket(more.netns("y/a"), socket.SOCK_STREAM, SECOND) as client, pytest.raises(OSError):
            client.connect((more.endpoints["x/a"].addresses[4], 80))
    finally:
        run(more.netns("y/a"), "ip", "addr", "del", f"{SECOND}/32", "dev", "eth0")
