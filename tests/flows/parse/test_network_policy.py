"""Reading NetworkPolicy: what the API server takes means what it says, and what it refuses never widens anything."""

from __future__ import annotations

from typing import Any

import pytest

from flows.cluster.model import EVERYTHING, Direction, Key, Policy, PortSpec, Rule, Selector
from flows.cluster.net import parse_network
from flows.parse.objects import ParseError, parse_object, parse_policy
from tests.helpers.cluster.network_policy_specs import (
    ACCEPTED,
    BOTH,
    EGRESS,
    INGRESS,
    REFUSED,
    Spec,
    block,
    expression,
    labelled,
    peer,
)


def policy(spec: Spec, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "p", **metadata},
        "spec": spec,
    }


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str) -> None:
    spec, subjects, isolates, ingress, egress = ACCEPTED[name]
    assert parse_policy(policy(spec)) == Policy(Key("default", "p"), subjects, isolates, ingress, egress)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_names_the_fields_and_never_widens(name: str) -> None:
    spec, fields = REFUSED[name]
    found = parse_object(policy(spec))
    assert found is not None
    read = found.value
    assert isinstance(read, Policy)
    assert sorted(error.field for error in found.errors) == sorted(fields)
    assert read.errors == tuple(map(str, found.errors))
    # Whatever was broken, pods stay isolated: a broken rule is left out, a broken selector selects everything.
    assert read.subjects == EVERYTHING
    assert Direction.INGRESS in read.isolates
    assert all(rule is None for rule in read.ingress)


def test_absent_spec() -> None:
    raw = policy(None)
    del raw["spec"]
    assert parse_policy(raw) == Policy(Key("default", "p"), EVERYTHING, INGRESS)


def test_good_rules_stay_beside_a_broken_one() -> None:
    spec = {
        "podSelector": {},
        "ingress": [{"ports": [{"port": 80}]}, {"ports": [{"port": 0}]}, {"ports": [{"port": 81}]}],
    }
    read = parse_policy(policy(spec))
    assert read.ingress == (Rule((), (PortSpec(port=80),)), None, Rule((), (PortSpec(port=81),)))
    assert read.errors == ("spec.ingress[1].ports[0].port: must be between 1 and 65535",)


@pytest.mark.parametrize(
    "rule",
    [
        {"from": [{"podSelector": {}}, {"ipBlock": {"cidr": "x"}}]},
        {"from": [{"podSelector": {}}], "ports": [{"port": 80}, {"port": 0}]},
        {"from": 1, "ports": [{"port": 80}]},
        {"from": [{"podSelector": {}}], "ports": {}},
    ],
)
def test_one_bad_peer_or_port_leaves_the_whole_rule_out(rule: object) -> None:
    assert parse_policy(policy({"ingress": [rule]})).ingress == (None,)


def test_host_bits_are_cleared() -> None:
    """New API servers refuse them in new objects; stored objects keep them, and every release masks them."""
    read = parse_policy(policy(block("10.1.2.3/8", "10.9.9.9/16")))
    assert not read.errors
    rule = read.ingress[0]
    assert rule is not None
    assert rule.peers[0].ip_block is not None
    assert rule.peers[0].ip_block.cidr == parse_network("10.0.0.0/8")
    assert rule.peers[0].ip_block.excepts == (parse_network("10.9.0.0/16"),)


@pytest.mark.parametrize(
    ("spec", "isolates"),
    [
        ("broken", BOTH),
        ({"policyTypes": "Egress"}, BOTH),
        ({"policyTypes": ["Egress", "Other"]}, BOTH),
        ({"policyTypes": ["Egress", "Egress", "Egress"]}, BOTH),
        ({"egress": "broken"}, BOTH),
        ({"egress": {}}, BOTH),
        ({"egress": [1]}, BOTH),
        ({"ingress": "broken"}, INGRESS),
        ({"policyTypes": ["Egress"], "egress": "broken"}, EGRESS),
        ({"policyTypes": ["Egress"], "podSelector": 1}, EGRESS),
    ],
)
def test_broken_policies_isolate_in_the_directions_they_name(spec: object, isolates: frozenset[Direction]) -> None:
    read = parse_policy(policy(spec))
    assert read.isolates == isolates
    assert read.subjects == EVERYTHING
    assert read.errors


def test_selectors_that_mean_the_same_by_their_terms_are_equal() -> None:
    label = parse_policy(policy({"podSelector": {"matchLabels": {"a": "b"}}})).subjects
    assert (
        label
        == parse_policy(policy(expression(key="a", operator="In", values=["b", "b"]))).subjects
        == labelled("a", "b")
    )


def test_an_empty_and_an_absent_peer_selector_differ() -> None:
    rule = parse_policy(policy(peer({"namespaceSelector": {}}))).ingress[0]
    assert rule is not None
    assert (rule.peers[0].pods, rule.peers[0].namespaces) == (None, Selector())


def test_namespaces() -> None:
    assert parse_policy(policy({}, namespace=None)).key == Key("default", "p")
    assert parse_policy(policy({}, namespace="")).key == Key("default", "p")
    assert parse_policy(policy({}, namespace="prod")).key == Key("prod", "p")


@pytest.mark.parametrize(
    ("raw", "key", "field"),
    [
        (None, "NetworkPolicy", ""),
        ([], "NetworkPolicy", ""),
        ({}, "NetworkPolicy", "metadata"),
        ({"metadata": 1}, "NetworkPolicy", "metadata"),
        ({"metadata": {}}, "NetworkPolicy", "metadata.name"),
        ({"metadata": {"name": 5}}, "NetworkPolicy", "metadata.name"),
        ({"metadata": {"name": "a/b"}}, "NetworkPolicy default/'a/b'", "metadata.name"),
        ({"metadata": {"name": "A"}}, "NetworkPolicy default/'A'", "metadata.name"),
        ({"metadata": {"name": "a..b"}}, "NetworkPolicy default/'a..b'", "metadata.name"),
        ({"metadata": {"name": "a", "namespace": "b.c"}}, "NetworkPolicy 'a'", "metadata.namespace"),
        ({"metadata": {"name": "a", "namespace": 0}}, "NetworkPolicy 'a'", "metadata.namespace"),
    ],
)
def test_unusable_metadata_raises(raw: object, key: str, field: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_policy(raw)
    assert caught.value.key == key
    assert [error.field for error in caught.value.errors] == [field]


def test_labels_that_yaml_read_as_something_else() -> None:
    read = parse_policy(policy({"podSelector": {"matchLabels": {"version": 1.1}}}))
    assert read.errors == ("spec.podSelector.matchLabels[version]: must be a string, not the number 1.1; quote it",)


@pytest.mark.parametrize(
    "broken", [{"podSelector": {"matchLabels": {"app": 5}}}, {"podSelector": []}, {"policyTypes": ["ingress"]}]
)
def test_rules_count_neither_for_pods_nor_directions_that_were_not_meant(broken: Spec) -> None:
    """The whole namespace is isolated, and a good rule beside it must not open what other policies isolate."""
    read = parse_policy(policy({**broken, "ingress": [{}], "egress": [{}, {}]}))
    assert (read.subjects, read.isolates) == (EVERYTHING, BOTH)
    assert (read.ingress, read.egress) == ((None,), (None, None))
