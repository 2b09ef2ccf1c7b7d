"""Policy sees the truth through Services: egress rules the chosen endpoint, ingress rules the real source, and a
changed policy cuts at the next packet. Random worlds on two nodes, packet by packet."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import MappingProxyType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.bridge.routing import NetworkMode
from flows.cluster.model import Cluster, Direction, Key, Policy, Protocol, Service
from flows.cluster.net import ADDRESS_BITS, Net
from flows.interpret import packet as packets
from flows.interpret.conntrack import Datapath
from flows.interpret.packet import ACK, SYN, Packet
from flows.openflow.port_numbers import LOCAL_32
from flows.pipeline.gateway import GATEWAY_MAC, NODE_HAIRPIN, NODE_PORTS, POD_HAIRPIN
from flows.policy.probe import Endpoint, Probe
from flows.policy.verdict import verdict
from flows.render.services import gateway_of
from tests.flows.render.test_flows_equal_verdict import UNSHRUNK, InterpretedSwitch
from tests.helpers.cluster.generated_clusters import ROUTED_NODES, endpoints
from tests.helpers.cluster.generated_services import HOST_PORT, worlds_with_services
from tests.helpers.datapath.node_networks import NODES, OUTSIDE, SERVICE_CIDRS, Routers, Where
from tests.helpers.datapath.two_nodes import TwoNodes, settled, where

CONNECTIONS = 60
HAIRPINS = (*NODE_HAIRPIN, *POD_HAIRPIN)


@dataclass
class Connection:
    """A client's connection to an address of a Service. `client_node` is the node whose switch it enters."""

    client: Endpoint
    client_node: str
    address: Net
    first: Packet
    got: tuple[Where, Packet] | None = None

    def __str__(self) -> str:
        came = self.got and (str(self.got[0]), *_ends(self.got[1]))
        return f"{self.client} at {self.client_node} to {self.address}: {_ends(self.first)}, got by {came}"


