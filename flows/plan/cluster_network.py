"""The network of the cluster, kept as nodes change: what every bridge must know to route, and what its node must.

Which node has which ranges is decided in `flows.bridge.node_claims`. In mode `flat` nothing is kept here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import chain
from typing import NamedTuple

from flows.bridge.network import NetworkOptions, NodeNetwork, cluster_cidrs, node_network
from flows.bridge.node_claims import NodeClaims, ReservedNet
from flows.bridge.routing import FLAT, NetworkMode, RoutedNode, Routing
from flows.bridge.state import BridgeState
from flows.cluster.model import Cluster, Key, Node, Service, ServiceCidr
from flows.cluster.net import Net, collapse, parse_address

API_SERVICE = Key("default", "kubernetes")  # the API server's own Service
MAX_SERVICE_CIDRS = 32  # of all ServiceCIDR objects together
NO_SERVICE_RANGE = (
    "the range of Services is not known: this API server has no ServiceCIDR objects; say it with --service-cidr"
)
MANY_SERVICE_RANGES = "there are more than {} ranges of Services; the others are not routed"
# Link-local addresses are each link's own, and some of them Headgate's; fd00:4847::/64 is Headgate's.
_RESERVED = tuple(
    ReservedNet(net, owner)
    for net, owner in (
        (Net(4, 0xA9FE0000, 16), "every link"),
        (Net(6, 0xFE80 << 112, 10), "every link"),
        (Net(6, 0xFD004847 << 96, 64), "Headgate"),
    )
)


class _Settings(NamedTuple):
    """The settings of a node's bridge, and what they were made of."""

    own: RoutedNode
    service_cidrs: tuple[Net, ...]
    clusters: tuple[Net, ...]
    made: NodeNetwork


class ClusterNetwork:
    """What follows from the options and the Node objects. `changed` is set when the routing of any bridge may differ;
    the caller clears it."""

    def __init__(self, options: NetworkOptions) -> None:
        self.options = options
        self.changed = False
        self._nodes: dict[str, Node] = {}
        self._service_ranges: dict[str, ServiceCidr] = {}
        self._api_addresses: tuple[Net, ...] = ()
        self._service_cidrs = options.service_cidrs
        self._claims = self._new_claims()
        self._clusters: tuple[Routing | None, tuple[Net, ...]] = (None, ())
        self._settings: dict[str, _Settings] = {}  # by node

    @property
    def mode(self) -> NetworkMode:
        """The mode of the network."""
        return self.options.mode

    @property
    def routes(self) -> bool:
        """Whether switches route; in mode `flat` they do not."""
        return self.mode is not NetworkMode.FLAT

    @property
    def service_cidrs(self) -> tuple[Net, ...]:
        """The ranges of Services."""
        return self._service_cidrs

    def load(self, cluster: Cluster) -> None:
        """Take all objects of a snapshot."""
        if self.routes:
            self._nodes = dict(cluster.nodes)
            self._settings.clear()
            self._service_ranges = dict(cluster.service_cidrs)
            self._api_addresses = _cluster_ips(cluster.services.get(API_SERVICE))
            self._service_cidrs = self._find_service_cidrs()
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
            self._settings.pop(name, None)
            self._claims.remove(name)
        self.changed = True

    def set_service_object(self, kind: str, key: Key | str, value: object) -> None:
        """A Service or ServiceCIDR came or changed, or is gone (None)."""
        if not self.routes:
            return
        if kind == "ServiceCIDR" and isinstance(key, str):
            self._service_ranges.pop(key, None)
            if isinstance(value, ServiceCidr):
                self._service_ranges[key] = value
        elif (kind, key) == ("Service", API_SERVICE):
            self._api_addresses = _cluster_ips(value)
        else:
            return
        found = self._find_service_cidrs()
        if found != self._service_cidrs:
            self._service_cidrs = found
            self._claims = self._new_claims()
            for node in self._nodes.values():
                self._claims.put(node)
            self.changed = True

    def _find_service_cidrs(self) -> tuple[Net, ...]:
        """The ranges of Services: what the operator says, else the API, else the address of the API server alone."""
        if self.options.service_cidrs:
            return self.options.service_cidrs
        found = collapse(net for one in self._service_ranges.values() for net in one.cidrs)
        return tuple(found[:MAX_SERVICE_CIDRS]) or self._api_addresses

    def _service_problem(self) -> str:
        if self.options.service_cidrs:
            return ""
        if not self._service_ranges:
            return NO_SERVICE_RANGE
        return MANY_SERVICE_RANGES.format(MAX_SERVICE_CIDRS) if len(self._service_cidrs) == MAX_SERVICE_CIDRS else ""

    def _new_claims(self) -> NodeClaims:
        services = (ReservedNet(net, "the Services") for net in self._service_cidrs)
        reserved: Iterable[ReservedNet] = chain(_RESERVED, services)
        return NodeClaims(self.mode, self.options.pod_cidrs, reserved, self.options.node_cidrs)

    # -- what follows ------------------------------------------------------------------------------------------------

    def node_addresses(self) -> dict[str, tuple[Net, ...]]:
        """The addresses of each node that are its own, as all nodes reach them."""
        return {one.name: one.addresses for one in self._claims.routed()}

    def routing_of(self, bridge: BridgeState) -> Routing:
        """What a bridge must know to route. All bridges share one tuple of nodes."""
        if not self.routes:
            return FLAT
        found = Routing(self.mode, bridge.node, self._claims.routed(), self._service_cidrs)
        return bridge.routing if bridge.routing == found else found

    @property
    def contested(self) -> Collection[str]:
        """The nodes that claimed an address together with another node. Hardly ever any."""
        self._claims.routed()
        return set().union(*self._claims.contested.values())

    def prove(self, node: str, host: str) -> None:
        """A node's own connection comes from this address."""
        try:
            address = parse_address(host)
        except ValueError:
            return
        before = self._claims.routed()
        self._claims.prove(node, address)
        self.changed |= self._claims.routed() is not before

    def routed_nodes(self) -> tuple[RoutedNode, ...]:
        """All nodes with the ranges and addresses that they have."""
        return self._claims.routed()

    def network_of(self, bridge: BridgeState) -> NodeNetwork:
        """The settings that a bridge must have in its OVSDB. Those of a node are kept: status asks for them often."""
        routing, (before, clusters) = bridge.routing, self._clusters
        if before is None or before.nodes is not routing.nodes:
            found = cluster_cidrs(self.options, routing)
            clusters = clusters if found == clusters else found
            self._clusters = routing, clusters
        own = routing.own
        if own is None:
            return node_network(self.options, routing, clusters)
        kept = self._settings.get(own.name)
        if kept is None or kept[:3] != (own, routing.service_cidrs, clusters):
            made = node_network(self.options, routing, clusters)
            kept = self._settings[own.name] = _Settings(own, routing.service_cidrs, clusters, made)
        return kept.made

    def problems_of(self, node: str) -> tuple[str, ...]:
        """Why a node does not have all that it claims, or cannot be reached."""
        if not self.routes:
            return ()
        return tuple(filter(None, (*self._claims.problems(node), self._service_problem())))


def _cluster_ips(service: object) -> tuple[Net, ...]:
    return service.cluster_ips if isinstance(service, Service) else ()
