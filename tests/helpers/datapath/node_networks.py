"""How two nodes' switches are joined, for `two_nodes`: by a link to their uplinks, or by nodes that route, with tunnels
or without.

A network says where a packet enters, where what a switch sends arrives, and what of a packet differs then. In the
routed ones each node has a network stack: it takes what is for its own addresses, and forwards the rest. It takes no
hop, so that the hops that are missing are those that switches took.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from flows.bridge.node_claims import NodeClaims
from flows.bridge.routing import FLAT, TUNNEL_INTERFACE, NetworkMode, RoutedNode, Routing
from flows.bridge.state import InterfaceState
from flows.cluster.model import Cluster, Key
from flows.cluster.net import Net, parse_network
from flows.interpret.packet import Packet
from flows.openflow.port_numbers import LOCAL_32
from flows.pipeline.gateway import GATEWAY_MAC, NODE_PORTS
from flows.policy.probe import Endpoint

UPLINK = 1  # or, in mode overlay, the port of all tunnels
OUTSIDE_MAC = 0x02FF00000001
OUTSIDE = "outside"
Where = Key | str  # a pod, a node's name, or OUTSIDE
NODES = ("one", "two")
SERVICE_CIDRS = (parse_network("10.96.0.0/16"), parse_network("fd00:96::/112"))


@dataclass(frozen=True, slots=True)
class Arrival:
    """A packet that comes to a port of a node's switch."""

    node: str
    port: int
    packet: Packet


@dataclass(frozen=True, slots=True)
class Received:
    """A packet that nothing passes on: who got it."""

    where: Where
    packet: Packet


class NodeNetwork(Protocol):
    """What joins the switches. `macs` are of all ends."""

    macs: Mapping[Where, int]

    def interfaces(self) -> list[InterfaceState]:
        """What a bridge has beside the ports of pods and its LOCAL port."""

    def routing(self, node: str) -> Routing:
        """What a node's bridge knows of the cluster."""

    def addressed(self, packet: Packet, source: Where, target: Where) -> Packet:
        """The packet with the MAC addresses that its source sends it with."""

    def enter(self, home: str | None, port: int, packet: Packet) -> list[Arrival]:
        """Where a packet comes to: that of an end at a port of node `home`, or one from outside (None)."""

    def onward(self, node: str, out: int, packet: Packet) -> list[Arrival | Received]:
        """Where a packet that a switch sent to its uplink, tunnel or LOCAL port arrives."""

    def joins(self, source: Endpoint, target: Endpoint, homes: tuple[str | None, str | None]) -> bool:
        """False where addresses keep two ends apart, whatever policy says; their nodes are `homes`."""

    def arriving(
        self, packet: Packet, source: Endpoint, target: Endpoint, homes: tuple[str | None, str | None]
    ) -> Packet:
        """An addressed packet as its target gets it."""


@dataclass
class Link:
    """Mode flat: a link joins the uplinks and leads outside."""

    macs: Mapping[Where, int]

    def interfaces(self) -> list[InterfaceState]:
        return [InterfaceState("uplink", "uplink", UPLINK, external_ids={"headgate-role": "uplink"})]

    def routing(self, node: str) -> Routing:
        return FLAT

    def addressed(self, packet: Packet, source: Where, target: Where) -> Packet:
        return replace(packet, eth_src=self.macs[source], eth_dst=self.macs[target])

    def enter(self, home: str | None, port: int, packet: Packet) -> list[Arrival]:
        if home is None:
            return [Arrival(node, UPLINK, packet) for node in NODES]
        return [Arrival(home, port, packet)]

    def onward(self, node: str, out: int, packet: Packet) -> list[Arrival | Received]:
        if out == LOCAL_32:
            return [Received(node, packet)]
        found: list[Arrival | Received] = [Arrival(other, UPLINK, packet) for other in NODES if other != node]
        return [*found, Received(OUTSIDE, packet)] if packet.eth_dst == OUTSIDE_MAC else found

    def joins(self, source: Endpoint, target: Endpoint, homes: tuple[str | None, str | None]) -> bool:
        return True

    def arriving(
        self, packet: Packet, source: Endpoint, target: Endpoint, homes: tuple[str | None, str | None]
    ) -> Packet:
        return packet


