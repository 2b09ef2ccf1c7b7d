"""From policies to rules per subject: what each switch must allow, as sets that a conjunctive match can hold.

The meaning of NetworkPolicy stands here a second time, independent of `verdict`, which this module must never import;
a test runs the rendered flows against it. How rules become flows is `render`'s business.

A rule is identified by what it says (namespace, subject selector, direction, peers, ports), not by the policy that
says it, so
that equal rules share one conjunction and a pod that comes or goes changes no number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from flows.index import PodIndex
from flows.model import Cluster, Direction, Key, Peer, PortSpec, Rule, Selector
from flows.net import Net, collapse, subtract
from flows.numbering import assign_numbers
from flows.services import Service, Services, named, normalize, numbered, resolve

DIRECTIONS = (Direction.EGRESS, Direction.INGRESS)


class RuleRef(NamedTuple):
    """A rule where the user wrote it: the policy, the direction, and its place in the list, from 0."""

    policy: Key
    direction: Direction
    number: int

    def __str__(self) -> str:
        return f"{self.policy} {self.direction.value}[{self.number}]"


class RuleKey(NamedTuple):
    """What a rule says. Equal keys mean equal rules, whichever policies they stand in."""

    direction: Direction
    namespace: str
    subjects: Selector
    rule: Rule


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """One conjunction: these subjects may talk with these peers over these services, as responder or as initiator.

    `peers` and `services` are None where they do not restrict; neither is ever empty. `conj_id` is unique on its
    switch.
    """

    conj_id: int
    direction: Direction
    subjects: frozenset[Key]
    peers: frozenset[Net] | None
    services: Services | None
    owners: tuple[RuleRef, ...]


@dataclass(frozen=True, slots=True)
class NodePolicy:
    """All that policy says about the pods of one switch. Pods that nothing isolates are not in `isolated`."""

    isolated: Mapping[Key, frozenset[Direction]]
    rules: tuple[CompiledRule, ...]


class Variant(NamedTuple):
    """A part of a rule with one set of services; named ports can make several of one rule."""

    subjects: frozenset[int]
    peers: frozenset[Net] | None
    services: Services | None


class PolicyCompiler:
    """Compiles one snapshot, for as many switches as are asked for; peer sets are computed once and shared."""

    def __init__(self, cluster: Cluster) -> None:
        self.index = PodIndex(cluster)
        self._isolation: dict[int, set[Direction]] = defaultdict(set)
        self._owners: dict[RuleKey, list[RuleRef]] = defaultdict(list)
        self._of_pod: dict[int, list[RuleKey]] = defaultdict(list)
        self._peers: dict[tuple[str, Peer], frozenset[int]] = {}
        self._blocks: dict[Peer, tuple[Net, ...]] = {}
        self._variants: dict[RuleKey, list[Variant]] = {}
        self._read(cluster)

    def _read(self, cluster: Cluster) -> None:
        isolating: set[tuple[str, Selector, Direction]] = set()
        for key in sorted(cluster.policies):
            policy = cluster.policies[key]
            for direction in policy.isolates:
                isolating.add((key.namespace, policy.subjects, direction))
                for number, rule in enumerate(policy.rules(direction)):
                    if rule is not None:
                        rule_key = RuleKey(direction, key.namespace, policy.subjects, rule)
                        self._owners[rule_key].append(RuleRef(key, direction, number))
        for namespace, selector, direction in isolating:
            for n in self.index.select(namespace, selector):
                self._isolation[n].add(direction)
        for rule_key in self._owners:
            for n in self.index.select(rule_key.namespace, rule_key.subjects):
                self._of_pod[n].append(rule_key)

    def isolated(self, pod: Key) -> frozenset[Direction]:
        """The directions in which some policy isolates the pod."""
        n = self.index.number.get(pod)
        return frozenset(self._isolation.get(n, ())) if n is not None else frozenset()

    def for_pods(self, pods: Collection[Key]) -> NodePolicy:
        """The rules for a switch that has these pods. Unknown, finished and hostNetwork pods are no subjects."""
        local = frozenset(n for n in map(self.index.number.get, pods) if n is not None)
        keys = {key for n in local for key in self._of_pod.get(n, ())}
        parts: dict[bytes, tuple[RuleKey, Variant]] = {}
        for key in keys:
            for variant in self._variants_of(key):
                if not variant.subjects.isdisjoint(local):
                    parts[_identity(key, variant)] = (key, variant)
        numbers = assign_numbers(parts)
        rules = [self._rule(numbers[identity], *part, local) for identity, part in parts.items()]
        isolated = {self.index.pods[n].key: frozenset(self._isolation[n]) for n in local if n in self._isolation}
        return NodePolicy(isolated, tuple(sorted(rules, key=lambda rule: rule.conj_id)))

    def _rule(self, number: int, key: RuleKey, variant: Variant, local: frozenset[int]) -> CompiledRule:
        subjects = frozenset(self.index.pods[n].key for n in variant.subjects & local)
        return CompiledRule(number, key.direction, subjects, variant.peers, variant.services, tuple(self._owners[key]))

    def _variants_of(self, key: RuleKey) -> list[Variant]:
        found = self._variants.get(key)
        if found is None:
            variants = self._ingress(key) if key.direction is Direction.INGRESS else self._egress(key)
            found = [v for v in variants if v.subjects and v.peers != frozenset() and v.services != ()]
            self._variants[key] = found
        return found

    def _ingress(self, key: RuleKey) -> Iterator[Variant]:
        """Ingress: the destination is the subject, so a port's name is looked up in each subject."""
        subjects = self.index.select(key.namespace, key.subjects)
        peers = self._peer_nets(key)
        if not key.rule.ports:
            yield Variant(subjects, peers, None)
            return
        plain, names = numbered(key.rule.ports), named(key.rule.ports)
        groups: dict[Services, list[int]] = defaultdict(list)
        for n in subjects:
            groups[normalize(plain + resolve(names, self.index.pods[n])) if names else plain].append(n)
        for services, members in groups.items():
            yield Variant(frozenset(members), peers, services)

    def _egress(self, key: RuleKey) -> Iterator[Variant]:
        """Egress: the destination is the peer, so a name gives one variant for each set of numbers that peers have."""
        subjects = self.index.select(key.namespace, key.subjects)
        if not key.rule.ports:
            yield Variant(subjects, self._peer_nets(key), None)
            return
        plain, names = numbered(key.rule.ports), named(key.rule.ports)
        if plain:
            yield Variant(subjects, self._peer_nets(key), plain)
        if names:
            for services, addresses in self._named_destinations(key, names).items():
                yield Variant(subjects, frozenset(addresses), services)

    def _named_destinations(self, key: RuleKey, names: tuple[PortSpec, ...]) -> dict[Services, set[Net]]:
        """Addresses of the destination pods by the numbers that `names` have there. Behind an ipBlock these are the
        pods inside it."""
        index = self.index
        allowed = self._peer_nets(key)
        blocks = [net for net in allowed or () if not net.is_host]
        groups: dict[Services, set[Net]] = defaultdict(set)
        for n in index.with_port(names):
            pod = index.pods[n]
            services = resolve(names, pod)
            for address in pod.addresses:
                if allowed is not None and address not in allowed and not any(b.contains(address) for b in blocks):
                    continue
                claimants = index.contested.get(address)
                common = _common([resolve(names, index.pods[n]) for n in claimants]) if claimants else services
                if common:
                    groups[common].add(address)
        return groups

    def _peer_nets(self, key: RuleKey) -> frozenset[Net] | None:
        """The rule's peers as prefixes; None when it names none, which means everybody."""
        if not key.rule.peers:
            return None
        nets: set[Net] = set()
        blocks: list[Net] = []
        for peer in key.rule.peers:
            if peer.ip_block is not None:
                blocks.extend(self._block_nets(peer))
            else:
                nets |= self.index.addresses(self._peer_pods(key.namespace, peer))
        return frozenset(nets.union(collapse(blocks)))

    def _block_nets(self, peer: Peer) -> tuple[Net, ...]:
        found = self._blocks.get(peer)
        if found is None:
            block = peer.ip_block
            found = tuple(subtract(block.cidr, block.excepts)) if block else ()
            self._blocks[peer] = found
        return found

    def _peer_pods(self, namespace: str, peer: Peer) -> frozenset[int]:
        """Pods of the policy's own namespace unless the peer has a namespace selector; all its pods unless a pod
        selector."""
        own = namespace if peer.namespaces is None else ""
        found = self._peers.get((own, peer))
        if found is None:
            names = (namespace,) if peer.namespaces is None else self.index.select_namespaces(peer.namespaces)
            selector = peer.pods if peer.pods is not None else Selector()
            found = frozenset().union(*(self.index.select(name, selector) for name in names))
            self._peers[own, peer] = found
        return found


def compile_policy(cluster: Cluster, pods: Iterable[Key]) -> NodePolicy:
    """The rules for a switch that has `pods`, from nothing but the snapshot: the reference for anything incremental."""
    return PolicyCompiler(cluster).for_pods(tuple(pods))


def _common(resolved: list[Services]) -> Services:
    """Ports that every one of the sets has; named ports resolve to single numbers, so plain intersection does."""
    ports = [{(s.protocol, p) for s in services for p in range(s.low, s.high + 1)} for services in resolved]
    return normalize(Service(protocol, port, port) for protocol, port in set.intersection(*ports))


def _identity(key: RuleKey, variant: Variant) -> bytes:
    """A text that is equal in every process for the same rule and services; pods and addresses are no part of it."""
    return repr((key.direction.value, key.namespace, key.subjects, key.rule, variant.services)).encode()
