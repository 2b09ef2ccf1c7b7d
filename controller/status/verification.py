"""Compares policy with the switches over many connections: a sample, or all between the pods of some bridges.

Policy's answer is `flows.policy.verdict`, the switches' that of `walks`. Which connections are asked follows from a
seed alone, so that an answer can be had again. Nothing is sent.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import groupby

from controller.status.verify_model import MAX_CONNECTIONS, VERIFY_VERSION, DifferenceView, VerifyView
from controller.status.walks import Switches, SwitchParts
from flows.cluster.model import Cluster, Protocol
from flows.cluster.net import ADDRESS_BITS, Net, host_address_error
from flows.explain.scope import concerning
from flows.explain.walk import end_name
from flows.interpret.journey import Journey
from flows.policy.probe import ICMP, ICMPV6, Endpoint, Probe, protocol_name
from flows.policy.verdict import verdict
from flows.reach.outside import Outside, outside_classes

# Addresses for examples: RFC 5737 and RFC 3849.
EXAMPLES = {4: (0xC0000201, 0xC6336401, 0xCB007101), 6: (0x20010DB8 << 96 | 1,)}
MAX_DIFFERENCES = 50  # that are named; all are counted
MAX_OUTSIDE, MAX_PORTS = 20, 200  # classes of addresses outside, and ports, that are asked
Port = tuple[int, int | None]  # protocol and port; None for ICMP of the family


def compare(
    cluster: Cluster, parts: Sequence[SwitchParts], count: int, seed: int, in_time: Callable[[], bool]
) -> VerifyView:
    """Compare `count` connections, or all where there are no more, until `in_time` is false. Raises Unwalkable."""
    switches = Switches(parts)
    ends = _ends(cluster, parts)
    part = concerning(cluster, [end.pod for end in ends if end.pod], [end.address for end in ends])
    ports = _ports(part)
    pairs = _Pairs(ends)
    possible = pairs.number * len(ports)
    wanted = min(count, possible, MAX_CONNECTIONS)
    allowed = denied = differ = asked = 0
    named: list[DifferenceView] = []
    for probe in _probes(pairs, ports, wanted, seed):
        if not in_time():
            break
        journey = switches.travel(probe)
        expected = verdict(part, probe).allowed
        asked += 1
        allowed += expected and journey.delivered
        denied += not expected and not journey.delivered
        if expected != journey.delivered:
            differ += 1
            if len(named) < MAX_DIFFERENCES:
                named.append(_difference(probe, expected, journey))
    names = tuple(f"{part.node or part.name[0]} ({part.name[1]})" for part in parts)
    notes = (switches.note,) if switches.note else ()
    complete = asked == possible
    return VerifyView(VERIFY_VERSION, names, possible, asked, allowed, denied, differ, complete, tuple(named), notes)


def _difference(probe: Probe, allowed: bool, journey: Journey) -> DifferenceView:
    return DifferenceView(
        end_name(probe.source),
        str(probe.source.address),
        end_name(probe.destination),
        str(probe.destination.address),
        protocol_name(probe.protocol),
        probe.port,
        allowed,
        journey.delivered,
        journey.reason,
    )


def _ends(cluster: Cluster, parts: Sequence[SwitchParts]) -> list[Endpoint]:
    """Each address of each pod with a port on these bridges, and addresses outside that policies tell apart."""
    found = [
        Endpoint(address, pod=one.pod)
        for part in parts
        for one in part.binding.pods
        if (pod := cluster.pods.get(one.pod)) is not None and pod.networked
        for address in one.addresses
    ]
    taken = {address for node in cluster.nodes.values() for address in node.addresses}
    taken |= {end.address for end in found} | {one for pod in cluster.pods.values() for one in pod.addresses}
    ranges = [net for part in parts for node in part.binding.routing.nodes for net in node.nets]
    if not all(part.binding.routing.routes or part.binding.uplink is not None for part in parts):
        return found  # no way leads outside from there
    chosen = [_usable(one, taken, ranges) for one in outside_classes([cluster])[:MAX_OUTSIDE]]
    return found + [Endpoint(address) for address in chosen if address is not None]


def _usable(one: Outside, taken: Collection[Net], ranges: Sequence[Net]) -> Net | None:
    """An address of the class that a machine outside can have: not 0.0.0.0, for one, and not a node's or in the pods'
    range of one. None where there is none near the ends of the class, and none for examples."""
    for low, high in one.ranges:
        examples = [value for value in EXAMPLES[one.version] if low <= value <= high]
        for value in dict.fromkeys((low, min(low + 1, high), *examples, (low + high) // 2, high)):
            address = Net(one.version, value, ADDRESS_BITS[one.version])
            if (
                not host_address_error(address)
                and address not in taken
                and not any(net.contains(address) for net in ranges)
            ):
                return address
    return None


def _ports(cluster: Cluster) -> list[Port]:
    """Both edges of each port that a policy or a pod names, one of each protocol, and ICMP."""
    found: set[tuple[int, int]] = {(int(protocol), 80) for protocol in Protocol}
    for policy in cluster.policies.values():
        for rule in (*policy.ingress, *policy.egress):
            for spec in rule.ports if rule is not None else ():
                if isinstance(spec.port, int):
                    last = spec.end_port or spec.port
                    found |= {(int(spec.protocol), n) for n in (spec.port - 1, spec.port, last, last + 1)}
    found |= {(int(port.protocol), port.number) for pod in cluster.pods.values() for port in pod.ports}
    kept: list[Port] = [(protocol, port) for protocol, port in sorted(found) if 1 <= port <= 65535]
    return [*kept[:MAX_PORTS], (ICMP, None)]


class _Pairs:
    """The pairs of ends that can be connected, by number: of one family, and not of one pod or both outside."""

    def __init__(self, ends: Sequence[Endpoint]) -> None:
        # Ends of one pod are neighbours, so the others are what is before and after them.
        self._ends = sorted(ends, key=lambda one: (one.address.version, str(one.pod or ""), one.address))
        self._blocks: list[tuple[int, int, int, int]] = []  # of each end: its family's first and last, its pod's
        self._firsts: list[int] = []  # of each end: the number of its first pair
        self.number = 0
        for family in _runs(self._ends, lambda one: one.address.version):
            for own in _runs(self._ends[family[0] : family[1]], lambda one: one.pod):
                for _ in range(*own):
                    self._blocks.append((*family, family[0] + own[0], family[0] + own[1]))
                    self._firsts.append(self.number)
                    self.number += family[1] - family[0] - (own[1] - own[0])

    def __getitem__(self, number: int) -> tuple[Endpoint, Endpoint]:
        """The pair with this number, below `number`."""
        source = bisect_right(self._firsts, number) - 1
        first, _, own_first, own_last = self._blocks[source]
        other = first + number - self._firsts[source]
        return self._ends[source], self._ends[other if other < own_first else other + own_last - own_first]


def _runs(ends: Sequence[Endpoint], key: Callable[[Endpoint], object]) -> Iterator[tuple[int, int]]:
    """The first and the last place, exclusive, of neighbours with one key."""
    first = 0
    for _, group in groupby(ends, key):
        last = first + sum(1 for _ in group)
        yield first, last
        first = last


def _probes(pairs: _Pairs, ports: Sequence[Port], wanted: int, seed: int) -> Iterator[Probe]:
    """`wanted` different connections of those there are, by chance where there are more."""
    for number in random.Random(seed).sample(range(pairs.number * len(ports)), wanted):
        pair, place = divmod(number, len(ports))
        source, destination = pairs[pair]
        protocol, port = ports[place]
        version6 = source.address.version == 6
        yield Probe(source, destination, ICMPV6 if protocol == ICMP and version6 else protocol, port)
