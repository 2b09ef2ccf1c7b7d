"""Two nodes whose switches route: everything reaches everything through either encapsulation and underlay, and policy
applies at both ends.

Real packets, and real switches with rendered flows; see tests/helpers/lab/overlay.
"""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from itertools import count, permutations
from pathlib import Path

import pytest

from controller.openflow.live_copies import Copy, LiveCopies, into_tables
from flows.bridge.routing import NetworkMode
from flows.cluster.model import Direction, IPBlock, Key, Operator, Peer, Policy, Requirement, Rule, Selector
from flows.cluster.net import Net, parse_address, parse_network
from flows.interpret.frame_encoder import encode
from flows.interpret.packet import SYN, Packet, transport
from flows.pipeline import tables
from flows.pipeline.gateway import GATEWAY_MAC
from tests.helpers.lab.overlay import MTU, UNDERLAY_MTU, Overlay, OverlayNode, heard, ip, listen, overlay
from tests.helpers.ovs.openflow_client import client
from tests.helpers.waiting import until
from topology.host import links, netns

pytestmark = pytest.mark.lab

PORTS = count(20000)
FAMILIES = (4, 6)
IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2
IP_RECVTTL, IP_RECVERR, IPV6_RECVERR = 12, 11, 25
IP_MTU, IPV6_MTU_DISCOVER, IPV6_MTU = 14, 23, 24
# Of a host behind node-1: the node's address there and its own, by family.
OUTSIDE = {4: ("198.51.100.1", "198.51.100.2"), 6: ("2001:db8:100::1", "2001:db8:100::2")}
SMALL_MTU = 1300


@pytest.fixture(scope="module")
def net() -> Iterator[Overlay]:
    """Two nodes with Geneve over IPv4. Tests leave it as they found it."""
    with overlay() as made:
        yield made


def ends(net: Overlay) -> dict[str, tuple[Path, dict[int, str]]]:
    """Namespace and addresses of every pod and node, by name."""
    found = {node.name: (node.netns, node.addresses) for node in net.nodes.values()}
    return found | {
        str(pod.key): (pod.netns, pod.addresses) for node in net.nodes.values() for pod in node.pods.values()
    }


def exchange(net: Overlay, source: str, target: str, family: int, tries: int = 3) -> bool:
    """Whether a datagram arrives with its source's address, and its answer too."""
    (here, own), (there, other), port = ends(net)[source], ends(net)[target], next(PORTS)
    everywhere = "0.0.0.0" if family == 4 else "::"
    with (
        closing(listen(there, family, other[family], port)) as server,
        closing(listen(here, family, everywhere, port)) as client,
    ):
        server.settimeout(0.4)
        client.settimeout(0.4)
        came = heard(server, client, (other[family], port), tries=tries)
        return came == (own[family], port) and heard(client, server, came) == (other[family], port)


def _named(pod: str) -> Selector:
    return Selector((Requirement("name", Operator.IN, (pod,)),))


def allow(name: str, *peers: str, direction: Direction = Direction.INGRESS) -> Policy:
    """Isolate pod x/NAME, and allow these pods."""
    rule = (Rule(tuple(Peer(pods=_named(peer)) for peer in peers)),) if peers else ()
    ingress, egress = (rule, ()) if direction is Direction.INGRESS else ((), rule)
    return Policy(Key("x", f"{name}-{direction.name.lower()}"), _named(name), frozenset({direction}), ingress, egress)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_pods_and_nodes_reach_each_other(net: Overlay, family: int) -> None:
    failed = [pair for pair in permutations(ends(net), 2) if not exchange(net, *pair, family)]
    assert not failed


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("source", "target"), [("x/a", "node-2"), ("node-1", "node-2"), ("node-2", "x/a")])
def test_tcp_to_and_from_another_node_passes(net: Overlay, source: str, target: str, family: int) -> None:
    """Conntrack has no record of what passes between a node and the tunnel."""
    (here, _), (there, other) = ends(net)[source], ends(net)[target]
    address = (other[family], next(PORTS))
    with netns.inside(there):
        server = socket.create_server(address, family=socket.AF_INET if family == 4 else socket.AF_INET6)
    with closing(server):
        server.settimeout(10)
        with netns.inside(here):
            client = socket.create_connection(address, timeout=10)
        with closing(client):
            accepted, _ = server.accept()
            with closing(accepted):
                client.sendall(b"question")
                assert accepted.recv(100) == b"question"
                accepted.sendall(b"answer")
                assert client.recv(100) == b"answer"


