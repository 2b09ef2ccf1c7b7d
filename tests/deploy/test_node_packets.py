"""What the nft table `inet headgate` does to packets, between a client outside, the node, and a pod on the bridge.

The node is set up by deploy/node.sh --cni. A few flows without state stand for the switch's Services.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.host_names import REFUSED_MAC
from node.links import checksums_in_software
from tests.deploy.cni_node import CniNode, made_cni_node, with_controller
from topology.host import links, netns

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CLIENT, NODE_IP, POD, SERVICE = "192.0.2.1", "192.0.2.7", "10.244.1.5", "10.96.0.5"
CLIENT6, NODE_IP6, SERVICE6 = "2001:db8:2::1", "2001:db8:2::7", "fd00:10:96::5"
GATEWAY_MAC, POD_MAC = "0a:48:47:00:00:01", "0a:58:0a:f4:01:05"


class Wired(CniNode):
    """A node with a client at the other end of its uplink and a pod on its bridge."""

    client: Path
    pod: Path
    mac: str

    def wire(self) -> None:
        run = self.machine.run
        self.client, self.pod = self.machine.folder / "client", self.machine.folder / "pod"
        for path in (self.client, self.pod):
            netns.create(path)
        run("ip", "link", "set", "wire", "netns", str(self.client))
        self.inside(
            self.client, f"link set wire up\naddr add {CLIENT}/24 dev wire\naddr add {CLIENT6}/64 dev wire nodad"
        )
        run(
            "ip",
            "link",
            "add",
            "pod0",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "address",
            POD_MAC,
            "netns",
            str(self.pod),
        )
        run("ip", "link", "set", "pod0", "up")
        self.inside(self.pod, f"link set eth0 up\naddr add {POD}/32 dev eth0\nroute add 169.254.1.1 dev eth0")
        self.inside(self.pod, f"route add default via 169.254.1.1\nneigh add 169.254.1.1 lladdr {GATEWAY_MAC} dev eth0")
        with netns.inside(self.pod):
            checksums_in_software("eth0")
        self.machine.vsctl("add-port", "br-int", "pod0")
        self.mac = run("ip", "-o", "link", "show", "dev", "br-int").split("link/ether ")[1].split()[0]

    def inside(self, path: Path, lines: str) -> None:
        with netns.inside(path):
            for line in lines.splitlines():
                subprocess.run(["ip", *line.split()], check=True, timeout=30)

    def flows(self, *flows: str) -> None:
        bridge = f"unix:{self.machine.folder}/br-int.mgmt"
        self.machine.run("ovs-ofctl", "del-flows", bridge)
        for flow in flows:
            self.machine.run("ovs-ofctl", "add-flow", bridge, flow)

    def to_pod(self) -> str:
        return f"mod_dl_src:{GATEWAY_MAC},mod_dl_dst:{POD_MAC},output:pod0"

    def refused(self, same_port: bool = False) -> str:
        """To the node, marked as what it is to refuse."""
        return f"mod_dl_src:{REFUSED_MAC},mod_dl_dst:{self.mac},{'in_port' if same_port else 'LOCAL'}"

    def to_node(self, same_port: bool = False) -> str:
        return f"mod_dl_src:{GATEWAY_MAC},mod_dl_dst:{self.mac},{'in_port' if same_port else 'LOCAL'}"


@pytest.fixture
def node() -> Iterator[Wired]:
    with made_cni_node() as made:
        wired = Wired(made.machine)
        with_controller(wired)
        wired.setup()
        wired.wire()
        try:
            yield wired
        finally:
            netns.remove(wired.client)
            netns.remove(wired.pod)


@contextlib.contextmanager
def listening(place: Path, address: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with netns.inside(place):
        server = socket.socket(family, socket.SOCK_STREAM)
    with server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.settimeout(10)
        server.bind((address, port))
        server.listen()
        yield server


def connect(place: Path, address: str, port: int) -> socket.socket:
    with netns.inside(place):
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    made.settimeout(5)
    made.connect((address, port))
    return made


def seen_source(place: Path, address: str, port: int, server: socket.socket) -> str:
    """The address with which a connection from `place` arrives at the server."""
    with connect(place, address, port):
        made, (source, *_) = server.accept()
        made.close()
        return str(source)


def test_pods_leave_the_cluster_under_the_nodes_address_and_the_node_reaches_them(node: Wired) -> None:
    node.flows(f"in_port=pod0,ip,actions={node.to_node()}", f"in_port=LOCAL,ip,nw_dst={POD},actions={node.to_pod()}")
    with listening(node.client, CLIENT, 8080) as server:
        assert seen_source(node.pod, CLIENT, 8080, server) == NODE_IP
    with listening(node.pod, POD, 8080) as server:
        assert seen_source(node.machine.netns, POD, 8080, server) == NODE_IP
    node.inside(node.client, f"route add {POD} via {NODE_IP}")
    node.setup("--no-masquerade")
    with listening(node.client, CLIENT, 8080) as server:
        assert seen_source(node.pod, CLIENT, 8080, server) == POD


def test_a_node_port_reaches_the_switch_with_the_clients_address(node: Wired) -> None:
    node.flows(
        f"in_port=LOCAL,tcp,nw_dst=169.254.72.4,tp_dst=30080,actions=mod_nw_dst:{POD},mod_tp_dst:8080,{node.to_pod()}",
        f"in_port=pod0,tcp,tp_src=8080,actions=mod_nw_src:169.254.72.4,mod_tp_src:30080,{node.to_node()}",
    )
    with listening(node.pod, POD, 8080) as server:
        assert seen_source(node.client, NODE_IP, 30080, server) == CLIENT
        assert seen_source(node.machine.netns, NODE_IP, 30080, server) == NODE_IP


def test_the_nodes_own_requests_to_node_ports_at_loopback_addresses_reach_the_switch(node: Wired) -> None:
    node.flows(
        f"in_port=LOCAL,tcp,nw_dst=169.254.72.4,tp_dst=30080,actions=mod_nw_dst:{POD},mod_tp_dst:8080,{node.to_pod()}",
        f"in_port=pod0,tcp,tp_src=8080,actions=mod_nw_src:169.254.72.4,mod_tp_src:30080,{node.to_node()}",
    )
    with listening(node.pod, POD, 8080) as server:
        for address in ("127.0.0.1", "127.1.2.3"):
            assert seen_source(node.machine.netns, address, 30080, server) == NODE_IP


def test_a_pod_does_not_reach_what_the_node_offers_to_itself_only(node: Wired) -> None:
    """Loopback addresses are not routed, but on the bridge: there the table alone keeps them from pods."""
    node.flows(f"in_port=pod0,ip,actions={node.to_node()}", f"in_port=LOCAL,ip,nw_dst={POD},actions={node.to_pod()}")
    node.inside(node.pod, "rule add pref 1 from all lookup 77\nrule del pref 0\nroute add default dev eth0 table 77")
    with netns.inside(node.machine.netns):
        own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with netns.inside(node.pod):
        pod = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        links.sysctl("ipv4.conf.eth0.route_localnet", 1)
    with own, pod:
        own.bind(("", 9999))
        own.settimeout(10)
        pod.bind((POD, 0))
        for message, to in ((b"to loopback", "127.0.0.1"), (b"to the node", NODE_IP)):
            node.inside(node.pod, f"neigh replace {to} lladdr {GATEWAY_MAC} dev eth0")
            pod.sendto(message, (to, 9999))
        assert own.recv(100) == b"to the node"
        node.machine.run("nft", "flush chain inet headgate loopback")
        pod.sendto(b"without the table", ("127.0.0.1", 9999))
        assert own.recv(100) == b"without the table"


@pytest.mark.parametrize("address", [NODE_IP, NODE_IP6])
def test_a_node_port_without_endpoints_is_refused_at_once(node: Wired, address: str) -> None:
    four = "169.254.72.4" if address == NODE_IP else "fd00:4847::4"
    field = "ip,nw_dst" if address == NODE_IP else "ipv6,ipv6_dst"
    node.flows(f"in_port=LOCAL,{field}={four},actions={node.refused(same_port=True)}")
    with pytest.raises(ConnectionRefusedError):
        connect(node.client, address, 30081)


def test_a_service_without_endpoints_is_refused_at_once_to_pods_and_to_the_node(node: Wired) -> None:
    hairpin = "169.254.72.2"
    node.flows(
        f"in_port=pod0,ip,nw_dst={SERVICE},actions={node.refused()}",
        f"in_port=LOCAL,ip,nw_dst={POD},actions={node.to_pod()}",
        f"in_port=LOCAL,ip,nw_src={NODE_IP},nw_dst={SERVICE},actions=mod_nw_src:{hairpin},{node.refused(same_port=True)}",
        f"in_port=LOCAL,ip,nw_dst={hairpin},actions=mod_nw_dst:{NODE_IP},{node.to_node(same_port=True)}",
    )
    for place in (node.pod, node.machine.netns):
        with pytest.raises(ConnectionRefusedError):
            connect(place, SERVICE, 80)
    with netns.inside(node.pod):  # the switch's own NAT is what translates an ICMP error for the node
        asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with asking:
        asking.settimeout(5)
        asking.connect((SERVICE, 53))
        asking.send(b"?")
        with pytest.raises(ConnectionRefusedError):
            asking.recv(100)


HAIRPIN = {SERVICE: "169.254.72.2", SERVICE6: "fd00:4847::2"}


def through_a_service(node: Wired, service: str, endpoint: str) -> list[str]:
    """The flows of a switch that sends the node's own connection to an endpoint behind the node, or on it."""
    back, own = node.to_node(same_port=True), NODE_IP if service == SERVICE else NODE_IP6
    kind, source, target = ("tcp", "nw_src", "nw_dst") if service == SERVICE else ("tcp6", "ipv6_src", "ipv6_dst")

    def rewritten(to_source: str, to_target: str) -> str:
        fields = ("ip_src", "ip_dst") if service == SERVICE else ("ipv6_src", "ipv6_dst")
        return f"set_field:{to_source}->{fields[0]},set_field:{to_target}->{fields[1]},{back}"

    hairpin = HAIRPIN[service]
    return [
        f"in_port=LOCAL,{kind},{source}={own},{target}={service},actions={rewritten(hairpin, endpoint)}",
        f"in_port=LOCAL,{kind},{source}={endpoint},{target}={hairpin},actions={rewritten(service, own)}",
    ]


