"""Two nodes' switches, joined as the mode of the network has it, with the pods of a cluster on their ports, and packets
between all ends.

Whether the switches are interpreters or real ones does not matter here. What should pass is asked of `verdict` by the
tests; this module only knows where things are, and `node_networks` what is between the nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol

from flows.bridge.binding import read_bridge
from flows.bridge.routing import NetworkMode
from flows.bridge.state import Binding, BridgeState, InterfaceState
from flows.cluster.model import Cluster, Key, Pod
from flows.cluster.net import Net
from flows.interpret import packet as packets
from flows.interpret.packet import Packet
from flows.openflow.flow import Flow
from flows.openflow.group import Group
from flows.openflow.port_numbers import LOCAL_32
from flows.pipeline.pod_limits import Limit
from flows.policy.probe import Endpoint, Probe, pods_with_address
from flows.policy.reference import compile_policy
from flows.render.reference import render
from tests.helpers.datapath.node_networks import (
    NODES,
    OUTSIDE,
    OUTSIDE_MAC,
    NodeNetwork,
    Received,
    Where,
    node_network,
)
from tests.helpers.datapath.service_flows import with_services

FIRST_POD_PORT = 2
CLIENT_PORTS = 40000  # on from here clients are given theirs


class NodeSwitch(Protocol):
    """One node's switch: ofports have 32 bits."""

    def replace_flows(self, flows: Sequence[Flow], groups: Sequence[Group] = ()) -> None:
        """Put these flows and groups in the place of all others but learned ones."""

    def send(self, in_port: int, packet: Packet) -> list[tuple[int, Packet]]:
        """Let a packet arrive and return what goes out where."""

    def forget_connections(self) -> None:
        """Flush connection tracking."""


def settled(cluster: Cluster) -> Cluster:
    """The cluster with every pod on a node: one that the API has not placed yet runs where its address says."""
    pods = {key: pod if pod.node else pod._replace(node=_node_of(pod)) for key, pod in cluster.pods.items()}
    return replace(cluster, pods=MappingProxyType(pods))


def _node_of(pod: Pod) -> str:
    for net in pod.addresses:
        group = net.value >> 8 & 0xFF if net.version == 4 else net.value >> 96 & 0xFFFF
        if group in (1, 2):
            return NODES[group - 1]
    return NODES[0]


@dataclass(frozen=True, slots=True)
class Placement:
    """Each node's interfaces, the MAC address of each end, and what joins the nodes."""

    interfaces: Mapping[str, tuple[InterfaceState, ...]]
    network: NodeNetwork

    @property
    def macs(self) -> Mapping[Where, int]:
        """The MAC address of each end."""
        return self.network.macs

    def ports(self, node: str) -> dict[int, Where]:
        """The owner of each port of a node's switch, apart from the uplink."""
        found: dict[int, Where] = {LOCAL_32: node}
        for interface in self.interfaces[node]:
            name = interface.external_ids.get("iface-id", "")
            if name and interface.ofport:
                found[interface.ofport] = Key(*name.split("/"))
        return found


def place_pods(cluster: Cluster, mode: NetworkMode = NetworkMode.FLAT) -> Placement:
    """Put every networked pod on a port of its node's bridge. Every fourth port does not tell the pod's MAC address,
    but every one does where switches route."""
    interfaces: dict[str, list[InterfaceState]] = {}
    macs: dict[Where, int] = {OUTSIDE: OUTSIDE_MAC}
    network = node_network(cluster, macs, mode)
    for number, node in enumerate(NODES):
        macs[node] = 0x020000000100 + number
        text = macs[node].to_bytes(6, "big").hex(":")
        local = InterfaceState(f"l{node}", "br-int", 65534, mac_in_use=text)
        interfaces[node] = [local, *(replace(one, uuid=f"{one.uuid}-{node}") for one in network.interfaces())]
    networked = sorted(key for key, pod in cluster.pods.items() if pod.networked)
    for number, key in enumerate(networked):
        macs[key] = 0x020000000001 + number
        ids = {"iface-id": str(key)}
        if number % 4 != 3 or mode is not NetworkMode.FLAT:
            ids["attached-mac"] = macs[key].to_bytes(6, "big").hex(":")
        own = interfaces[cluster.pods[key].node]
        port = FIRST_POD_PORT + len(own)
        own.append(InterfaceState(str(key), f"port{number}", port, external_ids=MappingProxyType(ids)))
    return Placement({node: tuple(found) for node, found in interfaces.items()}, network)


def view(cluster: Cluster, placed: Placement, node: str, userspace: bool, metered: tuple[Limit, ...] = ()) -> Binding:
    """What the product reads from this node's bridge."""
    kind = "netdev" if userspace else "system"
    routing = placed.network.routing(node)
    state = BridgeState(
        node, "br-int", 1, node, node, kind, interfaces=placed.interfaces[node], routing=routing, metered=metered
    )  # fmt: skip
    return read_bridge(state, cluster).binding


