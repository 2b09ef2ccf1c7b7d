"""The rules of a snapshot for decisions about many ends: which pods they isolate, whom they name, on which ports.

Selection is that of `PodIndex`; what a rule allows to an end is put together in `decision`. Sets are of numbers of
`Ends`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from flows.cluster.model import (
    EVERYTHING,
    Cluster,
    Direction,
    IPBlock,
    Key,
    Labels,
    Peer,
    Pod,
    Policy,
    PortSpec,
    Rule,
    Selector,
)
from flows.cluster.net import ADDRESS_BITS, Net, subtract
from flows.policy.named_ports import common_services, named_ports, resolve_port_names
from flows.policy.pod_index import PodIndex
from flows.policy.rule import RuleKey, policy_rules
from flows.policy.service_ranges import ServiceRanges, numbered_services
from flows.reach.ends import Ends
from flows.reach.peers import PeerRules
from flows.reach.ports import EVERYTHING as EVERY_CONNECTION
from flows.reach.ports import NOTHING, Ports, some_ports
from flows.reach.regions import Allowance
from flows.reach.selected_by import SelectorTable


class SubjectPolicy(NamedTuple):
    """What one policy does to its subjects: it isolates them in these directions, and these rules allow."""

    key: Key
    isolates: frozenset[Direction]
    rules: tuple[int, ...]


class RuleBook:
    """All rules of one snapshot. Sets are computed when they are first asked for."""

    def __init__(
        self,
        cluster: Cluster,
        ends: Ends,
        index: PodIndex,
        about: Collection[str] | None = None,
        labels: Mapping[str, Labels] | None = None,
        policies: Iterable[Policy] | None = None,
    ) -> None:
        """`index` has the pods of `cluster`. `about` says that only ends of pods in these namespaces are asked, and
        those outside not: then rules that name no such pod are left out. `labels` are those of the namespaces with
        pods, and `policies` those that may count, where somebody knows."""
        self.cluster = cluster
        self.ends = ends
        self.index = index
        self.rules: list[RuleKey] = []
        self.peers = {direction: PeerRules() for direction in Direction}
        self._numbers: dict[RuleKey, int] = {}
        self._policies: dict[str, SelectorTable[SubjectPolicy]] = {}
        self._isolated: dict[Direction, int] = {}
        self._like: tuple[RuleBook, int, list[Pod]] | None = None
        self._subjects: dict[tuple[str, Selector], int] = {}
        self._peers: dict[tuple[str, Peer], int] = {}
        self._named: dict[tuple[tuple[PortSpec, ...], bool], list[Allowance]] = {}
        self.namespace_labels = labels if labels is not None else _labels_of_namespaces(cluster)
        self._policies_that_count = list(cluster.policies.values() if policies is None else policies)
        self._counted: list[Key] = []  # of them, those with rules that are not left out
        for policy in self._policies_that_count:
            self._add(policy, about)

    def _add(self, policy: Policy, about: Collection[str] | None) -> None:
        namespace = policy.key.namespace
        if not policy.isolates or namespace not in self.namespace_labels:
            return
        if about is None or namespace in about:
            numbers = tuple(self._number(key) for key, _ in policy_rules(policy))
            table = self._policies.setdefault(namespace, SelectorTable())
            table.add(policy.subjects, SubjectPolicy(policy.key, policy.isolates, numbers))
        elif not (_are_local(policy.ingress) and _are_local(policy.egress)):
            for key, _ in policy_rules(policy):
                self._number(key)
        else:
            return
        self._counted.append(policy.key)

    def with_policies(self, cluster: Cluster, changed: Collection[Key], about: Collection[str]) -> RuleBook:
        """The book of a snapshot that differs in these NetworkPolicies only. It does not know who is isolated: see
        `take_isolated`."""
        kept = (key for key in self._counted if key not in changed)
        policies = [cluster.policies[key] for key in (*kept, *changed) if key in cluster.policies]
        return RuleBook(cluster, self.ends, self.index, about, self.namespace_labels, policies)

    def _number(self, key: RuleKey) -> int:
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.rules)
            self.rules.append(key)
            self.peers[key.direction].add(key, number)
        return number

    def policies_of(self, pod: Pod) -> list[SubjectPolicy]:
        """The policies that select a pod and isolate it in some direction."""
        table = self._policies.get(pod.key.namespace)
        return [] if table is None else [one for _, found in table.find(pod.labels) for one in found]

    def isolated(self, direction: Direction) -> int:
        """The ends of all pods that are isolated in a direction."""
        found = self._isolated.get(direction)
        if found is None:
            found = self._isolated[direction] = self._isolated_like(direction)
        return found

    def _isolated_like(self, direction: Direction) -> int:
        if self._like is None:
            isolating = {
                (policy.key.namespace, policy.subjects)
                for policy in self._policies_that_count
                if direction in policy.isolates and policy.key.namespace in self.namespace_labels
            }
            return self._ends_of(self.index.select_any(isolating))
        other, touched, pods = self._like
        isolated = [pod.key for pod in pods if any(direction in policy.isolates for policy in self.policies_of(pod))]
        return other.isolated(direction) & ~touched | self.ends.of_pods(isolated)

    def take_isolated(self, other: RuleBook, touched: int, pods: Iterable[Pod]) -> None:
        """Take the isolated ends of another book, which has all pods alike but these, with the ends `touched`."""
        self._like = other, touched, list(pods)

    def subjects(self, number: int) -> int:
        """The ends of the subjects of a rule."""
        key = self.rules[number]
        alike = (key.home, key.subjects)
        found = self._subjects.get(alike)
        if found is None:
            found = self._subjects[alike] = self._ends_of(self.index.select(*alike))
        return found

    def peer_ends(self, number: int) -> int:
        """The ends that a rule names as peers; all of them where it names none."""
        key = self.rules[number]
        if not key.rule.peers:
            return (1 << self.ends.size) - 1
        found = 0
        for peer in key.rule.peers:
            found |= self.ends_of_peer(key.home, peer)
        return found

    def ends_of_peer(self, namespace: str, peer: Peer) -> int:
        """The ends of one peer of a policy in `namespace`. Of an address, all pods that claim it must be selected."""
        alike = (namespace if peer.namespaces is None else "", peer)
        found = self._peers.get(alike)
        if found is None:
            found = self._peers[alike] = self._peer(namespace, peer)
        return found

    def ports_at(self, specs: tuple[PortSpec, ...], pods: Iterable[Pod]) -> Ports:
        """The ports of a rule where these pods are the destination: a name is what it is in all of them."""
        names = named_ports(specs)
        if not names:
            return _fixed_ports(specs)
        return some_ports((*numbered_services(specs), *_in_all([resolve_port_names(names, pod) for pod in pods])))

    def allowances(self, specs: tuple[PortSpec, ...], bits: int, *, subjects: bool) -> list[Allowance]:
        """The ports of a rule at these destinations, which may have different numbers for one name. `subjects` says
        that they are the rule's subjects, each asked by itself; else they are peers, of which all claimants of an
        address count."""
        found: list[Allowance] = [(_fixed_ports(specs), bits)]
        names = named_ports(specs)
        if names:
            named = self._named.get((names, subjects))
            if named is None:
                named = self._named[names, subjects] = self._named_ends(names, subjects)
            found += [(ports, bits & ends) for ports, ends in named if bits & ends]
        return [(ports, ends) for ports, ends in found if ports != NOTHING and ends]

    # -- sets --------------------------------------------------------------------------------------------------------

    def _ends_of(self, numbers: Iterable[int]) -> int:
        pods = self.index.pods
        return self.ends.of_pods([pods[n].key for n in numbers])

    def _peer(self, namespace: str, peer: Peer) -> int:
        if peer.ip_block is not None:
            return self._block(peer.ip_block)
        if peer.namespaces is None and peer.pods is None:
            return 0
        where = namespace if peer.namespaces is None else peer.namespaces
        group = self.index.group(where, peer.pods if peer.pods is not None else EVERYTHING)
        try:
            return self.ends.with_addresses(self.index.addresses(group))
        finally:
            self.index.release(group)

    def _block(self, block: IPBlock) -> int:
        """The ends in an address block: those of pods, by their addresses, and the classes outside, by a sample."""
        addresses = self.ends.sorted_addresses
        cidr = block.cidr
        last = Net(cidr.version, cidr.value | (1 << (ADDRESS_BITS[cidr.version] - cidr.prefix)) - 1, 1 << 8)
        low = bisect_left(addresses, Net(cidr.version, cidr.value, 0))
        inside = (one for one in addresses[low : bisect_left(addresses, last)] if _in_block(block, one))
        return self.ends.with_addresses(inside) | self.ends.outside_in(subtract(block.cidr, block.excepts))

    def _named_ends(self, names: tuple[PortSpec, ...], subjects: bool) -> list[Allowance]:
        """The ends with ports of these names, by the numbers that the names have there."""
        pods = self.index.pods
        having = self.index.with_port(names)
        if subjects:
            keys: dict[ServiceRanges, list[Key]] = {}
            for n in having:
                keys.setdefault(resolve_port_names(names, pods[n]), []).append(pods[n].key)
            return [(some_ports(services), self.ends.of_pods(some)) for services, some in keys.items()]
        nets: dict[ServiceRanges, set[Net]] = {}
        for address in {address for n in having for address in pods[n].addresses}:
            claimants = self.index.claimants(address)
            services = _in_all([resolve_port_names(names, pods[n]) for n in claimants])
            nets.setdefault(services, set()).add(address)
        return [(some_ports(one), self.ends.with_addresses(found)) for one, found in nets.items() if one]


def _labels_of_namespaces(cluster: Cluster) -> Mapping[str, Labels]:
    """The labels of each namespace that has pods."""
    return {name: cluster.namespace_labels(name) for name in {key.namespace for key in cluster.pods}}


def _are_local(rules: Iterable[Rule | None]) -> bool:
    """Whether these rules can name pods of their policy's own namespace only."""
    for rule in rules:  # without generators, for policies are very many
        if rule is None:
            continue
        if not rule.peers:
            return False
        for peer in rule.peers:
            if peer.namespaces is not None or peer.ip_block is not None:
                return False
    return True


@lru_cache(1 << 14)
def _fixed_ports(specs: tuple[PortSpec, ...]) -> Ports:
    """The ports of a rule without those that it names."""
    return some_ports(numbered_services(specs)) if specs else EVERY_CONNECTION


def _in_block(block: IPBlock, address: Net) -> bool:
    return block.cidr.contains(address) and not any(hole.contains(address) for hole in block.excepts)


def _in_all(resolved: list[ServiceRanges]) -> ServiceRanges:
    return common_services(resolved) if len(resolved) > 1 else resolved[0] if resolved else ()
