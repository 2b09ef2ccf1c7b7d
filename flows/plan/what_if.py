"""How many flows of each switch a change of the cluster changes, by a world of its own.

Where a cluster was read offline there are no bridges; then each node has one with a port for each of its pods, as it
would have: what policy and pods need is the same on every bridge.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from flows.bridge.network import FLAT_NETWORK, NetworkOptions
from flows.bridge.state import BridgeState, InterfaceState
from flows.cluster.model import Cluster, Key
from flows.plan.part_of_cluster import contested_by_leaving, names_any, parts_on, with_nodes_of_unplaced
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
    """The bridges whose flows differ. `nodes` says that only NetworkPolicies differ and only flows of these nodes can:
    then all others are left out, and so is what cannot matter to these. Bridges of others that decide who has an
    address of a terminating pod are not."""
    if nodes is None:
        bridges = made_up_bridges(before, after) if bridges is None else list(bridges)
    else:
        contested = contested_by_leaving(before)
        if bridges is None:
            bridges = made_up_bridges(before, after, nodes={*nodes, *(before.pods[key].node for key in contested)})
        else:
            bridges = list(bridges)
            nodes = with_nodes_of_unplaced(before, nodes, bridges)
        bridges = [state for state in bridges if state.node in nodes or names_any(state, contested)]
        before, after = parts_on((before, after), nodes, bridges)
    world = World(network)
    for state in bridges:
        world.set_bridge(state)
    world.set_cluster(before)
    world.update_plans()
    world.set_cluster(after)
    found = []
    for name, old in world.update_plans().items():
        if nodes is not None and world.bridges[name].node not in nodes:
            continue
        plan = world.plan_of(name)
        flows = plan.flows if plan is not None else {}
        added = sum(body is None and key in flows for key, body in old.items())
        removed = sum(body is not None and key not in flows for key, body in old.items())
        changed = sum(body is not None and key in flows and flows[key] != body for key, body in old.items())
        if added or removed or changed:
            found.append(FlowChange(world.bridges[name].node, name[1], added, removed, changed))
    return sorted(found)


def made_up_bridges(*clusters: Cluster, nodes: Collection[str] | None = None) -> list[BridgeState]:
    """A bridge for each node, or for each of `nodes`, that has pods in one of the snapshots, with ports for them."""
    pods: dict[str, dict[Key, None]] = {}
    for by_key in {id(cluster.pods): cluster.pods for cluster in clusters}.values():
        for pod in by_key.values():
            if pod.node and (nodes is None or pod.node in nodes) and pod.networked:
                pods.setdefault(pod.node, {})[pod.key] = None
    found = []
    for number, (node, keys) in enumerate(sorted(pods.items()), 1):
        ports = tuple(map(_port, range(1, len(keys) + 1), keys))
        found.append(BridgeState(f"offline-{number}", "br-int", number, node, "", "", "", ports))
    return found


def _port(number: int, key: Key) -> InterfaceState:
    mac = f"0a:48:{number >> 24 & 255:02x}:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
    return InterfaceState(str(key), f"p{number}", number, "", {"iface-id": str(key), "attached-mac": mac})
