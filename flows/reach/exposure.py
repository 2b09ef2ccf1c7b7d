"""What the policies of each workload allow with pods that do not exist yet: its exposure, by the peers that rules name.

What a workload's own policies, all tiers included, allow with the `strangers` of a kind is its exposure to that kind:
what all of them may. What policies would select the strangers themselves is not asked: nobody knows them. A port that
an egress rule names has no number there, so its name is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import reduce
from typing import NamedTuple

from flows.cluster.model import Cluster, ClusterPolicy, ContainerPort, Direction, Key, Policy, PortSpec, Protocol
from flows.policy.service_ranges import MAX_PORT, ServiceRange
from flows.reach.bits import bits_of, numbers_of
from flows.reach.decision import Decision
from flows.reach.ends import Ends
from flows.reach.model import Exposure
from flows.reach.ports import NOTHING, Ports, common, contains, ports_text, some_ports, union, without
from flows.reach.regions import Region
from flows.reach.strangers import ANY_POD, Kind, Strangers


class Exposures(NamedTuple):
    """The exposure of each workload, first with any pod, then with the kinds of pods that may do more, or less.

    `left_out` is the number of kinds that were not asked about, because there are too many.
    """

    found: tuple[Exposure, ...]
    left_out: int


def exposures(cluster: Cluster) -> Exposures:
    """What the workloads of a cluster are open to."""
    names = _names_of(cluster)
    made = Strangers(cluster, tuple(one.port for one in names.named))
    strangers = {pod.key: pod for kind in made.kinds for pod in kind.strangers}
    world = replace(cluster, pods={**cluster.pods, **strangers}, namespaces={**cluster.namespaces, **made.namespaces})
    decision = Decision(world)
    allowances = _Allowances(decision, made.kinds)
    found = []
    for (namespace, workload), numbers in _workloads(decision.ends, strangers.keys()).items():
        for direction in Direction:
            allowed = allowances.of(numbers, direction)
            anybody = allowed[ANY_POD]
            for name, ports in allowed.items():
                if (ports != NOTHING) if name == ANY_POD else (ports != anybody):
                    found.append(Exposure(f"{namespace}/{workload}", direction.value, name, names.text(ports)))
    found.sort(key=lambda one: (one.direction, one.workload, one.peer != ANY_POD, one.peer))
    return Exposures(tuple(found), made.left_out)


class _Allowances:
    """What ends are allowed with each kind of strangers; those of ends with equal policies are computed once."""

    def __init__(self, decision: Decision, kinds: Iterable[Kind]) -> None:
        self._decision = decision
        self._kinds = list(kinds)
        ends = decision.ends
        keys = {pod.key for kind in self._kinds for pod in kind.strangers}
        self._keys = {n: key for n, (key, _) in enumerate(ends.addresses) if key in keys}
        strangers = bits_of(self._keys, ends.size)
        self._masks = {version: strangers & bits for version, bits in ends.families.items()}
        self._known: dict[frozenset[tuple[int, int]], dict[str, Ports]] = {}

    def of(self, numbers: Iterable[int], direction: Direction) -> Mapping[str, Ports]:
        """By kind, what the ends of one workload are allowed at least: over one family, and at one of its pods."""
        regions: dict[tuple[int, int], Region] = {}
        for n in numbers:
            region = self._decision.own(n, direction)
            regions[id(region), self._decision.ends.version_of(n)] = region
        alike = frozenset(regions)
        if alike not in self._known:
            self._known[alike] = self._with_kinds([(version, region) for (_, version), region in regions.items()])
        return self._known[alike]

    def _with_kinds(self, regions: Iterable[tuple[int, Region]]) -> dict[str, Ports]:
        allowed: dict[Key, Ports] = {}
        for version, region in regions:
            for ports, bits in region.items():
                for number in numbers_of(bits & self._masks[version]):
                    key = self._keys[number]
                    allowed[key] = union(allowed.get(key, NOTHING), ports)
        return {
            kind.name: reduce(common, (allowed.get(pod.key, NOTHING) for pod in kind.strangers)) for kind in self._kinds
        }


def _workloads(ends: Ends, without_pods: Iterable[Key]) -> dict[tuple[str, str], list[int]]:
    """The ends of each workload that exists."""
    left_out = set(without_pods)
    found: dict[tuple[str, str], list[int]] = {}
    for number, (key, _) in enumerate(ends.addresses):
        if key not in left_out:
            found.setdefault((key.namespace, ends.workloads[number]), []).append(number)
    return found


# -- ports by name ---------------------------------------------------------------------------------------------------


class _Named(NamedTuple):
    port: ContainerPort
    unnamed: int  # a number that no rule tells apart from it, but for its name


class _Names(NamedTuple):
    """The ports that egress rules name, each with a number that no rule names: with it the strangers have the port."""

    named: tuple[_Named, ...]

    def text(self, ports: Ports) -> str:
        """The text of ports, with those that are open, or closed, by their name only."""
        opened, closed = [], []
        for port, unnamed in self.named:
            only = some_ports([ServiceRange(port.protocol, port.number, port.number)])
            by_name, otherwise = (contains(ports, port.protocol, n) for n in (port.number, unnamed))
            if by_name and not otherwise:
                opened.append((port.protocol, port.name))
                ports = without(ports, only)
            elif otherwise and not by_name:
                closed.append(f"{port.protocol.name} {port.name}")
                ports = union(ports, only)
        text = ports_text(ports, opened)
        return f"{text} but {','.join(closed)}" if closed else text


def _names_of(cluster: Cluster) -> _Names:
    names: dict[tuple[Protocol, str], None] = {}
    taken = bytearray(MAX_PORT + 1)
    for spec, direction in _specs(cluster):
        if isinstance(spec.port, int):
            low, high = spec.port, spec.end_port or spec.port
            if low > 1 or high < MAX_PORT:  # a range of all ports tells none apart
                taken[low : high + 1] = b"\1" * (high + 1 - low)
        elif spec.port is not None and direction is Direction.EGRESS:
            names[spec.protocol, spec.port] = None
    free = (number for number in range(1, MAX_PORT + 1) if not taken[number])
    unnamed = next(free, None)
    if unnamed is None:
        return _Names(())
    numbered = zip(sorted(names), free, strict=False)  # names beyond the free numbers are not told
    return _Names(tuple(_Named(ContainerPort(name, n, protocol), unnamed) for (protocol, name), n in numbered))


def _specs(cluster: Cluster) -> Iterator[tuple[PortSpec, Direction]]:
    policies: list[Policy | ClusterPolicy] = [*cluster.policies.values(), *cluster.cluster_policies.values()]
    for policy in policies:
        for direction, rules in ((Direction.INGRESS, policy.ingress), (Direction.EGRESS, policy.egress)):
            yield from ((spec, direction) for rule in rules if rule is not None for spec in rule.ports)
