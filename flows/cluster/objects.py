"""The objects of a cluster by kind and key, and the objects that differ between two snapshots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import attrgetter

from flows.cluster.model import CLUSTER_NETWORK_POLICY, Cluster, Key, Pod

ObjectRef = tuple[str, Key | str]  # kind, and key or name
_OBJECTS = {
    "Namespace": attrgetter("namespaces"),
    "Pod": attrgetter("pods"),
    "Node": attrgetter("nodes"),
    "NetworkPolicy": attrgetter("policies"),
    "Service": attrgetter("services"),
    "EndpointSlice": attrgetter("endpoint_slices"),
    "ServiceCIDR": attrgetter("service_cidrs"),
    CLUSTER_NETWORK_POLICY: attrgetter("cluster_policies"),
}
CLUSTER_KINDS = tuple(_OBJECTS)
SERVICE_KINDS = ("Service", "EndpointSlice", "ServiceCIDR")  # nothing of policy depends on these
# Nothing but policy depends on these.
POLICY_KINDS = frozenset({"Namespace", "NetworkPolicy", CLUSTER_NETWORK_POLICY})


def binding_fields(pod: object) -> object:
    """The fields of a pod that its binding depends on (see `flows.bridge.binding`), or what status shows beside it, to
    compare two versions of it.

    Labels and container ports are not among them. None for a value that is not a Pod.
    """
    if not isinstance(pod, Pod):
        return None
    _, _, node, uid, addresses, _, host_network, finished, _, _, limits_bandwidth, _, _ = pod
    return addresses, node, uid, host_network, finished, limits_bandwidth


def objects_of_kind(cluster: Cluster, kind: str) -> Mapping[Key | str, object]:
    """The objects of a kind, one of CLUSTER_KINDS, by Key, or by name for kinds outside namespaces."""
    found: Mapping[Key | str, object] = _OBJECTS[kind](cluster)
    return found


def changed_objects(old: Cluster, new: Cluster) -> Iterable[ObjectRef]:
    """The objects that may differ between two snapshots: those that are not the same Python object in both."""
    for kind in CLUSTER_KINDS:
        before, after = objects_of_kind(old, kind), objects_of_kind(new, kind)
        if before is after:
            continue
        # Not the union of their keys: most often few of very many differ.
        for key, value in after.items():
            if before.get(key) is not value:
                yield kind, key
        for key in before.keys() - after.keys():
            yield kind, key
