"""What others change on a switch is told by the replica that serves it: for all others it may be its owner's work."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from controller.metrics.event_counters import EventCounters
from controller.metrics.registry import Metrics
from controller.reconcile.events import FlowsDrifted, ReplicasChanged, RoleChanged
from controller.reconcile.ownership import Member, View
from controller.runtime.event_log import EventLog
from flows.bridge.state import BridgeState
from tests.helpers.controller.reconcile_driver import Driver

ME, OWNER = Member("a", "1"), Member("b", "1")


@pytest.mark.parametrize("serves", [True, False])
def test_changes_of_a_switch_that_another_replica_serves_are_no_drift(serves: bool) -> None:
    driver = Driver(["n1"])
    driver.bridge(BridgeState(ovsdb="n1", name="br-int", dpid=1, hostname="n1", system_id="n1"))
    driver.sync("n1")
    driver.connect(1, session := 7)
    core, metrics = driver.core, Metrics("test", "eventlet")
    core.handle([ReplicasChanged(ME, View(1, (ME if serves else OWNER,)), 0.0, 1e9)], 0.0)
    core.handle([RoleChanged(1, session, serves, 1 << 32)], 0.0)
    event = FlowsDrifted(1, session, removed=3)
    with capture_logs() as lines:
        EventLog(core, metered=False).received([event])
    EventCounters(metrics).handled(core, [event], [], 0.0)
    core.handle([event], 0.0)
    assert [line["event"] for line in lines if "another program" in line["event"]] == (
        ["another program changed flows of Headgate; Headgate restores them"] if serves else []
    )
    assert ("headgate_drift_total{" in generate_latest(metrics.registry).decode()) == serves
    assert core.switches[1].drifted == serves
