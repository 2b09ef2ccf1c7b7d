"""Parsing ClusterNetworkPolicy and the policies of v1alpha1: valid ones get the API's meaning, errors fail closed."""

from __future__ import annotations

from typing import Any

import pytest

from flows.cluster.model import (
    EVERYTHING,
    Action,
    ClusterPolicy,
    ClusterRule,
    DomainPeer,
    IPBlock,
    Key,
    NodePeer,
    Peer,
    PortSpec,
    Protocol,
    Selector,
    Subject,
    Tier,
)
from flows.cluster.net import parse_network
from flows.parse.objects import ParsedObject, ParseError, parse_object
from tests.helpers.cluster.model_objects import labels, sctp, tcp, udp

Spec = dict[str, Any]
APIS = ("policy.networking.k8s.io/v1beta1", "policy.networking.k8s.io/v1alpha2")
NAMESPACES: Spec = {"namespaces": {}}
IN_X: Spec = {"namespaces": {"matchLabels": {"ns": "x"}}}
PODS_OF_X: Spec = {
    "pods": {"namespaceSelector": {"matchLabels": {"ns": "x"}}, "podSelector": {"matchLabels": {"a": "b"}}}
}
ANY = Peer(None, EVERYTHING)


def parsed(untrusted: Any) -> ParsedObject:
    found = parse_object(untrusted)
    assert found is not None
    return found


def policy(spec: Any, kind: str = "ClusterNetworkPolicy", version: str = APIS[0], name: str = "p") -> Spec:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def spec(**changed: Any) -> Spec:
    return {"tier": "Admin", "priority": 0, "subject": NAMESPACES, **changed}


def rule(action: str = "Accept", to: Any = None, **more: Any) -> Spec:
    return {"action": action, "to": [NAMESPACES] if to is None else to, **more}


def value_of(untrusted: Any) -> ClusterPolicy:
    value = parsed(untrusted).value
    assert isinstance(value, ClusterPolicy)
    return value


@pytest.mark.parametrize("version", APIS)
def test_every_field(version: str) -> None:
    found = parsed(
        policy(
            {
                "tier": "Baseline",
                "priority": 1000,
                "subject": PODS_OF_X,
                "ingress": [{"name": "in", "action": "Pass", "from": [IN_X, PODS_OF_X]}],
                "egress": [
                    {
                        "name": "out",
                        "action": "Deny",
                        "to": [{"nodes": {}}, {"networks": ["10.0.0.0/8", "fd00::/8"]}],
                        "protocols": [
                            {"tcp": {"destinationPort": {"number": 80}}},
                            {"udp": {"destinationPort": {"range": {"start": 1, "end": 9}}}},
                            {"sctp": {"destinationPort": {"number": 7}}},
                        ],
                    },
                    {"action": "Accept", "to": [IN_X], "protocols": [{"destinationNamedPort": "web"}]},
                ],
            },
            version=version,
        )
    )
    pods_of_x = Peer(labels(a="b"), labels(ns="x"))
    networks = [Peer(ip_block=IPBlock(parse_network(text))) for text in ("10.0.0.0/8", "fd00::/8")]
    named = tuple(PortSpec(protocol, "web") for protocol in Protocol)
    assert (found.kind, found.name, found.errors) == ("ClusterNetworkPolicy", Key("", "p"), ())
    assert found.value == ClusterPolicy(
        Key("", "p"),
        "ClusterNetworkPolicy",
        Tier.BASELINE,
        1000,
        Subject(labels(ns="x"), labels(a="b")),
        (ClusterRule(Action.PASS, (Peer(None, labels(ns="x")), pods_of_x), (), "in"),),
        (
            ClusterRule(Action.DENY, (NodePeer(EVERYTHING), *networks), (tcp(80), udp(1, 9), sctp(7)), "out"),
            ClusterRule(Action.ACCEPT, (Peer(None, labels(ns="x")),), named),
        ),
    )


def test_priority_0_is_a_value() -> None:
    assert value_of(policy(spec(egress=[rule()]))).priority == 0
    assert value_of(policy(spec(priority=None))).errors == ("spec.priority: is required",)


