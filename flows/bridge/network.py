"""What the operator decides of the cluster's network, and what a node must know of it, as values.

`NetworkOptions` come from the options of `headgate run`. `node_network` makes of them, and of what one bridge routes,
the settings that the bridge has in its OVSDB, where its node reads them. Nothing is read or written here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from flows.bridge.routing import NetworkMode, Routing
from flows.cluster.model import Key
from flows.cluster.net import Net, collapse

LINK_MTU = 1500  # of the network between the nodes, unless the operator says otherwise
# What a tunnel adds to a packet of a pod, by the family of its ends: the outer IP header (20 or 40), UDP (8), the
# tunnel's own header (8, for Geneve without options and for VXLAN) and the inner Ethernet header (14).
TUNNEL_OVERHEAD = {4: 50, 6: 70}
NODE_PORTS = (30000, 32767)  # the API server's default of --service-node-port-range
DNS_SERVICE = Key("kube-system", "kube-dns")
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """`pod_cidrs` are the ranges of all pods of the cluster, `node_cidrs` those of all nodes' addresses, each empty
    when the operator does not say; `service_cidrs` those of ClusterIPs, empty to find them in the API. `mtu` is that of
    pods, None for the mode's own. `encap` is the tunnels' OVS type. `node_ports` are the first and the last. Answers of
    DNS count that come from `dns_servers`, each an address and a port, or from the Service `dns_service`."""

    mode: NetworkMode = NetworkMode.FLAT
    encap: str = "geneve"
    pod_cidrs: tuple[Net, ...] = ()
    service_cidrs: tuple[Net, ...] = ()
    mtu: int | None = None
    node_ports: tuple[int, int] = NODE_PORTS
    dns_servers: tuple[tuple[Net, int], ...] = ()
    dns_service: Key = DNS_SERVICE
    node_cidrs: tuple[Net, ...] = ()


FLAT_NETWORK = NetworkOptions()


class NodeNetwork(NamedTuple):
    """The settings of one bridge: its external_ids by key, and the type of its tunnel port, "" for none."""

    external_ids: Mapping[str, str] = NOTHING
    tunnel: str = ""


NO_NETWORK = NodeNetwork()  # of a bridge that does not route

# The keys of a Bridge's external_ids that Headgate writes; no others are changed.
NETWORK_KEY = "headgate-network"
REVISION_KEY = "headgate-revision"
NETWORK_KEYS = (
    NETWORK_KEY,
    "headgate-encap",
    "headgate-pod-cidrs",
    "headgate-cluster-cidrs",
    "headgate-service-cidrs",
    "headgate-node-ips",
    "headgate-mtu",
    "headgate-node-ports",
    REVISION_KEY,
)


def pod_mtu(options: NetworkOptions, routing: Routing) -> int:
    """The MTU of pods and of the node's routes to them, in bytes of IP packets."""
    if options.mtu is not None:
        return options.mtu
    end = routing.own.tunnel_end if routing.own is not None else None
    if routing.mode is not NetworkMode.OVERLAY:
        return LINK_MTU
    return LINK_MTU - TUNNEL_OVERHEAD[end.version if end is not None else 6]


def cluster_cidrs(options: NetworkOptions, routing: Routing) -> tuple[Net, ...]:
    """The ranges of all pods of the cluster: what the operator says, else those of the nodes, joined where they can."""
    return options.pod_cidrs or tuple(collapse(net for node in routing.nodes for net in node.pod_cidrs))


def node_network(options: NetworkOptions, routing: Routing, clusters: tuple[Net, ...]) -> NodeNetwork:
    """The settings of the bridge with this routing; `clusters` is what `cluster_cidrs` gives. Lists are separated by
    blanks. The revision changes with any of the other values."""
    if not routing.routes:
        return NO_NETWORK
    own = routing.own
    overlay = routing.mode is NetworkMode.OVERLAY
    low, high = options.node_ports
    values = {
        NETWORK_KEY: str(routing.mode),
        "headgate-encap": options.encap if overlay else "",
        "headgate-pod-cidrs": _words(own.pod_cidrs if own is not None else ()),
        "headgate-cluster-cidrs": _words(clusters),
        "headgate-service-cidrs": _words(routing.service_cidrs),
        "headgate-node-ips": _words(own.addresses if own is not None else ()),
        "headgate-mtu": str(pod_mtu(options, routing)),
        "headgate-node-ports": f"{low}-{high}",
    }
    digest = hashlib.sha256("\n".join(f"{key}={value}" for key, value in values.items()).encode())
    found = {key: value for key, value in values.items() if value}
    return NodeNetwork(
        MappingProxyType({**found, REVISION_KEY: digest.hexdigest()[:16]}), options.encap if overlay else ""
    )


def _words(nets: tuple[Net, ...]) -> str:
    return " ".join(map(str, nets))
