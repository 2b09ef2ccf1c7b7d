"""The addresses outside of the cluster, as far as policies tell them apart.

Two addresses outside are the same to every policy when the same address blocks contain them. Each such class is one
end, with the ranges of addresses that it has. There are at most twice as many as pieces of blocks without exceptions.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from hashlib import blake2b
from typing import NamedTuple

from flows.cluster.model import Cluster, DomainPeer, IPBlock, Key, NodePeer, Pod, Policy
from flows.cluster.net import ADDRESS_BITS, Net, address_text, subtract

AddressRange = tuple[int, int]  # first and last address


class Outside(NamedTuple):
    """A class of addresses of one family. `ranges` are sorted and do not touch; `sample` is one of the addresses."""

    version: int
    ranges: tuple[AddressRange, ...]

    @property
    def sample(self) -> Net:
        """The first address."""
        return Net(self.version, self.ranges[0][0], ADDRESS_BITS[self.version])

    def range_texts(self) -> list[str]:
        """Each range as text, like `10.0.0.0-10.0.0.255`."""
        return [
            f"{address_text(self.version, low)}-{address_text(self.version, high)}"
            if low < high
            else address_text(self.version, low)
            for low, high in self.ranges
        ]

    def __str__(self) -> str:
        return ",".join(self.range_texts())


def outside_classes(clusters: Iterable[Cluster]) -> list[Outside]:
    """All addresses outside, in classes, those of IPv4 first. Ranges in which every address is a pod's are left out."""
    clusters = list(clusters)
    policies = {id(policy): policy for cluster in clusters for policy in cluster.policies.values()}
    blocks = set(_blocks_of_policies(policies.values()))
    for cluster in clusters:
        blocks.update(_blocks_of_tiers(cluster))
    pods = _PodAddresses([*{id(cluster.pods): cluster.pods for cluster in clusters}.values()])
    return [
        one
        for version in ADDRESS_BITS
        for one in _classes(version, [block for block in blocks if block.cidr.version == version], pods)
    ]


class _PodAddresses:
    """The addresses of the pods of some snapshots; sorted only where they may fill a range."""

    def __init__(self, snapshots: list[Mapping[Key, Pod]]) -> None:
        self._snapshots = snapshots
        self._most = sum([len(pod.addresses) for pods in snapshots for pod in pods.values()])

    def fill(self, version: int, one: AddressRange) -> bool:
        """Whether every address of a range is a pod's."""
        first, last = one
        size = last - first + 1
        if size > self._most:
            return False
        found = self._sorted[version]
        return size <= bisect_right(found, last) - bisect_left(found, first)

    @cached_property
    def _sorted(self) -> dict[int, list[int]]:
        found: dict[int, set[int]] = {version: set() for version in ADDRESS_BITS}
        for pod in (pod for pods in self._snapshots for pod in pods.values() if pod.networked):
            for address in pod.addresses:
                found[address.version].add(address.value)
        return {version: sorted(values) for version, values in found.items()}


def _blocks_of_policies(policies: Iterable[Policy]) -> Iterator[IPBlock]:
    for policy in policies:
        for rule in (*policy.ingress, *policy.egress):
            for peer in rule.peers if rule is not None else ():
                if peer.ip_block is not None:
                    yield peer.ip_block


def _blocks_of_tiers(cluster: Cluster) -> Iterator[IPBlock]:
    """The address blocks of ClusterNetworkPolicies. A rule that names nodes, or domains, tells their addresses apart,
    each as a block."""
    by_nodes = by_names = False
    for tiered in cluster.cluster_policies.values():
        for one in (*tiered.ingress, *tiered.egress):
            for other in one.peers:
                if isinstance(other, NodePeer):
                    by_nodes = True
                elif isinstance(other, DomainPeer):
                    by_names = True
                elif other.ip_block is not None:
                    yield other.ip_block
    if by_nodes:
        for node in cluster.nodes.values():
            yield from map(IPBlock, (*node.addresses, *node.external_addresses))
    if by_names:
        yield from (IPBlock(one.address) for learned in cluster.learned.values() for one in learned)


def _classes(version: int, blocks: list[IPBlock], pods: _PodAddresses) -> list[Outside]:
    """Sweep over the addresses. A block changes the signature where a part of it begins and after it ends, so equal
    signatures mean the same blocks."""
    changes: dict[int, int] = {0: 0}
    end = 1 << ADDRESS_BITS[version]
    for block in blocks:
        signature = int.from_bytes(blake2b(repr(block).encode(), digest_size=16).digest(), "big")
        for net in subtract(block.cidr, block.excepts):
            for place in (net.value, net.value + (1 << (ADDRESS_BITS[version] - net.prefix))):
                changes[place] = changes.get(place, 0) ^ signature
    places = sorted(place for place in changes if place < end)
    found: dict[int, list[AddressRange]] = {}
    signature = 0
    for first, after in zip(places, [*places[1:], end], strict=True):
        signature ^= changes[first]
        ranges = found.setdefault(signature, [])
        if ranges and ranges[-1][1] == first - 1:
            ranges[-1] = (ranges[-1][0], after - 1)
        else:
            ranges.append((first, after - 1))
    kept = [[one for one in ranges if not pods.fill(version, one)] for ranges in found.values()]
    return [Outside(version, tuple(ranges)) for ranges in kept if ranges]
