"""The reference semantics of network policy: may this connection be opened, and why.

The branches follow the NetworkPolicy API documentation, one sentence each; those of ClusterNetworkPolicy are in
`tier_walk`. Speed does not matter here. This module
knows nothing of flows or switches, and neither imports `rule`, `resolve`, `engine`, `reference` or `pod_index` nor is
imported by them, so that each checks the other. The question is a `Probe`, the answer a `Verdict` (see `explanation`).

A verdict is about opening a connection; replies and related ICMP errors follow conntrack and are not evaluated. A probe
describes the packet as the switch sees it: the two addresses in it, and the port behind each end. Peers are evaluated
by address alone, subjects by port alone.

Example: x/a (10.0.0.1) opens TCP port 80 of x/b (10.0.0.2), and policy x/p selects x/b for ingress with one rule, from
pods `app: web`. Egress of x/a: no policy isolates it, so it is allowed. Ingress of x/b: isolated by x/p; rule 0 allows
if every pod that has the address 10.0.0.1 has the label `app: web`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from flows.cluster.model import Action, Cluster, Direction, IPBlock, Peer, Pod, Policy, PortSpec, Rule, Tier
from flows.cluster.net import Net
from flows.cluster.selectors import matches
from flows.policy.explanation import AllowingRule, EndVerdict, Isolation, Mismatch, NonMatchingRule, Verdict
from flows.policy.probe import Probe, ProbeError, pods_with_address
from flows.policy.tier_walk import TierProbe, TierStep, walk_tier


def verdict(cluster: Cluster, probe: Probe) -> Verdict:
    """The verdict on one connection. Raises ProbeError when an end is a pod that the cluster does not have."""
    return Verdict(
        probe,
        egress=_end_verdict(cluster, probe, Direction.EGRESS),
        ingress=_end_verdict(cluster, probe, Direction.INGRESS),
    )


def _end_verdict(cluster: Cluster, probe: Probe, direction: Direction) -> EndVerdict:
    near, far = probe.source, probe.destination
    if direction is Direction.INGRESS:
        near, far = far, near
    if near.pod is None:
        return EndVerdict(direction, near, Isolation.NOT_A_POD)
    subject = cluster.pods.get(near.pod)
    if subject is None:
        raise ProbeError(f"there is no pod {near.pod}")
    if not subject.networked:
        return EndVerdict(direction, near, Isolation.NOT_A_SUBJECT)
    if near.pod == far.pod:
        return EndVerdict(direction, near, Isolation.ITSELF)
    own_node = _is_own_node(cluster, subject, far.address)
    if own_node and direction is Direction.INGRESS:
        return EndVerdict(direction, near, Isolation.OWN_NODE)
    # Tiers in their order: Admin; NetworkPolicy; Baseline for pods that no NetworkPolicy isolates in this direction.
    tier_probe = TierProbe(cluster, direction, subject, far.address, probe.protocol, probe.port)
    walk = walk_tier(tier_probe, Tier.ADMIN)
    end = _network_policy_verdict(cluster, probe, direction, subject)
    if end.isolation is Isolation.NOT_ISOLATED and not _is_final(walk):
        walk += walk_tier(tier_probe, Tier.BASELINE)
    if own_node:  # NetworkPolicies do not apply; rules of tiers do, for their peers can be nodes
        end = EndVerdict(direction, near, Isolation.OWN_NODE)
    return replace(end, walk=walk)


def _is_final(walk: tuple[TierStep, ...]) -> bool:
    """Accept and Deny end the evaluation; Pass goes on with the next tier."""
    return bool(walk) and walk[-1].matched and walk[-1].action is not Action.PASS


def _network_policy_verdict(cluster: Cluster, probe: Probe, direction: Direction, subject: Pod) -> EndVerdict:
    near, far = probe.source, probe.destination
    if direction is Direction.INGRESS:
        near, far = far, near
    found = (policy for policy in cluster.policies.values() if _isolates(policy, subject, direction))
    isolating = sorted(found, key=lambda policy: policy.key)
    if not isolating:
        return EndVerdict(direction, near, Isolation.NOT_ISOLATED)
    # Policies are a union: one rule of any of them is enough.
    rule_probe = _RuleProbe(cluster, direction, subject, far.address, probe.protocol, probe.port)
    answers = [
        _match_rule(rule_probe, policy, number, rule)
        for policy in isolating
        for number, rule in enumerate(policy.rules(direction))
    ]
    return EndVerdict(
        direction,
        near,
        Isolation.ISOLATED,
        isolated_by=tuple(policy.key for policy in isolating),
        allowed_by=tuple(answer for answer in answers if isinstance(answer, AllowingRule)),
        not_matching=tuple(answer for answer in answers if isinstance(answer, NonMatchingRule)),
    )


def _is_own_node(cluster: Cluster, pod: Pod, address: Net) -> bool:
    """The kubelet must reach its pods, whatever policies there are, and no NetworkPolicy keeps them from it. A node's
    addresses are those of its Node object."""
    node = cluster.nodes.get(pod.node)
    return node is not None and address in node.addresses


def _isolates(policy: Policy, pod: Pod, direction: Direction) -> bool:
    """A policy isolates the pods of its own namespace that its podSelector selects, in its policyTypes."""
    return (
        direction in policy.isolates
        and policy.key.namespace == pod.key.namespace
        and matches(policy.subjects, pod.labels)
    )


@dataclass(frozen=True, slots=True)
class _RuleProbe:
    """A probe from the side of its subject: may `subject` talk with the address `remote` in `direction`?"""

    cluster: Cluster
    direction: Direction
    subject: Pod
    remote: Net
    protocol: int
    port: int | None


def _match_rule(probe: _RuleProbe, policy: Policy, number: int, rule: Rule | None) -> AllowingRule | NonMatchingRule:
    """A rule allows when one of its peers and one of its ports match. Without peers, or ports, it matches all."""
    cluster, direction = probe.cluster, probe.direction
    if rule is None:
        return NonMatchingRule(policy.key, direction, number, Mismatch.INVALID)
    peer_number = None
    if rule.peers:
        home = policy.key.namespace
        matching = [place for place, peer in enumerate(rule.peers) if _peer_matches(cluster, home, peer, probe.remote)]
        if not matching:
            return NonMatchingRule(policy.key, direction, number, Mismatch.PEER)
        peer_number = matching[0]
    port = None
    if rule.ports:
        # A port's name is resolved at the destination: for ingress in the subject, for egress in the pods that have the
        # remote address. So a name never matches a destination that is not a pod.
        named_at = (probe.subject,) if direction is Direction.INGRESS else pods_with_address(cluster, probe.remote)
        ports = [spec for spec in rule.ports if _port_matches(spec, named_at, probe.protocol, probe.port)]
        if not ports:
            return NonMatchingRule(policy.key, direction, number, Mismatch.PORT)
        port = ports[0]
    return AllowingRule(policy.key, direction, number, peer_number, port)


def _peer_matches(cluster: Cluster, namespace: str, peer: Peer, remote: Net) -> bool:
    """An ipBlock matches the address, selectors match the pods that have the address.

    Where several pods claim one address, all must match: no pod may be allowed by another pod's labels.
    """
    if peer.ip_block is not None:
        return _in_block(peer.ip_block, remote)
    pods = pods_with_address(cluster, remote)
    return bool(pods) and all(_selected(cluster, namespace, peer, pod) for pod in pods)


def _in_block(block: IPBlock, address: Net) -> bool:
    return block.cidr.contains(address) and not any(hole.contains(address) for hole in block.excepts)


def _selected(cluster: Cluster, namespace: str, peer: Peer, pod: Pod) -> bool:
    """Without a namespaceSelector only the policy's own namespace counts; with both, both must hold."""
    if peer.namespaces is None and peer.pods is None:
        return False  # a peer without any field selects nothing; the API server refuses it
    if peer.namespaces is None:
        if pod.key.namespace != namespace:
            return False
    elif not matches(peer.namespaces, cluster.namespace_labels(pod.key.namespace)):
        return False
    return peer.pods is None or matches(peer.pods, pod.labels)


def _port_matches(spec: PortSpec, named_at: tuple[Pod, ...], protocol: int, port: int | None) -> bool:
    """The protocol must be equal, so ICMP never matches; without a number or name every port of it matches."""
    if protocol != spec.protocol or port is None:
        return False
    if spec.port is None:
        return True
    if isinstance(spec.port, int):
        return spec.port <= port <= (spec.port if spec.end_port is None else spec.end_port)
    return bool(named_at) and all(
        any((own.name, own.protocol, own.number) == (spec.port, spec.protocol, port) for own in pod.ports)
        for pod in named_at
    )
