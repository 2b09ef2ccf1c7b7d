"""The reconciler against switches made of values: the wait for all sources, the empty difference, errors, marks, and
order."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from controller.reconcile.audit_pace import AUDIT_SECONDS
from controller.reconcile.commands import DumpFlows, SendBundle
from controller.reconcile.events import (
    BridgeChanged,
    BridgeGone,
    ClusterChanged,
    Event,
    OvsdbState,
    SwitchDown,
    SwitchUp,
    Tick,
)
from controller.reconcile.startup import STARTUP_WAIT_SECONDS
from controller.reconcile.switch import FIRST_RETRY_SECONDS
from controller.status.missing import unrealized
from controller.status.reference import pod_views, policy_views, problem_views, switch_views
from flows.bridge.state import BridgeState
from flows.cluster.model import Cluster, Direction, Key, Namespace, Node, Peer, Pod, Policy, Rule, Selector
from flows.cluster.net import parse_address
from tests.helpers.controller.reconcile_driver import Driver, ValueSwitch, port

A, B = Key("x", "a"), Key("x", "b")


def cluster(*policies: Policy) -> Cluster:
    pods = {
        key: Pod(key, {"pod": key.name}, "n1", f"uid-{key.name}", (parse_address(f"10.0.0.{n}"),))
        for n, key in enumerate((A, B), 1)
    }
    return Cluster(
        namespaces={"x": Namespace("x", {"ns": "x"})},
        pods=pods,
        nodes={"n1": Node("n1", (parse_address("10.0.0.254"),))},
        policies={policy.key: policy for policy in policies},
    )


DENY = Policy(Key("x", "deny"), isolates=frozenset({Direction.INGRESS}))
ALLOW = Policy(Key("x", "allow"), isolates=frozenset({Direction.INGRESS}), ingress=(Rule((Peer(pods=Selector()),)),))
BRIDGE = BridgeState(
    "db", "br-int", 7, "n1", datapath_type="netdev", interfaces=(port("a0", 1, "x/a"), port("b0", 2, "x/b"))
)


def ready() -> Driver:
    driver = Driver()
    driver.bridge(BRIDGE)
    driver.sync()
    driver.connect(7)
    driver.send(ClusterChanged(cluster(DENY)))
    return driver


def test_nothing_is_sent_before_every_source_has_synced() -> None:
    driver = Driver()
    driver.bridge(BRIDGE)
    assert not any(isinstance(c, SendBundle) for c in driver.connect(7))
    assert not any(isinstance(c, SendBundle) for c in driver.send(ClusterChanged(cluster(DENY))))
    assert any(isinstance(c, SendBundle) for c in driver.sync())
    assert driver.switches[7].flows


def test_an_ovsdb_out_of_reach_holds_the_others_up_for_a_while_only() -> None:
    driver = Driver(["db", "away"])
    driver.bridge(BRIDGE)
    driver.sync("db")
    driver.connect(7)
    driver.send(ClusterChanged(cluster()))
    assert not driver.switches[7].bundles
    assert driver.core.due(driver.now) is not None
    driver.now = STARTUP_WAIT_SECONDS
    driver.send(Tick())
    assert driver.switches[7].bundles


def test_a_pod_without_an_address_holds_nothing_up_unless_its_switch_may_still_call() -> None:
    bare = cluster()
    bare = replace(bare, pods={**bare.pods, Key("x", "new"): Pod(Key("x", "new"), node="n9")})
    for more_may_come in (False, True):
        driver = Driver(more_may_come=more_may_come)
        driver.bridge(BRIDGE)
        driver.sync()
        driver.connect(7)
        driver.send(ClusterChanged(bare))
        assert bool(driver.switches[7].bundles) is not more_may_come


def test_an_empty_difference_sends_nothing_after_a_restart() -> None:
    first = ready()
    second = Driver()
    second.switches = first.switches
    before = len(first.switches[7].bundles)
    second.bridge(BRIDGE)
    second.sync()
    second.connect(7)
    commands = second.send(ClusterChanged(cluster(DENY)))
    assert not any(isinstance(c, SendBundle) for c in commands)
    assert len(first.switches[7].bundles) == before
    assert second.core.switches[7].realized


def test_a_change_is_one_bundle_that_touches_only_what_differs() -> None:
    driver = ready()
    before = len(driver.switches[7].flows)
    commands = driver.send(ClusterChanged(cluster(DENY, ALLOW)))
    bundles = [c for c in commands if isinstance(c, SendBundle)]
    assert len(bundles) == 1
    changes = bundles[0].changes
    # Two subjects, two peers, and the flow that allows; isolation was there already.
    assert (len(changes.adds), len(changes.modifies), len(changes.deletes)) == (5, 0, 0)
    assert len(driver.switches[7].flows) == before + 5


def test_the_same_cluster_again_does_nothing() -> None:
    assert ready().send(ClusterChanged(cluster(DENY))) == []


def test_a_refused_bundle_is_dumped_again_later_each_time() -> None:
    driver = ready()
    driver.switches[7].broken = "table full"
    driver.send(ClusterChanged(cluster(ALLOW)))
    assert not driver.core.switches[7].realized
    assert "table full" in next(iter(unrealized(driver.core, driver.core.revision)))
    assert driver.send(Tick()) == []
    driver.now += FIRST_RETRY_SECONDS
    assert [type(c) for c in driver.send(Tick())] == [DumpFlows, SendBundle]
    driver.switches[7].broken = ""
    driver.now += FIRST_RETRY_SECONDS
    assert driver.send(Tick()) == [], "the second retry waits longer"
    driver.now += FIRST_RETRY_SECONDS
    driver.send(Tick())
    assert driver.core.switches[7].realized
    assert list(unrealized(driver.core, driver.core.revision)) == []


def test_flows_deleted_by_hand_come_back_at_the_next_audit() -> None:
    driver = ready()
    wanted = dict(driver.switches[7].flows)
    driver.switches[7].flows.popitem()
    driver.now += AUDIT_SECONDS
    driver.send(Tick())
    assert driver.switches[7].flows == wanted


def test_starting_over_ends_in_the_same_flows_and_sends_nothing() -> None:
    driver = ready()
    before = dict(driver.switches[7].flows)
    driver.core.start_over()
    assert not any(isinstance(c, SendBundle) for c in driver.send(Tick()))
    assert driver.switches[7].flows == before
    driver.send(ClusterChanged(cluster(DENY, ALLOW)))
    assert len(driver.switches[7].flows) == len(before) + 5


def test_a_switch_that_lost_all_its_flows_gets_them_back_on_reconnect() -> None:
    driver = ready()
    wanted = dict(driver.switches[7].flows)
    driver.send(SwitchDown(7, 1))
    driver.switches[7].flows = {}
    driver.connect(7, session=2)
    assert driver.switches[7].flows == wanted


def test_a_port_with_another_number_gets_its_flows_with_its_own_cookie() -> None:
    driver = ready()
    moved = replace(BRIDGE, interfaces=(port("a0", 5, "x/a"), *BRIDGE.interfaces[1:]))
    driver.bridge(moved)
    reference = Driver()
    reference.bridge(moved)
    reference.sync()
    reference.connect(7)
    reference.send(ClusterChanged(cluster(DENY)))
    assert driver.switches[7].flows == reference.switches[7].flows
    assert driver.core.switches[7].realized


def test_a_bridge_that_takes_back_its_datapath_id_gets_what_changed_meanwhile() -> None:
    driver = ready()
    driver.connect(8)
    driver.bridge(replace(BRIDGE, dpid=8))
    driver.send(ClusterChanged(cluster(ALLOW)))
    assert driver.switches[7].flows != driver.switches[8].flows
    driver.bridge(BRIDGE)
    assert driver.switches[7].flows == driver.switches[8].flows
    assert driver.core.switches[7].realized


def test_what_a_failed_computation_left_behind_is_not_believed() -> None:
    driver = ready()
    plan = driver.core.world.plan_of(("db", "br-int"))
    assert plan is not None
    wanted = dict(plan.flows)
    key, _ = plan.flows.popitem()  # the plan changes, and the switch is not told
    del driver.switches[7].flows[key]
    driver.core.start_over()
    driver.send(Tick())
    assert driver.switches[7].flows == wanted


def test_the_end_of_an_old_session_does_not_end_the_new_one() -> None:
    driver = ready()
    driver.connect(7, session=2)
    driver.send(SwitchDown(7, 1))
    assert driver.core.switches[7].session == 2


def test_ports_are_marked_when_their_flows_are_in_force_and_unmarked_when_the_pod_is_gone() -> None:
    driver = ready()
    assert driver.marks == [{"uuid-a0": True, "uuid-b0": True}]
    marked = tuple(replace(i, external_ids={**i.external_ids, "headgate-installed": "true"}) for i in BRIDGE.interfaces)
    driver.bridge(replace(BRIDGE, interfaces=marked))
    assert driver.core.ports.unwritten().get("db", 0) == 0
    without = cluster(DENY)
    driver.send(ClusterChanged(replace(without, pods={A: without.pods[A]})))
    assert driver.marks[1:] == [{"uuid-b0": False}]
    assert len(driver.core.ports.durations) == 2


def test_a_new_port_is_marked_only_after_its_bundle() -> None:
    driver = ready()
    driver.switches[7].broken = "busy"
    driver.bridge(replace(BRIDGE, interfaces=(*BRIDGE.interfaces[:1], port("b1", 3, "x/b"))))
    assert {"uuid-b1": True} not in driver.marks


def test_a_bridge_that_no_cluster_names_gets_only_what_every_bridge_has() -> None:
    driver = Driver()
    driver.bridge(replace(BRIDGE, hostname="n9"))
    driver.sync()
    driver.connect(7)
    driver.send(ClusterChanged(cluster(DENY)))
    unbound = switch_views(driver.core, 0.0)[0].unbound_ports
    assert ["runs on node n1, this is n9" in p.reason for p in unbound] == [True, True]


def test_a_switch_without_a_bridge_of_ours_is_left_alone() -> None:
    driver = ready()
    assert driver.connect(9) == []
    assert [problem.where for problem in problem_views(driver.core)] == ["switch 0000000000000009"]
    driver.send(BridgeGone("db", "br-int"))
    assert driver.connect(7, session=3) == []


def test_two_bridges_with_one_datapath_id_are_reported_and_one_is_served() -> None:
    driver = ready()
    driver.bridge(replace(BRIDGE, ovsdb="other"))
    errors = [view.error for view in switch_views(driver.core, 0.0)]
    assert sum("is used by bridge" in error for error in errors) == 1


def test_reports_name_what_is_there() -> None:
    driver = ready()
    assert [view.isolated for view in pod_views(driver.core)] == [("ingress",), ("ingress",)]
    assert [(view.key, view.realized, view.pods) for view in policy_views(driver.core)] == [("x/deny", True, 2)]
    assert switch_views(driver.core, 0.0)[0].in_sync


@pytest.mark.parametrize("seed", range(20))
def test_the_same_world_in_any_order_gives_the_same_flows(seed: int) -> None:
    random_ = random.Random(seed)
    addressless = cluster(DENY, ALLOW)
    bare = {A: addressless.pods[A]._replace(addresses=()), B: addressless.pods[B]}
    final = ClusterChanged(replace(addressless, pods=bare))
    interfaces = (port("a0", 1, "x/a", ip_addresses="10.0.0.1"), port("b0", 2, "x/b"))
    events: list[Event] = [
        final,
        BridgeChanged(replace(BRIDGE, interfaces=interfaces)),
        OvsdbState("db", True),
        SwitchUp(7, 1),
        ClusterChanged(cluster()),
        BridgeChanged(replace(BRIDGE, interfaces=interfaces[:1])),
    ]
    random_.shuffle(events)
    events += [event for event in events if random_.random() < 0.5]
    # What the world is in the end: the last word of each source.
    events += [BridgeChanged(replace(BRIDGE, interfaces=interfaces)), final]
    driver = Driver()
    driver.switches[7] = ValueSwitch(7)
    while events:
        size = random_.randint(1, 4)
        driver.send(*events[:size])
        del events[:size]
    assert driver.core.switches[7].realized
    reference = Driver()
    reference.bridge(replace(BRIDGE, interfaces=interfaces))
    reference.sync()
    reference.connect(7)
    reference.send(final)
    assert driver.switches[7].flows == reference.switches[7].flows