class Routers:
    """Modes routed and overlay: `nodes` as the claims of the cluster's Node objects have them."""

    def __init__(self, cluster: Cluster, macs: Mapping[Where, int], mode: NetworkMode) -> None:
        self.macs = macs
        self._mode = mode
        claims = NodeClaims(mode)
        for node in cluster.nodes.values():
            claims.put(node)
        self.nodes = {one.name: one for one in claims.routed()}

    def interfaces(self) -> list[InterfaceState]:
        return [InterfaceState("tunnel", TUNNEL_INTERFACE, UPLINK)] if self._mode is NetworkMode.OVERLAY else []

    def routing(self, node: str) -> Routing:
        return Routing(self._mode, node, tuple(sorted(self.nodes.values())), SERVICE_CIDRS)

    def addressed(self, packet: Packet, source: Where, target: Where) -> Packet:
        return replace(packet, eth_src=self.macs[source], eth_dst=GATEWAY_MAC)

    def enter(self, home: str | None, port: int, packet: Packet) -> list[Arrival]:
        if home is not None:
            owner = self.owner(packet)
            # Between nodes, and between a node and what is outside, switches have no part.
            if port != LOCAL_32 or owner is None or owner.name == home or self._mode is NetworkMode.OVERLAY:
                return [Arrival(home, port, packet)]
        return self._route(packet)

    def onward(self, node: str, out: int, packet: Packet) -> list[Arrival | Received]:
        if out == UPLINK:
            return [*self._through_tunnel(node, packet)]
        owner = self.owner(packet)
        if any(net.contains(_target(packet)) for net in (*SERVICE_CIDRS, *NODE_PORTS)):
            return [Received(node, packet)]  # the node's packet filter refuses it
        if owner is None:
            return [Received(OUTSIDE, packet)]
        address = _target(packet)
        if address in owner.addresses:
            return [Received(owner.name, packet)]
        return [*self._route(packet)] if owner.name != node else [Received(node, packet)]

    def _through_tunnel(self, node: str, packet: Packet) -> list[Arrival]:
        own = self.nodes[node].tunnel_end
        found = [one.name for one in self.nodes.values() if one.tunnel_end == packet.tunnel_to]
        return [Arrival(name, UPLINK, replace(packet, tunnel_from=own)) for name in found]

    def _route(self, packet: Packet) -> list[Arrival]:
        """From the network between the nodes to the node that the packet is for, which hands it to its switch."""
        owner = self.owner(packet)
        if owner is None:
            return []
        return [Arrival(owner.name, LOCAL_32, self.addressed(packet, owner.name, owner.name))]

    def owner(self, packet: Packet) -> RoutedNode | None:
        """The node that a packet's target is reached through."""
        address = _target(packet)
        return next((one for one in self.nodes.values() if any(net.contains(address) for net in one.nets)), None)

    def joins(self, source: Endpoint, target: Endpoint, homes: tuple[str | None, str | None]) -> bool:
        """Beyond its switch a pod is reached only by an address of its node's range."""
        pods = [(end, home) for end, home in zip((source, target), homes, strict=True) if end.pod is not None]
        if homes[0] == homes[1] and len(pods) == 2:
            return True
        return all(any(net.contains(end.address) for net in self.nodes[home or ""].pod_cidrs) for end, home in pods)

    def arriving(
        self, packet: Packet, source: Endpoint, target: Endpoint, homes: tuple[str | None, str | None]
    ) -> Packet:
        """With the MAC address of the last next hop, and one hop less where a switch routed for a pod."""
        last: Where = target.pod or homes[1] or OUTSIDE
        if target.pod is None and (homes[1] is None or self._mode is NetworkMode.ROUTED):
            last = homes[0] or OUTSIDE  # the stack of the pod's own node sends it on
        here = homes[0] == homes[1]
        routed = target.pod is not None if here else homes[1] is not None and self._mode is NetworkMode.OVERLAY
        hops = packet.hops - 1 if source.pod is not None and routed else packet.hop_limit
        return replace(packet, eth_src=GATEWAY_MAC, eth_dst=self.macs[last], hop_limit=hops)


def _target(packet: Packet) -> Net:
    return Net(packet.version, packet.target, 32 if packet.version == 4 else 128)


def node_network(cluster: Cluster, macs: Mapping[Where, int], mode: NetworkMode) -> NodeNetwork:
    """The network of a mode."""
    return Link(macs) if mode is NetworkMode.FLAT else Routers(cluster, macs, mode)
