"""What a bridge must know to route: the mode of the network, and the pod ranges and addresses of all nodes.

Only values live here, and what decides which claims of nodes to addresses are taken. `controller` fills them from Node
objects and options; `reader` puts them into the binding; `flows.render.routing` makes flows of them.

Example. Nodes a and b have pod ranges 10.244.1.0/24 and 10.244.2.0/24. The bridge of a has `Routing(OVERLAY, node="a",
nodes=(a, b))`: what goes to 10.244.2.0/24 is sent through the tunnel to `tunnel_end` of b, and taken from there only.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
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
    too, as `uncontested` gives them: all bridges share one tuple. `service_cidrs` are the ranges of ClusterIPs.
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
        return next((one for one in self.nodes if one.name == self.node), None)

    @property
    def remotes(self) -> dict[str, RoutedNode]:
        """The nodes that are reached through a tunnel, by name. None in other modes than `overlay`, and none while the
        bridge's own node is not known: one of them might be itself."""
        if self.mode is not NetworkMode.OVERLAY or not self.node:
            return {}
        return {one.name: one for one in self.nodes if one.tunnel_end is not None and one.name != self.node}


FLAT = Routing()


class ContestedNet(NamedTuple):
    """A range or address of one node that overlaps one of another node, so that neither has it."""

    net: Net
    node: str
    other: str


class Uncontested(NamedTuple):
    """`nodes` sorted by name, without what several of them claim; `contested` is that, sorted."""

    nodes: tuple[RoutedNode, ...]
    contested: tuple[ContestedNet, ...]


def uncontested(nodes: Iterable[RoutedNode]) -> Uncontested:
    """Take from nodes the ranges and addresses that overlap those of another node. Nothing tells whose they are, so
    nothing is sent there. Tunnel ends of several nodes are taken likewise: whoever has one could send as all of them.
    """
    whole = sorted(nodes, key=attrgetter("name"))
    contests = _contests((net, node.name) for node in whole for net in node.nets)
    ends = _contests((node.tunnel_end, node.name) for node in whole if node.tunnel_end is not None)
    lost, lost_ends = {(c.net, c.node) for c in contests}, {(c.net, c.node) for c in ends}
    if not contests and not ends:
        return Uncontested(tuple(whole), ())
    kept = tuple(
        RoutedNode(
            node.name,
            None if (node.tunnel_end, node.name) in lost_ends else node.tunnel_end,
            tuple(net for net in node.pod_cidrs if (net, node.name) not in lost),
            tuple(net for net in node.addresses if (net, node.name) not in lost),
        )
        for node in whole
    )
    return Uncontested(kept, tuple(sorted(contests | ends)))


def _contests(claims: Iterable[tuple[Net, str]]) -> set[ContestedNet]:
    """Every claim that overlaps a claim of another node, with one such node. Sorted by first address, a range stands
    before what it contains, so one pass with the ranges around the present one, at most 129, finds all."""
    claimants: dict[Net, set[str]] = {}
    for net, node in claims:
        claimants.setdefault(net, set()).add(node)
    two = {net: sorted(nodes)[:2] for net, nodes in claimants.items()}  # two tell as much as all
    rivals: dict[Net, list[str]] = {}  # of each contested range two nodes with a claim that overlaps it
    around: list[Net] = []
    for net in sorted(claimants):
        while around and not around[-1].contains(net):
            around.pop()
        for outer in (net, *around):
            both = sorted({*two[net], *two[outer]})[:2]
            if len(both) > 1:
                rivals.setdefault(net, both)
                rivals.setdefault(outer, both)
        around.append(net)
    return {
        ContestedNet(net, node, next(one for one in both if one != node))
        for net, both in rivals.items()
        for node in claimants[net]
    }
