"""The meaning of NetworkPolicy, one sentence a row: policies in a small fixed cluster, and what they allow."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from flows.cluster.model import (
    NAMESPACE_NAME_LABEL,
    ContainerPort,
    Operator,
    Peer,
    Policy,
    Protocol,
    Selector,
)
from tests.helpers.cluster.model_objects import (
    EGRESS,
    INGRESS,
    block,
    cluster,
    expression,
    labels,
    node,
    pod,
    policy,
    rule,
    sctp,
    tcp,
    udp,
    verdicts_of,
)

WEB, WEB_UDP, WEB_HIGH = (
    ContainerPort("web", 80, Protocol.TCP),
    ContainerPort("web", 80, Protocol.UDP),
    ContainerPort("web", 8080, Protocol.TCP),
)
NODES = [node("one", "192.0.2.1", "2001:db8::1"), node("two", "192.0.2.2", "2001:db8::2")]
NAMESPACES = {"x": {"ns": "x", "team": "red"}, "y": {"ns": "y", "team": "red"}, "z": {"ns": "z"}}
PODS = [
    pod("x/a", 1, "one", WEB, pod="a"),
    pod("x/b", 2, "two", WEB_HIGH, pod="b", tier="back"),
    pod("x/c", 3, "one", WEB_UDP, pod="c"),
    pod("y/a", 4, "one", WEB, WEB_HIGH, pod="a"),
    pod("y/b", 5, "two", pod="b"),
    pod("z/a", 6, "two", pod="a"),
    pod("x/four", 7, "one", families=(4,), pod="four"),
    pod("x/six", 8, "two", families=(6,), pod="six"),
    pod("x/bare", 9, "one", families=(), pod="bare"),
    pod("x/done", 10, "one", finished=True, pod="done"),
    pod("x/host", 11, "one", host_network=True, pod="host"),
]
ALL = Selector()
NS_X, NS_Y = labels(ns="x"), labels(ns="y")
POD_A, POD_B = labels(pod="a"), labels(pod="b")
DENY_IN = policy("x/deny-in", ingress=[])
DENY_OUT = policy("x/deny-out", egress=[])


class Row(NamedTuple):
    """One sentence: under `policies`, the probes in `passes` are allowed and those in `drops` denied.

    Both are lists of `SOURCE > DESTINATION [PROTOCOL [PORT]]`, by default TCP port 1.
    """

    sentence: str
    policies: list[Policy]
    passes: str
    drops: str


def on_a(*parts: object, name: str = "x/p") -> Policy:
    """A policy on x/a with one ingress rule."""
    return policy(name, POD_A, ingress=[rule(*parts)])  # type: ignore[arg-type]


def from_a(*parts: object) -> Policy:
    """A policy on x/a with one egress rule."""
    return policy("x/p", POD_A, egress=[rule(*parts)])  # type: ignore[arg-type]


ISOLATION = [
    Row("without policies everything passes", [], "x/a > y/a TCP 80, 8.8.8.8 > x/a ICMP, x/a > 8.8.8.8 UDP 53", ""),
    Row("an empty podSelector isolates the namespace's pods, and only them", [DENY_IN],
        "x/a > y/a TCP 80, y/a > z/a TCP 80, x/a > node:two TCP 80", "y/a > x/a TCP 80, x/b > x/c UDP 1"),
    Row("a podSelector isolates just the pods it selects", [policy("x/p", POD_A, ingress=[])],
        "x/a > x/b TCP 80, y/a > x/b TCP 80, x/b > y/a TCP 80", "x/b > x/a TCP 80, y/a > x/a TCP 80"),
    Row("isolation is per direction: ingress leaves egress open", [DENY_IN], "x/a > 8.8.8.8 TCP 53", "8.8.8.8 > x/a"),
    Row("isolation is per direction: egress leaves ingress open", [DENY_OUT], "8.8.8.8 > x/a", "x/a > 8.8.8.8 TCP 53"),
    Row("rules of a direction outside policyTypes do not count",
        [policy("x/p", ingress=[rule(Peer(pods=POD_A))], egress=[rule()], isolates=frozenset({INGRESS})), DENY_OUT],
        "", "x/a > y/a TCP 80, y/b > x/a TCP 80"),
    Row("rules that do not count isolate nothing either",
        [policy("x/p", ingress=[rule()], egress=[], isolates=frozenset({INGRESS}))],
        "x/a > y/a TCP 80, y/a > x/a TCP 80", ""),
    Row("an empty rule allows all", [policy("x/p", ingress=[rule()])],
        "y/a > x/a, 8.8.8.8 > x/a ICMP, y/a > x/a GRE", ""),
    Row("no rules and an invalid rule allow nothing",
        [policy("x/p", POD_A, ingress=[None]), policy("x/q", POD_B, ingress=[])],
        "y/a > x/c", "y/a > x/a, y/a > x/b"),
    Row("an invalid rule does not stop its neighbours", [policy("x/p", POD_A, ingress=[None, rule(tcp(80))])],
        "y/a > x/a TCP 80", "y/a > x/a TCP 81"),
    Row("policies are a union", [DENY_IN, on_a(Peer(pods=POD_B), name="x/p"), on_a(tcp(81), name="x/q")],
        "x/b > x/a TCP 5, y/a > x/a TCP 81", "y/a > x/a TCP 80, x/b > x/c TCP 81"),
    Row("both the source's egress and the destination's ingress must allow",
        [policy("x/out", POD_A, egress=[rule(tcp(80))]), policy("y/in", POD_B, ingress=[rule(tcp(81))])],
        "x/a > y/a TCP 80, z/a > y/b TCP 81", "x/a > y/b TCP 80, x/a > y/b TCP 81"),
    Row("both allowing the same lets it pass",
        [policy("x/out", POD_A, egress=[rule(tcp(80, 85))]), policy("y/in", POD_B, ingress=[rule(tcp(82, 90))])],
        "x/a > y/b TCP 82, x/a > y/b TCP 85", "x/a > y/b TCP 81, x/a > y/b TCP 86"),
    Row("a pod always reaches itself", [DENY_IN, DENY_OUT], "x/a > x/a TCP 80, x/a > x/a ICMP", "x/a > x/b TCP 80"),
    Row("a pod's own node reaches it and is reached, other nodes not", [DENY_IN, DENY_OUT],
        "node:one > x/a TCP 80, x/a > node:one UDP 53, node:two > x/b ICMP",
        "node:two > x/a TCP 80, x/a > node:two UDP 53, node:one > x/b ICMP"),
]  # fmt: skip

PEERS = [
    Row("podSelector alone means the policy's own namespace", [on_a(Peer(pods=POD_B))],
        "x/b > x/a", "y/b > x/a, x/c > x/a, 10.0.0.99 > x/a"),
    Row("an empty podSelector means all pods of the own namespace", [on_a(Peer(pods=ALL))],
        "x/b > x/a, x/c > x/a", "y/b > x/a, node:two > x/a, 8.8.8.8 > x/a"),
    Row("namespaceSelector alone means all their pods", [on_a(Peer(namespaces=NS_Y))],
        "y/a > x/a, y/b > x/a", "x/b > x/a, z/a > x/a"),
    Row("an empty namespaceSelector means all pods, not the world", [on_a(Peer(namespaces=ALL))],
        "x/b > x/a, z/a > x/a", "node:two > x/a, 8.8.8.8 > x/a"),
    Row("both selectors in one peer must both hold", [on_a(Peer(pods=POD_B, namespaces=labels(team="red")))],
        "x/b > x/a, y/b > x/a", "y/a > x/a, z/a > x/a"),
    Row("two peers are alternatives", [on_a(Peer(pods=POD_B), Peer(namespaces=NS_Y))],
        "x/b > x/a, y/a > x/a", "x/c > x/a, z/a > x/a"),
    Row("a namespace is known by its default name label",
        [on_a(Peer(namespaces=labels(**{NAMESPACE_NAME_LABEL: "z"})))],
        "z/a > x/a", "y/a > x/a"),
    Row("In", [on_a(Peer(pods=expression("pod", Operator.IN, "b", "c")))], "x/b > x/a, x/c > x/a", "x/four > x/a"),
    Row("NotIn, which a missing key satisfies", [on_a(Peer(pods=expression("tier", Operator.NOT_IN, "back")))],
        "x/c > x/a", "x/b > x/a, y/a > x/a"),
    Row("Exists", [on_a(Peer(pods=expression("tier", Operator.EXISTS)))], "x/b > x/a", "x/c > x/a"),
    Row("DoesNotExist", [on_a(Peer(pods=expression("tier", Operator.DOES_NOT_EXIST)))], "x/c > x/a", "x/b > x/a"),
    Row("NotIn and DoesNotExist for namespaces",
        [on_a(Peer(namespaces=expression("ns", Operator.NOT_IN, "y"))),
         policy("y/p", POD_A, ingress=[rule(Peer(namespaces=expression("team", Operator.DOES_NOT_EXIST)))])],
        "x/b > x/a, z/a > x/a, z/a > y/a", "y/b > x/a, x/b > y/a"),
    Row("a subject's selector may use expressions too",
        [policy("x/p", expression("pod", Operator.NOT_IN, "a", "b"), ingress=[])],
        "y/a > x/a, y/a > x/b", "y/a > x/c"),
    Row("peers of egress are read alike", [from_a(Peer(pods=POD_B, namespaces=NS_Y))],
        "x/a > y/b, x/b > z/a", "x/a > x/b, x/a > y/a, x/a > 8.8.8.8"),
    Row("finished pods and pods without an address are no peers", [on_a(Peer(pods=ALL))],
        "x/b > x/a", "10.0.0.10 > x/a, 10.0.0.9 > x/a, fd00::a > x/a"),
    Row("a hostNetwork pod is no peer by its labels", [policy("x/p", POD_B, ingress=[rule(Peer(namespaces=ALL))])],
        "x/a > x/b", "x/host > x/b"),
    Row("a hostNetwork pod counts as its node's addresses",
        [policy("x/p", POD_B, ingress=[rule(block("192.0.2.1/32"), block("2001:db8::1/128"))])],
        "x/host > x/b, node:one > x/b", "x/a > x/b"),
    Row("a hostNetwork pod is no subject", [DENY_IN, DENY_OUT], "8.8.8.8 > x/host, x/host > 8.8.8.8", ""),
    Row("another node's traffic carries that node's address",
        [policy("x/p", POD_A, ingress=[rule(block("192.0.2.2/32"))])],
        "192.0.2.2 > x/a", "2001:db8::2 > x/a, 192.0.2.3 > x/a"),
]  # fmt: skip

BLOCKS = [
    Row("an ipBlock counts by address, pods included", [on_a(block("10.0.0.0/30"))],
        "10.0.0.0 > x/a, 10.0.0.2 > x/a", "10.0.0.4 > x/a, fd00::2 > x/a, 8.8.8.8 > x/a"),
    Row("except is not allowed", [on_a(block("10.0.0.0/24", "10.0.0.4/30"))],
        "10.0.0.2 > x/a, 10.0.0.8 > x/a", "10.0.0.4 > x/a, 10.0.0.7 > x/a"),
    Row("overlapping excepts all count", [on_a(block("10.0.0.0/24", "10.0.0.0/29", "10.0.0.4/30", "10.0.0.12/32"))],
        "10.0.0.8 > x/a, 10.0.0.13 > x/a", "10.0.0.2 > x/a, 10.0.0.5 > x/a, 10.0.0.12 > x/a"),
    Row("an except of one peer does not forbid what another peer allows",
        [on_a(block("10.0.0.0/24", "10.0.0.4/32"), block("10.0.0.4/31"))],
        "10.0.0.4 > x/a, 10.0.0.9 > x/a", "10.0.1.4 > x/a"),
    Row("nor what another policy allows by labels",
        [on_a(block("0.0.0.0/0", "10.0.0.2/32")), on_a(Peer(pods=POD_B), name="x/q")],
        "x/b > x/a", "fd00::99 > x/a"),
    Row("an except that fills the block leaves nothing", [on_a(block("10.0.0.0/31", "10.0.0.0/32", "10.0.0.1/32"))],
        "", "10.0.0.0 > x/a"),
    Row("IPv4 and IPv6 never cross-match", [on_a(block("0.0.0.0/0"))], "10.0.0.2 > x/a", "fd00::2 > x/a, x/six > x/a"),
    Row("nor the other way", [on_a(block("::/0"))], "x/six > x/a", "x/four > x/a, 8.8.8.8 > x/a"),
    Row("egress to a block without a part", [from_a(block("0.0.0.0/0", "10.0.0.0/29"), block("::/0", "fd00::/125"))],
        "x/a > 8.8.8.8, x/a > node:two, x/a > x/six", "x/a > x/b, x/a > y/b ICMP"),
]  # fmt: skip

PORTS = [
    Row("a number is that port of that protocol", [on_a(tcp(80))], "y/a > x/a TCP 80",
        "y/a > x/a TCP 81, y/a > x/a UDP 80, y/a > x/a SCTP 80, y/a > x/a ICMP, y/a > x/a GRE"),
    Row("no port means every port of the protocol", [on_a(sctp())], "y/a > x/a SCTP 1, y/a > x/a SCTP 65535",
        "y/a > x/a, y/a > x/a UDP 1, y/a > x/a ICMP"),
    Row("a range has both its ends", [on_a(udp(80, 90))], "y/a > x/a UDP 80, y/a > x/a UDP 85, y/a > x/a UDP 90",
        "y/a > x/a UDP 79, y/a > x/a UDP 91, y/a > x/a TCP 85"),
    Row("a range of one", [on_a(tcp(80, 80))], "y/a > x/a TCP 80", "y/a > x/a TCP 79, y/a > x/a TCP 81"),
    Row("ports are alternatives", [on_a(tcp(80), udp(53))],
        "y/a > x/a TCP 80, y/a > x/a UDP 53", "y/a > x/a TCP 53, y/a > x/a UDP 80"),
    Row("peer and port must both fit, in one rule",
        [policy("x/p", POD_A, ingress=[rule(Peer(pods=POD_B), tcp(80)), rule(Peer(namespaces=NS_Y), tcp(81))])],
        "x/b > x/a TCP 80, y/b > x/a TCP 81", "x/b > x/a TCP 81, y/b > x/a TCP 80, x/c > x/a TCP 80"),
    Row("a rule without ports allows every protocol", [on_a(Peer(pods=POD_B))],
        "x/b > x/a ICMP, x/b > x/a GRE, x/b > x/a SCTP 7", "x/c > x/a ICMP"),
    Row("ICMP is subject to isolation", [DENY_IN], "", "y/a > x/a ICMP, 8.8.8.8 > x/a ICMP"),
    Row("all ports of all three protocols are still no ICMP", [on_a(tcp(), udp(), sctp())],
        "y/a > x/a UDP 9", "y/a > x/a ICMP, y/a > x/a GRE"),
    Row("a name is the subject's own port at ingress", [policy("x/p", ingress=[rule(tcp("web"))])],
        "y/a > x/a TCP 80, y/a > x/b TCP 8080",
        "y/a > x/a TCP 8080, y/a > x/b TCP 80, y/a > x/c TCP 80, y/a > x/c UDP 80, y/a > x/four TCP 80"),
    Row("the source's port names do not matter", [policy("x/p", labels(pod="four"), ingress=[rule(tcp("web"))])],
        "", "x/a > x/four TCP 80, y/a > x/four TCP 8080"),
    Row("a name needs its protocol", [policy("x/p", ingress=[rule(udp("web"))])],
        "y/a > x/c UDP 80", "y/a > x/a UDP 80, y/a > x/a TCP 80, y/a > x/c TCP 80"),
    Row("one name can be several ports of a pod", [policy("y/p", ingress=[rule(tcp("web"))])],
        "x/a > y/a TCP 80, x/a > y/a TCP 8080", "x/a > y/a TCP 81, x/a > y/b TCP 80"),
    Row("a name is the destination's port at egress", [from_a(tcp("web"))],
        "x/a > x/b TCP 8080, x/a > y/a TCP 80, x/a > y/a TCP 8080",
        "x/a > x/b TCP 80, x/a > y/b TCP 80, x/a > x/c UDP 80, x/a > node:two TCP 80, x/a > 8.8.8.8 TCP 80"),
    Row("a name at egress with peers", [from_a(Peer(namespaces=NS_Y), tcp("web"))],
        "x/a > y/a TCP 80", "x/a > x/b TCP 8080, x/a > y/b TCP 80"),
    Row("a name at egress resolves for pods inside an ipBlock",
        [from_a(block("10.0.0.0/30", "10.0.0.3/32"), tcp("web"), udp("web"))],
        "x/a > 10.0.0.2 TCP 8080",
        "x/a > 10.0.0.2 TCP 80, x/a > 10.0.0.3 UDP 80, x/a > 10.0.0.4 TCP 80, x/a > fd00::2 TCP 8080"),
    Row("a name that no pod has allows nothing", [on_a(tcp("nobody")), policy("y/p", egress=[rule(udp("nobody"))])],
        "", "y/a > x/a TCP 80, z/a > x/a TCP 80, y/a > z/a UDP 80"),
    Row("a name beside a number", [on_a(tcp("nobody"), tcp(81))], "y/a > x/a TCP 81", "y/a > x/a TCP 80"),
]  # fmt: skip


@pytest.mark.parametrize("row", [*ISOLATION, *PEERS, *BLOCKS, *PORTS], ids=lambda row: row.sentence)
def test_sentence(row: Row) -> None:
    snapshot = cluster(PODS, NODES, NAMESPACES, *row.policies)
    for lines, expected in ((row.passes, True), (row.drops, False)):
        for line in filter(None, lines.split(", ")):
            answers = verdicts_of(snapshot, line)
            assert answers, line
            for answer in answers.values():
                assert answer.allowed is expected, "\n".join(answer.explain())


SHARED = [
    pod("x/p", 20, "one", WEB, pod="a", both="yes"),
    pod("y/p", 20, "two", WEB, WEB_HIGH, pod="b", both="yes"),
]


@pytest.mark.parametrize(
    ("peer", "passes"),
    [
        (Peer(namespaces=ALL, pods=labels(both="yes")), True),
        (Peer(namespaces=ALL), True),
        (Peer(namespaces=NS_X), False),
        (Peer(pods=ALL), False),
        (Peer(namespaces=ALL, pods=POD_B), False),
        (block("10.0.0.20/32"), True),
    ],
)
def test_a_contested_address_fits_a_selector_only_when_all_its_claimants_do(peer: Peer, passes: bool) -> None:
    snapshot = cluster(
        [*PODS, *SHARED],
        NODES,
        NAMESPACES,
        policy("x/in", POD_B, ingress=[rule(peer)]),
        policy("z/out", egress=[rule(peer)]),
    )
    for line in ("x/p > x/b TCP 1", "y/p > x/b TCP 1", "z/a > x/p TCP 1", "z/a > y/p TCP 1"):
        assert verdicts_of(snapshot, line)[4].allowed is passes, line


def test_two_peers_do_not_add_up_on_a_contested_address() -> None:
    out = policy("z/out", egress=[rule(Peer(namespaces=NS_X), Peer(namespaces=NS_Y))])
    snapshot = cluster([*PODS, *SHARED], NODES, NAMESPACES, out)
    assert not verdicts_of(snapshot, "z/a > x/p TCP 1")[4].allowed
    assert verdicts_of(snapshot, "z/a > x/a TCP 1")[4].allowed


def test_a_name_on_a_contested_address_is_what_every_claimant_resolves() -> None:
    other_order = [pod("x/q", 21, "one", WEB, WEB_HIGH), pod("y/q", 21, "two", WEB)]
    out = cluster([*PODS, *SHARED, *other_order], NODES, NAMESPACES, policy("z/out", egress=[rule(tcp("web"))]))
    for name in ("x/p", "y/p", "x/q", "y/q"):
        assert verdicts_of(out, f"z/a > {name} TCP 80")[4].allowed
        assert not verdicts_of(out, f"z/a > {name} TCP 8080")[4].allowed


def test_a_name_on_a_contested_address_is_the_subjects_own_at_ingress() -> None:
    inward = cluster([*PODS, *SHARED], NODES, NAMESPACES, policy("y/in", ingress=[rule(tcp("web"))]))
    assert verdicts_of(inward, "z/a > y/p TCP 8080")[4].allowed


def test_a_finished_or_hostnetwork_pod_does_not_contest_an_address() -> None:
    ghosts = [pod("y/gone", 2, finished=True, pod="z"), pod("y/host", 2, host_network=True, pod="z")]
    snapshot = cluster([*PODS, *ghosts], NODES, NAMESPACES, on_a(Peer(pods=POD_B)))
    assert verdicts_of(snapshot, "x/b > x/a TCP 1")[4].allowed


def test_a_namespace_without_its_object_has_its_name_label_alone() -> None:
    spaces = {name: own for name, own in NAMESPACES.items() if name != "y"}
    by_name = on_a(Peer(namespaces=labels(**{NAMESPACE_NAME_LABEL: "y"})))
    assert verdicts_of(cluster(PODS, NODES, spaces, by_name), "y/a > x/a TCP 1")[4].allowed
    assert not verdicts_of(cluster(PODS, NODES, spaces, on_a(Peer(namespaces=NS_Y))), "y/a > x/a TCP 1")[4].allowed


def test_a_pod_whose_node_is_unknown_has_no_own_node() -> None:
    for name in ("", "three"):
        snapshot = cluster([pod("x/a", 1, name)], NODES, NAMESPACES, DENY_IN)
        assert not verdicts_of(snapshot, "node:one > x/a TCP 1")[4].allowed


def test_directions_are_not_mixed_up() -> None:
    both = policy("x/p", POD_A, ingress=[rule(Peer(pods=POD_B))], egress=[rule(Peer(namespaces=NS_Y))])
    snapshot = cluster(PODS, NODES, NAMESPACES, both)
    for line, expected in (("x/b > x/a", True), ("x/a > x/b", False), ("x/a > y/a", True), ("y/a > x/a", False)):
        answer = verdicts_of(snapshot, f"{line} TCP 1")[6]
        assert answer.allowed is expected
        assert both.isolates == {INGRESS, EGRESS}
