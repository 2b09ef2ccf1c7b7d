"""The sets of rules: given to each new rule, shared between rules, and released with the last rule that uses them.

Nothing is decided here about which pods or addresses belong to a set; see `pod_index` and `combined_sets`.
"""

from __future__ import annotations

from flows.cluster.model import EVERYTHING, Direction, Peer, PortSpec
from flows.policy.combined_sets import (
    DestinationsByPort,
    PeersKey,
    PeerUnion,
    SubjectsByPort,
    port_names,
    subscribe,
    unsubscribe,
)
from flows.policy.groups import Group, PortName
from flows.policy.named_ports import named_ports
from flows.policy.node_index import NodeIndex
from flows.policy.pod_index import PodIndex
from flows.policy.rule import RuleKey
from flows.policy.service_ranges import ServiceRanges, numbered_services
from flows.policy.tracked_sets import NetSet, PodSet, PolicyRule

NamedPortSets = SubjectsByPort | DestinationsByPort
SubjectsByPortKey = tuple[Group, tuple[PortSpec, ...], ServiceRanges]
DestinationsByPortKey = tuple[NetSet | None, tuple[PortSpec, ...], ServiceRanges]


class RuleSets:
    """Creates and releases the sets of rules over one index."""

    def __init__(self, index: PodIndex, nodes: NodeIndex) -> None:
        self.index = index
        self.nodes = nodes
        self._unions: dict[PeersKey, PeerUnion] = {}
        self._subjects_by_port: dict[SubjectsByPortKey, SubjectsByPort] = {}
        self._subjects_by_port_of: dict[Group, list[SubjectsByPort]] = {}
        self._destinations_by_port: dict[DestinationsByPortKey, DestinationsByPort] = {}
        self._watchers: dict[PortName, set[NamedPortSets]] = {}
        self._to_prune: set[NamedPortSets] = set()  # those that may have empty sets
        index.watched_port_names = self._watchers

    def acquire(self, key: RuleKey) -> PolicyRule:
        """A new rule with its sets, which are kept up to date until `release`."""
        ports = key.rule.ports
        group = self.index.group(key.namespace, key.subjects)
        peers = self._peers(key)
        prefixes = len(peers.blocks) if isinstance(peers, PeerUnion) else 0
        rule = PolicyRule(key, group, peers, numbered_services(ports) if ports else (), prefixes)
        if peers is not None:
            peers.add_rule(rule)
        names = named_ports(ports) if ports else ()
        if names and key.direction is Direction.INGRESS:
            # The conjunctions have the sets by port as subjects, not the group.
            subjects = self._acquire_subjects_by_port(group, names, rule.numbered)
            subjects.rules.add(rule)
            rule.subjects_by_port = subjects.sets
            return rule
        group.add_rule(rule)
        if names:
            destinations = self._acquire_destinations_by_port(rule.peers, names, rule.numbered)
            destinations.rules.add(rule)
            rule.destinations_by_port = destinations.sets
        return rule

    def _peers(self, key: RuleKey) -> NetSet | None:
        """The addresses and prefixes of a rule's peers; None when it has no peers, which means every peer."""
        level, peers = key.level, key.rule.peers
        if level is None and len(peers) == 1 and (one := peers[0]).ip_block is None:  # as most rules have
            return self.index.tracked_addresses(self._peer_group(key, one))
        if not key.has_peers:
            return None
        track = self.index.tracked_contested if level is not None and level.doubt else self.index.tracked_addresses
        found: list[NetSet] = [track(group) for group in self._peer_groups(key)]
        if level is not None:
            found += [self.nodes.group(selector) for selector in level.nodes]
        if len(found) == len(peers) == 1 and peers[0].ip_block is None:
            return found[0]
        sources = list(dict.fromkeys(found))
        blocks = [peer.ip_block for peer in peers if peer.ip_block is not None]
        if len(sources) == 1 and not blocks:
            return sources[0]
        union_key = frozenset(sources), frozenset(blocks)
        union = self._unions.get(union_key)
        if union is None:
            union = self._unions[union_key] = PeerUnion(self.index.changed_sets, union_key, sources, blocks)
            subscribe(union, *sources)
        return union

    def _peer_groups(self, key: RuleKey) -> list[Group]:
        """The groups of a rule's peers, each held once for every peer that names it."""
        return [self._peer_group(key, peer) for peer in key.rule.peers if peer.ip_block is None]

    def _peer_group(self, key: RuleKey, peer: Peer) -> Group:
        """The group of one peer, held once more.

        A peer without a namespaceSelector means pods of the policy's namespace, one without a podSelector all pods.
        """
        return self.index.group(
            key.namespace if peer.namespaces is None else peer.namespaces,
            peer.pods if peer.pods is not None else EVERYTHING,
        )

    def _acquire_subjects_by_port(
        self, group: Group, names: tuple[PortSpec, ...], numbered: ServiceRanges
    ) -> SubjectsByPort:
        key = group, names, numbered
        found = self._subjects_by_port.get(key)
        if found is None:
            found = self._subjects_by_port[key] = SubjectsByPort(self.index, group, names, numbered)
            self._subjects_by_port_of.setdefault(group, []).append(found)
            subscribe(found, group)
            self._watch_port_names(found)
        return found

    def _acquire_destinations_by_port(
        self, peers: NetSet | None, names: tuple[PortSpec, ...], numbered: ServiceRanges
    ) -> DestinationsByPort:
        key = peers, names, numbered
        found = self._destinations_by_port.get(key)
        if found is None:
            found = self._destinations_by_port[key] = DestinationsByPort(self.index, peers, names, numbered)
            if peers is not None:
                subscribe(found, peers)
            self._watch_port_names(found)
        return found

    def _watch_port_names(self, sets: NamedPortSets) -> None:
        for name in port_names(sets.names):
            self._watchers.setdefault(name, set()).add(sets)

    def _unwatch_port_names(self, sets: NamedPortSets) -> None:
        self._to_prune.discard(sets)
        for name in port_names(sets.names):
            watchers = self._watchers[name]
            watchers.discard(sets)
            if not watchers:
                del self._watchers[name]

    # -- propagation -------------------------------------------------------------------------------------------------

    def propagate(self) -> None:
        """Update the derived sets from the sets in the change log, in the order in which they depend on each other."""
        log = self.index.changed_sets
        done = 0
        while done < len(log):
            for source in list(log)[done:]:
                done += 1
                for derived in source.derived or ():
                    derived.update_elements(source.changed())
                    if isinstance(derived, SubjectsByPort | DestinationsByPort):
                        self._to_prune.add(derived)
        for name, (pods, addresses) in self.index.port_changes.items():
            for watcher in self._watchers.get(name, ()):
                watcher.update_ports(pods, addresses)
                self._to_prune.add(watcher)
        self.index.port_changes.clear()

    def drop_empty_sets(self) -> None:
        """Delete empty sets by port. Call it once the rules are computed."""
        for sets in self._to_prune:
            sets.drop_empty_sets()
        self._to_prune.clear()

    def subject_sets(self, group: Group, n: int) -> list[PodSet]:
        """The sets that have pod `n` of the group and that rules have as subjects."""
        found: list[PodSet] = [group] if group.rules else []
        if not self._subjects_by_port_of:
            return found
        for by_port in self._subjects_by_port_of.get(group, ()):
            found += [pods for pods in by_port.sets.values() if n in pods.members]
        return found

    # -- release -----------------------------------------------------------------------------------------------------

    def release(self, rule: PolicyRule) -> None:
        """Give up the sets of a rule that no policy has any more.

        Call it only at the end of `compute_changes`: until then another policy may come to have the rule.
        """
        key, group = rule.key, rule.group
        names = named_ports(key.rule.ports) if key.rule.ports else ()
        if rule.subjects_by_port is not None:
            self._release_subjects_by_port(rule, names)
        group.discard_rule(rule)
        if rule.destinations_by_port is not None:
            self._release_destinations_by_port(rule, names)
        if rule.peers is not None:
            rule.peers.discard_rule(rule)
            if isinstance(rule.peers, PeerUnion) and not rule.peers.rules:
                del self._unions[rule.peers.key]
                unsubscribe(rule.peers, *rule.peers.groups)
        for selector in key.level.nodes if key.level is not None else ():
            nodes = self.nodes.group(selector)  # held by the rule, and once more by this call
            self.nodes.release(nodes)
            self.nodes.release(nodes)
        for peer in self._peer_groups(key):
            self._release_peer(peer)
        self.index.release(group)  # type: ignore[arg-type]  # a Group, as `acquire` set it

    def _release_peer(self, group: Group) -> None:
        """Release a group twice: for the rule, and for `_peer_groups`, which held it once more."""
        self.index.release(group)
        if _unused(group.addresses):
            group.addresses = None
        if _unused(group.contested):
            group.contested = None
        self.index.release(group)

    def _release_subjects_by_port(self, rule: PolicyRule, names: tuple[PortSpec, ...]) -> None:
        found = self._subjects_by_port[rule.group, names, rule.numbered]  # type: ignore[index]  # group is a Group
        found.rules.discard(rule)
        if not found.rules:
            del self._subjects_by_port[found.group, names, rule.numbered]
            beside = self._subjects_by_port_of[found.group]
            beside.remove(found)
            if not beside:
                del self._subjects_by_port_of[found.group]
            unsubscribe(found, found.group)
            self._unwatch_port_names(found)

    def _release_destinations_by_port(self, rule: PolicyRule, names: tuple[PortSpec, ...]) -> None:
        found = self._destinations_by_port[rule.peers, names, rule.numbered]
        found.rules.discard(rule)
        if not found.rules:
            del self._destinations_by_port[rule.peers, names, rule.numbered]
            if rule.peers is not None:
                unsubscribe(found, rule.peers)
            self._unwatch_port_names(found)


def _unused(nets: NetSet | None) -> bool:
    return nets is not None and not nets.rules and not nets.derived
