"""Node ports with the external policy Local, at the addresses of other nodes: what a pod sends there.

To the other node it comes from outside, so the policy Local applies as kube-proxy applies it there: only the endpoints
of that node, and nothing where it has none. The sender's own switch translates it, so that policy sees the endpoint and
the real source. For each node with endpoints that can be used there is a port of its own, which is the same on all
bridges, with its own group and session affinity. Whatever is for other nodes is dropped by one flow: the price is that
of the endpoints, not of nodes times Services.

Example. Service `x/web` has the node port 30080 and one endpoint, 10.0.1.7:8080 on n1, whose address is 192.0.2.1. Its
port `x/web:node port 30080/TCP at n1` has the frontend 192.0.2.1:30080/TCP and this one endpoint.

A pod that connects to its own node's address is inside, and gets the policy Cluster, as in kube-proxy.
Source: Kubernetes documentation, "Virtual IPs and Service Proxies"; pkg/proxy/iptables/proxier.go.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType

from flows.cluster.model import EndpointSlice, Service, ServicePort
from flows.cluster.net import Net
from flows.services import limits
from flows.services.choice import Backend, usable
from flows.services.frontends import Frontend, FrontendKind
from flows.services.served import PortUse, ServedPort

NodeAddresses = Mapping[str, tuple[Net, ...]]  # by the name of the node
NO_NODES: NodeAddresses = MappingProxyType({})


def nodes_that_matter(service: Service | None, slices: Collection[EndpointSlice]) -> frozenset[str]:
    """The nodes on whose addresses the ports of a Service depend: none, unless it has node ports of policy Local."""
    if service is None or not service.external_local or not any(port.node_port for port in service.ports):
        return frozenset()
    return frozenset(one.node for found in slices for one in found.endpoints if one.node)


def serve_at_nodes(ports: Iterable[ServedPort], nodes: NodeAddresses, problems: list[str]) -> Iterator[ServedPort]:
    """What stands beside these ports of one Service at the nodes where they have endpoints, in order of their names.

    At most limits.MAX_SERVICE_FLOWS addresses of nodes are served, further nodes drop what pods of others send: a line
    in `problems` says so.
    """
    left = limits.MAX_SERVICE_FLOWS
    for served in ports:
        node_port = next((one for kind, one in served.frontends if kind is FrontendKind.NODE_PORT), None)
        if node_port is None or not served.service.external_local:
            continue
        for node, backends in sorted(_by_node(served.backends).items()):
            pairs = tuple(_frontends(node_port, nodes.get(node, ())))
            used = usable(backends)
            if not pairs or not used:
                continue
            left -= len(pairs)
            if left < 0:
                problems.append(
                    f"pods reach its node ports at {limits.MAX_SERVICE_FLOWS} addresses of other nodes only"
                )
                return
            port = ServicePort(served.port.name, node_port.protocol, node_port.number)
            yield ServedPort(served.service, port, served.version, pairs, used, False, PortUse.AT_NODE, node)


def _by_node(backends: Iterable[Backend]) -> dict[str, list[Backend]]:
    found: dict[str, list[Backend]] = {}
    for one in backends:
        found.setdefault(one.endpoint.node, []).append(one)
    return found


def _frontends(node_port: Frontend, addresses: tuple[Net, ...]) -> Iterator[tuple[FrontendKind, Frontend]]:
    for address in addresses:
        if address.version == node_port.address.version:
            yield FrontendKind.NODE_PORT, node_port._replace(address=address)
