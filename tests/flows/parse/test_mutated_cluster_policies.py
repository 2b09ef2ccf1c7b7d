"""Manifests of ClusterNetworkPolicies that are broken at any one field: what comes of it allows nothing more.

A policy that reads as it was meant is the measure: whatever a mutation makes unreadable, no connection may pass that
the whole policy drops. A mutation that leaves another valid policy says nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.cluster.model import Cluster, ClusterPolicy, ContainerPort, Node, Protocol, Tier
from flows.cluster.net import parse_address
from flows.parse.objects import parse_object
from tests.helpers.cluster.model_objects import (
    block,
    cluster,
    cluster_policy,
    cluster_rule,
    pod,
    policy,
    rule,
    udp,
    verdicts_of,
    with_cluster_policies,
)

Json = Any
GROUP = "policy.networking.k8s.io"
KINDS = {
    "v1beta1": ("ClusterNetworkPolicy", "p"),
    "AdminNetworkPolicy": ("AdminNetworkPolicy", "p"),
    "BaselineAdminNetworkPolicy": ("BaselineAdminNetworkPolicy", "default"),
}
WEB = ContainerPort("web", 80, Protocol.TCP)
PODS = [
    pod("x/a", 1, "one", WEB, families=(4,), app="a"),
    pod("x/b", 2, "two", families=(4,), app="b"),
    pod("y/a", 3, "two", WEB, families=(4,), app="a"),
]
NODES = [Node("one", (parse_address("192.0.2.1"),)), Node("two", (parse_address("192.0.2.2"),))]
WORLD = cluster(
    PODS,
    NODES,
    {"x": {"ns": "x"}, "y": {"ns": "y"}},
    policy("y/isolated", ingress=[rule(block("10.0.0.1/32"))], egress=[]),
)
# What an Accept that cannot be read falls through to.
BEHIND = [
    cluster_policy("behind", egress=[cluster_rule("Deny", block("10.0.0.0/30"))], priority=1000),
    cluster_policy("base", ingress=[cluster_rule("Deny", udp())], tier=Tier.BASELINE),
]
ENDS = ["x/a", "x/b", "y/a", "203.0.113.9"]
PROBES = [
    f"{source} > {target} {port}"
    for source, target in product(ENDS, [*ENDS, "192.0.2.2"])
    for port in ("TCP 80", "UDP 53", "ICMP")
    if source != target and "/" in source + target
]


def selector(key: str = "ns") -> st.SearchStrategy[Json]:
    return st.sampled_from(
        [{}, {"matchLabels": {key: "x"}}, {"matchExpressions": [{"key": key, "operator": "Exists"}]}]
    )


def pods(old: bool) -> st.SearchStrategy[Json]:
    both = st.fixed_dictionaries({"namespaceSelector": selector(), "podSelector": selector("app")})
    one = st.fixed_dictionaries({"podSelector": selector("app")})
    return st.one_of(
        st.builds(lambda found: {"namespaces": found}, selector()),
        st.builds(lambda found: {"pods": found}, both if old else st.one_of(both, one)),
    )


def ports(old: bool) -> st.SearchStrategy[Json]:
    if old:
        one = [
            {"portNumber": {"protocol": "TCP", "port": 80}},
            {"portRange": {"protocol": "UDP", "start": 50, "end": 60}},
        ]
    else:
        one = [
            {"tcp": {"destinationPort": {"number": 80}}},
            {"udp": {"destinationPort": {"range": {"start": 50, "end": 60}}}},
        ]
    return st.lists(st.sampled_from(one), min_size=1, max_size=2)


@st.composite
def rules(draw: st.DrawFn, kind: str, direction: str) -> Json:
    old = kind != "v1beta1"
    actions = ["Allow" if old else "Accept", "Deny", *(["Pass"] if kind != "BaselineAdminNetworkPolicy" else [])]
    peers = pods(old)
    if direction == "egress":
        nets = st.sampled_from([["10.0.0.0/30"], ["0.0.0.0/0", "::/0"], ["203.0.113.0/24"]])
        peers = st.one_of(
            peers,
            st.builds(lambda found: {"networks": found}, nets),
            st.builds(lambda found: {"nodes": found}, selector()),
        )
    found: Json = {"action": draw(st.sampled_from(actions))}
    found["from" if direction == "ingress" else "to"] = draw(st.lists(peers, min_size=1, max_size=2))
    if draw(st.booleans()):
        found["ports" if old else "protocols"] = draw(ports(old))
    return found


@st.composite
def manifests(draw: st.DrawFn) -> Json:
    kind = draw(st.sampled_from(sorted(KINDS)))
    spec: Json = {"subject": draw(pods(kind != "v1beta1"))}
    if kind != "BaselineAdminNetworkPolicy":
        spec["priority"] = draw(st.integers(0, 1000))
    if kind == "v1beta1":
        spec["tier"] = draw(st.sampled_from(["Admin", "Baseline"]))
    for direction in ("ingress", "egress"):
        if found := draw(st.lists(rules(kind, direction), max_size=3)):
            spec[direction] = found
    name, version = KINDS[kind], "v1beta1" if kind == "v1beta1" else "v1alpha1"
    return {"apiVersion": f"{GROUP}/{version}", "kind": name[0], "metadata": {"name": name[1]}, "spec": spec}


def places(value: Json, path: tuple[Json, ...] = ()) -> Iterator[tuple[Json, ...]]:
    """The paths of everything below a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in items:
        yield (*path, key)
        yield from places(below, (*path, key))


