"""A description of a running lab as plain data, for `headgate lab status`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from topology.host import process
from topology.lab.lab import Lab
from topology.lab.manifests import namespace_object, pod_object
from topology.lab.node import is_running
from topology.lab.product import CONTROLLER_ROLE
from topology.spec.model import LabNamespace, LabPod


def describe_lab(lab: Lab) -> dict[str, Any]:
    """Addresses, sockets, network namespaces and processes of a running lab.

    `server` is None if the lab was started without a controller; `controller` says whether it runs. Raises LabError if
    the lab is not up.
    """
    current = lab.current()
    running = process.find(lab.folder)
    return {
        "name": lab.topology.name,
        "folder": str(lab.folder),
        "datapath": current.datapath,
        "server": lab.product.server if current.controller else None,
        "controller": any(found.role == CONTROLLER_ROLE for found in running),
        "nodes": _nodes(lab),
        "namespaces": [
            {"name": namespace.name, "labels": _namespace_labels(lab, namespace)}
            for namespace in lab.topology.namespaces
        ],
        "pods": _pods(lab),
        "externals": [
            {"name": name, "addresses": list(endpoint.addresses.values()), "netns": str(lab.netns(name))}
            for name, endpoint in lab.endpoints.items()
            if name.startswith("external:")
        ],
        "processes": [{"pid": found.pid, "role": found.role} for found in running],
    }


def _nodes(lab: Lab) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "running": is_running(lab.folder, name),
            "addresses": list(node.endpoint.addresses.values()),
            "ovsdb": node.ovsdb,
            "management": node.management,
            "netns": str(node.netns),
        }
        for name, node in lab.nodes.items()
    ]


def _pods(lab: Lab) -> list[dict[str, Any]]:
    return [
        {
            "name": pod.key,
            "node": pod.node,
            "labels": _pod_labels(lab, pod),
            "addresses": list(lab.endpoints[pod.key].addresses.values()),
            "mac": lab.endpoints[pod.key].mac,
            "interface": lab.link(pod).interface,
            "ports": [str(port) for port in lab.topology.served(pod)],
            "netns": str(lab.netns(pod.key)),
        }
        for pod in lab.topology.pods
    ]


def _pod_labels(lab: Lab, pod: LabPod) -> dict[str, str]:
    """The labels of the pod's object now; the topology has the initial ones."""
    return _labels(lab, pod_object(lab.topology, pod, lab.endpoints), pod.labels)


def _namespace_labels(lab: Lab, namespace: LabNamespace) -> dict[str, str]:
    return _labels(lab, namespace_object(namespace), namespace.labels)


def _labels(lab: Lab, item: dict[str, Any], first: Mapping[str, str]) -> dict[str, str]:
    if lab.cluster:
        return dict(first)  # the API server has them
    there = lab.manifests.get(item) or {}
    return dict(there.get("metadata", {}).get("labels") or {})
