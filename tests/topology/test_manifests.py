"""The manifests folder behaves as `kubectl apply` and `delete` would, and never shows half a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from topology.errors import LabError
from topology.lab.manifests import LabManifests, object_name, parse_manifests

POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: x}
spec: {podSelector: {}}
"""


def test_documents_and_lists_are_taken_apart() -> None:
    items = {"apiVersion": "v1", "kind": "List", "items": [*parse_manifests(POLICY, "f")]}
    text = POLICY + "---\n---\n" + yaml.safe_dump(items)
    assert [object_name(item) for item in parse_manifests(text, "f")] == ["networkpolicy x/p"] * 2


def test_json_is_yaml() -> None:
    found = parse_manifests('{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}', "f")
    assert found[0]["metadata"] == {"name": "a", "namespace": "default"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "^f: not YAML"),
        ("--- 5", "^f, document 1: not an object"),
        ("kind: Pod\napiVersion: v1", r"^f, document 1: metadata\.name is missing"),
        ("kind: Pod\nmetadata: {name: a}", "^f, document 1: apiVersion is missing"),
        ("---\n---\napiVersion: v1\nmetadata: {name: a}", "^f, document 2: kind is missing"),
        ("kind: Pod\napiVersion: v1\nmetadata: {name: ../a}", "'../a' is not a name"),
        ("kind: List\napiVersion: v1\nitems: 5", "^f, document 1: items must be a list"),
    ],
)
def test_what_is_no_object_is_refused(text: str, message: str) -> None:
    with pytest.raises(LabError, match=message):
        parse_manifests(text, "f")


def test_put_and_delete_say_what_they_did(tmp_path: Path) -> None:
    folder = LabManifests(tmp_path)
    assert folder.put(parse_manifests(POLICY, "f")) == ["networkpolicy x/p created"]
    assert folder.put(parse_manifests(POLICY, "f")) == ["networkpolicy x/p unchanged"]
    other = POLICY.replace("{}", "{matchLabels: {a: b}}")
    assert folder.put(parse_manifests(other, "f")) == ["networkpolicy x/p configured"]
    assert [path.name for path in tmp_path.iterdir()] == ["networkpolicy.networking.k8s.io_x_p.yaml"]
    assert folder.delete(parse_manifests(POLICY, "f")) == ["networkpolicy x/p deleted"]
    assert folder.delete(parse_manifests(POLICY, "f")) == ["networkpolicy x/p not found"]
    assert not list(tmp_path.iterdir())


def test_two_groups_of_one_kind_do_not_meet(tmp_path: Path) -> None:
    other = POLICY.replace("networking.k8s.io/v1", "net.alpha.kubernetes.io/v1alpha1")
    folder = LabManifests(tmp_path)
    folder.put(parse_manifests(POLICY, "f") + parse_manifests(other, "f"))
    assert len(folder.objects()) == 2


def test_a_pod_keeps_its_place_when_its_labels_change(tmp_path: Path) -> None:
    folder = LabManifests(tmp_path)
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a", "namespace": "x", "uid": "u", "labels": {"one": "1"}},
        "spec": {"nodeName": "n", "containers": [{"name": "main"}]},
        "status": {"podIPs": [{"ip": "10.0.0.1"}]},
    }
    folder.put([pod])
    folder.put(
        parse_manifests("{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: x, labels: {two: '2'}}}", "f")
    )
    found = folder.get(pod)
    assert found == {**pod, "metadata": {**pod["metadata"], "labels": {"two": "2"}}}


def test_a_namespace_has_the_label_of_its_name(tmp_path: Path) -> None:
    folder = LabManifests(tmp_path)
    folder.put(parse_manifests("{apiVersion: v1, kind: Namespace, metadata: {name: x, labels: {a: b}}}", "f"))
    assert folder.objects()[0]["metadata"]["labels"] == {"a": "b", "kubernetes.io/metadata.name": "x"}


def test_a_cluster_network_policy_is_in_no_namespace(tmp_path: Path) -> None:
    text = "{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {name: a}}"
    folder = LabManifests(tmp_path)
    folder.put(parse_manifests(text, "f"))
    (found,) = folder.objects()
    assert "namespace" not in found["metadata"] and object_name(found) == "clusternetworkpolicy a"
