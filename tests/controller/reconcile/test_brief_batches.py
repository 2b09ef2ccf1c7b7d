"""Which batches are handled in the loop's own thread: what all of their switches together make them cost counts."""

from __future__ import annotations

import pytest

from controller.reconcile import roles
from controller.reconcile.brief_batches import MAX_FLOWS, MAX_SWITCHES, are_brief
from controller.reconcile.events import BundleDone, ClusterChanged, ReplicasChanged
from controller.reconcile.held_answers import SWEEP_SECONDS
from controller.reconcile.ownership import Member, View
from controller.reconcile.switch import InFlight, Switch
from flows.bridge.state import BridgeState
from flows.cluster.model import Cluster
from flows.wire.values import FlowKey
from tests.helpers.controller.reconcile_driver import Driver

ME = Member("a", "1")


def sent(switches: int, flows: int) -> dict[int, Switch]:
    """Switches that have each been sent a bundle of so many flows."""
    flow = dict.fromkeys(FlowKey(bytes([0, number & 255, number >> 8])) for number in range(flows))
    return {dpid: Switch(dpid, 1, in_flight=InFlight(1, dict(flow), 1, 0.0)) for dpid in range(1, switches + 1)}


@pytest.mark.parametrize(
    ("switches", "flows", "brief"),
    [(1, MAX_FLOWS, True), (1, MAX_FLOWS + 1, False), (20, MAX_FLOWS // 20, True), (20, MAX_FLOWS // 10, False),
     (MAX_SWITCHES, 1, True), (MAX_SWITCHES + 1, 1, False)],
)  # fmt: skip
def test_the_flows_of_all_switches_together_count(switches: int, flows: int, brief: bool) -> None:
    there = sent(switches, flows)
    assert are_brief([BundleDone(dpid, 1, 1) for dpid in there], there, 0.1) is brief


def test_a_commit_is_not_brief_while_bridges_wait_to_be_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A takeover that it ends makes room for the next one, whose bridge is planned in the same batch."""
    monkeypatch.setattr(roles, "TAKEOVERS", 1)
    driver = Driver(["n1", "n2"])
    core = driver.core
    for dpid, node in enumerate(("n1", "n2"), 1):
        driver.bridge(BridgeState(ovsdb=node, name="br-int", dpid=dpid, hostname=node, system_id=node))
        driver.connect(dpid)
    driver.sync("n1", "n2")
    driver.send(ClusterChanged(Cluster()))
    done = [BundleDone(1, 1, 1)]
    assert core.is_brief(done, driver.now)
    core.handle([ReplicasChanged(ME, View(1, (ME,)), 0.0, 1e9)], driver.now)
    assert core.roles.taking_over == 2
    assert not core.is_brief(done, driver.now)


def test_a_batch_is_not_brief_once_a_second_when_every_pod_that_asked_is_looked_at() -> None:
    driver = Driver()
    driver.sync()
    driver.send(ClusterChanged(Cluster()))
    assert driver.core.is_brief([], 0.5)
    assert not driver.core.is_brief([], SWEEP_SECONDS)
    driver.core.handle([], SWEEP_SECONDS)
    assert driver.core.is_brief([], SWEEP_SECONDS + 0.5)
