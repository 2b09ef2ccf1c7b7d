"""Staged policies on real packets: traffic passes as without them, what promotion would change is counted, and
promotion is the removal of the annotation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from flows.cluster.staging import AUDIT, AUDIT_DELETION, MODE_ANNOTATION
from tests.helpers.lab.policies import Spec, policy
from tests.helpers.waiting import until
from topology.lab.lab import Lab
from topology.probe.matrix import LabProbe, Outcome

pytestmark = pytest.mark.lab

CLIENTS = ("y/b", "y/c")  # on another node than the server, and on the server's own
PROBES = [LabProbe(client, "x/a", "TCP", 80, family) for client in CLIENTS for family in (4, 6)]
DENY: Spec = {"policyTypes": ["Ingress"]}
ALLOW: Spec = {"ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"ns": "y"}}}]}]}


@pytest.fixture(autouse=True)
def _leave_as_found(lab: Lab) -> Iterator[None]:
    yield
    lab.reset()


def apply(lab: Lab, *wanted: tuple[str, Spec, str]) -> None:
    """Policies by name, each with its mode; "" is in force."""
    found = []
    for name, spec, mode in wanted:
        made = policy(name, spec)
        if mode:
            made["metadata"]["annotations"] = {MODE_ANNOTATION: mode}
        found.append(made)
    lab.apply(yaml.safe_dump_all(found))


def passes(lab: Lab) -> bool:
    """Whether all probes pass; they must agree."""
    results = set(lab.run_probes(PROBES).results.values())
    assert results in ({Outcome.ALLOWED}, {Outcome.DENIED})
    return results == {Outcome.ALLOWED}


def counted(lab: Lab, name: str) -> tuple[int, int]:
    """What the promotion of a staged policy would deny and allow, in packets of ingress."""
    detail: Any = lab.product.get(f"/policies/{name}")
    (ingress,) = (one for one in detail["staged"] if one["direction"] == "ingress")
    return ingress["would_deny"] or 0, ingress["would_allow"] or 0


def would_deny(lab: Lab) -> list[Any]:
    """The events of what staged policies would deny."""
    lines = lab.product.text("/audit?verdict=would-deny").splitlines()
    return [event for line in lines for event in json.loads(line).get("events", [json.loads(line)])]


def test_a_staged_policy_denies_nothing_and_counts_what_it_would_deny(lab: Lab) -> None:
    apply(lab, ("x/deny", DENY, AUDIT))
    assert passes(lab)
    denied, allowed = counted(lab, "x/deny")
    assert denied and not allowed
    (shown,) = (one for one in lab.product.get("/status")["policies"] if one["key"] == "x/deny")
    assert shown["mode"] == AUDIT
    assert shown["isolates"] == []
    answer = lab.product.call(["explain", "y/b", "x/a", "-p", "80"])
    assert answer.returncode == 0
    assert "once staged policies are promoted: denied" in answer.stdout
    until(lambda: would_deny(lab))
    event = would_deny(lab)[0]
    assert (event["direction"], event["policies"]) == ("ingress", ["x/deny"])
    assert event["text"].startswith("once staged policies are promoted: ingress is isolated by x/deny")
    assert not [one for one in lab.product.get("/drops")["events"] if one["verdict"] == "would-deny"]  # it passed
    # Answers, too, are told by the connection that they belong to.
    told = {(one["source"]["name"], one["destination"]["name"], one["destination"]["port"]) for one in would_deny(lab)}
    assert told <= {(client, "x/a", 80) for client in CLIENTS}
    assert shown["notes"] == ["staged: not in force; once promoted it isolates for ingress"]
    # Promotion is the removal of the annotation.
    apply(lab, ("x/deny", DENY, ""))
    assert not passes(lab)


def test_a_staged_allowance_lets_nothing_pass(lab: Lab) -> None:
    apply(lab, ("x/deny", DENY, ""), ("x/allow", ALLOW, AUDIT))
    assert not passes(lab)
    denied, allowed = counted(lab, "x/allow")
    assert allowed and not denied
    apply(lab, ("x/deny", DENY, ""), ("x/allow", ALLOW, ""))
    assert passes(lab)


def test_a_policy_stays_in_force_while_its_deletion_is_staged(lab: Lab) -> None:
    apply(lab, ("x/deny", DENY, AUDIT_DELETION))
    assert not passes(lab)
    assert counted(lab, "x/deny")[1]
    metrics = [line for line in lab.product.text("/metrics").splitlines() if line.startswith("headgate_staged_packets")]
    assert any('pod="a"' in line and 'change="allow"' in line and not line.endswith(" 0.0") for line in metrics)


def test_an_unknown_mode_is_told_and_the_policy_is_in_force(lab: Lab) -> None:
    made = policy("x/deny", DENY)
    made["metadata"]["annotations"] = {MODE_ANNOTATION: "dry-run"}
    lab.manifests.put([made])
    until(lambda: lab.product.get("/status")["problems"])
    (problem,) = lab.product.get("/status")["problems"]
    assert MODE_ANNOTATION in problem["field"]
    assert "must be audit, audit-deletion or enforce" in problem["reason"]
    until(lambda: not passes(lab))
