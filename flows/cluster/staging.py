"""Staged policies: the words for them, and the cluster as it is once all are promoted."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from flows.cluster.model import Cluster, Policy

MODE_ANNOTATION = "headgate.io/mode"
ENFORCE = "enforce"
AUDIT = "audit"
AUDIT_DELETION = "audit-deletion"


def mode_of(policy: Policy) -> str:
    """The value of the annotation that makes a policy what it is; "" for one that is not staged."""
    if policy.staged is None:
        return ""
    return AUDIT if policy.staged.isolates or not policy.isolates else AUDIT_DELETION


def promoted(cluster: Cluster) -> Cluster:
    """The cluster with every staged policy as it will be. Costs one pass over the policies."""
    policies = {key: policy.promoted for key, policy in cluster.policies.items()}
    return replace(cluster, policies=MappingProxyType(policies))
