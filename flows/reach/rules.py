"""The rules of a snapshot for decisions about many ends: which pods they isolate, whom they name, on which ports.

Selection is that of `PodIndex`; what a rule allows to an end is put together in `decision`. Sets are of numbers of
`Ends`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from flows.cluster.model import EVERYTHING, Cluster, Direction, IPBlock, Key, Labels, Peer, Pod, PortSpec, Selector
from flows.cluster.net import ADDRESS_BITS, Net
from flows.policy.named_ports import common_services, named_ports, resolve_port_names
from flows.policy.pod_index import PodIndex
from flows.policy.rule import RuleKey, policy_rules
from flows.policy.service_ranges import ServiceRanges, numbered_services
from flows.reach.bits import bits_of
from flows.reach.ends import Ends
from flows.reach.peers import PeerRules
from flows.reach.ports import EVERYTHING as EVERY_CONNECTION
from flows.reach.ports import Ports, some_ports
from flows.reach.regions import Allowance
from flows.reach.selected_by import SelectorTable


class SubjectPolicy(NamedTuple):
    """What one policy does to its subjects: it isolates them in these directions, and these rules allow."""

    key: Key
    isolates: frozenset[Direction]
    rules: tuple[int, ...]


class RuleBook:
    """All rules of one snapshot. Sets are computed when they are first asked for."""

    def __init__(self, cluster: Cluster, ends: Ends, index: PodIndex) -> None:
        """`index` has the pods of `cluster`."""
        self.cluster = cluster
        self.ends = ends
        self.index = index
        self.rules: list[RuleKey] = []
        self.peers = {direction: PeerRules() for direction in Direction}
        self._numbers: dict[RuleKey, int] = {}
        self._policies: dict[str, SelectorTable[SubjectPolicy]] = {}
        self._isolating: dict[Direction, set[tuple[str, Selector]]] = {direction: set() for direction in Direction}
        self._isolated: dict[Direction, int] = {}
        self._subjects: dict[tuple[str, Selector], int] = {}
        self._peers: dict[tuple[str, Peer], int] = {}
        self._named: dict[tuple[tuple[PortSpec, ...], bool], list[tuple[ServiceRanges, int]]] = {}
        self.namespace_labels: Mapping[str, Labels] = {
            name: cluster.namespace_labels(name) for name in {key.namespace for key in cluster.pods}
        }
        for policy in cluster.policies.values():
            namespace = policy.key.namespace
            if policy.isolates and namespace in self.namespace_labels:
                numbers = tuple(self._number(key) for key, _ in policy_rules(policy))
                table = self._policies.setdefault(namespace, SelectorTable())
                table.add(policy.subjects, SubjectPolicy(policy.key, policy.isolates, numbers))
                for direction in policy.isolates:
                    self._isolating[direction].add((namespace, policy.subjects))

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
            groups = self._isolating[direction]
            numbers = {n for namespace, selector in groups for n in self.index.select(namespace, selector)}
            found = self._isolated[direction] = self._ends_of(numbers)
        return found

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
            alike = (key.home if peer.namespaces is None else "", peer)
            bits = self._peers.get(alike)
            if bits is None:
                bits = self._peers[alike] = self._peer(key, peer)
            found |= bits
        return found

    def fixed_ports(self, number: int) -> Ports:
        """The ports of a rule without those that it names."""
        ports = self.rules[number].rule.ports
        return some_ports(numbered_services(ports)) if ports else EVERY_CONNECTION

    def ports_at(self, number: int, pods: Iterable[Pod]) -> Ports:
        """The ports of a rule where these pods are the destination: a name is what it is in all of them."""
        specs = self.rules[number].rule.ports
        fixed, names = self.fixed_ports(number), named_ports(specs)
        if not names:
            return fixed
        resolved = [resolve_port_names(names, pod) for pod in pods]
        return some_ports((*fixed.ranges, *_in_all(resolved)))

    def allowances(self, number: int, bits: int, *, subjects: bool) -> list[Allowance]:
        """A rule for these destinations, which may have different numbers for one name. `subjects` says that they are
        the rule's subjects, each asked by itself; else they are peers, of which all claimants of an address count."""
        found: list[Allowance] = [(self.fixed_ports(number), bits)]
        names = named_ports(self.rules[number].rule.ports)
        if names:
            named = self._named.get((names, subjects))
            if named is None:
                named = self._named[names, subjects] = self._named_ends(names, subjects)
            found += [(some_ports(services), bits & ends) for services, ends in named if bits & ends]
        return [(ports, ends) for ports, ends in found if ports.ranges or ports.others]

    # -- sets --------------------------------------------------------------------------------------------------------

    def _ends_of(self, numbers: Iterable[int]) -> int:
        pods = self.index.pods
        return self.ends.of_pods([pods[n].key for n in numbers])

    def _peer(self, key: RuleKey, peer: Peer) -> int:
        if peer.ip_block is not None:
            return self._block(peer.ip_block)
        if peer.namespaces is None and peer.pods is None:
            return 0
        where = key.namespace if peer.namespaces is None else peer.namespaces
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
        first = len(self.ends.addresses)
        outside = (first + n for n, one in enumerate(self.ends.outside) if _in_block(block, one.sample))
        return self.ends.with_addresses(inside) | bits_of(outside, self.ends.size)

    def _named_ends(self, names: tuple[PortSpec, ...], subjects: bool) -> list[tuple[ServiceRanges, int]]:
        """The ends with ports of these names, by the numbers that the names have there."""
        pods = self.index.pods
        having = self.index.with_port(names)
        if subjects:
            keys: dict[ServiceRanges, list[Key]] = {}
            for n in having:
                keys.setdefault(resolve_port_names(names, pods[n]), []).append(pods[n].key)
            return [(services, self.ends.of_pods(some)) for services, some in keys.items()]
        nets: dict[ServiceRanges, set[Net]] = {}
        for address in {address for n in having for address in pods[n].addresses}:
            claimants = self.index.claimants(address)
            services = _in_all([resolve_port_names(names, pods[n]) for n in claimants])
            nets.setdefault(services, set()).add(address)
        return [(services, self.ends.with_addresses(found)) for services, found in nets.items() if services]


def _in_block(block: IPBlock, address: Net) -> bool:
    return block.cidr.contains(address) and not any(hole.contains(address) for hole in block.excepts)


def _in_all(resolved: list[ServiceRanges]) -> ServiceRanges:
    return common_services(resolved) if len(resolved) > 1 else resolved[0] if resolved else ()
