"""The cluster as the switches have it: accepted objects, with the addresses that ports give and take.

What `World` knows is copied out by `World.effective_parts`, which is quick; the cluster is made of that afterwards, by
whoever asks and without holding up the world.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from flows.cluster.domain_names import LearnedAddress
from flows.cluster.model import Cluster, Key, Node, Pod
from flows.cluster.net import Net


class EffectiveParts(NamedTuple):
    """What the effective cluster is made of; nothing in it changes any more.

    `cluster` has the accepted objects. `port_addresses` are those of pods whose status has none, `yielded` those that
    terminating pods gave up, `node_addresses` what bridges add to the addresses of their node, and `learned` what pods
    learned from DNS answers.
    """

    cluster: Cluster
    port_addresses: Mapping[Key, tuple[Net, ...]]
    yielded: Mapping[Key, frozenset[Net]]
    node_addresses: Mapping[str, tuple[Net, ...]]
    learned: Mapping[Key, tuple[LearnedAddress, ...]] = MappingProxyType({})


def effective_cluster(parts: EffectiveParts) -> Cluster:
    """The cluster that desired flows follow from. Costs a copy of the mapping of pods where any pod differs."""
    cluster = parts.cluster
    pods: dict[Key, Pod] = {}
    for key, addresses in parts.port_addresses.items():
        if (pod := cluster.pods.get(key)) is not None and not pod.addresses:
            pods[key] = pod._replace(addresses=addresses)
    for key, gone in parts.yielded.items():
        if (pod := pods.get(key) or cluster.pods.get(key)) is not None:
            pods[key] = pod._replace(addresses=tuple(net for net in pod.addresses if net not in gone))
    nodes: dict[str, Node] = {}
    for name, added in parts.node_addresses.items():
        node = cluster.nodes.get(name) or Node(name)
        more = tuple(net for net in dict.fromkeys(added) if net not in node.addresses)
        if more:
            nodes[name] = replace(node, addresses=(*node.addresses, *more))
    if pods:
        cluster = replace(cluster, pods=MappingProxyType({**cluster.pods, **pods}))
    if nodes:
        cluster = replace(cluster, nodes=MappingProxyType({**cluster.nodes, **nodes}))
    if parts.learned:
        cluster = replace(cluster, learned=MappingProxyType(dict(parts.learned)))
    return cluster