class Services:
    """A network in which ends connect to Services."""

    def __init__(self, cluster: Cluster, mode: NetworkMode, datapath: Datapath, chance: random.Random) -> None:
        switches = {node: InterpretedSwitch(datapath, chance) for node in NODES}
        self.network = TwoNodes(cluster, switches, datapath is Datapath.USERSPACE, mode)
        self.chance = chance
        self.mode = mode
        routers = self.network.plan.network
        assert isinstance(routers, Routers)
        self.routers = routers
        self.gateways = {gateway_of(net) for node in routers.nodes.values() for net in node.pod_cidrs}

    def connections(self, number: int) -> Iterator[Connection]:
        """Connections of any end to any address of any Service."""
        chance, cluster = self.chance, self.network.cluster
        ends = [end for end in endpoints(cluster) if end.pod is None or self.reaches(end)]
        services = sorted(one for one in cluster.services.values() if not self.is_chained(one))
        for count in range(number if services else 0):
            service, client = chance.choice(services), chance.choice(ends)
            node = self.network.node_of(client) or chance.choice(NODES)
            found = [
                (net, port) for net, port in self.frontends(service, client) if net.version == client.address.version
            ]
            if not found:
                continue
            address, port = chance.choice(found)
            protocol = service.ports[0].protocol
            flags = SYN if protocol is Protocol.TCP else 0
            first = packets.transport(client.address, address, protocol, 40000 + count, port, flags)
            yield Connection(client, node, address, replace(first, eth_src=self.mac(client, node), eth_dst=GATEWAY_MAC))

    def is_chained(self, service: Service) -> bool:
        """Whether an endpoint is another Service's address: where a packet to it leaves this switch and enters another
        one by the node, it is looked up again, as kube-proxy does, and policy saw the first endpoint."""
        cluster = self.network.cluster
        slices = [one for one in cluster.endpoint_slices.values() if one.key.namespace == service.key.namespace]
        ends = {end.address for one in slices if one.service == service.key.name for end in one.endpoints}
        claimed = {net for one in cluster.services.values() for net in (*one.external_ips, *one.ingress_ips)}
        return not ends.isdisjoint(claimed)

    def frontends(self, service: Service, client: Endpoint) -> list[tuple[Net, int]]:
        """What a client sends to. Nodes turn their own addresses into others where the port is a node port."""
        port = service.ports[0]
        own = (
            NODE_PORTS
            if client.pod is None
            else [net for node in self.routers.nodes.values() for net in node.addresses]
        )
        addresses = (*service.cluster_ips, *service.external_ips, *service.ingress_ips)
        host_ports = [(net, HOST_PORT) for net in own if client.pod is not None]
        return [*((net, port.number) for net in addresses), *((net, port.node_port) for net in own), *host_ports]

    def reaches(self, end: Endpoint) -> bool:
        """Whether a pod has its address, and that of its node's range."""
        node = self.routers.nodes[self.network.node_of(end) or ""]
        return self.network.reachable(end) and any(net.contains(end.address) for net in node.pod_cidrs)

    def mac(self, end: Endpoint, node: str) -> int:
        return self.routers.macs[where(end) if end.pod is not None else node]

    def port(self, node: str, owner: Where) -> int:
        return next((port for port, one in self.network.plan.ports(node).items() if one == owner), LOCAL_32)

    def forward(self, one: Connection, packet: Packet) -> list[tuple[Where, Packet]]:
        """The client sends."""
        return self.network.arrive(one.client_node, self.port(one.client_node, where(one.client)), packet)

    def backward(self, one: Connection, packet: Packet) -> list[tuple[Where, Packet]]:
        """Who got it answers."""
        assert one.got is not None
        who, arrived = one.got
        node = who if isinstance(who, str) else self.network.cluster.pods[who].node
        node = one.client_node if node == OUTSIDE else node
        turned = packets.answer(replace(packet, source=arrived.source, target=arrived.target, sport=arrived.sport,
                                        dport=arrived.dport))  # fmt: skip
        mac = self.routers.macs[who if who != OUTSIDE else node]
        turned = replace(turned, eth_src=mac, eth_dst=GATEWAY_MAC, tunnel_from=None)
        if who == OUTSIDE and _address(turned, turned.target) not in HAIRPINS:
            return self.network.arrive(None, 0, turned)
        return self.network.arrive(node, self.port(node, who), turned)

    def of_policy_local(self, one: Connection) -> tuple[bool, set[tuple[Net, int]]]:
        """Whether a connection goes to another node's port of a Service with the external policy Local, which the
        sender's switch decides, and the addresses and ports of the endpoints that it may then get."""
        node = next((name for name, routed in self.routers.nodes.items() if one.address in routed.addresses), None)
        services = self.network.cluster.services.items()
        key, service = next(((k, s) for k, s in services if s.ports[0].node_port == one.first.dport), (None, None))
        slices = self.network.cluster.endpoint_slices
        if service is None or key is None or not service.external_local or one.client.pod is None:
            return False, set()
        ends = [end for end in slices[key].endpoints if end.address.version == one.address.version]
        anywhere = any(end.ready or (end.serving and end.terminating) for end in ends)
        if self.mode is not NetworkMode.OVERLAY or node in (None, one.client_node) or not anywhere:
            return False, set()
        here = [end for end in ends if end.node == node]
        used = [end for end in here if end.ready] or [end for end in here if end.serving and end.terminating]
        return True, {(end.address, slices[key].ports[0].number) for end in used}

    def allowed(self, one: Connection, who: Where, packet: Packet) -> bool:
        """Whether policy lets the client reach who got a packet, as it got it."""
        target, seen = _address(packet, packet.target), _address(packet, packet.source)
        if any(net.contains(target) for net in (*SERVICE_CIDRS, *NODE_PORTS)):
            return who == one.client_node  # to be refused
        end = (
            Endpoint(target, pod=who) if isinstance(who, Key) else Endpoint(target, node=who if who in NODES else None)
        )
        source = one.client
        if seen in self.gateways:
            assert source.pod is None
            source = Endpoint(seen)
        elif seen in HAIRPINS:
            assert who == where(one.client) or one.client.pod is None
        else:
            assert seen == source.address
        return verdict(self.network.cluster, Probe(source, end, packet.proto, packet.dport)).allowed


def _ends(packet: Packet) -> tuple[str, int, str, int]:
    source, target = _address(packet, packet.source), _address(packet, packet.target)
    return str(source), packet.sport, str(target), packet.dport


def _address(packet: Packet, value: int) -> Net:
    return Net(packet.version, value, ADDRESS_BITS[packet.version])


def deny_all(cluster: Cluster) -> Cluster:
    """The same cluster, where every namespace isolates its pods and allows nothing."""
    names = {key.namespace for key in cluster.pods}
    policies = {Key(name, "deny"): Policy(Key(name, "deny"), isolates=frozenset(Direction)) for name in names}
    return replace(cluster, policies=MappingProxyType(policies))