BROKEN_PARTS = {
    # What is wrong, and the path of the error within the rule.
    "unknown peer": (rule(to=[{"services": {}}]), ".to[0].services"),
    "empty peer": (rule(to=[{}]), ".to[0]"),
    "two peers in one": (rule(to=[{**NAMESPACES, "networks": ["10.0.0.0/8"]}]), ".to[0]"),
    "no peers": (rule(to=[]), ".to"),
    "peers null": ({"action": "Accept", "to": None}, ".to"),
    "peers absent": ({"action": "Accept"}, ".to"),
    "peers of the other direction": ({"action": "Accept", "from": [NAMESPACES]}, ".from"),
    "host bits": (rule(to=[{"networks": ["10.0.0.1/8"]}]), ".to[0].networks[0]"),
    "no networks": (rule(to=[{"networks": []}]), ".to[0].networks"),
    "bad selector": (rule(to=[{"namespaces": {"matchLabels": {"a b": "c"}}}]), ".to[0].namespaces.matchLabels[a b]"),
    "no podSelector": (rule(to=[{"pods": {"namespaceSelector": {}}}]), ".to[0].pods.podSelector"),
    "unknown field": (rule(ports=[]), ".ports"),
    "no protocols": (rule(protocols=[]), ".protocols"),
    "empty protocol": (rule(protocols=[{}]), ".protocols[0]"),
    "unknown protocol": (rule(protocols=[{"icmp": {}}]), ".protocols[0].icmp"),
    "empty tcp": (rule(protocols=[{"tcp": {}}]), ".protocols[0].tcp"),
    "unknown field of tcp": (rule(protocols=[{"tcp": {"sourcePort": 1}}]), ".protocols[0].tcp.sourcePort"),
    "port 0": (
        rule(protocols=[{"tcp": {"destinationPort": {"number": 0}}}]),
        ".protocols[0].tcp.destinationPort.number",
    ),
    "no port": (rule(protocols=[{"tcp": {"destinationPort": {}}}]), ".protocols[0].tcp.destinationPort"),
    "range of one": (
        rule(protocols=[{"udp": {"destinationPort": {"range": {"start": 5, "end": 5}}}}]),
        ".protocols[0].udp.destinationPort.range.end",
    ),
    "a name beside networks": (
        rule(to=[{"networks": ["10.0.0.0/8"]}], protocols=[{"destinationNamedPort": "web"}]),
        "",
    ),
    "bad name of a port": (rule(protocols=[{"destinationNamedPort": "-"}]), ".protocols[0].destinationNamedPort"),
    "not an object": ("Accept", ""),
}


@pytest.mark.parametrize("what", BROKEN_PARTS)
@pytest.mark.parametrize("action", [*Action])
def test_a_rule_that_cannot_be_read_keeps_its_action_and_its_place(what: str, action: Action) -> None:
    broken, path = BROKEN_PARTS[what]
    if isinstance(broken, dict):
        broken = {**broken, "action": action.value}
    found = parsed(policy(spec(egress=[rule(), broken, rule("Deny")])))
    assert any(error.field == f"spec.egress[1]{path}" for error in found.errors), found.errors
    value = value_of(policy(spec(egress=[rule(), broken, rule("Deny")])))
    expected = action if isinstance(broken, dict) else Action.DENY
    assert value.egress == (
        ClusterRule(Action.ACCEPT, (ANY,)), ClusterRule(expected, unreadable=True), ClusterRule(Action.DENY, (ANY,)),
    )  # fmt: skip
    assert value.errors == tuple(map(str, found.errors))


def test_domain_names_are_read_in_their_normal_form() -> None:
    found = value_of(policy(spec(egress=[rule(to=[{"domainNames": ["Kubernetes.io.", "*.Example.com"]}])])))
    assert found.egress == (ClusterRule(Action.ACCEPT, (DomainPeer("kubernetes.io"), DomainPeer("*.example.com"))),)
    assert found.errors == ()


LONG_LABEL = f"{'a' * 64}.example.com"
LONG_NAME = ".".join(["a" * 60] * 5)


@pytest.mark.parametrize(
    "name", ["example", "*", "*.com", "a.*.com", "*a.example.com", "-a.example.com", "a..b", "", 5, LONG_LABEL,
             LONG_NAME, "exämple.com", "a.example.com\n", "*.*.example.com"],
)  # fmt: skip
def test_a_domain_name_that_cannot_be_read_accepts_nothing(name: Any) -> None:
    found = value_of(policy(spec(egress=[rule(to=[{"domainNames": ["kubernetes.io", name]}])])))
    assert found.egress == (ClusterRule(Action.ACCEPT, unreadable=True),)
    assert found.errors[0].startswith("spec.egress[0].to[0].domainNames[1]: ")


