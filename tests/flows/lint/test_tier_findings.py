"""Findings about ClusterNetworkPolicies, and what these change in findings about NetworkPolicies."""

from __future__ import annotations

import pytest

from controller.cli.check.collect import check
from controller.sources.offline import ManifestText
from flows.cluster.model import ClusterPolicy, Peer, Policy, Subject, Tier
from flows.lint.lint import lint
from tests.helpers.cluster.model_objects import (
    block,
    cluster,
    cluster_policy,
    cluster_rule,
    labels,
    pod,
    policy,
    rule,
    tcp,
    udp,
    with_cluster_policies,
)

WEB, DB = labels(app="web"), labels(app="db")


def found(*policies: Policy | ClusterPolicy) -> list[tuple[str, str, str, str]]:
    """Code, policy, field and message of each finding, for the pods x/web, x/db and y/job."""
    pods = [pod("x/web", 2, app="web"), pod("x/db", 3, app="db"), pod("y/job", 4, app="job")]
    plain = [one for one in policies if isinstance(one, Policy)]
    world = cluster(pods, [], {"x": {"team": "x"}, "y": {}}, *plain)
    tiers = [one for one in policies if isinstance(one, ClusterPolicy)]
    return [
        (one.code.number, one.key, one.field, one.message) for one in lint(with_cluster_policies(world, *tiers))
    ]  # fmt: skip


def test_what_matches_nothing_is_told() -> None:
    nobody = Peer(labels(app="dbb"), labels(team="x"))
    told = found(
        cluster_policy("p", Subject(pods=labels(app="none")), egress=[cluster_rule("Deny", nobody, tcp("http"))]),
        cluster_policy("q", egress=[cluster_rule("Deny", tcp("http"))]),
    )
    assert [one[:3] for one in told] == [
        ("HG101", "p", "spec.subject"), ("HG102", "p", "spec.egress[0].to[0]"), ("HG106", "q", "spec.egress[0]"),
    ]  # fmt: skip


def test_a_rule_that_an_earlier_one_takes_all_of_never_decides() -> None:
    all_pods, some = Peer(None, labels()), Peer(WEB, labels(team="x"))
    first = cluster_policy("a", ingress=[cluster_rule("Pass", all_pods, tcp(80))], priority=1)
    later = cluster_policy("b", Subject(pods=DB), ingress=[cluster_rule("Deny", some, tcp(80))], priority=2)
    assert [one[:3] for one in found(first, later)] == [("HG112", "b", "spec.ingress[0]")]
    assert "a ingress[0] (Pass) comes first" in found(first, later)[0][3]
    assert not found(later, cluster_policy("c", ingress=[cluster_rule("Pass", all_pods, tcp(80))], priority=3))
    assert not found(first, later._replace(tier=Tier.BASELINE)) and not found(first, later._replace(priority=0))
    wider = cluster_policy("b", ingress=[cluster_rule("Deny", some, tcp())], priority=2)
    assert not found(first, wider)
    outside = [cluster_rule("Accept", block("10.0.0.0/8", "10.1.0.0/16")), cluster_rule("Deny", block("10.2.0.0/16"))]
    assert [one[:3] for one in found(cluster_policy("d", egress=outside))] == [("HG112", "d", "spec.egress[1]")]


DNS_FORGOTTEN = policy("x/web", WEB, egress=[rule(Peer(DB), tcp(5432))])


def test_dns_that_a_tier_accepts_is_not_forgotten() -> None:
    assert [one[0] for one in found(DNS_FORGOTTEN)] == ["HG108"]
    assert not found(DNS_FORGOTTEN, cluster_policy("dns", egress=[cluster_rule("Accept", udp(53))]))
    assert [one[0] for one in found(DNS_FORGOTTEN, cluster_policy("no", egress=[cluster_rule("Deny", udp(99))]))] == [
        "HG108"
    ]


def test_a_rule_that_tiers_deny_is_told_and_one_that_they_open_is_not() -> None:
    opened = policy("x/db", DB, [rule(Peer(WEB), tcp(5432))])
    deny = cluster_policy("no", Subject(pods=DB), ingress=[cluster_rule("Deny", Peer(WEB, labels()))])
    assert found(opened, deny) == [
        ("HG113", "x/db", "spec.ingress[0]",
         "allows ingress, but ClusterNetworkPolicies deny all of it between its pods and x/web")
    ]  # fmt: skip
    assert not found(opened, deny._replace(ingress=(cluster_rule("Deny", Peer(WEB, labels()), tcp(80)),)))
    shut = policy("x/shut", WEB, egress=[])
    assert [one[0] for one in found(opened, shut)] == ["HG110"]
    accept = cluster_policy("yes", Subject(pods=WEB), egress=[cluster_rule("Accept", Peer(DB, labels()))])
    assert not found(opened, shut, accept)


@pytest.mark.parametrize(("priority", "line"), [(5, 18), (20, 9)])
def test_findings_are_at_the_line_of_the_rule(priority: int, line: int) -> None:
    text = f"""\
apiVersion: policy.networking.k8s.io/v1beta1
kind: ClusterNetworkPolicy
metadata: {{name: one}}
spec:
  tier: Admin
  priority: 10
  subject: {{namespaces: {{}}}}
  ingress:
  - {{action: Deny, from: [{{namespaces: {{}}}}]}}
---
apiVersion: policy.networking.k8s.io/v1beta1
kind: ClusterNetworkPolicy
metadata: {{name: two}}
spec:
  tier: Admin
  priority: {25 - priority}
  subject: {{namespaces: {{}}}}
  ingress: [{{action: Accept, from: [{{namespaces: {{}}}}]}}]
"""
    (one,) = check([ManifestText("a.yaml", text.encode())]).findings
    assert (one.finding.code.number, one.line) == ("HG112", line)
