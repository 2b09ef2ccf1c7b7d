"""Protocols and ports of rules as sets of ranges, and a range as the fewest masked values that a switch can match.

The services of a rule (the third clause of a conjunction) are not the Kubernetes object Service. Must not live here:
names of ports; see `named_ports`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from flows.cluster.model import PortSpec, Protocol

MAX_PORT = 0xFFFF


class ServiceRange(NamedTuple):
    """Ports `low` to `high`, both included, of one protocol."""

    protocol: Protocol
    low: int
    high: int


ServiceRanges = tuple[ServiceRange, ...]  # sorted, neither overlapping nor touching


def normalize(services: Iterable[ServiceRange]) -> ServiceRanges:
    """The same set of ports with overlapping and touching ranges merged, sorted."""
    merged: list[ServiceRange] = []
    for service in sorted(services):
        last = merged[-1] if merged else None
        if last and last.protocol == service.protocol and service.low <= last.high + 1:
            merged[-1] = ServiceRange(last.protocol, last.low, max(last.high, service.high))
        else:
            merged.append(service)
    return tuple(merged)


def numbered_services(ports: Iterable[PortSpec]) -> ServiceRanges:
    """The services of the entries without a name: numbers, ranges, and whole protocols."""
    found = []
    for spec in ports:
        if spec.port is None:
            found.append(ServiceRange(spec.protocol, 0, MAX_PORT))
        elif isinstance(spec.port, int):
            found.append(ServiceRange(spec.protocol, spec.port, spec.end_port or spec.port))
    return normalize(found)


@lru_cache(maxsize=65536)
def port_masks(low: int, high: int) -> tuple[tuple[int, int], ...]:
    """The fewest (value, mask) pairs that match exactly the ports from `low` to `high`.

    Greedy from below: the largest aligned block that starts at `low` and does not pass `high`. At most 30 for 16 bits.
    """
    found = []
    while low <= high:
        size = low & -low or MAX_PORT + 1
        while low + size - 1 > high:
            size >>= 1
        found.append((low, MAX_PORT & ~(size - 1)))
        low += size
    return tuple(found)
