"""What one rule comes to: its subjects, its peers as prefixes, and its services as numbers.

A rule can come to several variants, for a port's name can have another number in every pod. The meaning of
NetworkPolicy stands here and in `compile`, independent of `verdict`, which neither may import; a test runs the rendered
flows against it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from flows.cluster.model import EVERYTHING, Direction, Peer, PortSpec, Rule, Selector
from flows.cluster.net import Net, collapse, subtract
from flows.cluster.tuples import new_tuple
from flows.policy.groups import Group
from flows.policy.pod_index import PodIndex
from flows.policy.services import Service, Services, named_ports, normalize, numbered_services, resolve_port_names
from flows.policy.tracked_sets import RuleKey


class ResolvedRule(NamedTuple):
    """A part of a rule with one set of services. `peers` and `services` are None where they do not restrict."""

    subjects: frozenset[int]
    peers: frozenset[Net] | None
    services: Services | None


class SelectedRule(NamedTuple):
    """A rule with the pods that its selectors select."""

    key: RuleKey
    subjects: frozenset[int]
    peers: list[Group]


class RuleResolver:
    """Makes variants from what an index has, which must not change."""

    def __init__(self, index: PodIndex) -> None:
        self.index = index
        self._blocks: dict[Peer, tuple[Net, ...]] = {}
        self._addresses: dict[Group, frozenset[Net]] = {}

    def of(self, rule: SelectedRule) -> list[ResolvedRule]:
        """The variants of a rule that can allow anything: none has an empty set."""
        subjects = rule.subjects
        if not subjects:
            return []
        ports = rule.key.rule.ports
        if not ports:
            found = [new_tuple(ResolvedRule, (subjects, self._peer_nets(rule), None))]
        elif rule.key.direction is Direction.INGRESS:
            found = self._ingress(rule, numbered_services(ports), named_ports(ports))
        else:
            found = self._egress(rule, numbered_services(ports), named_ports(ports))
        return [v for v in found if (v.peers is None or v.peers) and v.services != ()]

    def bind(self, key: RuleKey) -> SelectedRule:
        """The rule with its pods: as peers those of its own namespace unless a peer has a namespace selector; all of
        those namespaces' pods unless it has a pod selector."""
        peers = [
            self.index.group(
                key.namespace if peer.namespaces is None else peer.namespaces,
                peer.pods if peer.pods is not None else EVERYTHING,
            )
            for peer in key.rule.peers
            if peer.ip_block is None
        ]
        return SelectedRule(key, frozenset(self.index.select(key.namespace, key.subjects)), peers)

    def _ingress(self, rule: SelectedRule, plain: Services, names: tuple[PortSpec, ...]) -> list[ResolvedRule]:
        """Ingress: the destination is the subject, so a port's name is looked up in each subject."""
        subjects = rule.subjects
        peers = self._peer_nets(rule)
        if not names:
            return [ResolvedRule(subjects, peers, plain)]
        groups: dict[Services, list[int]] = defaultdict(list)
        for n in subjects:
            groups[normalize(plain + resolve_port_names(names, self.index.pods[n]))].append(n)
        return [ResolvedRule(frozenset(members), peers, services) for services, members in groups.items()]

    def _egress(self, rule: SelectedRule, plain: Services, names: tuple[PortSpec, ...]) -> list[ResolvedRule]:
        """Egress: the destination is the peer, so a name gives one variant for each set of numbers that peers have."""
        subjects = rule.subjects
        found = [ResolvedRule(subjects, self._peer_nets(rule), plain)] if plain else []
        for services, addresses in self._named_destinations(rule, names).items() if names else ():
            # Where the names add nothing to the numbers, these destinations are among the others already.
            if normalize(plain + services) != plain:
                found.append(ResolvedRule(subjects, frozenset(addresses), services))
        return found

    def _named_destinations(self, rule: SelectedRule, names: tuple[PortSpec, ...]) -> dict[Services, set[Net]]:
        """Addresses of the destination pods by the numbers that `names` have there; behind an ipBlock, the pods
        inside."""
        index = self.index
        allowed = self._peer_nets(rule)
        plain = len(rule.peers) == len(rule.key.rule.peers)  # no ipBlock
        blocks = [] if plain else [net for net in allowed or () if not net.is_host]
        groups: dict[Services, set[Net]] = defaultdict(set)
        for n in self._with_port(names, rule, allowed, blocks):
            pod = index.pods[n]
            services = resolve_port_names(names, pod)
            for address in pod.addresses:
                if allowed is not None and address not in allowed and not any(b.contains(address) for b in blocks):
                    continue
                claimants = index.contested.get(address)
                common = (
                    _common([resolve_port_names(names, index.pods[one]) for one in claimants])
                    if claimants
                    else services
                )
                if common:
                    groups[common].add(address)
        return groups

    def _with_port(
        self, names: tuple[PortSpec, ...], rule: SelectedRule, allowed: frozenset[Net] | None, blocks: list[Net]
    ) -> Iterable[int]:
        """Pods with such a port that can be behind `allowed`; all of them only where a block may hold any address."""
        found = self.index.with_port(names)
        if allowed is None or blocks or len(allowed) > len(found):
            return found
        if len(rule.peers) == len(rule.key.rule.peers):
            # Whoever has one of these addresses is in one of the groups; a contested one has all its pods in one.
            return {n for group in rule.peers for n in group.members if n in found}
        return {n for address in allowed for n in self.index.claimants(address) if n in found}

    def _peer_nets(self, rule: SelectedRule) -> frozenset[Net] | None:
        """The rule's peers as prefixes; None when it names none, which means everybody."""
        peers = rule.key.rule.peers
        if not peers:
            return None
        found = [self._addresses_of(group) for group in rule.peers]
        if len(found) == len(peers) == 1:
            return found[0]
        blocks = [net for peer in peers for net in self._block_nets(peer)]
        return frozenset(collapse(blocks)).union(*found)

    def _addresses_of(self, group: Group) -> frozenset[Net]:
        found = self._addresses.get(group)
        if found is None:
            found = self._addresses[group] = frozenset(self.index.addresses(group))
        return found

    def _block_nets(self, peer: Peer) -> tuple[Net, ...]:
        block = peer.ip_block
        if block is None:
            return ()
        found = self._blocks.get(peer)
        if found is None:
            found = self._blocks[peer] = tuple(subtract(block.cidr, block.excepts))
        return found


def _common(resolved: list[Services]) -> Services:
    """Ports that every one of the sets has; named ports resolve to single numbers, so plain intersection does."""
    ports = [{(s.protocol, p) for s in services for p in range(s.low, s.high + 1)} for services in resolved]
    return normalize(Service(protocol, port, port) for protocol, port in set.intersection(*ports))


def rule_identity(key: RuleKey, services: Services | None) -> bytes:
    """A text that is equal in every process for the same rule and services; pods and addresses are no part of it.

    It is the JSON of both: of named tuples and texts JSON makes lists and texts, each at its place. The same rule
    stands in many namespaces, so what is around the namespace is kept.
    """
    direction, namespace, subjects, rule = key
    before, after = _around_namespace(direction, subjects, rule)
    return f"{before}{_json(namespace)}{after}{'null' if services is None else _json(services)}]".encode()


_json = json.JSONEncoder().encode


@lru_cache(1 << 12)
def _around_namespace(direction: Direction, subjects: Selector, rule: Rule) -> tuple[str, str]:
    return f"[[{_json(direction)}, ", f", {_json(subjects)}, {_json(rule)}], "
