"""A cluster as it would be after objects are applied or deleted, as far as manifests can say.

A manifest of a repository says less than the object of an API server: it has no status. So a pod that is applied keeps
its node and addresses, and a workload that is applied gives its labels and ports to the pods that it has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from flows.cluster.foretold import Foretold, foretell
from flows.cluster.model import Cluster, ClusterPolicy, Key, Labels, Namespace, Node, Pod, Policy, Workload
from flows.cluster.net import Net
from flows.cluster.original_api import OriginalPolicy

HASH_LABEL = "pod-template-hash"  # and others that a workload's controller adds to the labels of its template
ADDED_LABELS = (
    HASH_LABEL,
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
)
_FIELDS = {Namespace: "namespaces", Node: "nodes", Policy: "policies", ClusterPolicy: "cluster_policies"}
ObjectValue = tuple[Key | str, Any]  # key or name, and value


def applied(
    cluster: Cluster, put: Iterable[ObjectValue], deleted: Iterable[ObjectValue], pod_ranges: Collection[Net]
) -> tuple[Cluster, Foretold]:
    """The cluster after the objects of `put` are applied and those of `deleted` are gone.

    Pods that come without an address get one of `pod_ranges`. Returns the cluster, and what was made up.
    """
    objects: dict[str, dict[Any, Any]] = {field: dict(getattr(cluster, field)) for field in _FIELDS.values()}
    pods = dict(cluster.pods)
    workloads: list[Workload] = []
    for name, value in put:
        if isinstance(value, Pod):
            pods[value.key] = _kept(value, pods.get(value.key))
        elif isinstance(value, Workload):
            workloads.append(value)
            _relabel(pods, value)
        elif isinstance(value, OriginalPolicy):
            namespace = objects["namespaces"].get(value.key.namespace)
            active = isinstance(namespace, Namespace) and value.api in namespace.isolation
            policy = value.active if active else value.inactive
            objects["policies"][policy.key] = policy
        elif type(value) in _FIELDS:
            objects[_FIELDS[type(value)]][name] = value
    for name, value in deleted:
        if isinstance(value, Namespace):
            _delete_namespace(objects, pods, value.name)
        if isinstance(value, Pod):
            pods.pop(value.key, None)
        elif isinstance(value, Workload):
            for pod in _pods_of(pods, value):
                del pods[pod.key]
        elif isinstance(value, OriginalPolicy):
            objects["policies"].pop(value.active.key, None)
        elif type(value) in _FIELDS:
            objects[_FIELDS[type(value)]].pop(name, None)
    addressless = {key for key, pod in cluster.pods.items() if pod.networked and not pod.addresses}
    waiting = {key: pods.pop(key) for key in addressless & pods.keys()}  # they are as they are
    found = foretell(pods, workloads, pod_ranges)
    changed: dict[str, Any] = {**objects, "pods": {**found.pods, **waiting}}
    # A mapping that does not differ stays the same one, by which others see that nothing has to be computed anew.
    return replace(cluster, **{name: one for name, one in changed.items() if one != getattr(cluster, name)}), found


def _delete_namespace(objects: dict[str, dict[Any, Any]], pods: dict[Key, Pod], name: str) -> None:
    """With a namespace everything in it goes."""
    for found in (pods, objects["policies"]):
        for key in [key for key in found if key.namespace == name]:
            del found[key]


def _kept(new: Pod, old: Pod | None) -> Pod:
    if old is None:
        return new
    return new._replace(
        addresses=new.addresses or old.addresses,
        node=new.node or old.node,
        uid=new.uid or old.uid,
        workload=new.workload or old.workload,
    )


def _pods_of(pods: dict[Key, Pod], workload: Workload) -> list[Pod]:
    name = f"{workload.kind}/{workload.key.name}"
    return [pod for pod in pods.values() if pod.workload == name and pod.key.namespace == workload.key.namespace]


def _relabel(pods: dict[Key, Pod], workload: Workload) -> None:
    template = workload.template
    for pod in _pods_of(pods, workload):
        added = {name: pod.labels[name] for name in ADDED_LABELS if name in pod.labels}
        labels: Labels = {**added, **template.labels}
        if (pod.labels, pod.ports) != (labels, template.ports):
            pods[pod.key] = pod._replace(labels=labels, ports=template.ports, host_network=template.host_network)
