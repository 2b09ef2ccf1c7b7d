"""The ports of all Services computed from nothing. Tests hold `index` equal to it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from flows.cluster.model import Cluster, EndpointSlice, Key, Service
from flows.cluster.net import Net
from flows.services.endpoints import countable
from flows.services.frontends import Claim, Frontend, claims_of, host_port_key
from flows.services.host_ports import has_host_ports, host_port_claims, serve_host_ports
from flows.services.other_nodes import serve_at_nodes
from flows.services.served import ServedPort, serve


def serve_all(
    cluster: Cluster, nodes: Mapping[str, tuple[Net, ...]] = MappingProxyType({}), at_other_nodes: bool = True
) -> dict[Key, tuple[ServedPort, ...]]:
    """The ports of each Service that has any, and of each pod with host ports. `nodes` are the nodes' addresses."""
    pods = [pod for pod in cluster.pods.values() if has_host_ports(pod)]
    claims: dict[Frontend, list[Claim]] = {}
    for service in cluster.services.values():
        for frontend, claim in claims_of(service) if service.proxied else ():
            claims.setdefault(frontend, []).append(claim)
    for pod in pods:
        for frontend, claim in host_port_claims(pod, nodes.get(pod.node, ())):
            claims.setdefault(frontend, []).append(claim)
    owners = {frontend: min(found) for frontend, found in claims.items()}
    slices: dict[Key, list[EndpointSlice]] = {}
    for key, one in cluster.endpoint_slices.items():
        if one.proxied and one.service:
            slices.setdefault(Key(key.namespace, one.service), []).append(one)
    served = {
        key: tuple(serve(service, _counted(service, slices.get(key, [])), owners.__getitem__, []))
        for key, service in cluster.services.items()
        if service.proxied and service.cluster_ips
    }
    for key, ports in served.items() if at_other_nodes else ():
        served[key] = (*ports, *serve_at_nodes(ports, nodes, []))
    for pod in pods:
        ports = tuple(serve_host_ports(pod, nodes.get(pod.node, ()), owners.__getitem__, []))
        served[host_port_key(pod.key)] = ports
    return {key: ports for key, ports in served.items() if ports}


def _counted(service: Service, slices: list[EndpointSlice]) -> list[EndpointSlice]:
    by_key = sorted(slices, key=lambda one: one.key)
    return countable(by_key, ((port.name, port.protocol) for port in service.ports))[0]
