"""Policies as manifests: what is written is read as the same policy, and lines know their place."""

from __future__ import annotations

import yaml
from hypothesis import given, settings

from flows.cluster.model import (
    Action,
    AuditMode,
    ClusterPolicy,
    ClusterRule,
    Direction,
    Key,
    NodePeer,
    Operator,
    Peer,
    Policy,
    PortSpec,
    Protocol,
    Requirement,
    Rule,
    Selector,
    Subject,
    Tier,
)
from flows.cluster.staging import AUDIT, mode_of
from flows.explain.manifest import cluster_policy_manifest, policy_manifest
from flows.parse.cluster_network_policy import parse_cluster_policy
from flows.parse.network_policy import parse_policy
from tests.helpers.cluster.generated_clusters import clusters


def test_lines_know_their_place() -> None:
    web = Selector((Requirement("app", Operator.IN, ("web",)),))
    rule = Rule((Peer(web), Peer(None, Selector())), (PortSpec(Protocol.TCP, 80),))
    policy = Policy(Key("shop", "one"), web, frozenset({Direction.INGRESS}), (rule, None))
    lines = policy_manifest(policy)
    places = {place for _, place in lines}
    assert {"ingress[0].from[0]", "ingress[0].from[1]", "ingress[0].ports[0]", "ingress[1]", "podSelector"} <= places
    assert [text for text, place in lines if place == "ingress[0].ports[0]"] == [
        "    - protocol: TCP",
        "      port: 80",
    ]
    assert any(text.lstrip().startswith("# ingress[1] is not valid") for text, _ in lines)


def test_texts_that_yaml_would_read_as_something_else_stay_texts() -> None:
    odd = ("no", "123", "1e3", "a: b", "#c", "<b>", "2020-01-01", "~", "a\nb", "")
    subjects = Selector(tuple(sorted(Requirement(f"k{n}", Operator.IN, (one,)) for n, one in enumerate(odd))))
    policy = Policy(Key("shop", "null"), subjects, frozenset({Direction.EGRESS}))
    read = yaml.safe_load("\n".join(text for text, _ in policy_manifest(policy)))
    assert set(read["spec"]["podSelector"]["matchLabels"].values()) == set(odd)
    assert read["metadata"]["name"] == "null"


@settings(max_examples=20)
@given(clusters())
def test_what_is_written_is_read_as_the_same_policy(cluster) -> None:  # type: ignore[no-untyped-def]
    for policy in cluster.policies.values():
        said = policy.promoted if mode_of(policy) == AUDIT else policy
        if not said.isolates or None in (*said.ingress, *said.egress):
            continue  # no manifest can be of such a value
        plain = policy.promoted if policy.staged else policy
        for one in (policy, *((plain.stage(), plain.stage_deletion()) if plain.isolates else ())):
            text = "\n".join(line.text for line in policy_manifest(one))
            found = parse_policy(yaml.safe_load(text), [])
            assert found == one or found.errors  # what is generated is not always valid


def test_a_policy_of_the_whole_cluster_is_read_as_the_same() -> None:
    web = Selector((Requirement("app", Operator.IN, ("web",)),))
    rules = (
        ClusterRule(
            Action.DENY, (Peer(web, Selector()), Peer(None, web), NodePeer(web)), (PortSpec(Protocol.UDP, 1, 9),)
        ),
        ClusterRule(Action.PASS, (Peer(None, Selector()),), (PortSpec(Protocol.TCP, 80),), "second"),
    )
    policy = ClusterPolicy(
        Key("", "guard"), "ClusterNetworkPolicy", Tier.ADMIN, 7, Subject(web), egress=rules, audit=AuditMode.ALL
    )
    text = "\n".join(one.text for one in cluster_policy_manifest(policy))
    assert parse_cluster_policy(yaml.safe_load(text), []) == policy