@pytest.mark.slow
@pytest.mark.parametrize(("encap", "underlay"), [("geneve", 6), ("vxlan", 4), ("vxlan", 6)])
def test_the_same_with_every_encapsulation_and_underlay(encap: str, underlay: int) -> None:
    with overlay(encap, underlay) as made:
        pairs = [(*pair, family) for pair in permutations(ends(made), 2) for family in FAMILIES]
        assert not [pair for pair in pairs if not exchange(made, *pair)]


@pytest.mark.slow
def test_without_an_overlay_other_nodes_are_reached_through_the_node() -> None:
    with overlay(mode=NetworkMode.ROUTED) as made:
        assert all(
            exchange(made, *pair, family) for pair in permutations(("x/a", "x/b", "node-1"), 2) for family in FAMILIES
        )
        assert exchange(made, "x/a", "x/c", 4) and exchange(made, "x/c", "x/a", 6)
        assert exchange(made, "node-2", "x/a", 4) and exchange(made, "x/a", "node-2", 6)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("direction", Direction)
def test_policy_applies_at_both_ends_and_revoking_cuts(net: Overlay, direction: Direction, family: int) -> None:
    inward = direction is Direction.INGRESS
    allowed, denied = [("x/a", "x/c"), ("x/b", "x/c")] if inward else [("x/c", "x/a"), ("x/c", "x/b")]
    (here, own), (there, other) = ends(net)[allowed[0]], ends(net)[allowed[1]]
    try:
        net.policies = (allow("c", "a", direction=direction),)
        net.install()
        assert exchange(net, *allowed, family) and not exchange(net, *denied, family, tries=1)
        # The node reaches its own pods, and probes them, whatever policy says; another node is like any other peer.
        assert exchange(net, "node-2", "x/c", family)
        if inward:
            assert not exchange(net, "node-1", "x/c", family, tries=1)
        with (
            closing(listen(there, family, other[family], next(PORTS))) as server,
            closing(listen(here, family, own[family], next(PORTS))) as client,
        ):
            came = heard(server, client, server.getsockname()[:2])
            assert came is not None
            net.policies = (allow("c", direction=direction),)
            net.install()
            assert heard(server, client, server.getsockname()[:2], b"y", tries=1) is None
            assert heard(client, server, came, b"y", tries=1) is None
    finally:
        net.policies = ()
        net.install()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_packet_is_taken_only_from_its_nodes_tunnel_end(net: Overlay, family: int) -> None:
    known = net.known["node-1"]
    second = net.nodes["node-2"]
    try:
        # What node-2 believes of node-1 is wrong: so to node-2 its packets come from a stranger.
        for wrong in (
            known._replace(tunnel_end=parse_address("192.0.2.77")),
            known._replace(pod_cidrs=(), addresses=()),
        ):
            net.known["node-1"] = wrong
            first = net.nodes.pop("node-1")
            net.install()
            net.nodes = {"node-1": first, "node-2": second}
            for source in ("x/a", "node-1"):
                assert not exchange(net, source, "x/c", family, tries=2)
    finally:
        net.known["node-1"] = known
        net.install()
    assert exchange(net, "x/a", "x/c", family)


# A second address of node-2 that its Node does not name, such as one that moves between machines.
FURTHER = {4: "192.0.2.200", 6: "2001:db8::200"}


