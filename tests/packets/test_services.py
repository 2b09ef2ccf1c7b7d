"""Services of every kind through the whole controller, on real packets: pods, nodes and a client outside connect, and
learn who answered and which source it saw.

Real switches and `headgate run`; see tests/helpers/lab/service_lab.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest

from tests.helpers.lab.service_lab import SERVER_PORT, ServiceLab, asked, cluster_ip, service_lab
from tests.helpers.waiting import until
from topology.host import netns

pytestmark = [pytest.mark.lab, pytest.mark.process, pytest.mark.slow]

FAMILIES = pytest.mark.parametrize("version", [4, 6])
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
KINDS = pytest.mark.parametrize("kind", [TCP, UDP], ids=["tcp", "udp"])
EXTERNAL = {4: "198.51.100.7", 6: "2001:db8:100::7"}
UNUSED = {4: "198.51.100.9", 6: "2001:db8:100::9"}
BALANCER = {4: "198.51.100.8", 6: "2001:db8:100::8"}
GATEWAY = {"node-1": {4: "10.244.1.1", 6: "fd00:244:1::1"}, "node-2": {4: "10.244.2.1", 6: "fd00:244:2::1"}}
NEAR, FAR, ITSELF, EMPTY, INTERNAL, OUTER, GIVEN, PAIR, HOST, STOPPED, BARE, KEEPING, CHECKED = range(10, 23)
HEALTH_PORT, HOST_PORT = 32100, 8088
LARGE = (1500, 4000)  # bytes of a datagram: two fragments, and three


@pytest.fixture(scope="module")
def lab() -> Iterator[ServiceLab]:
    """Pods x/a and x/b are on node-1, x/c and x/d on node-2. Tests leave it as they found it."""
    with service_lab() as made:
        made.add_service("near", NEAR, ["x/b"], type="NodePort")
        made.add_service("far", FAR, ["x/c"], type="NodePort")
        made.add_service("itself", ITSELF, ["x/a"], type="NodePort")
        made.add_service("empty", EMPTY, [], type="NodePort")
        made.add_service("internal", INTERNAL, ["x/c"], internalTrafficPolicy="Local")
        made.add_service("outer", OUTER, ["x/c"], type="NodePort", externalTrafficPolicy="Local")
        balancer = {"loadBalancer": {"ingress": [{"ip": address} for address in BALANCER.values()]}}
        external = list(EXTERNAL.values())
        made.add_service("bare", BARE, [], type="LoadBalancer", externalIPs=list(UNUSED.values()))
        made.add_service("given", GIVEN, ["x/c"], type="LoadBalancer", externalIPs=external, status=balancer)
        made.add_service("pair", PAIR, ["x/b", "x/c"])
        made.add_service("host", HOST, ["node-1"])
        made.add_service("keeping", KEEPING, ["x/b", "x/c", "x/d"], type="NodePort", sessionAffinity="ClientIP")
        made.add_service("checked", CHECKED, ["x/c", "x/d"], **of_balancer())
        made.add_host_port("x/b", HOST_PORT)
        made.add_host_port("x/c", HOST_PORT + 1, source(made, "node-2", 4))
        made.add_service("stopped", STOPPED, [], not_ready=["x/c"])
        made.apply()
        yield made


def of_balancer() -> dict[str, Any]:
    return {
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": HEALTH_PORT
    }  # fmt: skip


def source(lab: ServiceLab, name: str, version: int) -> str:
    return lab.place(name)[1][version]


@FAMILIES
@KINDS
@pytest.mark.parametrize("client", ["x/a", "x/d", "node-1", "node-2"])
def test_a_cluster_ip_reaches_an_endpoint_here_and_elsewhere_from_the_real_source(
    lab: ServiceLab, client: str, kind: socket.SocketKind, version: int
) -> None:
    mine = source(lab, client, version)
    assert lab.ask(client, cluster_ip(NEAR, version), 80, kind) == f"x/b {mine}"
    assert lab.ask(client, cluster_ip(FAR, version), 80, kind) == f"x/c {mine}"


@FAMILIES
@KINDS
@pytest.mark.parametrize("node", ["node-1", "node-2"])
@pytest.mark.parametrize("client", ["x/a", "x/d", "node-1", "node-2", "client"])
def test_a_node_port_of_every_node_is_reached_from_everywhere(
    lab: ServiceLab, client: str, node: str, kind: socket.SocketKind, version: int
) -> None:
    address, mine = source(lab, node, version), source(lab, client, version)
    outside = client != node and not client.startswith("x/")
    for number, endpoint, home in ((NEAR, "x/b", "node-1"), (FAR, "x/c", "node-2")):
        # From outside and on to another node: with the address of this node's gateway.
        seen = GATEWAY[node][version] if outside and node != home else mine
        assert lab.ask(client, address, 30000 + number, kind) == f"{endpoint} {seen}"


@KINDS
@pytest.mark.parametrize("address", ["127.0.0.1", "127.72.0.9"])
@pytest.mark.parametrize("node", ["node-1", "node-2"])
def test_a_node_reaches_node_ports_at_its_loopback_addresses(
    lab: ServiceLab, node: str, address: str, kind: socket.SocketKind
) -> None:
    mine = source(lab, node, 4)
    for number, endpoint in ((NEAR, "x/b"), (FAR, "x/c"), (OUTER, "x/c")):
        assert lab.ask(node, address, 30000 + number, kind) == f"{endpoint} {mine}"
    if kind == TCP:
        assert lab.ask(node, address, 30000 + EMPTY, kind) == "refused"


@FAMILIES
@pytest.mark.parametrize("client", ["x/a", "x/d", "node-1"])
def test_datagrams_larger_than_the_mtu_open_connections(lab: ServiceLab, client: str, version: int) -> None:
    """Of fragments only the first has ports; the answer is as large."""
    node = source(lab, "node-2", version)
    wanted = {NEAR: ["x/b"], FAR: ["x/c"], HOST: ["node-1"], PAIR: ["x/b", "x/c"], KEEPING: ["x/b", "x/c", "x/d"]}
    for size in LARGE:
        for number, endpoints in wanted.items():
            assert lab.ask(client, cluster_ip(number, version), 80, UDP, size=size).split()[0] in endpoints
        assert lab.ask(client, node, 30000 + FAR, UDP, size=size).startswith("x/c ")
    if client == "x/a":
        assert lab.ask(client, cluster_ip(ITSELF, version), 80, UDP, size=LARGE[0]).startswith("x/a ")
        assert lab.ask(client, cluster_ip(EMPTY, version), 80, UDP, size=LARGE[0]) == "refused"
        assert lab.ask(client, node, SERVER_PORT, UDP, size=LARGE[0]).startswith("node-2 ")


@FAMILIES
def test_no_fragment_of_what_policy_denies_arrives(lab: ServiceLab, version: int) -> None:
    """In turns with large datagrams from the same pod that are allowed."""
    denied, allowed = cluster_ip(FAR, version), cluster_ip(NEAR, version)
    with netns.inside(lab.place("x/c")[0]):
        ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
    with netns.inside(lab.place("x/a")[0]):
        sender = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, UDP)
    try:
        lab.add_policy("out", "a", "Egress", ["b"])
        lab.apply()
        with closing(ear), closing(sender):
            ear.setblocking(False)
            for _ in range(3):
                sender.sendto(b"\xd5" * LARGE[1], (denied, 80))
                assert lab.ask("x/a", allowed, 80, UDP, size=LARGE[1]).startswith("x/b ")
            assert lab.ask("x/d", denied, 80, UDP).startswith("x/c ")
            frames = []
            with suppress(BlockingIOError):
                while True:
                    frames.append(ear.recv(2048))
            assert frames and not [one for one in frames if b"\xd5" * 8 in one]
    finally:
        del lab.objects["policy out"]
        lab.apply()


@FAMILIES
@KINDS
def test_a_pod_reaches_itself(lab: ServiceLab, kind: socket.SocketKind, version: int) -> None:
    seen = {4: "169.254.72.3", 6: "fd00:4847::3"}[version]
    assert lab.ask("x/a", cluster_ip(ITSELF, version), 80, kind) == f"x/a {seen}"
    assert lab.ask("x/a", source(lab, "node-2", version), 30000 + ITSELF, kind) == f"x/a {seen}"


@FAMILIES
@KINDS
def test_a_node_is_an_endpoint(lab: ServiceLab, kind: socket.SocketKind, version: int) -> None:
    for client in ("x/a", "x/d"):
        seen = source(lab, client, version)
        assert lab.ask(client, cluster_ip(HOST, version), 80, kind) == f"node-1 {seen}"
    seen = {4: "169.254.72.2", 6: "fd00:4847::2"}[version]
    assert lab.ask("node-1", cluster_ip(HOST, version), 80, kind) == f"node-1 {seen}"
    assert lab.ask("node-2", cluster_ip(HOST, version), 80, kind).startswith("node-1 ")


@FAMILIES
@KINDS
def test_without_an_endpoint_or_a_port_it_is_refused_at_once(
    lab: ServiceLab, kind: socket.SocketKind, version: int
) -> None:
    """The wait of `ask` would answer `nothing`."""
    assert lab.ask("x/a", cluster_ip(EMPTY, version), 80, kind) == "refused"
    assert lab.ask("x/a", source(lab, "node-1", version), 30000 + EMPTY, kind) == "refused"
    assert lab.ask("client", source(lab, "node-1", version), 30000 + EMPTY, kind) == "refused"
    assert lab.ask("x/a", cluster_ip(NEAR, version), 81, kind) == "refused"
    assert lab.ask("x/a", cluster_ip(200, version), 80, kind) == "refused"
    for client in ("x/a", "x/d"):
        assert lab.ask(client, UNUSED[version], 80, kind) == "refused"
    assert lab.ask("x/a", source(lab, "node-2", version), 30000 + EMPTY, kind) == "refused"
    if (kind, version) != (UDP, 4):  # the node's kernel sends itself no error in the name of another address
        assert lab.ask("node-1", cluster_ip(EMPTY, version), 80, kind) == "refused"


@FAMILIES
@KINDS
def test_endpoints_that_only_terminate_and_do_not_serve_are_none(
    lab: ServiceLab, kind: socket.SocketKind, version: int
) -> None:
    assert lab.ask("x/a", cluster_ip(STOPPED, version), 80, kind) == "refused"


@FAMILIES
@KINDS
def test_internal_policy_local_stays_on_the_node(lab: ServiceLab, kind: socket.SocketKind, version: int) -> None:
    mine = source(lab, "x/d", version)
    assert lab.ask("x/d", cluster_ip(INTERNAL, version), 80, kind) == f"x/c {mine}"
    assert lab.ask("x/a", cluster_ip(INTERNAL, version), 80, kind, wait=0.6) == "nothing"


@FAMILIES
@KINDS
def test_external_policy_local_keeps_the_client_and_its_node(
    lab: ServiceLab, kind: socket.SocketKind, version: int
) -> None:
    port = 30000 + OUTER
    for client in ("client", "node-1"):
        mine = source(lab, client, version)
        assert lab.ask(client, source(lab, "node-2", version), port, kind) == f"x/c {mine}"
    assert lab.ask("client", source(lab, "node-1", version), port, kind, wait=0.6) == "nothing"
    # Pods are inside at their own node, wherever the endpoint is; to another node they come from outside.
    for client in ("x/a", "x/d"):
        assert lab.ask(client, source(lab, "node-2", version), port, kind) == f"x/c {source(lab, client, version)}"
    assert lab.ask("x/a", source(lab, "node-1", version), port, kind) == f"x/c {source(lab, 'x/a', version)}"
    assert lab.ask("x/d", source(lab, "node-1", version), port, kind, wait=0.6) == "nothing"


@FAMILIES
@KINDS
def test_external_policy_local_falls_back_to_endpoints_that_terminate_at_the_node_that_is_named(
    lab: ServiceLab, kind: socket.SocketKind, version: int
) -> None:
    """As upstream's "Services should fallback to local terminating endpoints ... with externalTrafficPolicy=Local"."""
    port, here, there = 30000 + OUTER, source(lab, "node-1", version), source(lab, "node-2", version)
    local = {"type": "NodePort", "externalTrafficPolicy": "Local"}
    mine, other = source(lab, "x/a", version), source(lab, "x/d", version)
    try:
        lab.add_service("outer", OUTER, [], terminating=["x/c"], **local)
        lab.apply()
        assert lab.ask("x/a", there, port, kind) == f"x/c {mine}"
        assert lab.ask("x/d", here, port, kind, wait=0.6) == "nothing"
        lab.add_service("outer", OUTER, ["x/b"], terminating=["x/c"], **local)
        lab.apply()
        assert lab.ask("x/a", there, port, kind) == f"x/c {mine}"  # none is ready on that node
        assert lab.ask("x/d", here, port, kind) == f"x/b {other}"
        # Policy sees the endpoint and the real source.
        lab.add_policy("out", "a", "Egress", ["b"])
        lab.add_policy("in", "b", "Ingress", ["d"])
        lab.apply()
        assert lab.ask("x/a", there, port, kind, wait=0.6) == "nothing"
        assert lab.ask("x/d", here, port, kind) == f"x/b {other}"
    finally:
        lab.objects.pop("policy out", None)
        lab.objects.pop("policy in", None)
        lab.add_service("outer", OUTER, ["x/c"], **local)
        lab.apply()


