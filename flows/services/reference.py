"""The ports of all Services computed from nothing. Tests hold `index` equal to it."""

from __future__ import annotations

from flows.cluster.model import Cluster, EndpointSlice, Key
from flows.services.frontends import Claim, Frontend, claims_of
from flows.services.served import ServedPort, serve


def serve_all(cluster: Cluster) -> dict[Key, tuple[ServedPort, ...]]:
    """The ports of each Service that has any."""
    claims: dict[Frontend, list[Claim]] = {}
    for service in cluster.services.values():
        for frontend, claim in claims_of(service) if service.proxied else ():
            claims.setdefault(frontend, []).append(claim)
    owners = {frontend: min(found) for frontend, found in claims.items()}
    slices: dict[Key, list[EndpointSlice]] = {}
    for key, one in cluster.endpoint_slices.items():
        if one.proxied and one.service:
            slices.setdefault(Key(key.namespace, one.service), []).append(one)
    served = {
        key: tuple(serve(service, slices.get(key, ()), owners.__getitem__, []))
        for key, service in cluster.services.items()
        if service.proxied and service.cluster_ips
    }
    return {key: ports for key, ports in served.items() if ports}
