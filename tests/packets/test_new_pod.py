"""A pod that comes up: its port passes nothing until its policy is in force, and the operator sees when that was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.lab.policies import pods, policies, port
from tests.helpers.lab.streams import BackgroundStreams, ForbiddenAttempts
from tests.helpers.lab.traffic import total
from tests.helpers.lab.truth_lab import world_lab
from tests.helpers.waiting import until
from topology.lab.lab import Lab
from topology.probe.matrix import LabProbe
from topology.spec.model import LabPod

pytestmark = pytest.mark.lab

FAMILIES = (4, 6)
POLICY = policies(
    {
        "x/deny": {"policyTypes": ["Ingress", "Egress"]},
        "x/serve": {"podSelector": pods("new"), "ingress": [{"from": [{"podSelector": {}}], "ports": [port(80)]}]},
        "x/ask": {"podSelector": pods("a", "b"), "egress": [{"to": [{"podSelector": {}}]}]},
    }
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab with only some of the world's pods: others come."""
    with world_lab(("x/a", "x/b")) as made:
        yield made


def port_facts(lab: Lab, pod: LabPod) -> str:
    """What Headgate wrote at the pod's interface."""
    return lab.nodes[pod.node].vsctl(
        ["--if-exists", "get", "Interface", lab.link(pod).interface, "external_ids:headgate-installed"]
    )


@pytest.mark.parametrize("node", ["one", "two"])
def test_a_port_is_closed_until_its_policy_is_in_force(lab: Lab, node: str) -> None:
    """The controller is away when the pod comes: the switch alone must keep it closed."""
    lab.apply(POLICY)
    lab.product.stop()
    new = LabPod(namespace="x", name=f"new-{node}", node=node, labels={"pod": "new"})
    lab.add_pods([new])
    ways = [LabProbe(*ends, protocol, 80, family) for family in FAMILIES for protocol in ("TCP", "UDP", "ICMP")
            for ends in ((new.key, "x/a"), ("x/a", new.key), (new.key, "x/b"), (new.key, f"node:{node}"))]  # fmt: skip
    ways = [probe._replace(port=0) if probe.protocol == "ICMP" else probe for probe in ways]
    try:
        assert lab.run_probes(ways, (0.5,)).count()["denied"] == len(ways)
        denied = [LabProbe(new.key, target, "UDP", 80, family) for target in ("x/a", "x/b") for family in FAMILIES]
        knocking = [ForbiddenAttempts(lab, probe) for probe in denied]
        with BackgroundStreams(knocking), lab.capture("x/a") as at_a, lab.capture("x/b") as at_b:
            until(lambda: all(one.sent > 20 for one in knocking))
            lab.product.start()
            lab.wait()
            sent = [one.sent for one in knocking]
            until(lambda: all(one.sent > then + 20 for one, then in zip(knocking, sent, strict=True)))
            assert [at.count(lab.endpoints[new.key], 17, 80) for at in (at_a, at_b)] == [0, 0]
        assert [one.passed for one in knocking] == [0] * len(knocking)
        allowed = {LabProbe(source, new.key, "TCP", 80, family) for source in ("x/a", "x/b") for family in FAMILIES}
        own = {LabProbe(*ends, "TCP", 80, family) for family in FAMILIES
               for ends in ((f"node:{node}", new.key), (new.key, f"node:{node}"))}  # fmt: skip
        expected = allowed | own | {probe for probe in ways if probe.destination == f"node:{node}"}
        seen = lab.run_probes(sorted({*ways, *expected}), (0.5,), lambda probe: probe in expected)
        assert {probe for probe, outcome in seen.results.items() if outcome.reachable} == expected
    finally:
        if not lab.product.running():
            lab.product.start()
        lab.remove_pod(new.key)
        lab.reset()


def test_when_it_was_programmed_is_told(lab: Lab) -> None:
    new = LabPod(namespace="x", name="told", node="two", labels={"pod": "new"})
    before = total(lab, "headgate_port_to_programmed_seconds_count")
    lab.add_pods([new])
    try:
        lab.wait()
        assert port_facts(lab, new).strip().strip('"') == "true"
        (shown,) = (one for one in lab.product.get("/status")["pods"] if one["key"] == new.key)
        assert shown["installed"]
        assert shown["programmed_after"] > 0
        assert shown["node"] == "two"
        assert total(lab, "headgate_port_to_programmed_seconds_count") == before + 1
        assert new.key in lab.product.call(["status"]).stdout
    finally:
        lab.remove_pod(new.key)
        lab.wait()
    assert new.key not in [one["key"] for one in lab.product.get("/status")["pods"]]