@FAMILIES
@KINDS
@pytest.mark.parametrize("client", ["x/a", "x/d", "node-1", "node-2", "client"])
def test_a_host_port_is_reached_from_everywhere_with_the_real_source(
    lab: ServiceLab, client: str, kind: socket.SocketKind, version: int
) -> None:
    node, mine = source(lab, "node-1", version), source(lab, client, version)
    assert lab.ask(client, node, HOST_PORT, kind) == f"x/b {mine}"
    assert lab.ask(client, source(lab, "node-2", version), HOST_PORT, kind) == "refused"  # no pod of that node
    other = source(lab, "node-2", version)
    assert lab.ask(client, other, HOST_PORT + 1, kind) == (f"x/c {mine}" if version == 4 else "refused")


@FAMILIES
@KINDS
def test_policy_sees_the_pod_behind_a_host_port(lab: ServiceLab, kind: socket.SocketKind, version: int) -> None:
    node = source(lab, "node-1", version)
    mine = source(lab, "x/d", version)
    assert lab.ask("x/b", node, HOST_PORT, kind) == f"x/b { ({4: '169.254.72.3', 6: 'fd00:4847::3'}[version]) }"
    try:
        lab.add_policy("out", "d", "Egress", ["b"])
        lab.add_policy("in", "b", "Ingress", ["d"])
        lab.apply()
        assert lab.ask("x/d", node, HOST_PORT, kind) == f"x/b {mine}"
        assert lab.ask("x/a", node, HOST_PORT, kind, wait=0.6) == "nothing"
        assert lab.ask("node-2", node, HOST_PORT, kind, wait=0.6) == "nothing"
        lab.add_policy("out", "d", "Egress", ["a"])
        lab.apply()
        assert lab.ask("x/d", node, HOST_PORT, kind, wait=0.6) == "nothing"
    finally:
        lab.objects.pop("policy out", None)
        lab.objects.pop("policy in", None)
        lab.apply()


