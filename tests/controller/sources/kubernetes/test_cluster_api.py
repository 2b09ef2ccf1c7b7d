"""The lab's own way to put objects into an API server does what kubectl does with the same manifests."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from tests.helpers.api_server.server import ApiServer
from tests.helpers.lab.truth_lab import topology_data
from tests.helpers.truth.layout import paper_world
from topology.errors import LabError
from topology.lab.manifests import cluster_objects
from topology.remote.api import ClusterApi
from topology.spec.address import plan_endpoints
from topology.spec.load import check_topology

LABELS = {"pod": "a", "round": "1"}
NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "lab-api", "labels": {"ns": "lab"}}}
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "lab-node"},
    "status": {"addresses": [{"type": "InternalIP", "address": text} for text in ("10.10.0.1", "fd10:10::1")]},
}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "a", "namespace": "lab-api", "uid": "given by the server", "labels": LABELS},
    "spec": {"nodeName": "lab-node", "containers": [{"name": "main", "image": "lab"}]},
    "status": {"phase": "Running", "podIP": "10.10.1.1", "podIPs": [{"ip": "10.10.1.1"}]},
}
POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "p", "namespace": "lab-api"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
}


def test_objects_come_change_and_go(api: ApiServer) -> None:
    cluster = ClusterApi(api.kubeconfig)
    assert len(cluster.put([NAMESPACE, NODE, POD, POLICY])) == 4
    pod = api.get("pod", "a", "-n", "lab-api")
    assert pod["metadata"]["labels"] == LABELS
    assert pod["status"]["podIPs"] == [{"ip": "10.10.1.1"}]
    assert [one["address"] for one in api.get("node", "lab-node")["status"]["addresses"]] == ["10.10.0.1", "fd10:10::1"]
    changed = copy.deepcopy(POD)
    changed["metadata"]["labels"] = {"pod": "b"}  # type: ignore[index]
    cluster.put([changed])
    assert api.get("pod", "a", "-n", "lab-api")["metadata"]["labels"] == {"pod": "b"}
    changed["spec"]["containers"][0]["ports"] = [{"containerPort": 80}]  # type: ignore[index]  # never in a living pod
    cluster.put([changed])
    again = api.get("pod", "a", "-n", "lab-api")
    assert again["spec"]["containers"][0]["ports"][0]["containerPort"] == 80
    assert again["status"]["podIPs"] == [{"ip": "10.10.1.1"}]
    assert cluster.delete([POLICY, POLICY]) == [
        "networkpolicy lab-api/p deleted",
        "networkpolicy lab-api/p not found",
    ]
    cluster.delete([POD, NODE])
    assert api.get("pods", "-n", "lab-api")["items"] == []


def test_pods_of_a_lab_are_relabelled_as_the_tables_do(api: ApiServer) -> None:
    """A server changes little of a pod: what a table says of one must be what the lab said, but for the labels."""
    topology = check_topology(topology_data(), "test", "w")
    lab = cluster_objects(topology, plan_endpoints(topology))
    cluster = ClusterApi(api.kubeconfig)
    try:
        cluster.put(lab)
        relabelled = paper_world().pod_manifest("x/a", {"new": "label"})
        addresses = api.get("pod", "a", "-n", "x")["status"]["podIPs"]
        cluster.put([{**relabelled, "spec": {**relabelled["spec"], "nodeName": "one"}, "status": {}}])
        pod = api.get("pod", "a", "-n", "x")
        assert pod["metadata"]["labels"] == {"new": "label"}
        assert pod["status"]["podIPs"] == addresses
    finally:
        cluster.delete(item for item in lab if item["kind"] != "Namespace")


def test_what_cannot_be_is_said(api: ApiServer, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="secret lab-api"):
        cluster = ClusterApi(api.kubeconfig)
        cluster.put([{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "lab-api"}}])
    with pytest.raises(LabError, match="422"):
        cluster.put([{**NAMESPACE, "metadata": {"name": "NOT A NAME"}}])
    broken = tmp_path / "kubeconfig"
    broken.write_text("contexts: []")
    with pytest.raises(LabError, match="cannot be used"):
        ClusterApi(broken)
