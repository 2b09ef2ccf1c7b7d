"""Sets computed from an index's sets, and kept up to date with them: the union of a rule's peers, and a rule's subjects
or destinations by the numbers that port names have there.

Equal rules share one such set; `rule_sets` creates and releases them. When a source changes, only the changed elements
are decided anew.

Example: a rule allows port `web` at ingress of `app: a`. Pods 1 and 2 have web=80, pod 3 has web=8080. SubjectsByPort
then has {(TCP 80): {1, 2}, (TCP 8080): {3}}, and each of the two sets becomes the subjects of a conjunction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Generic, TypeVar

from flows.cluster.model import IPBlock, PortSpec
from flows.cluster.net import Net, collapse, subtract
from flows.policy.groups import Group, PortName
from flows.policy.named_ports import common_services, named_ports, resolve_port_names
from flows.policy.pod_index import PodIndex
from flows.policy.service_ranges import ServiceRanges, normalize
from flows.policy.tracked_sets import ChangeLog, DerivedSet, NetSet, PodSet, PolicyRule, TrackedSet

T = TypeVar("T", int, Net)
S = TypeVar("S", PodSet, NetSet)
PeersKey = tuple[frozenset[NetSet], frozenset[IPBlock]]


class PeerUnion(NetSet):
    """The addresses of several groups, of pods or nodes, and the prefixes of ipBlocks."""

    __slots__ = ("_masks", "blocks", "groups", "key")

    def __init__(self, log: ChangeLog, key: PeersKey, groups: list[NetSet], blocks: Iterable[IPBlock]) -> None:
        self.key = key
        self.groups = groups
        self.blocks = frozenset(collapse(_prefixes(blocks)))
        # The masks of the blocks' prefix lengths, to find a block that contains an address; None until that is asked.
        self._masks: dict[tuple[int, int], int] | None = None
        super().__init__(log, set(self.blocks).union(*(group.members for group in groups)))

    def update_elements(self, changed: Collection[Net]) -> None:
        """Decide anew whether these addresses belong to the union."""
        for net in changed:
            self.set_member(net, net in self.blocks or any(net in group.members for group in self.groups))

    def covers(self, address: Net) -> bool:
        """True when the address is a member, or lies in one of the blocks."""
        if self._masks is None:
            lengths = {(version, prefix) for version, _, prefix in self.blocks}
            self._masks = {(version, prefix): Net(version, 0, prefix).mask for version, prefix in lengths}
        version, value, _ = address
        return address in self.members or any(
            Net(version, value & mask, prefix) in self.blocks
            for (family, prefix), mask in self._masks.items()
            if family == version
        )


def _prefixes(blocks: Iterable[IPBlock]) -> Iterator[Net]:
    """The prefixes of ipBlocks without their exceptions, which few blocks have."""
    for cidr, excepts in blocks:
        if excepts:
            yield from subtract(cidr, excepts)
        else:
            yield cidr


class _SetsByServices(Generic[T, S]):
    """Disjoint sets of elements, by the services that a rule's port names resolve to at each element.

    `rules` are the rules to resolve again when one of the sets becomes empty or ceases to be empty.
    """

    def __init__(self, index: PodIndex, names: tuple[PortSpec, ...], numbered: ServiceRanges) -> None:
        self.index = index
        self.names = names
        self.numbered = numbered
        self.sets: dict[ServiceRanges, S] = {}
        self.rules: set[PolicyRule] = set()
        self._services_of: dict[T, ServiceRanges] = {}

    def _assign(self, element: T, services: ServiceRanges) -> None:
        """Move an element to the set of these services; to none when there are none."""
        before = self._services_of.get(element, ())
        if before == services:
            return
        if before:
            self.sets[before].set_member(element, False)  # type: ignore[arg-type]  # sets of T
            del self._services_of[element]
        if services:
            if services not in self.sets:
                self.sets[services] = self._new_set()
            self.sets[services].set_member(element, True)  # type: ignore[arg-type]  # sets of T
            self._services_of[element] = services

    def _new_set(self) -> S:
        raise NotImplementedError

    def drop_empty_sets(self) -> None:
        """Delete the sets without members."""
        for services in [services for services, found in self.sets.items() if not found.members]:
            del self.sets[services]


class SubjectsByPort(_SetsByServices[int, PodSet]):
    """The pods of a group by services: at ingress a port's name is resolved in the subject."""

    def __init__(self, index: PodIndex, group: Group, names: tuple[PortSpec, ...], numbered: ServiceRanges) -> None:
        super().__init__(index, names, numbered)
        self.group = group
        self.update_elements(group.members)

    def _new_set(self) -> PodSet:
        return PodSet(self.index.changed_sets, set(), self.rules)

    def update_elements(self, changed: Collection[int]) -> None:
        """Resolve the names anew in these pods, which may have left the group."""
        for n in changed:
            present = n in self.group.members
            self._assign(
                n, normalize(self.numbered + resolve_port_names(self.names, self.index.pods[n])) if present else ()
            )

    def update_ports(self, pods: Iterable[int], addresses: Iterable[Net]) -> None:
        """The container ports of these pods may have changed."""
        self.update_elements([n for n in pods if n in self.group.members])