def play(cluster: Cluster, mode: NetworkMode, datapath: Datapath, seed: int) -> int:
    """Open connections, answer them, cut them; returns how many were answered."""
    world = Services(cluster, mode, datapath, random.Random(seed))
    answered = []
    for one in world.connections(CONNECTIONS):
        got = world.forward(one, one.first)
        assert len(got) <= 1
        for who, packet in got:
            assert world.allowed(one, who, packet), f"{one}: {who} {_ends(packet)}"
            one.got = who, packet
        local, expected = world.of_policy_local(one)
        if local:
            assert {(_address(packet, packet.target), packet.dport) for _, packet in got} <= expected, f"{one}"
        if one.got is None or any(net.contains(_address(got[0][1], got[0][1].target)) for net in SERVICE_CIDRS):
            continue
        back = world.backward(one, one.first)
        # Where a terminating pod of the other node has the client's address as well, the answer may end there.
        shared = sum(one.client.address in pod.addresses for pod in cluster.pods.values()) > 1
        if back:
            assert len(back) == 1
            who, packet = back[0]
            if shared and who != where(one.client):
                continue
            named = packet.source, packet.sport, packet.target, packet.dport
            assert who == where(one.client) or one.client.pod is None, f"{one}: {back}"
            assert named == (one.first.target, one.first.dport, one.first.source, one.first.sport), f"{one}: {back}"
            answered.append(one)
        else:
            outside = one.client.pod is None or one.got[0] == OUTSIDE
            assert outside or shared or mode is NetworkMode.ROUTED, f"{one}: {back}"
    world.network.apply(deny_all(cluster))
    for one in answered:
        assert one.got is not None
        allowed = world.allowed(one, *one.got)
        packet = replace(one.first, flags=one.first.flags and ACK)
        for got in (world.forward(one, packet), world.backward(one, packet)):
            assert bool(got) == allowed, f"{one}: {got}"
    return len(answered)


@pytest.mark.parametrize("mode", [NetworkMode.ROUTED, NetworkMode.OVERLAY])
@pytest.mark.parametrize("datapath", Datapath, ids=lambda one: one.value)
@settings(max_examples=15, deadline=None, phases=UNSHRUNK, suppress_health_check=list(HealthCheck))
@given(cluster=worlds_with_services(ROUTED_NODES).map(settled), seed=st.integers(0, 1 << 16))
def test_policy_sees_the_chosen_endpoint_and_the_real_source(
    datapath: Datapath, mode: NetworkMode, cluster: Cluster, seed: int
) -> None:
    play(cluster, mode, datapath, seed)


def with_sctp(cluster: Cluster) -> Cluster:
    """The same cluster, whose Services are all of SCTP."""
    services = {
        key: one._replace(ports=tuple(port._replace(protocol=Protocol.SCTP) for port in one.ports))
        for key, one in cluster.services.items()
    }
    slices = {
        key: one._replace(ports=tuple(port._replace(protocol=Protocol.SCTP) for port in one.ports))
        for key, one in cluster.endpoint_slices.items()
    }
    return replace(cluster, services=MappingProxyType(services), endpoint_slices=MappingProxyType(slices))


@settings(max_examples=8, deadline=None, phases=UNSHRUNK, suppress_health_check=list(HealthCheck))
@given(
    cluster=worlds_with_services(ROUTED_NODES).map(settled).map(with_sctp),
    mode=st.sampled_from([NetworkMode.ROUTED, NetworkMode.OVERLAY]),
    seed=st.integers(0, 1 << 16),
)
def test_the_same_holds_for_sctp_on_the_kernels_datapath(cluster: Cluster, mode: NetworkMode, seed: int) -> None:
    play(cluster, mode, Datapath.KERNEL, seed)


@settings(max_examples=4, deadline=None, phases=UNSHRUNK, suppress_health_check=list(HealthCheck))
@given(cluster=worlds_with_services(ROUTED_NODES).map(settled).map(with_sctp), seed=st.integers(0, 1 << 16))
def test_the_userspace_datapath_refuses_sctp_to_cluster_ips(cluster: Cluster, seed: int) -> None:
    """Its conntrack ignores SCTP's ports, so no endpoint could be kept for an association."""
    world = Services(cluster, NetworkMode.OVERLAY, Datapath.USERSPACE, random.Random(seed))
    for one in world.connections(CONNECTIONS):
        if not any(net.contains(one.address) for net in (*SERVICE_CIDRS, *NODE_PORTS)):
            continue
        for who, packet in world.forward(one, one.first):
            assert (who, _address(packet, packet.target)) == (one.client_node, one.address)  # to be refused
