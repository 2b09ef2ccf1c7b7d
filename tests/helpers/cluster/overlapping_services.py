"""Random Services and EndpointSlices, few but in each other's way: shared addresses, ports, endpoints and names."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from hypothesis import strategies as st

from flows.cluster.model import (
    Cluster,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    HostPort,
    Key,
    Protocol,
    Service,
    ServicePort,
)
from flows.cluster.net import parse_address, parse_network
from tests.helpers.cluster.generated_clusters import ROUTED_NODES, clusters

_ADDRESSES = tuple(map(parse_address, ("10.0.1.2", "10.0.1.3", "10.0.2.2", "fd00:1::2", "fd00:2::2", "203.0.113.5")))
_VIPS = tuple(map(parse_address, ("10.96.0.5", "10.96.0.6")))
_VIPS6 = (parse_address("fd00:96::5"),)
_EXTERNAL = tuple(map(parse_address, ("198.51.100.7", "2001:db8:100::7")))
_NODES_OWN = (parse_address("192.0.2.1"), parse_address("192.0.2.2"))  # also those of nodes
_PORTS = (
    (ServicePort("", Protocol.TCP, 80),),
    (ServicePort("a", Protocol.TCP, 80, 30080), ServicePort("b", Protocol.UDP, 80, 30080)),
    (ServicePort("a", Protocol.SCTP, 80), ServicePort("b", Protocol.TCP, 81, 30081)),
)
_HOST_PORTS = (HostPort(Protocol.TCP, 80, 8080), HostPort(Protocol.UDP, 30080, 53), HostPort(Protocol.SCTP, 81, 81))
_KEYS = st.sampled_from([Key("x", "a"), Key("x", "b"), Key("y", "a")])
_RANGES = st.sampled_from([None, None, (parse_network("10.0.0.0/8"), parse_network("fd00::/8")), ()])


def services() -> st.SearchStrategy[Service]:
    """A Service of any kind."""
    return st.builds(
        Service, _KEYS, st.sampled_from([(), _VIPS[:1], _VIPS[1:], _VIPS[:1] + _VIPS6, _VIPS6]),
        st.sampled_from(_PORTS),
        external_ips=st.sampled_from([(), (), _EXTERNAL, _VIPS[1:], _NODES_OWN]),
        ingress_ips=st.sampled_from([(), _EXTERNAL[:1]]),
        source_ranges=_RANGES, internal_local=st.booleans(), external_local=st.booleans(),
        affinity_seconds=st.sampled_from([0, 0, 10800]), health_check_port=st.sampled_from([0, 0, 30081]),
        proxied=st.sampled_from([True, True, True, False]),
    )  # fmt: skip


def slices() -> st.SearchStrategy[EndpointSlice]:
    """A slice of one of these Services, of one family."""
    hints = st.sampled_from([(), (), ("one",), ("two",), ("one", "two")])
    zones = st.sampled_from([(), (), ("east",), ("west",)])
    endpoint = st.builds(
        Endpoint, st.sampled_from(_ADDRESSES), st.sampled_from(["", "one", "two"]), st.booleans(), st.booleans(),
        st.booleans(), zones, hints,
    )  # fmt: skip
    ports = tuple(
        tuple(EndpointPort(port.name, port.protocol, 8000 + port.number) for port in several) for several in _PORTS
    )
    found = st.builds(
        EndpointSlice, st.builds(Key, st.sampled_from(["x", "y"]), st.sampled_from("abcd")),
        st.sampled_from(["a", "b", ""]), st.lists(endpoint, max_size=4).map(tuple), st.sampled_from(ports),
        st.sampled_from([True, True, True, False]),
    )  # fmt: skip
    return found.map(_of_one_family)


def _of_one_family(found: EndpointSlice) -> EndpointSlice:
    version = 4 if found.key.name in "ab" else 6
    return found._replace(endpoints=tuple(one for one in found.endpoints if one.address.version == version))


@st.composite
def clusters_with_services(draw: st.DrawFn) -> Cluster:
    """A cluster with Services, whose nodes have zones."""
    cluster = draw(clusters(ROUTED_NODES))
    zones = st.sampled_from(["", "east", "west"])
    nodes = {name: replace(node, zone=draw(zones)) for name, node in cluster.nodes.items()}
    host_ports = st.lists(st.sampled_from(_HOST_PORTS), max_size=2).map(tuple)
    pods = {key: pod._replace(host_ports=draw(host_ports)) for key, pod in cluster.pods.items()}
    made = {one.key: one for one in draw(st.lists(services(), max_size=3))}
    several = {one.key: one for one in draw(st.lists(slices(), max_size=4))}
    return replace(
        cluster,
        pods=MappingProxyType(pods),
        nodes=MappingProxyType(nodes),
        services=MappingProxyType(made),
        endpoint_slices=MappingProxyType(several),
    )
