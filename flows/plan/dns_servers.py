"""Which servers' DNS answers count: those that the operator names, and those behind the cluster's DNS Service.

In mode `flat` the node, or a proxy on it, translates the Service's address, and answers come to pods from that address.
Where the switches translate, policy sees the endpoints.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.bridge.network import NetworkOptions
from flows.cluster.model import Cluster, Protocol
from flows.cluster.objects import ObjectRef
from flows.render.answers import DnsServer

DNS_PORT = 53  # of the Service; its endpoints may have another
MAX_DNS_SERVERS = 256


def concerns_dns(ref: ObjectRef, cluster: Cluster, old: Cluster, options: NetworkOptions) -> bool:
    """Whether an object that changed may change the servers."""
    kind, key = ref
    if kind == "Service":
        return key == options.dns_service
    if kind != "EndpointSlice":
        return False
    namespace, service = options.dns_service
    slices = (world.endpoint_slices.get(key) for world in (old, cluster))  # type: ignore[arg-type]  # the kind says so
    return any(one is not None and one.service == service and one.key.namespace == namespace for one in slices)


def dns_servers(cluster: Cluster, options: NetworkOptions) -> tuple[DnsServer, ...]:
    """The servers, sorted; those of the options first, at most MAX_DNS_SERVERS."""
    named = sorted({DnsServer(*one) for one in options.dns_servers})
    found = sorted(set(_of_service(cluster, options)) - set(named))
    return tuple([*named, *found][:MAX_DNS_SERVERS])


def _of_service(cluster: Cluster, options: NetworkOptions) -> Iterator[DnsServer]:
    service = cluster.services.get(options.dns_service)
    if service is None:
        return
    ports = [one for one in service.ports if one.number == DNS_PORT and one.protocol in (Protocol.TCP, Protocol.UDP)]
    if ports:
        yield from (DnsServer(address, DNS_PORT) for address in service.cluster_ips)
    names = {(one.name, one.protocol) for one in ports}
    for one in cluster.endpoint_slices.values():
        if one.service != service.key.name or one.key.namespace != service.key.namespace:
            continue
        for port in one.ports:
            if (port.name, port.protocol) in names:
                yield from (DnsServer(endpoint.address, port.number) for endpoint in one.endpoints)
