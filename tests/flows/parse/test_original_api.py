"""The original policy API case by case: parsing, errors, and the translation in a snapshot."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from flows.cluster.model import (
    Cluster,
    Direction,
    Key,
    Namespace,
    OriginalApi,
    Peer,
    Policy,
    PortSpec,
    Protocol,
    Rule,
    Selector,
)
from flows.cluster.original_api import (
    ALPHA_ANNOTATION,
    ALPHA_API,
    BETA_ANNOTATION,
    BETA_API,
    OriginalPolicy,
    all_policies,
)
from flows.parse.objects import ParsedObject, ParseError, parse_object
from tests.helpers.cluster.model_objects import cluster, labels, node, pod, policy, rule, tcp, verdicts_of

DENY = '{"ingress": {"isolation": "DefaultDeny"}}'
ALPHA, BETA = frozenset({OriginalApi.ALPHA}), frozenset({OriginalApi.BETA})
NOWHERE: frozenset[OriginalApi] = frozenset()


def read(raw: object) -> ParsedObject:
    found = parse_object(raw)
    assert found is not None
    return found


def namespace(annotations: object, name: str = "x") -> ParsedObject:
    return read({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": annotations}})


def alpha(spec: object, name: str = "p", home: str = "x") -> ParsedObject:
    metadata = {"name": name, "namespace": home}
    return read({"apiVersion": ALPHA_API, "kind": "NetworkPolicy", "metadata": metadata, "spec": spec})


def beta(spec: object, name: str = "p", home: str = "x") -> ParsedObject:
    metadata = {"name": name, "namespace": home}
    return read({"apiVersion": BETA_API, "kind": "NetworkPolicy", "metadata": metadata, "spec": spec})


def opened(found: ParsedObject) -> tuple[Rule | None, ...]:
    assert isinstance(found.value, OriginalPolicy)
    return found.value.active.rules(Direction.INGRESS)


@pytest.mark.parametrize(
    ("annotations", "isolation", "fields"),
    [
        (None, NOWHERE, []),
        ({}, NOWHERE, []),
        ({"other": "on"}, NOWHERE, []),
        *(({ALPHA_ANNOTATION: word}, ALPHA, []) for word in ("on", "yes", "true")),
        *(({ALPHA_ANNOTATION: word}, NOWHERE, []) for word in ("off", "no", "false")),
        # The values that YAML gives the same words without quotes.
        ({ALPHA_ANNOTATION: True}, ALPHA, []),
        ({ALPHA_ANNOTATION: False}, NOWHERE, []),
        *(({ALPHA_ANNOTATION: word}, ALPHA, [ALPHA_ANNOTATION])
          for word in ("", "On", "OFF", "0", "off ", "disabled", None, 0, 1, 0.0, ["off"], {"off": True})),
        ({BETA_ANNOTATION: DENY}, BETA, []),
        ({BETA_ANNOTATION: '{"ingress":{"isolation":"DefaultDeny","more":1},"other":[]}'}, BETA, []),
        *(({BETA_ANNOTATION: text}, NOWHERE, [])
          for text in ("{}", "null", '{"ingress": null}', '{"ingress": {}}', '{"ingress": {"isolation": null}}')),
        *(({BETA_ANNOTATION: text}, BETA, [BETA_ANNOTATION])
          for text in ("", "on", "DefaultDeny", "[]", '"DefaultDeny"', "{", '{"ingress": "DefaultDeny"}', "[" * 100_000,
                       '{"ingress": {"isolation": "defaultdeny"}}', '{"ingress": {"isolation": ""}}',
                       '{"ingress": {"isolation": true}}', True, None, {"ingress": {"isolation": "DefaultDeny"}})),
        ({BETA_ANNOTATION: '{"egress": {"isolation": "DefaultDeny"}}'}, NOWHERE, [BETA_ANNOTATION]),
        ({ALPHA_ANNOTATION: "on", BETA_ANNOTATION: DENY}, ALPHA | BETA, []),
        ({ALPHA_ANNOTATION: "off", BETA_ANNOTATION: DENY}, BETA, []),
        ({ALPHA_ANNOTATION: "oh", BETA_ANNOTATION: "no"}, ALPHA | BETA, [ALPHA_ANNOTATION, BETA_ANNOTATION]),
        ([], ALPHA | BETA, [""]),
        (f"{ALPHA_ANNOTATION}: off", ALPHA | BETA, [""]),
    ],
)  # fmt: skip
def test_annotations(annotations: object, isolation: frozenset[OriginalApi], fields: list[str]) -> None:
    found = namespace(annotations)
    assert isinstance(found.value, Namespace)
    assert found.value.isolation == isolation
    assert [error.field for error in found.errors] == [
        f"metadata.annotations[{field}]" if field else "metadata.annotations" for field in fields
    ]


def test_the_error_for_an_unknown_value_says_what_to_do() -> None:
    (error,) = namespace({ALPHA_ANNOTATION: "enabled"}).errors
    assert error.reason == "must be on, yes or true to isolate, or off, no or false, not the text 'enabled'"


FRONT = labels(segment="frontend")
NOBODY: tuple[Rule | None, ...] = opened(alpha({"podSelector": {}, "allowIncoming": {"from": []}}))
PORT_80 = PortSpec(Protocol.TCP, 80)

# name: (allowIncoming, the translated rules)
INCOMING: dict[str, tuple[Any, tuple[Rule | None, ...]]] = {
    "absent": (None, ()),
    "everybody": ({}, (Rule(),)),
    "everybody, written out": ({"from": None, "toPorts": None}, (Rule(),)),
    "no source": ({"from": [], "toPorts": [{"port": 80}]}, NOBODY),
    "no port": ({"from": [{"pods": {}}], "toPorts": []}, NOBODY),
    "pods": ({"from": [{"pods": {"segment": "frontend"}}]}, (Rule((Peer(FRONT),)),)),
    "all pods of the namespace": ({"from": [{"pods": {}}]}, (Rule((Peer(Selector()),)),)),
    "namespaces": ({"from": [{"namespaces": {"segment": "frontend"}}]}, (Rule((Peer(None, FRONT),)),)),
    "all namespaces": ({"from": [{"namespaces": {}}]}, (Rule((Peer(None, Selector()),)),)),
    "both": ({"from": [{"pods": {"segment": "frontend"}, "namespaces": {}}]}, (Rule((Peer(FRONT, Selector()),)),)),
    "two": ({"from": [{"pods": {}}, {"namespaces": {}}]}, (Rule((Peer(Selector()), Peer(None, Selector()))),)),
    "a number": ({"toPorts": [{"port": 80, "protocol": "TCP"}]}, (Rule((), (PORT_80,)),)),
    "protocol absent": ({"toPorts": [{"port": 80}]}, (Rule((), (PORT_80,)),)),
    "protocol in small letters": ({"toPorts": [{"port": 80, "protocol": "tcp"}]}, (Rule((), (PORT_80,)),)),
    "a name": ({"toPorts": [{"port": "web", "protocol": "UDP"}]}, (Rule((), (PortSpec(Protocol.UDP, "web"),)),)),
    "any port": ({"toPorts": [{"protocol": "SCTP"}]}, (Rule((), (PortSpec(Protocol.SCTP),)),)),
    "labels with empty values": ({"from": [{"pods": {"a": None}}]}, (Rule((Peer(labels(a="")),)),)),
}


@pytest.mark.parametrize("name", INCOMING)
def test_alpha_rules(name: str) -> None:
    incoming, rules = INCOMING[name]
    found = alpha({"podSelector": {"segment": "backend"}, "allowIncoming": incoming})
    assert found.errors == ()
    assert isinstance(found.value, OriginalPolicy)
    expected = Policy(Key("x", "alpha:p"), labels(segment="backend"), frozenset({Direction.INGRESS}), rules)
    assert found.value.active == expected
    assert found.value.inactive.rules(Direction.INGRESS) == ()


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        (None, ["spec"]),
        ([], ["spec"]),
        ({"allowIncoming": {}}, ["spec.podSelector"]),
        ({"podSelector": None}, ["spec.podSelector"]),
        ({"podSelector": ["a"], "allowIncoming": {}}, ["spec.podSelector"]),
        ({"podSelector": {"matchLabels": {"a": "b"}}, "allowIncoming": {}}, ["spec.podSelector[matchLabels]"]),
        ({"podSelector": {"a": True}, "allowIncoming": {}}, ["spec.podSelector[a]"]),
        ({"podSelector": {}, "allowIncoming": []}, ["spec.allowIncoming"]),
        ({"podSelector": {}, "allowIncoming": True}, ["spec.allowIncoming"]),
        *(({"podSelector": {}, "allowIncoming": incoming}, [f"spec.allowIncoming.{field}" for field in fields])
          for incoming, fields in (
              ({"from": {"pods": {}}}, ["from"]),
              ({"from": [None]}, ["from[0]"]),
              ({"from": [{"pods": {}}, {}]}, ["from[1]"]),
              ({"from": [{"pods": None, "podSelector": {}}]}, ["from[0]"]),
              ({"from": [{"pods": []}]}, ["from[0].pods"]),
              ({"from": [{"namespaces": {"a b": "c"}}]}, ["from[0].namespaces[a b]"]),
              ({"toPorts": 80}, ["toPorts"]),
              ({"toPorts": [80]}, ["toPorts[0]"]),
              ({"toPorts": [{"port": 80}, {"port": 0}]}, ["toPorts[1].port"]),
              ({"toPorts": [{"port": "80"}]}, ["toPorts[0].port"]),
              ({"toPorts": [{"port": True}]}, ["toPorts[0].port"]),
              ({"toPorts": [{"port": 80.0}]}, ["toPorts[0].port"]),
              ({"toPorts": [{"protocol": "ICMP"}]}, ["toPorts[0].protocol"]),
              ({"from": [{}], "toPorts": [{"port": -1}]}, ["from[0]", "toPorts[0].port"]),
          )),
    ],
)  # fmt: skip
def test_alpha_errors_name_the_fields_and_allow_nothing(spec: object, fields: list[str]) -> None:
    found = alpha(spec)
    assert [error.field for error in found.errors] == fields
    assert not any(opened(found))
    assert isinstance(found.value, OriginalPolicy)
    assert found.value.active.errors == tuple(map(str, found.errors))


PEER = {"from": [{"podSelector": {"matchLabels": {"segment": "frontend"}}}]}


@pytest.mark.parametrize(
    ("spec", "rules", "fields"),
    [
        ({"podSelector": {}}, (), []),
        ({"ingress": [{}]}, (Rule(),), []),
        ({"podSelector": None, "ingress": [{}]}, (Rule(),), []),
        ({"podSelector": {}, "ingress": []}, (), []),
        ({"podSelector": {}, "ingress": [PEER]}, (Rule((Peer(FRONT),)),), []),
        ({"podSelector": {}, "ingress": [{"ports": [{"protocol": "tcp", "port": 80}]}]}, (Rule((), (PORT_80,)),), []),
        ({"ingress": [{"from": []}, PEER, {"ports": []}]}, (*NOBODY, Rule((Peer(FRONT),)), *NOBODY), []),
        ({"ingress": [{"from": [{}]}, PEER]}, (None, Rule((Peer(FRONT),))), ["spec.ingress[0].from[0]"]),
        ({"podSelector": {"matchLabels": {"a": 5}}, "ingress": [{}]}, (None,), ["spec.podSelector.matchLabels[a]"]),
        ({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}, (Rule(),), []),
        ({"podSelector": {}, "policyTypes": ["Egress"], "ingress": [{}]}, (), ["spec.policyTypes"]),
        ({"podSelector": {}, "ingress": [{}], "egress": [{}]}, (Rule(),), ["spec.egress"]),
        ({"podSelector": {}, "ingress": {"from": []}}, (), ["spec.ingress"]),
        ("all", (), ["spec"]),
    ],
)  # fmt: skip
def test_beta_rules(spec: object, rules: tuple[Rule | None, ...], fields: list[str]) -> None:
    found = beta(spec)
    assert [error.field for error in found.errors] == fields
    assert opened(found) == rules
    assert isinstance(found.value, OriginalPolicy)
    assert found.value.active.key == Key("x", "beta:p")
    assert not found.value.inactive.isolates


def test_policies_of_one_name_in_three_apis_are_three_objects() -> None:
    v1 = read(
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "x"}}
    )
    found = [v1, alpha({"podSelector": {}}), beta({"podSelector": {}})]
    assert len({(one.kind, one.name) for one in found}) == 3
    assert {one.name for one in found} == {Key("x", "p")}
    assert str(found[1]) == "NetworkPolicy.net.alpha.kubernetes.io x/p"


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ("net.alpha.kubernetes.io/v1", ALPHA_API),
        ("extensions/v1", BETA_API),
        ("networking.k8s.io/v1beta1", "networking.k8s.io/v1"),
    ],
)
def test_versions_that_no_group_has(version: str, wanted: str) -> None:
    with pytest.raises(ParseError, match=f"must be {wanted} for a NetworkPolicy"):
        parse_object({"apiVersion": version, "kind": "NetworkPolicy", "metadata": {"name": "p"}})


def world(annotations: object, *objects: ParsedObject, also: tuple[Policy, ...] = ()) -> Cluster:
    """Namespace x with these annotations and three pods on node one, and y with a pod on node two."""
    pods = [
        pod("x/back", 1, segment="backend"),
        pod("x/front", 2, segment="frontend"),
        pod("x/batch", 3, segment="batch"),
        pod("y/front", 4, "two", segment="frontend"),
    ]
    nodes = [node("one", "10.0.1.1", "fd00:1::1"), node("two", "10.0.2.1", "fd00:2::1")]
    base = cluster(pods, nodes, {"x": {}, "y": {"tenant": "b"}}, *also)
    changed = namespace(annotations).value
    assert isinstance(changed, Namespace)
    namespaces = {**base.namespaces, "x": changed}
    original = [one.value for one in objects if isinstance(one.value, OriginalPolicy)]
    policies = all_policies(base.policies, original, namespaces.values())
    return Cluster(MappingProxyType(namespaces), base.pods, base.nodes, policies)


POL1 = {
    "allowIncoming": {"from": [{"pods": {"segment": "frontend"}}], "toPorts": [{"port": 80, "protocol": "TCP"}]},
    "podSelector": {"segment": "backend"},
}
POL1_BETA = {
    "podSelector": {"matchLabels": {"segment": "backend"}},
    "ingress": [{**PEER, "ports": [{"protocol": "TCP", "port": 80}]}],
}
ON = {ALPHA_ANNOTATION: "on"}
ON_BETA = {BETA_ANNOTATION: DENY}
V1 = policy("x/p", labels(segment="backend"), ingress=[rule(tcp(443))])
TENANT_B = {"matchLabels": {"tenant": "b"}}
FRONT_OF_B = {"pods": {"segment": "frontend"}, "namespaces": {"tenant": "b"}}
NO_FORCE = (("x/front > x/back TCP 80", False),)
OPEN, SHUT = (("x/front > x/back TCP 81", True),), (("x/front > x/back TCP 81", False),)
TENANT = (
    ("x/front > x/back TCP 80", True),
    ("x/front > x/back TCP 81", False),
    ("x/front > x/back UDP 80", False),
    ("x/front > x/back ICMP", False),
    ("x/batch > x/back TCP 80", False),
    ("y/front > x/back TCP 80", False),
    ("203.0.113.1 > x/back TCP 80", False),
    ("x/back > x/front TCP 80", False),
    ("x/back > y/front TCP 80", True),  # egress is free, and y is not isolated
    ("x/back > x/back TCP 81", True),  # itself
    ("node:one > x/back TCP 81", True),  # its own node
    ("node:two > x/back TCP 80", False),
)

# name: (annotations, objects of the original API, v1 policies, expectations)
CLUSTERS: dict[str, tuple[Any, tuple[ParsedObject, ...], tuple[Policy, ...], tuple[tuple[str, bool], ...]]] = {
    "no isolation, no force": ({}, (alpha(POL1), beta(POL1_BETA)), (), OPEN),
    "isolation and no policy": (ON, (), (), SHUT),
    "the tenant example in alpha": (ON, (alpha(POL1),), (), TENANT),
    "the tenant example in beta": (ON_BETA, (beta(POL1_BETA),), (), TENANT),
    "off again": ({ALPHA_ANNOTATION: "off"}, (alpha(POL1),), (), OPEN),
    "off again, but for v1": (
        {ALPHA_ANNOTATION: "off"}, (alpha(POL1),), (V1,),
        (("x/front > x/back TCP 80", False), ("x/front > x/back TCP 443", True), ("x/back > x/front TCP 80", True))),
    "a word that nobody knows": ({ALPHA_ANNOTATION: "On"}, (alpha(POL1),), (), TENANT),
    "alpha's isolation gives beta's policies no force": (ON, (beta(POL1_BETA),), (), NO_FORCE),
    "beta's isolation gives alpha's policies no force": (ON_BETA, (alpha(POL1),), (), NO_FORCE),
    "the union of all three": (
        ON | ON_BETA,
        (alpha(POL1), beta({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": TENANT_B}]}]})),
        (V1,),
        (("x/front > x/back TCP 80", True), ("y/front > x/back UDP 1", True), ("x/batch > x/back TCP 443", True),
         ("x/batch > x/back TCP 80", False), ("x/back > x/front TCP 443", False))),
    "pods and namespaces in one entry": (
        ON,
        (alpha({"podSelector": {}, "allowIncoming": {"from": [FRONT_OF_B]}}),),
        (),
        (("y/front > x/back TCP 1", True), ("x/front > x/back TCP 1", False))),
    "a policy of another namespace opens nothing here": (ON, (alpha(POL1, home="y"),), (), SHUT),
}  # fmt: skip


@pytest.mark.parametrize("name", CLUSTERS)
def test_clusters(name: str) -> None:
    annotations, objects, also, expected = CLUSTERS[name]
    snapshot = world(annotations, *objects, also=also)
    for line, allowed in expected:
        answers = verdicts_of(snapshot, line)
        assert answers, line
        for answer in answers.values():
            assert answer.allowed is allowed, "\n".join(answer.explain())


def test_an_explanation_names_annotation_and_policy() -> None:
    answer = verdicts_of(world(ON, alpha(POL1, "pol1")), "x/front > x/back TCP 80")[4]
    (line,) = answer.ingress.explain()
    assert "isolated by x/alpha:pol1, x/isolation:alpha; allowed by x/alpha:pol1 ingress rule 0" in line


def test_without_the_original_api_nothing_is_copied() -> None:
    policies = {V1.key: V1}
    assert all_policies(policies, (), [Namespace("x")]) is policies