@pytest.mark.parametrize(("service", "endpoint"), [(SERVICE, CLIENT), (SERVICE6, CLIENT6)])
def test_the_node_reaches_through_a_service_what_is_outside_of_the_cluster(
    node: Wired, service: str, endpoint: str
) -> None:
    """As the API server on another machine. It sees the node's address, for it knows no other way back."""
    node.flows(*through_a_service(node, service, endpoint))
    with listening(node.client, endpoint, 80) as server:
        assert seen_source(node.machine.netns, service, 80, server) == (NODE_IP if service == SERVICE else NODE_IP6)


@pytest.mark.parametrize(("service", "endpoint"), [(SERVICE, NODE_IP), (SERVICE6, NODE_IP6)])
def test_the_node_reaches_itself_through_a_service(node: Wired, service: str, endpoint: str) -> None:
    node.flows(*through_a_service(node, service, endpoint))
    with listening(node.machine.netns, endpoint, 80) as server:
        assert seen_source(node.machine.netns, service, 80, server) == HAIRPIN[service]


def test_another_table_does_not_choose_the_address_that_speaks_to_the_switch(node: Wired) -> None:
    """portmap's masquerading, for one. Its chain has the usual priority; of equal ones the newest is first."""
    node.machine.run("ip", "addr", "add", "192.0.2.77/24", "dev", "eth9")
    chain = "chain c { type nat hook postrouting priority srcnat; oifname br-int snat to 192.0.2.77\n}"
    node.machine.run("nft", f"table ip other {{\n{chain}\n}}")
    node.flows(f"in_port=pod0,ip,actions={node.to_node()}", f"in_port=LOCAL,ip,nw_dst={POD},actions={node.to_pod()}")
    with netns.inside(node.machine.netns):
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with listening(node.pod, POD, 8080) as server, made:
        made.bind(("192.0.2.77", 0))
        made.settimeout(5)
        made.connect((POD, 8080))
        accepted, (source, _) = server.accept()
        accepted.close()
    assert source == NODE_IP


def test_the_node_speaks_to_the_switch_with_its_internal_address_only(node: Wired) -> None:
    node.machine.run("ip", "addr", "add", "192.0.2.77/24", "dev", "eth9")
    node.flows(f"in_port=pod0,ip,actions={node.to_node()}", f"in_port=LOCAL,ip,nw_dst={POD},actions={node.to_pod()}")
    with listening(node.pod, POD, 8080) as server:
        with netns.inside(node.machine.netns):
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        with made:
            made.bind(("192.0.2.77", 0))
            made.settimeout(5)
            made.connect((POD, 8080))
            accepted, (source, _) = server.accept()
            accepted.close()
    assert source == NODE_IP
