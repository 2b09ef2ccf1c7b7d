"""The cache mark of a switch moves with every bundle, and with nothing else. See docs/adr/0015-cache-marks.md."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from controller.reconcile.cache_marks import REPEAT_SECONDS
from controller.reconcile.commands import Command, SendBundle
from controller.reconcile.events import BridgeChanged, ClusterChanged, SwitchDown, Tick
from flows.bridge.state import BridgeState
from flows.pipeline.priorities import CACHE_MARK
from flows.render.cache_marks import ENTRANCES, MARK_COUNT
from flows.wire.codec import decode_flow
from flows.wire.values import wire_flow
from tests.controller.reconcile.test_reconciler import ALLOW, BRIDGE, DENY, cluster
from tests.helpers.controller.reconcile_driver import Driver, ValueSwitch

OLD = replace(BRIDGE, datapath_type="netdev", ovs_version="3.1.0")
MENDED = replace(OLD, ovs_version="3.1.3")
KERNEL = replace(OLD, datapath_type="system")


class Marking(Driver):
    """A driver whose switches take marks as well."""

    def _answer(self, command):  # type: ignore[no-untyped-def]
        if isinstance(command, SendBundle):
            command = SendBundle(command.dpid, command.session, command.number, command.all_changes, command.meters)
        return super()._answer(command)


def marks(switch: ValueSwitch) -> set[int]:
    """The bits that the switch's marks look at; all entrances look at the same."""
    found = [
        flow
        for flow in (decode_flow(wire_flow(key, body)) for key, body in switch.flows.items())
        if flow.priority == CACHE_MARK
    ]
    assert len(found) in (0, len(ENTRANCES))
    return {flow.match[0].mask.bit_length() - 1 for flow in found}


def bundles(commands: list[Command]) -> list[SendBundle]:
    return [command for command in commands if isinstance(command, SendBundle)]


@pytest.fixture
def driver() -> Marking:
    found = Marking()
    found.sync()
    found.bridge(OLD)
    found.connect(7)
    found.send(ClusterChanged(cluster(DENY)))
    return found


def test_each_bundle_moves_the_mark(driver: Marking) -> None:
    switch, policies = driver.switches[7], (ALLOW, DENY)
    seen = [marks(switch)]
    for number in range(MARK_COUNT + 2):
        assert len(bundles(driver.send(ClusterChanged(cluster(policies[number % 2]))))) == 1
        seen.append(marks(switch))
    for before, after in pairwise(seen):
        assert before != after
        assert len(after) == 1


def test_a_new_session_or_a_new_controller_changes_nothing(driver: Marking) -> None:
    switch = driver.switches[7]
    flows = dict(switch.flows)
    driver.send(SwitchDown(7, 1))
    assert not bundles(driver.connect(7, 2))
    fresh = Marking()
    fresh.switches[7] = switch
    fresh.sync()
    fresh.bridge(OLD)
    fresh.connect(7)
    fresh.send(ClusterChanged(cluster(DENY)))
    assert switch.flows == flows
    before = marks(switch)
    fresh.send(ClusterChanged(cluster(ALLOW)))
    assert marks(switch) and marks(switch) != before


def test_a_switch_that_needs_none_has_none(driver: Marking) -> None:
    driver.send(BridgeChanged(KERNEL), ClusterChanged(cluster(ALLOW)))
    assert marks(driver.switches[7]) == set()
    assert not repeats(driver)
    driver.send(BridgeChanged(OLD), ClusterChanged(cluster(DENY)))
    assert len(marks(driver.switches[7])) == 1


def repeats(driver: Marking) -> list[SendBundle]:
    """The bundles of the next second without events."""
    found: list[SendBundle] = []
    for _ in range(100):
        driver.now += 0.01
        found += bundles(driver.send(Tick()))
    return found


@pytest.mark.parametrize("bridge", [OLD, MENDED])
def test_after_each_bundle_the_mark_is_written_again(driver: Marking, bridge: BridgeState) -> None:
    driver.send(BridgeChanged(bridge))
    repeats(driver)
    switch = driver.switches[7]
    for policy in (ALLOW, DENY, ALLOW):
        assert len(bundles(driver.send(ClusterChanged(cluster(policy))))) == 1
        assert driver.core.switches[7].realized
        there = marks(switch)
        again = repeats(driver)
        assert len(again) == len(REPEAT_SECONDS)
        assert all(not one.changes and one.cache_marks.modifies for one in again)
        assert marks(switch) == there


def test_a_mark_stays_where_megaflows_change_as_they_should(driver: Marking) -> None:
    driver.send(BridgeChanged(MENDED), ClusterChanged(cluster(ALLOW)))
    there = marks(driver.switches[7])
    driver.send(ClusterChanged(cluster(DENY)))
    assert marks(driver.switches[7]) == there
    assert len(there) == 1


def test_a_bundle_that_fails_leaves_a_mark_that_moves_later(driver: Marking) -> None:
    switch = driver.switches[7]
    before = marks(switch)
    switch.broken = "no"
    driver.send(ClusterChanged(cluster(ALLOW)))
    assert marks(switch) == before
    switch.broken = ""
    driver.now += 60
    driver.send(Tick())
    assert len(marks(switch)) == 1
    assert marks(switch) != before