def tunneled(packet: Packet) -> bytes:
    """A packet as it is in a Geneve tunnel (RFC 8926, section 3.4)."""
    return struct.pack("!BBHI", 0, 0, 0x6558, 0) + encode(replace(packet, eth_src=GATEWAY_MAC, eth_dst=GATEWAY_MAC))


@contextmanager
def underlay_of(net: Overlay, version: int) -> Iterator[None]:
    """Tunnels over this family, node-1 masquerades, and node-2 has a further address."""
    known, (one, two) = dict(net.known), net.nodes.values()
    further = f"{FURTHER[version]}/{24 if version == 4 else 64}"
    masquerade = "table inet own { chain c { type nat hook postrouting priority 100; oifname br-ul masquerade; }; }"
    with ExitStack() as stack:
        stack.callback(net.install)
        stack.callback(net.known.update, known)
        for number, node in enumerate((one, two), 1):
            net.known[node.name] = known[node.name]._replace(tunnel_end=parse_address(node.addresses[version]))
            with netns.inside(node.netns):
                links.sysctl(f"ipv4.conf.ul{number}.arp_ignore", 8)  # the port is the switch's alone
            ip(node.netns, "neigh", "flush", "dev", "br-ul")
        net.install()
        ip(two.netns, "address", "add", further, "dev", "br-ul", *(["nodad"] if version == 6 else []))
        stack.callback(ip, two.netns, "address", "del", further, "dev", "br-ul")
        nft(one.netns, masquerade)
        stack.callback(nft, one.netns, "delete table inet own")
        yield


def nft(where: Path, text: str) -> None:
    """Run nft(8) in a namespace."""
    with netns.inside(where):
        subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)