@pytest.mark.parametrize("action", ["Deny", "Pass"])
def test_domain_names_are_for_accept_only(action: str) -> None:
    found = value_of(policy(spec(egress=[rule(action, to=[{"domainNames": ["kubernetes.io"]}])])))
    assert found.egress == (ClusterRule(Action(action), unreadable=True),)
    assert found.errors == (f"spec.egress[0]: must not name domains with {action}: only Accept may",)


def test_domain_names_are_for_egress_of_both_tiers() -> None:
    names = {"domainNames": ["kubernetes.io"]}
    baseline = value_of(policy(spec(tier="Baseline", egress=[rule(to=[names])])))
    assert (baseline.egress, baseline.errors) == ((ClusterRule(Action.ACCEPT, (DomainPeer("kubernetes.io"),)),), ())
    old = {"subject": NAMESPACES, "egress": [rule("Allow", to=[names])]}
    v1alpha1 = value_of(policy(old, "BaselineAdminNetworkPolicy", "policy.networking.k8s.io/v1alpha1", "default"))
    assert v1alpha1.egress == (ClusterRule(Action.ACCEPT, unreadable=True),)
    assert v1alpha1.errors == ("spec.egress[0].to[0].domainNames: is not for a BaselineAdminNetworkPolicy",)
    admin = value_of(policy({**old, "priority": 1}, "AdminNetworkPolicy", "policy.networking.k8s.io/v1alpha1"))
    assert admin.egress == (ClusterRule(Action.ACCEPT, (DomainPeer("kubernetes.io"),)),)
    ingress = value_of(policy(spec(ingress=[{"action": "Accept", "from": [names]}])))
    assert ingress.ingress == (ClusterRule(Action.ACCEPT, unreadable=True),)
    named = {"tcp": {"destinationNamedPort": "web"}}
    by_name = value_of(policy(spec(egress=[rule(to=[names], protocols=[named])])))
    assert by_name.egress == (ClusterRule(Action.ACCEPT, unreadable=True),)


@pytest.mark.parametrize("action", ["Allow", "", None, 5])
def test_an_unknown_action_denies(action: Any) -> None:
    value = value_of(policy(spec(egress=[{**rule(), "action": action}])))
    assert value.egress == (ClusterRule(Action.DENY, unreadable=True),)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"tier": "Other"}, "spec.tier"),
        ({"tier": None}, "spec.tier"),
        ({"priority": 1001}, "spec.priority"),
        ({"priority": -1}, "spec.priority"),
        ({"priority": True}, "spec.priority"),
        ({"subject": {}}, "spec.subject"),
        ({"subject": None}, "spec.subject"),
        ({"subject": {"services": {}}}, "spec.subject.services"),
        ({"subject": {**NAMESPACES, "pods": {"podSelector": {}}}}, "spec.subject"),
        ({"isolate": True}, "spec.isolate"),
    ],
)
def test_what_concerns_all_rules_makes_them_unreadable(changed: Spec, field: str) -> None:
    found = parsed(policy(spec(priority=7, egress=[rule(), rule("Pass")]) | changed))
    assert [error.field for error in found.errors] == [field]
    value = value_of(policy(spec(priority=7, egress=[rule(), rule("Pass")]) | changed))
    assert (value.tier, value.priority) == (Tier.ADMIN, 0)
    assert value.egress == (ClusterRule(Action.ACCEPT, unreadable=True), ClusterRule(Action.PASS, unreadable=True))
    if "subject" in changed:
        assert value.subject == Subject(Selector(), Selector())


def test_rules_beyond_the_limit_deny_unless_all_accept() -> None:
    few = value_of(policy(spec(egress=[rule()] * 30)))
    assert len(few.egress) == 25
    assert few.errors == ("spec.egress: must not have more than 25 rules",)
    many = value_of(policy(spec(egress=[*[rule()] * 29, rule("Pass")])))
    assert many.egress[25:] == (ClusterRule(Action.DENY, unreadable=True),)


@pytest.mark.parametrize("rules", [5, {}, "x"])
def test_rules_that_are_no_list_deny(rules: Any) -> None:
    assert value_of(policy(spec(ingress=rules))).ingress == (ClusterRule(Action.DENY, unreadable=True),)