class DestinationsByPort(_SetsByServices[Net, NetSet]):
    """The addresses of a rule's peers by services: at egress a port's name is resolved in the peer. `peers` is None for
    every address.

    Inside an ipBlock a name is resolved in the pods with addresses there. Addresses where the names add nothing to the
    rule's numbers are left out: the rule without names covers them.
    """

    def __init__(
        self, index: PodIndex, peers: NetSet | None, names: tuple[PortSpec, ...], numbered: ServiceRanges
    ) -> None:
        super().__init__(index, names, numbered)
        self.peers = peers
        self.update_elements(self._candidates())

    def _new_set(self) -> NetSet:
        return NetSet(self.index.changed_sets, set(), self.rules)

    def _candidates(self) -> Collection[Net]:
        """All addresses that can have such a port: the peers, or the addresses of pods with one if they are fewer."""
        pods = self.index.with_port(self.names)
        peers = self.peers
        if peers is not None and not (isinstance(peers, PeerUnion) and peers.blocks) and len(peers.members) < len(pods):
            return peers.members
        return {address for n in pods for address in self.index.pods[n].addresses}

    def update_elements(self, changed: Collection[Net]) -> None:
        """Resolve the names anew at these addresses, which may have left the peers."""
        for address in changed:
            self._assign(address, self._resolve_at(address))

    def update_ports(self, pods: Iterable[int], addresses: Iterable[Net]) -> None:
        """The container ports behind these addresses may have changed."""
        self.update_elements(list(addresses))

    def _resolve_at(self, address: Net) -> ServiceRanges:
        if not address.is_host or not self._covered(address):
            return ()
        found = [resolve_port_names(self.names, self.index.pods[n]) for n in self.index.claimants(address)]
        services = common_services(found) if len(found) > 1 else found[0] if found else ()
        return services if normalize(self.numbered + services) != self.numbered else ()

    def _covered(self, address: Net) -> bool:
        if isinstance(self.peers, PeerUnion):
            return self.peers.covers(address)
        return self.peers is None or address in self.peers.members


def subscribe(derived: DerivedSet, *sources: TrackedSet[int] | TrackedSet[Net]) -> None:
    """Have the changed elements of `sources` passed to `derived`."""
    for source in sources:
        source.derived = source.derived or {}
        source.derived[derived] = None


def unsubscribe(derived: DerivedSet, *sources: TrackedSet[int] | TrackedSet[Net]) -> None:
    """End `subscribe`."""
    for source in sources:
        if source.derived is not None:
            del source.derived[derived]
            source.derived = source.derived or None


def port_names(ports: tuple[PortSpec, ...]) -> set[PortName]:
    """The port names in a rule's ports, each with its protocol."""
    return {(str(spec.port), spec.protocol) for spec in named_ports(ports)}
