"""Exposure: what policies allow with pods that do not exist yet."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings

from flows.cluster.model import Cluster, ClusterPolicy, Direction, Key, Peer, Pod, Policy, Rule, Subject
from flows.cluster.net import parse_address
from flows.policy.probe import Endpoint, Probe
from flows.policy.verdict import verdict
from flows.reach.exposure import ANY_POD, exposures
from tests.helpers.cluster.generated_clusters import clusters, interesting_ports
from tests.helpers.cluster.model_objects import (
    block,
    cluster,
    cluster_policy,
    cluster_rule,
    labels,
    pod,
    policy,
    rule,
    tcp,
    with_cluster_policies,
)

WEB, DB, ADMIN = labels(app="web"), labels(app="db"), labels(role="admin")


def found(*policies: Policy | ClusterPolicy) -> list[tuple[str, str, str, str]]:
    """Workload, direction, peer and ports for the pods x/web and x/db."""
    plain = [one for one in policies if isinstance(one, Policy)]
    world = cluster([pod("x/web", 2, app="web"), pod("x/db", 3, app="db")], [], {"x": {"team": "x"}}, *plain)
    tiers = [one for one in policies if isinstance(one, ClusterPolicy)]
    return [
        (one.workload.removesuffix("[Pod]"), one.direction, one.peer, one.ports)
        for one in exposures(with_cluster_policies(world, *tiers))
        if one.workload == "x/db[Pod]"
    ]


OUT = ("x/db", "egress", ANY_POD, "All Connections")


def test_what_nothing_isolates_is_open_to_any_pod() -> None:
    assert found() == [OUT, ("x/db", "ingress", ANY_POD, "All Connections")]
    assert found(policy("x/shut", DB, [])) == [OUT]


def test_rules_open_to_pods_of_labels() -> None:
    rules: list[Rule | None] = [
        rule(Peer(WEB), tcp(5432)),
        rule(Peer(ADMIN, labels(team="y")), tcp()),
        rule(Peer(None, labels()), tcp(80)),
    ]
    assert found(policy("x/db", DB, rules)) == [
        OUT,
        ("x/db", "ingress", ANY_POD, "TCP 80"),
        ("x/db", "ingress", "pods with app=web in namespace x", "TCP 80,5432"),
        ("x/db", "ingress", "pods with role=admin in namespaces with team=y", "TCP 1-65535"),
    ]


def test_blocks_of_everybody_count_and_others_do_not() -> None:
    everybody = policy("x/db", DB, [rule(block("0.0.0.0/0"), tcp(80)), rule(block("10.0.0.0/8"), tcp(81))])
    assert found(everybody) == [OUT, ("x/db", "ingress", ANY_POD, "TCP 80")]


def test_a_block_of_one_family_is_nothing_for_the_other() -> None:
    world = cluster([pod("x/db", 3, families=(4,), app="db")], [], {"x": {}}, policy("x/db", DB, [rule(block("::/0"))]))
    assert [(one.direction, one.ports) for one in exposures(world)] == [("egress", "All Connections")]


def test_tiers_count() -> None:
    deny = cluster_policy("no", Subject(pods=DB), ingress=[cluster_rule("Deny", Peer(None, labels()), tcp(80))])
    (_, ingress) = found(deny)
    assert "TCP 1-79,81-65535" in ingress[3]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(clusters())
def test_any_pod_is_a_pod_that_no_policy_selects(world: Cluster) -> None:
    """Where it is told to be open to any pod, the verdict allows that pod everything; where not, nothing."""
    told = {(one.workload, one.direction): one.ports for one in exposures(world) if one.peer == ANY_POD}
    nets = {4: parse_address("198.18.0.1"), 6: parse_address("2001:2::1")}
    stranger = Pod(Key("nowhere", "pod"), addresses=tuple(nets.values()))
    wider = replace(world, pods={**world.pods, stranger.key: stranger})
    for one in world.pods.values():
        for direction in Direction if one.networked and one.addresses else ():
            ports = told.get((f"{one.key}[Pod]", direction.value), "")
            for protocol, number in interesting_ports(world):
                allowed = set()
                for own in one.addresses:  # what one family allows counts
                    end, other = Endpoint(own, pod=one.key), Endpoint(nets[own.version], pod=stranger.key)
                    ends = (other, end) if direction is Direction.INGRESS else (end, other)
                    allowed.add(verdict(wider, Probe(*ends, int(protocol), number)).allowed)
                if ports == "All Connections":
                    assert True in allowed
                elif not ports:
                    assert True not in allowed
