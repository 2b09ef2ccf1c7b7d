"""hostPort: the configuration list as a container runtime calls it, with the standard plugin portmap, and real packets.

A client outside, the node itself and its loopback address reach a pod through a port of the node. Flows without state
stand for the switch.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from node.links import checksums_in_software
from tests.deploy.cni_node import CniNode, made_cni_node, with_controller
from tests.deploy.machine import UPLINK
from tests.helpers.node.cni_node import StandIn
from topology.host import netns

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CLIENT = {4: "192.0.2.1", 6: "2001:db8:2::1"}
NODE_IP = {4: "192.0.2.7", 6: "2001:db8:2::7"}
GATEWAY_MAC = "0a:48:47:00:00:01"
MAPPINGS = [
    {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
    {"hostPort": 5353, "containerPort": 53, "protocol": "udp"},
]


class Runtime:
    """Calls a configuration list as libcni does: ADD and CHECK in its order, DEL in the reverse one."""

    def __init__(self, node: CniNode) -> None:
        self.node = node
        self.results: dict[str, Any] = {}  # by container: the last plugin's result of ADD, which a runtime keeps

    def call(
        self,
        command: str,
        container: str,
        place: Path | None,
        mappings: list[dict[str, object]],
        kinds: tuple[str, ...] = ("headgate", "portmap"),
    ) -> dict[str, Any]:
        """Run a command of the plugins of these kinds. Raises AssertionError with the words of the one that failed."""
        listed = json.loads(self.node.list.read_text())
        plugins = listed["plugins"] if command != "DEL" else listed["plugins"][::-1]
        result = self.results.get(container) if command != "ADD" else None
        for plugin in (one for one in plugins if one["type"] in kinds):
            text = {**plugin, "name": listed["name"], "cniVersion": listed["cniVersion"]}
            if plugin.get("capabilities", {}).get("portMappings"):
                text["runtimeConfig"] = {"portMappings": mappings}
            if result is not None:
                text["prevResult"] = result
            env = {
                "CNI_COMMAND": command,
                "CNI_CONTAINERID": container,
                "CNI_IFNAME": "eth0",
                "CNI_NETNS": str(place or ""),
                "CNI_PATH": str(self.node.bin),
                "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=x;K8S_POD_NAME={container}",
            }
            done = self.node.machine.script(self.node.bin / plugin["type"], given=json.dumps(text), **env)
            assert done.returncode == 0, (command, plugin["type"], done.stdout, done.stderr)
            if command == "ADD":
                result = json.loads(done.stdout)
        if command == "ADD":
            self.results[container] = result
        return result or {}


class HostPorts:
    """A node with a client at the other end of its uplink, and one pod that the runtime attached."""

    def __init__(self, node: CniNode) -> None:
        self.node = node
        self.runtime = Runtime(node)
        self.client, self.pod = node.machine.folder / "client", node.machine.folder / "pod"
        self.addresses: dict[int, str] = {}

    def wire(self) -> None:
        """Set up the client."""
        for path in (self.client, self.pod):
            netns.create(path)
        run = self.node.machine.run
        run("ip", "link", "set", "wire", "netns", str(self.client))
        run("nsenter", f"--net={self.client}", "ip", "link", "set", "wire", "up")
        for family, size in ((4, 24), (6, 64)):
            words = ["nodad"] if family == 6 else []
            run(
                "nsenter",
                f"--net={self.client}",
                "ip",
                "addr",
                "add",
                f"{CLIENT[family]}/{size}",
                "dev",
                "wire",
                *words,
            )
        with netns.inside(self.client):
            checksums_in_software("wire")

    def add(self, mappings: list[dict[str, object]] = MAPPINGS) -> None:
        """Attach the pod, and have the switch forward between it and the node."""
        result = self.runtime.call("ADD", "web", self.pod, mappings)
        addresses = [one["address"].partition("/")[0] for one in result["ips"]]
        self.addresses = {6 if ":" in one else 4: one for one in addresses}
        port, mac = result["interfaces"][0]["name"], result["interfaces"][1]["mac"]
        bridge = f"unix:{self.node.machine.folder}/br-int.mgmt"
        local = self.node.machine.run("ip", "-o", "link", "show", "dev", "br-int").split("link/ether ")[1].split()[0]
        to_node = f"mod_dl_src:{GATEWAY_MAC},mod_dl_dst:{local},LOCAL"
        to_pod = f"mod_dl_src:{GATEWAY_MAC},mod_dl_dst:{mac},output:{port}"
        for kind, field in (("ip", "nw_dst"), ("ipv6", "ipv6_dst")):
            address = self.addresses[4 if kind == "ip" else 6]
            for flow in (
                f"in_port={port},{kind},actions={to_node}",
                f"in_port=LOCAL,{kind},{field}={address},actions={to_pod}",
            ):
                self.node.machine.run("ovs-ofctl", "add-flow", bridge, flow)

    def reach(self, place: Path, address: str, family: int) -> str:
        """The source address of a connection to the hostPort of TCP, as the pod sees it; both ends hear each other."""
        with (
            closing(bound(self.pod, family, self.addresses[family], 80, socket.SOCK_STREAM)) as server,
            closing(bound(place, family, "", 0, socket.SOCK_STREAM)) as made,
        ):
            made.connect((address, 8080))
            there, (source, *_) = server.accept()
            with closing(there):
                there.settimeout(5)
                made.sendall(b"x")
                assert there.recv(1) == b"x"
                there.sendall(b"y")
                assert made.recv(1) == b"y"
        return str(source)

    def ask(self, place: Path, address: str, family: int) -> str:
        """The same with a datagram and its answer."""
        with (
            closing(bound(self.pod, family, self.addresses[family], 53, socket.SOCK_DGRAM)) as server,
            closing(bound(place, family, "", 0, socket.SOCK_DGRAM)) as made,
        ):
            made.connect((address, 5353))
            made.send(b"x")
            _, source = server.recvfrom(10)
            server.sendto(b"y", source)
            assert made.recv(10) == b"y"
        return str(source[0])


def bound(place: Path, family: int, address: str, port: int, kind: int) -> socket.socket:
    """A socket in a namespace, listening where it is a stream with an address."""
    with netns.inside(place):
        made = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.settimeout(5)
    if address:
        made.bind((address, port))
        if kind == socket.SOCK_STREAM:
            made.listen()
    return made


@pytest.fixture
def ports() -> Iterator[HostPorts]:
    with made_cni_node() as node:
        made = HostPorts(node)
        with_controller(node)
        node.setup()
        made.wire()
        marking = StandIn(f"{node.machine.folder}/db.sock")
        marking.start()
        try:
            yield made
        finally:
            marking.stop()
            for path in (made.client, made.pod):
                netns.remove(path)


def test_a_pod_is_reached_through_ports_of_its_node(ports: HostPorts) -> None:
    ports.add()
    node = ports.node.machine.netns
    for family in (4, 6):
        for way in (ports.reach, ports.ask):
            assert way(ports.client, NODE_IP[family], family) == CLIENT[family]
            assert way(node, NODE_IP[family], family) == NODE_IP[family]
    assert ports.reach(node, "127.0.0.1", 4) == NODE_IP[4]
    assert ports.ask(node, "127.0.0.1", 4) == NODE_IP[4]
    # portmap 1.1 looks for its IPv4 rules among those of IPv6, so its CHECK fails with two families.
    ports.runtime.call("CHECK", "web", ports.pod, MAPPINGS, ("headgate",))
    # The node's table is replaced when its settings change; connections through a hostPort do not depend on that.
    ports.node.headgate_node("apply")
    assert ports.reach(ports.client, NODE_IP[4], 4) == CLIENT[4]
    assert ports.reach(node, "127.0.0.1", 4) == NODE_IP[4]
    for place in (ports.pod, ports.pod, None):  # a runtime repeats DEL, also without the namespace
        ports.runtime.call("DEL", "web", place, MAPPINGS)
    with pytest.raises(OSError):
        ports.reach(ports.client, NODE_IP[4], 4)
    rules = ports.node.machine.run("iptables-save") + ports.node.machine.run("ip6tables-save")
    assert "8080" not in rules and "5353" not in rules
    ports.add()
    assert ports.reach(ports.client, NODE_IP[4], 4) == CLIENT[4]
    ports.runtime.call("DEL", "web", ports.pod, MAPPINGS)


def test_a_host_port_of_one_address_is_reached_there_alone(ports: HostPorts) -> None:
    ports.node.machine.run("ip", "addr", "add", "192.0.2.77/24", "dev", UPLINK)
    ports.add([{**one, "hostIP": "192.0.2.77"} for one in MAPPINGS])
    assert ports.reach(ports.client, "192.0.2.77", 4) == CLIENT[4]
    with pytest.raises(ConnectionRefusedError):
        ports.reach(ports.client, NODE_IP[4], 4)


def test_a_pod_without_host_ports_needs_no_rules(ports: HostPorts) -> None:
    before = ports.node.machine.run("nft", "list", "ruleset")
    ports.add([])
    assert ports.node.machine.run("nft", "list", "ruleset") == before
    ports.runtime.call("CHECK", "web", ports.pod, [])
    ports.runtime.call("DEL", "web", ports.pod, [])
    assert ports.node.machine.run("nft", "list", "ruleset") == before