JUNK: st.SearchStrategy[Json] = st.sampled_from(
    [None, "", "x", "Accept", "10.0.0.1/8", 5, -1, 0.5, True, [], {}, [None], [{}], {"new": {}}, ["x"] * 30]
)


def mutated(draw: st.DrawFn, whole: Json) -> Json:
    """The manifest with one change below `spec`."""
    found = copy.deepcopy(whole)
    path = draw(st.sampled_from(list(places(found["spec"]))))
    parent = found["spec"]
    for key in path[:-1]:
        parent = parent[key]
    key, how = path[-1], draw(st.sampled_from(["drop", "set", "add", "rename", "repeat"]))
    if how == "drop":
        del parent[key]
    elif how == "set" or (how == "rename" and isinstance(parent, list)):
        parent[key] = draw(JUNK)
    elif how == "add" and isinstance(parent[key], dict):
        parent[key][draw(st.sampled_from(["new", "nodes", "namespaces", "networks", "podSelector", "tcp"]))] = draw(
            JUNK
        )
    elif how == "repeat" and isinstance(parent[key], list):
        parent[key] = parent[key] * 101
    elif isinstance(parent, dict):
        parent[f"{key}s"] = parent.pop(key)
    return found


def read(manifest: Json) -> ClusterPolicy:
    found = parse_object(manifest)
    assert found is not None
    assert isinstance(found.value, ClusterPolicy)
    return found.value


def allowed(world: Cluster, *policies: ClusterPolicy) -> set[tuple[str, int]]:
    under = with_cluster_policies(world, *policies)
    return {(line, version) for line in PROBES for version, found in verdicts_of(under, line).items() if found.allowed}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_broken_field_never_allows_more(data: st.DataObject) -> None:
    whole = data.draw(manifests())
    meant = read(whole)
    assert not meant.errors, meant.errors
    broken = read(data.draw(st.composite(lambda draw: mutated(draw, whole))()))
    if broken.errors:
        more = allowed(WORLD, broken, *BEHIND) - allowed(WORLD, meant, *BEHIND)
        assert not more, broken.errors


@pytest.mark.parametrize("action", ["Deny", "Pass"])
def test_what_cannot_be_read_of_deny_and_pass_denies_the_whole_direction(action: str) -> None:
    spec = {
        "tier": "Admin", "priority": 5, "subject": {"namespaces": {"matchLabels": {"ns": "x"}}},
        "egress": [{"action": action, "to": [{"services": {}}]}],
    }  # fmt: skip
    manifest = {
        "apiVersion": f"{GROUP}/v1beta1",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "p"},
        "spec": spec,
    }
    assert not any(line.startswith("x/") for line, _ in allowed(WORLD, read(manifest)))
    assert any(line.startswith("203.0.113.9 > x/") for line, _ in allowed(WORLD, read(manifest)))
