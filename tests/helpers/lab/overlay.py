"""Nodes whose switches route: network namespaces joined by an underlay, each with an Open vSwitch, pods in namespaces
of their own, and flows that are rendered and installed without a controller. `datapath_choice` says on which datapath.

What a node's program and the CNI plugin set up is made here by hand: routes, permanent neighbors, the tunnel port. What
should pass is the tests' business.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from flows.bridge.binding import read_bridge
from flows.bridge.routing import TUNNEL_INTERFACE, NetworkMode, RoutedNode, Routing
from flows.bridge.state import BridgeState, InterfaceState
from flows.cluster.model import Cluster, Key, Namespace, Node, Pod, Policy
from flows.cluster.net import Net, address_text, parse_address, parse_network
from flows.openflow.flow import Flow
from flows.pipeline.gateway import GATEWAY_MAC, SWITCH
from flows.policy.reference import compile_policy
from flows.render.reference import render
from tests.helpers.lab.datapath_choice import datapath
from tests.helpers.ovs.open_vswitch import Bridge, OpenVSwitch
from topology.host import links, netns

MTU = 1400
UNDERLAY_MTU = 1500
_GATEWAY = GATEWAY_MAC.to_bytes(6, "big").hex(":")
_TUNNEL_PORT, _FIRST_POD_PORT = 1, 10


def ip(where: Path, *arguments: str) -> str:
    """Run ip(8) in a namespace."""
    with netns.inside(where):
        return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


@dataclass
class OverlayPod:
    """A pod: its namespace, its addresses by family, its port's number and MAC address."""

    key: Key
    netns: Path
    addresses: dict[int, str]
    ofport: int
    mac: str = ""


@dataclass
class OverlayNode:
    """A node: its namespace, its InternalIPs by family, its Open vSwitch, its bridge and its pods."""

    name: str
    number: int
    netns: Path
    ovs: OpenVSwitch
    bridge: Bridge
    addresses: dict[int, str]
    pods: dict[Key, OverlayPod] = field(default_factory=dict)

    @property
    def cidrs(self) -> tuple[str, str]:
        """The node's pod ranges."""
        return f"10.244.{self.number}.0/24", f"fd00:244:{self.number}::/64"


