"""The ordered rules of ClusterNetworkPolicies, walked for many ends at once: what is accepted, and what goes on.

Theory of operation. A walk begins with the connections that nothing has decided yet, as a region. Each rule in its
order takes its own out of it: Accept keeps them, Deny drops them, Pass sets them aside for the next tier. What no rule
takes goes on as well. The branches are those of `flows.policy.tier_walk`, which has the meaning for one connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from flows.cluster.domain_names import NamePatterns
from flows.cluster.model import Action, ClusterPolicy, ClusterRule, Direction, DomainPeer, NodePeer, Peer, Pod, Tier
from flows.cluster.selectors import matches
from flows.policy.named_ports import named_ports
from flows.reach.ports import EVERYTHING, NOTHING
from flows.reach.regions import Allowance, Region, region_of, take
from flows.reach.rules import RuleBook


class Step(NamedTuple):
    """One rule on the way of a walk: its action on these allowances; `doubt` is denied, whatever the action."""

    action: Action
    allowances: list[Allowance]
    doubt: list[Allowance]


class TierRule(NamedTuple):
    """A rule with the ends that it selects, names, and names in doubt: where only some claimants of an address fit."""

    subjects: int
    rule: ClusterRule
    peers: int
    doubt: int


class TierBook:
    """The tiered rules of one snapshot, by tier and direction, in their order."""

    def __init__(self, book: RuleBook) -> None:
        self._book = book
        self._contested = {
            address: [book.index.pods[n] for n in claimants] for address, claimants in book.index.contested.items()
        }
        self._everyone = (1 << book.ends.size) - 1
        self.rules: dict[tuple[Tier, Direction], list[TierRule]] = {
            (tier, direction): [] for tier in Tier for direction in Direction
        }
        for policy in sorted(book.cluster.cluster_policies.values(), key=lambda one: one.place):
            self._add(policy)
        self.by_name = any(named_ports(one.rule.ports) for found in self.rules.values() for one in found)

    def __bool__(self) -> bool:
        return any(self.rules.values())

    def _add(self, policy: ClusterPolicy) -> None:
        index = self._book.index
        group = index.group(policy.subject.namespaces, policy.subject.pods)
        subjects = self._book.ends.of_pods([index.pods[n].key for n in group.members])
        index.release(group)
        for direction in Direction:
            for rule in policy.rules(direction):
                peers = doubt = 0
                for peer in rule.peers:
                    peers |= self._peer(peer) if not isinstance(peer, DomainPeer) else 0
                if rule.action is not Action.ACCEPT:
                    doubt = self._doubt(rule)
                into = self.rules[policy.tier, direction]
                into.append(TierRule(subjects, rule, peers, doubt))
                into += self._of_names(rule, subjects)

    def _of_names(self, rule: ClusterRule, subjects: int) -> Iterator[TierRule]:
        """The same rule for each subject that learned addresses for its names, with these as its peers."""
        names = [peer.pattern for peer in rule.peers if isinstance(peer, DomainPeer)]
        patterns = NamePatterns(names)
        ends = self._book.ends
        for key, learned in self._book.cluster.learned.items() if names else ():
            subject = ends.of_pods([key]) & subjects if key in self._book.index.numbers else 0
            addresses = {one.address for one in learned if one.live and patterns.match(one.name)}
            if subject and addresses:
                yield TierRule(subject, rule, ends.with_addresses(addresses) | ends.outside_in(addresses), 0)

    def _peer(self, peer: Peer | NodePeer) -> int:
        if isinstance(peer, Peer):
            return self._book.ends_of_peer("", peer)
        nodes = [one for one in self._book.cluster.nodes.values() if matches(peer.nodes, one.labels)]
        addresses = {address for one in nodes for address in (*one.addresses, *one.external_addresses)}
        ends = self._book.ends
        return ends.with_addresses(addresses) | ends.outside_in(addresses)

    def _doubt(self, rule: ClusterRule) -> int:
        """The ends with an address that several pods claim, any of which the rule selects."""
        selecting = [one for one in rule.peers if isinstance(one, Peer) and one.ip_block is None]
        found = [
            address
            for address, pods in self._contested.items()
            if any(self._selects(peer, pod) for peer in selecting for pod in pods)
        ]
        return self._book.ends.with_addresses(found)

    def _selects(self, peer: Peer, pod: Pod) -> bool:
        labels = self._book.namespace_labels[pod.key.namespace]
        inside = peer.namespaces is not None and matches(peer.namespaces, labels)
        return inside and (peer.pods is None or matches(peer.pods, pod.labels))

    def near_key(self, number: int, direction: Direction) -> tuple[int, ...]:
        """The rules that select an end, by their places."""
        rules = (one for tier in Tier for one in self.rules[tier, direction])
        return tuple(n for n, one in enumerate(rules) if one.subjects >> number & 1)

    def far_key(self, number: int, direction: Direction) -> tuple[tuple[int, bool], ...]:
        """The rules of a direction that name an end, by their places, and whether surely."""
        rules = (one for tier in Tier for one in self.rules[tier, direction])
        return tuple(
            (n, bool(one.peers >> number & 1))
            for n, one in enumerate(rules)
            if (one.peers | one.doubt) >> number & 1 or one.rule.unreadable
        )

    def near_steps(self, tier: Tier, direction: Direction, number: int, pod: Pod) -> Iterator[Step]:
        """The rules that select an end, for all that they name."""
        for one in self.rules[tier, direction]:
            if not one.subjects >> number & 1:
                continue
            specs = one.rule.ports
            if one.rule.unreadable:
                yield Step(one.rule.action, [], [(EVERYTHING, self._everyone)])
            elif direction is Direction.EGRESS:
                sure = self._book.allowances(specs, one.peers, subjects=False)
                ports = EVERYTHING if named_ports(specs) else self._book.ports_at(specs, ())
                yield Step(one.rule.action, sure, [(ports, one.doubt)])
            else:
                ports = self._book.ports_at(specs, [pod])
                yield Step(one.rule.action, [(ports, one.peers)], [(ports, one.doubt)])

    def far_steps(self, tier: Tier, direction: Direction, number: int, claimants: list[Pod]) -> Iterator[Step]:
        """The rules of a direction that name an end, for all their subjects."""
        for one in self.rules[tier, direction]:
            specs = one.rule.ports
            sure, doubtful = one.peers >> number & 1, one.doubt >> number & 1
            if one.rule.unreadable:
                yield Step(one.rule.action, [], [(EVERYTHING, one.subjects)])
            elif sure or doubtful:
                if direction is Direction.INGRESS:
                    found = self._book.allowances(specs, one.subjects, subjects=True)
                    doubt = found
                else:
                    found = [(self._book.ports_at(specs, claimants), one.subjects)]
                    doubt = [(EVERYTHING, one.subjects)] if named_ports(specs) else found
                yield Step(one.rule.action, found if sure else [], doubt if doubtful else [])


def walk(steps: Iterable[Step], undecided: Region) -> tuple[Region, Region]:
    """What the rules of one tier accept of a region, and what goes on to the next tier: passed, or not matched.

    A rule that cannot be read takes nothing as Accept; as Deny or Pass it denies all that it could be about.
    """
    accepted: list[Allowance] = []
    passed: list[Allowance] = []
    for step in steps:
        for ports, bits in step.allowances:
            if ports == NOTHING:
                continue
            taken, undecided = take(undecided, ports, bits)
            if step.action is Action.ACCEPT:
                accepted += taken.items()
            elif step.action is Action.PASS:
                passed += taken.items()
        if step.action is not Action.ACCEPT:
            for ports, bits in step.doubt:
                _, undecided = take(undecided, ports, bits)
    return region_of(accepted), region_of((*undecided.items(), *passed))
