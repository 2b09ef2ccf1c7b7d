"""A cluster read once: files, folders, standard input, pods that workloads foretell, and made-up addresses."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from controller.sources.offline import OfflineError, offline_manifests
from flows.cluster.model import Key
from flows.cluster.net import parse_network

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 3
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, ports: [{name: http, containerPort: 8080}]}]}
"""
POD = """
apiVersion: v1
kind: Pod
metadata:
  name: web-5d4f-x
  namespace: shop
  labels: {app: web, pod-template-hash: 5d4f}
  ownerReferences: [{kind: ReplicaSet, name: web-5d4f, controller: true}]
spec: {containers: []}
status: {podIPs: [{ip: 10.1.2.3}]}
"""


def put(folder: Path, **files: str) -> str:
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(folder)


def test_a_workload_without_pods_gets_some_with_addresses(tmp_path: Path) -> None:
    found = offline_manifests([put(tmp_path, a__deployment=DEPLOYMENT)])
    assert [str(key) for key in found.cluster.pods] == ["shop/web-0", "shop/web-1"]
    one = found.cluster.pods[Key("shop", "web-0")]
    assert (one.workload, dict(one.labels), str(one.addresses[0])) == ("Deployment/web", {"app": "web"}, "10.244.0.1")
    assert one.ports[0].name == "http"
    assert len(found.notes) == 2
    assert not found.problems


def test_a_workload_with_pods_gets_none(tmp_path: Path) -> None:
    found = offline_manifests([put(tmp_path, deployment=DEPLOYMENT, pod=POD)])
    assert [(str(key), pod.workload) for key, pod in found.cluster.pods.items()] == [
        ("shop/web-5d4f-x", "Deployment/web")
    ]
    assert not found.notes


def test_the_owner_that_is_read_stands_for_its_replica_set(tmp_path: Path) -> None:
    replica_set = DEPLOYMENT.replace("Deployment", "ReplicaSet").replace("{name: web,", "{name: web-5d4f,")
    replica_set = replica_set.replace(
        "namespace: shop}",
        "namespace: shop, ownerReferences: [{kind: Deployment, name: web, controller: true}]}",
    )
    found = offline_manifests([put(tmp_path, one=DEPLOYMENT, two=replica_set)])
    assert {pod.workload for pod in found.cluster.pods.values()} == {"Deployment/web"}


@pytest.mark.parametrize(
    ("kind", "version", "names"),
    [
        ("StatefulSet", "apps/v1", ["web-0", "web-1"]),
        ("DaemonSet", "apps/v1", ["web-0", "web-1"]),
        ("ReplicaSet", "apps/v1", ["web-0", "web-1"]),
        ("ReplicationController", "v1", ["web-0", "web-1"]),
        ("Job", "batch/v1", ["web-0", "web-1"]),
    ],
)
def test_every_kind_of_workload(tmp_path: Path, kind: str, version: str, names: list[str]) -> None:
    text = DEPLOYMENT.replace("Deployment", kind).replace("apps/v1", version)
    found = offline_manifests([put(tmp_path, one=text)]).cluster.pods
    assert [key.name for key in found] == names
    pod_names = {pod.labels.get("statefulset.kubernetes.io/pod-name") for pod in found.values()}
    assert pod_names == (set(names) if kind == "StatefulSet" else {None})


def test_a_cron_job(tmp_path: Path) -> None:
    text = """
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: shop}
spec: {jobTemplate: {spec: {template: {metadata: {labels: {app: nightly}}, spec: {containers: []}}}}}
"""
    found = offline_manifests([put(tmp_path, one=text)]).cluster.pods
    assert {str(key): dict(pod.labels) for key, pod in found.items()} == {"shop/nightly-0": {"app": "nightly"}}


def test_addresses_are_made_up_from_the_range_given_and_never_twice(tmp_path: Path) -> None:
    folder = put(tmp_path, one=DEPLOYMENT.replace("web", "other"), pod=POD)
    found = offline_manifests([folder], [parse_network("10.1.2.0/28")]).cluster.pods
    addresses = [str(address) for pod in found.values() for address in pod.addresses]
    assert sorted(addresses) == ["10.1.2.1", "10.1.2.2", "10.1.2.3"]
    tight = offline_manifests([folder], [parse_network("10.1.2.2/31")])
    assert "no address" in tight.notes[-1]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"apiVersion: v1\nkind: List\nitems:\n-{POD.replace(chr(10), chr(10) + '  ')[2:]}"
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    assert [str(key) for key in offline_manifests(["-"]).cluster.pods] == ["shop/web-5d4f-x"]


def test_a_broken_object_is_a_problem_and_the_last_of_two_counts(tmp_path: Path) -> None:
    folder = put(tmp_path, a=POD, b=POD.replace("10.1.2.3", "10.1.2.4"), c="apiVersion: v1\nkind: Pod\nmetadata: 1")
    found = offline_manifests([folder])
    assert [str(pod.addresses[0]) for pod in found.cluster.pods.values()] == ["10.1.2.4"]
    assert [one.field for one in found.problems] == ["metadata"]


def test_what_cannot_be_read_is_an_error_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match="has no files that end in"):
        offline_manifests([str(tmp_path)])
    with pytest.raises(OfflineError, match="No such file"):
        offline_manifests([f"{tmp_path}/none"])


def test_what_bears_on_reachability_and_is_not_read_is_named(tmp_path: Path) -> None:
    kinds = {
        "networking.k8s.io/v1": "Ingress",
        "cilium.io/v2": "CiliumNetworkPolicy",
        "kubevirt.io/v1": "VirtualMachine",
        "v1": "ConfigMap",
    }
    other = [f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}" for version, kind in kinds.items()]
    (note,) = offline_manifests([put(tmp_path, a=POD, b="\n---\n".join([*other, other[0]]))]).notes
    named = "1 CiliumNetworkPolicy (cilium.io/v2), 2 Ingress (networking.k8s.io/v1), 1 VirtualMachine (kubevirt.io/v1)"
    assert note.endswith(f": {named}")
