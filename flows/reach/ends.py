"""The ends of connections, numbered: each address of each pod, and the classes of addresses outside.

The numbers follow namespace, workload and pod, so that each of these is a span of numbers. Two snapshots can share one
numbering, so that what they allow can be compared.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import accumulate

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
        found = [
            (pod.key.namespace, workload_of(pod), pod.key.name, pod.addresses, pod.key)
            for pods in snapshots.values()
            for pod in pods.values()
            if not (pod.host_network or pod.finished) and pod.addresses
        ]
        found.sort()
        # Each with its workload, once where several snapshots have it.
        ends: dict[tuple[Key, Net], str] = {}
        for _, workload, _, addresses, key in found:
            for address in sorted(addresses) if len(addresses) > 1 else addresses:
                ends.setdefault((key, address), workload)
        self.addresses: list[tuple[Key, Net]] = list(ends)
        self.workloads: list[str] = list(ends.values())
        self._of_pods: dict[str, dict[Key, list[int]]] = {}  # by namespace, of those that were asked about
        self.outside: list[Outside] = outside_classes(clusters)
        self.size = len(self.addresses) + len(self.outside)

    @property
    def outside_bits(self) -> int:
        """All ends that are no pods."""
        return span(len(self.addresses), self.size)

    @cached_property
    def families(self) -> dict[int, int]:
        """The ends of each family."""
        outside = ((n, one.version) for n, one in enumerate(self.outside, len(self.addresses)))
        # Most pods' are of IPv4, and their version is the first field.
        others = [n for n, (_, address) in enumerate(self.addresses) if address[0] != 4]
        six = bits_of([*others, *(n for n, version in outside if version != 4)], self.size)
        return {4: span(0, self.size) & ~six, 6: six}

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

    @cached_property
    def namespaces(self) -> dict[str, tuple[int, int]]:
        """The ends of each namespace's pods: from a number up to and without another."""
        counts = Counter([key[0] for key, _ in self.addresses])
        ends = list(accumulate(counts.values()))
        return dict(zip(counts, zip([0, *ends], ends, strict=False), strict=True))

    def of_pods(self, keys: Iterable[Key]) -> int:
        """The ends of these pods."""
        return bits_of((n for key in keys for n in self._of_pods_in(key.namespace).get(key, ())), self.size)

    def _of_pods_in(self, namespace: str) -> dict[Key, list[int]]:
        """The ends of each pod of a namespace. Often few namespaces are asked about."""
        found = self._of_pods.get(namespace)
        if found is None:
            found = self._of_pods[namespace] = {}
            for n in range(*self.namespaces.get(namespace, (0, 0))):
                found.setdefault(self.addresses[n][0], []).append(n)
        return found

    def with_addresses(self, addresses: Iterable[Net]) -> int:
        """The pods' ends with one of these addresses."""
        one, others = self._one_with, self._others_with
        found = [address for address in addresses if address in one]
        numbers = [one[address] for address in found]
        if others:
            numbers += [n for address in found for n in others.get(address, ())]
        return bits_of(numbers, self.size)

    @cached_property
    def _one_with(self) -> dict[Net, int]:
        """The last pod's end with each address."""
        return {address: n for n, (_, address) in enumerate(self.addresses)}

    @cached_property
    def _others_with(self) -> dict[Net, list[int]]:
        """The other ends with an address that several pods have: hardly any has."""
        one, found = self._one_with, dict[Net, list[int]]()
        for n, (_, address) in enumerate(self.addresses) if len(one) < len(self.addresses) else ():
            if one[address] != n:
                found.setdefault(address, []).append(n)
        return found

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
        return sorted(self._one_with)


def workload_of(pod: Pod) -> str:
    """The workload of a pod, as `name[Kind]`; a pod that nothing made is its own, of kind Pod."""
    kind, _, name = pod.workload.partition("/")
    return f"{name}[{kind}]" if name else f"{pod.key.name}[Pod]"
