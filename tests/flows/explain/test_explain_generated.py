"""Explanations of generated clusters: they agree with the verdict, with a reason for each rule that does not match."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings

from flows.cluster.model import Cluster, Direction
from flows.explain.differences import Side, rule_gap
from flows.explain.scope import concerning
from flows.explain.walk import explain_connection
from flows.policy.explanation import Isolation
from flows.policy.verdict import verdict
from tests.helpers.cluster.generated_clusters import clusters, probes

_quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@_quick
@given(clusters())
def test_the_verdict_is_that_on_the_whole_cluster(cluster: Cluster) -> None:
    for probe in probes(cluster, 60):
        found, whole = explain_connection(cluster, probe), verdict(cluster, probe)
        assert found.allowed == whole.allowed
        for end, side in ((found.egress, whole.egress), (found.ingress, whole.ingress)):
            assert end.allowed == side.allowed
            assert end.isolated_by == tuple(map(str, side.isolated_by))
            allowing = [step for step in end.steps if step.matches and step.counts]
            assert [f"{step.policy} {step.rule}" for step in allowing] == [
                f"{one.policy} {one.direction.value}[{one.rule}]" for one in side.allowed_by
            ]
            # A rule that counts either matches, or says what differs.
            assert all(bool(step.differences) != (step.matches and step.counts) for step in end.steps)


@_quick
@given(clusters())
def test_a_rule_has_differences_exactly_where_it_does_not_match(cluster: Cluster) -> None:
    for probe in probes(cluster, 60):
        for side in (verdict(cluster, probe).egress, verdict(cluster, probe).ingress):
            if side.isolation is not Isolation.ISOLATED or side.end.pod is None:
                continue
            far = probe.destination if side.direction is Direction.EGRESS else probe.source
            seen = Side(cluster, probe, side.direction, cluster.pods[side.end.pod], far.address)
            for one in side.allowed_by:
                policy = cluster.policies[one.policy]
                assert not rule_gap(seen, policy, one.rule, policy.rules(side.direction)[one.rule]).differences
            for other in side.not_matching:
                policy = cluster.policies[other.policy]
                gap = rule_gap(seen, policy, other.rule, policy.rules(side.direction)[other.rule])
                assert gap.differences and gap.distance > 0


@_quick
@given(clusters())
def test_a_rule_that_nearly_counts_would_allow(cluster: Cluster) -> None:
    """With its policy selecting the subject and isolating in the direction, the end is allowed."""
    for probe in probes(cluster, 40):
        found = explain_connection(cluster, probe)
        for end, subject in ((found.egress, probe.source.pod), (found.ingress, probe.destination.pod)):
            for step in end.steps:
                if step.counts or subject is None:
                    continue
                changed = {
                    key: policy._replace(
                        subjects=policy.subjects._replace(requirements=()),
                        isolates=policy.isolates | {Direction(end.direction)},
                    )
                    if str(key) == step.policy
                    else policy
                    for key, policy in cluster.policies.items()
                }
                assert getattr(verdict(replace(cluster, policies=changed), probe), end.direction).allowed


@_quick
@given(clusters())
def test_a_part_of_the_cluster_decides_as_the_whole(cluster: Cluster) -> None:
    for probe in probes(cluster, 60):
        ends = (probe.source, probe.destination)
        part = concerning(cluster, [end.pod for end in ends if end.pod], [end.address for end in ends])
        assert verdict(part, probe) == verdict(cluster, probe)
