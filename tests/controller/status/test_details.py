"""Details of a pod and a policy equal the full computation, with the counters of the right flows."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings

from controller.reconcile.events import ClusterChanged
from controller.status.details import (
    MAX_LISTED,
    isolating_policies,
    pod_bridges,
    pod_detail,
    policy_bridges,
    policy_detail,
)
from controller.status.flows import flow_parts, flow_views
from controller.status.reference import pod_views, policy_views
from flows.bridge.state import BridgeState
from flows.cluster.model import Cluster, Direction, IPBlock, Key, Pod, Policy, Rule, Selector
from flows.cluster.net import Net
from flows.cluster.selectors import matches
from flows.pipeline.cookies import CookieKind, read_cookie
from flows.policy.reference import compile_policy
from flows.policy.rule import STAGED
from flows.wire.values import FlowCounters
from tests.controller.reconcile.test_reconciler import ALLOW, BRIDGE, DENY, cluster
from tests.helpers.cluster.generated_clusters import clusters
from tests.helpers.controller.reconcile_driver import Driver, port

NODES = ("one", "two")


def running(world: Cluster) -> Driver:
    """Two switches, each with a port for every pod that runs there."""
    driver = Driver()
    for number, node in enumerate(NODES, 1):
        ports = [
            port(f"p{ofport}", ofport, str(key))
            for ofport, (key, pod) in enumerate(sorted(world.pods.items()), 1)
            if (pod.node or NODES[ofport % 2]) == node
        ]
        driver.bridge(BridgeState("db", node, number, node, datapath_type="netdev", interfaces=tuple(ports)))
        driver.connect(number)
    driver.sync()
    driver.send(ClusterChanged(world))
    return driver


def count(driver: Driver) -> None:
    """Let every flow have seen a number of packets that no other flow has."""
    packets = 0
    for switch in driver.core.switches.values():
        counters = {}
        for key in switch.desired:
            packets += 1
            counters[key] = FlowCounters(packets, packets * 64, 1)
        switch.counters = counters


def hits(driver: Driver, dpid: int, kind: CookieKind, number: int) -> int:
    """What the flows with this cookie have seen."""
    switch = driver.core.switches[dpid]
    found = [key for key, body in switch.desired.items() if read_cookie(body.cookie) == (kind, number)]
    return sum(switch.counters[key].packets for key in found)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(world=clusters())
def test_a_pod_is_told_as_it_is_computed_from_nothing(world: Cluster) -> None:
    driver = running(world)
    count(driver)
    core = driver.core
    views = {view.key: view for view in pod_views(core)}
    for key, pod in world.pods.items():
        found = pod_detail(core, key, views.get(str(key)))
        assert found is not None
        bridges = pod_bridges(core, key)
        expected = compile_policy(world, [key]) if bridges else compile_policy(world, [])
        # The isolating policies, by the meaning of selectors alone.
        for one, direction in zip(found.isolation, Direction, strict=True):
            names = [
                str(policy.key)
                for policy in world.policies.values()
                if policy.key.namespace == key.namespace
                and direction in policy.isolates
                and pod.networked
                and matches(policy.subjects, pod.labels)
            ]
            assert (one.direction, one.policies) == (direction.value, tuple(sorted(names)))
            if bridges and names:
                dpid = core.world.bridges[bridges[0]].dpid
                ofport = views[str(key)].ofport or 0
                kind = CookieKind.DENY_EGRESS if direction is Direction.EGRESS else CookieKind.DENY_INGRESS
                assert one.denied_packets == hits(driver, dpid, kind, ofport)
        told = [
            (r.direction, set(r.rules), r.peers and {p.address for p in r.peers}, r.ports and len(r.ports))
            for r in found.rules
        ]
        wanted = [
            (
                rule.direction.value,
                set(map(str, rule.owners)),
                rule.peers and set(map(str, rule.peers)),
                rule.services and len(rule.services),
            )
            for rule in expected.rules
            if rule.level != STAGED
        ]
        assert same(told, wanted)
        assert all(rule.packets is not None for rule in found.rules)


def same(one: Sequence[object], other: Sequence[object]) -> bool:
    """The same elements in any order; sets print in any order."""
    rest = list(other)
    for element in one:
        if element not in rest:
            return False
        rest.remove(element)
    return not rest


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(world=clusters())
def test_a_policy_is_told_as_the_switches_have_it(world: Cluster) -> None:
    driver = running(world)
    count(driver)
    core = driver.core
    views = {view.key: view for view in policy_views(core)}
    for key, policy in world.policies.items():
        found = policy_detail(core, key, views[str(key)])
        subjects = [
            pod.key
            for pod in world.pods.values()
            if pod.networked and pod.key.namespace == key.namespace and matches(policy.subjects, pod.labels)
        ]
        assert [one.pod for one in found.subjects] == sorted(map(str, subjects))
        assert found.policy.pods == len(subjects)
        assert {(one.node, one.bridge) for one in found.switches} == {
            (core.world.bridges[name].node, name[1]) for name in policy_bridges(core, key)
        }
        # The hits of all its rules are those of the flows that end them, over all switches.
        for rule in found.rules:
            packets = 0
            for name, bridge in core.world.bridges.items():
                plan = core.world.plan_of(name)
                assert plan is not None
                for number, part in plan.rules_by_number().items():
                    if part.direction == rule.direction and tuple(map(str, part.owners)) == rule.rules:
                        peers = part.peers.members if part.peers is not None else None
                        services = part.services
                        alike = (peers is None) == (rule.peers is None) and rule.peer_count == len(peers or ())
                        if alike and (services and len(services)) == (rule.ports and len(rule.ports)):
                            packets += hits(driver, bridge.dpid, CookieKind.RULE, number)
            assert (rule.packets or 0) <= packets
        there = {text.split()[1] for rule in found.rules for text in rule.rules if text.startswith(f"{key} ")}
        missing = {text.partition(":")[0] for text in found.left_out}
        places = {f"{d.value}[{n}]" for d in policy.isolates for n in range(len(policy.rules(d)))}
        assert there | missing == places and not there & missing


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(world=clusters())
def test_flows_of_isolation_name_the_policies(world: Cluster) -> None:
    driver = running(world)
    core = driver.core
    for name, bridge in core.world.bridges.items():
        pod_bindings = core.world.binding(name).binding.pods
        expected = isolating_policies(core, [a.pod for a in pod_bindings])
        ofports = {a.ofport: a.pod for a in pod_bindings}
        for view in flow_views(flow_parts(core, name)):
            if not view.kind.startswith("deny_"):
                continue
            kind, number = read_cookie(view.cookie) or (CookieKind.PIPELINE, 0)
            assert kind.name.lower() == view.kind
            direction = Direction(view.kind.removeprefix("deny_"))
            assert view.policies == expected.get((ofports[number], direction), ())
        assert bridge.dpid in core.switches


def test_why_a_pod_has_no_port() -> None:
    pods = {
        Key("x", name): Pod(Key("x", name), node=node, host_network=host, finished=done)
        for name, node, host, done in (
            ("host", "n1", True, False),
            ("done", "n1", False, True),
            ("waits", "", False, False),
            ("far", "n9", False, False),
        )
    }
    driver = Driver()
    driver.bridge(BRIDGE)
    driver.sync()
    driver.send(ClusterChanged(Cluster(pods=pods)))
    reasons = {key.name: detail.pod.reason for key in pods if (detail := pod_detail(driver.core, key, None))}
    assert "hostNetwork" in reasons["host"] and "finished" in reasons["done"]
    assert "not scheduled" in reasons["waits"] and "n9" in reasons["far"]
    assert pod_detail(driver.core, Key("x", "nobody"), None) is None


def test_a_long_list_of_peers_is_bounded() -> None:
    blocks = [IPBlock(Net(4, (10 << 24) + (n << 9), 24)) for n in range(MAX_LISTED + 5)]
    rule = Rule(tuple(ALLOW.ingress[0].peers[0]._replace(pods=None, ip_block=one) for one in blocks))  # type: ignore[union-attr]
    wide = Policy(Key("x", "wide"), Selector(), frozenset({Direction.INGRESS}), (rule, None))
    driver = Driver()
    driver.bridge(BRIDGE)
    driver.sync()
    driver.connect(7)
    driver.send(ClusterChanged(cluster(DENY, wide)))
    (view,) = (one for one in policy_views(driver.core) if one.key == "x/wide")
    found = policy_detail(driver.core, Key("x", "wide"), view)
    (told,) = found.rules
    assert told.peers is not None and (len(told.peers), told.peer_count) == (MAX_LISTED, MAX_LISTED + 5)
    assert found.left_out == ("ingress[1]: it could not be understood",)
