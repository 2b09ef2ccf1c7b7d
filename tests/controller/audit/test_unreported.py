"""What meters dropped is counted once, from the counters of dumps and the last ones of meters that are deleted."""

from __future__ import annotations

from controller.reconcile.events import ClusterChanged
from controller.reconcile.meters import MeterCounters, MeterLedger
from controller.runtime.unreported import Unreported, UnreportedCopies
from flows.bridge.state import BridgeState
from flows.cluster.model import Cluster, Key, Pod
from flows.cluster.net import parse_address
from flows.pipeline.pod_limits import Limit, meter_number
from tests.helpers.controller.reconcile_driver import Driver, port

DPID = 0x10
METER = meter_number(Limit.SENT_REPORTS, 2)
FOREIGN = meter_number(Limit.CONNECTIONS, 2)
POD = Key("x", "a")


def started() -> tuple[Driver, MeterLedger]:
    driver = Driver()
    driver.send(ClusterChanged(Cluster(pods={POD: Pod(POD, node="node", addresses=(parse_address("10.0.0.2"),))})))
    interfaces = (port("p2", 2, "x/a", ip_addresses="10.0.0.2"),)
    driver.bridge(BridgeState("db", "br-int", DPID, "node", datapath_type="netdev", interfaces=interfaces))
    driver.sync()
    driver.connect(DPID)
    return driver, driver.core.switches[DPID].meters


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
    assert gone == Unreported("node", None, True, 2, gone=True)
    assert gone.event("").text == "more packets than are reported, from a pod of this node that is gone"
