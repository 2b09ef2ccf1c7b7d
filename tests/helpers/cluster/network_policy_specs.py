"""NetworkPolicy specs as the API server takes or refuses them: data for the parser's tests.

`ACCEPTED` gives for each spec what the model shall hold; `REFUSED` the fields that a kube-apiserver (1.37) names in its
refusal, or would name where its decoder stops earlier, with a mere message. Both lists were sent to a real one.
"""

from __future__ import annotations

from typing import Any

from flows.cluster.model import (
    EVERYTHING,
    Direction,
    IPBlock,
    Operator,
    Peer,
    PortSpec,
    Protocol,
    Requirement,
    Rule,
    Selector,
)
from flows.cluster.net import parse_network

INGRESS = frozenset({Direction.INGRESS})
EGRESS = frozenset({Direction.EGRESS})
BOTH = INGRESS | EGRESS
Spec = Any


def term(key: str, operator: Operator, *values: str) -> Selector:
    return Selector((Requirement(key, operator, values),))


def labelled(key: str, value: str) -> Selector:
    return term(key, Operator.IN, value)


def ingress(*rules: object) -> Spec:
    return {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": list(rules)}


def peer(raw: object) -> Spec:
    return ingress({"from": [raw]})


def port(raw: object) -> Spec:
    return ingress({"ports": [raw]})


def block(cidr: object, *excepts: object) -> Spec:
    return peer({"ipBlock": {"cidr": cidr, "except": list(excepts)}})


def expression(**fields: object) -> Spec:
    return {"podSelector": {"matchExpressions": [fields]}}


# name: (spec, subjects, isolates, ingress rules, egress rules)
ACCEPTED: dict[str, tuple[Spec, Selector, frozenset[Direction], tuple[Rule, ...], tuple[Rule, ...]]] = {
    "null spec": (None, EVERYTHING, INGRESS, (), ()),
    "empty spec": ({}, EVERYTHING, INGRESS, (), ()),
    "null podSelector": ({"podSelector": None}, EVERYTHING, INGRESS, (), ()),
    "null matchLabels": ({"podSelector": {"matchLabels": None, "matchExpressions": None}}, EVERYTHING, INGRESS, (), ()),
    # policyTypes and their defaults
    "empty policyTypes": ({"policyTypes": []}, EVERYTHING, INGRESS, (), ()),
    "empty ingress": ({"ingress": []}, EVERYTHING, INGRESS, (), ()),
    "empty egress does not isolate": ({"egress": []}, EVERYTHING, INGRESS, (), ()),
    "null egress does not isolate": ({"egress": None}, EVERYTHING, INGRESS, (), ()),
    "an egress rule isolates both": ({"egress": [{}]}, EVERYTHING, BOTH, (), (Rule(),)),
    "empty egress, named": ({"policyTypes": ["Egress"], "egress": []}, EVERYTHING, EGRESS, (), ()),
    "egress named, absent": ({"policyTypes": ["Egress"]}, EVERYTHING, EGRESS, (), ()),
    "rules of a direction not named": (
        {"policyTypes": ["Egress"], "ingress": [{}]},
        EVERYTHING,
        EGRESS,
        (Rule(),),
        (),
    ),
    "egress rule, only ingress named": (
        {"policyTypes": ["Ingress"], "egress": [{}]},
        EVERYTHING,
        INGRESS,
        (),
        (Rule(),),
    ),
    "both named": ({"policyTypes": ["Egress", "Ingress"]}, EVERYTHING, BOTH, (), ()),
    "one named twice": ({"policyTypes": ["Ingress", "Ingress"]}, EVERYTHING, INGRESS, (), ()),
    # rules: absent, null and empty lists mean everything
    "empty rule": (ingress({}), EVERYTHING, INGRESS, (Rule(),), ()),
    "null rule is the empty one": (ingress(None), EVERYTHING, INGRESS, (Rule(),), ()),
    "empty from": (ingress({"from": [], "ports": []}), EVERYTHING, INGRESS, (Rule(),), ()),
    "null from": (ingress({"from": None, "ports": None}), EVERYTHING, INGRESS, (Rule(),), ()),
    # peers
    "pods": (peer({"podSelector": {}}), EVERYTHING, INGRESS, (Rule((Peer(pods=EVERYTHING),)),), ()),
    "namespaces": (
        peer({"namespaceSelector": {"matchLabels": {"a": "b"}}}),
        EVERYTHING,
        INGRESS,
        (Rule((Peer(namespaces=labelled("a", "b")),)),),
        (),
    ),
    "both selectors": (
        peer({"namespaceSelector": {}, "podSelector": {"matchLabels": {"a": "b"}}}),
        EVERYTHING,
        INGRESS,
        (Rule((Peer(labelled("a", "b"), EVERYTHING),)),),
        (),
    ),
    "null beside a block": (
        peer({"podSelector": None, "ipBlock": {"cidr": "10.0.0.0/8"}}),
        EVERYTHING,
        INGRESS,
        (Rule((Peer(ip_block=IPBlock(parse_network("10.0.0.0/8"))),)),),
        (),
    ),
    "block with except": (
        block("2001:db8::/32", "2001:db8:1::/48", "2001:db8:1:2::/64"),
        EVERYTHING,
        INGRESS,
        (
            Rule(
                (
                    Peer(
                        ip_block=IPBlock(
                            parse_network("2001:db8::/32"),
                            (parse_network("2001:db8:1::/48"), parse_network("2001:db8:1:2::/64")),
                        )
                    ),
                )
            ),
        ),
        (),
    ),
    "everything but one": (
        block("0.0.0.0/0", "1.2.3.4/32"),
        EVERYTHING,
        INGRESS,
        (Rule((Peer(ip_block=IPBlock(parse_network("0.0.0.0/0"), (parse_network("1.2.3.4/32"),))),)),),
        (),
    ),
    "IPv6 with embedded dots": (
        block("::1.2.3.4/128"),
        EVERYTHING,
        INGRESS,
        (Rule((Peer(ip_block=IPBlock(parse_network("::102:304/128"))),)),),
        (),
    ),
    "egress peer": (
        {"policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": {}}]}]},
        EVERYTHING,
        EGRESS,
        (),
        (Rule((Peer(pods=EVERYTHING),)),),
    ),
    # ports
    "empty port is all of TCP": (port({}), EVERYTHING, INGRESS, (Rule((), (PortSpec(),)),), ()),
    "null port entry is all of TCP": (port(None), EVERYTHING, INGRESS, (Rule((), (PortSpec(),)),), ()),
    "null fields": (
        port({"protocol": None, "port": None, "endPort": None}),
        EVERYTHING,
        INGRESS,
        (Rule((), (PortSpec(),)),),
        (),
    ),
    "protocol alone": (port({"protocol": "SCTP"}), EVERYTHING, INGRESS, (Rule((), (PortSpec(Protocol.SCTP),)),), ()),
    "number": (port({"port": 80}), EVERYTHING, INGRESS, (Rule((), (PortSpec(port=80),)),), ()),
    "highest": (
        port({"port": 65535, "protocol": "UDP"}),
        EVERYTHING,
        INGRESS,
        (Rule((), (PortSpec(Protocol.UDP, 65535),)),),
        (),
    ),
    "name": (port({"port": "serve-80-tcp"}), EVERYTHING, INGRESS, (Rule((), (PortSpec(port="serve-80-tcp"),)),), ()),
    "range": (
        port({"port": 80, "endPort": 90}),
        EVERYTHING,
        INGRESS,
        (Rule((), (PortSpec(port=80, end_port=90),)),),
        (),
    ),
    "range of one": (
        port({"port": 80, "endPort": 80}),
        EVERYTHING,
        INGRESS,
        (Rule((), (PortSpec(port=80, end_port=80),)),),
        (),
    ),
    # selectors
    "empty label value": ({"podSelector": {"matchLabels": {"a": ""}}}, labelled("a", ""), INGRESS, (), ()),
    "null label value is the empty one": (
        {"podSelector": {"matchLabels": {"a": None}}},
        labelled("a", ""),
        INGRESS,
        (),
        (),
    ),
    "In": (
        expression(key="a", operator="In", values=["y", "x", "y"]),
        term("a", Operator.IN, "x", "y"),
        INGRESS,
        (),
        (),
    ),
    "NotIn": (expression(key="a", operator="NotIn", values=["x"]), term("a", Operator.NOT_IN, "x"), INGRESS, (), ()),
    "null among values": (expression(key="a", operator="In", values=[None]), labelled("a", ""), INGRESS, (), ()),
    "Exists": (expression(key="a.b/c", operator="Exists", values=[]), term("a.b/c", Operator.EXISTS), INGRESS, (), ()),
    "DoesNotExist": (expression(key="a", operator="DoesNotExist"), term("a", Operator.DOES_NOT_EXIST), INGRESS, (), ()),
    "canonical order": (
        {
            "podSelector": {
                "matchLabels": {"b": "1", "a": "2"},
                "matchExpressions": [
                    {"key": "a", "operator": "Exists"},
                    {"key": "a", "operator": "In", "values": ["2"]},
                ],
            }
        },
        Selector(
            (
                Requirement("a", Operator.EXISTS),
                Requirement("a", Operator.IN, ("2",)),
                Requirement("b", Operator.IN, ("1",)),
            )
        ),
        INGRESS,
        (),
        (),
    ),
    "long prefix of a key": (
        {"podSelector": {"matchLabels": {"a" * 64 + ".com/x": "y"}}},
        labelled("a" * 64 + ".com/x", "y"),
        INGRESS,
        (),
        (),
    ),
}

