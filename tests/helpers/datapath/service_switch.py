"""A bridge of the node n1 with three pods and Services: packets in, and what comes out, on the real userspace datapath.

Example. `switch.install(served(4, backend(pod_address(2, 4))))` has one Service, whose only endpoint is the second pod;
then `switch.send(1, pod_address(1, 4), VIP[4], 4000, 80)` is `frame("p2", pod_address(1, 4), pod_address(2, 4), 4000,
8080)`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from flows.bridge.routing import NetworkMode, RoutedNode, Routing
from flows.bridge.state import Binding, PodBinding
from flows.cluster.model import Endpoint, Key, Protocol, Service, ServicePort
from flows.cluster.net import Net, parse_address, parse_network
from flows.interpret.frame_encoder import encode
from flows.interpret.packet import SYN, transport
from flows.openflow.group import Group
from flows.pipeline import tables
from flows.pipeline.gateway import GATEWAY_MAC
from flows.policy.rule import NodePolicy
from flows.render.flow_set import FlowSet
from flows.render.reference import render
from flows.render.service_ports import PortNumbers, render_service_port
from flows.render.services import look_up_address
from flows.services.choice import Backend, choose
from flows.services.frontends import Claim, Frontend, frontends
from flows.services.served import ServedPort
from flows.wire.text import format_group
from tests.helpers.ovs.open_vswitch import Bridge, OpenVSwitch

TCP, UDP = Protocol.TCP, Protocol.UDP
NODE = {4: parse_address("192.0.2.1"), 6: parse_address("fd10::1")}
VIP = {4: parse_address("10.96.0.5"), 6: parse_address("fd00:96::5")}
EXTERNAL = {4: parse_address("198.51.100.7"), 6: parse_address("2001:db8:100::7")}
NODE_PORT = {4: parse_address("169.254.72.4"), 6: parse_address("fd00:4847::4")}
CLIENT = {4: parse_address("203.0.113.9"), 6: parse_address("2001:db8::9")}
OUTSIDE = {4: parse_address("192.0.2.77"), 6: parse_address("fd10::77")}
POD_HAIRPIN = {4: parse_address("169.254.72.3"), 6: parse_address("fd00:4847::3")}
NODE_HAIRPIN = {4: parse_address("169.254.72.2"), 6: parse_address("fd00:4847::2")}
LOCAL_MAC = 0x020000000099
KEY = Key("shop", "web")


def pod_address(number: int, version: int) -> Net:
    return parse_address(f"10.0.1.{number}" if version == 4 else f"fd00:1::{number}")


def mac(number: int) -> int:
    return 0x020000000000 | number


PODS = tuple(
    PodBinding(n, f"p{n}", Key("shop", f"pod-{n}"), mac(n), (pod_address(n, 4), pod_address(n, 6))) for n in (1, 2, 3)
)
OWN = RoutedNode("n1", None, (parse_network("10.0.1.0/24"), parse_network("fd00:1::/64")), (NODE[4], NODE[6]))
BINDING = Binding(
    node_addresses=(NODE[4], NODE[6]), local_mac=LOCAL_MAC, pods=PODS, userspace=True,
    routing=Routing(NetworkMode.ROUTED, "n1", (OWN,), (parse_network("10.96.0.0/16"), parse_network("fd00:96::/108"))),
)  # fmt: skip


class Frame(NamedTuple):
    """What a frame says of itself, as far as tests look."""

    port: str
    source: str
    target: str
    sport: int
    dport: int


def read_frame(port: str, frame: bytes) -> Frame:
    version = frame[14] >> 4
    start, width = (26, 4) if version == 4 else (22, 16)
    ends = [Net(version, int.from_bytes(frame[at : at + width], "big"), width * 8) for at in (start, start + width)]
    sport, dport = struct.unpack_from("!HH", frame, start + 2 * width)
    return Frame(port, str(ends[0]), str(ends[1]), sport, dport)


class Switch:
    """A bridge of the node n1 with three pods and Services."""

    def __init__(self, ovs: OpenVSwitch) -> None:
        self.bridge: Bridge = ovs.add_bridge("br0")
        self.bridge.add_ports({pod.interface: pod.ofport for pod in PODS})

    def install(
        self, *served: ServedPort, policy: NodePolicy | None = None, binding: Binding = BINDING, keep: bool = False
    ) -> None:
        """Have these ports of Services and this policy. With `keep`, what the switch learned stays; then no port may
        have a group, before or now."""
        made = FlowSet()
        groups: list[Group] = []
        for number, one in enumerate(served, 1):
            choice = choose(one.service, one.port, one.backends, "n1", "")
            groups += render_service_port(made, one, choice, PortNumbers(2 * number, 2 * number + 1))
            for net in one.external_addresses:
                look_up_address(made, net)
        text = "".join(f"{format_group(group)}\n" for group in groups)
        switch, bridge = self.bridge.switch, self.bridge
        if not keep:
            bridge.clear()
            switch.ofctl("del-groups", bridge.target)
        if text:
            switch.ofctl("add-groups", bridge.target, "-", stdin=text)
        bridge.install([*render(binding, policy or NodePolicy({}, ())), *made.flows()])

    def send(
        self, port: int, source: Net, target: Net, sport: int, dport: int, flags: int = SYN, proto: int = TCP
    ) -> list[Frame]:
        """Send from a pod's port, or from the node with port 0. Returns the frames that come out."""
        return self.send_all(port, source, target, [sport], dport, flags, proto)

    def send_all(
        self, port: int, source: Net, target: Net, sports: Iterable[int], dport: int, flags: int = SYN, proto: int = TCP
    ) -> list[Frame]:
        """Send one frame from each of these L4 source ports, likewise."""
        name = PODS[port - 1].interface if port else "br0"
        made = transport(source, target, proto, 0, dport, flags if proto == TCP else 0)
        here = replace(made, eth_src=mac(port) if port else LOCAL_MAC, eth_dst=GATEWAY_MAC, hop_limit=60)
        out = self.bridge.inject(name, *(encode(replace(here, sport=sport)) for sport in sports))
        return [read_frame(name, frame) for name, frames in out.items() for frame in frames]

    def learned(self) -> list[str]:
        """The learned flows of table `affinity`, as ovs-ofctl prints them."""
        dump = self.bridge.switch.ofctl("dump-flows", self.bridge.target, f"table={tables.AFFINITY.number}")
        return [line for line in dump.splitlines() if "actions=" in line]


def backend(address: Net, node: str = "n1") -> Backend:
    return Backend(Endpoint(address, node), 8080)


def served(version: int, *backends: Backend, protocol: Protocol = TCP, **fields: Any) -> ServedPort:
    port = ServicePort("", protocol, 80, 30080)
    service = Service(KEY, (VIP[version],), (port,), (EXTERNAL[version],))._replace(**fields)
    found: list[tuple[Frontend, Claim]] = list(frontends(service, port))
    return ServedPort(service, port, version, tuple((claim.kind, one) for one, claim in found), backends, False)


def frame(port: str, source: Net, target: Net, sport: int, dport: int) -> list[Frame]:
    return [Frame(port, str(source), str(target), sport, dport)]