def test_a_value_that_is_null_is_none() -> None:
    """As the API server sees it for kinds that a definition declares."""
    term = {"key": "a", "operator": "NotIn", "values": ["b", None]}
    peer = {"namespaces": {"matchExpressions": [term]}}
    found = parsed(policy(spec(egress=[rule("Deny", [peer])])))
    assert isinstance(found.value, ClusterPolicy)
    assert [error.field for error in found.errors] == ["spec.egress[0].to[0].namespaces.matchExpressions[0].values[1]"]
    assert found.value.egress == (ClusterRule(Action.DENY, unreadable=True),)


def test_names_are_bounded() -> None:
    (long,) = value_of(policy(spec(egress=[rule(name="x" * 101)]))).egress
    assert long.unreadable and long.name == "x" * 100


def test_admin_network_policy_is_translated() -> None:
    ports = [
        {"portNumber": {"protocol": "UDP", "port": 53}},
        {"portRange": {"start": 1, "end": 9}},
        {"namedPort": "web"},
    ]
    egress = [
        {"name": "r", "action": "Allow", "to": [IN_X], "ports": ports},
        {"action": "Deny", "to": [{"networks": ["10.0.0.1/8"]}]},
    ]
    old = {"priority": 3, "subject": IN_X, "egress": egress}
    found = parsed(policy(old, "AdminNetworkPolicy", "policy.networking.k8s.io/v1alpha1"))
    assert (found.kind, found.name, found.errors) == ("ClusterNetworkPolicy", Key("", "adminnetworkpolicy:p"), ())
    named = tuple(PortSpec(protocol, "web") for protocol in Protocol)
    assert found.value == ClusterPolicy(
        Key("", "adminnetworkpolicy:p"),
        "AdminNetworkPolicy",
        Tier.ADMIN,
        3,
        Subject(labels(ns="x")),
        (),
        (
            ClusterRule(Action.ACCEPT, (Peer(None, labels(ns="x")),), (udp(53), tcp(1, 9), *named), "r"),
            ClusterRule(Action.DENY, (Peer(ip_block=IPBlock(parse_network("10.0.0.0/8"))),)),
        ),
    )


def test_baseline_admin_network_policy_comes_last() -> None:
    old = {"subject": IN_X, "ingress": [{"action": "Deny", "from": [NAMESPACES]}] * 100}
    value = value_of(policy(old, "BaselineAdminNetworkPolicy", "policy.networking.k8s.io/v1alpha1", "default"))
    assert (value.tier, value.priority, len(value.ingress)) == (Tier.BASELINE, 1001, 100)
    assert value.errors == ()
    other = value_of(policy(old, "BaselineAdminNetworkPolicy", "policy.networking.k8s.io/v1alpha1", "other"))
    assert other.errors and all(one.unreadable for one in other.ingress)


def test_v1alpha1_has_no_pass_in_baseline_and_needs_both_selectors() -> None:
    v1alpha1 = "policy.networking.k8s.io/v1alpha1"
    passing = {"subject": NAMESPACES, "ingress": [{"action": "Pass", "from": [NAMESPACES]}]}
    found = value_of(policy(passing, "BaselineAdminNetworkPolicy", v1alpha1, "default"))
    assert found.ingress == (ClusterRule(Action.DENY, unreadable=True),)
    assert found.errors == ("spec.ingress[0].action: must be one of Allow, Deny, not the text 'Pass'",)
    some: Spec = {"pods": {"podSelector": {}}}
    allowing = {"priority": 1, "subject": NAMESPACES, "ingress": [{"action": "Allow", "from": [some]}]}
    found = value_of(policy(allowing, "AdminNetworkPolicy", v1alpha1))
    assert found.ingress == (ClusterRule(Action.ACCEPT, unreadable=True),)
    assert found.errors == ("spec.ingress[0].from[0].pods.namespaceSelector: is required",)
    now = value_of(policy(spec(ingress=[{"action": "Accept", "from": [some]}])))
    assert now.ingress == (ClusterRule(Action.ACCEPT, (Peer(EVERYTHING, EVERYTHING),)),)


@pytest.mark.parametrize(
    ("kind", "version"),
    [
        ("AdminNetworkPolicy", APIS[0]),
        ("NetworkPolicy", "policy.networking.k8s.io/v1alpha1"),
        ("ClusterNetworkPolicy", "policy.networking.k8s.io/v1alpha1"),
        ("ClusterNetworkPolcy", APIS[0]),
    ],
)
def test_a_kind_of_another_version_is_refused(kind: str, version: str) -> None:
    with pytest.raises(ParseError):
        parse_object(policy(spec(), kind, version))
