"""The objects of a cluster by kind and key, and what differs between two clusters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flows.cluster.model import Cluster, Key, Pod

ObjectRef = tuple[str, Key | str]  # kind and key or name of an object that may have changed
CLUSTER_KINDS = ("Namespace", "Pod", "Node", "NetworkPolicy")


def binding_fields(pod: object) -> object:
    """All of a pod that decides what is behind a port; labels and container ports do not."""
    if not isinstance(pod, Pod):
        return None
    return pod.addresses, pod.node, pod.uid, pod.host_network, pod.finished


def objects_of_kind(cluster: Cluster, kind: str) -> Mapping[Key | str, object]:
    """The objects of a kind, by the kind's own keys."""
    maps = (cluster.namespaces, cluster.pods, cluster.nodes, cluster.policies)
    return maps[CLUSTER_KINDS.index(kind)]  # type: ignore[return-value]  # read only


def changed_objects(old: Cluster, new: Cluster) -> Iterable[ObjectRef]:
    """What may differ between two snapshots."""
    for kind in CLUSTER_KINDS:
        before, after = objects_of_kind(old, kind), objects_of_kind(new, kind)
        for key in before.keys() | after.keys():
            if before.get(key) is not after.get(key):
                yield kind, key