@FAMILIES
def test_load_balancers_learn_which_nodes_have_ready_endpoints(lab: ServiceLab, version: int) -> None:
    here, there = source(lab, "node-1", version), source(lab, "node-2", version)
    for client in ("client", "node-1", "node-2", "x/a", "x/d"):
        assert lab.check_health(client, here, HEALTH_PORT) == (503, {"localEndpoints": 0, "serviceProxyHealthy": True})
        assert lab.check_health(client, there, HEALTH_PORT) == (200, {"localEndpoints": 2, "serviceProxyHealthy": True})
        assert lab.check_health(client, there, HEALTH_PORT + 1) == (0, {})
    try:
        lab.add_policy("out", "a", "Egress", ["b"])
        lab.apply()
        assert lab.ask("x/a", there, HEALTH_PORT, TCP, wait=0.6) == "nothing"
        assert lab.check_health("x/a", here, HEALTH_PORT)[0] == 503  # no policy between a node and its own pods
        assert lab.check_health("x/b", there, HEALTH_PORT)[0] == 200
    finally:
        del lab.objects["policy out"]
        lab.apply()
    try:
        lab.add_service("checked", CHECKED, ["x/b"], not_ready=["x/d"], **of_balancer())
        lab.apply()
        assert lab.check_health("x/a", here, HEALTH_PORT)[0] == 200
        assert lab.check_health("x/a", there, HEALTH_PORT)[0] == 503
        assert lab.check_health("client", here, HEALTH_PORT)[0] == 200
        assert lab.check_health("client", there, HEALTH_PORT)[0] == 503
        lab.run.restart()
        assert lab.check_health("client", here, HEALTH_PORT)[0] == 200
        lab.wait()
        del lab.objects["service checked"]
        lab.apply()
        assert lab.check_health("client", here, HEALTH_PORT) == (0, {})
    finally:
        lab.add_service("checked", CHECKED, ["x/c", "x/d"], **of_balancer())
        lab.apply()


