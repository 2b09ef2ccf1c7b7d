"""A pod and its own node always reach each other; to any other node a pod is what its policies say, by address."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helpers.lab.policies import policies
from topology.lab.lab import Lab
from topology.probe.matrix import LabProbe

pytestmark = pytest.mark.lab

OWN, OTHER = "node:one", "node:two"
WAYS = [("TCP", 80), ("UDP", 80), ("SCTP", 80), ("ICMP", 0)]


def between(one: str, other: str) -> set[LabProbe]:
    """Every probe from one end to the other and back."""
    return {LabProbe(*ends, *way, family) for ends in ((one, other), (other, one)) for way in WAYS for family in (4, 6)}


def reachable(lab: Lab, probes: set[LabProbe], expected: set[LabProbe]) -> set[LabProbe]:
    seen = lab.run_probes(sorted(probes), (0.5,), lambda probe: probe in expected)
    return {probe for probe, outcome in seen.results.items() if outcome.reachable}


def blocks(lab: Lab, node: str) -> list[dict[str, Any]]:
    """A node's addresses as peers."""
    return [
        {"ipBlock": {"cidr": f"{address}/{32 if family == 4 else 128}"}}
        for family, address in lab.endpoints[node].addresses.items()
    ]


def test_the_own_node_always_and_others_by_address(lab: Lab) -> None:
    everything = between("x/a", OWN) | between("x/a", OTHER)
    own = between("x/a", OWN)
    both: dict[str, Any] = {"policyTypes": ["Ingress", "Egress"]}
    try:
        assert reachable(lab, everything, everything) == everything
        lab.apply(policies({"x/deny": both}))
        assert reachable(lab, everything, own) == own
        other = blocks(lab, OTHER)
        lab.apply(policies({"x/deny": {**both, "ingress": [{"from": other}]}}))
        inward = own | {probe for probe in everything if probe.source == OTHER}
        assert reachable(lab, everything, inward) == inward
        lab.apply(policies({"x/deny": {**both, "egress": [{"to": other}]}}))
        outward = own | {probe for probe in everything if probe.destination == OTHER}
        assert reachable(lab, everything, outward) == outward
        lab.apply(policies({"x/deny": {**both, "egress": [{"to": [{"podSelector": {}}]}]}}))
        assert reachable(lab, everything, own) == own, "a node is nobody's pod"
    finally:
        lab.reset()
