"""Where switches route, nobody passes a packet with an address that is not theirs: from ports of pods, from the node,
and from tunnels, whatever policy says. Nobody speaks in another's name in ARP or neighbor discovery either."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.bridge.routing import NetworkMode
from flows.cluster.model import Cluster, Key
from flows.cluster.net import ADDRESS_BITS, Net, parse_address
from flows.interpret import packet as packets
from flows.interpret.conntrack import Datapath
from flows.interpret.packet import Packet
from flows.openflow.port_numbers import LOCAL_32
from flows.pipeline.gateway import GATEWAY_MAC, NODE_HAIRPIN, NODE_PORTS, POD_HAIRPIN, SWITCH
from flows.policy.probe import Endpoint
from tests.flows.render.test_flows_equal_verdict import UNSHRUNK, InterpretedSwitch
from tests.helpers.cluster.generated_clusters import OUTSIDE, ROUTED_NODES, clusters
from tests.helpers.datapath.node_networks import NODES, UPLINK, Routers
from tests.helpers.datapath.two_nodes import TwoNodes, settled

FRAMES = 400
OURS = (*SWITCH, *NODE_HAIRPIN, *POD_HAIRPIN, *NODE_PORTS)  # the switch's own names
STRANGER = parse_address("192.0.2.77")
MACS = (GATEWAY_MAC, (1 << 48) - 1, 0x02FF00000001)
TCP, UDP, GRE = 6, 17, 47


class World:
    """A network, and what each port may say."""

    def __init__(self, cluster: Cluster, mode: NetworkMode, datapath: Datapath, chance: random.Random) -> None:
        self.mode, self.chance = mode, chance
        userspace = datapath is Datapath.USERSPACE
        switches = {node: InterpretedSwitch(datapath, chance) for node in NODES}
        self.network = TwoNodes(cluster, switches, userspace, mode)
        routers = self.network.plan.network
        assert isinstance(routers, Routers)
        self.routers = routers
        pods = [net for nets in self.network.attached.values() for net in nets]
        nodes = [net for node in self.routers.nodes.values() for net in node.addresses]
        ranges = [net for node in self.routers.nodes.values() for net in node.pod_cidrs]
        nobodys = [Net(net.version, net.value + 99, ADDRESS_BITS[net.version]) for net in ranges]
        self.addresses = [*pods, *nodes, *nobodys, *OUTSIDE, *OURS, parse_address("0.0.0.0"), parse_address("::")]

    def frames(self, number: int) -> Iterator[tuple[str, int, Packet]]:
        """Random frames, each with the node and the port that it comes to."""
        chance = self.chance
        for count in range(number):
            node = chance.choice(NODES)
            port = chance.choice(sorted(self.network.plan.ports(node)))
            if self.mode is NetworkMode.OVERLAY and chance.random() < 0.3:
                port = UPLINK
            source = chance.choice(self.addresses)
            target = chance.choice([net for net in self.addresses if net.version == source.version])
            packet = packets.transport(source, target, chance.choice((TCP, UDP, GRE)), 2000 + count, 80, packets.SYN)
            macs = (self.mac(node, port), *self.routers.macs.values())
            own = macs[0] if chance.random() < 0.7 else chance.choice(macs)
            gateway = GATEWAY_MAC if chance.random() < 0.7 else chance.choice((*MACS, *macs))
            yield node, port, self.tunneled(node, port, replace(packet, eth_src=own, eth_dst=gateway))

    def tunneled(self, node: str, port: int, packet: Packet) -> Packet:
        """With the tunnel's ends where it comes from a tunnel; mostly it came to the node's own end."""
        if port != UPLINK:
            return packet
        ends = [node.tunnel_end for node in self.routers.nodes.values()]
        said, to = (self.chance.choice((*ends, STRANGER, None)) for _ in range(2))
        own = self.routers.nodes[node].tunnel_end
        return replace(packet, tunnel_from=said, tunnel_to=own if self.chance.random() < 0.7 else to)

    def mac(self, node: str, port: int) -> int:
        """The MAC address of who is at a port."""
        return self.routers.macs[self.network.plan.ports(node).get(port, node)]

    def is_its_own(self, node: str, port: int, packet: Packet) -> bool:
        """Whether a packet may come from a port."""
        source = Net(packet.version, packet.source, ADDRESS_BITS[packet.version])
        owner = self.network.plan.ports(node).get(port)
        if isinstance(owner, Key):
            own = self.network.attached.get(owner, ())
            return source in own and packet.eth_dst == GATEWAY_MAC and packet.eth_src == self.mac(node, port)
        known = self.routers.nodes
        if port == UPLINK:
            if packet.tunnel_to is None or packet.tunnel_to != known[node].tunnel_end:
                return False
            others = (one for one in known.values() if one.name != node and one.tunnel_end == packet.tunnel_from)
            return any(net.contains(source) for one in others for net in one.nets)
        here = {net for key, nets in self.network.attached.items() for net in nets if self.home(key) == node}
        tunneled = known.values() if self.mode is NetworkMode.OVERLAY else [known[node]]
        return source not in here and not any(net.contains(source) for one in tunneled for net in one.pod_cidrs)

    def home(self, key: Key) -> str | None:
        """A pod's node."""
        return self.network.node_of(Endpoint(STRANGER, pod=key))


