"""Misspelt kinds and versions are errors with a suggestion; kinds of other APIs are ignored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.parse.misspelt_kinds import MAX_COMPARED, intended_kind
from flows.parse.objects import PARSERS, ParseError, parse_object

POLICY = ("networking.k8s.io/v1", "NetworkPolicy")


@pytest.mark.parametrize(
    ("version", "kind", "suggested"),
    [
        ("networking.k8s.io/v1", "NetworkPolcy", POLICY),
        ("networking.k8s.io/v1", "networkpolicy", POLICY),
        ("networking.k8s.io/v1", "NetworkPolicies", POLICY),
        ("networking.k8s.io/v1", "NetworkPolicys", POLICY),
        ("networking.k8s.io/v1", "NetwrokPolicy", POLICY),
        ("network.k8s.io/v1", "NetworkPolicy", POLICY),
        ("networking.k8s.oi/v1", "NetworkPolicy", POLICY),
        ("Networking.K8s.io/v1", "NetworkPolicy", POLICY),
        ("networking/v1", "NetworkPolicy", POLICY),
        ("apps/v1", "NetworkPolicy", POLICY),
        ("extensions/v1beta1", "NetworkPolcy", ("extensions/v1beta1", "NetworkPolicy")),
        ("v1", "pod", ("v1", "Pod")),
        ("v1", "Pods", ("v1", "Pod")),
        ("apps/v1", "Pod", ("v1", "Pod")),
        ("v1", "Namspace", ("v1", "Namespace")),
        ("v1", "node", ("v1", "Node")),
    ],
)
def test_misspelt_kinds_are_errors_with_a_suggestion(version: str, kind: str, suggested: tuple[str, str]) -> None:
    with pytest.raises(ParseError) as caught:
        parse_object({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}})
    assert f"did you mean apiVersion {suggested[0]}, kind {suggested[1]}?" in str(caught.value)


# Kinds of Kubernetes' own groups, and of projects with policies of their own.
OTHERS = [
    *(("v1", kind) for kind in (
        "Service", "Endpoints", "ConfigMap", "Secret", "ServiceAccount", "PersistentVolume", "PersistentVolumeClaim",
        "ReplicationController", "ResourceQuota", "LimitRange", "Event", "Binding", "PodTemplate", "ComponentStatus",
    )),
    *(("apps/v1", kind) for kind in ("Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "ControllerRevision")),
    ("batch/v1", "Job"), ("batch/v1", "CronJob"), ("policy/v1", "PodDisruptionBudget"), ("policy/v1", "Eviction"),
    ("networking.k8s.io/v1", "Ingress"), ("networking.k8s.io/v1", "IngressClass"),
    ("networking.k8s.io/v1", "IPAddress"), ("networking.k8s.io/v1", "ServiceCIDR"),
    ("node.k8s.io/v1", "RuntimeClass"), ("metrics.k8s.io/v1beta1", "PodMetrics"),
    ("metrics.k8s.io/v1beta1", "NodeMetrics"), ("crd.projectcalico.org/v1", "NetworkPolicy"),
    ("projectcalico.org/v3", "NetworkPolicy"), ("projectcalico.org/v3", "GlobalNetworkPolicy"),
    ("crd.antrea.io/v1beta1", "NetworkPolicy"), ("cilium.io/v2", "CiliumNetworkPolicy"), ("example.com/v1", "Node"),
    ("karpenter.sh/v1", "NodePool"), ("kustomize.config.k8s.io/v1beta1", "Kustomization"), ("v1", "x" * 10_000),
    ("y" * 10_000 + "/v1", "NetworkPolicy"),
]  # fmt: skip


@pytest.mark.parametrize(("version", "kind"), OTHERS)
def test_kinds_of_other_apis_are_ignored(version: str, kind: str) -> None:
    assert parse_object({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}}) is None


@given(st.text(max_size=2 * MAX_COMPARED), st.text(max_size=2 * MAX_COMPARED))
def test_any_text_can_be_compared(version: str, kind: str) -> None:
    found = intended_kind(kind, version, tuple(PARSERS))
    assert found is None or found in PARSERS