class Overlay:
    """Two nodes. `install` makes their flows of the pods and policies that are there; `remote` are the nodes as the
    others know them, and may be changed; `services` are further flows of a node's bridge, by its name."""

    def __init__(self, folder: Path, encap: str, underlay: int, mode: NetworkMode = NetworkMode.OVERLAY) -> None:
        self.folder = folder
        self.encap = encap
        self.underlay = underlay
        self.mode = mode
        self.policies: tuple[Policy, ...] = ()
        self.service_cidrs: tuple[Net, ...] = ()
        self.services: dict[str, list[Flow]] = {}
        self.nodes: dict[str, OverlayNode] = {}
        self.stack = ExitStack()
        self.known: dict[str, RoutedNode] = {}
        self.userspace = datapath() == "userspace"

    @property
    def datapath_type(self) -> str:
        """What OVSDB calls the datapath."""
        return "netdev" if self.userspace else "system"

    def add_nodes(self) -> None:
        """Both nodes, joined by a cable."""
        paths = [self._namespace(f"node{number}") for number in (1, 2)]
        with netns.inside(paths[0]):
            links.make_veth("ul1", "ul2", paths[1], UNDERLAY_MTU)
        for number, path in enumerate(paths, 1):
            self._add_node(number, path)

    def _namespace(self, name: str) -> Path:
        path = self.folder / name
        netns.create(path)
        self.stack.callback(netns.remove, path)
        with netns.inside(path):
            links.quiet_namespace()
        ip(path, "link", "set", "lo", "up")
        return path

    def _add_node(self, number: int, path: Path) -> None:
        with netns.inside(path):
            ovs = self.stack.enter_context(OpenVSwitch())
        ip(path, "link", "set", f"ul{number}", "up")
        self._add_underlay(path, ovs)
        self.add_to_underlay(path, ovs, f"ul{number}")
        bridge = ovs.add_bridge("br-int", self.datapath_type)
        if self.userspace:
            ovs.appctl("dpctl/ct-disable-tcp-seq-chk")  # as node/host_conntrack.py does
        ovs.vsctl("set", "Interface", "br-int", f"mtu_request={MTU}")
        if self.mode is NetworkMode.OVERLAY:
            ovs.vsctl("add-port", "br-int", TUNNEL_INTERFACE, "--", "set", "Interface", TUNNEL_INTERFACE,
                      f"type={self.encap}", "options:remote_ip=flow", "options:key=0",
                      f"ofport_request={_TUNNEL_PORT}")  # fmt: skip
        addresses = {4: f"192.0.2.{number}", 6: f"2001:db8::{number}"}
        node = OverlayNode(f"node-{number}", number, path, ovs, bridge, addresses)
        with netns.inside(path):
            self.software_checksums("br-int")
            self.software_checksums("br-ul")
            links.sysctl("ipv4.ip_forward", 1)
            links.sysctl("ipv6.conf.all.forwarding", 1)
        for device in ("br-ul", "br-int"):
            ip(path, "link", "set", device, "up")
        for family in (4, 6):
            ip(path, "address", "add", f"{addresses[family]}/{24 if family == 4 else 64}", "dev", "br-ul", "nodad")
        self._route(node)
        self.nodes[node.name] = node
        self.known[node.name] = RoutedNode(
            node.name,
            parse_address(addresses[self.underlay]),
            tuple(map(parse_network, node.cidrs)),
            tuple(map(parse_address, addresses.values())),
        )

    def _add_underlay(self, path: Path, ovs: OpenVSwitch) -> None:
        """The node's bridge to the other node: the userspace datapath tunnels only through one of its own."""
        if self.userspace:
            ovs.vsctl("add-br", "br-ul", "--", "set", "Bridge", "br-ul", "datapath_type=netdev")
            ovs.vsctl("set", "Interface", "br-ul", f"mtu_request={UNDERLAY_MTU}")
            return
        with netns.inside(path):
            links.make_bridge("br-ul", UNDERLAY_MTU)

    def add_to_underlay(self, path: Path, ovs: OpenVSwitch, interface: str) -> None:
        """Make an interface of the node's namespace a port of its bridge to the other node."""
        if self.userspace:
            with netns.inside(path):
                links.checksums_in_software(interface)
            ovs.vsctl("add-port", "br-ul", interface)
            return
        with netns.inside(path):
            links.add_to_bridge(interface, "br-ul")

    def software_checksums(self, interface: str) -> None:
        """Only the userspace datapath needs complete checksums, as `node/` has it, too."""
        if self.userspace:
            links.checksums_in_software(interface)

    def _route(self, node: OverlayNode) -> None:
        other = 3 - node.number
        for family, every, ours, theirs, there in (
            (4, "10.244.0.0/16", node.cidrs[0], f"10.244.{other}.0/24", f"192.0.2.{other}"),
            (6, "fd00:244::/32", node.cidrs[1], f"fd00:244:{other}::/64", f"2001:db8::{other}"),
        ):
            hop = address_text(family, SWITCH[family == 6].value)
            ip(node.netns, "neigh", "replace", hop, "lladdr", _GATEWAY, "dev", "br-int", "nud", "permanent")
            onlink = ["onlink"] if family == 4 else []
            here = every if self.mode is NetworkMode.OVERLAY else ours
            ip(node.netns, f"-{family}", "route", "add", here, "via", hop, "dev", "br-int", *onlink, "src",
               node.addresses[family])  # fmt: skip
            if self.mode is NetworkMode.ROUTED:
                ip(node.netns, f"-{family}", "route", "add", theirs, "via", there)

    def add_pod(self, node: str, name: str, neighbors: bool = True) -> OverlayPod:
        """A pod, as the CNI plugin sets it up. Without `neighbors` it must ask for its gateway, where the switch
        answers: on the kernel's datapath it answers ARP alone."""
        where = self.nodes[node]
        count = len(where.pods)
        path = self._namespace(name.replace("/", "-"))
        addresses = {4: f"10.244.{where.number}.{10 + count}", 6: f"fd00:244:{where.number}::{10 + count}"}
        outer = f"p{where.number}{count}"
        pod = OverlayPod(
            Key(*name.split("/")), path, addresses, _FIRST_POD_PORT + count, f"0a:58:00:00:0{where.number}:{count:02x}"
        )
        with netns.inside(where.netns):
            links.make_veth(outer, "eth0", path, MTU, pod.mac)
            self.software_checksums(outer)
        ip(where.netns, "link", "set", outer, "up")
        with netns.inside(path):
            self.software_checksums("eth0")
        ip(path, "link", "set", "eth0", "up")
        for family, gateway in ((4, f"10.244.{where.number}.1"), (6, f"fd00:244:{where.number}::1")):
            ip(path, "address", "add", f"{addresses[family]}/{32 if family == 4 else 128}", "dev", "eth0", "nodad")
            ip(path, f"-{family}", "route", "add", gateway, "dev", "eth0", "scope", "link")
            ip(path, f"-{family}", "route", "add", "default", "via", gateway, "dev", "eth0")
            if neighbors or (family == 6 and not self.userspace):
                ip(path, "neigh", "replace", gateway, "lladdr", _GATEWAY, "dev", "eth0", "nud", "permanent")
        where.ovs.vsctl("add-port", "br-int", outer, "--", "set", "Interface", outer, f"ofport_request={pod.ofport}")
        where.pods[pod.key] = pod
        return pod

    def state(self, node: OverlayNode) -> BridgeState:
        """The node's bridge as OVSDB would tell of it."""
        mac = node.ovs.vsctl("get", "Interface", "br-int", "mac_in_use").strip().strip('"')
        interfaces = [InterfaceState("local", "br-int", 65534, mac)]
        if self.mode is NetworkMode.OVERLAY:
            interfaces.append(InterfaceState("tunnel", TUNNEL_INTERFACE, _TUNNEL_PORT))
        for pod in node.pods.values():
            ids = MappingProxyType({"iface-id": str(pod.key), "attached-mac": pod.mac})
            interfaces.append(InterfaceState(str(pod.key), f"p{pod.ofport}", pod.ofport, pod.mac, ids))
        routing = Routing(self.mode, node.name, tuple(sorted(self.known.values())), self.service_cidrs)
        return BridgeState("db", "br-int", 1, node.name, datapath_type=self.datapath_type,
                           interfaces=tuple(interfaces), routing=routing)  # fmt: skip

    @property
    def cluster(self) -> Cluster:
        """The nodes, pods and policies as objects."""
        pods = {}
        for node in self.nodes.values():
            for pod in node.pods.values():
                addresses = tuple(map(parse_address, pod.addresses.values()))
                labels = {"name": pod.key.name}
                pods[pod.key] = Pod(pod.key, node=node.name, addresses=addresses, labels=labels)
        return Cluster(
            namespaces={"x": Namespace("x")},
            pods=MappingProxyType(pods),
            nodes={n.name: Node(n.name, tuple(map(parse_address, n.addresses.values()))) for n in self.nodes.values()},
            policies={policy.key: policy for policy in self.policies},
        )

    def install(self) -> None:
        """Give every switch the flows of what is there now."""
        cluster = self.cluster
        for node in self.nodes.values():
            binding = read_bridge(self.state(node), cluster).binding
            flows = render(binding, compile_policy(cluster, [pod.pod for pod in binding.pods]))
            node.bridge.install([*flows, *self.services.get(node.name, ())])


