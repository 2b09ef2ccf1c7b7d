"""The ordered walk of `verdict` through the rules of ClusterNetworkPolicies: which rule decides, and why others do not.

Within a tier, policies are in the order of their priorities and names, rules in that of their policy; the first that
matches decides. Accept and Deny end the walk, Pass ends the tier. As `verdict`, this neither imports the compiler nor
is imported by it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from flows.cluster.domain_names import matches_name
from flows.cluster.model import (
    Action,
    Cluster,
    ClusterPolicy,
    ClusterRule,
    ContainerPort,
    Direction,
    DomainPeer,
    IPBlock,
    Key,
    NodePeer,
    Peer,
    Pod,
    PortSpec,
    Tier,
)
from flows.cluster.net import Net
from flows.cluster.selectors import matches
from flows.policy.probe import pods_with_address


class Outcome(enum.Enum):
    """Whether a rule matches, and why, as text after the rule's name."""

    MATCHES = "matches"
    UNREADABLE = "is not valid, so it denies everything"
    DOUBT = "matches some of the pods that claim the other end's address, so it denies"
    INVALID = "is not valid, so it accepts nothing"
    PEER = "has no matching peer"
    PORT = "matches the peer but not the port"


_DECIDING = (Outcome.MATCHES, Outcome.UNREADABLE, Outcome.DOUBT)


@dataclass(frozen=True, slots=True)
class TierStep:
    """One rule of a ClusterNetworkPolicy that the walk came to. `rule` counts from 0; `name` is the rule's, or "".

    `action` is what the rule does if it matches: Deny, whatever the manifest says, where it denies because it cannot be
    read or in doubt.
    """

    tier: Tier
    policy: Key
    direction: Direction
    rule: int
    name: str
    action: Action
    outcome: Outcome

    @property
    def matched(self) -> bool:
        """Whether the rule decided: no later rule of the tier counts."""
        return self.outcome in _DECIDING

    def __str__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return f"{self.policy} {self.direction.value} rule {self.rule}{name} ({self.tier.value}, {self.action.value})"

    def explain(self) -> str:
        """The rule, and whether it matches."""
        return f"{self} {self.outcome.value}"


@dataclass(frozen=True, slots=True)
class TierProbe:
    """A connection from the side of its subject: may `subject` talk with the address `remote` in `direction`?"""

    cluster: Cluster
    direction: Direction
    subject: Pod
    remote: Net
    protocol: int
    port: int | None


def walk_tier(probe: TierProbe, tier: Tier) -> tuple[TierStep, ...]:
    """The steps in a tier, up to the first rule that matches."""
    found = []
    for step in _steps(probe, tier):
        found.append(step)
        if step.matched:
            break
    return tuple(found)


def _steps(probe: TierProbe, tier: Tier) -> Iterator[TierStep]:
    policies = [one for one in probe.cluster.cluster_policies.values() if one.tier is tier and _selects(probe, one)]
    for policy in sorted(policies, key=lambda one: one.place):
        for number, rule in enumerate(policy.rules(probe.direction)):
            outcome = _outcome(probe, rule)
            denies = outcome in (Outcome.UNREADABLE, Outcome.DOUBT)
            action = Action.DENY if denies else rule.action
            yield TierStep(tier, policy.key, probe.direction, number, rule.name, action, outcome)


def _selects(probe: TierProbe, policy: ClusterPolicy) -> bool:
    """The subject is selected by the labels of its namespace and its own."""
    return _matches_pod(probe.cluster, Peer(policy.subject.pods, policy.subject.namespaces), probe.subject)


def _outcome(probe: TierProbe, rule: ClusterRule) -> Outcome:
    # An Accept that cannot be read matches nothing; a Deny or Pass that cannot be read denies everything.
    if rule.unreadable:
        return Outcome.INVALID if rule.action is Action.ACCEPT else Outcome.UNREADABLE
    # A peer matches pods by their address: all that claim it must match, as in a NetworkPolicy.
    peer = any(_matches_peer(probe, one) for one in rule.peers)
    # Without protocols a rule matches every protocol. A port's name is resolved at the destination.
    named_at = (probe.subject,) if probe.direction is Direction.INGRESS else _remote_pods(probe)
    port = not rule.ports or any(_matches_port(spec, named_at, probe) for spec in rule.ports)
    if peer and port:
        return Outcome.MATCHES
    # Where several pods claim an address, what must not pass one of them must not pass any.
    if rule.action is not Action.ACCEPT and _in_doubt(probe, rule, port):
        return Outcome.DOUBT
    return Outcome.PORT if peer else Outcome.PEER


def _in_doubt(probe: TierProbe, rule: ClusterRule, port: bool) -> bool:
    pods = _remote_pods(probe)
    if len(pods) < 2:
        return False
    # The ports that a name stands for may differ between these pods too.
    if probe.direction is Direction.EGRESS and any(isinstance(spec.port, str) for spec in rule.ports):
        port = True
    selecting = [one for one in rule.peers if isinstance(one, Peer) and one.ip_block is None]
    return port and any(_matches_pod(probe.cluster, one, pod) for one in selecting for pod in pods)


def _remote_pods(probe: TierProbe) -> tuple[Pod, ...]:
    return pods_with_address(probe.cluster, probe.remote)


def _matches_peer(probe: TierProbe, peer: Peer | NodePeer | DomainPeer) -> bool:
    cluster, remote = probe.cluster, probe.remote
    if isinstance(peer, DomainPeer):
        # Names match the addresses that DNS answers gave the subject itself for them, until these expire.
        known = cluster.learned.get(probe.subject.key, ())
        return any(one.live and one.address == remote and matches_name(peer.pattern, one.name) for one in known)
    if isinstance(peer, NodePeer):
        # Nodes are selected by their labels, and matched by all addresses in their status.
        return any(
            remote in (*node.addresses, *node.external_addresses) and matches(peer.nodes, node.labels)
            for node in cluster.nodes.values()
        )
    if peer.ip_block is not None:
        return _in_block(peer.ip_block, remote)
    pods = _remote_pods(probe)
    return bool(pods) and all(_matches_pod(cluster, peer, pod) for pod in pods)


def _in_block(block: IPBlock, address: Net) -> bool:
    """Networks match every address in them, those of pods too."""
    return block.cidr.contains(address) and not any(hole.contains(address) for hole in block.excepts)


def _matches_pod(cluster: Cluster, peer: Peer, pod: Pod) -> bool:
    namespaces = peer.namespaces is not None and matches(peer.namespaces, cluster.namespace_labels(pod.key.namespace))
    return namespaces and (peer.pods is None or matches(peer.pods, pod.labels))


def _matches_port(spec: PortSpec, named_at: tuple[Pod, ...], probe: TierProbe) -> bool:
    if probe.protocol != spec.protocol or probe.port is None:
        return False
    if spec.port is None:
        return True
    if isinstance(spec.port, int):
        return spec.port <= probe.port <= (spec.port if spec.end_port is None else spec.end_port)
    wanted = ContainerPort(spec.port, probe.port, spec.protocol)
    return bool(named_at) and all(wanted in pod.ports for pod in named_at)
