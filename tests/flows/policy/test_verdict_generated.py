"""Laws that every verdict obeys, on generated worlds: what must hold whatever the policies say."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from hypothesis import HealthCheck, given, settings

from flows.cluster.model import Cluster, Direction, Protocol
from flows.policy.verdict import Isolation, verdict
from tests.helpers.worlds import clusters, probes

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
def test_a_verdict_says_what_it_rests_on(cluster: Cluster) -> None:
    for probe in probes(cluster, 60):
        answer = verdict(cluster, probe)
        for side in (answer.egress, answer.ingress):
            assert bool(side.isolated_by) == (side.isolation is Isolation.ISOLATED)
            for key in side.isolated_by:
                assert side.direction in cluster.policies[key].isolates
            for grant in side.allowed_by:
                rule = cluster.policies[grant.policy].rules(grant.direction)[grant.rule]
                assert rule is not None
                assert (grant.peer is None) == (not rule.peers)
                assert grant.port in (rule.ports or (None,))
            asked = [rule for key in side.isolated_by for rule in cluster.policies[key].rules(side.direction)]
            assert len(side.allowed_by) + len(side.misses) == len(asked)
        assert answer.explain()[0].startswith("allowed" if answer.allowed else "denied")


@_quick
@given(clusters())
def test_each_policy_alone_allows_what_the_union_allows(cluster: Cluster) -> None:
    """The union of policies: an isolated end lets in just what some isolating policy alone would."""
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
            for grant in side.allowed_by:
                if probe.protocol not in set(Protocol):
                    assert grant.port is None
