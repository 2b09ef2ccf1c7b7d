"""Every kind of frame that a pod may make up, where switches route: what policy does not allow arrives nowhere, and
what says that it comes from somebody else neither.

The table of kinds of the flat network, by destinations: the same node, the other node, both nodes themselves, their
gateways, and outside. Real packets and rendered flows; see tests/helpers/lab/overlay.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from itertools import product

import pytest

from flows.bridge.routing import NetworkMode
from flows.cluster.model import Direction, IPBlock, Key, Operator, Peer, Policy, Requirement, Rule, Selector
from flows.cluster.net import parse_address, parse_network
from flows.interpret.frame_encoder import encode
from flows.interpret.packet import transport
from flows.pipeline.gateway import GATEWAY_MAC, SWITCH
from tests.helpers.lab.kinds_of_frames import EVERYBODY, Ends, Made, ether, ipv4, ipv6, layer_2, layer_3, pieces, udp
from tests.helpers.lab.overlay import Overlay, ip, listen, overlay
from tests.helpers.lab.raw_frames import Listener, number, send_from
from tests.helpers.waiting import until

pytestmark = [pytest.mark.lab, pytest.mark.slow]

SENDER = "x/a"
OUTSIDE = {4: "198.51.100.2", 6: "2001:db8:100::2"}
BATCH = 25
# What stands before a frame in Geneve and in VXLAN (RFC 8926, section 3.4; RFC 7348, section 5), by port.
TUNNELS = {6081: struct.pack("!BBHI", 0, 0, 0x6558, 0), 4789: struct.pack("!II", 8 << 24, 0)}
NOTHING = Policy(Key("x", "nothing"), Selector(()), isolates=frozenset(Direction))
# What the other node's pod hears from the first node shows that everything before it has come to its end.
FENCE = Policy(
    Key("x", "fence"),
    Selector((Requirement("name", Operator.IN, ("c",)),)),
    isolates=frozenset({Direction.INGRESS}),
    ingress=(Rule((Peer(ip_block=IPBlock(parse_network("192.0.2.1/32"))),)),),
)


@pytest.fixture(scope="module", params=[NetworkMode.OVERLAY, NetworkMode.ROUTED])
def net(request: pytest.FixtureRequest) -> Iterator[Overlay]:
    with overlay(mode=request.param) as made:
        for node in made.nodes.values():
            # Outside is behind a router that is not there: what leaves is heard on the wire.
            _outside(made, node.name)
        yield made


def _outside(net: Overlay, name: str) -> None:
    node = net.nodes[name]
    other = 3 - node.number
    for family, hop in ((4, f"192.0.2.{other}"), (6, f"2001:db8::{other}")):
        ip(node.netns, f"-{family}", "route", "add", "default", "via", hop)


@pytest.fixture
def ears(net: Overlay) -> Iterator[Listener]:
    places = {str(pod.key): (pod.netns, "eth0") for node in net.nodes.values() for pod in node.pods.values()}
    del places[SENDER]
    for node in net.nodes.values():
        places[node.name] = (node.netns, "br-int")
        places[f"wire of {node.name}"] = (node.netns, f"ul{node.number}")
    with Listener(places) as found:
        yield found


def addresses(net: Overlay) -> dict[str, dict[int, str]]:
    """Whoever a frame may be sent to, by name."""
    found = {str(pod.key): pod.addresses for node in net.nodes.values() for pod in node.pods.values()}
    found |= {node.name: node.addresses for node in net.nodes.values()}
    for n in (1, 2):
        found[f"gateway {n}"] = {4: f"10.244.{n}.1", 6: f"fd00:244:{n}::1"}
    return found | {"outside": OUTSIDE}


def _mac_of_node(net: Overlay) -> str:
    return net.nodes["node-1"].ovs.vsctl("get", "Interface", "br-int", "mac_in_use").strip().strip('"')


def own_mac(net: Overlay) -> int:
    return number(net.nodes["node-1"].pods[Key("x", "a")].mac)


def emit(net: Overlay, ears: Listener, frames: Iterable[bytes]) -> None:
    """Send frames as x/a, and return when they have come to their end: what the same port and then the same node send
    after them has arrived, each at the next place on the way."""
    pod = net.nodes["node-1"].pods[Key("x", "a")]
    whole = list(frames)
    for start in range(0, len(whole), BATCH):
        send_from(pod.netns, "eth0", whole[start : start + BATCH])
        _fence(net, ears)


_chance = random.Random(23)


def _fence(net: Overlay, ears: Listener) -> None:
    here, there = net.nodes["node-1"], net.nodes["node-2"].pods[Key("x", "c")]
    pod = here.pods[Key("x", "a")]
    mark = _chance.randbytes(8)
    to_node = Ends(own_mac(net), GATEWAY_MAC, (number(pod.addresses[4]), number(here.addresses[4])), (0, 0))

    def came() -> bool:
        send_from(pod.netns, "eth0", [ether(to_node, 0x0800, ipv4(to_node, 17, udp(9, 9, mark)))])
        return _soon(lambda: "node-1" in ears.heard(mark))

    assert any(came() for _ in range(20)), "the node did not hear its own pod"
    after = _chance.randbytes(8)
    with closing(listen(here.netns, 4, "0.0.0.0", 0)) as sender:

        def followed() -> bool:
            with suppress(OSError):
                sender.sendto(after, (there.addresses[4], 9))
            return _soon(lambda: str(there.key) in ears.heard(after))

        assert any(followed() for _ in range(20)), "a pod of the other node did not hear this one"


def _soon(found: Callable[[], bool]) -> bool:
    with suppress(AssertionError):
        return until(found, seconds=1)
    return False


def kinds(net: Overlay, receivers: Iterable[str]) -> list[Made]:
    """Every kind to each of these, by the gateway's MAC address and by the receiver's own."""
    chance, own, known = random.Random(11), addresses(net)[SENDER], addresses(net)
    found: list[Made] = []
    for receiver in receivers:
        four, six = ((number(own[v]), number(known[receiver][v])) for v in (4, 6))
        ports = {str(pod.key): pod.mac for node in net.nodes.values() for pod in node.pods.values()}
        macs = [GATEWAY_MAC, EVERYBODY, number(_mac_of_node(net))]
        macs += [number(ports[receiver])] if receiver in ports else []
        for to in macs:
            mark = chance.randbytes(8)
            ends = Ends(own_mac(net), to, four, six)
            for make in (layer_2, layer_3, partial(pieces, size=1000)):
                found += [Made(f"{what} to {receiver} by {to:012x}", frame, mark) for what, frame in make(ends, mark)]
    return found


def test_nothing_arrives_of_any_kind(net: Overlay, ears: Listener) -> None:
    """While nothing is allowed to or from anybody, what a pod makes up reaches nobody but its own node."""
    try:
        net.policies = (NOTHING, FENCE)
        net.install()
        made = kinds(net, [name for name in addresses(net) if name not in (SENDER, "node-1")])
        assert len(made) > 3000
        emit(net, ears, [one.frame for one in made])
        arrived = {(one.what, place) for one in made for place in set(ears.heard(one.marker))}
        assert arrived == set()
    finally:
        net.policies = ()
        net.install()


def _forged(net: Overlay) -> Iterator[Made]:
    chance, known = random.Random(5), addresses(net)
    own = known[SENDER]
    sources = {name: found for name, found in known.items() if name != SENDER}
    sources["nobody here"] = {4: "10.244.1.200", 6: "fd00:244:1::200"}
    sources["nobody there"] = {4: "10.244.2.200", 6: "fd00:244:2::200"}
    sources["the switch"] = {4: str(SWITCH[0]), 6: str(SWITCH[1])}
    sources["loopback"] = {4: "127.0.0.1", 6: "::1"}
    sources["a group"] = {4: "224.0.0.1", 6: "ff02::1"}
    sources["nothing"] = {4: "0.0.0.0", 6: "::"}
    sources["everybody"] = {4: "255.255.255.255", 6: f"::ffff:{own[4]}"}
    for name, source in sources.items():
        for target in ("x/b", "x/c", "node-1", "node-2", "outside"):
            mark = chance.randbytes(8)
            four, six = ((number(source[v]), number(known[target][v])) for v in (4, 6))
            ends = Ends(own_mac(net), GATEWAY_MAC, four, six)
            what = f"from {name} to {target}"
            yield Made(f"IPv4 {what}", ether(ends, 0x0800, ipv4(ends, 17, udp(9, 9, mark))), mark)
            yield Made(f"IPv6 {what}", ether(ends, 0x86DD, ipv6(ends, 17, udp(9, 9, mark))), mark)
            other = ends._replace(eth_src=number("0a:58:00:00:01:01"))
            yield Made(f"by x/b's MAC {what}", ether(other, 0x0800, ipv4(other, 17, udp(9, 9, mark))), mark)


def test_nothing_arrives_from_others(net: Overlay, ears: Listener) -> None:
    """With no policy at all, neither the sender's own node nor anybody else hears what is from another's address."""
    made = list(_forged(net))
    emit(net, ears, [one.frame for one in made])
    assert {(one.what, place) for one in made for place in set(ears.heard(one.marker))} == set()


def _tunneled(net: Overlay) -> Iterator[Made]:
    """Packets of other pods, and of nodes, as they are in a tunnel, to whoever may have an end of one."""
    chance, known = random.Random(6), addresses(net)
    for to in ("node-1", "node-2", "gateway 1", "gateway 2", "x/b", "x/c", "outside"):
        for source, target in (("x/b", "x/c"), ("x/c", "x/b"), ("node-2", "x/b"), ("node-1", "x/c"), ("x/d", "node-1")):
            for outer, family, (port, head) in product((4, 6), (4, 6), TUNNELS.items()):
                mark = chance.randbytes(8)
                first, last = (parse_address(known[one][family]) for one in (source, target))
                inner = replace(transport(first, last, 17, 9, 9), eth_src=GATEWAY_MAC, eth_dst=GATEWAY_MAC)
                frame = head + encode(replace(inner, marker=int.from_bytes(mark, "big")))
                four, six = ((number(known[SENDER][v]), number(known[to][v])) for v in (4, 6))
                ends = Ends(own_mac(net), GATEWAY_MAC, four, six)
                whole = ipv4(ends, 17, udp(9, port, frame)) if outer == 4 else ipv6(ends, 17, udp(9, port, frame))
                what = f"IPv{family} from {source} to {target} in a tunnel to {to}, port {port} of IPv{outer}"
                yield Made(what, ether(ends, 0x0800 if outer == 4 else 0x86DD, whole), mark)


def test_no_tunnel_of_a_pods_making_is_opened(net: Overlay, ears: Listener) -> None:
    """The outer packet may arrive, for policy allows it; the inner one arrives nowhere as a packet of its own."""
    made = list(_tunneled(net))
    emit(net, ears, [one.frame for one in made])
    for one in made:
        for place in set(ears.heard(one.marker)):
            frames = [frame for frame in ears.frames(place) if one.marker in frame]
            assert all(len(frame) >= len(one.frame) for frame in frames), (one.what, place)


def test_the_listener_hears_what_is_allowed(net: Overlay, ears: Listener) -> None:
    """Without that the tests above show nothing."""
    known = addresses(net)
    for target in ("x/b", "x/c", "node-1", "node-2", "outside"):
        mark = _chance.randbytes(8)
        four, six = ((number(known[SENDER][v]), number(known[target][v])) for v in (4, 6))
        ends = Ends(own_mac(net), GATEWAY_MAC, four, six)
        emit(net, ears, [ether(ends, 0x0800, ipv4(ends, 17, udp(9, 9, mark)))])
        assert ears.heard(mark), target
