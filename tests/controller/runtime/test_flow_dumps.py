"""Fresh counters: silent switches do not add up, and a replica asks the switches that it answers for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controller.metrics.registry import Metrics
from controller.reconcile.commands import Command, DumpFlows
from controller.reconcile.events import Event, ReplicasChanged
from controller.reconcile.ownership import Member, View
from controller.runtime import flow_dumps
from controller.runtime.audit_answers import AuditAnswers
from controller.runtime.audit_log import AuditLog
from controller.runtime.event_queue import EventQueue
from controller.runtime.flow_dumps import FlowDumps
from controller.runtime.locked_reconciler import LockedReconciler
from flows.bridge.claim_contest import BridgeName
from flows.bridge.state import BridgeState
from tests.helpers.cluster.page_cluster import PODS_PER_NODE, page_cluster
from tests.helpers.controller.page_world import PageWorld
from tests.helpers.controller.reconcile_driver import Driver
from tests.helpers.waiting import until

NODES = 4


class Silent(PageWorld):
    """Switches that answer no dump with counters."""

    asked = 0

    def _answer(self, command: Command) -> list[Event]:
        if isinstance(command, DumpFlows) and command.all_counters:
            self.asked += 1
            return []
        return super()._answer(command)


@pytest.fixture
def world() -> Iterator[Silent]:
    found = Silent(page_cluster(NODES * PODS_PER_NODE))
    until(lambda: all(one.in_sync for one in found.page.state().switches) and found.page.state().pod_count > 0)
    yield found
    found.stop()


def test_after_a_switch_that_is_silent_the_others_are_not_waited_for(
    world: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_dumps, "DUMP_SECONDS", 0.3)
    note = world.dumps.refresh_counters(sorted(world.core.world.bridges))
    assert world.asked <= 1
    assert "did not dump its flows" in note
    assert f"{NODES - 1} switches were not asked" in note


class Asked(FlowDumps):
    """Notes who was to be asked."""

    def __init__(self, locked: LockedReconciler) -> None:
        super().__init__(locked, EventQueue())
        self.names: list[BridgeName] = []

    def refresh_counters(self, names: list[BridgeName]) -> str:
        self.names = names
        return ""


def test_drops_asks_the_switches_that_this_replica_answers_for() -> None:
    me, other = Member("a", "1"), Member("b", "1")
    driver = Driver([])
    for dpid in range(1, 21):
        node = f"n{dpid}"
        driver.bridge(BridgeState(ovsdb=node, name="br-int", dpid=dpid, hostname=node, system_id=node))
    locked = LockedReconciler(driver.core)
    dumps = Asked(locked)
    answers = AuditAnswers(AuditLog(1), locked, Metrics("test", "native"), dumps)
    answers.drops(None, 0, count_now=False)
    assert dumps.names == []
    answers.drops(None, 0)
    assert len(dumps.names) == 20
    driver.core.handle([ReplicasChanged(me, View(1, (me, other)), 0.0, 1e9)], 0.0)
    answers.drops(None, 0)
    assert {name for name in driver.core.world.bridges if driver.core.roles.owns(name)} == set(dumps.names)
    assert 0 < len(dumps.names) < 20