def worlds(test: object) -> object:
    """Run a test in random worlds."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    ran = settings(max_examples=15, deadline=None, phases=UNSHRUNK, suppress_health_check=checks)(test)
    drawn = given(cluster=clusters(ROUTED_NODES).map(settled), seed=st.integers(0, 1 << 16))(ran)  # type: ignore[arg-type]
    modes = pytest.mark.parametrize("mode", [NetworkMode.ROUTED, NetworkMode.OVERLAY])
    return modes(pytest.mark.parametrize("datapath", Datapath, ids=lambda one: one.value)(drawn))


@worlds
def test_no_packet_passes_with_an_address_of_others(
    cluster: Cluster, seed: int, mode: NetworkMode, datapath: Datapath
) -> None:
    # Without policies nothing else could stop them.
    world = World(replace(cluster, policies={}), mode, datapath, random.Random(seed))
    for node, port, packet in world.frames(FRAMES):
        out = world.network.switches[node].send(port, packet)
        if not world.is_its_own(node, port, packet):
            assert not out, (node, port, packet)
        if port == UPLINK:
            assert UPLINK not in {where for where, _ in out}, "what comes through a tunnel ends here"
        for where, frame in out:
            # And what passes keeps its addresses.
            assert (frame.source, frame.target) == (packet.source, packet.target), (where, frame)


@worlds
def test_nobody_asks_or_answers_for_others(cluster: Cluster, seed: int, mode: NetworkMode, datapath: Datapath) -> None:
    chance = random.Random(seed)
    world = World(cluster, mode, datapath, chance)
    for node, port, spoken in world.frames(FRAMES):
        mac = spoken.eth_src
        link = chance.choice((mac, mac, world.mac(node, port), None))
        if spoken.version == 4:
            said = packets.arp(chance.choice((1, 2)), (mac, spoken.source), (0, spoken.target), spoken.eth_dst)
            said = replace(said, arp_sha=link or mac)
        else:
            kind = chance.choice((packets.NEIGHBOR_SOLICIT, packets.NEIGHBOR_ADVERT, 133, 134, 137))
            said = packets.neighbor(kind, mac, spoken.eth_dst, spoken.source, spoken.target, spoken.target, link)
        said = replace(said, tunnel_from=spoken.tunnel_from, tunnel_to=spoken.tunnel_to)
        out = world.network.switches[node].send(port, said)
        assert {where for where, _ in out} <= {port}, "neighbor messages reach nobody else"
        owner = world.network.plan.ports(node).get(port)
        own = isinstance(owner, Key) and _address(said) in world.network.attached.get(owner, ())
        if not own and port != LOCAL_32:
            assert not out, (node, port, said)
        for _, answer in out:
            assert answer.eth_src == GATEWAY_MAC and answer.eth_dst == mac
            assert GATEWAY_MAC in (answer.arp_sha, answer.nd_link) or answer.nd_link is None


def _address(packet: Packet) -> Net:
    version = packet.version or 4
    return Net(version, packet.source, ADDRESS_BITS[version])
