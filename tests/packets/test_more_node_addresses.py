"""A node with addresses that its Node object does not name: what stands at its bridge of them is the node's as well.

So is, without any setting, what the node sends with an address that its own stack answers for.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.lab.policies import policies
from topology.host import netns
from topology.host.netns import in_thread, inside
from topology.lab.lab import Lab
from topology.lab.node import LAB_BRIDGE

pytestmark = pytest.mark.lab

SECOND, CACHE = "10.10.0.77", "169.254.20.10"
DENY = policies({"x/deny": {"policyTypes": ["Ingress", "Egress"]}})


def run(place: Path, *command: str) -> None:
    def work() -> None:
        with inside(place):
            subprocess.run(command, check=True)

    in_thread(work)


def open_socket(place: Path, kind: socket.SocketKind, address: str, port: int = 0) -> socket.socket:
    def work() -> socket.socket:
        with inside(place):
            made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
            made.bind((address, port))
            made.settimeout(1.0)
            return made

    made: socket.socket = in_thread(work)
    return made


def reaches_pod(lab: Lab, source: str) -> bool:
    """A probe of the kubelet: TCP from an address of the node to its pod x/a."""
    return connects(lab.nodes["one"].netns, source, lab.endpoints["x/a"].addresses[6 if ":" in source else 4])


def connects(place: Path, source: str, target: str, timeout: float = 0.9) -> bool:
    """TCP to port 80; the time is too short for a second SYN."""
    with open_socket(place, socket.SOCK_STREAM, source) as probe:
        probe.settimeout(timeout)
        try:
            probe.connect((target, 80))
        except OSError:
            return False
        return True


def soon(lab: Lab, source: str, seconds: float = 3.0) -> bool:
    """Whether the first probe is denied, as it must be, and another one passes within some time."""
    if reaches_pod(lab, source):
        pytest.fail("nobody can have known it")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if reaches_pod(lab, source):
            return True
    return False


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
        run(node.netns, "ip", "addr", "add", address, "dev", LAB_BRIDGE)
    run(lab.netns("x/a"), "ip", "route", "replace", f"{CACHE}/32", "via", lab.endpoints["node:one"].addresses[4])
    lab.apply(DENY)
    yield lab
    node.vsctl(["remove", "Bridge", LAB_BRIDGE, "external_ids", "headgate-node-addresses"])
    for address in (f"{SECOND}/16", f"{CACHE}/32"):
        run(node.netns, "ip", "addr", "del", address, "dev", LAB_BRIDGE)
    run(lab.netns("x/a"), "ip", "route", "del", f"{CACHE}/32")
    lab.reset()


def test_an_isolated_pod_and_all_addresses_of_its_node(more: Lab) -> None:
    assert reaches_pod(more, more.endpoints["node:one"].addresses[4])
    assert not reaches_node(more, SECOND)
    more.nodes["one"].vsctl(["set", "Bridge", LAB_BRIDGE, f'external_ids:headgate-node-addresses="{SECOND},{CACHE}"'])
    more.wait()
    assert reaches_pod(more, SECOND)
    assert reaches_node(more, SECOND)
    assert reaches_node(more, CACHE)
    more.product.stop()
    more.product.start()
    more.wait()
    assert reaches_pod(more, SECOND), "it stands in OVSDB, so it outlives the controller"


def test_another_pod_does_not_become_the_node(more: Lab) -> None:
    """An address of the setting counts as the node's only when the node itself sends from it."""
    more.nodes["one"].vsctl(["set", "Bridge", LAB_BRIDGE, f'external_ids:headgate-node-addresses="{SECOND}"'])
    more.wait()
    run(more.netns("y/a"), "ip", "addr", "add", f"{SECOND}/32", "dev", "eth0")
    try:
        with open_socket(more.netns("y/a"), socket.SOCK_STREAM, SECOND) as client, pytest.raises(OSError):
            client.connect((more.endpoints["x/a"].addresses[4], 80))
    finally:
        run(more.netns("y/a"), "ip", "addr", "del", f"{SECOND}/32", "dev", "eth0")


SECOND6 = "fd10:10::77"


