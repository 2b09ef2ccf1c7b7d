"""The nodes of a network in which switches route, as `/status` shows them: what each has and lacks, and the remedy.

Read from the reconciler. In a flat network there is nothing to show.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from controller.reconcile.reconciler import Reconciler
from controller.status.model import NO_CONNECTION, NodeView
from flows.bridge.binding import tunnel_of
from flows.bridge.claim_contest import BridgeName
from flows.bridge.network import REVISION_KEY
from flows.bridge.routing import NetworkMode, RoutedNode
from flows.bridge.state import BridgeState

NO_SWITCH = "no Open vSwitch of this node is known: run deploy/node.sh --cni --name {} there"
NOT_SERVED = "its switch is not served: see headgate status --switches"
NOT_SET_UP = "its Open vSwitch has no sign of the node's own program: run deploy/node.sh --cni there, which installs it"
OLD_SETTINGS = "the node has not applied its newest settings yet; if this lasts, run headgate-node apply there"
NO_TUNNEL_PORT = (
    "its switch has no port for tunnels yet; if this lasts, see there: ovs-vsctl get Interface headgate-tun error"
)


def bridges_by_node(bridges: Iterable[tuple[BridgeName, BridgeState]]) -> Mapping[str, Sequence[BridgeName]]:
    """The bridges of each node."""
    found: dict[str, list[BridgeName]] = defaultdict(list)
    for name, bridge in bridges:
        found[bridge.node].append(name)
    return found


def node_view(reconciler: Reconciler, node: RoutedNode, bridges: Sequence[BridgeName]) -> NodeView:
    """One node; `bridges` are those that say they are its own."""
    bridge = _served(reconciler, bridges)
    missing = tuple(_missing(reconciler, node, bridge, bridges))
    return NodeView(
        node=node.name,
        mode=str(reconciler.world.network.mode),
        bridge=bridge.name if bridge is not None else "",
        tunnel_end=str(node.tunnel_end or ""),
        pod_cidrs=tuple(map(str, node.pod_cidrs)),
        addresses=tuple(map(str, node.addresses)),
        ready=not missing,
        missing=missing,
    )


def lacking(reconciler: Reconciler) -> dict[str, tuple[str, ...]]:
    """What every node lacks, by name; () for a node that is ready. Costs as much as there are nodes and bridges."""
    world = reconciler.world
    nodes = world.network.routed_nodes()
    bridges = bridges_by_node(world.bridges.items()) if nodes else {}
    found = {}
    for node in nodes:
        own = bridges.get(node.name, ())
        found[node.name] = tuple(_missing(reconciler, node, _served(reconciler, own), own))
    return found


def _served(reconciler: Reconciler, bridges: Sequence[BridgeName]) -> BridgeState | None:
    """The bridge of a node that is served, None if there is none."""
    world = reconciler.world
    served = (name for name in sorted(bridges) if name in world.bridges and not world.refusal(name))
    return world.bridges.get(next(served, ("", "")))


def _missing(
    reconciler: Reconciler, node: RoutedNode, bridge: BridgeState | None, bridges: Sequence[BridgeName]
) -> Iterator[str]:
    world = reconciler.world
    yield from world.network.problems_of(node.name)
    if bridge is not None:
        yield from _missing_on_bridge(reconciler, bridge)
    else:
        there = any(name in world.bridges for name in bridges)
        yield NOT_SERVED if there else NO_SWITCH.format(node.name)


def _missing_on_bridge(reconciler: Reconciler, bridge: BridgeState) -> Iterator[str]:
    network = reconciler.world.network
    switch = reconciler.switch_of((bridge.ovsdb, bridge.name))
    if switch is None or switch.session is None:
        yield NO_CONNECTION
    if network.mode is NetworkMode.OVERLAY and tunnel_of(bridge) is None:
        yield NO_TUNNEL_PORT
    if bridge.node_missing:
        yield f"the node says: {bridge.node_missing}"
    elif not bridge.node_revision:
        yield NOT_SET_UP
    elif bridge.node_revision != network.network_of(bridge).external_ids.get(REVISION_KEY):
        yield OLD_SETTINGS
