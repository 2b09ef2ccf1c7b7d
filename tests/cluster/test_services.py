"""Services of every kind, from pods, nodes and a machine outside, on a cluster without kube-proxy."""

from __future__ import annotations

import pytest

from tests.cluster.workload import UDP, WEB, Workload, each, eventually
from topology.cluster.names import API_SERVICE, CONTROL


@pytest.fixture
def pods(work: Workload) -> Workload:
    """A server on n1, and a client on each node."""
    for name, node in (("server", "n1"), ("one", "n1"), ("two", "n2")):
        work.pod(name, node)
    work.wait_ready()
    return work


def test_cluster_ip(pods: Workload) -> None:
    ports = [
        {"name": "web", "port": 80, "targetPort": WEB},
        {"name": "udp", "port": 53, "targetPort": UDP, "protocol": "UDP"},
    ]
    for address in pods.service("server", "server", ports=ports)["clusterIPs"]:
        eventually(lambda address=address: pods.reaches("two", address), address)
        each([pods.reaches(pod, address) for pod in ("one", "two", "server")], address)
        each([pods.reaches(pod, address, 53, "udp") for pod in ("one", "two")], address)
        each([pods.ask(node, address, 80, "/hostname") == "server" for node in ("n1", "n2")], address)


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_node_port(pods: Workload, policy: str) -> None:
    found = pods.service("server", "server", type="NodePort", externalTrafficPolicy=policy)
    port, nodes = found["ports"][0]["nodePort"], pods.cluster.nodes
    eventually(lambda: pods.reaches("two", nodes[0].addresses[0], port), "the node port")
    with_endpoint = nodes if policy == "Cluster" else nodes[:1]
    for node in nodes:
        for address in node.addresses:
            for pod, home in zip(("one", "two"), nodes, strict=True):
                # At its own node a pod is inside; at another it comes from outside, as to a node of kube-proxy.
                inside = node in with_endpoint or node is home
                assert pods.reaches(pod, address, port) is inside, f"{pod} to {address}"
            answered = pods.ask("", address, port, "/hostname")
            assert answered == ("server" if node in with_endpoint else ""), f"from outside to {address}"
    if policy == "Local":
        for address, client in zip(nodes[0].addresses, CONTROL, strict=True):
            assert client in pods.ask("", address, port, "/clientip"), "the client keeps its address"


def test_load_balancers_learn_which_node_has_endpoints(pods: Workload) -> None:
    found = pods.service("server", "server", type="LoadBalancer", externalTrafficPolicy="Local")
    port, (here, there) = found["healthCheckNodePort"], pods.cluster.nodes
    for address in here.addresses:
        eventually(lambda to=address: '"localEndpoints": 1' in pods.ask("", to, port, "/healthz"), "the answer")
        assert '"localEndpoints": 1' in pods.ask("n2", address, port, "/healthz")
    assert [pods.ask("", address, port, "/healthz") for address in there.addresses] == ["", ""]  # 503 is no answer


def test_headless_and_external_name_have_no_address(pods: Workload) -> None:
    assert pods.service("headless", "server", clusterIP="None")["clusterIP"] == "None"
    assert pods.reaches("two", pods.addresses("server")[0], WEB)


def test_external_addresses(pods: Workload) -> None:
    outside = "198.51.100.7"
    pods.service("server", "server", externalIPs=[outside])
    eventually(lambda: pods.reaches("two", outside), outside)
    assert pods.reaches("one", outside)


def test_no_endpoints_is_refused_at_once(pods: Workload) -> None:
    for address in pods.service("nobody", "nobody")["clusterIPs"]:
        eventually(lambda address=address: pods.refusal("two", address) == "REFUSED", address)


def test_endpoints_outside_of_the_cluster(pods: Workload) -> None:
    """The API server: endpoints that no selector made."""
    each([pods.reaches(pod, API_SERVICE[0], 443) for pod in ("one", "two")], "the API server's Service")


def test_host_port_and_host_network(work: Workload) -> None:
    ports = [{"containerPort": WEB, "hostPort": 18080}]
    work.pod("server", "n1", container={"ports": ports})
    own = ["netexec", "--http-port=18090", "--udp-port=18091"]
    work.pod("host", "n1", hostNetwork=True, container={"args": own, "readinessProbe": None})
    work.pod("client", "n2")
    work.pod("neighbor", "n1")
    work.wait_ready()
    for address in work.cluster.nodes[0].addresses:
        for client in ("n1", "n2", ""):
            assert work.ask(client, address, 18080, "/hostname") == "server", f"hostPort at {address} from {client}"
        for pod in ("client", "neighbor", "server"):
            eventually(lambda pod=pod, to=address: work.reaches(pod, to, 18080), f"hostPort at {address} from {pod}")
        assert work.reaches("client", address, 18090), f"hostNetwork at {address}"
    assert work.reaches("host", work.addresses("client")[0], WEB), "hostNetwork as a client"
