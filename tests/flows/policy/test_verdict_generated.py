"""Properties of every verdict, on generated clusters, whatever the policies are."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from hypothesis import HealthCheck, given, settings

from flows.cluster.model import Cluster, Direction, Protocol
from flows.policy.explanation import Isolation
from flows.policy.verdict import verdict
from tests.helpers.cluster.generated_clusters import clusters, probes

_quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@_quick
@given(clusters())
def test_more_rules_never_deny_and_fewer_never_allow(cluster: Cluster) -> None:
    shut = {key: policy._replace(ingress=(), egress=()) for key, policy in cluster.policies.items()}
    strict = replace(cluster, policies=MappingProxyType(shut))
    free = replace(cluster, policies=MappingProxyType({}))
    for probe in probes(cluster, 60):
        assert verdict(free, probe).allowed
        if verdict(strict, probe).allowed:
            assert verdict(cluster, probe).allowed


@_quick
@given(clusters())
def test_a_verdict_names_its_policies_and_rules(cluster: Cluster) -> None:
    for probe in probes(cluster, 60):
        answer = verdict(cluster, probe)
        for side in (answer.egress, answer.ingress):
            assert bool(side.isolated_by) == (side.isolation is Isolation.ISOLATED)
            for key in side.isolated_by:
                assert side.direction in cluster.policies[key].isolates
            for allowing in side.allowed_by:
                rule = cluster.policies[allowing.policy].rules(allowing.direction)[allowing.rule]
                assert rule is not None
                assert (allowing.peer is None) == (not rule.peers)
                assert allowing.port in (rule.ports or (None,))
            rules = [rule for key in side.isolated_by for rule in cluster.policies[key].rules(side.direction)]
            assert len(side.allowed_by) + len(side.not_matching) == len(rules)
        assert answer.explain()[0].startswith("allowed" if answer.allowed else "denied")


@_quick
@given(clusters())
def test_each_policy_alone_allows_what_the_union_allows(cluster: Cluster) -> None:
    """The union of policies: an isolated end allows what at least one isolating policy alone allows."""
    for probe in probes(cluster, 40):
        for direction in Direction:
            side = getattr(verdict(cluster, probe), direction.value)
            if side.isolation is not Isolation.ISOLATED:
                continue
            alone = [
                getattr(
                    verdict(replace(cluster, policies={key: cluster.policies[key]}), probe), direction.value
                ).allowed
                for key in side.isolated_by
            ]
            assert side.allowed == any(alone)


@_quick
@given(clusters())
def test_rules_with_ports_are_for_their_protocols_only(cluster: Cluster) -> None:
    for probe in probes(cluster, 60):
        for side in (verdict(cluster, probe).egress, verdict(cluster, probe).ingress):
            for allowing in side.allowed_by:
                if probe.protocol not in set(Protocol):
                    assert allowing.port is None
