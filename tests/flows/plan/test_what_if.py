"""The flows that a change of policies changes are the same from the part of the cluster that matters to them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.cluster.model import (
    Cluster,
    Direction,
    IPBlock,
    Key,
    Operator,
    Peer,
    Pod,
    Policy,
    PortSpec,
    Protocol,
    Requirement,
    Rule,
    Selector,
    StagedPolicy,
)
from flows.cluster.net import parse_address, parse_network
from flows.plan.part_of_cluster import parts_on
from flows.plan.what_if import flow_changes, made_up_bridges
from flows.reach.changes import affected_pods
from tests.helpers.cluster.generated_clusters import clusters


@st.composite
def other_policies(draw: st.DrawFn) -> tuple[Cluster, Cluster]:
    """A cluster, and one with some policies of another, or without some."""
    before, other = draw(clusters()), draw(clusters())
    policies = dict(before.policies)
    names = sorted({*policies, *other.policies}) or [Key("a", "b")]
    for key in draw(st.lists(st.sampled_from(names), min_size=1, max_size=4)):
        policies.pop(key, None)
        if key in other.policies:
            policies[key] = other.policies[key]
    return before, replace(before, policies=policies)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(other_policies())
def test_a_part_gives_the_same_changes_of_flows(clusters: tuple[Cluster, Cluster]) -> None:
    before, after = clusters
    nodes = {before.pods[key].node for key in affected_pods(before, after) if key in before.pods}
    told = {(one.node, one.bridge): one[2:] for one in flow_changes(before, after)}
    assert {(one.node, one.bridge): one[2:] for one in flow_changes(before, after, nodes=nodes)} == told


def _pod(namespace: str, name: str, address: str, node: str) -> Pod:
    return Pod(Key(namespace, name), {"app": name}, node, addresses=(parse_address(address),))


def _cluster(peer: Peer, ports: tuple[PortSpec, ...] = ()) -> Cluster:
    """Pod x/a on node-1, whose policy allows `peer`; x/b and y/c on node-2, and z/d with the address of x/b."""
    pods = [
        _pod("x", "a", "10.0.0.1", "node-1"),
        _pod("x", "b", "10.0.0.2", "node-2"),
        _pod("y", "c", "10.0.0.3", "node-2"),
        _pod("z", "d", "10.0.0.2", "node-2"),
    ]
    key = Key("x", "p")
    policy = Policy(key, Selector(), frozenset(Direction), ingress=(Rule((peer,), ()),), egress=(Rule((peer,), ports),))
    return Cluster(pods={one.key: one for one in pods}, policies={key: policy})


def test_ports_of_other_nodes_decide_who_has_the_address_of_a_terminating_pod() -> None:
    before = _cluster(Peer(Selector()))
    pods = {key: pod._replace(terminating=key.name in "bd") for key, pod in before.pods.items()}
    before = replace(before, pods={**pods, Key("z", "d"): pods[Key("z", "d")]._replace(node="node-3")})
    after = replace(before, policies={key: one._replace(ingress=()) for key, one in before.policies.items()})
    nodes = {before.pods[key].node for key in affected_pods(before, after)} - {"node-3"}
    assert flow_changes(before, after, nodes=nodes) == flow_changes(before, after) != []


def test_a_staged_policy_of_the_namespace_counts_wherever_it_selects() -> None:
    before = _cluster(Peer(Selector()))
    nobody = Selector((Requirement("app", Operator.IN, ("none",)),))
    staged = Policy(Key("x", "s"), nobody, staged=StagedPolicy(frozenset(Direction)))
    before = replace(before, policies={**before.policies, staged.key: staged})
    after = replace(before, policies={staged.key: staged})
    assert flow_changes(before, after, nodes={"node-1", "node-2"}) == flow_changes(before, after) != []


@pytest.mark.parametrize("peer", [Peer(namespaces=Selector()), Peer(ip_block=IPBlock(parse_network("10.0.0.0/8")))])
def test_what_a_staged_policy_will_say_keeps_pods_as_what_others_say(peer: Peer) -> None:
    before = _cluster(peer, (PortSpec(Protocol.TCP, "web"),))
    elsewhere = before.pods[Key("y", "c")]._replace(node="node-3")
    before = replace(before, pods={**before.pods, elsewhere.key: elsewhere})
    staged = replace(before, policies={key: one.stage() for key, one in before.policies.items()})
    gone = replace(before, policies={})
    assert flow_changes(gone, staged, nodes={"node-1", "node-2"}) == flow_changes(gone, staged) != []
    assert str(elsewhere.key) in _kept(staged)


def test_a_pod_without_a_node_is_where_a_bridge_has_its_port() -> None:
    placed = _cluster(Peer(Selector()))
    bridges = made_up_bridges(placed)
    pods = {key: pod._replace(node="") if key.name == "a" else pod for key, pod in placed.pods.items()}
    before = replace(placed, pods=pods)
    after = replace(before, policies={})
    assert flow_changes(before, after, bridges, nodes={"", "node-2"}) == flow_changes(before, after, bridges) != []


def _kept(cluster: Cluster) -> set[str]:
    nodes = {"node-1"}
    (found,) = parts_on((cluster,), nodes, made_up_bridges(cluster, nodes=nodes))
    return {str(key) for key in found.pods}


def test_pods_of_other_namespaces_are_left_out_unless_they_claim_an_address() -> None:
    assert _kept(_cluster(Peer(pods=Selector()))) == {"x/a", "x/b", "z/d"}
    assert _kept(_cluster(Peer(namespaces=Selector()))) == {"x/a", "x/b", "y/c", "z/d"}


def test_a_port_by_name_towards_addresses_keeps_all_pods() -> None:
    block = Peer(ip_block=IPBlock(parse_network("10.0.0.0/8")))
    assert _kept(_cluster(block)) == {"x/a", "x/b", "z/d"}
    assert _kept(_cluster(block, (PortSpec(Protocol.TCP, "web"),))) == {"x/a", "x/b", "y/c", "z/d"}
