"""The addresses outside of the cluster, as far as policies tell them apart.

Two addresses outside are the same to every policy when the same address blocks contain them. Each such class is one
end, with the ranges of addresses that it has. There are at most twice as many as pieces of blocks without exceptions.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple

from flows.cluster.model import Cluster, DomainPeer, IPBlock, NodePeer, Policy
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
    pods: dict[int, set[int]] = {version: set() for version in ADDRESS_BITS}
    for cluster in clusters:
        blocks.update(_blocks_of_tiers(cluster))
    for snapshot in {id(cluster.pods): cluster.pods for cluster in clusters}.values():
        for pod in snapshot.values():
            if pod.networked:
                for address in pod.addresses:
                    pods[address.version].add(address.value)
    return [
        one
        for version in ADDRESS_BITS
        for one in _classes(
            version,
            [block for block in blocks if block.cidr.version == version],
            sorted(pods[version]),
        )
    ]


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


def _classes(version: int, blocks: list[IPBlock], pods: list[int]) -> list[Outside]:
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
    kept = [[one for one in ranges if _has_others(one, pods)] for ranges in found.values()]
    return [Outside(version, tuple(ranges)) for ranges in kept if ranges]


def _has_others(one: AddressRange, pods: list[int]) -> bool:
    first, last = one
    return last - first + 1 > bisect_right(pods, last) - bisect_left(pods, first)
