"""The sets that rules stand on: handed out to rules that come, shared between those that say the same, and kept true
for as long as any rule needs them."""

from __future__ import annotations

from flows.cluster.model import EVERYTHING, Direction, PortSpec
from flows.policy.combined_sets import (
    DestinationsByPort,
    PeersName,
    PeerUnion,
    SubjectsByPort,
    port_names,
    subscribe,
    unsubscribe,
)
from flows.policy.groups import Group, PortName
from flows.policy.pod_index import PodIndex
from flows.policy.services import Services, named_ports, numbered_services
from flows.policy.tracked_sets import NetSet, PodSet, PolicyRule, RuleKey

NamedPortSets = SubjectsByPort | DestinationsByPort
SplitName = tuple[Group, tuple[PortSpec, ...], Services]
DestinationsName = tuple[NetSet | None, tuple[PortSpec, ...], Services]


class RuleSets:
    """Binds rules to sets over one index."""

    def __init__(self, index: PodIndex) -> None:
        self.index = index
        self._unions: dict[PeersName, PeerUnion] = {}
        self._splits: dict[SplitName, SubjectsByPort] = {}
        self._splits_of: dict[Group, list[SubjectsByPort]] = {}
        self._destinations: dict[DestinationsName, DestinationsByPort] = {}
        self._watchers: dict[PortName, set[NamedPortSets]] = {}
        self._to_prune: set[NamedPortSets] = set()
        index.watched = self._watchers

    def bind(self, key: RuleKey) -> PolicyRule:
        """The rule with its sets, which are kept until `release`."""
        ports = key.rule.ports
        group = self.index.group(key.namespace, key.subjects)
        peers = self._peers(key)
        live = PolicyRule(
            key, group, peers, numbered_services(ports), len(peers.blocks) if isinstance(peers, PeerUnion) else 0
        )
        if live.peers is not None:
            live.peers.rules.add(live)
        names = named_ports(ports)
        if names and key.direction is Direction.INGRESS:
            # The group itself is not what the rule's parts have as subjects.
            split = self._split(group, names, live.plain)
            split.rules.add(live)
            live.pods = split.sets
            return live
        group.rules.add(live)
        if names:
            found = self._named_destinations(live.peers, names, live.plain)
            found.rules.add(live)
            live.named = found.sets
        return live

    def _peers(self, key: RuleKey) -> NetSet | None:
        """Pods of the rule's own namespace unless a peer has a namespace selector; all of those namespaces' pods unless
        it has a pod selector."""
        peers = key.rule.peers
        if not peers:
            return None
        groups = dict.fromkeys(self._groups(key))
        if len(groups) == len(peers) == 1:
            return self.index.living_addresses(next(iter(groups)))
        name = frozenset(groups), frozenset([peer.ip_block for peer in peers if peer.ip_block is not None])
        union = self._unions.get(name)
        if union is None:
            below = [self.index.living_addresses(group) for group in groups]
            union = self._unions[name] = PeerUnion(self.index.log, name, below)
            subscribe(union, *below)
        return union

    def _groups(self, key: RuleKey) -> list[Group]:
        """The groups of a rule's peers, each held as often as it is named."""
        return [
            self.index.group(
                key.namespace if peer.namespaces is None else peer.namespaces,
                peer.pods if peer.pods is not None else EVERYTHING,
            )
            for peer in key.rule.peers
            if peer.ip_block is None
        ]

    def _split(self, group: Group, names: tuple[PortSpec, ...], plain: Services) -> SubjectsByPort:
        name = group, names, plain
        split = self._splits.get(name)
        if split is None:
            split = self._splits[name] = SubjectsByPort(self.index, group, names, plain)
            self._splits_of.setdefault(group, []).append(split)
            subscribe(split, group)
            self._listen(split)
        return split

    def _named_destinations(
        self, peers: NetSet | None, names: tuple[PortSpec, ...], plain: Services
    ) -> DestinationsByPort:
        name = peers, names, plain
        found = self._destinations.get(name)
        if found is None:
            found = self._destinations[name] = DestinationsByPort(self.index, peers, names, plain)
            if peers is not None:
                subscribe(found, peers)
            self._listen(found)
        return found

    def _listen(self, one: NamedPortSets) -> None:
        for name in port_names(one.names):
            self._watchers.setdefault(name, set()).add(one)

    def _hush(self, one: NamedPortSets) -> None:
        self._to_prune.discard(one)
        for name in port_names(one.names):
            there = self._watchers[name]
            there.discard(one)
            if not there:
                del self._watchers[name]

    # -- following ---------------------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Bring what is made of other sets up to date with these, in the order in which they are made."""
        log = self.index.log
        done = 0
        while done < len(log):
            for tracked in list(log)[done:]:
                done += 1
                for user in tracked.users or ():
                    user.absorb(tracked.touched())
                    if isinstance(user, SubjectsByPort | DestinationsByPort):
                        self._to_prune.add(user)
        for name, (pods, addresses) in self.index.renamed.items():
            for watcher in self._watchers.get(name, ()):
                watcher.look(pods, addresses)
                self._to_prune.add(watcher)
        self.index.renamed.clear()

    def prune(self) -> None:
        """Forget what is empty, once the rules have been computed."""
        for one in self._to_prune:
            one.prune()
        self._to_prune.clear()

    def subjects(self, group: Group, n: int) -> list[PodSet]:
        """The sets with pod `n` of the group that rules have as subjects."""
        found: list[PodSet] = [group] if group.rules else []
        for split in self._splits_of.get(group, ()):
            found += [pods for pods in split.sets.values() if n in pods.members]
        return found

    # -- letting go --------------------------------------------------------------------------------------------------

    def release(self, live: PolicyRule) -> None:
        """A rule stands in no policy any more. Not before `settle`, for until then another may come to say it."""
        key, group = live.key, live.group
        names = named_ports(key.rule.ports)
        if live.pods is not None:
            self._let_go_split(live, names)
        group.rules.discard(live)
        if live.named is not None:
            self._let_go_destinations(live, names)
        if live.peers is not None:
            live.peers.rules.discard(live)
            if isinstance(live.peers, PeerUnion) and not live.peers.rules:
                del self._unions[live.peers.name]
                unsubscribe(live.peers, *live.peers.groups)
        for peer in self._groups(key):
            self._release_peer(peer)
        self.index.release(group)  # type: ignore[arg-type]  # what `bind` gave it

    def _release_peer(self, group: Group) -> None:
        """Once for the rule, and once for having been asked for again."""
        self.index.release(group)
        nets = group.addresses
        if nets is not None and not nets.rules and not nets.users:
            group.addresses = None
        self.index.release(group)

    def _let_go_split(self, live: PolicyRule, names: tuple[PortSpec, ...]) -> None:
        split = self._splits[live.group, names, live.plain]  # type: ignore[index]  # what `bind` gave it
        split.rules.discard(live)
        if not split.rules:
            del self._splits[split.group, names, live.plain]
            beside = self._splits_of[split.group]
            beside.remove(split)
            if not beside:
                del self._splits_of[split.group]
            unsubscribe(split, split.group)
            self._hush(split)

    def _let_go_destinations(self, live: PolicyRule, names: tuple[PortSpec, ...]) -> None:
        found = self._destinations[live.peers, names, live.plain]
        found.rules.discard(live)
        if not found.rules:
            del self._destinations[live.peers, names, live.plain]
            if live.peers is not None:
                unsubscribe(found, live.peers)
            self._hush(found)
