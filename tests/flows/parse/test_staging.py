"""The annotation that stages a NetworkPolicy."""

from __future__ import annotations

import pytest

from flows.cluster.model import Direction, Policy, StagedPolicy
from flows.parse.network_policy import parse_policy
from flows.parse.untrusted import Errors

RULES = {"podSelector": {}, "ingress": [{}], "egress": [{}, {}], "policyTypes": ["Ingress", "Egress"]}
BOTH = frozenset(Direction)


def parse(annotations: object, spec: object = None) -> tuple[Policy, Errors]:
    errors: Errors = []
    metadata = {"namespace": "x", "name": "p", "annotations": annotations}
    policy = parse_policy(
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec or RULES},
        errors,
    )
    return policy, errors


def test_a_staged_policy_says_nothing_until_it_is_promoted() -> None:
    policy, errors = parse({"headgate.io/mode": "audit"})
    plain, _ = parse({})
    assert not errors
    assert not policy.isolates and not policy.rules(Direction.INGRESS)
    assert policy.promoted == plain
    assert policy.stage() == policy


def test_a_staged_deletion_changes_nothing_until_it_is_promoted() -> None:
    policy, errors = parse({"headgate.io/mode": "audit-deletion"})
    plain, _ = parse({})
    assert not errors
    assert policy._replace(staged=None) == plain
    assert policy.staged == StagedPolicy()
    assert not policy.promoted.isolates
    # Where all policies are staged, it is neither in force nor ever will be.
    assert not policy.stage().isolates and not policy.stage().promoted.isolates


@pytest.mark.parametrize("annotations", [{}, None, {"headgate.io/mode": "enforce"}, {"other": "audit"}, [], "audit"])
def test_a_policy_without_the_annotation_is_in_force(annotations: object) -> None:
    policy, _ = parse(annotations)
    assert policy.staged is None and policy.isolates == BOTH


@pytest.mark.parametrize("mode", ["Audit", "", 1, None, True, ["audit"], {"audit": 1}, "audit " * 10_000])
def test_a_policy_whose_annotation_cannot_be_read_is_in_force(mode: object) -> None:
    policy, errors = parse({"headgate.io/mode": mode})
    assert policy.staged is None and policy.isolates == BOTH
    (error,) = errors
    assert error.field == "metadata.annotations[headgate.io/mode]"
    assert len(str(error)) < 1000
    assert policy.errors == (str(error),)


def test_errors_of_a_staged_policy_stay() -> None:
    policy, errors = parse({"headgate.io/mode": "audit"}, {"podSelector": {}, "ingress": [{"from": 1}]})
    assert errors and policy.errors
    assert policy.promoted.ingress == (None,)
