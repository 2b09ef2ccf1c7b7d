"""Host ports: ports of a node's addresses that lead to a pod there (`containers[].ports[].hostPort`).

The standard plugin portmap has them for what comes from outside and from the node itself. What pods send to a node's
address is translated in the switch of the sender, as for Services, so that policy sees the pod that is meant and the
real source. A pod with host ports stands as a Service with one endpoint: the rest of the code need not tell them apart.

Example. Pod `x/web` at 10.0.1.7 on n1, whose address is 192.0.2.1, has the port 8080 with the host port 80. It has the
frontend 192.0.2.1:80/TCP, and the one backend 10.0.1.7:8080, under the key `x/pod web`, which no Service can have.

Source: Kubernetes API reference, ContainerPort; the plugin's documentation for hostIP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from flows.cluster.model import Endpoint, HostPort, Pod, Protocol, Service, ServicePort
from flows.cluster.net import Net
from flows.services.choice import Backend
from flows.services.frontends import Claim, Frontend, FrontendKind, host_port_key, object_of
from flows.services.served import PortUse, ServedPort


def has_host_ports(pod: Pod | None) -> bool:
    """Whether anything is to be served for a pod."""
    return pod is not None and bool(pod.host_ports) and pod.networked and bool(pod.node)


def host_port_claims(pod: Pod, node: tuple[Net, ...]) -> Iterator[tuple[Frontend, Claim]]:
    """All that a pod's host ports claim, where its node has these addresses; one frontend may be claimed twice."""
    key = host_port_key(pod.key)
    for port in pod.host_ports:
        claim = Claim(FrontendKind.HOST_PORT, key, port.container_port)
        for address in _addresses(port, node):
            yield Frontend(address, port.protocol, port.number), claim


def serve_host_ports(
    pod: Pod, node: tuple[Net, ...], owner: Callable[[Frontend], Claim], problems: list[str]
) -> Iterator[ServedPort]:
    """The host ports of a pod, in each family that it has an address of. What another object has is told."""
    key = host_port_key(pod.key)
    at = {address.version: address for address in reversed(pod.addresses)}
    had: dict[tuple[Protocol, int, int, int], dict[Frontend, None]] = {}
    for port in pod.host_ports:
        for address in _addresses(port, node):
            frontend = Frontend(address, port.protocol, port.number)
            claim = owner(frontend)
            if claim == Claim(FrontendKind.HOST_PORT, key, port.container_port):
                place = port.protocol, port.number, port.container_port, address.version
                had.setdefault(place, {})[frontend] = None
            elif claim.service != key:
                problems.append(f"host port {frontend} leads to {object_of(claim.service)} already")
    for (protocol, number, inner, version), frontends in had.items():
        if version in at:
            backend = Backend(Endpoint(at[version], pod.node), inner)
            pairs = tuple((FrontendKind.HOST_PORT, one) for one in frontends)
            port_ = ServicePort(str(inner), protocol, number)
            yield ServedPort(Service(key), port_, version, pairs, (backend,), by_node=False, use=PortUse.HOST_PORT)


def _addresses(port: HostPort, node: tuple[Net, ...]) -> list[Net]:
    """The node's addresses at which a host port is: the one that it names, or all of its family, or all."""
    only = port.address
    if only is None:
        return list(node)
    return [one for one in node if one == only or (not only.value and one.version == only.version)]
