"""The worlds that are measured, as API objects: dicts as JSON gives them, the same in every run.

A to E have the shapes of the performance tests of the best comparable product, so that figures can be compared; F is
our own. Objects come in the order namespaces, nodes, pods, policies. Nothing is measured here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

ApiObject = dict[str, Any]
MANY_NODES, FEW_NODES = 500, 20


def world(name: str, scale: float = 1.0) -> list[ApiObject]:
    """The objects of one world. `scale` is the share of its namespaces, or of its pods if it has only one namespace.

    Raises KeyError for a name that is not in WORLDS.
    """
    return list(WORLDS[name](scale))


# -- objects -----------------------------------------------------------------------------------------------------------


def namespace_manifest(name: str, labels: Mapping[str, str] | None = None) -> ApiObject:
    """A Namespace as the API server returns it."""
    every = {**(labels or {}), "kubernetes.io/metadata.name": name}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": every}}


def node_manifest(number: int) -> ApiObject:
    """A Node with an address."""
    address = f"192.168.{number >> 8}.{number & 255}"
    status = {"addresses": [{"type": "InternalIP", "address": address}]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{number}"}, "status": status}


def pod_manifest(space: str, name: str, number: int, nodes: int, labels: Mapping[str, str], **more: Any) -> ApiObject:
    """A running Pod. `number` determines its address and node; `more` can have `ports` and `addresses`."""
    addresses = more.get("addresses") or [ipv4(number)]
    container = {"name": "main", "image": "registry.example/app:1", "ports": more.get("ports", [])}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": space,
            "uid": f"00000000-0000-4000-8000-{number:012x}",
            "labels": dict(labels),
        },
        "spec": {"nodeName": f"node-{number % nodes}", "containers": [container]},
        "status": {"phase": "Running", "podIP": addresses[0], "podIPs": [{"ip": one} for one in addresses]},
    }


def policy_manifest(space: str, name: str, subjects: ApiObject, **spec: Any) -> ApiObject:
    """A NetworkPolicy with the fields of `spec`."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": space},
        "spec": {"podSelector": subjects, **spec},
    }


def ipv4(number: int) -> str:
    """The address of pod `number`, in 10.0.0.0/8."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def ipv6(number: int) -> str:
    """The address of pod `number`, in fd00::/64."""
    return f"fd00::{number >> 16:x}:{number & 0xFFFF:x}"


def label_selector(**labels: str) -> ApiObject:
    """A selector with matchLabels; underscores stand for hyphens."""
    return {"matchLabels": {key.replace("_", "-"): value for key, value in labels.items()}}


def _deny(space: str) -> ApiObject:
    return policy_manifest(space, "default-deny", {}, policyTypes=["Ingress"])


def _among(space: str, name: str, labels: Mapping[str, str]) -> ApiObject:
    """A policy that allows pods with these labels to reach each other."""
    same = {"matchLabels": dict(labels)}
    return policy_manifest(space, name, same, policyTypes=["Ingress"], ingress=[{"from": [{"podSelector": same}]}])


def _count(whole: int, scale: float) -> int:
    return max(1, round(whole * scale))


# -- worlds ------------------------------------------------------------------------------------------------------------


def _small_namespaces(scale: float) -> Iterator[ApiObject]:
    """A: 4 pods and 3 policies in each of 25,000 namespaces."""
    spaces = [f"namespace-{n}" for n in range(_count(25_000, scale))]
    yield from map(namespace_manifest, spaces)
    yield from map(node_manifest, range(MANY_NODES))
    kinds = ({"app-1": "scale-1"}, {"app-2": "scale-2"})
    for n, space in enumerate(spaces):
        for place in range(4):
            yield pod_manifest(space, f"pod-{place}", 4 * n + place, MANY_NODES, kinds[place // 2])
    for space in spaces:
        yield _deny(space)
        yield from (_among(space, f"policy-{place}", kind) for place, kind in enumerate(kinds, 1))


def _large_namespaces(scale: float) -> Iterator[ApiObject]:
    """B: 100 labels of 10 pods, and a policy for each, in each of 100 namespaces."""
    spaces = [f"namespace-{n}" for n in range(_count(100, scale))]
    yield from map(namespace_manifest, spaces)
    yield from map(node_manifest, range(MANY_NODES))
    kinds = [{f"app-{n}": f"scale-{n}"} for n in range(100)]
    for n, space in enumerate(spaces):
        for place in range(1000):
            yield pod_manifest(space, f"pod-{place}", 1000 * n + place, MANY_NODES, kinds[place // 10])
    for space in spaces:
        yield _deny(space)
        yield from (_among(space, f"policy-{place}", kind) for place, kind in enumerate(kinds))


def _one_namespace(scale: float) -> Iterator[ApiObject]:
    """C: 10,000 pods with one label and 10,000 policies, each of which selects all and lets all in."""
    count = _count(10_000, scale)
    yield namespace_manifest("all")
    yield from map(node_manifest, range(FEW_NODES))
    label = {"app-1": "scale-1"}
    yield from (pod_manifest("all", f"pod-{n}", n, FEW_NODES, label) for n in range(count))
    yield from (_among("all", f"policy-{n}", label) for n in range(count))


def _pairs(scale: float) -> Iterator[ApiObject]:
    """D: 5,000 pairs, each pod with a label and a policy of its own that lets its partner in."""
    count = 2 * _count(5_000, scale)
    yield namespace_manifest("pairs")
    yield from map(node_manifest, range(FEW_NODES))
    yield from (pod_manifest("pairs", f"pod-{n}", n, FEW_NODES, {f"app-{n}": f"scale-{n}"}) for n in range(count))
    for n in range(count):
        partner = n ^ 1
        peer = {"podSelector": {"matchLabels": {f"app-{partner}": f"scale-{partner}"}}}
        subject = {"matchLabels": {f"app-{n}": f"scale-{n}"}}
        yield policy_manifest("pairs", f"policy-{n}", subject, policyTypes=["Ingress"], ingress=[{"from": [peer]}])


def _across_namespaces(scale: float) -> Iterator[ApiObject]:
    """E: 10 companies' namespaces each, 100 pods of 10 labels in one; ingress from the label in all of the company."""
    spaces = [(f"namespace-{n}", f"company-{n // 10}") for n in range(_count(1_000, scale))]
    yield from (namespace_manifest(space, {"company": company}) for space, company in spaces)
    yield from map(node_manifest, range(MANY_NODES))
    for n, (space, _) in enumerate(spaces):
        for place in range(100):
            yield pod_manifest(space, f"pod-{place}", 100 * n + place, MANY_NODES, {"app": f"app-{place % 10}"})
    for space, company in spaces:
        for place in range(10):
            same = label_selector(app=f"app-{place}")
            peer = {"namespaceSelector": label_selector(company=company), "podSelector": same}
            yield policy_manifest(space, f"policy-{place}", same, policyTypes=["Ingress"], ingress=[{"from": [peer]}])


