"""What meters dropped is counted once, from the counters of dumps and the last ones of meters that are deleted."""

from __future__ import annotations

import pytest

from controller.reconcile.events import BridgeChanged, ClusterChanged, Tick
from controller.reconcile.meters import MeterCounters, MeterLedger
from controller.runtime.unreported import GONE, IN_TURN, Unreported, UnreportedCopies
from controller.status.audit_model import AuditEnd
from flows.bridge.state import BridgeState
from flows.cluster.model import Cluster, Key, Pod
from flows.cluster.net import parse_address
from flows.pipeline.pod_limits import Limit, meter_number
from tests.helpers.controller.reconcile_driver import Driver, port

DPID = 0x10
METER = meter_number(Limit.SENT_REPORTS, 2)
FOREIGN = meter_number(Limit.CONNECTIONS, 2)
POD, OTHER, THIRD = Key("x", "a"), Key("x", "b"), Key("x", "c")
ADDRESS = {POD: "10.0.0.2", OTHER: "10.0.0.3", THIRD: "10.0.0.4"}


def started() -> tuple[Driver, MeterLedger]:
    driver = Driver()
    pods = {key: Pod(key, node="node", addresses=(parse_address(text),)) for key, text in ADDRESS.items()}
    driver.send(ClusterChanged(Cluster(pods=pods)))
    plug(driver, POD)
    driver.sync()
    driver.connect(DPID)
    return driver, driver.core.switches[DPID].meters


def bridge_with(pod: Key | None) -> BridgeState:
    """A bridge whose port 2 is this pod's, or that has no port."""
    interfaces = () if pod is None else (port(f"p{pod.name}", 2, str(pod), ip_addresses=ADDRESS[pod]),)
    return BridgeState("db", "br-int", DPID, "node", datapath_type="netdev", interfaces=interfaces)


def plug(driver: Driver, *pods: Key | None) -> None:
    """Each of these gets the port after the other, in one batch."""
    driver.send(*(BridgeChanged(bridge_with(pod)) for pod in pods))


def read_again(driver: Driver) -> None:
    """A minute passes, and the switch is dumped."""
    driver.now += 61
    driver.send(Tick())


def test_a_deleted_meter_tells_the_rest_and_the_next_begins_at_none() -> None:
    driver, meters = started()
    copies = UnreportedCopies()
    assert copies.count(driver.core) == []
    meters.dropped = {METER: MeterCounters(10, 20), FOREIGN: MeterCounters(5, 20)}
    assert copies.count(driver.core) == [Unreported("node", POD, True, 10)]
    meters.dropped = {METER: MeterCounters(12, 25)}  # read, and not asked about before the meter goes
    meters.note_ended({METER: MeterCounters(17, 30), FOREIGN: MeterCounters(9, 30)})
    assert copies.count(driver.core) == [Unreported("node", POD, True, 7)]
    assert copies.count(driver.core) == []
    meters.dropped = {METER: MeterCounters(20, 31)}  # more and later than the old one, and a new one
    assert copies.count(driver.core) == [Unreported("node", POD, True, 20)]


def test_a_meter_that_came_and_went_between_two_dumps_is_told_whole() -> None:
    driver, meters = started()
    copies = UnreportedCopies()
    meters.note_ended({METER: MeterCounters(3, 1)})
    meters.note_ended({METER: MeterCounters(4, 1)})
    assert copies.count(driver.core) == [Unreported("node", POD, True, 3), Unreported("node", POD, True, 4)]
    meters.note_ended({meter_number(Limit.SENT_REPORTS, 9): MeterCounters(2, 1)})
    (gone,) = copies.count(driver.core)
    assert gone == Unreported("node", None, True, 2, GONE)
    assert gone.event("").text == "more packets than are reported, from a pod of this node that is gone"


def test_what_a_pod_that_is_gone_did_is_told_of_it() -> None:
    driver, meters = started()
    copies = UnreportedCopies()
    copies.count(driver.core)
    plug(driver, None)
    meters.note_ended({METER: MeterCounters(3, 1)})
    assert copies.count(driver.core) == [Unreported("node", POD, True, 3)]


@pytest.mark.parametrize("between", [(), (None,), (THIRD,)])
@pytest.mark.parametrize("ends", [True, False])
def test_what_a_pod_did_is_not_told_of_the_next_one_at_its_port(between: tuple[Key | None, ...], ends: bool) -> None:
    """`ends`: the next one is not audited, so the meter is deleted; else it goes on. Until the switch was read with the
    flows of the next one nobody knows whose the packets are."""
    driver, meters = started()
    copies = UnreportedCopies()
    meters.dropped = {METER: MeterCounters(10, 20)}
    assert copies.count(driver.core) == [Unreported("node", POD, True, 10)]
    plug(driver, *between, OTHER)
    assert driver.core.world.pod_at(DPID, 2) == OTHER
    if ends:
        meters.note_ended({METER: MeterCounters(17, 30)})
    else:
        meters.dropped = {METER: MeterCounters(17, 30)}
    (told,) = copies.count(driver.core)
    assert told == Unreported("node", None, True, 7, IN_TURN)
    assert told.event("").source == AuditEnd("node", "node")
    read_again(driver)
    copies.count(driver.core)
    meters.dropped = {METER: MeterCounters(20, 90)}
    assert [one.pod for one in copies.count(driver.core)] == [OTHER]


def test_a_pod_that_gets_its_port_back_after_another_is_not_told_what_that_did() -> None:
    driver, meters = started()
    copies = UnreportedCopies()
    copies.count(driver.core)
    plug(driver, OTHER, POD)
    plug(driver, OTHER)
    plug(driver, POD)
    meters.dropped = {METER: MeterCounters(5, 20)}
    assert copies.count(driver.core) == [Unreported("node", None, True, 5, IN_TURN)]


def test_where_a_bridge_was_planned_anew_nothing_is_told_of_a_pod_before_the_switch_was_read() -> None:
    driver, meters = started()
    copies = UnreportedCopies()
    copies.count(driver.core)
    plug(driver, OTHER)
    driver.core.start_over()
    driver.send(Tick())
    meters.dropped = {METER: MeterCounters(5, 20)}
    assert copies.count(driver.core) == [Unreported("node", None, True, 5, IN_TURN)]
    read_again(driver)
    copies.count(driver.core)
    meters.dropped = {METER: MeterCounters(7, 20)}
    assert [one.pod for one in copies.count(driver.core)] == [OTHER]