@FAMILIES
@KINDS
@pytest.mark.parametrize("addresses", [EXTERNAL, BALANCER], ids=["external", "balancer"])
def test_external_addresses_are_reached_from_pods(
    lab: ServiceLab, addresses: dict[int, str], kind: socket.SocketKind, version: int
) -> None:
    for client in ("x/a", "x/d"):
        assert lab.ask(client, addresses[version], 80, kind) == f"x/c {source(lab, client, version)}"


@FAMILIES
@KINDS
def test_policy_sees_the_endpoint_and_the_real_source(lab: ServiceLab, kind: socket.SocketKind, version: int) -> None:
    near, far = cluster_ip(NEAR, version), cluster_ip(FAR, version)
    mine = source(lab, "x/a", version)
    try:
        lab.add_policy("out", "a", "Egress", ["b"])
        lab.apply()
        assert lab.ask("x/a", near, 80, kind) == f"x/b {mine}"
        assert lab.ask("x/a", far, 80, kind, wait=0.6) == "nothing"
        del lab.objects["policy out"]
        lab.add_policy("in", "c", "Ingress", ["a"])
        lab.apply()
        assert lab.ask("x/a", far, 80, kind) == f"x/c {mine}"
        assert lab.ask("x/b", far, 80, kind, wait=0.6) == "nothing"
        assert lab.ask("x/d", far, 80, kind, wait=0.6) == "nothing"
    finally:
        lab.objects.pop("policy out", None)
        lab.objects.pop("policy in", None)
        lab.apply()