@pytest.fixture
def unnamed(lab: Lab) -> Iterator[Lab]:
    """The lab with more addresses on a node, one of them on another interface, and a machine behind the node."""
    node, place = lab.nodes["one"].netns, lab.nodes["one"].netns.parent / "behind"
    netns.create(place)
    try:
        for command in (
            f"ip addr add {SECOND}/16 dev {LAB_BRIDGE}",
            f"ip addr add {SECOND6}/64 dev {LAB_BRIDGE} nodad",
            "ip link add cache0 type veth peer name cache1",
            "ip link set cache0 up",
            f"ip addr add {CACHE}/32 dev cache0",
            "ip link add far type veth peer name away",
            "ip addr add 172.31.0.1/24 dev far",
            "ip link set far up",
            f"ip link set away netns {place}",
        ):
            run(node, *command.split())
        set_sysctl(node, "0", "ipv4/conf/far/arp_ignore")
        set_sysctl(node, "1", "ipv4/ip_forward", "ipv4/conf/all/proxy_arp", f"ipv4/conf/{LAB_BRIDGE}/proxy_arp")
        for command in (
            "link set lo up",
            "addr add 172.31.0.2/24 dev away",
            "link set away up",
            "route add default via 172.31.0.1",
        ):
            run(place, "ip", *command.split())
        for target in (f"{CACHE}/32", "172.31.0.0/24"):
            run(lab.netns("x/a"), "ip", "route", "replace", target, "via", lab.endpoints["node:one"].addresses[4])
        yield lab
    finally:
        for command in (
            f"ip addr del {SECOND}/16 dev {LAB_BRIDGE}",
            f"ip addr del {SECOND6}/64 dev {LAB_BRIDGE}",
            "ip link del cache0",
            "ip link del far",
        ):
            run(node, *command.split())
        set_sysctl(node, "0", "ipv4/conf/all/proxy_arp", f"ipv4/conf/{LAB_BRIDGE}/proxy_arp")
        for target in (f"{CACHE}/32", "172.31.0.0/24"):
            run(lab.netns("x/a"), "ip", "route", "del", target)
        netns.remove(place)
        lab.reset()


def set_sysctl(node: Path, value: str, *names: str) -> None:
    """Set what the kernel has under net/ in a namespace."""

    def work() -> None:
        with inside(node):
            for name in names:
                Path("/proc/sys/net", name).write_text(value)

    in_thread(work)


def test_the_node_is_known_by_what_its_stack_answers_for(unnamed: Lab) -> None:
    place = unnamed.nodes["one"].netns.parent / "behind"
    pod = unnamed.endpoints["x/a"].addresses[4]
    assert connects(place, "172.31.0.2", pod), "the machine behind the node reaches the pod while nothing isolates it"
    unnamed.apply(DENY)
    for source in (SECOND, CACHE, SECOND6):
        assert soon(unnamed, source), source
    switches = {switch["node"]: switch for switch in unnamed.product.get("/status")["switches"]}
    assert set(switches["one"]["answered"]) == {SECOND, CACHE, SECOND6}
    assert switches["two"]["answered"] == []
    told = unnamed.product.call(["explain", SECOND, "x/a", "-p", "80"])
    assert told.returncode == 1 and "node one has answered for this source" in told.stdout
    assert "has answered" not in unnamed.product.call(["explain", "172.31.0.2", "x/a", "-p", "80"]).stdout
    # What the node forwards is not the node's, though it is a proxy for it.
    for _ in range(3):
        assert not connects(place, "172.31.0.2", pod)
    assert reaches_pod(unnamed, SECOND)
    # A machine that says it is the node is not believed by the node's own stack.
    run(place, "ip", "addr", "add", f"{CACHE}/32", "dev", "away")
    assert not connects(place, CACHE, pod)
    # What the pod opens to it is judged as before: only the setting says that it goes to the node.
    assert not reaches_node(unnamed, CACHE)
    run(unnamed.netns("y/a"), "ip", "addr", "add", f"{SECOND}/32", "dev", "eth0")
    try:
        assert not connects(unnamed.netns("y/a"), SECOND, pod)
    finally:
        run(unnamed.netns("y/a"), "ip", "addr", "del", f"{SECOND}/32", "dev", "eth0")
