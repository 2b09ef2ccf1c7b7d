"""Whose DNS answers count: the Service of DNS with its endpoints, where it is read at all, and named servers."""

from __future__ import annotations

from typing import Any

from flows.bridge.network import DNS_SERVICE, NetworkOptions
from flows.cluster.model import Cluster, EndpointSlice, Key, Service
from flows.cluster.net import parse_address
from flows.parse.objects import parse_object, parsers_with_service
from flows.plan.dns_servers import concerns_dns, dns_servers
from flows.render.answers import DnsServer

OTHER = Key("x", "kube-dns")


def service(key: Key) -> dict[str, Any]:
    ports = [{"name": "dns", "protocol": "UDP", "port": 53}, {"name": "metrics", "protocol": "TCP", "port": 9153}]
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": key.namespace, "name": key.name},
        "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00:96::a"], "ports": ports},
    }  # fmt: skip


def endpoint_slice(key: Key) -> dict[str, Any]:
    ports = [{"name": "dns", "protocol": "UDP", "port": 5353}, {"name": "metrics", "protocol": "TCP", "port": 9153}]
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": key.namespace, "name": f"{key.name}-1",
                     "labels": {"kubernetes.io/service-name": key.name}},
        "endpoints": [{"addresses": ["10.0.0.53"]}], "ports": ports,
    }  # fmt: skip


def read(*documents: dict[str, Any]) -> Cluster:
    """The cluster of these documents, as they are read where no other Service is."""
    found = [parse_object(one, parsers_with_service(DNS_SERVICE)) for one in documents]
    values = [one.value for one in found if one is not None]
    services = {one.key: one for one in values if isinstance(one, Service)}
    return Cluster(
        services=services, endpoint_slices={one.key: one for one in values if isinstance(one, EndpointSlice)}
    )


def servers(*texts: str) -> tuple[DnsServer, ...]:
    return tuple(DnsServer(parse_address(text.split()[0]), int(text.split()[1])) for text in texts)


def test_the_service_and_its_endpoints_count_at_their_dns_ports() -> None:
    found = read(service(DNS_SERVICE), endpoint_slice(DNS_SERVICE))
    options = NetworkOptions()
    assert dns_servers(found, options) == servers("10.0.0.53 5353", "10.96.0.10 53", "fd00:96::a 53")
    named = NetworkOptions(dns_servers=((parse_address("192.0.2.53"), 53), (parse_address("10.96.0.10"), 53)))
    assert dns_servers(found, named)[:2] == servers("10.96.0.10 53", "192.0.2.53 53")
    assert set(dns_servers(found, named)) == {*dns_servers(found, options), *servers("192.0.2.53 53")}


def test_no_other_service_is_read_or_counts() -> None:
    found = read(service(OTHER), endpoint_slice(OTHER))
    assert not found.services
    assert not found.endpoint_slices
    assert dns_servers(found, NetworkOptions()) == ()
    there = read(service(DNS_SERVICE), endpoint_slice(DNS_SERVICE))
    assert dns_servers(there, NetworkOptions(dns_service=OTHER)) == ()


def test_only_its_own_objects_change_it() -> None:
    there, empty = read(service(DNS_SERVICE), endpoint_slice(DNS_SERVICE)), Cluster()
    (name,) = there.endpoint_slices
    for ref, concerned in (
        (("Service", DNS_SERVICE), True), (("Service", OTHER), False), (("EndpointSlice", name), True),
        (("EndpointSlice", OTHER), False), (("Pod", DNS_SERVICE), False),
    ):  # fmt: skip
        for old, new in ((there, empty), (empty, there)):
            assert concerns_dns(ref, new, old, NetworkOptions()) is concerned
