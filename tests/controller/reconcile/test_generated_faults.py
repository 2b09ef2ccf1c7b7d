"""Each function that is called with a Service, a Node or a bridge raises whenever it is; others are as if it had not.

Which functions these are is found by running them, so one that is new is among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from controller.reconcile.events import Tick
from flows.cluster.model import Cluster, Key
from flows.cluster.net import parse_address
from tests.controller.reconcile.test_containment import Oops
from tests.controller.reconcile.test_containment_routing import (
    BAD_NODE,
    BAD_SERVICE,
    CLUSTER,
    Play,
    endpoints,
    service,
    without_node,
    without_service,
)
from tests.flows.plan.test_incremental import full
from tests.helpers.controller.generated_faults import Found, functions_about, raising

BAD_BRIDGE = ("db1", "br-int")
# They handle one bridge's part and contain what they call; that these themselves raise concerns more than it.
WHOLE = {
    "bridge": {
        "BridgePlans._take_changes", "BridgePlans.apply_policy", "BridgePlans.update", "NetworkSettings.commands",
        "PlanDelivery.deliver", "PlanDelivery._try", "PortMarker.note", "PortMarker.note_switch",
        "Reconciler._switch_commands", "RuleDistributor._enter", "RuleDistributor._enter_new",
        "RuleDistributor._put_rule", "RuleDistributor._put_rules", "World._match_nodes",
        "flows.plan.rule_distribution._add",
        # Which bridge is served: decided among all of them.
        "Owners.refusal", "Roles.set_served", "WorldState.refusal", "WorldState.served_dpid",
    },
    "node": {
        "RemoteNodes._number", "RemoteNodes._put", "Routing.is_remote",
        "AcceptedObjects.set_node_addresses", "ServiceIndex.set_node_addresses",  # they take all nodes
        "flows.services.other_nodes.serve_at_nodes",  # a Service without ports
    },
    "service": {"BridgeServices._put"},
}  # fmt: skip


def with_all_kinds(cluster: Cluster) -> Cluster:
    """The bad Service has addresses of each kind."""
    bad = cluster.services[BAD_SERVICE]
    ports = tuple(one._replace(node_port=30080) for one in bad.ports)
    bad = bad._replace(ports=ports, external_ips=(parse_address("203.0.113.9"),), external_local=True)
    return replace(cluster, services={**cluster.services, BAD_SERVICE: bad})


WHOLE_CLUSTER = with_all_kinds(CLUSTER)
MORE = replace(
    WHOLE_CLUSTER,
    services={**WHOLE_CLUSTER.services, Key("x", "new"): service("new", 7)},
    endpoint_slices={**WHOLE_CLUSTER.endpoint_slices, Key("x", "new-1"): endpoints("new", "10.0.2.11")},
)


def without_slice(cluster: Cluster) -> Cluster:
    there = {key: one for key, one in cluster.endpoint_slices.items() if one.service != BAD_SERVICE.name}
    return replace(cluster, endpoint_slices=there)


def run(play: Play, early: bool) -> None:
    """The cluster comes at once or after its start, and grows."""
    if not early:
        play.become(without_service(CLUSTER))
    play.become(WHOLE_CLUSTER)
    play.tick()
    play.become(MORE)
    play.tick()


def is_whole(play: Play) -> bool:
    """Whether switch 2 has all flows, as if nothing had raised."""
    bridges = dict(play.driver.core.world.bridges)
    return play.driver.switches[2].flows == full(MORE, bridges)[0]["db2", "br-int"]


def others_are_right(play: Play, *spared: Callable[[Cluster], Cluster]) -> bool:
    """Whether switch 2 has all that others need, and of the bad object nothing that is not its own."""
    bridges = dict(play.driver.core.world.bridges)
    found = play.driver.switches[2].flows.items()
    whole = full(MORE, bridges)[0]["db2", "br-int"].items()
    parts = [full(spare(MORE), bridges)[0]["db2", "br-int"].items() for spare in spared]
    return is_whole(play) or any(part <= found <= (whole | part) for part in parts)


def is_told(play: Play) -> bool:
    core = play.driver.core
    world = core.world
    told = (*core.contained_problems(), *world.failures, *world.refused_service_ports(), *world.service_problems)
    return bool(told)


def failed(found: Found, wanted: object, early: bool, *spared: Callable[[Cluster], Cluster]) -> str:
    """What went wrong where this function raises; "" if nothing did."""
    play = Play()
    with raising(found, wanted, Oops(str(found))) as raised:
        run(play, early)
    if not others_are_right(play, *spared):
        return f"{found} {'early' if early else 'late'}: others have wrong flows"
    quiet = len(raised) > 2 and not is_told(play) and not is_whole(play)
    return f"{found}: nobody was told" if quiet else ""


@pytest.mark.parametrize("kind", ["service", "bridge", "node"])
def test_what_keeps_raising_about_one_concerns_nobody_else(kind: str) -> None:
    wanted = {"service": BAD_SERVICE, "bridge": BAD_BRIDGE, "node": BAD_NODE}[kind]
    spared = {"service": (without_service, without_slice), "node": (without_node,)}.get(kind, ())
    found = [one for one in functions_about(wanted, lambda: run(Play(), False)) if str(one) not in WHOLE[kind]]
    assert len(found) > 30
    wrong = [failed(one, wanted, early, *spared) for one in found for early in (True, False)]
    assert [one for one in wrong if one] == []


def test_a_bridge_without_a_place_is_tried_again() -> None:
    play = Play()
    play.become(CLUSTER)
    (found,) = [
        one for one in functions_about(BAD_BRIDGE, lambda: run(Play(), False)) if str(one) == "World._with_node"
    ]
    before = dict(play.driver.switches[1].flows)
    with raising(found, BAD_BRIDGE, Oops("once")):
        play.driver.core.world.start_over()
        play.become(MORE)
        (problem,) = [one for one in play.driver.core.contained_problems() if one.where == "bridge br-int at db1"]
        assert "Oops" in problem.reason
        assert play.driver.switches[1].flows == before
        assert others_are_right(play)
    for _ in range(3):
        play.driver.now += 70.0
        play.driver.send(Tick())
    play.check(MORE, 1, 2, 3)
    assert not [*play.driver.core.contained_problems()]
