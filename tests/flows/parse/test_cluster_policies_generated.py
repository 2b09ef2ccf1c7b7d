"""Generated manifests of all kinds and versions: what they allow is what the documents of their API say."""

from __future__ import annotations

from itertools import product
from types import MappingProxyType
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.cluster.model import ClusterPolicy, ContainerPort, Key, Node, Pod, Protocol
from flows.cluster.net import parse_address
from flows.parse.objects import parse_object
from tests.helpers.cluster.model_objects import (
    block,
    cluster,
    labels,
    pod,
    policy,
    rule,
    verdicts_of,
    with_cluster_policies,
)
from tests.helpers.cluster.raw_cluster_policies import opens

Json = Any
GROUP = "policy.networking.k8s.io"
NEW = ("v1beta1", "v1alpha2")
WEB, ALT = ContainerPort("web", 80, Protocol.TCP), ContainerPort("web", 81, Protocol.TCP)
DNS = ContainerPort("web", 53, Protocol.UDP)
NODES = [
    Node("one", (parse_address("192.0.2.1"),), labels=MappingProxyType({"ns": "x"})),
    Node("two", (parse_address("192.0.2.2"),), external_addresses=(parse_address("203.0.113.2"),)),
]
PODS = [
    pod("x/a", 1, "one", WEB, families=(4,), app="a"),
    pod("x/b", 2, "two", ALT, DNS, families=(4,), app="b"),
    pod("y/a", 3, "two", WEB, families=(4,), app="a"),
    pod("y/bare", 4, "one", families=(4,)),
    pod("x/host", 9, "one", WEB, families=(), host_network=True, app="a")._replace(
        addresses=(parse_address("192.0.2.1"),)),
]  # fmt: skip
WORLD = cluster(
    PODS,
    NODES,
    {"x": {"ns": "x"}, "y": {"team": "x"}},
    policy("x/out", labels(app="b"), egress=[rule(block("10.0.0.0/30")), rule(block("203.0.113.0/24"))]),
    policy("y/in", labels(app="a"), ingress=[rule(block("10.0.0.1/32"))]),
)
ISOLATED = {
    ("egress", Key("x", "b")): ["10.0.0.0/30", "203.0.113.0/24"],
    ("ingress", Key("y", "a")): ["10.0.0.1/32"],
}
OUTSIDE = ("192.0.2.1", "203.0.113.9", "203.0.113.2", "192.0.2.2", "10.0.0.77")
PORTS = [("TCP", 80), ("TCP", 81), ("UDP", 53), ("UDP", 80), ("ICMP", None)]


def selectors(key: str) -> st.SearchStrategy[Json]:
    terms = st.sampled_from(
        [
            *[{"key": key, "operator": one, "values": ["x", "a"]} for one in ("In", "NotIn")],
            *[{"key": key, "operator": one} for one in ("Exists", "DoesNotExist")],
        ]
    )
    return st.fixed_dictionaries(
        {},
        optional={
            "matchLabels": st.dictionaries(st.just(key), st.sampled_from(["x", "a", "b"]), max_size=1),
            "matchExpressions": st.lists(terms, max_size=2),
        },
    )


def pods_of(old: bool) -> st.SearchStrategy[Json]:
    spaces = selectors("ns")
    required = {"podSelector": selectors("app"), **({"namespaceSelector": spaces} if old else {})}
    optional = {} if old else {"namespaceSelector": spaces}
    return st.one_of(
        st.builds(lambda found: {"namespaces": found}, spaces),
        st.builds(lambda found: {"pods": found}, st.fixed_dictionaries(required, optional=optional)),
    )


PORT = st.sampled_from([1, 53, 80, 81, 65535])
OLD_PROTOCOL = st.sampled_from(["TCP", "UDP", "SCTP"])


@st.composite
def port_entries(draw: st.DrawFn, old: bool, named: bool) -> Json:
    how = draw(st.sampled_from(["number", "range", *(["name"] if named else [])]))
    low, high = sorted((draw(PORT), draw(PORT)))
    if low == high:
        how = "number" if how == "range" else how
    if how == "name":
        return {"namedPort" if old else "destinationNamedPort": "web"}
    if old:
        numbers = {"port": low} if how == "number" else {"start": low, "end": high}
        protocol = draw(OLD_PROTOCOL)
        own = {} if protocol == "TCP" and how == "range" and draw(st.booleans()) else {"protocol": protocol}
        return {"portNumber" if how == "number" else "portRange": {**own, **numbers}}
    ports = {"number": low} if how == "number" else {"range": {"start": low, "end": high}}
    return {draw(st.sampled_from(["tcp", "udp", "sctp"])): {"destinationPort": ports}}


