"""A client that uses a port again: a connection through a Service with the addresses and ports of an earlier one.

The switch recorded the earlier one with its endpoint. When both ends are through with it, the next one is a new
connection: it works, and is given an endpoint that there is. And a connection that the switch forgot, as in a restart.
Real packets and sockets, on the userspace datapath.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count, product
from pathlib import Path

import pytest

from flows.cluster.model import Endpoint, Key, Protocol, Service, ServicePort
from flows.cluster.net import parse_address, parse_network
from flows.render.flow_set import FlowSet
from flows.render.service_ports import PortNumbers, render_service_port
from flows.services.choice import Backend, choose
from flows.services.frontends import frontends
from flows.services.served import ServedPort
from flows.wire.text import format_group
from tests.helpers.lab.datapath_choice import KERNEL
from tests.helpers.lab.overlay import Overlay, OverlayPod, listen, overlay
from topology.host import netns

pytestmark = pytest.mark.lab

VIP = {4: "10.96.0.5", 6: "fd00:96::5"}
PORT = 80
CLIENT_PORTS = count(20000)  # of tests: an earlier one may have left its port in the state TIME_WAIT
FAMILIES = (4, 6)
RESET_AT_CLOSE = struct.pack("ii", 1, 0)
ENDPOINTS = ("x/b", "x/c")  # on the client's node, and on the other


@pytest.fixture(scope="module")
def net() -> Iterator[Overlay]:
    with overlay() as made:
        made.service_cidrs = (parse_network("10.96.0.0/16"), parse_network("fd00:96::/108"))
        yield made


@pytest.fixture(autouse=True)
def _no_connections(net: Overlay) -> None:
    for node in net.nodes.values():
        node.ovs.appctl("dpctl/flush-conntrack")


def pod(net: Overlay, name: str) -> OverlayPod:
    return next(one for node in net.nodes.values() for one in node.pods.values() if str(one.key) == name)


def serve(net: Overlay, family: int, *endpoints: str) -> None:
    """Give the client's switch the Service with these pods as endpoints."""
    port = ServicePort("", Protocol.TCP, PORT)
    service = Service(Key("x", "web"), (parse_address(VIP[family]),), (port,))
    backends = [
        Backend(Endpoint(parse_address(pod(net, name).addresses[family]), "node-1"), 8080) for name in endpoints
    ]
    claimed = tuple((claim.kind, one) for one, claim in frontends(service, port))
    served = ServedPort(service, port, family, claimed, tuple(backends), False)
    flows = FlowSet()
    choice = choose(service, port, backends, "node-1", "")
    groups = render_service_port(flows, served, choice, PortNumbers(2, 3))
    node = net.nodes["node-1"]
    for group in groups:
        node.ovs.ofctl("--may-create", "mod-group", node.bridge.target, format_group(group))
    net.services["node-1"] = list(flows.flows())
    net.install()


def connect(where: Path, family: int, port: int) -> socket.socket:
    """A connection to the Service from a port, once the kernel is through with its earlier one."""
    for _ in range(50):
        try:
            return connect_once(where, family, port)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            time.sleep(0.1)
    raise AssertionError(f"port {port} is still in use")


def connect_once(where: Path, family: int, port: int, there: tuple[str, int] | None = None) -> socket.socket:
    with netns.inside(where):
        made = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.settimeout(5)
    made.bind(("0.0.0.0" if family == 4 else "::", port))
    made.connect(there or (VIP[family], PORT))
    return made


def reset(one: socket.socket) -> None:
    """Close with a reset."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
    one.close()


def end_with_fin(client: socket.socket, server: socket.socket) -> None:
    """The server closes first, so that the client may use its port again at once."""
    server.close()
    assert client.recv(1) == b""
    client.close()


def end_with_reset_of_client(client: socket.socket, server: socket.socket) -> None:
    reset(client)
    with pytest.raises(ConnectionResetError):
        server.recv(1)
    server.close()


def end_with_reset_of_server(client: socket.socket, server: socket.socket) -> None:
    reset(server)
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    client.close()


def talk(client: socket.socket, server: socket.socket) -> None:
    for here, there in ((client, server), (server, client)):
        here.sendall(b"x")
        assert there.recv(1) == b"x"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("end", [end_with_fin, end_with_reset_of_client, end_with_reset_of_server])
@pytest.mark.parametrize(("first", "second"), [*product(ENDPOINTS, repeat=2)])
def test_a_port_that_is_used_again_reaches_an_endpoint_that_there_is(
    net: Overlay, first: str, second: str, end: object, family: int
) -> None:
    if KERNEL and end is end_with_reset_of_server and first != second:
        pytest.skip("the kernel's conntrack keeps the endpoint for 10 s after a reset of the server (docs/cluster.md)")
    client, port = pod(net, "x/a").netns, next(CLIENT_PORTS)
    for name in (first, second):
        server = pod(net, name)
        serve(net, family, name)
        with closing(listen(server.netns, family, server.addresses[family], 8080, socket.SOCK_STREAM)) as listening:
            listening.settimeout(5)
            here = connect(client, family, port)
            # To the same endpoint the userspace datapath may give it another source port: it keeps the earlier reply
            # tuple for a while.
            there, (source, *_) = listening.accept()
            there.settimeout(5)
            assert source == pod(net, "x/a").addresses[family]
            talk(here, there)
            end(here, there)  # type: ignore[operator]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("direct_first", [True, False])
@pytest.mark.parametrize("name", ENDPOINTS)
def test_a_port_connects_both_directly_and_through_a_service(
    net: Overlay, name: str, direct_first: bool, family: int
) -> None:
    """Both are the same connection to the server, which still remembers the first one when the second one comes."""
    client, server = pod(net, "x/a").netns, pod(net, name)
    serve(net, family, name)
    direct = (server.addresses[family], 8080)
    with closing(listen(server.netns, family, server.addresses[family], 8080, socket.SOCK_STREAM)) as listening:
        listening.settimeout(5)
        for _ in range(4):
            port = next(CLIENT_PORTS)
            for there in (direct, None) if direct_first else (None, direct):
                here = connect_once(client, family, port, there)
                accepted, _ = listening.accept()
                accepted.settimeout(5)
                talk(here, accepted)
                end_with_fin(here, accepted)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("first", ["client", "server"])
@pytest.mark.parametrize("name", ENDPOINTS)
def test_a_connection_outlives_its_entry(net: Overlay, name: str, first: str, family: int) -> None:
    """What the server sends comes untranslated until the client sends; a reset in answer would end the connection."""
    client, server = pod(net, "x/a").netns, pod(net, name)
    serve(net, family, name)
    with closing(listen(server.netns, family, server.addresses[family], 8080, socket.SOCK_STREAM)) as listening:
        listening.settimeout(5)
        here = connect(client, family, 30000 + next(CLIENT_PORTS))  # a client port (docs/semantics.md)
        there, _ = listening.accept()
        with closing(here), closing(there):
            there.settimeout(20)
            here.settimeout(20)
            talk(here, there)
            for node in net.nodes.values():
                node.ovs.appctl("dpctl/flush-conntrack")
            if first == "server":
                there.sendall(b"p")
                time.sleep(0.5)
            here.sendall(b"x")
            assert there.recv(1) == b"x"
            if first == "server":
                assert here.recv(1) == b"p"
            talk(here, there)
