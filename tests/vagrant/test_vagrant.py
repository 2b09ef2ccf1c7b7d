"""The Vagrant lab from `vagrant up` to `vagrant destroy`: truth tables across the nodes, revoking, a restart.

Runs only when asked for: HEADGATE_VAGRANT=1 (`make vagrant-test`). HEADGATE_VAGRANT=keep leaves the machines running.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

from tests.helpers.lab.truth_table_run import expectations
from tests.helpers.truth.cases import CASES, Case
from tests.vagrant.machines import Going, Machines, vagrant
from topology.probe.matrix import LabProbe

ASKED = os.environ.get("HEADGATE_VAGRANT", "")
pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.skipif(not ASKED, reason="virtual machines are started only by `make vagrant-test`"),
]

POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "only-from-a", "namespace": "x"},
    "spec": {
        "podSelector": {"matchLabels": {"pod": "b"}},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"pod": "a"}}}]}],
    },
}
CLOSED = {**POLICY, "spec": {"podSelector": {"matchLabels": {"pod": "b"}}, "policyTypes": ["Ingress"]}}
ALLOWED = [LabProbe("x/a", "x/b", protocol, 80, family) for protocol in ("TCP", "UDP") for family in (4, 6)]
DENIED = [LabProbe("x/c", "x/b", "UDP", 80, family) for family in (4, 6)]


@pytest.fixture(scope="module")
def said() -> Iterator[str]:
    """What `vagrant up` said; the machines are destroyed afterwards, whatever happens."""
    try:
        yield vagrant("up")
    finally:
        if ASKED != "keep":
            vagrant("destroy", "-f")


@pytest.fixture(scope="module")
def machines(said: str) -> Iterator[Machines]:
    with Machines() as found:
        yield found


def test_up_ends_with_the_matrix_all_open(said: str, machines: Machines) -> None:
    pods = len(machines.topology.pods)
    counted = [line for line in said.splitlines() if line.rstrip().endswith((" allowed", " denied"))]
    assert counted[-1].endswith(f" {pods * pods * len(machines.topology.ports) * 2} allowed")


def test_the_nodes_switch_in_the_kernel(machines: Machines) -> None:
    for node in machines.topology.nodes:
        assert machines.run(node.name, "ovs-appctl dpctl/dump-dps").split() == ["system@ovs-system"]
        assert "br-int" in machines.run(node.name, "ovs-appctl dpif/show")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_table(machines: Machines, case: Case) -> None:
    world = machines.world()
    probes = 0
    try:
        for step in case.steps(world):
            machines.take(step)
            expected = expectations(step, world)
            probes += len(expected)
            assert machines.observe(expected) == [], f"{case}: {step.why}"
    finally:
        machines.take(case.cleanup(world))
    assert probes > 0


@pytest.fixture
def flowing(machines: Machines) -> Iterator[Going]:
    """Traffic that a policy allows, and some that it does not, from one node to another."""
    machines.api.put([POLICY])
    machines.wait()
    going = Going(machines.sessions[machines.world().placement["x/a"]], ALLOWED)
    yield going
    going.stop()
    machines.api.delete([POLICY])
    machines.wait()


def test_revoking_cuts_running_connections_and_allowing_resumes_them(machines: Machines, flowing: Going) -> None:
    flowing.grows()
    machines.api.put([CLOSED])
    machines.wait()
    time.sleep(1)  # for answers that have arrived but are not counted yet
    cut = flowing.counts()
    time.sleep(5)
    later = flowing.counts()
    assert [answered for _, answered in later] == [answered for _, answered in cut]
    assert all(then[0] < now[0] for then, now in zip(cut, later, strict=True))
    machines.api.put([POLICY])
    machines.wait()
    flowing.grows()


def test_a_restart_of_the_controller_loses_nothing_and_opens_nothing(
    machines: Machines, flowing: Going, record_property: Callable[[str, object], None]
) -> None:
    flowing.grows()
    flows = {node.name: own_flows(machines, node.name) for node in machines.topology.nodes}
    before = flowing.counts()
    machines.run("controller", "systemctl restart headgate")
    while machines.headgate("status").returncode not in (0, 1):
        assert machines.observe(dict.fromkeys(DENIED, False)) == []
    machines.wait()
    assert machines.observe(dict.fromkeys(DENIED, False)) == []
    flowing.grows()
    counts = flowing.stop()
    for probe, (sent, answered) in zip(ALLOWED, counts, strict=True):
        record_property(f"over the restart: {probe}", f"{sent} sent, {answered} answered")
    assert all(sent == answered for sent, answered in counts)
    assert all(then[1] < now[1] for then, now in zip(before, counts, strict=True))
    assert {node.name: own_flows(machines, node.name) for node in machines.topology.nodes} == flows


def own_flows(machines: Machines, node: str) -> list[str]:
    """The flows of a node's bridge, without what they count."""
    found = machines.run(node, "ovs-ofctl -OOpenFlow14 --no-stats --sort dump-flows br-int")
    return found.splitlines()