@FAMILIES
def test_udp_goes_to_another_endpoint_once_its_own_is_gone(lab: ServiceLab, version: int) -> None:
    with netns.inside(lab.place("x/a")[0]):
        made = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, UDP)
    try:
        with closing(made):
            first = asked(made, cluster_ip(PAIR, version), 80).split()[0]
            assert first in ("x/b", "x/c")
            assert asked(made, cluster_ip(PAIR, version), 80).split()[0] == first
            other = "x/c" if first == "x/b" else "x/b"
            lab.add_service("pair", PAIR, [other])
            lab.apply()
            assert asked(made, cluster_ip(PAIR, version), 80).split()[0] == other
            lab.add_service("pair", PAIR, [])
            lab.apply()
            assert asked(made, cluster_ip(PAIR, version), 80) == "refused"
    finally:
        lab.add_service("pair", PAIR, ["x/b", "x/c"])
        lab.apply()


@FAMILIES
@pytest.mark.parametrize("name", ["cluster address", "node-1", "node-2"])
def test_udp_that_was_refused_goes_on_once_there_is_an_endpoint(lab: ServiceLab, name: str, version: int) -> None:
    later = 77
    lab.add_service("later", later, [], type="NodePort")
    lab.apply()
    there = (cluster_ip(later, version), 80)
    if name != "cluster address":
        there = (source(lab, name, version), 30000 + later)
    with netns.inside(lab.place("x/a")[0]):
        made = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, UDP)
    try:
        with closing(made):
            for _ in range(3):
                assert asked(made, *there) == "refused"
            lab.add_service("later", later, ["x/c"], type="NodePort")
            lab.apply()
            assert asked(made, *there).split()[0] == "x/c"
    finally:
        lab.add_service("later", later, [], type="NodePort")
        lab.apply()


