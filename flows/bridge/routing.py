"""What a bridge must know to route: the mode of the network, and the pod ranges and addresses of all nodes.

Only values live here. `flows.plan.cluster_network` fills them from Node objects and options; `reader` puts them into
the binding; `flows.render.routing` makes flows of them.

Example. Nodes a and b have pod ranges 10.244.1.0/24 and 10.244.2.0/24. The bridge of a has `Routing(OVERLAY, node="a",
nodes=(a, b))`: what goes to 10.244.2.0/24 is sent through the tunnel to `tunnel_end` of b, and taken from there only.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

from flows.cluster.net import Net

# The interface of the bridge that all tunnels go through; the controller creates it.
TUNNEL_INTERFACE = "headgate-tun"


class NetworkMode(enum.StrEnum):
    """How pods of different nodes reach each other."""

    FLAT = "flat"  # one link: bridges forward by MAC address to an uplink
    ROUTED = "routed"  # the switch routes; what is for no pod here goes to the node, which routes on
    OVERLAY = "overlay"  # the same, and what is for another node's pods or the node goes through a tunnel


class RoutedNode(NamedTuple):
    """One node as the others reach it.

    `tunnel_end` is the address to which its packets are tunneled, of either family, None while it has none (and in mode
    `routed`). `addresses` are its InternalIPs.
    """

    name: str
    tunnel_end: Net | None = None
    pod_cidrs: tuple[Net, ...] = ()
    addresses: tuple[Net, ...] = ()

    @property
    def nets(self) -> tuple[Net, ...]:
        """All that is reached through the node: the ranges of its pods, and its own addresses."""
        return (*self.pod_cidrs, *self.addresses)


@dataclass(frozen=True, slots=True)
class Routing:
    """What the flows of one bridge depend on beside its ports.

    `node` is the name of the bridge's own node, "" while it is not known. `nodes` are all nodes of the cluster, its own
    too, sorted by name, as `flows.bridge.node_claims` decides: all bridges share one tuple. `service_cidrs` are the
    ranges of ClusterIPs.
    """

    mode: NetworkMode = NetworkMode.FLAT
    node: str = ""
    nodes: tuple[RoutedNode, ...] = ()
    service_cidrs: tuple[Net, ...] = ()

    @property
    def routes(self) -> bool:
        """Whether the switch routes; in mode `flat` it does not."""
        return self.mode is not NetworkMode.FLAT

    @property
    def own(self) -> RoutedNode | None:
        """The bridge's own node; None where the cluster has no Node of this name."""
        place = bisect_left(self.nodes, self.node, key=attrgetter("name"))
        found = self.nodes[place] if place < len(self.nodes) else None
        return found if found is not None and found.name == self.node else None

    @property
    def remotes(self) -> dict[str, RoutedNode]:
        """The nodes that are reached through a tunnel, by name."""
        return {one.name: one for one in self.nodes if self.is_remote(one)}

    def is_remote(self, node: RoutedNode) -> bool:
        """Whether a node is reached through a tunnel. None is in other modes than `overlay`, and none while the
        bridge's own node is not known: it might be itself."""
        overlay = self.mode is NetworkMode.OVERLAY and self.node != ""
        return overlay and node.tunnel_end is not None and node.name != self.node


FLAT = Routing()


class NodeDifference(NamedTuple):
    """The nodes of one tuple that are not in an earlier one: `gone` by name, and `came`, which are new or differ."""

    gone: tuple[str, ...]
    came: tuple[RoutedNode, ...]


class NodeDifferences:
    """The difference of two tuples of nodes. The last one is kept: all bridges go from the same tuple to the same one,
    so a change of nodes costs one walk over them, and not one for each bridge."""

    def __init__(self) -> None:
        self._asked: tuple[tuple[RoutedNode, ...], tuple[RoutedNode, ...]] = ((), ())
        self._found = NodeDifference((), ())

    def between(self, old: tuple[RoutedNode, ...], new: tuple[RoutedNode, ...]) -> NodeDifference:
        """What came and went from `old` to `new`."""
        if old is not self._asked[0] or new is not self._asked[1]:
            before, now = ({one.name: one for one in nodes} for nodes in (old, new))
            gone = tuple([name for name in before if name not in now])
            came = tuple([one for name, one in now.items() if before.get(name) != one])
            self._asked, self._found = (old, new), NodeDifference(gone, came)
        return self._found
