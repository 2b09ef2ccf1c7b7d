"""From a rule to its subjects, its peers as prefixes, and its services as numbers, computed from nothing.

A rule resolves to several ResolvedRules where a port's name has different numbers in different pods; each becomes one
conjunction. This module is the meaning of NetworkPolicy for `reference`, written independently of `verdict`: neither
imports the other, and tests run the rendered flows against verdicts.

Theory of operation, by example. Policy x/p selects `app: a` in namespace x and allows ingress from `app: b` on port 443
and on port `web`. The pods of `app: a` are 1 (web is 80) and 2 (web is 8080); the pod of `app: b` has 10.0.0.9.
1. `select` turns selectors into pods: subjects {1, 2}, and one group of peers.
2. Peers become prefixes: the addresses that belong to a group and to no other pod, and ipBlocks without their
   exceptions: {10.0.0.9}.
3. Ports become services. At ingress a name is resolved in the subject, so the subjects are split by number:
       ({1}, {10.0.0.9}, TCP 80 and 443)    ({2}, {10.0.0.9}, TCP 443 and 8080)
   At egress it would be resolved in the peer, so the peers would be split, beside one rule for 443 and all peers:
       ({1, 2}, all peers, TCP 443)    ({1, 2}, peers where web is 80, TCP 80)    and so on.
4. `rule_identity` names each result by the rule and its services; `rule_numbers` derives the conjunction id from it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import NamedTuple

from flows.cluster.model import EVERYTHING, Direction, Peer, PortSpec, Rule, Selector
from flows.cluster.net import Net, collapse, subtract
from flows.cluster.tuples import new_tuple
from flows.policy.groups import Group
from flows.policy.named_ports import common_services, named_ports, resolve_port_names
from flows.policy.node_index import NodeIndex
from flows.policy.pod_index import PodIndex
from flows.policy.rule import RuleKey
from flows.policy.service_ranges import ServiceRanges, normalize, numbered_services


class ResolvedRule(NamedTuple):
    """A rule for some of its subjects (pods of the index) or peers, with one set of services. `peers` and `services`
    are None where they do not restrict."""

    subjects: frozenset[int]
    peers: frozenset[Net] | None
    services: ServiceRanges | None


class SelectedRule(NamedTuple):
    """A rule with the pods that its selectors select, and the addresses of its nodes."""

    key: RuleKey
    subjects: frozenset[int]
    peers: list[Group]
    nodes: frozenset[Net] = frozenset()


class RuleResolver:
    """Resolves rules over one index of pods and one of nodes, which must not change meanwhile."""

    def __init__(self, index: PodIndex, nodes: NodeIndex) -> None:
        self.index = index
        self.nodes = nodes
        self._blocks: dict[Peer, tuple[Net, ...]] = {}
        self._addresses: dict[Group, frozenset[Net]] = {}

    def resolve(self, rule: SelectedRule) -> list[ResolvedRule]:
        """The resolved rules that can allow anything: none has an empty set."""
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
        # What subjects learn for names is no part of the rule: with names it can allow something at any time.
        named = bool(rule.key.names)
        return [one for one in found if (one.peers is None or one.peers or named) and one.services != ()]

    def select(self, key: RuleKey) -> SelectedRule:
        """The rule with its pods. A peer without a namespaceSelector means pods of the policy's namespace; without a
        podSelector it means all pods of the namespaces."""
        peers = [
            self.index.group(
                key.namespace if peer.namespaces is None else peer.namespaces,
                peer.pods if peer.pods is not None else EVERYTHING,
            )
            for peer in key.rule.peers
            if peer.ip_block is None
        ]
        nodes = [address for one in (key.level.nodes if key.level else ()) for address in self.nodes.addresses(one)]
        return SelectedRule(key, frozenset(self.subjects(key.namespace, key.subjects)), peers, frozenset(nodes))

    def subjects(self, where: str | Selector, selector: Selector) -> Collection[int]:
        """The pods that a policy selects in a namespace, or in those that a selector matches."""
        if isinstance(where, str):
            return self.index.select(where, selector)
        return self.index.group(where, selector).members

    def _ingress(self, rule: SelectedRule, numbered: ServiceRanges, names: tuple[PortSpec, ...]) -> list[ResolvedRule]:
        """Ingress: the destination is the subject, so a port's name is resolved in each subject."""
        subjects = rule.subjects
        peers = self._peer_nets(rule)
        if not names:
            return [ResolvedRule(subjects, peers, numbered)]
        groups: dict[ServiceRanges, list[int]] = defaultdict(list)
        for n in subjects:
            groups[normalize(numbered + resolve_port_names(names, self.index.pods[n]))].append(n)
        return [ResolvedRule(frozenset(members), peers, services) for services, members in groups.items()]

    def _egress(self, rule: SelectedRule, numbered: ServiceRanges, names: tuple[PortSpec, ...]) -> list[ResolvedRule]:
        """Egress: the destination is the peer, so each set of numbers that peers have gives one resolved rule."""
        subjects = rule.subjects
        found = [ResolvedRule(subjects, self._peer_nets(rule), numbered)] if numbered else []
        for services, addresses in self._named_destinations(rule, names).items() if names else ():
            # Where the names add nothing to the numbers, the rule above covers these destinations.
            if normalize(numbered + services) != numbered:
                found.append(ResolvedRule(subjects, frozenset(addresses), services))
        return found

    def _named_destinations(self, rule: SelectedRule, names: tuple[PortSpec, ...]) -> dict[ServiceRanges, set[Net]]:
        """Addresses of destination pods by the services that `names` resolve to there. Inside an ipBlock names are
        resolved in the pods that have addresses there."""
        index = self.index
        allowed = self._peer_nets(rule)
        only_groups = len(rule.peers) == len(rule.key.rule.peers)  # no ipBlock
        blocks = [] if only_groups else [net for net in allowed or () if not net.is_host]
        groups: dict[ServiceRanges, set[Net]] = defaultdict(set)
        for n in self._with_port(names, rule, allowed, blocks):
            pod = index.pods[n]
            services = resolve_port_names(names, pod)
            for address in pod.addresses:
                if allowed is not None and address not in allowed and not any(b.contains(address) for b in blocks):
                    continue
                claimants = index.contested.get(address)
                common = (
                    common_services([resolve_port_names(names, index.pods[one]) for one in claimants])
                    if claimants
                    else services
                )
                if common:
                    groups[common].add(address)
        return groups

    def _with_port(
        self, names: tuple[PortSpec, ...], rule: SelectedRule, allowed: frozenset[Net] | None, blocks: list[Net]
    ) -> Iterable[int]:
        """Pods with such a port that may have an address in `allowed`; where a block can contain any address, all of
        them."""
        found = self.index.with_port(names)
        if allowed is None or blocks or len(allowed) > len(found):
            return found
        if len(rule.peers) == len(rule.key.rule.peers):
            # A pod with one of these addresses is in a group; all claimants of a contested address are in the same one.
            return {n for group in rule.peers for n in group.members if n in found}
        return {n for address in allowed for n in self.index.claimants(address) if n in found}

    def _peer_nets(self, rule: SelectedRule) -> frozenset[Net] | None:
        """The rule's peers as prefixes; None when it names no peers, which means every peer."""
        peers, level = rule.key.rule.peers, rule.key.level
        if not rule.key.has_peers:
            return None
        if level is not None and level.doubt:
            return frozenset[Net]().union(*[self.index.contested_addresses(group) for group in rule.peers])
        found = [self._addresses_of(group) for group in rule.peers]
        if len(found) == len(peers) == 1 and not rule.nodes:
            return found[0]
        blocks = [net for peer in peers for net in self._block_nets(peer)]
        return frozenset(collapse(blocks)).union(rule.nodes, *found)

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


