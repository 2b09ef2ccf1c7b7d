"""The objects of a cluster by kind and key, and what differs between two clusters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flows.cluster.model import Cluster, Key, Pod

Touched = tuple[str, Key | str]  # kind and key or name of an object that may have changed
KINDS = ("Namespace", "Pod", "Node", "NetworkPolicy")


def placement(pod: object) -> object:
    """All of a pod that decides what is behind a port; labels and container ports do not."""
    if not isinstance(pod, Pod):
        return None
    return pod.addresses, pod.node, pod.uid, pod.host_network, pod.finished


def objects(cluster: Cluster, kind: str) -> Mapping[Key | str, object]:
    """The objects of a kind, by the kind's own keys."""
    maps = (cluster.namespaces, cluster.pods, cluster.nodes, cluster.policies)
    return maps[KINDS.index(kind)]  # type: ignore[return-value]  # read only


def compare(old: Cluster, new: Cluster) -> Iterable[Touched]:
    """What may differ between two snapshots."""
    for kind in KINDS:
        before, after = objects(old, kind), objects(new, kind)
        for key in before.keys() | after.keys():
            if before.get(key) is not after.get(key):
                yield kind, key
