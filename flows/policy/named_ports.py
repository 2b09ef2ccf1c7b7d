"""Port names: which entries of a rule name a container port, and the services that a name stands for in one pod.

In which pods a rule's port names are resolved is decided in `resolve` and `combined_sets`. Must not live here: ranges
without names; see `service_ranges`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from flows.cluster.model import ContainerPort, Pod, PortSpec
from flows.policy.service_ranges import ServiceRange, ServiceRanges, normalize


def named_ports(ports: Iterable[PortSpec]) -> tuple[PortSpec, ...]:
    """The entries that name a container port."""
    return tuple(spec for spec in ports if isinstance(spec.port, str))


def resolve_port_names(names: tuple[PortSpec, ...], pod: Pod) -> ServiceRanges:
    """The port numbers that these names have in one pod: name and protocol must both be equal."""
    return _resolve(names, pod.ports)


@lru_cache(maxsize=65536)
def _resolve(names: tuple[PortSpec, ...], ports: tuple[ContainerPort, ...]) -> ServiceRanges:
    """Cached, because many pods have the same ports."""
    return normalize(
        ServiceRange(port.protocol, port.number, port.number)
        for spec in names
        for port in ports
        if port.name == spec.port and port.protocol == spec.protocol
    )


def common_services(resolved: list[ServiceRanges]) -> ServiceRanges:
    """The ports that all of these have in common. They must be single ports, as resolved names are."""
    ports = [{(s.protocol, p) for s in services for p in range(s.low, s.high + 1)} for services in resolved]
    return normalize(ServiceRange(protocol, port, port) for protocol, port in set.intersection(*ports))
