"""All findings about the policies of a cluster, in the order of policies and fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType

from flows.cluster.model import Cluster
from flows.lint.codes import Finding
from flows.lint.meeting import meeting_findings
from flows.lint.redundant import redundancy_findings
from flows.lint.selectors import selector_findings
from flows.lint.tiers import tier_findings
from flows.lint.world import LintWorld


def lint(cluster: Cluster) -> Iterator[Finding]:
    """What is likely wrong in the policies, staged ones as they will be; what could not be parsed is told by
    `fields`."""
    policies = {key: one.promoted if one.staged and not one.isolates else one for key, one in cluster.policies.items()}
    cluster = replace(cluster, policies=MappingProxyType(policies))
    world = LintWorld(cluster)
    for key in sorted(cluster.policies):
        policy = cluster.policies[key]
        yield from selector_findings(world, policy)
        yield from meeting_findings(world, policy)
    yield from redundancy_findings(cluster)
    yield from tier_findings(world)
