"""The annotation that stages a NetworkPolicy."""

from __future__ import annotations

import pytest

from flows.cluster.model import AuditMode, ClusterPolicy, Direction, Policy, StagedPolicy
from flows.parse.network_policy import parse_policy
from flows.parse.objects import ParsedObject, parse_object
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


OF_CLUSTER: dict[str, tuple[str, dict[str, object]]] = {
    "ClusterNetworkPolicy": ("v1beta1", {"tier": "Admin", "priority": 1}),
    "AdminNetworkPolicy": ("v1alpha1", {"priority": 1}),
    "BaselineAdminNetworkPolicy": ("v1alpha1", {}),
}


def of_cluster(kind: str, annotations: object) -> ParsedObject:
    version, place = OF_CLUSTER[kind]
    rule = {"action": "Deny", "from": [{"namespaces": {}}]}
    spec = {**place, "subject": {"namespaces": {}}, "ingress": [rule]}
    metadata = {"name": "default", "annotations": annotations}
    found = parse_object(
        {"apiVersion": f"policy.networking.k8s.io/{version}", "kind": kind, "metadata": metadata, "spec": spec}
    )
    assert found is not None
    return found


@pytest.mark.parametrize("mode", ["audit", "audit-deletion", "Audit", "", 1, None, {"audit": 1}])
@pytest.mark.parametrize("kind", OF_CLUSTER)
def test_a_policy_of_the_cluster_is_in_force_and_says_so(kind: str, mode: object) -> None:
    plain, found = of_cluster(kind, {}), of_cluster(kind, {"headgate.io/mode": mode})
    assert isinstance(found.value, ClusterPolicy) and not plain.errors
    assert found.value._replace(errors=()) == plain.value
    (error,) = found.errors
    assert error.field == "metadata.annotations[headgate.io/mode]" and "it is in force" in error.reason
    assert found.value.errors == (str(error),)
    assert not of_cluster(kind, {"headgate.io/mode": "enforce"}).errors


@pytest.mark.parametrize("kind", OF_CLUSTER)
def test_every_policy_of_the_cluster_may_ask_for_an_audit(kind: str) -> None:
    found = of_cluster(kind, {"headgate.io/audit": "denied"}).value
    assert isinstance(found, ClusterPolicy) and found.audit is AuditMode.DENIED
    (error,) = of_cluster(kind, {"headgate.io/audit": "everything"}).errors
    assert error.field == "metadata.annotations[headgate.io/audit]"