def rule_identity(key: RuleKey, services: ServiceRanges | None) -> bytes:
    """A text that is equal in every process for the same rule and services; pods and addresses do not enter it.

    It is the JSON array of the rule's key and the services, named tuples as arrays. It must not change between
    versions, because conjunction ids are derived from it. The text around the namespace is cached, because many
    namespaces have the same rules.
    """
    direction, namespace, subjects, rule, level = key
    if level is not None:
        # As before there were names, where there is none. What follows them says nothing that the rest does not.
        text = _json((direction, namespace, subjects, rule, level[: 6 if level.names else 5]))
        return f"[{text}, {'null' if services is None else _json(services)}]".encode()
    before, after = _around_namespace(direction, subjects, rule)
    home = encode_basestring_ascii(namespace) if isinstance(namespace, str) else _json(namespace)
    return f"{before}{home}{after}{'null' if services is None else _json(services)}]".encode()


_json = json.JSONEncoder().encode
_MANY_PEERS = 8
_PLAIN_PREFIX = "[null, null, [[%d, %d, %d], []]]"  # a peer that is a prefix without exceptions


@lru_cache(1 << 12)
def _around_namespace(direction: Direction, subjects: Selector, rule: Rule) -> tuple[str, str]:
    return f"[[{_json(direction)}, ", f", {_json(subjects)}, {_rule_json(rule)}], "


def _rule_json(rule: Rule) -> str:
    """As `_json`, which takes twice as long for a long list of prefixes."""
    peers, ports = rule
    if len(peers) < _MANY_PEERS:
        return _json(rule)
    return f"[[{', '.join([_peer_json(peer) for peer in peers])}], {_json(ports)}]"


def _peer_json(peer: Peer) -> str:
    block = peer[2]
    if block is None or block[1] or peer[0] is not None or peer[1] is not None:
        return _json(peer)
    return _PLAIN_PREFIX % block[0]
