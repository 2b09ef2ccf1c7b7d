"""Rules that are named redundant or without effect: removing them changes no verdict between pods."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from hypothesis import HealthCheck, given, settings

from flows.cluster.model import Cluster, Direction, Policy, Rule
from flows.cluster.staging import promoted
from flows.lint.codes import DUPLICATE, HALVES, PEER_MATCHES_NOTHING, SELECTS_NOTHING, SHADOWED, Finding
from flows.lint.lint import lint
from flows.policy.verdict import verdict
from tests.helpers.cluster.generated_clusters import clusters, probes

_quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _with_rules(policy: Policy, direction: str, rules: list[Rule | None]) -> Policy:
    found = tuple(rules)
    return policy._replace(ingress=found) if direction == "ingress" else policy._replace(egress=found)


def _without(cluster: Cluster, found: Finding) -> Cluster:
    """The cluster without the rule that a finding is about."""
    changed = {}
    for key, policy in cluster.policies.items():
        if str(key) == found.key:
            direction, _, rest = found.field.removeprefix("spec.").partition("[")
            number = int(rest.rstrip("]"))
            rules = list(policy.rules(Direction(direction)))
            rules[number] = None
            policy = _with_rules(policy, direction, rules)
        changed[key] = policy
    return replace(cluster, policies=MappingProxyType(changed))


@_quick
@given(clusters().map(promoted))
def test_redundant_rules_change_nothing(cluster: Cluster) -> None:
    for found in lint(cluster):
        if found.code in (DUPLICATE, SHADOWED):
            changed = _without(cluster, found)
            for probe in probes(cluster, 60):
                assert verdict(cluster, probe).allowed == verdict(changed, probe).allowed, found


@_quick
@given(clusters().map(promoted))
def test_rules_whose_halves_do_not_meet_change_nothing_between_pods(cluster: Cluster) -> None:
    for found in lint(cluster):
        if found.code is HALVES:
            changed = _without(cluster, found)
            for probe in probes(cluster, 60):
                if probe.source.pod is not None and probe.destination.pod is not None:
                    assert verdict(cluster, probe).allowed == verdict(changed, probe).allowed, found


@_quick
@given(clusters().map(promoted))
def test_what_matches_nothing_matches_no_pod(cluster: Cluster) -> None:
    for found in lint(cluster):
        policy = next(policy for key, policy in cluster.policies.items() if str(key) == found.key)
        if found.code is SELECTS_NOTHING:
            without = {key: one for key, one in cluster.policies.items() if key != policy.key}
            changed = replace(cluster, policies=MappingProxyType(without))
        elif found.code is PEER_MATCHES_NOTHING:
            place, _, last = found.field.rpartition(".")
            direction, _, rest = place.removeprefix("spec.").partition("[")
            rules = list(policy.rules(Direction(direction)))
            rule = rules[int(rest.rstrip("]"))]
            assert rule is not None
            number = int(last.partition("[")[2].rstrip("]"))
            left = (*rule.peers[:number], *rule.peers[number + 1 :])
            rules[int(rest.rstrip("]"))] = rule._replace(peers=left) if left else None
            changed = replace(
                cluster,
                policies=MappingProxyType({**cluster.policies, policy.key: _with_rules(policy, direction, rules)}),
            )
        else:
            continue
        for probe in probes(cluster, 60):
            assert verdict(cluster, probe).allowed == verdict(changed, probe).allowed, found
