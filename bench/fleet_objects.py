"""Where the objects of a fleet are: in a folder of manifests, or in a real API server.

The API server's etcd gets the first world at once, before the API server starts; what changes later goes through the
API, with a status as a kubelet writes it.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from bench.control_plane import ApiClient, ControlPlane, find_binary
from bench.worlds import ApiObject, namespace_manifest

LEASES = "headgate"  # the namespace of the replicas' Leases
STATUS = "application/merge-patch+json"
_ETCD_FOLDERS = {"Namespace": "namespaces", "Node": "minions", "Pod": "pods", "NetworkPolicy": "networkpolicies"}


class FleetObjects(Protocol):
    """Takes the objects of a fleet."""

    @property
    def source(self) -> Mapping[str, str]:
        """The options of `headgate run` for this source."""

    def begin(self, world: Sequence[ApiObject], pods: Sequence[Mapping[str, ApiObject]]) -> None:
        """The first world, and the pods of each node by `namespace/name`."""

    def remove(self, pod: str) -> None:
        """A pod is gone; a folder says so with the next pod of its node. From any thread."""

    def create(self, node: int, pods: Mapping[str, ApiObject], new: str) -> None:
        """A pod has come; `pods` are all that its node has now. From any thread."""

    def set_policy(self, policy: ApiObject) -> None:
        """A policy is new or has changed."""

    def pids(self) -> list[int]:
        """What serves the objects."""


class Folder:
    """A folder of manifests: a file for the pods of each node, and one for the policies of each namespace."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._policies: dict[str, dict[str, ApiObject]] = defaultdict(dict)  # by namespace and name

    @property
    def source(self) -> Mapping[str, str]:
        """The option that names the folder."""
        return {"manifests": str(self._folder)}

    def begin(self, world: Sequence[ApiObject], pods: Sequence[Mapping[str, ApiObject]]) -> None:
        """Write all files."""
        self._folder.mkdir()
        self._write("world", [one for one in world if one["kind"] != "NetworkPolicy"])
        for policy in world:
            if policy["kind"] == "NetworkPolicy":
                self._policies[policy["metadata"]["namespace"]][policy["metadata"]["name"]] = policy
        for space, policies in self._policies.items():
            self._write(f"policies-{space}", policies.values())
        for node, own in enumerate(pods):
            self._write(f"node-{node}", own.values())

    def remove(self, pod: str) -> None:
        """Nothing: `create` writes the node's file anew."""

    def create(self, node: int, pods: Mapping[str, ApiObject], new: str) -> None:
        """Write the node's file anew."""
        self._write(f"node-{node}", pods.values())

    def set_policy(self, policy: ApiObject) -> None:
        """Write the file of its namespace anew."""
        policies = self._policies[policy["metadata"]["namespace"]]
        policies[policy["metadata"]["name"]] = policy
        self._write(f"policies-{policy['metadata']['namespace']}", policies.values())

    def pids(self) -> list[int]:
        """A folder needs none."""
        return []

    def _write(self, name: str, objects: Iterable[ApiObject]) -> None:
        new = self._folder / f".{name}.json"
        new.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))
        new.rename(self._folder / f"{name}.json")


class Api:
    """An API server of its own; `stop` ends it. `binary` finds its programs."""

    def __init__(self, folder: Path, binary: Callable[[str], str] = find_binary) -> None:
        folder.mkdir()
        self._server = ControlPlane(folder, binary)
        self._clients = threading.local()  # a connection serves one thread at a time

    @property
    def source(self) -> Mapping[str, str]:
        """The option that names the kubeconfig."""
        return {"kubeconfig": str(self._server.kubeconfig)}

    def begin(self, world: Sequence[ApiObject], pods: Sequence[Mapping[str, ApiObject]]) -> None:
        """Fill etcd, and start the API server."""
        objects = [namespace_manifest(LEASES), *world, *(pod for own in pods for pod in own.values())]
        self._server.start_etcd()
        self._server.put((_etcd_key(one), json.dumps(one).encode()) for one in objects)
        self._server.start()

    def remove(self, pod: str) -> None:
        """Delete the pod, without a kubelet's word."""
        self._client().request("DELETE", _pod_path(pod), {"gracePeriodSeconds": 0})

    def create(self, node: int, pods: Mapping[str, ApiObject], new: str) -> None:
        """Create the pod, and write its status."""
        pod, space = pods[new], new.partition("/")[0]
        client = self._client()
        meta = {key: value for key, value in pod["metadata"].items() if key != "uid"}
        client.request("POST", f"/api/v1/namespaces/{space}/pods", {**pod, "metadata": meta})
        client.request("PATCH", f"{_pod_path(new)}/status", {"status": pod["status"]}, STATUS)

    def set_policy(self, policy: ApiObject) -> None:
        """Write a policy in place of what it was."""
        meta = policy["metadata"]
        path = f"/apis/networking.k8s.io/v1/namespaces/{meta['namespace']}/networkpolicies/{meta['name']}"
        self._client().request("PUT", path, policy)

    def pids(self) -> list[int]:
        """etcd and the API server."""
        return self._server.pids()

    def stop(self) -> None:
        """End them."""
        self._server.stop()

    def _client(self) -> ApiClient:
        if not hasattr(self._clients, "one"):
            self._clients.one = ApiClient(self._server)
        client: ApiClient = self._clients.one
        return client


def _pod_path(pod: str) -> str:
    space, _, name = pod.partition("/")
    return f"/api/v1/namespaces/{space}/pods/{name}"


def _etcd_key(one: ApiObject) -> str:
    """Where the API server has an object in etcd."""
    meta = one["metadata"]
    return "/".join(filter(None, ["/registry", _ETCD_FOLDERS[one["kind"]], meta.get("namespace", ""), meta["name"]]))
