"""What the operator is shown of groups: the name and endpoints beside each flow, and a switch that cannot flush."""

from __future__ import annotations

from controller.reconcile.events import ClusterChanged, FlushRefused
from controller.status.flows import flow_parts, flow_views
from controller.status.problem_views import flush_problems
from flows.bridge.state import BridgeState
from flows.cluster.model import Cluster
from flows.openflow.actions import Ct, Nat, NatKind, ToGroup
from flows.openflow.flow import Flow
from flows.openflow.group import Bucket, Group
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.group_numbers import group_id
from flows.wire.codec import encode_flow
from flows.wire.groups import encode_group
from tests.helpers.controller.reconcile_driver import Driver

DPID = 0x10
BRIDGE = ("db", "br-int")
WEB, EMPTY = group_id(1), group_id(2, udp=True)


def started() -> Driver:
    """A switch with two groups and a flow to each."""
    driver = Driver()
    driver.bridge(BridgeState("db", "br-int", DPID, "node"))
    driver.send(ClusterChanged(Cluster()))
    driver.sync()
    plan = driver.core.world.plan_of(BRIDGE)
    assert plan is not None
    targets = [Nat(NatKind.DESTINATION, 4, 0x0A000001 + n, 80) for n in range(11)]
    targets.append(Nat(NatKind.DESTINATION, 6, (0xFD << 120) + 1, 80))
    web = encode_group(Group(WEB, tuple(Bucket((Ct(9, 30, True, nat=nat),)) for nat in targets)))
    plan.groups.put(*web, "Service x/web:80")
    plan.groups.put(*encode_group(Group(EMPTY, ())))
    for number in (WEB, EMPTY):
        one = encode_flow(Flow(0, number & 7, (), (ToGroup(number),), None, cookie(CookieKind.PIPELINE)))
        plan.flows[one.key] = one.body
    driver.connect(DPID)
    return driver


def test_a_flow_to_a_group_shows_its_name_and_endpoints() -> None:
    driver = started()
    assert set(driver.switches[DPID].groups) == {WEB, EMPTY}
    notes = {
        view.actions: view.note for view in flow_views(flow_parts(driver.core, BRIDGE)) if "group:" in view.actions
    }
    some = ", ".join(f"10.0.0.{n}:80" for n in range(1, 11))
    assert notes == {
        f"group:{WEB}": f"Service x/web:80: {some} and 2 more",
        f"group:{EMPTY}": f"group {EMPTY}: no endpoint",
    }


def test_a_switch_that_cannot_flush_is_a_problem_until_it_connects_again() -> None:
    driver = started()
    assert flush_problems(driver.core) == ()
    driver.send(FlushRefused(DPID, 1, "the switch cannot flush"))
    (problem,) = flush_problems(driver.core)
    assert problem.where == "node (br-int)"
    assert "UDP connections to endpoints that are gone" in problem.reason
    driver.connect(DPID, 2)
    assert flush_problems(driver.core) == ()
