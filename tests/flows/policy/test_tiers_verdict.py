"""The meaning of ClusterNetworkPolicy, one sentence a row: policies in a small fixed cluster, and what they allow."""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

import pytest

from flows.cluster.model import (
    Action,
    ClusterPolicy,
    ClusterRule,
    ContainerPort,
    Node,
    NodePeer,
    Peer,
    Policy,
    Protocol,
    Selector,
    Subject,
    Tier,
)
from flows.cluster.net import parse_address
from flows.policy.tier_walk import Outcome
from tests.helpers.cluster.model_objects import (
    block,
    cluster,
    cluster_policy,
    cluster_rule,
    labels,
    pod,
    policy,
    rule,
    sctp,
    tcp,
    udp,
    verdicts_of,
    with_cluster_policies,
)

ACCEPT, DENY, PASS = Action.ACCEPT, Action.DENY, Action.PASS
BASELINE = Tier.BASELINE
WEB, WEB_HIGH = ContainerPort("web", 80, Protocol.TCP), ContainerPort("web", 8080, Protocol.TCP)
ALL = Selector()
NODES = [
    Node("one", (parse_address("192.0.2.1"), parse_address("2001:db8::1")), labels=MappingProxyType({"role": "front"})),
    Node("two", (parse_address("192.0.2.2"),), external_addresses=(parse_address("198.51.100.2"),)),
]
NAMESPACES = {"x": {"ns": "x"}, "y": {"ns": "y"}}
PODS = [
    pod("x/a", 1, "one", WEB, pod="a"),
    pod("x/b", 2, "two", WEB_HIGH, pod="b"),
    pod("y/a", 3, "one", pod="a"),
    pod("y/b", 4, "two", pod="b"),
    pod("x/host", 11, "one", host_network=True, pod="host"),
    # Two pods claim 10.0.0.20.
    pod("x/twin", 20, "one", WEB, families=(4,), pod="twin"),
    pod("y/twin", 20, "two", WEB_HIGH, families=(4,), pod="other"),
]
X, Y = Peer(None, labels(ns="x")), Peer(None, labels(ns="y"))
ON_X = Subject(labels(ns="x"))
A, B = Peer(labels(pod="a"), ALL), Peer(labels(pod="b"), ALL)
TWIN = Peer(labels(pod="twin"), ALL)
EVERYWHERE = [block("0.0.0.0/0"), block("::/0")]
DENY_ALL_IN = policy("x/deny", ingress=[])


class Row(NamedTuple):
    """One sentence: under `policies`, the probes in `passes` are allowed and those in `drops` denied."""

    sentence: str
    policies: list[ClusterPolicy | Policy]
    passes: str
    drops: str


def on_x(*rules: ClusterRule, name: str = "p", priority: int = 10, tier: Tier = Tier.ADMIN) -> ClusterPolicy:
    """Ingress of x."""
    return cluster_policy(name, ON_X, ingress=list(rules), priority=priority, tier=tier)


def from_x(*rules: ClusterRule, name: str = "p", priority: int = 10, tier: Tier = Tier.ADMIN) -> ClusterPolicy:
    """Egress of x."""
    return cluster_policy(name, ON_X, egress=list(rules), priority=priority, tier=tier)


