"""The meters of switches: as many as pods' flows refer to, on every switch that can have them, whatever happens."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.reconcile.audit_pace import AUDIT_SECONDS
from controller.reconcile.commands import Command, DumpFlows, SendBundle
from controller.reconcile.events import BundleDone, BundleFailed, ClusterChanged, Event, FlowsDumped, Tick
from controller.reconcile.meters import MeterChanges, MeterLedger, MeterReport, meter_of
from controller.reconcile.reconciler import Reconciler
from flows.bridge.state import BridgeState
from flows.cluster.model import Cluster, Key, Pod
from flows.cluster.net import parse_address
from flows.pipeline.pod_limits import METERED, CopyReason, Limit, MeterBand, Rates, meter_number, read_meter
from tests.helpers.controller.reconcile_driver import Driver, ValueSwitch, port

RATES = Rates(100, 10)
DPID = 0x10


class Metered(ValueSwitch):
    """A switch with meters: it refuses flows that refer to one that is not there, and `most` of them."""

    def __init__(self, dpid: int, most: int = 1000) -> None:
        super().__init__(dpid)
        self.most = most
        self.meters: dict[int, MeterBand] = {}
        self.sent: list[MeterChanges] = []

    def take(self, command: SendBundle) -> tuple[str, bool]:
        """Carry a command out; why it was refused, and whether for its meters."""
        adds, modifies, deletes = command.meters
        assert not adds.keys() & self.meters.keys()
        assert modifies.keys() <= self.meters.keys()
        if len(self.meters) + len(adds) > self.most:
            return "OFPET_METER_MOD_FAILED OFPMMFC_OUT_OF_METERS", True
        self.meters |= {**adds, **modifies}
        self.sent.append(command.meters)
        refusal = self.commit(command.changes)
        used = {meter_of(body.instructions) for body in self.flows.values()} - {None}
        assert used <= self.meters.keys()
        assert not used & set(deletes)
        for number in deletes:
            del self.meters[number]
        return refusal, False

    def answer(self, command: DumpFlows) -> FlowsDumped:
        found = super().answer(command)
        return replace(found, meters=MeterReport(self.most, dict(self.meters), {}) if self.most else None)


class MeterDriver(Driver):
    def __init__(self, most: int = 1000, rates: Rates = RATES) -> None:
        super().__init__()
        self.core = Reconciler(["db"], self.now, rates=rates)
        self.switch = self.switches[DPID] = Metered(DPID, most)

    def _answer(self, command: Command) -> list[Event]:
        if isinstance(command, SendBundle):
            refusal, meters = self.switch.take(command)
            if refusal:
                return [BundleFailed(command.dpid, command.session, command.number, refusal, meters)]
            return [BundleDone(command.dpid, command.session, command.number)]
        return super()._answer(command)

    def ports(self, *ofports: int) -> None:
        interfaces = tuple(port(f"p{n}", n, f"x/p{n}", ip_addresses=f"10.0.0.{n}") for n in ofports)
        self.bridge(BridgeState("db", "br-int", DPID, "node", datapath_type="netdev", interfaces=interfaces))

    def audit(self) -> None:
        self.now += AUDIT_SECONDS + 1
        self.send(Tick())


def started(most: int = 1000, rates: Rates = RATES) -> MeterDriver:
    driver = MeterDriver(most, rates)
    pods = {key: Pod(key, node="node", addresses=(parse_address(f"10.0.0.{key.name[1:]}"),)) for key in KEYS}
    driver.send(ClusterChanged(Cluster(pods=pods)))
    driver.ports(2, 3)
    driver.sync()
    driver.connect(DPID)
    return driver


KEYS = [Key("x", f"p{n}") for n in range(2, 9)]


def wanted(*ofports: int, rates: Rates = RATES) -> dict[int, MeterBand]:
    return {meter_number(limit, n): rates.band(limit) for limit in rates.metered for n in ofports}


def test_meters_follow_the_ports() -> None:
    driver = started()
    assert driver.switch.meters == wanted(2, 3)
    driver.ports(3, 4)
    assert driver.switch.meters == wanted(3, 4)
    assert driver.core.switches[DPID].realized


@given(st.lists(st.one_of(
    st.sets(st.integers(2, 8)), st.sampled_from(["audit", "again", "lost", "other", "more", "over"]),
), max_size=12))  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_whatever_happens_the_meters_are_those_of_the_ports(steps: list[set[int] | str]) -> None:
    driver, ports, session = started(), {2, 3}, 1
    for step in steps:
        if isinstance(step, set):
            ports = step
            driver.ports(*sorted(ports))
        elif step == "again":
            session += 1
            driver.connect(DPID, session)
        elif step == "lost":
            driver.switch.meters.clear()
            driver.switch.flows.clear()
        elif step == "other":
            driver.switch.meters = {number: MeterBand(1, 1) for number in driver.switch.meters}
        elif step == "more":
            driver.switch.meters[meter_number(Limit.FRAGMENTS, 77)] = MeterBand(1, 1)
        elif step == "over":
            driver.core.start_over()
        driver.audit()
        assert driver.switch.meters == wanted(*ports)
        assert driver.core.switches[DPID].realized


def test_a_switch_without_meters_goes_without_and_says_so() -> None:
    driver = started(most=0)
    assert driver.switch.meters == {}
    assert driver.switch.flows
    assert driver.core.switches[DPID].realized
    assert "the switch has no meters" in driver.core.switches[DPID].meters.problem


def test_a_switch_that_refuses_meters_gets_its_flows_without_them_until_it_connects_again() -> None:
    driver = started(most=3)
    driver.audit()
    assert driver.core.switches[DPID].realized
    assert driver.switch.meters == {}
    assert "OUT_OF_METERS" in driver.core.switches[DPID].meters.problem
    driver.switch.most = 4
    driver.audit()
    assert driver.switch.meters == {}
    driver.connect(DPID, 2)
    assert driver.switch.meters == wanted(2, 3)
    assert not driver.core.switches[DPID].meters.problem


def test_what_is_not_limited_has_no_meter() -> None:
    assert started(rates=Rates(0, 10)).switch.meters == wanted(2, 3, rates=Rates(0, 10))
    driver = started(rates=Rates(0, 0))
    assert driver.switch.meters == {}
    assert not driver.core.switches[DPID].meters.problem


def test_a_meters_number_says_whose_it_is() -> None:
    assert [read_meter(meter_number(Limit.COPIES, n)) for n in CopyReason] == [(Limit.COPIES, n) for n in CopyReason]
    for limit in METERED:
        for ofport in (1, 0xFEFF):
            assert read_meter(meter_number(limit, ofport)) == (limit, ofport)
    assert [read_meter(n) for n in (0, 1, 5, 0x48460005, 0x484E0001, 0x48490003, 0xFFFFFFFD)] == [None] * 7
    assert MeterLedger().changes() == MeterChanges({}, {}, ())
