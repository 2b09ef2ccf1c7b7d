"""Decides assertions exactly, over all pods, protocols, ports and addresses, with a counterexample for each that fails.

`flows.reach` decides about one end and all others at once. Addresses outside are decided by classes that no policy
tells apart, so that nothing is sampled. A pod with itself is never asked, for that is always open; nor are two ends
outside.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from flows.cluster.model import Cluster, Direction, Protocol
from flows.cluster.net import ADDRESS_BITS, Net, address_text
from flows.cluster.selectors import matches
from flows.explain.model import Connection, EndExplanation
from flows.explain.walk import explain_connection
from flows.lint.assertion_parse import Assertion, End, Expect, PortRange
from flows.lint.codes import ASSERTION_EMPTY, ASSERTION_FAILED, Code
from flows.policy.probe import ICMP, ICMPV6, Endpoint, Probe
from flows.policy.service_ranges import ServiceRange
from flows.reach.bits import bits_of, numbers_of, span
from flows.reach.decision import Decision
from flows.reach.ports import EVERYTHING, NOTHING, Ports, common, some_ports, without
from flows.reach.regions import at


class Failure(NamedTuple):
    """An assertion that does not hold, and why, with a counterexample where there is one."""

    code: Code
    assertion: Assertion
    message: str


def failures(cluster: Cluster, assertions: Iterable[Assertion]) -> Iterator[Failure]:
    """The assertions that do not hold for a cluster."""
    wanted = list(assertions)
    if not wanted:
        return
    judge = _Judge(cluster)
    for one in wanted:
        found = judge.judge(one)
        if found is not None:
            yield found


class _Judge:
    """One decision for all assertions about a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._decision = Decision(cluster)
        self._ends = self._decision.ends

    def judge(self, one: Assertion) -> Failure | None:
        """Why an assertion does not hold; None when it does."""
        sources, destinations = self._bits(one.source), self._bits(one.destination)
        for end, bits in (("from", sources), ("to", destinations)):
            if not bits:
                return Failure(ASSERTION_EMPTY, one, f"nothing matches `{end}`")
        if one.expect is Expect.ONLY:
            sources = self._everything & ~sources
        ports = EVERYTHING if not one.ports else _ports(one.ports)
        asked, wrong, example = 0, 0, None
        for number in numbers_of(sources):
            within = self._asked(number, destinations)
            bad = self._violating(number, within, ports, one.expect)
            asked += within.bit_count()
            wrong += bad.bit_count()
            if bad and example is None:
                example = number, (bad & -bad).bit_length() - 1
        if example is not None:
            return Failure(ASSERTION_FAILED, one, self._text(one, example, ports, wrong))
        if not asked and one.expect is Expect.ALLOWED:
            return Failure(
                ASSERTION_EMPTY, one, "no two of its ends can talk: they are one pod, or of different families"
            )
        return None

    @property
    def _everything(self) -> int:
        return self._decision.present

    def _asked(self, number: int, destinations: int) -> int:
        """The destinations that one source is asked about."""
        within = destinations & self._everything & self._ends.families[self._ends.version_of(number)]
        if number >= len(self._ends.addresses):
            return within & ~self._ends.outside_bits
        return within & ~self._ends.of_pods([self._ends.addresses[number][0]])

    def _violating(self, number: int, within: int, ports: Ports, expect: Expect) -> int:
        """The destinations for which the expectation does not hold."""
        region = self._decision.region(number, Direction.EGRESS)
        if expect is Expect.ALLOWED:
            whole = 0
            for allowed, bits in region.items():
                if common(allowed, ports) == ports:
                    whole |= bits
            return within & ~whole
        some = 0
        for allowed, bits in region.items():
            if common(allowed, ports) != NOTHING:
                some |= bits
        return within & some

    # -- ends --------------------------------------------------------------------------------------------------------

    def _bits(self, end: End) -> int:
        ends = self._ends
        if end.other is not None:
            return self._everything & ~self._bits(end.other)
        if end.addresses is not None:
            return self._within(end.addresses)
        pods = span(0, len(ends.addresses))
        if end.word:
            return self._everything & {"outside": ends.outside_bits, "pods": pods}.get(end.word, -1)
        return self._everything & ends.of_pods(
            key
            for key, pod in self._cluster.pods.items()
            if (end.pod is None or key == end.pod)
            and (not end.namespace or key.namespace == end.namespace)
            and (end.labels is None or matches(end.labels, pod.labels))
            and (
                end.namespace_labels is None
                or matches(end.namespace_labels, self._cluster.namespace_labels(key.namespace))
            )
        )

    def _within(self, net: Net) -> int:
        """The pods with an address in a prefix, and the classes of other addresses that have some there."""
        ends = self._ends
        first, last = net.value, net.value + (1 << ADDRESS_BITS[net.version] - net.prefix) - 1
        numbers = [n for n, (_, address) in enumerate(ends.addresses) if net.contains(address)]
        taken = sorted({address.value for _, address in ends.addresses if address.version == net.version})
        for place, one in enumerate(ends.outside, len(ends.addresses)):
            if one.version != net.version:
                continue
            for low, high in one.ranges:
                start, end = max(low, first), min(high, last)
                if start <= end and end - start + 1 > bisect_right(taken, end) - bisect_left(taken, start):
                    numbers.append(place)
                    break
        return bits_of(numbers, ends.size) & self._everything

    # -- counterexamples ---------------------------------------------------------------------------------------------

    def _text(self, one: Assertion, example: tuple[int, int], ports: Ports, wrong: int) -> str:
        source, destination = example
        allowed = at(self._decision.region(source, Direction.EGRESS), destination)
        wants = one.expect is Expect.ALLOWED
        protocol, port = _first(without(ports, allowed) if wants else common(ports, allowed))
        what = "other protocols, like ICMP," if port is None else f"{port}/{Protocol(protocol).name}"
        verb = "does not reach" if wants else "reaches"
        more = f", and {wrong - 1:,} more pairs like it" if wrong > 1 else ""
        text = f"{self._name(source)} {verb} {self._name(destination)} on {what}{more}"
        ends = self._endpoint(source), self._endpoint(destination)
        if port is None:
            protocol = {4: ICMP, 6: ICMPV6}[ends[0].address.version]
        found = explain_connection(self._cluster, Probe(ends[0], ends[1], protocol, port))
        # An address that only a node has is in no class: there the verdict may know more.
        return text if found.allowed == wants else f"{text}; {_reason(found)}"

    def _endpoint(self, number: int) -> Endpoint:
        pods = len(self._ends.addresses)
        if number < pods:
            key, address = self._ends.addresses[number]
            return Endpoint(address, pod=key)
        return Endpoint(self._sample(number))

    def _sample(self, number: int) -> Net:
        """An address of a class outside that no pod has."""
        one = self._ends.outside[number - len(self._ends.addresses)]
        taken = {address.value for _, address in self._ends.addresses if address.version == one.version}
        nodes = {address.value for node in self._cluster.nodes.values() for address in node.addresses}
        for known in (taken | nodes, taken):
            for low, high in one.ranges:
                value = next(
                    (value for value in range(low, min(high, low + len(known)) + 1) if value not in known), None
                )
                if value is not None:
                    return Net(one.version, value, ADDRESS_BITS[one.version])
        return one.sample

    def _name(self, number: int) -> str:
        end = self._endpoint(number)
        if end.pod is not None:
            return f"{end.pod} ({end.address})"
        return f"{address_text(end.address.version, end.address.value)} outside"


def _ports(ranges: Iterable[PortRange]) -> Ports:
    return some_ports(ServiceRange(one.protocol, one.low, one.high) for one in ranges)


def _first(ports: Ports) -> tuple[int, int | None]:
    """One protocol and port of a set that is not empty."""
    if ports.ranges:
        return int(ports.ranges[0].protocol), max(1, ports.ranges[0].low)
    return 0, None


def _reason(found: Connection) -> str:
    """What decides a connection, in a few words."""
    if found.allowed:
        return " and ".join(_end_reason(end) for end in (found.egress, found.ingress))
    return _end_reason(found.egress if not found.egress.allowed else found.ingress)


def _end_reason(end: EndExplanation) -> str:
    name = f"{end.direction} of {end.end}"
    if end.decided_by:
        return f"{name}: {'allowed' if end.allowed else 'denied'} by {end.decided_by}"
    if end.reason:
        return f"{name}: {end.reason}"
    if end.allowed:
        return f"{name}: {end.steps[0].policy} {end.steps[0].rule} allows it"
    near = next((f", nearest {step.policy} {step.rule}" for step in end.steps if step.counts), "")
    return f"{name}: isolated by {', '.join(end.isolated_by[:3])}{near}"
