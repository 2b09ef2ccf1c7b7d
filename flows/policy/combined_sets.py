"""Sets that are made of an index's sets and follow them: a rule's peers together, its subjects and its destinations by
what a port's name stands for.

Rules that say the same share one set, and it goes with the last of them. What came to the sets below, or went, is
looked at again, and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Generic, TypeVar

from flows.cluster.model import IPBlock, PortSpec
from flows.cluster.net import Net, collapse, subtract
from flows.policy.groups import Group, PortName
from flows.policy.pod_index import PodIndex
from flows.policy.services import Service, Services, named_ports, normalize, resolve_port_names
from flows.policy.tracked_sets import ChangeLog, DerivedSet, NetSet, PodSet, PolicyRule, TrackedSet

T = TypeVar("T", int, Net)
S = TypeVar("S", PodSet, NetSet)
PeersName = tuple[frozenset[Group], frozenset[IPBlock]]


class PeerUnion(NetSet):
    """The addresses of several groups, and the prefixes of blocks."""

    __slots__ = ("blocks", "groups", "lengths", "name")

    def __init__(self, log: ChangeLog, name: PeersName, groups: list[NetSet]) -> None:
        self.name = name
        self.groups = groups
        self.blocks = frozenset(collapse([net for block in name[1] for net in subtract(block.cidr, block.excepts)]))
        # The prefix lengths that there are blocks of, to look for a block that holds an address.
        lengths = {(version, prefix) for version, _, prefix in self.blocks}
        self.lengths = {(version, prefix): Net(version, 0, prefix).mask for version, prefix in lengths}
        super().__init__(log, set(self.blocks).union(*(group.members for group in groups)))

    def absorb(self, touched: Collection[Net]) -> None:
        """Addresses may have come to a group, or gone from it."""
        for net in touched:
            self.put(net, net in self.blocks or any(net in group.members for group in self.groups))

    def covers(self, address: Net) -> bool:
        """True when the address is among them, or in a prefix of them."""
        version, value, _ = address
        return address in self.members or any(
            Net(version, value & mask, prefix) in self.blocks
            for (family, prefix), mask in self.lengths.items()
            if family == version
        )


class _ElementsByPort(Generic[T, S]):
    """Elements in sets by the services that a port's names stand for with them."""

    def __init__(self, index: PodIndex, names: tuple[PortSpec, ...], plain: Services) -> None:
        self.index = index
        self.names = names
        self.plain = plain
        self.sets: dict[Services, S] = {}
        self.rules: set[PolicyRule] = set()  # who must look again when a set is empty, or not any more
        self.uses = 0
        self._at: dict[T, Services] = {}

    def _move(self, one: T, services: Services) -> None:
        """An element has these services now; none means that it is in no set."""
        before = self._at.get(one, ())
        if before == services:
            return
        if before:
            self.sets[before].put(one, False)  # type: ignore[arg-type]  # sets of T
            del self._at[one]
        if services:
            if services not in self.sets:
                self.sets[services] = self._new()
            self.sets[services].put(one, True)  # type: ignore[arg-type]  # sets of T
            self._at[one] = services

    def _new(self) -> S:
        raise NotImplementedError

    def prune(self) -> None:
        """Forget the sets that nothing is in."""
        for services in [services for services, found in self.sets.items() if not found.members]:
            del self.sets[services]


class SubjectsByPort(_ElementsByPort[int, PodSet]):
    """The pods of a group: at ingress a name means what it means in the subject."""

    def __init__(self, index: PodIndex, group: Group, names: tuple[PortSpec, ...], plain: Services) -> None:
        super().__init__(index, names, plain)
        self.group = group
        self.absorb(group.members)

    def _new(self) -> PodSet:
        return PodSet(self.index.log, set(), self.rules)

    def absorb(self, touched: Collection[int]) -> None:
        """Pods may have come to the group, or gone from it."""
        for n in touched:
            there = n in self.group.members
            self._move(n, normalize(self.plain + resolve_port_names(self.names, self.index.pods[n])) if there else ())

    def look(self, pods: Iterable[int], addresses: Iterable[Net]) -> None:
        """The ports of pods may have changed."""
        self.absorb([n for n in pods if n in self.group.members])


class DestinationsByPort(_ElementsByPort[Net, NetSet]):
    """The addresses among a rule's peers, None being everybody: at egress a name means what it means in the peer.

    Behind a block it is looked up in the pods inside. Where the names add nothing to the numbers beside them, these
    destinations are among the others already.
    """

    def __init__(self, index: PodIndex, peers: NetSet | None, names: tuple[PortSpec, ...], plain: Services) -> None:
        super().__init__(index, names, plain)
        self.peers = peers
        self.absorb(self._possible())

    def _new(self) -> NetSet:
        return NetSet(self.index.log, set(), self.rules)

    def _possible(self) -> Collection[Net]:
        """All addresses that can have such a port: the fewer of the peers, and of those of pods that have one."""
        pods = self.index.with_port(self.names)
        peers = self.peers
        if peers is not None and not (isinstance(peers, PeerUnion) and peers.blocks) and len(peers.members) < len(pods):
            return peers.members
        return {address for n in pods for address in self.index.pods[n].addresses}

    def absorb(self, touched: Collection[Net]) -> None:
        """Addresses may have come to the peers, or gone, or other ports be behind them."""
        for address in touched:
            self._move(address, self._services(address))

    def look(self, pods: Iterable[int], addresses: Iterable[Net]) -> None:
        """The ports behind addresses may have changed."""
        self.absorb(list(addresses))

    def _services(self, address: Net) -> Services:
        if not address.is_host or not self._covered(address):
            return ()
        found = [resolve_port_names(self.names, self.index.pods[n]) for n in self.index.claimants(address)]
        services = common(found) if len(found) > 1 else found[0] if found else ()
        return services if normalize(self.plain + services) != self.plain else ()

    def _covered(self, address: Net) -> bool:
        if isinstance(self.peers, PeerUnion):
            return self.peers.covers(address)
        return self.peers is None or address in self.peers.members


def common(resolved: list[Services]) -> Services:
    """Ports that every one of the sets has; names stand for single numbers, so plain intersection does."""
    ports = [{(s.protocol, p) for s in services for p in range(s.low, s.high + 1)} for services in resolved]
    return normalize(Service(protocol, port, port) for protocol, port in set.intersection(*ports))


def subscribe(user: DerivedSet, *sources: TrackedSet[int] | TrackedSet[Net]) -> None:
    """Have something made of these sets told what they are touched by."""
    for source in sources:
        source.users = source.users or {}
        source.users[user] = None


def unsubscribe(user: DerivedSet, *sources: TrackedSet[int] | TrackedSet[Net]) -> None:
    """It is told no more."""
    for source in sources:
        if source.users is not None:
            del source.users[user]
            source.users = source.users or None


def port_names(ports: tuple[PortSpec, ...]) -> set[PortName]:
    """The names that a rule's ports have."""
    return {(str(spec.port), spec.protocol) for spec in named_ports(ports)}
