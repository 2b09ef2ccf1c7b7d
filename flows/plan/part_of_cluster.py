"""The part of a cluster that the flows of some bridges depend on, where only NetworkPolicies differ.

A bridge's flows follow from the policies that select its pods, and from the pods that these policies name. So a plan of
a policy of one namespace need not read 100,000 pods of others. What could be about any pod keeps all of them: see
`_asks_all`. Tests hold the changes of flows of this part equal to those of the whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from flows.bridge.external_ids import parse_node_addresses, parse_port_addresses, pod_of_interface
from flows.bridge.state import BridgeState
from flows.cluster.model import Cluster, Direction, Key, Labels, Policy, Selector
from flows.cluster.net import Net
from flows.cluster.selectors import matches
from flows.policy.named_ports import named_ports


def parts_on(clusters: Sequence[Cluster], nodes: Collection[str], bridges: Iterable[BridgeState]) -> list[Cluster]:
    """Each snapshot with the policies that select a pod on `nodes` and, where these cannot be about others, with the
    pods that matter to them. A staged policy counts wherever it selects: the rules of all its namespace are kept twice.
    `bridges` are those of the nodes."""
    found = [_with_policies_on(cluster, nodes) for cluster in clusters]
    # A staged policy has flows for what it will say, beside those for what it says.
    policies = [one for cluster in found for policy in cluster.policies.values() for one in _said_by(policy)]
    if any(one.cluster_policies for one in found) or any(map(_asks_all, policies)):
        return found
    named, claimed = _of_bridges(bridges)
    selectors = {one for policy in policies for one in _wide_selectors(policy)}
    spaces = {policy.key.namespace for policy in policies}
    # What one snapshot needs does no harm to another, and most often both have the same pods.
    first, *others = found
    whole = [_with_pods_of(first, nodes, named, claimed, selectors, spaces)]
    for one in others:
        if one.pods is first.pods and one.namespaces is first.namespaces and one.nodes is first.nodes:
            whole.append(replace(one, pods=whole[0].pods, namespaces=whole[0].namespaces))
        else:
            whole.append(_with_pods_of(one, nodes, named, claimed, selectors, spaces))
    return whole


def contested_by_leaving(cluster: Cluster) -> set[Key]:
    """The pods that share an address with a terminating pod: whose it is depends on the ports of all of them."""
    leaving = {net for pod in cluster.pods.values() if pod.terminating for net in pod.addresses}
    claimants: dict[Net, list[Key]] = {}
    for key, pod in cluster.pods.items() if leaving else ():
        if not leaving.isdisjoint(pod.addresses):
            for net in leaving.intersection(pod.addresses):
                claimants.setdefault(net, []).append(key)
    return {key for keys in claimants.values() if len(keys) > 1 for key in keys}


def names_any(bridge: BridgeState, pods: Collection[Key]) -> bool:
    """Whether some port of a bridge names one of these pods."""
    return bool(pods) and any(pod_of_interface(one.external_ids) in pods for one in bridge.interfaces)


def with_nodes_of_unplaced(cluster: Cluster, nodes: Collection[str], bridges: Iterable[BridgeState]) -> set[str]:
    """`nodes`, and "" if the cluster has pods without a node, which are where a bridge has their port. If "" is among
    `nodes`, the nodes of all bridges with such ports are added."""
    unplaced = {key for key, pod in cluster.pods.items() if not pod.node}
    if not unplaced:
        return set(nodes)
    there = {bridge.node for bridge in bridges if names_any(bridge, unplaced)} if "" in nodes else set()
    return {*nodes, *there, ""}


def _with_policies_on(cluster: Cluster, nodes: Collection[str]) -> Cluster:
    labels: dict[str, set[int]] = {}
    shared: dict[int, Labels] = {}
    for pod in cluster.pods.values():
        if pod.node in nodes:
            labels.setdefault(pod.key.namespace, set()).add(id(pod.labels))
            shared[id(pod.labels)] = pod.labels
    policies = {
        key: policy
        for key, policy in cluster.policies.items()
        if key.namespace in labels
        and (policy.staged is not None or any(matches(policy.subjects, shared[one]) for one in labels[key.namespace]))
    }
    return replace(cluster, policies=policies)


def _said_by(policy: Policy) -> tuple[Policy, ...]:
    return (policy,) if policy.staged is None else (policy, policy.promoted)


def _asks_all(policy: Policy) -> bool:
    """Whether an egress rule has a port by name, and peers by address: any pod there may give it a number."""
    return any(
        bool(named_ports(rule.ports)) and (not rule.peers or any(peer.ip_block is not None for peer in rule.peers))
        for rule in policy.rules(Direction.EGRESS)
        if rule is not None
    )


def _wide_selectors(policy: Policy) -> Iterator[Selector]:
    for direction in Direction:
        for rule in policy.rules(direction):
            for peer in rule.peers if rule is not None else ():
                if peer.namespaces is not None:
                    yield peer.namespaces


def _of_bridges(bridges: Iterable[BridgeState]) -> tuple[set[Key], set[Net]]:
    """The pods that ports of the bridges name, and the addresses that bridges and ports give."""
    pods: set[Key] = set()
    addresses: set[Net] = set()
    for bridge in bridges:
        addresses.update((*parse_node_addresses(bridge.node_addresses_text)[0], *bridge.answered_addresses))
        for interface in bridge.interfaces:
            if (pod := pod_of_interface(interface.external_ids)) is not None:
                pods.add(pod)
            try:
                addresses.update(parse_port_addresses(interface.external_ids))
            except ValueError:
                continue  # such a port gives no address
    return pods, addresses


def _with_pods_of(
    cluster: Cluster,
    nodes: Collection[str],
    named: set[Key],
    claimed: set[Net],
    selectors: set[Selector],
    spaces: set[str],
) -> Cluster:
    """The snapshot with the pods on `nodes`, those `named`, those of the namespaces `spaces` and of those that
    `selectors` match, and whoever claims an address of these or of `claimed`."""
    spaces = set(spaces)
    if selectors:
        for name in {key.namespace for key in cluster.pods}:
            labels = cluster.namespace_labels(name)
            if any(matches(one, labels) for one in selectors):
                spaces.add(name)
    near = {
        key: pod
        for key, pod in cluster.pods.items()
        if pod.node in nodes or key.namespace in spaces or key in named
    }  # fmt: skip
    own = (node.addresses for name, node in cluster.nodes.items() if name in nodes)
    places = claimed.union(*(pod.addresses for pod in near.values()), *own)
    if len(near) < len(cluster.pods):
        for key, pod in cluster.pods.items():
            if key not in near and not places.isdisjoint(pod.addresses):
                near[key] = pod
    kept = {key.namespace for key in near}
    namespaces = {name: one for name, one in cluster.namespaces.items() if name in kept}
    return replace(cluster, pods=near, namespaces=namespaces)
