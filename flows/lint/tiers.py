"""Findings about ClusterNetworkPolicies: what of them matches nothing, and rules that an earlier one leaves nothing.

As in `redundant`, whether an earlier rule takes all of a later one is decided on their text: pods come and go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from flows.cluster.model import ClusterPolicy, ClusterRule, Direction, DomainPeer, NodePeer, Peer, Tier
from flows.cluster.selectors import matches
from flows.lint.codes import NEVER_DECIDES, PEER_MATCHES_NOTHING, SELECTS_NOTHING, UNKNOWN_PORT_NAME, Code, Finding
from flows.lint.redundant import MAX_COMPARED, peer_covers, ports_cover, selects_all_of
from flows.lint.world import LintWorld, PodClass
from flows.policy.named_ports import named_ports


class _Placed(NamedTuple):
    policy: ClusterPolicy
    field: str
    rule: ClusterRule


def tier_findings(world: LintWorld) -> Iterator[Finding]:
    """All findings about the ClusterNetworkPolicies of a cluster."""
    policies = sorted(world.cluster.cluster_policies.values(), key=lambda one: one.place)
    for policy in policies:
        yield from _selection(world, policy)
    for tier in (Tier.ADMIN, Tier.BASELINE):
        for direction in Direction:
            of_tier = (one for one in policies if one.tier is tier)
            yield from _never_deciding(list(_placed(of_tier, direction))[:MAX_COMPARED])


def _placed(policies: Iterable[ClusterPolicy], direction: Direction) -> Iterator[_Placed]:
    for policy in policies:
        for number, rule in enumerate(policy.rules(direction)):
            if not rule.unreadable:
                yield _Placed(policy, f"spec.{direction.value}[{number}]", rule)


def _finding(code: Code, policy: ClusterPolicy, field: str, text: str) -> Finding:
    return Finding(code, policy.kind, str(policy.key), field, text)


# -- what matches nothing --------------------------------------------------------------------------------------------


def _selection(world: LintWorld, policy: ClusterPolicy) -> Iterator[Finding]:
    if not world.classes:
        return
    subject = policy.subject
    subjects = world.matched("", Peer(subject.pods, subject.namespaces))
    if not subjects:
        yield _finding(SELECTS_NOTHING, policy, "spec.subject", "selects no pod")
    for direction in Direction:
        word = "from" if direction is Direction.INGRESS else "to"
        for one in _placed([policy], direction):
            for number, peer in enumerate(one.rule.peers):
                if _matches_nothing(world, peer):
                    what = "node" if isinstance(peer, NodePeer) else "pod"
                    field = f"{one.field}.{word}[{number}]"
                    yield _finding(PEER_MATCHES_NOTHING, policy, field, f"matches no {what}")
            at = subjects if direction is Direction.INGRESS else _destinations(world, one.rule)
            yield from _port_names(one, at)


def _matches_nothing(world: LintWorld, peer: Peer | NodePeer | DomainPeer) -> bool:
    if isinstance(peer, DomainPeer):
        return False  # what a name stands for is not known here
    if isinstance(peer, NodePeer):
        nodes = world.cluster.nodes.values()
        return bool(nodes) and not any(matches(peer.nodes, node.labels) for node in nodes)
    return peer.ip_block is None and not world.matched("", peer)


def _destinations(world: LintWorld, rule: ClusterRule) -> list[PodClass]:
    """The pods that an egress rule may be about; all where it has addresses or nodes."""
    if any(not isinstance(peer, Peer) or peer.ip_block is not None for peer in rule.peers):
        return world.classes
    return [one for peer in rule.peers if isinstance(peer, Peer) for one in world.matched("", peer)]


def _port_names(placed: _Placed, at: list[PodClass]) -> Iterator[Finding]:
    for spec in named_ports(placed.rule.ports):
        if at and not any((own.name, own.protocol) == (spec.port, spec.protocol) for one in at for own in one.ports):
            text = f"no pod that it is about has a port named {spec.port} ({spec.protocol.name})"
            yield _finding(UNKNOWN_PORT_NAME, placed.policy, placed.field, text)


# -- rules that come too late ----------------------------------------------------------------------------------------


def _never_deciding(rules: list[_Placed]) -> Iterator[Finding]:
    """`rules` are those of one tier and direction, in the order in which they decide."""
    for place, one in enumerate(rules):
        before = next((other for other in rules[:place] if _takes_all(other, one)), None)
        if before is not None:
            field = before.field.removeprefix("spec.")
            text = f"{before.policy.key} {field} ({before.rule.action}) comes first and takes all of it"
            yield _finding(NEVER_DECIDES, one.policy, one.field, text)


def _takes_all(first: _Placed, later: _Placed) -> bool:
    wide, narrow = first.policy.subject, later.policy.subject
    return (
        selects_all_of(wide.namespaces, narrow.namespaces)
        and selects_all_of(wide.pods, narrow.pods)
        and all(any(_peer_covers(one, other) for one in first.rule.peers) for other in later.rule.peers)
        and ports_cover(first.rule.ports, later.rule.ports)
    )


def _peer_covers(wide: Peer | NodePeer | DomainPeer, narrow: Peer | NodePeer | DomainPeer) -> bool:
    if isinstance(wide, DomainPeer) or isinstance(narrow, DomainPeer):
        return wide == narrow
    if isinstance(wide, NodePeer) or isinstance(narrow, NodePeer):
        both = isinstance(wide, NodePeer) and isinstance(narrow, NodePeer)
        return both and selects_all_of(wide.nodes, narrow.nodes)  # type: ignore[union-attr]  # both are NodePeer
    return peer_covers(wide, narrow)
