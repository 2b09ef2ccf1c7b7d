"""Protocols and ports as sets of ranges, port names resolved in a pod, and ranges as the fewest masked values that a
switch can match.

In which pods a rule's port names are resolved is decided in `resolve` and `combined_sets`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from flows.cluster.model import ContainerPort, Pod, PortSpec, Protocol

MAX_PORT = 0xFFFF


class Service(NamedTuple):
    """Ports `low` to `high`, both included, of one protocol."""

    protocol: Protocol
    low: int
    high: int


Services = tuple[Service, ...]  # sorted, neither overlapping nor touching


def normalize(services: Iterable[Service]) -> Services:
    """The same set of ports with overlapping and touching ranges merged, sorted."""
    merged: list[Service] = []
    for service in sorted(services):
        last = merged[-1] if merged else None
        if last and last.protocol == service.protocol and service.low <= last.high + 1:
            merged[-1] = Service(last.protocol, last.low, max(last.high, service.high))
        else:
            merged.append(service)
    return tuple(merged)


def numbered_services(ports: Iterable[PortSpec]) -> Services:
    """The services of the entries without a name: numbers, ranges, and whole protocols."""
    found = []
    for spec in ports:
        if spec.port is None:
            found.append(Service(spec.protocol, 0, MAX_PORT))
        elif isinstance(spec.port, int):
            found.append(Service(spec.protocol, spec.port, spec.end_port or spec.port))
    return normalize(found)


def named_ports(ports: Iterable[PortSpec]) -> tuple[PortSpec, ...]:
    """The entries that name a container port."""
    return tuple(spec for spec in ports if isinstance(spec.port, str))


def resolve_port_names(names: tuple[PortSpec, ...], pod: Pod) -> Services:
    """The port numbers that these names have in one pod: name and protocol must both be equal."""
    return _resolve(names, pod.ports)


@lru_cache(maxsize=65536)
def _resolve(names: tuple[PortSpec, ...], ports: tuple[ContainerPort, ...]) -> Services:
    """Cached, because many pods have the same ports."""
    return normalize(
        Service(port.protocol, port.number, port.number)
        for spec in names
        for port in ports
        if port.name == spec.port and port.protocol == spec.protocol
    )


def common_services(resolved: list[Services]) -> Services:
    """The ports that all of these have in common. They must be single ports, as resolved names are."""
    ports = [{(s.protocol, p) for s in services for p in range(s.low, s.high + 1)} for services in resolved]
    return normalize(Service(protocol, port, port) for protocol, port in set.intersection(*ports))


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
