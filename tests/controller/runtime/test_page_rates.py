"""What counts now: rates between two dumps, the node that is looked at first, and a bound on how many are dumped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator

import pytest

from controller.metrics.packet_counters import AllowedLabels, CounterSample, DeniedLabels, TierLabels
from controller.runtime.page_rates import MAX_DUMPED, RateMeter, _compared, _Reading, _summed
from flows.wire.values import FlowCounters, flow_key
from tests.helpers.cluster.page_cluster import PODS_PER_NODE, page_cluster
from tests.helpers.controller.page_world import PageWorld
from tests.helpers.waiting import until

ALLOWED = AllowedLabels("shop", "db", "ingress", 0)
DENIED = DeniedLabels("shop", "web", "ingress", "shop/deny")
NODES = 10


TIERED = TierLabels("Admin", "guard", "ingress", 1, "", "Deny")


def test_sums_by_table_and_by_what_flows_count_for() -> None:
    counters = {flow_key(60, n, b""): FlowCounters(n, 0, 1) for n in (3, 4)} | {
        flow_key(65, 1, b""): FlowCounters(5, 0, 1)
    }
    samples: dict[Hashable, CounterSample] = {
        1: CounterSample((ALLOWED,), 3, 1),
        2: CounterSample((ALLOWED, DENIED), 4, 1),
        3: CounterSample((TIERED,), 5, 1),
    }
    tables, totals = _summed(counters, samples)
    assert tables == {60: 7, 65: 5}
    assert totals == {ALLOWED: 7, DENIED: 4, TIERED: 5}


def test_a_rate_is_the_difference_and_a_counter_that_began_anew_has_none() -> None:
    before = _Reading(
        10.0, "n", _summed({flow_key(60, 1, b""): FlowCounters(100, 0, 1)}, {})[0], {ALLOWED: 100, DENIED: 7}
    )
    after = _Reading(
        12.0, "n", _summed({flow_key(60, 1, b""): FlowCounters(140, 0, 1)}, {})[0], {ALLOWED: 140, DENIED: 3}
    )
    found = _compared(before, after)
    assert found.table_rates == {60: 20.0}
    assert found.rates == {ALLOWED: 20.0}
    assert _compared(None, before).table_rates is None


@pytest.fixture(scope="module")
def world() -> Iterator[PageWorld]:
    found = PageWorld(page_cluster(NODES * PODS_PER_NODE))
    until(lambda: all(one.in_sync for one in found.page.state().switches) and found.page.state().pod_count > 0)
    yield found
    found.stop()


def test_few_switches_are_dumped_at_once_and_the_one_that_is_looked_at_each_time(world: PageWorld) -> None:
    meter = RateMeter(world.locked, world.dumps, world.metrics.packets)
    found = meter.rates("node-7")
    assert [one.node for one in found.nodes] == ["node-7"]
    assert (len(meter._readings), found.of, found.covered) == (MAX_DUMPED, NODES, 0)
    meter._next_at = 0.0
    found = meter.rates("node-7")
    assert len(meter._readings) == NODES
    assert found.nodes[0].tables["classify"].rate is not None
    assert found.denied and found.denied[0].workload.endswith("[Deployment]")
    assert any(one.sources and one.destinations for one in found.rules)
    last = {name: one.at for name, one in meter._readings.items()}
    meter.rates("node-7")  # within the pause: nothing is dumped
    assert last == {name: one.at for name, one in meter._readings.items()}


def test_rules_of_tiers_have_rates_with_tier_and_action(world: PageWorld) -> None:
    meter = RateMeter(world.locked, world.dumps, world.metrics.packets)
    reading = _Reading(1.0, "node-1", Counter(), {TIERED: 50, ALLOWED: 9}, {TIERED: 5.0, ALLOWED: 1.0})
    first, second = meter._rule_rates([reading])
    assert (first.policy, first.rule, first.rate, first.tier, first.action) == ("guard", 1, 5.0, "Admin", "Deny")
    assert (second.policy, second.tier, second.action) == ("shop/db", "", "")
