"""A cluster with pods that are gone put back, so that a question about them has an answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType

from flows.cluster.model import Cluster, Key, Pod


def with_gone(cluster: Cluster, gone: Iterable[Pod]) -> tuple[Cluster, tuple[Key, ...]]:
    """The cluster with those pods whose name and addresses nobody has now, and which these are.

    Of several that had one address only the first comes back. Costs one pass over all pods, if there is any to put
    back.
    """
    candidates = [pod for pod in gone if pod.key not in cluster.pods]
    if not candidates:
        return cluster, ()
    taken = {address for pod in cluster.pods.values() if pod.networked for address in pod.addresses}
    taken.update(address for node in cluster.nodes.values() for address in node.addresses)
    back: dict[Key, Pod] = {}
    for pod in candidates:
        if taken.isdisjoint(pod.addresses):
            back[pod.key] = pod
            taken.update(pod.addresses)
    if not back:
        return cluster, ()
    return replace(cluster, pods=MappingProxyType({**cluster.pods, **back})), tuple(back)
