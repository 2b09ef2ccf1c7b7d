"""The part of a cluster that the verdict on some connections depends on.

`verdict` goes through all pods for each peer of each rule, and through all policies. A connection depends on few: the
pods at its ends, the pods that claim its addresses, and the policies of the namespaces of its ends. Tests hold the
verdict on this part equal to that on the whole.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from types import MappingProxyType

from flows.cluster.model import Cluster, Key
from flows.cluster.net import Net


def concerning(cluster: Cluster, pods: Collection[Key], addresses: Collection[Net]) -> Cluster:
    """The cluster with these pods, the pods that have one of these addresses, and the policies of their namespaces.

    Costs one pass over all pods and policies; nodes, namespaces and Services stay as they are.
    """
    wanted, places = frozenset(pods), frozenset(addresses)
    kept = {key: pod for key, pod in cluster.pods.items() if not places.isdisjoint(pod.addresses) or key in wanted}
    namespaces = {key.namespace for key in kept}
    policies = {key: policy for key, policy in cluster.policies.items() if key.namespace in namespaces}
    return replace(cluster, pods=MappingProxyType(kept), policies=MappingProxyType(policies))
