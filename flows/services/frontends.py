"""The addresses of Services: what each port of a Service can be reached by, and which Service has an address.

Two Services may name the same external address and port, for anybody may write spec.externalIPs. The stronger claim has
it: of a cluster IP before a load balancer's address, before a node port, before an external address; of two alike, that
of the Service whose key sorts first. So nobody takes over another Service's cluster IP.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import NamedTuple

from flows.cluster.model import Key, Protocol, Service, ServicePort
from flows.cluster.net import Net
from flows.pipeline.gateway import NODE_PORTS

# What the node turns its own addresses into where the port is a node port, by family.
_NODE_PORT_ADDRESSES = {address.version: address for address in NODE_PORTS}


_POD = "pod "  # no Service has a blank in its name


def host_port_key(pod: Key) -> Key:
    """The key under which a pod's host ports stand among Services."""
    return Key(pod.namespace, _POD + pod.name)


def object_of(key: Key) -> str:
    """The object that a key among Services stands for, such as `Service x/web` or `Pod x/web`."""
    kind, named = named_object(key)
    return f"{kind} {named}"


def named_object(key: Key) -> tuple[str, Key]:
    """The same as kind and key."""
    if key.name.startswith(_POD):
        return "Pod", Key(key.namespace, key.name.removeprefix(_POD))
    return "Service", key


class FrontendKind(enum.IntEnum):
    """Kinds of addresses, the stronger claim first."""

    CLUSTER_IP = 0
    LOAD_BALANCER = 1
    NODE_PORT = 2
    HEALTH_CHECK = 3
    HOST_PORT = 4
    EXTERNAL_IP = 5


class Frontend(NamedTuple):
    """Where packets for a port of a Service are sent to."""

    address: Net
    protocol: Protocol
    number: int

    def __str__(self) -> str:
        address = f"[{self.address}]" if self.address.version == 6 else f"{self.address}"
        return f"{address}:{self.number}/{self.protocol.name}"


class Claim(NamedTuple):
    """A Service's claim to a frontend; the smallest claim to one has it. `port` is the number of the Service's port."""

    kind: FrontendKind
    service: Key
    port: int


def claims_of(service: Service) -> Iterator[tuple[Frontend, Claim]]:
    """All that a Service claims; one frontend may be claimed twice."""
    for port in service.ports:
        yield from frontends(service, port)
    yield from health_frontends(service)


def health_frontends(service: Service) -> Iterator[tuple[Frontend, Claim]]:
    """Where load balancers ask whether a node has ready endpoints of a Service: with the external policy Local only."""
    if service.health_check_port and service.external_local:
        claim = Claim(FrontendKind.HEALTH_CHECK, service.key, service.health_check_port)
        for version in sorted({address.version for address in service.cluster_ips}):
            yield Frontend(_NODE_PORT_ADDRESSES[version], Protocol.TCP, service.health_check_port), claim


def frontends(service: Service, port: ServicePort) -> Iterator[tuple[Frontend, Claim]]:
    """What a port of a Service can be reached by. A Service has external addresses of its own families only."""
    families = {address.version for address in service.cluster_ips}
    kinds = (
        (FrontendKind.CLUSTER_IP, service.cluster_ips),
        (FrontendKind.LOAD_BALANCER, service.ingress_ips),
        (FrontendKind.EXTERNAL_IP, service.external_ips),
    )
    for kind, addresses in kinds:
        claim = Claim(kind, service.key, port.number)
        for address in addresses:
            if address.version in families:
                yield Frontend(address, port.protocol, port.number), claim
    if port.node_port:
        claim = Claim(FrontendKind.NODE_PORT, service.key, port.number)
        for version in sorted(families):
            yield Frontend(_NODE_PORT_ADDRESSES[version], port.protocol, port.node_port), claim
