"""How many flows of each switch a change of the cluster changes, by a world of its own.

Where a cluster was read offline there are no bridges; then each node has one with a port for each of its pods, as it
would have: what policy and pods need is the same on every bridge.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import NamedTuple

from flows.bridge.network import FLAT_NETWORK, NetworkOptions
from flows.bridge.state import BridgeState, InterfaceState
from flows.cluster.model import Cluster, Key, Labels
from flows.cluster.selectors import matches
from flows.plan.world import World


class FlowChange(NamedTuple):
    """The flows that a bridge gets, loses, and has with other actions."""

    node: str
    bridge: str
    added: int
    removed: int
    changed: int


def flow_changes(
    before: Cluster,
    after: Cluster,
    bridges: Iterable[BridgeState] | None = None,
    network: NetworkOptions = FLAT_NETWORK,
    nodes: Collection[str] | None = None,
) -> list[FlowChange]:
    """The bridges whose flows differ. `nodes` says that only their flows can: then all others are left out, and so are
    the policies that select no pod there."""
    world = World(network)
    for state in made_up_bridges(before, after) if bridges is None else bridges:
        if nodes is None or state.node in nodes:
            world.set_bridge(state)
    if nodes is not None:
        before, after = (_only_policies_on(cluster, nodes) for cluster in (before, after))
    world.set_cluster(before)
    world.update_plans()
    world.set_cluster(after)
    found = []
    for name, old in world.update_plans().items():
        plan = world.plan_of(name)
        flows = plan.flows if plan is not None else {}
        added = sum(body is None and key in flows for key, body in old.items())
        removed = sum(body is not None and key not in flows for key, body in old.items())
        changed = sum(body is not None and key in flows and flows[key] != body for key, body in old.items())
        if added or removed or changed:
            found.append(FlowChange(world.bridges[name].node, name[1], added, removed, changed))
    return sorted(found)


def _only_policies_on(cluster: Cluster, nodes: Collection[str]) -> Cluster:
    labels: dict[str, set[int]] = {}
    shared: dict[int, Labels] = {}
    for pod in cluster.pods.values():
        if pod.node in nodes:
            labels.setdefault(pod.key.namespace, set()).add(id(pod.labels))
            shared[id(pod.labels)] = pod.labels
    policies = {
        key: policy
        for key, policy in cluster.policies.items()
        if any(matches(policy.subjects, shared[one]) for one in labels.get(key.namespace, ()))
    }
    return replace(cluster, policies=policies)


def made_up_bridges(*clusters: Cluster) -> list[BridgeState]:
    """A bridge for each node that has pods in one of the snapshots, with ports for them."""
    pods: dict[str, dict[Key, None]] = {}
    for cluster in clusters:
        for pod in cluster.pods.values():
            if pod.networked and pod.node:
                pods.setdefault(pod.node, {})[pod.key] = None
    found = []
    for number, (node, keys) in enumerate(sorted(pods.items()), 1):
        ports = tuple(map(_port, range(1, len(keys) + 1), keys))
        found.append(BridgeState(f"offline-{number}", "br-int", number, node, "", "", "", ports))
    return found


def _port(number: int, key: Key) -> InterfaceState:
    mac = f"0a:48:{number >> 24 & 255:02x}:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
    return InterfaceState(str(key), f"p{number}", number, "", {"iface-id": str(key), "attached-mac": mac})
