"""The product in the lab, from the user's side: what is applied takes effect on real packets, and ends when it is
revoked."""

from __future__ import annotations

import signal

import pytest

from tests.helpers.waiting import until
from tests.topology.conftest import MakeLab
from topology.errors import LabError
from topology.lab.lab import Lab
from topology.lab.report import describe_lab
from topology.probe.matrix import LabProbe
from topology.probe.traffic import Traffic
from topology.spec.load import load_topology
from topology.spec.model import LabPod

pytestmark = pytest.mark.lab

ISOLATION = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: isolation, namespace: tenant-a}
spec: {podSelector: {}, policyTypes: [Ingress]}
"""
POL1 = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: pol1, namespace: tenant-a}
spec:
  podSelector: {matchLabels: {segment: backend}}
  ingress: [{from: [{podSelector: {matchLabels: {segment: frontend}}}], ports: [{port: 80}]}]
"""
ALLOWED = [LabProbe("tenant-a/frontend", "tenant-a/backend", "TCP", 80, family) for family in (4, 6)]


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    made = make_lab(load_topology().model_dump())
    made.up()
    return made


def keeps_flowing(traffic: Traffic) -> None:
    before = traffic.counts()
    until(lambda: all(answered > before[probe][1] + 10 for probe, (_, answered) in traffic.counts().items()))


def test_revoking_cuts_a_running_connection_and_allowing_resumes_it(lab: Lab) -> None:
    lab.apply(ISOLATION + "---" + POL1)
    with lab.traffic(ALLOWED) as traffic:
        keeps_flowing(traffic)
        lab.delete(POL1)
        with lab.capture("tenant-a/backend") as at_backend, lab.capture("tenant-a/frontend") as at_frontend:
            before = traffic.counts()
            until(lambda: all(sent > before[probe][0] + 50 for probe, (sent, _) in traffic.counts().items()))
            assert at_backend.count(lab.endpoints["tenant-a/frontend"], 6, 80) == 0
            assert not [arrival for arrival in at_frontend.arrived if arrival.protocol == 6]
        lab.apply(POL1)
        keeps_flowing(traffic)
        traffic.drain(20)
        assert [flow.lost for flow in traffic.flows] == [0, 0]


def test_the_controller_may_go_and_come_back(lab: Lab) -> None:
    lab.apply(ISOLATION + "---" + POL1)
    with lab.traffic(ALLOWED) as traffic:
        lab.product.stop(signal.SIGKILL)
        keeps_flowing(traffic)
        assert not describe_lab(lab).controller
        with pytest.raises(LabError, match="not everything is realized"):
            lab.wait(0.5)
        assert lab.up()
        assert describe_lab(lab).controller
        keeps_flowing(traffic)
        traffic.drain()
        assert [flow.lost for flow in traffic.flows] == [0, 0]
    assert not lab.up()


def test_a_new_pod_joins_under_the_policy_that_stands(lab: Lab) -> None:
    lab.apply(ISOLATION + "---" + POL1)
    lab.add_pods([LabPod(namespace="tenant-a", name="second", node="node-1", labels={"segment": "frontend"})])
    lab.wait()
    ways = [
        LabProbe("tenant-a/second", "tenant-a/backend", "TCP", port, family) for port in (80, 5432) for family in (4, 6)
    ]
    ways += [LabProbe("tenant-a/frontend", "tenant-a/second", "TCP", 80, 4)]
    found = lab.run_probes(ways, expected=lambda probe: probe.port == 80)
    assert [outcome.reachable for outcome in found.results.values()] == [True, True, False, False, False]
    lab.remove_pod("tenant-a/second")
    lab.wait()


def test_two_labs_with_controllers_of_their_own(make_lab: MakeLab) -> None:
    one, two = (make_lab(load_topology().model_dump(), name) for name in ("one", "two"))
    one.up()
    two.up()
    one.apply(ISOLATION)
    ways = [LabProbe("tenant-b/frontend", "tenant-a/backend", "TCP", 80, 4)]
    assert one.run_probes(ways).count()["denied"] == 1
    assert two.run_probes(ways).count()["allowed"] == 1


def test_reset_leaves_only_the_labs_own_objects(lab: Lab) -> None:
    before = lab.manifests.objects()
    lab.apply(
        ISOLATION + "---\n{apiVersion: v1, kind: Namespace, metadata: {name: tenant-a, labels: {x: y}}}", wait=None
    )
    lab.reset()
    assert lab.manifests.objects() == before
