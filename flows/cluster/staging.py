"""The cluster as it is once all staged policies are promoted."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from flows.cluster.model import Cluster


def promoted(cluster: Cluster) -> Cluster:
    """The cluster with every staged policy as it will be. Costs one pass over the policies."""
    policies = {key: policy.promoted for key, policy in cluster.policies.items()}
    return replace(cluster, policies=MappingProxyType(policies))