def _mixed(scale: float) -> Iterator[ApiObject]:
    """F: dual stack, both directions, ipBlocks with exceptions, named ports, ranges, expressions; 15% of the pods are
    churned: finished, or without an address yet. A team has 50 namespaces at any size."""
    chance = random.Random(20)
    spaces = [f"namespace-{n}" for n in range(_count(2_000, scale))]
    yield from (
        namespace_manifest(space, {"team": f"team-{n // 50}", "stage": f"stage-{n % 3}"})
        for n, space in enumerate(spaces)
    )
    yield from map(node_manifest, range(MANY_NODES))
    for n in range(25 * len(spaces)):
        labels = {"app": f"app-{n % 7}", "tier": f"tier-{n % 3}", "release": f"r{n % 11}"}
        ports = [
            {"name": "web", "containerPort": 8000 + n % 3},
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
        ]
        made = pod_manifest(
            spaces[n % len(spaces)], f"pod-{n}", n, MANY_NODES, labels, ports=ports, addresses=[ipv4(n), ipv6(n)]
        )
        dice = chance.random()
        if dice < 0.10:
            made["status"] = {"phase": "Succeeded"}
        elif dice < 0.15:
            made["status"] = {"phase": "Pending"}
        yield made
    for n in range(4 * len(spaces)):
        yield _mixed_policy(spaces[n % len(spaces)], n, n % len(spaces) // 50)


def _mixed_policy(space: str, n: int, team: int) -> ApiObject:
    several = {"matchExpressions": [{"key": "app", "operator": "In", "values": [f"app-{n % 7}", f"app-{(n + 1) % 7}"]}]}
    others = {"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": [f"tier-{n % 3}"]}]}
    block = {"ipBlock": {"cidr": f"172.{16 + n % 16}.0.0/16", "except": [f"172.{16 + n % 16}.{n % 250}.0/24"]}}
    block6 = {"ipBlock": {"cidr": "2001:db8::/32", "except": [f"2001:db8:{n % 4096:x}::/48"]}}
    mates = {
        "namespaceSelector": label_selector(team=f"team-{team}"),
        "podSelector": label_selector(app=f"app-{n % 7}"),
    }
    spread = {"protocol": "TCP", "port": 1000 + n % 100, "endPort": 2000 + n % 100}
    if n % 4 == 0:
        rules: ApiObject = {"ingress": [{"from": [{"podSelector": others}, block], "ports": [{"port": "web"}]}]}
    elif n % 4 == 1:
        rules = {"policyTypes": ["Egress"], "egress": [{"to": [block, block6], "ports": [spread]}]}
    elif n % 4 == 2:
        rules = {
            "ingress": [{"from": [mates], "ports": [{"port": 80}, spread]}],
            "egress": [{"to": [{"podSelector": {}}]}],
        }
    else:
        rules = {"policyTypes": ["Egress"], "egress": [{"to": [mates], "ports": [{"protocol": "UDP", "port": "dns"}]}]}
    return policy_manifest(space, f"policy-{n}", several, **rules)


WORLDS: Mapping[str, Callable[[float], Iterator[ApiObject]]] = {
    "A": _small_namespaces,
    "B": _large_namespaces,
    "C": _one_namespace,
    "D": _pairs,
    "E": _across_namespaces,
    "F": _mixed,
}
