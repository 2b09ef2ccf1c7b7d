"""What an explanation says, on small clusters by hand."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from flows.cluster.model import (
    EVERYTHING,
    Action,
    Cluster,
    ClusterPolicy,
    ClusterRule,
    ContainerPort,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Key,
    NodePeer,
    Operator,
    Peer,
    Protocol,
    Service,
    ServicePort,
    Subject,
    Tier,
)
from flows.cluster.net import parse_address
from flows.explain.ends import without_ports
from flows.explain.model import EndExplanation, Step
from flows.explain.question import explain
from flows.policy.probe import ProbeError
from tests.helpers.cluster.model_objects import (
    block,
    cluster,
    cluster_policy,
    cluster_rule,
    expression,
    key,
    labels,
    node,
    pod,
    policy,
    rule,
    tcp,
    udp,
    with_cluster_policies,
)

WEB = ContainerPort("web", 8080, Protocol.TCP)


def _world(*policies: object) -> Cluster:
    pods = [
        pod("x/db", 2, "one", WEB, app="db"),
        pod("x/api", 3, "one", app="api"),
        pod("y/job", 4, "two", app="api", families=(4,)),
    ]
    nodes = [node("one", "10.0.1.1"), node("two", "10.0.1.2")]
    return cluster(pods, nodes, {"x": {"team": "x"}, "y": {}}, *policies)  # type: ignore[arg-type]


def _steps(world: Cluster, source: str, destination: str, port: str = "80") -> tuple[Step, ...]:
    found = explain(world, source, destination, port).connections[0]
    return (*found.egress.steps, *found.ingress.steps)


def _texts(*arguments: object) -> list[list[str]]:
    return [[one.text for one in step.differences] for step in _steps(*arguments)]  # type: ignore[arg-type]


def test_without_policies_everything_is_allowed_and_says_so() -> None:
    found = explain(_world(), "x/api", "x/db", "80")
    assert found.allowed and found.version == 1
    assert [one.source_address for one in found.connections] == ["10.0.0.3", "fd00::3"]
    assert found.connections[0].egress.reason == "no policy isolates it in this direction"


def test_the_rule_that_allows_is_named_with_peer_and_port() -> None:
    world = _world(policy("x/p", labels(app="db"), [rule(Peer(labels(app="web")), Peer(labels(app="api")), tcp(80))]))
    (step,) = _steps(world, "x/api", "x/db")
    assert (step.policy, step.rule, step.peer, step.port) == ("x/p", "ingress[0]", "from[1]", "port 80/TCP")
    assert step.matches and not step.differences


def test_a_label_that_differs_is_named_with_its_value() -> None:
    world = _world(policy("x/p", labels(app="db"), [rule(Peer(labels(app="web", tier="front")))]))
    assert _texts(world, "x/api", "x/db") == [["pod x/api has app=api, not app=web", "pod x/api has no tier=front"]]


def test_every_operator_has_its_words() -> None:
    peers = [
        Peer(expression("tier", Operator.EXISTS)),
        Peer(expression("app", Operator.DOES_NOT_EXIST)),
        Peer(expression("app", Operator.NOT_IN, "api")),
        Peer(expression("app", Operator.IN, "a", "b", "c")),
    ]
    world = _world(policy("x/p", labels(app="db"), [rule(one) for one in peers]))
    assert _texts(world, "x/api", "x/db") == [
        ["pod x/api has no label tier"],
        ["pod x/api has app=api, and the selector wants no label app"],
        ["pod x/api has app=api, which the selector excludes"],
        ["pod x/api has app=api, not app=a, app=b or app=c"],
    ]


def test_a_pod_of_another_namespace_is_told_about_the_namespace() -> None:
    rules = [rule(Peer(labels(app="api"))), rule(Peer(labels(app="api"), labels(team="x")))]
    world = _world(policy("x/p", labels(app="db"), [*rules]))
    assert _texts(world, "y/job", "x/db") == [
        ["pod y/job is not in namespace x, and without a namespaceSelector no other counts"],
        ["namespace y has no team=x"],
    ]


def test_a_block_says_whether_it_misses_or_excepts_the_address() -> None:
    world = _world(policy("x/p", labels(app="db"), [rule(block("10.0.0.0/8", "10.0.0.0/24")), rule(block("fd00::/8"))]))
    assert _texts(world, "x/api", "x/db") == [
        ["10.0.0.3 is in 10.0.0.0/8, but 10.0.0.0/24 is excepted"],
        ["10.0.0.3 is IPv4, and fd00::/8 counts for IPv6 alone"],
    ]
    assert _texts(world, "192.0.2.1", "x/db")[0] == ["192.0.2.1 is not in 10.0.0.0/8"]


def test_a_port_names_what_is_allowed_instead() -> None:
    world = _world(policy("x/p", labels(app="db"), [rule(tcp("web")), rule(udp(53)), rule(tcp(1, 79))]))
    assert _texts(world, "x/api", "x/db") == [
        ["80/TCP is not among port web/TCP (8080 in x/db)"],
        ["80/TCP is not among port 53/UDP"],
        ["80/TCP is not among ports 1-79/TCP"],
    ]
    assert _texts(world, "x/api", "x/db", "icmp")[0] == ["ICMP has no ports, and a rule with ports allows only these"]


def test_the_nearest_rule_comes_first() -> None:
    far = rule(Peer(labels(app="web", tier="front")), tcp(443))
    near = rule(Peer(labels(app="api")), tcp(443))
    steps = _steps(_world(policy("x/p", labels(app="db"), [far, near])), "x/api", "x/db")
    assert [(step.rule, step.distance) for step in steps] == [("ingress[1]", 1), ("ingress[0]", 3)]


def test_an_invalid_rule_says_why() -> None:
    broken = policy("x/p", labels(app="db"), [None])._replace(errors=("spec.ingress[0].ports[0].port: no port",))
    assert _texts(_world(broken), "x/api", "x/db") == [
        ["it is not valid, so it allows nothing: spec.ingress[0].ports[0].port: no port"]
    ]


def test_a_policy_that_does_not_select_the_pod_or_direction_is_a_near_miss() -> None:
    shut = policy("x/shut", None, [])
    other = policy("x/other", labels(app="d"), [rule(tcp(80))])
    wrong_way = policy("x/way", labels(app="db"), [rule(tcp(80))], [rule()])._replace(isolates=frozenset())
    steps = _steps(_world(shut, other, wrong_way), "x/api", "x/db")
    assert [(step.policy, step.counts, step.differences[0].kind) for step in steps] == [
        ("x/other", False, "subject"),
        ("x/way", False, "direction"),
    ]
    assert steps[0].differences[0].text == "pod x/db has app=db, not app=d"


def test_the_other_end_says_what_it_would() -> None:
    world = _world(policy("x/p", labels(app="db"), []), policy("x/q", labels(app="api"), None, [rule(tcp(80))]))
    found = explain(world, "x/api", "x/db", "80").connections[0]
    assert not found.allowed and found.egress.allowed and not found.ingress.allowed
    assert found.ingress.isolated_by == ("x/p",) and not found.ingress.steps


def test_a_family_is_chosen_or_both_are_explained() -> None:
    world = _world(policy("x/p", labels(app="db"), [rule(block("10.0.0.0/8"))]))
    found = explain(world, "x/api", "x/db", "80")
    assert [one.allowed for one in found.connections] == [True, False] and not found.allowed
    assert explain(world, "x/api", "x/db", "80", 4).allowed
    with pytest.raises(ProbeError, match="no IPv6 addresses"):
        explain(world, "y/job", "x/db", "80", 6)


def test_names_of_pods_nodes_and_addresses() -> None:
    world = _world()
    for source in ("x/api", "pod:x/api", "10.0.0.3"):
        assert explain(world, source, "x/db", "80", 4).connections[0].source == "pod x/api"
    assert explain(world, "one", "x/db", "80").connections[0].ingress.reason == (
        "no NetworkPolicy applies between a pod and its own node"
    )
    assert explain(world, "node:two", "x/db", "80").connections[0].source == "node two"


@pytest.mark.parametrize(
    ("source", "destination", "port", "plain"),
    [
        ("10.0.0.3:49152", "10.0.0.2:80", "", ("10.0.0.3", "10.0.0.2", "80")),
        ("10.0.0.3:49152", "10.0.0.2:53/UDP", "", ("10.0.0.3", "10.0.0.2", "53/UDP")),
        ("10.0.0.3:1", "x/db", "80", ("10.0.0.3", "x/db", "80")),
        ("[fd00::3]:49152", "[fd00::2]:80", "80/TCP", ("fd00::3", "fd00::2", "80")),
        ("fd00::3", "fd00::2:80", "", ("fd00::3", "fd00::2:80", "")),
        ("pod:x/api", "node:two", "80", ("pod:x/api", "node:two", "80")),
        ("10.0.0.3:http", "one:80", "", ("10.0.0.3:http", "one:80", "")),
    ],
)
def test_addresses_with_ports_are_read_as_logs_have_them(
    source: str, destination: str, port: str, plain: tuple[str, str, str]
) -> None:
    assert without_ports(source, destination, port) == plain


def test_two_different_ports_are_refused() -> None:
    assert explain(_world(), "10.0.0.3:1", "10.0.0.2:80").connections[0].port == 80
    with pytest.raises(ProbeError, match="has another port than '443'"):
        explain(_world(), "x/api", "10.0.0.2:80", "443")


@pytest.mark.parametrize(
    ("source", "port", "reason"),
    [
        ("x/apy", "80", "there is no pod x/apy; did you mean x/api?"),
        ("on", "80", "there is no node on; did you mean one?"),
        ("x/a/b", "80", "is not NAMESPACE/NAME"),
        ("service:x/none", "80", "there is no Service x/none"),
        ("x/api", "", "give the port with -p"),
        ("x/api", "80/GRE", "'80/GRE' is no port"),
        ("x/api", "65536", "is no port"),
    ],
)
def test_what_is_wrong_is_said_with_a_hint(source: str, port: str, reason: str) -> None:
    with pytest.raises(ProbeError, match=reason.replace("?", r"\?")):
        explain(_world(), source, "x/db", port)


def _with_service(world: Cluster) -> Cluster:
    service = Service(Key("x", "db-svc"), (parse_address("10.96.0.5"),), (ServicePort("", Protocol.TCP, 80),))
    endpoints = tuple(Endpoint(parse_address(f"10.0.0.{host}")) for host in (2, 4))
    one = EndpointSlice(Key("x", "s1"), "db-svc", endpoints, (EndpointPort("", Protocol.TCP, 8080),))
    return replace(
        world,
        services=MappingProxyType({service.key: service}),
        endpoint_slices=MappingProxyType({one.key: one}),
    )


@pytest.mark.parametrize("name", ["x/db-svc", "service:x/db-svc", "10.96.0.5"])
def test_a_service_is_its_endpoints_with_their_port(name: str) -> None:
    world = _with_service(_world(policy("x/p", labels(app="db"), [rule(tcp(8080))]), policy("y/p", None, [])))
    found = explain(world, "x/api", name, "80")
    assert [(one.destination, one.port, one.allowed) for one in found.connections] == [
        ("pod x/db", 8080, True),
        ("pod y/job", 8080, False),
    ]
    assert any("Service x/db-svc" in note for note in found.notes) and not found.allowed
    assert explain(world, "x/api", name).connections == found.connections


def test_a_service_needs_its_port_and_endpoints() -> None:
    world = _with_service(_world())
    with pytest.raises(ProbeError, match="give one of the ports of Service x/db-svc with -p: 80/TCP"):
        explain(world, "x/api", "x/db-svc", "81")
    with pytest.raises(ProbeError, match="has no endpoint"):
        explain(replace(world, endpoint_slices=MappingProxyType({})), "x/api", "x/db-svc", "80")
    with pytest.raises(ProbeError, match="opens no connections"):
        explain(world, "x/db-svc", "x/db", "80")
    assert key("x/db-svc") in world.services


def _tiers(*policies: ClusterPolicy) -> tuple[EndExplanation, Cluster]:
    world = with_cluster_policies(_world(policy("x/p", labels(app="db"), [])), *policies)
    return explain(world, "x/api", "x/db", "80", 4).connections[0].ingress, world


def test_a_rule_of_tier_admin_decides_before_network_policies() -> None:
    on_db = Subject(EVERYTHING, labels(app="db"))
    rules = [
        cluster_rule("Deny", Peer(labels(app="web"), EVERYTHING), name="no web"),
        cluster_rule("Deny", NodePeer(EVERYTHING)),
        cluster_rule("Accept", Peer(None, labels(team="x")), tcp(80)),
        cluster_rule("Deny", Peer(None, EVERYTHING)),
    ]
    end, _ = _tiers(cluster_policy("admin", on_db, rules))
    assert end.allowed and end.decided_by == "admin ingress[2]" and end.isolated_by == ("x/p",)
    assert [(one.tier, one.rule, one.action, one.matches) for one in end.steps] == [
        ("Admin", "ingress[0]", "Deny", False),
        ("Admin", "ingress[1]", "Deny", False),
        ("Admin", "ingress[2]", "Accept", True),
    ]
    assert end.steps[0].name == "no web" and end.steps[0].differences[0].text == "pod x/api has app=api, not app=web"
    assert end.steps[1].differences[0].text == "it selects nodes, and 10.0.0.3 is no node's address"


def test_pass_goes_on_and_baseline_comes_last() -> None:
    passing = cluster_policy("admin", ingress=[cluster_rule("Pass", Peer(None, EVERYTHING))])
    denying = cluster_policy("base", ingress=[cluster_rule("Deny")], tier=Tier.BASELINE)
    end, world = _tiers(passing, denying)
    assert not end.allowed and [one.tier for one in end.steps] == ["Admin"]  # x/p isolates, and has no rule
    free = replace(world, policies=MappingProxyType({}))
    end = explain(free, "x/api", "x/db", "80", 4).connections[0].ingress
    assert not end.allowed and end.decided_by == "base ingress[0]"
    assert [(one.tier, one.action) for one in end.steps] == [("Admin", "Pass"), ("Baseline", "Deny")]


def test_an_unreadable_rule_says_that_it_denies() -> None:
    end, _ = _tiers(cluster_policy("admin", ingress=[ClusterRule(Action.PASS, unreadable=True)]))
    assert not end.allowed and end.steps[-1].note == "is not valid, so it denies everything"
