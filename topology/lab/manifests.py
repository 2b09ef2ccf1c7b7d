"""The lab's folder of manifests: one file for each object, written so that a watcher never sees half a file.

The lab writes its Namespaces, Nodes and Pods there. `put` and `delete` do for a user's manifests what `kubectl apply`
and `kubectl delete` do. Whether a lab supports an object is decided in `changes`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from topology.errors import LabError
from topology.lab.pod import pod_uid
from topology.spec import strict
from topology.spec.address import LabEndpoint
from topology.spec.model import LabNamespace, LabNode, LabPod, Topology

Manifest = dict[str, Any]
CLUSTER_SCOPED = frozenset({"Namespace", "Node", "ClusterNetworkPolicy"})


def parse_manifests(text: str, origin: str) -> list[Manifest]:
    """The objects of a YAML or JSON text: documents, and the items of any List. Raises LabError naming the document."""
    try:
        documents = strict.load_yaml_all(text)
    except yaml.YAMLError as error:
        raise LabError(f"{origin}: not YAML: {strict.yaml_problem(error)}") from error
    found: list[Manifest] = []
    for number, document in enumerate(documents, 1):
        if document is None:
            continue
        where = f"{origin}, document {number}"
        items = document.get("items") if isinstance(document, dict) and _is_list(document) else [document]
        if not isinstance(items, list):
            raise LabError(f"{where}: items must be a list")
        found.extend(check_manifest(item, where) for item in items)
    return found


class LabManifests:
    """The manifests of one lab."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, objects: Iterable[Manifest]) -> list[str]:
        """Write objects, replacing those of the same kind and name; returns a line for each: name and verb.

        An unchanged object is not written again.
        """
        done = []
        for item in objects:
            before, after = self.get(item), self.merged(item)
            if after != before:
                self._write(after)
            done.append(f"{object_name(item)} {verb(before, after)}")
        return done

    def merged(self, item: Manifest) -> Manifest:
        """The object as it would be written.

        Fields of a Pod or a Node that the manifest leaves out (nodeName, uid, status) are kept from the existing
        object, so that a manifest with only new labels is enough to change them.
        """
        if item["kind"] == "Namespace":
            item = _named(item)
        before = self.get(item) if item["kind"] in ("Pod", "Node") else None
        return _merged(before, item) if before else item

    def delete(self, objects: Iterable[Manifest]) -> list[str]:
        """Delete objects by kind, namespace and name; returns a line for each: `deleted` or `not found`."""
        done = []
        for item in objects:
            path = self._file(item)
            done.append(object_name(item) + (" deleted" if path.exists() else " not found"))
            path.unlink(missing_ok=True)
        return done

    def get(self, item: Manifest) -> Manifest | None:
        """The object of the same kind and name in the folder, None if there is none."""
        try:
            text = self._file(item).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        loaded: Manifest = yaml.safe_load(text)
        return loaded

    def objects(self) -> list[Manifest]:
        """Every object in the folder."""
        return [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(self.path.glob("[!.]*.yaml"))]

    def _file(self, item: Manifest) -> Path:
        group = item["apiVersion"].rpartition("/")[0].replace("/", "_")
        kind = item["kind"].lower() + (f".{group}" if group else "")
        parts = [kind, item["metadata"].get("namespace", ""), item["metadata"]["name"]]
        return self.path / ("_".join(part for part in parts if part) + ".yaml")

    def _write(self, item: Manifest) -> None:
        path = self._file(item)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(yaml.safe_dump(item, sort_keys=False), encoding="utf-8")
        partial.replace(path)


def verb(before: Manifest | None, after: Manifest) -> str:
    """The change of an object in kubectl's words."""
    if before is None:
        return "created"
    return "unchanged" if before == after else "configured"