@FAMILIES
@KINDS
@pytest.mark.parametrize("client", ["x/a", "x/c", "node-1", "client"])
def test_a_client_keeps_its_endpoint(lab: ServiceLab, client: str, kind: socket.SocketKind, version: int) -> None:
    address, number = cluster_ip(KEEPING, version), 80
    if client == "client":
        address, number = source(lab, "node-1", version), 30000 + KEEPING
    answers = {lab.ask(client, address, number, kind) for _ in range(20)}
    (kept,) = answers
    if (client, kind) == ("x/a", TCP):
        # A controller that starts anew finds what the switch learned, and lets it be.
        lab.run.restart()
        lab.wait()
        assert {lab.ask(client, address, number, kind) for _ in range(10)} == {kept}
        counted = [line for line in lab.run.get("/metrics").splitlines() if line.startswith("headgate_drift_total")]
        assert all(float(line.split()[-1]) == 0 for line in counted), counted


@FAMILIES
def test_a_client_whose_endpoint_goes_gets_another_one_and_keeps_it(lab: ServiceLab, version: int) -> None:
    name, address = "keeping", cluster_ip(KEEPING, version)
    everyone = ["x/b", "x/c", "x/d"]
    first = lab.ask("x/a", address, 80, TCP).split()[0]
    try:
        lab.add_service(
            name, KEEPING, [one for one in everyone if one != first], type="NodePort", sessionAffinity="ClientIP"
        )
        lab.apply()
        (second,) = {lab.ask("x/a", address, 80, TCP).split()[0] for _ in range(10)}
        assert second != first
    finally:
        lab.add_service(name, KEEPING, everyone, type="NodePort", sessionAffinity="ClientIP")
        lab.apply()
    assert {lab.ask("x/a", address, 80, TCP).split()[0] for _ in range(10)} == {second}


@FAMILIES
@KINDS
def test_connections_are_spread(lab: ServiceLab, kind: socket.SocketKind, version: int) -> None:
    answers = {lab.ask("x/a", cluster_ip(PAIR, version), 80, kind).split()[0] for _ in range(40)}
    assert answers == {"x/b", "x/c"}


def test_what_is_not_in_force_is_told_and_harms_nothing_else(lab: ServiceLab) -> None:
    """Anybody may name the address of another Service."""
    try:
        lab.add_service("thief", 30, ["x/d"], externalIPs=[cluster_ip(NEAR, 4)])
        lab.apply()
        told = [one["reason"] for one in lab.run.status()["problems"] if one["key"] == "Service x/thief"]
        assert len(told) == 2 and all("belongs to another Service" in reason for reason in told)
        until(lambda: lab.run.metric("headgate_services_with_problems") == 1, "the metric")
        assert lab.ask("x/a", cluster_ip(NEAR, 4), 80, TCP).startswith("x/b")
        assert lab.ask("x/a", cluster_ip(30, 4), 80, TCP).startswith("x/d")
    finally:
        for name in ("service thief", "slice thief-4", "slice thief-6"):
            del lab.objects[name]
        lab.apply()
    assert lab.run.status()["problems"] == []
    assert lab.ask("x/a", cluster_ip(30, 4), 80, TCP) == "refused"
