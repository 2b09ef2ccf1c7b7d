"""The part of the effective cluster that the verdict on one connection depends on, cut out at a small and fixed cost.

`effective_cluster` costs time with all pods; here only what the two ends have is looked up. Tests hold the verdicts of
both equal.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple, cast

from flows.cluster.domain_names import LearnedAddress
from flows.cluster.model import Cluster, Key, Node, Pod, Policy
from flows.cluster.net import Net
from flows.policy.engine import PolicyEngine


class ConnectionScope(NamedTuple):
    """Taken under the world's lock. `cluster` is the accepted snapshot; `pods` have their effective addresses;
    `node_addresses` is what bridges add to the addresses of nodes, `learned` what these pods learned from DNS."""

    cluster: Cluster
    pods: Mapping[Key, Pod]
    policies: Mapping[Key, Policy]
    node_addresses: Mapping[str, tuple[Net, ...]] = MappingProxyType({})
    learned: Mapping[Key, tuple[LearnedAddress, ...]] = MappingProxyType({})


def connection_scope(
    accepted: Cluster,
    engine: PolicyEngine,
    keys: Iterable[Key],
    addresses: Iterable[Net],
    node_addresses: Mapping[str, tuple[Net, ...]] = MappingProxyType({}),
) -> ConnectionScope:
    """The scope of connections between these pods and addresses."""
    pods = {pod.key: pod for address in addresses for pod in engine.pods_with_address(address)}
    for key in keys:
        pod = engine.pod(key)
        if pod is not None:
            pods[key] = pod
    names = {name.partition("/") for names in engine.isolating_policies(pods).values() for name in names}
    concerned = {Key(namespace, rest) for namespace, _, rest in names}
    concerned |= {promoted for pod in pods for promoted in engine.promoted_policies(pod)}
    policies = {one: accepted.policies[one] for one in concerned if one in accepted.policies}
    learned = {pod: accepted.learned[pod] for pod in pods if pod in accepted.learned}
    return ConnectionScope(accepted, pods, policies, node_addresses, learned)


def scoped_cluster(scope: ConnectionScope) -> Cluster:
    """A cluster of the scope. Its namespaces, nodes and ClusterNetworkPolicies are all there are."""
    nodes: dict[str, Node] = {}
    for name, added in scope.node_addresses.items():
        node = scope.cluster.nodes.get(name) or Node(name)
        more = tuple(net for net in dict.fromkeys(added) if net not in node.addresses)
        if more:
            nodes[name] = replace(node, addresses=(*node.addresses, *more))
    whole = scope.cluster.nodes
    if nodes:
        whole = ChainMap(nodes, cast("dict[str, Node]", whole))
    return replace(scope.cluster, pods=scope.pods, policies=scope.policies, nodes=whole, learned=scope.learned)