def object_name(item: Manifest) -> str:
    """Kind and name of an object in messages: `networkpolicy tenant-a/pol1`."""
    metadata = item["metadata"]
    return f"{item['kind'].lower()} " + "/".join(filter(None, [metadata.get("namespace"), metadata["name"]]))


def cluster_objects(topology: Topology, endpoints: Mapping[str, LabEndpoint]) -> list[Manifest]:
    """All objects of a topology: Namespaces, Nodes and Pods."""
    return [
        *(namespace_object(namespace) for namespace in topology.namespaces),
        *(node_object(node, endpoints[f"node:{node.name}"]) for node in topology.nodes),
        *(pod_object(topology, pod, endpoints) for pod in topology.pods),
    ]


def namespace_object(namespace: LabNamespace) -> Manifest:
    """The Namespace object."""
    metadata: Manifest = {
        "name": namespace.name,
        "labels": {"kubernetes.io/metadata.name": namespace.name, **namespace.labels},
    }
    if namespace.annotations:
        metadata["annotations"] = dict(namespace.annotations)
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def node_object(node: LabNode, endpoint: LabEndpoint) -> Manifest:
    """The Node object with its addresses."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": {"kubernetes.io/hostname": node.name, **node.labels}},
        "status": {"addresses": [{"type": "InternalIP", "address": text} for text in endpoint.addresses.values()]},
    }


def pod_object(topology: Topology, pod: LabPod, endpoints: Mapping[str, LabEndpoint]) -> Manifest:
    """The Pod object of a running pod."""
    ports = [
        {"containerPort": port.port, "protocol": port.protocol, **({"name": port.name} if port.name else {})}
        for port in topology.served(pod)
    ]
    own = list(endpoints[pod.key].addresses.values())
    host = list(endpoints[f"node:{pod.node}"].addresses.values())
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.name,
            "namespace": pod.namespace,
            "uid": pod_uid(topology.name, pod.key),
            "labels": dict(pod.labels),
        },
        "spec": {"nodeName": pod.node, "containers": [{"name": "main", "image": "lab", "ports": ports}]},
        "status": {
            "phase": "Running",
            "hostIP": host[0],
            "hostIPs": [{"ip": text} for text in host],
            "podIP": own[0],
            "podIPs": [{"ip": text} for text in own],
        },
    }


def _is_list(document: Manifest) -> bool:
    return str(document.get("kind", "")).endswith("List") and "items" in document


def check_manifest(item: object, where: str) -> Manifest:
    """The object, with the namespace `default` if it lacks one. Raises LabError if kind or name is missing."""
    if not isinstance(item, dict):
        raise LabError(f"{where}: not an object")
    metadata = item.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise LabError(f"{where}: metadata.name is missing")
    for field in ("apiVersion", "kind"):
        if not isinstance(item.get(field), str):
            raise LabError(f"{where}: {field} is missing")
    for text in (metadata["name"], str(metadata.get("namespace", "x")), item["kind"]):
        if "/" in text or text.startswith("."):
            raise LabError(f"{where}: {text!r} is not a name")
    if item["kind"] not in CLUSTER_SCOPED and "namespace" not in metadata:
        item = {**item, "metadata": {**metadata, "namespace": "default"}}
    return item


def _named(item: Manifest) -> Manifest:
    """A Namespace with the label that the API server gives to all of them."""
    metadata = item["metadata"]
    labels = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": metadata["name"]}
    return {**item, "metadata": {**metadata, "labels": labels}}


def _merged(before: Manifest, item: Manifest) -> Manifest:
    """A Pod or Node of the user, with uid, spec and status of the existing one where it leaves them out."""
    metadata = {**{key: before["metadata"][key] for key in ("uid",) if key in before["metadata"]}, **item["metadata"]}
    found = {**item, "metadata": metadata, "status": {**before.get("status", {}), **(item.get("status") or {})}}
    spec = {**before.get("spec", {}), **(item.get("spec") or {})}
    return {**found, "spec": spec} if spec else found
