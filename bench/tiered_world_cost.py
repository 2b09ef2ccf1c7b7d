"""Measures world A with 50 Admin policies on all pods against world A without them, both in one run, in turns."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from bench.compile_cost import parsed
from bench.plan_cost import bridges, flow_count, planned
from bench.result import Result, cpu, quantile
from bench.worlds import world
from flows.bridge.external_ids import pod_of_interface
from flows.cluster.model import Cluster, Key
from flows.plan.world import World

POLICIES = 50
BRIDGES = 20  # that are planned
ROUNDS = 60
BAR = 1.3
PLAIN, TIERED = "without them", "with them"


def measure_tiered_world(scale: float) -> list[Result]:
    """First plans, a pod and a policy that change: CPU with the policies, and without them as the reference."""
    objects = world("A", scale)
    clusters = {PLAIN: parsed(list(objects)), TIERED: parsed([*objects, *map(policy, range(POLICIES))])}
    states = bridges(clusters[PLAIN])[:BRIDGES]
    gc.collect()
    gc.freeze()
    gc.disable()  # as `headgate run` does while it reads a large source
    worlds: dict[str, World] = {}
    first: dict[str, list[float]] = {PLAIN: [], TIERED: []}
    for _ in range(3):
        for kind, cluster in clusters.items():
            worlds[kind], seconds, _ = cpu(lambda cluster=cluster: planned(cluster, states))  # type: ignore[misc]  # bound at once
            first[kind].append(seconds)
    flows = {
        f"flows, {len(states)} bridges": float(flow_count(worlds[TIERED])),
        PLAIN: float(flow_count(worlds[PLAIN])),
    }
    keys = [key for state in states for one in state.interfaces[:2] if (key := pod_of_interface(one.external_ids))]
    changes: dict[str, dict[str, list[float]]] = {}
    for number in range(ROUNDS):
        for kind, cluster in clusters.items():
            for what, seconds in _changes(worlds[kind], cluster, keys[number % len(keys)], number):
                changes.setdefault(what, {PLAIN: [], TIERED: []})[kind].append(seconds * 1e3)
    label = f"world A with {POLICIES} Admin policies on all pods"
    return [
        _ratio(f"{label}: first plans", "s CPU", min(first[TIERED]), min(first[PLAIN]), flows),
        *[
            _ratio(f"{label}: {what}, p50", "ms CPU", quantile(times[TIERED], 0.5), quantile(times[PLAIN], 0.5))
            for what, times in changes.items()
        ],
    ]


def _ratio(
    name: str, unit: str, value: float, without: float, more: Mapping[str, float] = MappingProxyType({})
) -> Result:
    """The bar is a ratio, whatever the size."""
    return Result(name, value, unit, BAR * without, None, PLAIN, without, more={**more})


def _changes(made: World, cluster: Cluster, key: Key, number: int) -> Iterator[tuple[str, float]]:
    """A pod gets another label and its own again, and a NetworkPolicy of its namespace changes and is as before."""
    pod = cluster.pods[key]
    for one in (pod._replace(labels={"app-1": f"other-{number}"}, uid="other"), pod):
        yield "pod relabelled", _update(made, replace(cluster, pods={**cluster.pods, key: one}), "Pod", key)
    name = next(one for one in cluster.policies if one.namespace == key.namespace)
    rule = cluster.policies[name]
    for changed in (rule._replace(isolates=frozenset(), ingress=()), rule):
        after = replace(cluster, policies={**cluster.policies, name: changed})
        yield "NetworkPolicy changed", _update(made, after, "NetworkPolicy", name)


def _update(made: World, cluster: Cluster, kind: str, key: Key) -> float:
    def work() -> None:
        made.set_cluster(cluster, [(kind, key)])
        made.update_plans()

    return cpu(work)[1]


def policy(number: int) -> dict[str, Any]:
    """An Admin policy on all pods: one namespace may reach them, one network may not be reached, one is passed on."""
    names = [{"matchLabels": {"kubernetes.io/metadata.name": f"namespace-{n}"}} for n in (number, number + POLICIES)]
    spec = {
        "tier": "Admin",
        "priority": number,
        "subject": {"namespaces": {}},
        "ingress": [{"action": "Accept", "from": [{"namespaces": names[0]}]}],
        "egress": [
            {"action": "Pass", "to": [{"namespaces": names[1]}]},
            {"action": "Deny", "to": [{"networks": [f"203.0.113.{number}/32"]}]},
        ],
    }
    return {
        "apiVersion": "policy.networking.k8s.io/v1beta1",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": f"everywhere-{number:02}"},
        "spec": spec,
    }