@st.composite
def rules(draw: st.DrawFn, kind: str, direction: str) -> Json:
    old = kind != "ClusterNetworkPolicy"
    actions = ["Allow" if old else "Accept", "Deny", *(["Pass"] if kind != "BaselineAdminNetworkPolicy" else [])]
    only_pods = direction == "ingress" or draw(st.booleans())
    peers = pods_of(old)
    if not only_pods:
        blocks = ["10.0.0.0/30", "0.0.0.0/0", "203.0.113.0/24", "10.0.0.3/32", "192.0.2.0/31", "::/0"]
        nets = st.lists(st.sampled_from(blocks), min_size=1, max_size=2, unique=True)
        networks = st.builds(lambda found: {"networks": found}, nets)
        peers = st.one_of(peers, networks, st.builds(lambda found: {"nodes": found}, selectors("ns")))
    found: Json = {"action": draw(st.sampled_from(actions))}
    found["from" if direction == "ingress" else "to"] = draw(st.lists(peers, min_size=1, max_size=2))
    if draw(st.booleans()):
        entries = st.lists(port_entries(old, only_pods), min_size=1, max_size=2)
        found["ports" if old else "protocols"] = draw(entries)
    return found


@st.composite
def manifests(draw: st.DrawFn, kind: str, name: str) -> Json:
    old = kind != "ClusterNetworkPolicy"
    spec: Json = {"subject": draw(pods_of(old))}
    if kind != "BaselineAdminNetworkPolicy":
        spec["priority"] = draw(st.sampled_from([0, 1, 1, 1000]))
    if not old:
        spec["tier"] = draw(st.sampled_from(["Admin", "Baseline"]))
    for direction in ("ingress", "egress"):
        if found := draw(st.lists(rules(kind, direction), max_size=4)):
            spec[direction] = found
    version = "v1alpha1" if old else draw(st.sampled_from(NEW))
    return {"apiVersion": f"{GROUP}/{version}", "kind": kind, "metadata": {"name": name}, "spec": spec}


@st.composite
def all_manifests(draw: st.DrawFn) -> list[Json]:
    found = [draw(manifests("ClusterNetworkPolicy", name)) for name in draw(st.permutations(["a", "b", "z"]))]
    found += [draw(manifests("AdminNetworkPolicy", name)) for name in ("a", "m")[: draw(st.integers(0, 2))]]
    if draw(st.booleans()):
        found.append(draw(manifests("BaselineAdminNetworkPolicy", "default")))
    return found


def read(manifest: Json) -> ClusterPolicy:
    found = parse_object(manifest)
    assert found is not None
    assert isinstance(found.value, ClusterPolicy)
    assert not found.value.errors, found.value.errors
    return found.value


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(all_manifests())
def test_manifests_of_all_versions_allow_what_their_documents_say(found: list[Json]) -> None:
    world = with_cluster_policies(WORLD, *map(read, found))
    targets: list[Pod | str] = [*PODS[:-1], *OUTSIDE]
    for source, target, (protocol, port) in product(PODS[:-1], targets, PORTS):
        name = target if isinstance(target, str) else str(target.key)
        line = f"{source.key} > {name} {protocol}" + (f" {port}" if port else "")
        wanted = opens(world, found, ISOLATED, source, target, protocol, port)
        assert {one.allowed for one in verdicts_of(world, line).values()} == {wanted}, line
    for target, (protocol, port) in product(PODS[:-1], PORTS):
        for address in ("192.0.2.1", "192.0.2.2", "203.0.113.9"):
            line = f"{address} > {target.key} {protocol}" + (f" {port}" if port else "")
            (one,) = verdicts_of(world, line).values()
            own = (address, target.node) in (("192.0.2.1", "one"), ("192.0.2.2", "two"))
            assert one.allowed or not own, line
