"""Each function that is called with a Service or with a bridge raises whenever it is; all others are as if it had not.

Which functions these are is found by running them, so one that is new is among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from flows.cluster.model import Cluster, Key
from flows.cluster.net import parse_address
from tests.controller.reconcile.test_containment import Oops
from tests.controller.reconcile.test_containment_routing import (
    BAD_SERVICE,
    CLUSTER,
    Play,
    endpoints,
    service,
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
        "Reconciler._switch_commands", "RuleDistributor._enter", "RuleDistributor._put_rule",
        "RuleDistributor._put_rules", "flows.plan.rule_distribution._add",
        # Where a bridge stands: what routes between all of them.
        "ClusterNetwork.routing_of", "Owners.refusal", "Roles.set_served", "World._match_nodes", "World._with_node",
        "World._with_routing", "WorldState.refusal", "WorldState.served_dpid",
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


def others_are_right(play: Play, *spared: Callable[[Cluster], Cluster]) -> bool:
    """Whether switch 2 has all that others need, and of the bad object nothing that is not its own."""
    bridges = dict(play.driver.core.world.bridges)
    found = play.driver.switches[2].flows.items()
    whole = full(MORE, bridges)[0]["db2", "br-int"].items()
    parts = [full(spare(MORE), bridges)[0]["db2", "br-int"].items() for spare in spared]
    return found == whole or any(part <= found <= (whole | part) for part in parts)


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
    return f"{found}: nobody was told" if len(raised) > 2 and not is_told(play) else ""


@pytest.mark.parametrize("kind", ["service", "bridge"])
def test_what_keeps_raising_about_one_concerns_nobody_else(kind: str) -> None:
    wanted = BAD_SERVICE if kind == "service" else BAD_BRIDGE
    spared = (without_service, without_slice) if kind == "service" else ()
    found = [one for one in functions_about(wanted, lambda: run(Play(), False)) if str(one) not in WHOLE[kind]]
    assert len(found) > 30
    wrong = [failed(one, wanted, early, *spared) for one in found for early in (True, False)]
    assert [one for one in wrong if one] == []
