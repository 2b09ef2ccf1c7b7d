"""Parts of a policy without effect become notes of its status; the policy is realized all the same."""

from __future__ import annotations

from typing import Any

import pytest

from controller.reconcile.events import ClusterChanged
from controller.status.reference import policy_views
from flows.cluster.model import Cluster, ContainerPort, Key, Namespace, Pod, Protocol
from flows.cluster.original_api import all_policies
from flows.cluster.staging import AUDIT, MODE_ANNOTATION
from flows.parse.network_policy import parse_policy
from flows.parse.original_api import parse_beta_policy
from flows.policy.policy_notes import MAX_NOTES
from tests.helpers.controller.reconcile_driver import Driver

A = Pod(Key("x", "a"), {"app": "a"}, "n1", ports=(ContainerPort("web", 80, Protocol.TCP),))
B = Pod(Key("x", "b"), {"app": "b"}, "n1", ports=(ContainerPort("dns", 53, Protocol.UDP),))


def notes(spec: dict[str, Any], mode: str = "") -> tuple[str, ...]:
    annotations = {MODE_ANNOTATION: mode} if mode else {}
    raw = {"metadata": {"name": "p", "namespace": "x", "annotations": annotations}, "spec": spec}
    policy = parse_policy(raw, [])
    found = Driver()
    found.send(
        ClusterChanged(
            Cluster(
                namespaces={"x": Namespace("x", {"team": "x"})},
                pods={pod.key: pod for pod in (A, B)},
                policies={policy.key: policy},
            )
        )
    )
    (view,) = policy_views(found.core)
    assert (view.realized, view.reason) == (True, "")
    return view.notes


def app(name: str) -> dict[str, Any]:
    return {"matchLabels": {"app": name}}


NOBODY = {"podSelector": app("typo")}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"podSelector": app("a"), "ingress": [{"from": [{"podSelector": app("b")}], "ports": [{"port": "web"}]}]}, []),
        ({"podSelector": app("a")}, []),
        ({"podSelector": {}, "ingress": [{}], "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]}, []),
        ({"podSelector": app("typo")}, ["selects no pod"]),
        (
            {"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}, NOBODY]}]},
            ["ingress[0].from[1] matches no pod"],
        ),
        (
            {"podSelector": {}, "egress": [{}, {"to": [{"namespaceSelector": {"matchLabels": {"team": "typo"}}}]}]},
            ["egress[1].to[0] matches no pod"],
        ),
        (
            {"podSelector": app("a"), "ingress": [{"ports": [{"port": "wbe"}]}]},
            ["ingress[0]: no pod has a port named wbe (TCP)"],
        ),
        (
            {"podSelector": app("b"), "ingress": [{"ports": [{"port": "web"}]}]},
            ["ingress[0]: none of its pods has a port named web (TCP)"],
        ),
        (
            {"podSelector": {}, "egress": [{"ports": [{"port": "dns"}]}]},
            ["egress[0]: no pod has a port named dns (TCP)"],
        ),
        # A direction in which it does not isolate has no rules.
        ({"podSelector": {}, "policyTypes": ["Egress"], "ingress": [{"from": [NOBODY]}]}, []),
    ],
)
def test_what_comes_to_nothing(spec: dict[str, Any], expected: list[str]) -> None:
    assert list(notes(spec)) == expected
    _, *staged = notes(spec, AUDIT)  # the first says that it is staged, and what it is to do
    assert staged == expected


def test_there_is_an_end_to_them() -> None:
    found = notes({"podSelector": {}, "ingress": [{"from": [NOBODY] * 50}]})
    assert len(found) == MAX_NOTES + 1
    assert found[-1] == "and more"


@pytest.mark.parametrize("annotated", [False, True])
def test_a_policy_of_the_original_api_without_its_annotation(annotated: bool) -> None:
    raw = {"metadata": {"name": "p", "namespace": "x"}, "spec": {"podSelector": {}}}
    namespace = Namespace("x", {}, frozenset({parse_beta_policy(raw, []).api}) if annotated else frozenset())
    policies = all_policies({}, [parse_beta_policy(raw, [])], [namespace])
    found = Driver()
    found.send(ClusterChanged(Cluster(namespaces={"x": namespace}, pods={A.key: A}, policies=policies)))
    views = {view.key: view for view in policy_views(found.core)}
    assert views["x/beta:p"].notes == (
        () if annotated else ("has no effect: its namespace isolates no pods by the annotation of beta policies",)
    )
    assert all(view.realized for view in views.values())