@contextmanager
def overlay(encap: str = "geneve", underlay: int = 4, mode: NetworkMode = NetworkMode.OVERLAY) -> Iterator[Overlay]:
    """Two nodes with two pods each, x/a and x/b on the first, x/c and x/d on the second, and their flows. Pods a and
    c have no permanent neighbors."""
    folder = Path(tempfile.mkdtemp(prefix="hg-overlay-"))
    made = Overlay(folder, encap, underlay, mode)
    try:
        made.add_nodes()
        for node, name in (("node-1", "x/a"), ("node-1", "x/b"), ("node-2", "x/c"), ("node-2", "x/d")):
            made.add_pod(node, name, neighbors=name in ("x/b", "x/d"))
        made.install()
        yield made
    finally:
        made.stack.close()
        shutil.rmtree(folder, ignore_errors=True)


def listen(where: Path, family: int, address: str, port: int, kind: int = socket.SOCK_DGRAM) -> socket.socket:
    """A bound socket in a namespace, listening where it is a stream."""
    with netns.inside(where):
        made = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.settimeout(1.0)
    made.bind((address, port))
    if kind == socket.SOCK_STREAM:
        made.listen(16)
    return made


def heard(
    receiver: socket.socket, sender: socket.socket, to: tuple[str, int], payload: bytes = b"x", tries: int = 3
) -> tuple[str, int] | None:
    """Whether a datagram arrives, sent up to `tries` times; the address that it came from."""
    for _ in range(tries):
        with suppress(OSError):
            sender.sendto(payload, to)
        with suppress(TimeoutError):
            got, source = receiver.recvfrom(65536)
            if got == payload:
                return str(source[0]), int(source[1])
    return None
