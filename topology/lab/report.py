"""A description of a running lab as plain values, for `headgate lab status`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from topology.host import process
from topology.lab.lab import Lab
from topology.lab.manifests import namespace_object, pod_object
from topology.lab.node import is_running
from topology.lab.product import CONTROLLER_ROLE
from topology.spec.model import LabNamespace, LabPod

LAB_VERSION = 1


@dataclass(frozen=True, slots=True)
class NodeReport:
    """A node: `running` says whether its switch does, `ovsdb` and `management` are for ovs-vsctl and ovs-ofctl."""

    name: str
    running: bool
    addresses: tuple[str, ...]
    ovsdb: str
    management: str
    netns: str


@dataclass(frozen=True, slots=True)
class NamespaceReport:
    """A namespace, with the labels of its object now."""

    name: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PodReport:
    """A pod, with the labels of its object now, and the ports that it serves."""

    name: str
    node: str
    labels: Mapping[str, str]
    addresses: tuple[str, ...]
    mac: str
    interface: str
    ports: tuple[str, ...]
    netns: str


@dataclass(frozen=True, slots=True)
class ExternalReport:
    """A machine outside the cluster."""

    name: str
    addresses: tuple[str, ...]
    netns: str


@dataclass(frozen=True, slots=True)
class ProcessReport:
    """A process of the lab."""

    pid: int
    role: str


@dataclass(frozen=True, slots=True)
class LabReport:
    """Addresses, sockets, network namespaces and processes of a running lab; `version` is that of the form.

    `server` is None if the lab was started without a controller; `controller` says whether it runs.
    """

    name: str
    folder: str
    datapath: str
    server: str | None
    controller: bool
    nodes: tuple[NodeReport, ...]
    namespaces: tuple[NamespaceReport, ...]
    pods: tuple[PodReport, ...]
    externals: tuple[ExternalReport, ...]
    processes: tuple[ProcessReport, ...]
    version: int = LAB_VERSION


def describe_lab(lab: Lab) -> LabReport:
    """The report of a running lab. Raises LabError if the lab is not up."""
    current = lab.current()
    running = process.find(lab.folder)
    return LabReport(
        lab.topology.name,
        str(lab.folder),
        current.datapath,
        lab.product.server if current.controller else None,
        any(found.role == CONTROLLER_ROLE for found in running),
        _nodes(lab),
        tuple(NamespaceReport(one.name, _namespace_labels(lab, one)) for one in lab.topology.namespaces),
        _pods(lab),
        tuple(
            ExternalReport(name, tuple(endpoint.addresses.values()), str(lab.netns(name)))
            for name, endpoint in lab.endpoints.items()
            if name.startswith("external:")
        ),
        tuple(ProcessReport(found.pid, found.role) for found in running),
    )


def _nodes(lab: Lab) -> tuple[NodeReport, ...]:
    return tuple(
        NodeReport(
            name,
            is_running(lab.folder, name),
            tuple(node.endpoint.addresses.values()),
            node.ovsdb,
            node.management,
            str(node.netns),
        )
        for name, node in lab.nodes.items()
    )


def _pods(lab: Lab) -> tuple[PodReport, ...]:
    return tuple(
        PodReport(
            pod.key,
            pod.node,
            _pod_labels(lab, pod),
            tuple(lab.endpoints[pod.key].addresses.values()),
            lab.endpoints[pod.key].mac,
            lab.link(pod).interface,
            tuple(map(str, lab.topology.served(pod))),
            str(lab.netns(pod.key)),
        )
        for pod in lab.topology.pods
    )


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
