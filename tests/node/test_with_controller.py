"""Pods attached by the plugin under the real controller in a routing mode, and their packets."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.controller.headgate_process import Headgate
from tests.helpers.node.cni_node import NOTHING, CniNode, cni_node
from tests.helpers.waiting import until
from topology.host import netns

pytestmark = [pytest.mark.lab, pytest.mark.switch, pytest.mark.process, pytest.mark.slow]
PODS = ("client", "server", "closed")


def objects() -> list[dict[str, Any]]:
    """One node with pod CIDRs, three pods, and a policy that isolates one of them."""
    node: dict[str, Any] = {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
        "spec": {"podCIDR": "10.244.7.0/24", "podCIDRs": ["10.244.7.0/24", "fd00:10:244:7::/64"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
    }  # fmt: skip
    pods = [
        {"apiVersion": "v1", "kind": "Pod",
         "metadata": {"name": name, "namespace": "x", "uid": f"uid-{name}", "labels": {"pod": name}},
         "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}, "status": {"phase": "Pending"}}
        for name in PODS
    ]  # fmt: skip
    policy = {
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "closed", "namespace": "x"},
        "spec": {"podSelector": {"matchLabels": {"pod": "closed"}}, "policyTypes": ["Ingress"]},
    }  # fmt: skip
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}, node, *pods, policy]


@pytest.fixture(scope="module", params=["overlay", "routed"])
def cluster(request: pytest.FixtureRequest) -> Iterator[tuple[CniNode, Headgate]]:
    with cni_node() as node, tempfile.TemporaryDirectory(prefix="hgt-") as folder:
        node.controller.stop()
        keys = ("network", "pod-cidrs", "mtu", "revision")
        for key in keys:
            node.ovs.vsctl("remove", "Bridge", "br-int", "external_ids", f"headgate-{key}")
        node.ovs.vsctl("set", "Open_vSwitch", ".", "external_ids:hostname=n1")
        arguments = ("--network", str(request.param), "--service-cidr", "10.96.0.0/16", "--ovsdb", node.ovs.remote)
        controller = Headgate("native", Path(folder), *arguments, method="tcp", listen=False)
        try:
            (controller.manifests / "all.json").write_text(json.dumps({"kind": "List", "items": objects()}))
            controller.start()
            subprocess.run(["ip", "link", "set", "br-int", "up"], check=True)
            yield node, controller
        finally:
            controller.stop()


def connects(node: CniNode, client: str, server: str, address: str) -> bool:
    """Whether a TCP connection from a pod reaches another pod at this address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with netns.inside(node.container(server)):
        listener = socket.create_server((address, 8080), family=family)
    with listener, netns.inside(node.container(client)), socket.socket(family) as connection:
        connection.settimeout(3)
        try:
            connection.connect((address, 8080))
        except TimeoutError:
            return False
        return True


def test_pods_are_attached_with_their_policy_in_force(cluster: tuple[CniNode, Headgate]) -> None:
    node, controller = cluster
    until(lambda: node.call("STATUS").status == 0, "the controller's facts")
    addresses = {}
    for name in PODS:
        answer = node.call("ADD", name)
        assert answer.status == 0, (answer, controller.log[-2000:])
        addresses[name] = [entry["address"].partition("/")[0] for entry in answer.result["ips"]]
    for number in (0, 1):
        assert connects(node, "client", "server", addresses["server"][number])
        assert not connects(node, "client", "closed", addresses["closed"][number])
        assert connects(node, "closed", "server", addresses["server"][number])
    for name in PODS:
        assert node.call("DEL", name).status == 0
    assert {**node.left(), "ports": [port for port in node.ports() if port != "headgate-tun"]} == NOTHING


def test_a_pod_that_the_cluster_does_not_have_is_not_attached(cluster: tuple[CniNode, Headgate]) -> None:
    node, _ = cluster
    before = node.left()
    refused = node.call("ADD", "nobody", timeout=2)
    assert refused.result["code"] == 11 and "headgate pod x/nobody" in refused.result["msg"], refused
    assert node.left() == before