PORT, PEER, CIDR, EXPRESSION = (
    "spec.ingress[0].ports[0]",
    "spec.ingress[0].from[0]",
    "spec.ingress[0].from[0].ipBlock",
    "spec.podSelector.matchExpressions[0]",
)
REFUSED: dict[str, tuple[Spec, tuple[str, ...]]] = {
    "spec is text": ("foo", ("spec",)),
    "spec is a list": ([], ("spec",)),
    "three policyTypes": ({"policyTypes": ["Ingress", "Ingress", "Egress"]}, ("spec.policyTypes",)),
    "null policyType": ({"policyTypes": ["Ingress", None]}, ("spec.policyTypes[1]",)),
    "unknown policyType": ({"policyTypes": ["ingress"]}, ("spec.policyTypes[0]",)),
    "policyTypes is text": ({"policyTypes": "Ingress"}, ("spec.policyTypes",)),
    "ingress is an object": ({"ingress": {}}, ("spec.ingress",)),
    "ingress is text": ({"ingress": ""}, ("spec.ingress",)),
    "rule is a list": (ingress([]), ("spec.ingress[0]",)),
    "from is an object": (ingress({"from": {}}), ("spec.ingress[0].from",)),
    "peer is text": (peer("10.0.0.0/8"), (PEER,)),
    "null peer": (peer(None), (PEER,)),
    "empty peer": (peer({}), (PEER,)),
    "peer of unknown fields": (peer({"pods": {}}), (f"{PEER}.pods", PEER)),
    "rule of unknown fields": ({"ingress": [{"form": [{"podSelector": {}}]}]}, ("spec.ingress[0].form",)),
    "egress rule with from": ({"egress": [{"from": []}]}, ("spec.egress[0].from",)),
    "block and selector": (peer({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}), (PEER,)),
    "block is text": (peer({"ipBlock": "10.0.0.0/8"}), (CIDR,)),
    "block without cidr": (peer({"ipBlock": {}}), (f"{CIDR}.cidr",)),
    "empty cidr": (block(""), (f"{CIDR}.cidr",)),
    "address for cidr": (block("10.0.0.0"), (f"{CIDR}.cidr",)),
    "netmask": (block("10.0.0.0/255.0.0.0"), (f"{CIDR}.cidr",)),
    "prefix too long": (block("10.0.0.0/33"), (f"{CIDR}.cidr",)),
    "negative prefix": (block("10.0.0.0/-1"), (f"{CIDR}.cidr",)),
    "leading zero": (block("010.0.0.0/8"), (f"{CIDR}.cidr",)),
    "leading zero of the length": (block("10.0.0.0/08"), (f"{CIDR}.cidr",)),
    "IPv4-mapped": (block("::ffff:10.0.0.0/104"), (f"{CIDR}.cidr",)),
    "zone index": (block("fe80::1%eth0/64"), (f"{CIDR}.cidr",)),
    "cidr is a number": (block(10), (f"{CIDR}.cidr",)),
    "except equal": (block("10.0.0.0/8", "10.0.0.0/8"), (f"{CIDR}.except[0]",)),
    "except wider": (block("10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0"), (f"{CIDR}.except[1]",)),
    "except outside": (block("10.0.0.0/8", "11.0.0.0/16"), (f"{CIDR}.except[0]",)),
    "except of the other family": (block("10.0.0.0/8", "2001:db8::/64"), (f"{CIDR}.except[0]",)),
    "except IPv4-mapped": (block("10.0.0.0/8", "::ffff:10.1.0.0/112"), (f"{CIDR}.except[0]",)),
    "null except": (block("10.0.0.0/8", None), (f"{CIDR}.except[0]",)),
    "except is text": (peer({"ipBlock": {"cidr": "10.0.0.0/8", "except": "10.1.0.0/16"}}), (f"{CIDR}.except",)),
    "empty protocol": (port({"protocol": ""}), (f"{PORT}.protocol",)),
    "lower case protocol": (port({"protocol": "tcp"}), (f"{PORT}.protocol",)),
    "ICMP": (port({"protocol": "ICMP"}), (f"{PORT}.protocol",)),
    "protocol is a number": (port({"protocol": 6}), (f"{PORT}.protocol",)),
    "port 0": (port({"port": 0}), (f"{PORT}.port",)),
    "port 65536": (port({"port": 65536}), (f"{PORT}.port",)),
    "port beyond 32 bits": (port({"port": 2**31}), (f"{PORT}.port",)),
    "negative port": (port({"port": -1}), (f"{PORT}.port",)),
    "port with a point": (port({"port": 80.0}), (f"{PORT}.port",)),
    "boolean port": (port({"port": True}), (f"{PORT}.port",)),
    "port is a list": (port({"port": [80]}), (f"{PORT}.port",)),
    "quoted number": (port({"port": "80"}), (f"{PORT}.port",)),
    "empty name": (port({"port": ""}), (f"{PORT}.port",)),
    "upper case name": (port({"port": "Http"}), (f"{PORT}.port",)),
    "long name": (port({"port": "a" * 16}), (f"{PORT}.port",)),
    "two hyphens": (port({"port": "a--b"}), (f"{PORT}.port",)),
    "hyphen first": (port({"port": "-a"}), (f"{PORT}.port",)),
    "hyphen last": (port({"port": "a-"}), (f"{PORT}.port",)),
    "endPort alone": (port({"endPort": 5}), (f"{PORT}.endPort",)),
    "endPort smaller": (port({"port": 5, "endPort": 4}), (f"{PORT}.endPort",)),
    "endPort 0": (port({"port": 5, "endPort": 0}), (f"{PORT}.endPort",)),
    "endPort too large": (port({"port": 5, "endPort": 65536}), (f"{PORT}.endPort",)),
    "endPort beside a name": (port({"port": "http", "endPort": 4}), (f"{PORT}.endPort",)),
    "endPort is text": (port({"port": 5, "endPort": "7"}), (f"{PORT}.endPort",)),
    "port entry is a number": (port(80), (PORT,)),
    "In without values": (expression(key="a", operator="In"), (f"{EXPRESSION}.values",)),
    "In with no value": (expression(key="a", operator="NotIn", values=[]), (f"{EXPRESSION}.values",)),
    "Exists with values": (expression(key="a", operator="Exists", values=["x"]), (f"{EXPRESSION}.values",)),
    "lower case operator": (expression(key="a", operator="in", values=["x"]), (f"{EXPRESSION}.operator",)),
    "no operator": (expression(key="a", values=["x"]), (f"{EXPRESSION}.operator",)),
    "no key": (expression(operator="Exists"), (f"{EXPRESSION}.key",)),
    "null expression": (
        {"podSelector": {"matchExpressions": [None]}},
        (f"{EXPRESSION}.key", f"{EXPRESSION}.operator"),
    ),
    "bad value": (expression(key="a", operator="In", values=["x", "-x"]), (f"{EXPRESSION}.values[1]",)),
    "value is a number": (expression(key="a", operator="In", values=[1]), (f"{EXPRESSION}.values[0]",)),
    "values is text": (expression(key="a", operator="In", values="x"), (f"{EXPRESSION}.values",)),
    "expressions is an object": ({"podSelector": {"matchExpressions": {}}}, ("spec.podSelector.matchExpressions",)),
    "selector is a list": ({"podSelector": []}, ("spec.podSelector",)),
    "labels is a list": ({"podSelector": {"matchLabels": ["a"]}}, ("spec.podSelector.matchLabels",)),
    "label is a number": ({"podSelector": {"matchLabels": {"a": 1}}}, ("spec.podSelector.matchLabels[a]",)),
    "label is a list": ({"podSelector": {"matchLabels": {"a": []}}}, ("spec.podSelector.matchLabels[a]",)),
    "two slashes": ({"podSelector": {"matchLabels": {"a/b/c": "x"}}}, ("spec.podSelector.matchLabels[a/b/c]",)),
    "empty prefix": ({"podSelector": {"matchLabels": {"/c": "x"}}}, ("spec.podSelector.matchLabels[/c]",)),
    "empty name after prefix": ({"podSelector": {"matchLabels": {"c/": "x"}}}, ("spec.podSelector.matchLabels[c/]",)),
    "blank in key": ({"podSelector": {"matchLabels": {"a b": "x"}}}, ("spec.podSelector.matchLabels[a b]",)),
    "empty key": ({"podSelector": {"matchLabels": {"": "x"}}}, ("spec.podSelector.matchLabels[]",)),
    "upper case prefix": (
        {"podSelector": {"matchLabels": {"E.com/c": "x"}}},
        ("spec.podSelector.matchLabels[E.com/c]",),
    ),
    "long value": ({"podSelector": {"matchLabels": {"a": "x" * 64}}}, ("spec.podSelector.matchLabels[a]",)),
    "long key": (
        {"podSelector": {"matchLabels": {"a" * 64: "x"}}},
        (f"spec.podSelector.matchLabels[{'a' * 64}]",),
    ),
    "foreign letter": ({"podSelector": {"matchLabels": {"a": "ä"}}}, ("spec.podSelector.matchLabels[a]",)),
    "line end": ({"podSelector": {"matchLabels": {"a": "x\n"}}}, ("spec.podSelector.matchLabels[a]",)),
}
