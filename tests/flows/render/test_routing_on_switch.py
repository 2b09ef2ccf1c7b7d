"""A bridge that routes, frame by frame: what a pod and the node may send, and what comes of it. The real switch and the
interpreter agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from flows.bridge.routing import NetworkMode, RoutedNode, Routing
from flows.bridge.state import Binding, PodBinding
from flows.cluster.model import Key
from flows.cluster.net import Net, parse_address, parse_network
from flows.interpret.frame_encoder import encode
from flows.interpret.interpreter import Interpreter
from flows.interpret.packet import (
    ARP_REPLY,
    ARP_REQUEST,
    NEIGHBOR_ADVERT,
    NEIGHBOR_SOLICIT,
    Packet,
    arp,
    neighbor,
    transport,
)
from flows.openflow import match_fields as oxm
from flows.openflow.flow import Flow
from flows.openflow.port_numbers import LOCAL_32
from flows.pipeline.gateway import GATEWAY_MAC
from flows.pipeline.tables import TABLE_NAMES
from flows.policy.rule import NodePolicy
from flows.render.reference import render
from tests.helpers.ovs.open_vswitch import Bridge, open_vswitch

pytestmark = pytest.mark.switch

NODE, FAR, WORLD = map(parse_address, ("192.0.2.1", "10.244.2.5", "198.51.100.1"))
NODE6, FAR6, WORLD6 = map(parse_address, ("2001:db8::1", "fd02::5", "2001:db8:1::1"))
A = PodBinding(5, "a", Key("x", "a"), 0x020000000005, tuple(map(parse_address, ("10.244.1.5", "fd01::5"))))
B = PodBinding(6, "b", Key("x", "b"), 0x020000000006, tuple(map(parse_address, ("10.244.1.6", "fd01::6"))))
LOCAL_MAC, TUNNEL = 0x020000000001, 2
OWN = RoutedNode("one", NODE, (parse_network("10.244.1.0/24"), parse_network("fd01::/64")), (NODE, NODE6))
OTHER = RoutedNode("two", parse_address("192.0.2.2"), (parse_network("10.244.2.0/24"), parse_network("fd02::/64")))
NAMES = {LOCAL_32: "br-r", 5: "a", 6: "b", TUNNEL: "tunnel"}


def flows() -> list[Flow]:
    routing = Routing(NetworkMode.OVERLAY, "one", (OWN, OTHER))
    return render(Binding(OWN.addresses, LOCAL_MAC, None, (A, B), True, None, routing, TUNNEL), NodePolicy({}, ()))


@pytest.fixture(scope="module")
def bridge() -> Iterator[Bridge]:
    with open_vswitch() as switch:
        made = switch.add_bridge("br-r")
        made.add_ports({"a": 5, "b": 6, "tunnel": TUNNEL})
        made.install(flows())
        yield made


def udp(source: Net, target: Net, eth_src: int, eth_dst: int = GATEWAY_MAC, hop_limit: int = 0) -> Packet:
    packet = transport(source, target, oxm.IP_PROTO_UDP, 4000, 53)
    return replace(packet, eth_src=eth_src, eth_dst=eth_dst, hop_limit=hop_limit)


def passed(bridge: Bridge, in_port: int, packet: Packet) -> dict[str, list[bytes]]:
    """What comes out, at the real switch and by the interpreter alike."""
    out = bridge.inject(NAMES[in_port], encode(packet))
    model = Interpreter(flows(), tables=TABLE_NAMES).receive(in_port, packet)
    assert {NAMES[port]: [encode(one)] for port, one in model.outputs} == out, model.reasons
    return out


@pytest.mark.parametrize("family", [0, 1])
def test_packets_get_the_macs_of_their_next_hop(bridge: Bridge, family: int) -> None:
    own, other = A.addresses[family], B.addresses[family]
    sent = udp(own, other, 0x020000000005, hop_limit=30)
    arrives = encode(replace(sent, eth_src=GATEWAY_MAC, eth_dst=0x020000000006, hop_limit=29))
    assert passed(bridge, 5, sent) == {"b": [arrives]}
    far = udp(own, (FAR, FAR6)[family], 0x020000000005, hop_limit=30)
    tunneled = encode(replace(far, eth_src=GATEWAY_MAC, hop_limit=29))
    assert passed(bridge, 5, far) == {"tunnel": [tunneled]}
    out = udp(own, (WORLD, WORLD6)[family], 0x020000000005, hop_limit=30)
    assert passed(bridge, 5, out) == {"br-r": [encode(replace(out, eth_src=GATEWAY_MAC, eth_dst=LOCAL_MAC))]}
    home = udp((NODE, NODE6)[family], own, LOCAL_MAC, hop_limit=30)
    assert passed(bridge, LOCAL_32, home) == {"a": [encode(replace(home, eth_src=GATEWAY_MAC, eth_dst=A.mac or 0))]}


@pytest.mark.parametrize("family", [0, 1])
def test_a_packet_without_a_hop_left_goes_to_the_node(bridge: Bridge, family: int) -> None:
    for target in (B.addresses[family], (FAR, FAR6)[family]):
        sent = udp(A.addresses[family], target, 0x020000000005, hop_limit=1)
        expired = encode(replace(sent, eth_src=GATEWAY_MAC, eth_dst=LOCAL_MAC))
        assert passed(bridge, 5, sent) == {"br-r": [expired]}


@pytest.mark.parametrize("family", [0, 1])
def test_what_nobody_may_send_is_dropped(bridge: Bridge, family: int) -> None:
    a, b, far, world = A.addresses[family], B.addresses[family], (FAR, FAR6)[family], (WORLD, WORLD6)[family]
    nobody = Net(a.version, a.value + 0x40, a.prefix)
    for port, packet in (
        (5, udp(b, far, 0x020000000005)),  # another pod's address
        (5, udp(far, b, 0x020000000005)),  # another node's pod's
        (5, udp(a, b, 0x020000000005, 0x020000000006)),  # past the gateway
        (5, udp(a, nobody, 0x020000000005)),  # to an address of the node's range that no pod has
        (LOCAL_32, udp(far, a, LOCAL_MAC)),  # another node's pod outside the tunnel
        (LOCAL_32, udp(nobody, a, LOCAL_MAC)),  # a pod of this node that there is not
        (LOCAL_32, udp(world, world, LOCAL_MAC)),  # back to the node
        (TUNNEL, udp(far, a, GATEWAY_MAC)),  # through the tunnel port, but not from the other node's tunnel end
    ):
        assert passed(bridge, port, packet) == {}


def test_the_gateway_answers_arp(bridge: Bridge) -> None:
    mac, own = 0x020000000005, A.addresses[0].value
    asked = parse_address("10.244.1.1").value
    answer = replace(arp(ARP_REPLY, (GATEWAY_MAC, asked), (mac, own)), arp_tha=mac)
    assert passed(bridge, 5, arp(ARP_REQUEST, (mac, own), (0, asked))) == {"a": [encode(answer)]}
    # Nobody answers a question about the asker's own address, nor one in another's name.
    assert passed(bridge, 5, arp(ARP_REQUEST, (mac, own), (0, own))) == {}
    assert passed(bridge, 5, arp(ARP_REQUEST, (mac, B.addresses[0].value), (0, asked))) == {}
    assert passed(bridge, TUNNEL, arp(ARP_REQUEST, (mac, own), (0, asked))) == {}


def test_the_gateway_answers_solicitations(bridge: Bridge) -> None:
    mac, own, asked = 0x020000000005, A.addresses[1].value, parse_address("fd01::1").value
    group = 0x3333FF000001, (0xFF02 << 112) | 0x1FF000001
    for link in (mac, None):
        question = neighbor(NEIGHBOR_SOLICIT, mac, group[0], own, group[1], asked, mac)
        advertised = neighbor(NEIGHBOR_ADVERT, GATEWAY_MAC, mac, asked, own, asked, link and GATEWAY_MAC)
        answer = replace(advertised, nd_flags=0xE0000000)
        assert passed(bridge, 5, replace(question, nd_link=link)) == {"a": [encode(answer)]}
    assert passed(bridge, 5, neighbor(NEIGHBOR_SOLICIT, mac, group[0], 0, group[1], own, None)) == {}