@pytest.mark.parametrize("underlay", FAMILIES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_pod_cannot_tunnel_through_its_nodes_masquerading(net: Overlay, family: int, underlay: int) -> None:
    """What a pod sends to an address that no Node names leaves with its node's own, which is a tunnel's end."""
    (pod, _), (node, _), (there, target) = (ends(net)[name] for name in ("x/a", "node-1", "x/c"))
    source, port = ends(net)["x/b"][1][family], next(PORTS)
    with underlay_of(net, underlay), closing(listen(there, family, target[family], port)) as server:
        server.settimeout(0.3)

        def arrives(sender: Path, to: str, tries: int = 3) -> bool:
            forged = transport(parse_address(source), parse_address(target[family]), 17, 999, port)
            with netns.inside(sender):
                made = socket.socket(socket.AF_INET if underlay == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
            with closing(made):
                for _ in range(tries):
                    with suppress(OSError):
                        made.sendto(tunneled(forged), (to, 6081))
                    with suppress(TimeoutError):
                        return bool(server.recvfrom(100)[1][0] == source)
            return False

        assert until(lambda: arrives(node, ends(net)["node-2"][1][underlay]))  # the node itself may
        for to in (FURTHER[underlay], ends(net)["node-2"][1][underlay], ends(net)["node-1"][1][underlay]):
            assert not arrives(pod, to), to
        assert not arrives(node, FURTHER[underlay])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_largest_packets_pass_whole_and_larger_ones_in_fragments(net: Overlay, family: int) -> None:
    (here, _), (there, other), port = ends(net)["x/a"], ends(net)["x/c"], next(PORTS)
    header = 28 if family == 4 else 48
    with (
        closing(listen(there, family, other[family], port)) as server,
        closing(listen(here, family, "0.0.0.0" if family == 4 else "::", port)) as client,
    ):
        if family == 4:
            client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        assert heard(server, client, (other[family], port), b"z" * (MTU - header))
        if family == 4:
            client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, 0)
        assert heard(server, client, (other[family], port), b"z" * 5000)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stream_passes(net: Overlay, family: int) -> None:
    (here, _), (there, other), port = ends(net)["x/b"], ends(net)["x/d"], next(PORTS)
    with closing(listen(there, family, other[family], port, socket.SOCK_STREAM)) as server:
        with netns.inside(here):
            client = socket.create_connection((other[family], port), 5)
        with closing(client), closing(server.accept()[0]) as taken:
            data = bytes(1 << 20)
            taken.settimeout(20)
            client.settimeout(0.2)
            sent = received = 0
            while received < len(data):
                if sent < len(data):
                    with suppress(TimeoutError):
                        sent += client.send(data[sent : sent + 65536])
                received += len(taken.recv(1 << 20))
            assert received == len(data)


@pytest.mark.parametrize(("source", "target"), [("x/a", "x/b"), ("x/a", "x/c"), ("x/a", "node-2")])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_packet_of_a_pod_loses_one_hop(net: Overlay, source: str, target: str, family: int) -> None:
    (here, _), (there, other), port = ends(net)[source], ends(net)[target], next(PORTS)
    level, wanted, limit, kind = (
        (socket.IPPROTO_IP, IP_RECVTTL, socket.IP_TTL, socket.IP_TTL)
        if family == 4
        else (socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, socket.IPV6_UNICAST_HOPS, socket.IPV6_HOPLIMIT)
    )
    with (
        closing(listen(there, family, other[family], port)) as server,
        closing(listen(here, family, "0.0.0.0" if family == 4 else "::", port)) as client,
    ):
        server.setsockopt(level, wanted, 1)
        client.setsockopt(level, limit, 40)
        client.sendto(b"x", (other[family], port))
        _, ancillary, _, _ = server.recvmsg(100, 100)
        hops = [int.from_bytes(data[:4], "little") for _, what, data in ancillary if what == kind]
        assert hops == [39]
        # One hop is not enough: the node says so.
        client.setsockopt(level, IP_RECVERR if family == 4 else IPV6_RECVERR, 1)
        client.setsockopt(level, limit, 1)
        client.sendto(b"x", (other[family], port))
        with pytest.raises(TimeoutError):
            server.recvfrom(100)
        with pytest.raises(OSError, match=r"No route to host|unreachable"):
            client.recvfrom(100)


@pytest.fixture
def outside(net: Overlay) -> Iterator[Path]:
    """A host behind node-1, which sends larger packets than pods take."""
    node, host = net.nodes["node-1"].netns, net.folder / "outside"
    netns.create(host)
    try:
        with netns.inside(host):
            links.quiet_namespace()
        with netns.inside(node):
            links.make_veth("world", "eth0", host, UNDERLAY_MTU)
        ip(node, "link", "set", "world", "up")
        ip(host, "link", "set", "eth0", "up")
        for family, (here, there) in OUTSIDE.items():
            length = 24 if family == 4 else 64
            ip(node, "address", "add", f"{here}/{length}", "dev", "world", "nodad")
            ip(host, "address", "add", f"{there}/{length}", "dev", "eth0", "nodad")
            ip(host, f"-{family}", "route", "add", "default", "via", here)
        yield host
    finally:
        ip(node, "link", "delete", "world")
        netns.remove(host)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("inward", [True, False])
def test_path_mtu_errors_come_back_where_policy_allows_the_connection(
    net: Overlay, outside: Path, family: int, inward: bool
) -> None:
    """The node says what fits: to a pod that sends too much for a link beyond, and to a host that does for a pod."""
    pod, (_, host) = ends(net)["x/a"], OUTSIDE[family]
    sender, receiver = (outside, pod[0]) if inward else (pod[0], outside)
    target, fits = (pod[1][family], MTU) if inward else (host, SMALL_MTU)
    size = (UNDERLAY_MTU if inward else MTU) - (28 if family == 4 else 48)
    block = IPBlock(parse_network(f"{host}/{32 if family == 4 else 128}"))
    rule = (Rule((Peer(ip_block=block),)),)
    isolated = Policy(Key("x", "a"), _named("a"), frozenset(Direction), rule if inward else (), () if inward else rule)
    level, discover, error, option = (
        (socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_RECVERR, IP_MTU)
        if family == 4
        else (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_RECVERR, IPV6_MTU)
    )
    try:
        net.policies = (isolated,)
        net.install()
        if not inward:
            ip(net.nodes["node-1"].netns, "link", "set", "world", "mtu", str(SMALL_MTU))
        port = next(PORTS)
        with (
            closing(listen(receiver, family, target, port)) as server,
            closing(listen(sender, family, "0.0.0.0" if family == 4 else "::", port)) as client,
        ):
            client.setsockopt(level, discover, IP_PMTUDISC_DO)
            client.setsockopt(level, error, 1)
            client.connect((target, port))
            client.send(bytes(size))
            with pytest.raises(OSError, match="Message too long"):
                client.recv(100)
            assert client.getsockopt(level, option) == fits
            header = 28 if family == 4 else 48
            client.send(bytes(fits - header))
            assert len(server.recv(65536)) == fits - header
    finally:
        net.policies = ()
        net.install()


def test_a_node_that_moves_is_reached_at_its_new_end(net: Overlay) -> None:
    known = dict(net.known)
    try:
        for number in (1, 2):
            name = f"node-{number}"
            net.known[name] = known[name]._replace(tunnel_end=parse_address(f"2001:db8::{number}"))
        net.install()
        assert exchange(net, "x/a", "x/c", 4) and exchange(net, "x/c", "x/a", 6)
    finally:
        net.known.update(known)
        net.install()
    assert exchange(net, "x/a", "x/c", 4)


def test_a_node_that_goes_is_not_reached(net: Overlay) -> None:
    known = net.known.pop("node-2")
    try:
        first = net.nodes["node-1"]
        others = {name: net.nodes.pop(name) for name in ("node-2",)}
        net.install()
        net.nodes.update(others)
        assert first.name in net.nodes and not exchange(net, "x/a", "x/c", 4, tries=2)
        assert exchange(net, "x/a", "x/b", 6)
    finally:
        net.known["node-2"] = known
        net.install()
    assert exchange(net, "x/a", "x/c", 4)


def _live(
    node: OverlayNode, frame: bytes, in_port: int, tunnel: tuple[Net, Net] | None, seconds: float = 10.0
) -> Copy | None:
    """What a live probe comes to on one switch (`headgate explain --live`)."""
    awaited = LiveCopies()
    awaited.expect(1, 1, frame)
    with client(node.bridge.target) as switch:
        switch.ask_for_copies()
        switch.send(into_tables(frame, in_port, tunnel))
        message = switch.packet_in(seconds)
        if message is None:
            return None
        assert awaited.packet_in(1, 1, message)
    ((copy,), _) = awaited.received()
    return copy


@pytest.mark.parametrize("family", FAMILIES)
def test_a_live_probe_goes_through_the_tunnel_by_hand(net: Overlay, family: int) -> None:
    one, two = net.nodes.values()
    source, target = next(iter(one.pods.values())), next(iter(two.pods.values()))
    here, there = (parse_address(end.addresses[family]) for end in (source, target))
    packet = transport(here, there, 6, 61_234, 80, SYN)
    frame = encode(replace(packet, eth_src=int(source.mac.replace(":", ""), 16), eth_dst=GATEWAY_MAC))
    ends = [parse_address(node.addresses[net.underlay]) for node in (one, two)]
    assert _live(one, frame, source.ofport, None) == Copy(tables.OUTPUT.number, 1, ends[1])
    found = _live(two, frame, 1, (ends[0], ends[1]))
    assert found is not None and (found.table, found.port) == (tables.OUTPUT.number, target.ofport)
    nobody = parse_address("192.0.2.99")
    assert _live(two, frame, 1, (nobody, ends[1]), 0.5) is None  # from a tunnel that nobody has
    assert _live(two, frame, 1, (ends[0], nobody), 0.5) is None  # to an end that is not ours
