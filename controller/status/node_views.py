"""The nodes of a network in which switches route, as `/status` shows them: what each has and lacks, and the remedy.

Read from the reconciler. In a flat network there is nothing to show.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from controller.reconcile.reconciler import Reconciler
from controller.status.model import NodeView
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
    world = reconciler.world
    there = [name for name in sorted(bridges) if name in world.bridges]
    served = next((name for name in there if not world.refusal(name)), None)
    bridge = world.bridges[served] if served is not None else None
    missing = list(world.network.problems_of(node.name))
    if bridge is not None:
        missing += _missing(reconciler, bridge)
    else:
        missing.append(NOT_SERVED if there else NO_SWITCH.format(node.name))
    return NodeView(
        node=node.name,
        mode=str(world.network.mode),
        bridge=bridge.name if bridge is not None else "",
        tunnel_end=str(node.tunnel_end or ""),
        pod_cidrs=tuple(map(str, node.pod_cidrs)),
        addresses=tuple(map(str, node.addresses)),
        ready=not missing,
        missing=tuple(missing),
    )


def _missing(reconciler: Reconciler, bridge: BridgeState) -> Iterator[str]:
    network = reconciler.world.network
    if network.mode is NetworkMode.OVERLAY and tunnel_of(bridge) is None:
        yield NO_TUNNEL_PORT
    if bridge.node_missing:
        yield f"the node says: {bridge.node_missing}"
    elif not bridge.node_revision:
        yield NOT_SET_UP
    elif bridge.node_revision != network.network_of(bridge).external_ids.get(REVISION_KEY):
        yield OLD_SETTINGS
