"""Exposure: what policies allow with pods that do not exist yet."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import HealthCheck, given, settings

from flows.cluster.model import (
    EVERYTHING,
    NAMESPACE_NAME_LABEL,
    Cluster,
    ClusterPolicy,
    Direction,
    Key,
    Labels,
    Namespace,
    Operator,
    Peer,
    Pod,
    Policy,
    PortSpec,
    Protocol,
    Requirement,
    Rule,
    Selector,
    Subject,
)
from flows.cluster.net import Net, parse_address
from flows.cluster.selectors import matches
from flows.policy.probe import Endpoint, Probe
from flows.policy.verdict import verdict
from flows.reach.exposure import exposures
from flows.reach.ports import ALL_TEXT, NO_TEXT
from flows.reach.strangers import ANY_POD, kind_name, named_peers
from tests.helpers.cluster.generated_clusters import clusters, interesting_ports
from tests.helpers.cluster.generated_clusters import labels as labels_drawn
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
        for one in exposures(with_cluster_policies(world, *tiers)).found
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
    assert [(one.direction, one.ports) for one in exposures(world).found] == [("egress", "All Connections")]


def test_tiers_count() -> None:
    deny = cluster_policy("no", Subject(pods=DB), ingress=[cluster_rule("Deny", Peer(None, labels()), tcp(80))])
    (_, ingress) = found(deny)
    assert "TCP 1-79,81-65535" in ingress[3]


def test_any_pod_is_any_whatever_labels_rules_want_absent() -> None:
    """A rule for pods or namespaces without a label is none for any pod."""
    absent = Selector((Requirement("env", Operator.DOES_NOT_EXIST),))
    other = Selector((Requirement("env", Operator.NOT_IN, ("a", "b")),))
    rules: list[Rule | None] = [
        rule(Peer(absent, EVERYTHING), tcp(80)),
        rule(Peer(EVERYTHING, other), tcp(81)),
        rule(Peer(other), tcp(82)),
    ]
    assert found(policy("x/db", DB, rules)) == [
        OUT,
        ("x/db", "ingress", "pods in namespaces with env not in (a, b)", "TCP 81"),
        ("x/db", "ingress", "pods with env absent in any namespace", "TCP 80"),
        ("x/db", "ingress", "pods with env not in (a, b) in namespace x", "TCP 81-82"),
    ]


def test_selectors_that_overlap_have_what_all_of_their_pods_may() -> None:
    wide, narrow = (
        Selector((Requirement("role", Operator.NOT_IN, values),)) for values in (("x", "y"), ("w", "x", "y", "z"))
    )
    some = Selector((Requirement("role", Operator.EXISTS),))
    rules: list[Rule | None] = [rule(Peer(wide), tcp(80)), rule(Peer(narrow), tcp(81)), rule(Peer(some), tcp(82))]
    assert found(policy("x/db", DB, rules))[1:] == [
        ("x/db", "ingress", "pods with role exists in namespace x", "TCP 82"),
        ("x/db", "ingress", "pods with role not in (w, x, y, z) in namespace x", "TCP 80-81"),
        ("x/db", "ingress", "pods with role not in (x, y) in namespace x", "TCP 80"),
    ]


def test_exceptions_of_tiers_are_told() -> None:
    deny = cluster_policy("no", Subject(pods=DB), egress=[cluster_rule("Deny", Peer(EVERYTHING, ADMIN), tcp(90))])
    shut = cluster_policy("shut", Subject(pods=DB), ingress=[cluster_rule("Deny", Peer(WEB, EVERYTHING))])
    rest = "SCTP 1-65535,TCP 1-89,91-65535,UDP 1-65535,other protocols"
    assert found(deny, shut) == [
        OUT,
        ("x/db", "egress", "pods in namespaces with role=admin", rest),
        ("x/db", "ingress", ANY_POD, "All Connections"),
        ("x/db", "ingress", "pods with app=web in any namespace", "No Connections"),
    ]


def test_a_port_by_name_has_its_name() -> None:
    """Pods that may come have no numbers for a name; a rule of all ports has it in it."""
    http, dns = PortSpec(Protocol.TCP, "http"), PortSpec(Protocol.UDP, "dns")
    rules: list[Rule | None] = [rule(Peer(WEB), http, tcp(443)), rule(Peer(ADMIN), http, tcp()), rule(dns)]
    allow = policy("x/db", DB, egress=rules)
    assert [one for one in found(allow) if one[1] == "egress"] == [
        ("x/db", "egress", ANY_POD, "UDP dns"),
        ("x/db", "egress", "pods with app=web in namespace x", "TCP 443,http,UDP dns"),
        ("x/db", "egress", "pods with role=admin in namespace x", "TCP 1-65535,UDP dns"),
    ]
    deny = cluster_policy("no", Subject(pods=DB), egress=[cluster_rule("Deny", Peer(WEB, EVERYTHING), http)])
    assert found(deny)[1][3] == "All Connections but TCP http"


def allows(text: str, protocol: Protocol, number: int) -> bool:
    """Whether a connection is among ports in words."""
    if text in (ALL_TEXT, NO_TEXT):
        return text == ALL_TEXT
    found = re.search(rf"\b{protocol.name} ((?:[\d-]+,?)+)", text)
    ranges = (one.partition("-") for one in found[1].strip(",").split(",")) if found else ()
    return any(int(low) <= number <= int(high or low) for low, _, high in ranges)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(clusters(), labels_drawn(), labels_drawn())
def test_a_pod_may_what_is_told_of_its_kinds(world: Cluster, pod_labels: Labels, space_labels: Labels) -> None:
    """The verdict allows a pod of any labels what is told of the kinds that it is of, and nothing else."""
    nets = {4: parse_address("198.18.0.1"), 6: parse_address("2001:2::1")}
    space = Namespace("nowhere", {**space_labels, NAMESPACE_NAME_LABEL: "nowhere"})
    stranger = Pod(Key(space.name, "pod"), pod_labels, addresses=tuple(nets.values()))
    wider = replace(
        world, pods={**world.pods, stranger.key: stranger}, namespaces={**world.namespaces, space.name: space}
    )
    kinds = {
        kind_name(home, one)
        for home, one in named_peers(world)
        if one.namespaces is not None
        and matches(one.namespaces, space.labels)
        and matches(one.pods or EVERYTHING, pod_labels)
    }
    told = [one for one in exposures(world).found if one.peer in {ANY_POD, *kinds} and one.workload.endswith("[Pod]")]
    pods = {f"{one.key}[Pod]": one for one in world.pods.values()}
    for one in told:
        own = pods[one.workload]
        for protocol, number in interesting_ports(world):
            if allows(one.ports, protocol, number):
                assert any(
                    _allowed(wider, own, stranger, one.direction, address, (protocol, number))
                    for address in own.addresses
                )


def _allowed(world: Cluster, own: Pod, other: Pod, direction: str, address: Net, service: tuple[Protocol, int]) -> bool:
    """What the verdict says for one address of a pod, and the other's of the same family."""
    far = next(one for one in other.addresses if one.version == address.version)
    ends = (Endpoint(far, pod=other.key), Endpoint(address, pod=own.key))
    source, destination = ends if direction == Direction.INGRESS else reversed(ends)
    return verdict(world, Probe(source, destination, int(service[0]), service[1])).allowed
