"""Which endpoints the traffic of one node to a port of a Service goes to, as kube-proxy chooses them.

In words. Traffic to a Service arrives at one of its addresses. For a *cluster IP*, spec.internalTrafficPolicy applies;
for the *external* ones (node ports, external addresses, load balancers), spec.externalTrafficPolicy:

- Cluster: all ready endpoints. If each of them has hints for nodes and one names this node, only those that name it;
  else, if each has hints for zones and one names this node's zone, only those. Hints are what the API server makes of
  spec.trafficDistribution, which is not read itself. Without any ready endpoint: those that terminate and still serve.
- Local: the ready endpoints on this node; without any, those on it that terminate and still serve.

To an external address with the policy Local, pods and the node itself are not outside: they are treated as with
Cluster. The node ports of another node are the exception: what a pod sends there is from outside to that node, so its
policy Local applies, with the endpoints of that node (`other_nodes`).

With no endpoint that could be used anywhere, packets are refused. With the policy Local and none on this node, though
there is one elsewhere, they are dropped: a load balancer should not have sent them here.

Sources: Kubernetes documentation, "Virtual IPs and Service Proxies" and "Service"; pkg/proxy/topology.go. Everything
here is a function of its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from flows.cluster.model import Endpoint, Service, ServicePort
from flows.cluster.net import Net
from flows.pipeline.gateway import HEALTH, NO_ENDPOINTS


class Backend(NamedTuple):
    """An endpoint of a Service's port, and the number of the port there."""

    endpoint: Endpoint
    number: int


class Target(NamedTuple):
    """Where a connection is translated to."""

    address: Net
    number: int


class Choice(NamedTuple):
    """The targets of a Service's port at one node, by traffic policy, each sorted and without duplicates.

    `cluster` or `local` is empty as well where nothing of the Service uses that policy. `anywhere` is whether any
    endpoint in the cluster can be used: without, packets are refused, not dropped.
    """

    cluster: tuple[Target, ...] = ()
    local: tuple[Target, ...] = ()
    anywhere: bool = False


def is_external(service: Service, port: ServicePort) -> bool:
    """Whether a port of a Service can be reached by an address that is not a cluster IP."""
    return bool(port.node_port or service.external_ips or service.ingress_ips)


def uses_cluster(service: Service, port: ServicePort) -> bool:
    """Whether anything uses the policy Cluster; with an external policy Local, pods and nodes still do."""
    return not service.internal_local or is_external(service, port)


def uses_local(service: Service, port: ServicePort) -> bool:
    """Whether anything uses the policy Local."""
    return service.internal_local or (service.external_local and is_external(service, port))


def choose(service: Service, port: ServicePort, backends: Sequence[Backend], node: str, zone: str) -> Choice:
    """The choice at a node in a zone ("" for none). `backends` are of one family."""
    cluster: tuple[Target, ...] = ()
    local: tuple[Target, ...] = ()
    anywhere = False
    if uses_cluster(service, port):
        cluster = _targets(backends, _hinted(backends, node, zone)) or _targets(backends, _still_serves)
        anywhere = bool(cluster)
    if uses_local(service, port):
        local = choose_all(usable(backend for backend in backends if node and backend.endpoint.node == node))
        anywhere = anywhere or any(_is_ready(one.endpoint) or _still_serves(one.endpoint) for one in backends)
    return Choice(cluster, local, anywhere)


def usable(backends: Iterable[Backend]) -> tuple[Backend, ...]:
    """Those of these endpoints that connections may go to: the ready ones; without any, those that still serve."""
    known = tuple(backends)
    ready = tuple(one for one in known if _is_ready(one.endpoint))
    return ready or tuple(one for one in known if _still_serves(one.endpoint))


def choose_all(backends: Sequence[Backend]) -> tuple[Target, ...]:
    """All of these endpoints as targets."""
    return _targets(backends, lambda _: True)


def health_target(backends: Sequence[Backend], version: int, node: str) -> Target:
    """Where a check of a health check node port goes at a node: to what answers, at the port that is the number of the
    Service's ready endpoints there. kube-proxy counts addresses likewise (pkg/proxy/endpointsmap.go)."""
    ready = {one.endpoint.address for one in backends if node and one.endpoint.node == node and one.endpoint.ready}
    return Target(HEALTH[version == 6], len(ready) or NO_ENDPOINTS)


def depends_on_node(service: Service, port: ServicePort, backends: Sequence[Backend]) -> bool:
    """Whether the choice may differ from node to node; else one choice serves all nodes."""
    if uses_local(service, port):
        return True
    ready = [backend.endpoint for backend in backends if backend.endpoint.ready]
    return bool(ready) and (all(one.nodes for one in ready) or all(one.zones for one in ready))


def _is_ready(endpoint: Endpoint) -> bool:
    return endpoint.ready


def _still_serves(endpoint: Endpoint) -> bool:
    return endpoint.serving and endpoint.terminating


def _hinted(backends: Sequence[Backend], node: str, zone: str) -> Callable[[Endpoint], bool]:
    """Which endpoints the policy Cluster uses: the ready ones, as far as their hints leave them to this node."""
    ready = [backend.endpoint for backend in backends if backend.endpoint.ready]
    if all(one.nodes for one in ready) and any(node in one.nodes for one in ready):
        return lambda endpoint: endpoint.ready and node in endpoint.nodes
    if all(one.zones for one in ready) and any(zone in one.zones for one in ready):
        return lambda endpoint: endpoint.ready and zone in endpoint.zones
    return _is_ready


def _targets(backends: Sequence[Backend], counts: Callable[[Endpoint], bool]) -> tuple[Target, ...]:
    found = {Target(endpoint.address, number) for endpoint, number in backends if counts(endpoint)}
    return tuple(sorted(found)) if len(found) > 1 else tuple(found)
