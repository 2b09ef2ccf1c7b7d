"""The ports of one Service by family: its frontends as far as no other Service has them, and its backends."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from flows.cluster.model import EndpointSlice, Service, ServicePort
from flows.cluster.net import Net
from flows.pipeline.affinity import MOST_SECONDS
from flows.services import limits
from flows.services.choice import (
    Backend,
    Choice,
    choose,
    choose_all,
    depends_on_node,
    health_target,
    uses_cluster,
    uses_local,
)
from flows.services.endpoints import Backends, backends_of_port, has_endpoint_flows, merge_slices
from flows.services.frontends import Claim, Frontend, FrontendKind, frontends, health_frontends, object_of

EXTERNAL = (FrontendKind.LOAD_BALANCER, FrontendKind.EXTERNAL_IP)


class PortUse(enum.StrEnum):
    """What a served port is; the value stands in its name."""

    SERVICE = ""
    HEALTH_CHECK = "health check "
    HOST_PORT = "host port "
    AT_NODE = "node port "  # at the addresses of one node, for pods of others: see `other_nodes`


class ServedPort(NamedTuple):
    """A port of a Service in one family, 4 or 6: what a bridge's flows for it are made of.

    `frontends` are those that the Service has, not those that a stronger claim took. `by_node` says that the choice of
    backends may differ between nodes. A health check node port has the `backends` of all ports of its Service. Only a
    port AT_NODE has a `node`, and its backends are those that connections go to.
    """

    service: Service
    port: ServicePort
    version: int
    frontends: tuple[tuple[FrontendKind, Frontend], ...]
    backends: tuple[Backend, ...]
    by_node: bool
    use: PortUse = PortUse.SERVICE
    node: str = ""

    def choose(self, node: str, zone: str) -> Choice:
        """Where connections go at a node in a zone ("" for none)."""
        if self.use is PortUse.AT_NODE:
            return Choice(choose_all(self.backends), anywhere=True)
        if self.use is not PortUse.HEALTH_CHECK:
            return choose(self.service, self.port, self.backends, node, zone)
        return Choice(local=(health_target(self.backends, self.version, node),), anywhere=True)

    @property
    def identity(self) -> bytes:
        """What tells it from every other port of every Service, in every process."""
        # A pod may have one host port twice, at two addresses.
        inner = f"/{self.port.name}" if self.use is PortUse.HOST_PORT else ""
        return f"{self.name}{inner}/IPv{self.version}".encode()

    @property
    def name(self) -> str:
        """For the operator, such as `shop/web:80/TCP`; the same for both families."""
        return f"{self.service.key}:{self._port_name}"

    @property
    def title(self) -> str:
        """For the operator, with the kind of the object: `Service shop/web:80/TCP`."""
        return f"{object_of(self.service.key)}:{self._port_name}"

    @property
    def _port_name(self) -> str:
        where = f" at {self.node}" if self.node else ""
        return f"{self.use}{self.port.number}/{self.port.protocol.name}{where}"

    def has_endpoint_flows(self, userspace: bool) -> bool:
        """Whether its endpoints may have flows in place of a group: see `flows.render.service_endpoints`."""
        endpoints = 0 if self.use is PortUse.HEALTH_CHECK else len(self.backends)
        return has_endpoint_flows(self.service, self.port.protocol, endpoints, userspace)

    @property
    def cost(self) -> int:
        """At most how many flows, groups and buckets it is on a bridge."""
        of_each = 2 if self.service.affinity_seconds else 1
        if self.use is PortUse.AT_NODE:
            return len(self.frontends) + 1 + of_each * len(self.backends)
        if self.use is not PortUse.SERVICE:
            return len(self.frontends) * 2 + 2
        groups = uses_cluster(self.service, self.port) + uses_local(self.service, self.port)
        return _flows(self.service, self.port) + groups * (1 + of_each * len(self.backends))

    @property
    def external_addresses(self) -> tuple[Net, ...]:
        """The addresses of its frontends that are neither cluster IPs nor a node's."""
        return tuple({one.address: None for kind, one in self.frontends if kind in EXTERNAL})


def serve(
    service: Service, slices: Iterable[EndpointSlice], owner: Callable[[Frontend], Claim], problems: list[str]
) -> Iterator[ServedPort]:
    """The ports of a Service that is translated. `owner` says who has a frontend that the Service claims.

    What the operator must know is appended to `problems`: at most one line for each frontend and some for the Service.
    """
    backends, left_out = merge_slices(slices, ((port.name, port.protocol) for port in service.ports))
    if left_out:
        most = backends_of_port(len(backends))
        problems.append(f"{left_out} endpoints are left out: a port has more than {most} of one family")
    if service.affinity_seconds > MOST_SECONDS:
        problems.append(
            f"session affinity ends {MOST_SECONDS} s after a client's last connection, the switch's longest"
        )
    left = limits.MAX_SERVICE_FLOWS
    for port in service.ports:
        left -= _flows(service, port)
        if left < 0:
            problems.append(
                f"port {port.number}/{port.protocol.name} and those after it are left out: the Service would make more "
                f"than {limits.MAX_SERVICE_FLOWS} flows"
            )
            break
        had: dict[int, list[tuple[FrontendKind, Frontend]]] = {4: [], 6: []}
        for frontend, claim in frontends(service, port):
            if owner(frontend) == claim:
                had[frontend.address.version].append((claim.kind, frontend))
            elif owner(frontend).service != service.key:
                problems.append(f"{frontend} belongs to another Service, so nothing of it comes here")
        for version, mine in had.items():
            if mine:
                of_port = backends.get(((port.name, port.protocol), version), ())
                by_node = depends_on_node(service, port, of_port)
                yield ServedPort(service, port, version, tuple(mine), of_port, by_node)
    for frontend, claim in health_frontends(service):
        if owner(frontend) == claim:
            yield _health_port(service, frontend, claim, backends)
        else:
            problems.append(f"{frontend} belongs to another Service, so no health check is answered there")


def _health_port(service: Service, frontend: Frontend, claim: Claim, backends: Backends) -> ServedPort:
    """The health check node port in one family, with the backends of all ports."""
    version = frontend.address.version
    found = {one for (_, family), of_port in backends.items() if family == version for one, _ in of_port}
    port = ServicePort("", frontend.protocol, frontend.number)
    both = tuple(Backend(endpoint, 0) for endpoint in sorted(found))
    return ServedPort(service, port, version, ((claim.kind, frontend),), both, by_node=True, use=PortUse.HEALTH_CHECK)


def _flows(service: Service, port: ServicePort) -> int:
    """At most how many flows of a port its addresses make, counted without making any."""
    sources = 2 * (1 + len(service.source_ranges or ()))
    balanced = len(service.ingress_ips) * (1 + sources)
    return len(service.cluster_ips) + 2 * len(service.external_ips) + balanced + (6 if port.node_port else 0)
