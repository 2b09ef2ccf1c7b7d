"""Measures ClusterNetworkPolicies: 1,000 of 25 rules over 10,000 pods → rules, the flows of a node, and one change."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

from bench.compile_cost import compiled, parsed
from bench.plan_cost import bridges, flow_count, planned
from bench.result import Result, cpu, memory, most_memory
from flows.cluster.model import CLUSTER_NETWORK_POLICY

POLICIES, RULES, PODS, NAMESPACES, NODES = 1000, 25, 10_000, 100, 100
ACTIONS = ("Deny", "Accept", "Pass")


def objects(scale: float) -> list[dict[str, Any]]:
    """The API objects: every policy selects the pods of one namespace, and names pods of others in its rules."""
    found: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"n{n}", "labels": {"team": f"t{n}"}}}
        for n in range(NAMESPACES)
    ]
    found += [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{n}"}} for n in range(NODES)]
    found += [_pod(number) for number in range(int(PODS * scale))]
    return found + [policy(number) for number in range(int(POLICIES * scale))]


def _pod(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": f"n{number % NAMESPACES}",
            "name": f"p{number}",
            "labels": {"app": f"a{number // NAMESPACES % 10}"},
        },
        "spec": {"nodeName": f"node-{number % NODES}"},
        "status": {"podIPs": [{"ip": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"}], "phase": "Running"},
    }


def policy(number: int, port: int = 80) -> dict[str, Any]:
    """One policy; its rules name this port and those above it."""
    rules = [
        {
            "name": f"r{rule}",
            "action": ACTIONS[(number + rule) % 3],
            "from": [
                {
                    "pods": {
                        "namespaceSelector": {"matchLabels": {"team": f"t{(number + rule) % NAMESPACES}"}},
                        "podSelector": {"matchLabels": {"app": f"a{rule % 10}"}},
                    }
                }
            ],
            "protocols": [{"tcp": {"destinationPort": {"number": port + rule}}}],
        }
        for rule in range(RULES)
    ]
    return {
        "apiVersion": "policy.networking.k8s.io/v1beta1",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": f"policy-{number}"},
        "spec": {
            "tier": "Admin" if number % 2 else "Baseline",
            "priority": number,
            "subject": {"namespaces": {"matchLabels": {"team": f"t{number % NAMESPACES}"}}},
            "ingress": rules,
        },
    }


def measure_tiers(scale: float) -> list[Result]:
    """Objects → rules, memory, the rules and flows of one node, and a change of one policy."""
    empty = memory()
    raw = objects(scale)
    gc.collect()
    gc.freeze()
    gc.disable()  # as `headgate run` does while it reads a large source
    cluster, parsing, _ = cpu(lambda: parsed(raw))
    (engine, settled, nodes), compiling, _ = cpu(lambda: compiled(cluster))
    whole = scale == 1
    megabytes = most_memory()
    del engine, nodes
    gc.enable()
    made = planned(cluster, bridges(cluster, "node-1", 100))
    (changed,) = parsed([policy(1, 8000)]).cluster_policies.values()
    objects_now = {**cluster.cluster_policies, changed.key: changed}
    after = replace(cluster, cluster_policies=objects_now)

    def change() -> int:
        made.set_cluster(after, [(CLUSTER_NETWORK_POLICY, changed.key)])
        return sum(map(len, made.update_plans().values()))

    flows = flow_count(made)
    changed_flows, changing, _ = cpu(change)
    more: dict[str, float | str] = {"parsing": parsing, "compiling": compiling, "rules": len(settled.rules)}
    label = "1,000 ClusterNetworkPolicies of 25 rules"
    return [
        Result(f"{label}: objects → rules", parsing + compiling, "s CPU", 3.0 if whole else None, None, more=more),
        Result(f"{label}: memory", megabytes, "MB", 500 if whole else None, None, more={"of which Python": empty}),
        Result(f"{label}: one changes", changing * 1000, "ms CPU", 20 if whole else None, None,
               more={"flows that differ": changed_flows, "flows of the node": flows}),
    ]  # fmt: skip