ROWS = [
    Row("a policy isolates nobody by itself", [on_x()], "y/a > x/a, x/a > y/a", ""),
    Row(
        "Deny denies what it matches",
        [on_x(cluster_rule(DENY, Y))],
        "x/b > x/a, x/a > y/a",
        "y/a > x/a, y/a > x/a ICMP",
    ),
    Row(
        "the first rule that matches decides",
        [on_x(cluster_rule(ACCEPT, A), cluster_rule(DENY, Y))],
        "y/a > x/a",
        "y/b > x/a",
    ),
    Row(
        "a rule after it does not count",
        [on_x(cluster_rule(DENY, Y), cluster_rule(ACCEPT, A))],
        "x/b > x/a",
        "y/a > x/a, y/b > x/a",
    ),
    Row(
        "a lower priority comes first",
        [on_x(cluster_rule(ACCEPT, Y), name="z", priority=0), on_x(cluster_rule(DENY, Y), name="a", priority=1)],
        "y/a > x/a",
        "",
    ),
    Row(
        "of equal priorities the smaller name comes first, with all its rules",
        [on_x(cluster_rule(ACCEPT, B), cluster_rule(DENY, A), name="a"), on_x(cluster_rule(ACCEPT, A), name="b")],
        "y/b > x/a",
        "y/a > x/a",
    ),
    Row(
        "Accept of Admin comes before a NetworkPolicy",
        [on_x(cluster_rule(ACCEPT, A)), DENY_ALL_IN],
        "y/a > x/a",
        "y/b > x/a",
    ),
    Row(
        "Deny of Admin comes before a NetworkPolicy",
        [on_x(cluster_rule(DENY, A)), policy("x/all", ingress=[rule()])],
        "y/b > x/a",
        "y/a > x/a",
    ),
    Row(
        "Pass of Admin leaves it to a NetworkPolicy",
        [on_x(cluster_rule(PASS, A), cluster_rule(DENY, Y)), policy("x/all", ingress=[rule(A)])],
        "y/a > x/a",
        "y/b > x/a, x/b > x/a",
    ),
    Row(
        "Pass skips later policies of the tier",
        [on_x(cluster_rule(PASS, A), priority=1), on_x(cluster_rule(DENY, Y), name="q", priority=2)],
        "y/a > x/a",
        "y/b > x/a",
    ),
    Row(
        "Accept at one end does not bind the other",
        [on_x(cluster_rule(ACCEPT, Y)), cluster_policy("e", Subject(labels(ns="y")), egress=[cluster_rule(DENY, X)])],
        "",
        "y/a > x/a",
    ),
    Row(
        "Baseline decides for pods that nothing isolates",
        [on_x(cluster_rule(DENY, Y), tier=BASELINE)],
        "x/b > x/a",
        "y/a > x/a",
    ),
    Row(
        "a NetworkPolicy overrides Baseline",
        [on_x(cluster_rule(DENY, Y), tier=BASELINE), policy("x/all", ingress=[rule()])],
        "y/a > x/a",
        "",
    ),
    Row(
        "Baseline opens no pod that a NetworkPolicy isolates",
        [on_x(cluster_rule(ACCEPT, Y), tier=BASELINE), DENY_ALL_IN],
        "",
        "y/a > x/a",
    ),
    Row(
        "isolation in the other direction does not count",
        [on_x(cluster_rule(DENY, Y), tier=BASELINE), policy("x/out", egress=[])],
        "",
        "y/a > x/a",
    ),
    Row(
        "Pass of Baseline leaves it to the default",
        [on_x(cluster_rule(PASS, A), cluster_rule(DENY, Y), tier=BASELINE)],
        "y/a > x/a",
        "y/b > x/a",
    ),
    Row(
        "Accept of Admin skips Baseline",
        [on_x(cluster_rule(ACCEPT, A)), on_x(cluster_rule(DENY, Y), name="b", tier=BASELINE)],
        "y/a > x/a",
        "y/b > x/a",
    ),
    Row(
        "Pass of Admin goes on to Baseline",
        [on_x(cluster_rule(PASS, A)), on_x(cluster_rule(DENY, Y), name="b", tier=BASELINE)],
        "",
        "y/a > x/a, y/b > x/a",
    ),
    Row(
        "protocols narrow a rule",
        [on_x(cluster_rule(DENY, Y, tcp(80), udp(53, 60)))],
        "y/a > x/a, y/a > x/a UDP 61, y/a > x/a ICMP, y/a > x/a SCTP 80",
        "y/a > x/a TCP 80, y/a > x/a UDP 60",
    ),
    Row("SCTP is a protocol", [on_x(cluster_rule(DENY, Y, sctp(9)))], "y/a > x/a TCP 9", "y/a > x/a SCTP 9"),
    Row(
        "a port's name is that of the subject at ingress",
        [on_x(cluster_rule(DENY, Y, tcp("web")))],
        "y/a > x/a TCP 8080, y/a > x/b TCP 80",
        "y/a > x/a TCP 80, y/a > x/b TCP 8080",
    ),
    Row(
        "a port's name is that of the peer at egress",
        [from_x(cluster_rule(DENY, A, B, tcp("web")))],
        "x/a > x/b TCP 80, x/a > y/a TCP 80",
        "x/a > x/b TCP 8080, x/b > x/a TCP 80",
    ),
    Row(
        "networks match pods too, and every protocol",
        [from_x(cluster_rule(DENY, block("10.0.0.3/32"), block("192.0.2.0/24")))],
        "x/a > 203.0.113.1",
        "x/a > 10.0.0.3, x/a > 10.0.0.3 ICMP, x/a > 192.0.2.9",
    ),
    Row(
        "one family of networks does not match the other",
        [from_x(cluster_rule(DENY, block("::/0")))],
        "x/a > 203.0.113.1",
        "x/a > 2001:db8:1::1",
    ),
    Row(
        "nodes match by label and all addresses",
        [from_x(cluster_rule(DENY, NodePeer(ALL)))],
        "x/a > y/a, node:one > x/a",
        "x/a > 192.0.2.1, x/b > 192.0.2.1, x/a > 192.0.2.2, x/a > 198.51.100.2",
    ),
    Row(
        "nodes without the label do not match",
        [from_x(cluster_rule(DENY, NodePeer(labels(role="front"))))],
        "x/a > 192.0.2.2",
        "x/b > 192.0.2.1",
    ),
    Row(
        "the own node always reaches its pods",
        [on_x(cluster_rule(DENY, *EVERYWHERE), cluster_rule(DENY))],
        "node:one > x/a",
        "node:two > x/a",
    ),
    Row(
        "rules of tiers keep a pod from its own node, as its peer or its address",
        [from_x(cluster_rule(ACCEPT, *EVERYWHERE, udp(53)), cluster_rule(DENY, *EVERYWHERE))],
        "x/a > 192.0.2.1 UDP 53, node:one > x/a",
        "x/a > 192.0.2.1, x/a > 192.0.2.1 ICMP, x/a > 2001:db8::1",
    ),
    Row(
        "a NetworkPolicy does not, and keeps Baseline from it",
        [from_x(cluster_rule(DENY, NodePeer(ALL)), tier=BASELINE), policy("x/p", labels(pod="a"), egress=[])],
        "x/a > 192.0.2.1",
        "x/a > 192.0.2.2",
    ),
    Row(
        "without one, Baseline does",
        [from_x(cluster_rule(DENY, NodePeer(ALL)), tier=BASELINE), policy("x/p", labels(pod="b"), egress=[])],
        "x/b > 192.0.2.2",
        "x/a > 192.0.2.1, x/b > 192.0.2.1",
    ),
    Row(
        "a pod reaches itself",
        [on_x(cluster_rule(DENY)), from_x(cluster_rule(DENY), name="e")],
        "x/a > x/a",
        "x/a > x/b",
    ),
    Row(
        "a pod on the host's network is neither subject nor peer",
        [cluster_policy("p", ingress=[cluster_rule(DENY, Peer(labels(pod="host"), ALL))])],
        "node:one > y/b",
        "",
    ),
    Row(
        "an Accept that cannot be read matches nothing",
        [on_x(ClusterRule(ACCEPT, unreadable=True), cluster_rule(DENY, Y))],
        "x/b > x/a",
        "y/a > x/a",
    ),
    Row(
        "a Deny that cannot be read denies everything",
        [on_x(ClusterRule(DENY, unreadable=True))],
        "x/a > y/a",
        "y/a > x/a, x/b > x/a",
    ),
    Row(
        "a Pass that cannot be read denies everything",
        [on_x(ClusterRule(PASS, unreadable=True))],
        "x/a > y/a",
        "y/a > x/a, x/b > x/a",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.sentence)
def test_meaning(row: Row) -> None:
    world = cluster(PODS[:5], NODES, NAMESPACES, *(one for one in row.policies if isinstance(one, Policy)))
    world = with_cluster_policies(world, *(one for one in row.policies if isinstance(one, ClusterPolicy)))
    for text, wanted in ((row.passes, True), (row.drops, False)):
        for line in filter(None, map(str.strip, text.split(","))):
            for found in verdicts_of(world, line).values():
                assert found.allowed is wanted, "\n".join([line, *found.explain()])


@pytest.mark.parametrize(
    ("rules", "port", "allowed", "outcome"),
    [
        # Both pods are y's or x's, but only one is called twin.
        ([cluster_rule(ACCEPT, TWIN), cluster_rule(DENY)], 5, False, Outcome.MATCHES),
        ([cluster_rule(DENY, TWIN)], 5, False, Outcome.DOUBT),
        ([cluster_rule(DENY, TWIN, tcp(6))], 5, True, Outcome.PEER),
        ([cluster_rule(PASS, TWIN)], 5, False, Outcome.DOUBT),
        ([cluster_rule(PASS, Peer(None, ALL))], 5, True, Outcome.MATCHES),
        # What a name stands for differs between them.
        ([cluster_rule(DENY, Peer(None, ALL), tcp("web"))], 8080, False, Outcome.DOUBT),
        ([cluster_rule(ACCEPT, Peer(None, ALL), tcp("web")), cluster_rule(DENY)], 80, False, Outcome.MATCHES),
    ],
)
def test_an_address_of_two_pods(rules: list[ClusterRule], port: int, allowed: bool, outcome: Outcome) -> None:
    world = with_cluster_policies(cluster(PODS, NODES, NAMESPACES), from_x(*rules))
    (found,) = verdicts_of(world, f"x/a > x/twin TCP {port}").values()
    assert (found.allowed, found.egress.walk[-1].outcome) == (allowed, outcome)


def test_the_walk_tells_the_order_and_why() -> None:
    policies = [
        on_x(
            cluster_rule(DENY, B, name="no-b"), cluster_rule(PASS, A, tcp(80)), cluster_rule(PASS, A, name="to-teams")
        ),
        on_x(cluster_rule(DENY, Y, name="no-y"), name="base", tier=BASELINE),
    ]
    world = with_cluster_policies(cluster(PODS[:5], NODES, NAMESPACES), *policies)
    found = verdicts_of(world, "y/a > x/a")[4]
    assert [str(step) for step in found.ingress.walk] == [
        "p ingress rule 0 'no-b' (Admin, Deny)",
        "p ingress rule 1 (Admin, Pass)",
        "p ingress rule 2 'to-teams' (Admin, Pass)",
        "base ingress rule 0 'no-y' (Baseline, Deny)",
    ]
    assert [step.outcome for step in found.ingress.walk] == [
        Outcome.PEER, Outcome.PORT, Outcome.MATCHES, Outcome.MATCHES,
    ]  # fmt: skip
    assert found.explain()[2:4] == [
        "ingress to x/a: denied: base ingress rule 0 'no-y' (Baseline, Deny) matches",
        "  p ingress rule 0 'no-b' (Admin, Deny) has no matching peer",
    ]
