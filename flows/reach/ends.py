"""The ends of connections, numbered: each address of each pod, and the classes of addresses outside.

The numbers follow namespace, workload and pod, so that each of these is a span of numbers. Two snapshots can share one
numbering, so that what they allow can be compared.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cached_property
from operator import itemgetter

from flows.cluster.model import Cluster, Key, Pod
from flows.cluster.net import ADDRESS_BITS, Net
from flows.reach.bits import bits_of, span
from flows.reach.outside import Outside, outside_classes


class Ends:
    """All ends of one or several snapshots. `addresses` has those of pods, with their keys; the classes outside follow.

    A pod without an address has no end: nothing reaches it, and it reaches nothing.
    """

    def __init__(self, clusters: Sequence[Cluster]) -> None:
        snapshots = {id(cluster.pods): cluster.pods for cluster in clusters}
        self._only = next(iter(snapshots.values())) if len(snapshots) == 1 else None
        found = {
            (pod.key.namespace, workload_of(pod), pod.key.name, pod.addresses): pod
            for pods in snapshots.values()
            for pod in pods.values()
            if pod.networked and pod.addresses
        }
        self.addresses: list[tuple[Key, Net]] = []
        self.workloads: list[str] = []
        self._of_pod: dict[Key, list[int]] = {}
        self._with_address: dict[Net, list[int]] = {}
        for (_, workload, _, addresses), pod in sorted(found.items(), key=itemgetter(0)):
            self._add(workload, pod.key, addresses)
        self.outside: list[Outside] = outside_classes(clusters)
        self.size = len(self.addresses) + len(self.outside)

    def _add(self, workload: str, key: Key, addresses: tuple[Net, ...]) -> None:
        known = self._of_pod.setdefault(key, [])
        seen = {self.addresses[n][1] for n in known} if known else ()  # of another snapshot
        for address in sorted(addresses) if len(addresses) > 1 else addresses:
            if address in seen:
                continue
            number = len(self.addresses)
            known.append(number)
            others = self._with_address.get(address)
            if others is None:
                self._with_address[address] = [number]
            else:
                others.append(number)
            self.addresses.append((key, address))
            self.workloads.append(workload)

    @property
    def outside_bits(self) -> int:
        """All ends that are no pods."""
        return span(len(self.addresses), self.size)

    @cached_property
    def families(self) -> dict[int, int]:
        """The ends of each family."""
        versions = [address.version for _, address in self.addresses] + [one.version for one in self.outside]
        return {
            version: bits_of((n for n, one in enumerate(versions) if one == version), self.size)
            for version in ADDRESS_BITS
        }

    def present_in(self, cluster: Cluster) -> int:
        """The ends that a snapshot has; those outside are in all."""
        if cluster.pods is self._only:
            return span(0, self.size)
        pods = cluster.pods
        found = (
            n
            for n, (key, address) in enumerate(self.addresses)
            if (pod := pods.get(key)) is not None and pod.networked and address in pod.addresses
        )
        return bits_of(found, self.size) | self.outside_bits

    def version_of(self, number: int) -> int:
        """The family of an end: 4 or 6."""
        pods = len(self.addresses)
        return self.addresses[number][1].version if number < pods else self.outside[number - pods].version

    def of_pods(self, keys: Iterable[Key]) -> int:
        """The ends of these pods."""
        get = self._of_pod.get
        return bits_of((n for key in keys for n in get(key, ())), self.size)

    def with_addresses(self, addresses: Iterable[Net]) -> int:
        """The pods' ends with one of these addresses."""
        get = self._with_address.get
        return bits_of((n for address in addresses for n in get(address, ())), self.size)

    def outside_in(self, nets: Iterable[Net]) -> int:
        """The classes outside within these prefixes, which have all of a class or none."""
        starts = self._outside_starts
        found: set[int] = set()
        for net in nets:
            first = bisect_left(starts, (net.version, net.value, 0))
            last = net.value + (1 << (ADDRESS_BITS[net.version] - net.prefix)) - 1
            end = bisect_left(starts, (net.version, last + 1, 0))
            found.update(number for _, _, number in starts[first:end])
        return bits_of(found, self.size)

    @cached_property
    def _outside_starts(self) -> list[tuple[int, int, int]]:
        """Family, first address and number of the class of each range outside, sorted."""
        first = len(self.addresses)
        return sorted(
            (one.version, low, number) for number, one in enumerate(self.outside, first) for low, _ in one.ranges
        )

    @cached_property
    def sorted_addresses(self) -> list[Net]:
        """The addresses that pods have, sorted."""
        return sorted(self._with_address)


def workload_of(pod: Pod) -> str:
    """The workload of a pod, as `name[Kind]`; a pod that nothing made is its own, of kind Pod."""
    kind, _, name = pod.workload.partition("/")
    return f"{name}[{kind}]" if name else f"{pod.key.name}[Pod]"
