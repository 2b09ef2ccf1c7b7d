"""Restarts of everything under traffic: what goes on, and that all is as before."""

from __future__ import annotations

import signal

import pytest

from tests.cluster.workload import WEB, Workload, eventually
from topology.cluster.node import DAEMONS


@pytest.fixture
def address(work: Workload) -> str:
    """A ClusterIP before a server on n1; a client is on n2."""
    work.pod("server", "n1")
    work.pod("client", "n2")
    work.wait_ready()
    found = str(work.service("server", "server")["clusterIP"])
    eventually(lambda: work.reaches("client", found), found)
    return found


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_no_connection_fails_while_the_controller_starts_again(
    work: Workload, address: str, how: signal.Signals
) -> None:
    with work.traffic(address) as traffic:
        work.cluster.stop_headgate(how)
        assert work.reaches("client", address)
        work.cluster.start_headgate()
        work.isolate("client")
        own = work.addresses("client")[0]
        eventually(lambda: not work.reaches("server", own, WEB), "a new policy is in force")
    assert traffic.good > 0
    assert traffic.failed == []


@pytest.mark.parametrize("name", ["kubelet", "containerd"])
def test_no_connection_fails_while_a_daemon_of_kubernetes_starts_again(work: Workload, address: str, name: str) -> None:
    node = work.cluster.nodes[0]
    with work.traffic(address) as traffic:
        node.stop_daemon(name)
        assert work.reaches("client", address)
        node.start_daemon(name)
        work.pod("later", "n1")
        work.wait_ready("later", "server")
    assert traffic.good > 0
    assert traffic.failed == []


@pytest.mark.parametrize("name", DAEMONS[:2])
def test_everything_is_as_before_after_open_vswitch_starts_again(work: Workload, address: str, name: str) -> None:
    node = work.cluster.nodes[0]
    work.isolate("server", "client")
    node.stop_daemon(name)
    node.start_daemon(name)
    eventually(lambda: work.reaches("client", address), "the Service again")
    work.pod("later", "n1")
    work.wait_ready("later", "server")
    assert not work.reaches("later", address), "the policy again"
    assert work.reaches("client", work.addresses("later")[0], WEB)


def test_a_node_boots_again(work: Workload, address: str) -> None:
    node = work.cluster.nodes[0]
    node.shut_down()
    assert work.reaches("client", work.addresses("client")[0], WEB), "n2 goes on"
    work.cluster.start_node(node, new=False)
    work.cluster.wait_ready()
    work.wait_ready("server")
    eventually(lambda: work.reaches("client", address), "the Service again")
    ports = node.check("ovs-vsctl", "list-ports", "br-int").split()
    pods = work.kubectl.get("pods", "-A", "--field-selector=spec.nodeName=n1")["items"]
    owners = {pod["metadata"]["name"] for pod in pods if not pod["spec"].get("hostNetwork")}
    assert len([port for port in ports if port.startswith("hgp")]) == len(owners), "ports of before the boot are gone"
