"""Parsing NetworkPolicy: valid policies get the API's meaning, and errors never allow more."""

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


def parse(untrusted: object) -> Policy:
    return parse_policy(untrusted, [])


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str) -> None:
    spec, subjects, isolates, ingress, egress = ACCEPTED[name]
    assert parse(policy(spec)) == Policy(Key("default", "p"), subjects, isolates, ingress, egress)


@pytest.mark.parametrize("name", REFUSED)
def test_errors_name_the_fields_and_fail_closed(name: str) -> None:
    spec, fields = REFUSED[name]
    found = parse_object(policy(spec))
    assert found is not None
    parsed = found.value
    assert isinstance(parsed, Policy)
    assert sorted(error.field for error in found.errors) == sorted(fields)
    assert parsed.errors == tuple(map(str, found.errors))
    # Pods stay isolated: an invalid rule is left out, an invalid selector selects everything.
    assert parsed.subjects == EVERYTHING
    assert Direction.INGRESS in parsed.isolates
    assert all(rule is None for rule in parsed.ingress)


def test_absent_spec() -> None:
    untrusted = policy(None)
    del untrusted["spec"]
    assert parse(untrusted) == Policy(Key("default", "p"), EVERYTHING, INGRESS)


def test_valid_rules_are_kept_beside_an_invalid_one() -> None:
    spec = {
        "podSelector": {},
        "ingress": [{"ports": [{"port": 80}]}, {"ports": [{"port": 0}]}, {"ports": [{"port": 81}]}],
    }
    parsed = parse(policy(spec))
    assert parsed.ingress == (Rule((), (PortSpec(port=80),)), None, Rule((), (PortSpec(port=81),)))
    assert parsed.errors == ("spec.ingress[1].ports[0].port: must be between 1 and 65535",)


@pytest.mark.parametrize(
    "rule",
    [
        {"from": [{"podSelector": {}}, {"ipBlock": {"cidr": "x"}}]},
        {"from": [{"podSelector": {}}], "ports": [{"port": 80}, {"port": 0}]},
        {"from": 1, "ports": [{"port": 80}]},
        {"from": [{"podSelector": {}}], "ports": {}},
    ],
)
def test_an_invalid_peer_or_port_leaves_out_the_whole_rule(rule: object) -> None:
    assert parse(policy({"ingress": [rule]})).ingress == (None,)


def test_host_bits_are_cleared() -> None:
    """New API servers refuse them in new objects; stored objects may have them, and every release masks them."""
    parsed = parse(policy(block("10.1.2.3/8", "10.9.9.9/16")))
    assert not parsed.errors
    rule = parsed.ingress[0]
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
def test_invalid_policies_isolate_in_the_directions_they_name(spec: object, isolates: frozenset[Direction]) -> None:
    parsed = parse(policy(spec))
    assert parsed.isolates == isolates
    assert parsed.subjects == EVERYTHING
    assert parsed.errors


def test_selectors_with_the_same_requirements_are_equal() -> None:
    label = parse(policy({"podSelector": {"matchLabels": {"a": "b"}}})).subjects
    assert label == parse(policy(expression(key="a", operator="In", values=["b", "b"]))).subjects == labelled("a", "b")


def test_an_empty_and_an_absent_peer_selector_differ() -> None:
    rule = parse(policy(peer({"namespaceSelector": {}}))).ingress[0]
    assert rule is not None
    assert (rule.peers[0].pods, rule.peers[0].namespaces) == (None, Selector())


def test_namespaces() -> None:
    assert parse(policy({}, namespace=None)).key == Key("default", "p")
    assert parse(policy({}, namespace="")).key == Key("default", "p")
    assert parse(policy({}, namespace="prod")).key == Key("prod", "p")


@pytest.mark.parametrize(
    ("untrusted", "key", "field"),
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
def test_unusable_metadata_raises(untrusted: object, key: str, field: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(untrusted)
    assert caught.value.key == key
    assert [error.field for error in caught.value.errors] == [field]


def test_labels_that_yaml_reads_as_another_type() -> None:
    parsed = parse(policy({"podSelector": {"matchLabels": {"version": 1.1}}}))
    assert parsed.errors == ("spec.podSelector.matchLabels[version]: must be a string, not the number 1.1; quote it",)


@pytest.mark.parametrize(
    "broken", [{"podSelector": {"matchLabels": {"app": 5}}}, {"podSelector": []}, {"policyTypes": ["ingress"]}]
)
def test_rules_do_not_count_with_an_invalid_selector_or_types(broken: Spec) -> None:
    """The whole namespace is isolated, and its valid rules must not allow what other policies isolate."""
    parsed = parse(policy({**broken, "ingress": [{}], "egress": [{}, {}]}))
    assert (parsed.subjects, parsed.isolates) == (EVERYTHING, BOTH)
    assert (parsed.ingress, parsed.egress) == ((None,), (None, None))
