"""The network of the cluster, kept as nodes change: what every bridge must know to route, and what its node must.

Which node has which ranges is decided in `flows.bridge.node_claims`. In mode `flat` nothing is kept here.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from flows.bridge.network import NetworkOptions, NodeNetwork, cluster_cidrs, node_network
from flows.bridge.node_claims import NodeClaims, ReservedNet
from flows.bridge.routing import FLAT, NetworkMode, RoutedNode, Routing
from flows.bridge.state import BridgeState
from flows.cluster.model import Cluster, Node
from flows.cluster.net import Net

NO_SERVICE_RANGE = (
    "the range of Services is not known: this API server has no ServiceCIDR objects; say it with --service-cidr"
)
# Link-local addresses are each link's own, and some of them Headgate's; fd00:4847::/64 is Headgate's.
_RESERVED = tuple(
    ReservedNet(net, owner)
    for net, owner in (
        (Net(4, 0xA9FE0000, 16), "every link"),
        (Net(6, 0xFE80 << 112, 10), "every link"),
        (Net(6, 0xFD004847 << 96, 64), "Headgate"),
    )
)


class ClusterNetwork:
    """What follows from the options and the Node objects. `changed` is set when the routing of any bridge may differ;
    the caller clears it."""

    def __init__(self, options: NetworkOptions) -> None:
        self.options = options
        self.changed = False
        self._nodes: dict[str, Node] = {}
        self._service_cidrs = options.service_cidrs
        self._claims = self._new_claims()
        self._clusters: tuple[Routing | None, tuple[Net, ...]] = (None, ())

    @property
    def mode(self) -> NetworkMode:
        """The mode of the network."""
        return self.options.mode

    @property
    def routes(self) -> bool:
        """Whether switches route; in mode `flat` they do not."""
        return self.mode is not NetworkMode.FLAT

    def load(self, cluster: Cluster) -> None:
        """Take all objects of a snapshot."""
        if self.routes:
            self._nodes = dict(cluster.nodes)
            self._claims = self._new_claims()
            for node in self._nodes.values():
                self._claims.put(node)
            self.changed = True

    def set_node(self, name: str, node: object) -> None:
        """A Node came or changed, or is gone (None)."""
        if not self.routes:
            return
        if isinstance(node, Node):
            self._nodes[name] = node
            self._claims.put(node)
        else:
            self._nodes.pop(name, None)
            self._claims.remove(name)
        self.changed = True

    def _new_claims(self) -> NodeClaims:
        services = (ReservedNet(net, "the Services") for net in self._service_cidrs)
        reserved: Iterable[ReservedNet] = chain(_RESERVED, services)
        return NodeClaims(self.mode, self.options.pod_cidrs, reserved)

    # -- what follows ------------------------------------------------------------------------------------------------

    def routing_of(self, bridge: BridgeState) -> Routing:
        """What a bridge must know to route. All bridges share one tuple of nodes."""
        if not self.routes:
            return FLAT
        found = Routing(self.mode, bridge.node, self._claims.routed(), self._service_cidrs)
        return bridge.routing if bridge.routing == found else found

    def routed_nodes(self) -> tuple[RoutedNode, ...]:
        """All nodes with the ranges and addresses that they have."""
        return self._claims.routed()

    def network_of(self, bridge: BridgeState) -> NodeNetwork:
        """The settings that a bridge must have in its OVSDB."""
        before, clusters = self._clusters
        if before is None or before.nodes is not bridge.routing.nodes:
            clusters = cluster_cidrs(self.options, bridge.routing)
            self._clusters = bridge.routing, clusters
        return node_network(self.options, bridge.routing, clusters)

    def problems_of(self, node: str) -> tuple[str, ...]:
        """Why a node does not have all that it claims, or cannot be reached."""
        if not self.routes:
            return ()
        services = () if self._service_cidrs else (NO_SERVICE_RANGE,)
        return (*self._claims.problems(node), *services)