class TwoNodes:
    """The cluster's network. `switches` are by node. Where they have meters for `metered`, pods that ask for it are
    audited, which changes nothing for their packets."""

    def __init__(
        self,
        cluster: Cluster,
        switches: Mapping[str, NodeSwitch],
        userspace: bool,
        mode: NetworkMode = NetworkMode.FLAT,
        metered: tuple[Limit, ...] = (),
    ) -> None:
        self.plan = place_pods(cluster, mode)
        self._metered = metered
        self.switches = switches
        self.attached: dict[Key, tuple[Net, ...]] = {}
        self._userspace = userspace
        self._owners = {node: self.plan.ports(node) for node in NODES}
        self.apply(cluster)

    def apply(self, cluster: Cluster) -> None:
        """Render the cluster's policies to both switches; pods stay where they are."""
        self.cluster = cluster
        for node in NODES:
            seen = view(cluster, self.plan, node, self._userspace, self._metered)
            self.attached |= {one.pod: one.addresses for one in seen.pods}
            policy = compile_policy(cluster, [one.pod for one in seen.pods])
            overlay = seen.routing.mode is NetworkMode.OVERLAY
            flows, groups = with_services(render(seen, policy), cluster, node, overlay)
            self.switches[node].replace_flows(flows, groups)

    def decidable(self, probe: Probe) -> bool:
        """False for an address that pods of both nodes claim: there the guards against spoofing come before policy. And
        for ends that are kept apart by their addresses."""
        ends = (probe.source, probe.destination)
        if not self.plan.network.joins(*ends, self.homes(*ends)):
            return False
        return all(len({pod.node for pod in pods_with_address(self.cluster, end.address)}) < 2 for end in ends)

    def reachable(self, end: Endpoint) -> bool:
        """Whether a switch gives this end a port with this address."""
        return end.pod is None or end.address in self.attached.get(end.pod, ())

    def addressed(self, packet: Packet, source: Endpoint, destination: Endpoint) -> Packet:
        """The packet with the MAC addresses that it is sent with."""
        return self.plan.network.addressed(packet, where(source), where(destination))

    def arriving(self, packet: Packet, source: Endpoint, destination: Endpoint) -> Packet:
        """An addressed packet as its destination gets it."""
        return self.plan.network.arriving(packet, source, destination, self.homes(source, destination))

    def homes(self, source: Endpoint, destination: Endpoint) -> tuple[str | None, str | None]:
        """The nodes of two ends."""
        return self.node_of(source), self.node_of(destination)

    def node_of(self, end: Endpoint) -> str | None:
        """The node on whose switch an end is; None for outside."""
        return self.cluster.pods[end.pod].node if end.pod is not None else end.node

    def send(self, source: Endpoint, packet: Packet) -> list[tuple[Where, Packet]]:
        """Let an end send a packet; returns (receiver, packet) pairs. An uplink leads to the other node and outside."""
        home = self.node_of(source)
        port = 0
        if home is not None:
            port = next(port for port, owner in self._owners[home].items() if owner == where(source))
        return self.arrive(home, port, packet)

    def arrive(self, home: str | None, port: int, packet: Packet) -> list[tuple[Where, Packet]]:
        """Let a packet arrive at a port of a node's switch, or come from outside (None)."""
        got: list[tuple[Where, Packet]] = []
        pending = self.plan.network.enter(home, port, packet)
        while pending:
            arriving = pending.pop()
            for out, frame in self.switches[arriving.node].send(arriving.port, arriving.packet):
                owner = self._owners[arriving.node].get(out)
                if isinstance(owner, Key):
                    got.append((owner, replace(frame, tunnel_from=None, tunnel_to=None)))
                    continue
                for one in self.plan.network.onward(arriving.node, out, replace(frame, tunnel_from=None)):
                    if isinstance(one, Received):
                        got.append((one.where, replace(one.packet, tunnel_to=None)))
                    else:
                        pending.append(one)
        return got

    def forget_connections(self) -> None:
        """Flush connection tracking on both nodes."""
        for switch in self.switches.values():
            switch.forget_connections()


def where(end: Endpoint) -> Where:
    """The pod, node or outside that an end is."""
    return end.pod or end.node or OUTSIDE


def first_packet(probe: Probe, number: int) -> Packet:
    """The packet that opens the probed connection, without MACs; `number` sets it apart from all other connections."""
    source, target = probe.source.address, probe.destination.address
    if probe.protocol in packets.ICMP.values():
        return packets.echo(source, target, number)
    sport = CLIENT_PORTS + number
    return packets.transport(
        source, target, probe.protocol, sport + 1000 * (sport == probe.port), probe.port or 0, packets.SYN
    )
