"""Random Services for a cluster, small but nasty: endpoints at pods, nodes, outside and nowhere, none at all, external
addresses that are somebody's, and both traffic policies."""

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
from flows.cluster.net import Net, parse_address
from tests.helpers.cluster.generated_clusters import NAMESPACES, OUTSIDE, PORT_NUMBERS, Nodes, clusters

FIRST_NODE_PORT = 30000
HOST_PORT = 8443
_HOST_PORTS = tuple(HostPort(protocol, HOST_PORT, 80) for protocol in (Protocol.TCP, Protocol.UDP))


_SOME_HOST_PORTS = st.sampled_from([(), (), _HOST_PORTS])


@st.composite
def _slices(draw: st.DrawFn, key: Key, ends: list[Endpoint]) -> EndpointSlice:
    chosen = draw(st.lists(st.sampled_from(ends), max_size=3, unique=True))
    states = [(True, True, False), (True, True, False), (False, True, True), (False, False, False)]
    endpoints = []
    for end in chosen:
        ready, serving, terminating = draw(st.sampled_from(states))
        endpoints.append(end._replace(ready=ready, serving=serving, terminating=terminating))
    port = EndpointPort("", draw(st.sampled_from((Protocol.TCP, Protocol.UDP))), draw(st.sampled_from(PORT_NUMBERS)))
    return EndpointSlice(key, key.name, tuple(endpoints), (port,))


@st.composite
def worlds_with_services(draw: st.DrawFn, nodes: Nodes) -> Cluster:
    """A cluster with up to four Services of one port each, and pods with host ports."""
    cluster = draw(clusters(nodes))
    of_pods = {key: pod._replace(host_ports=draw(_SOME_HOST_PORTS)) for key, pod in cluster.pods.items()}
    cluster = replace(cluster, pods=MappingProxyType(of_pods))
    pods = [Endpoint(net, pod.node or "one") for pod in cluster.pods.values() if pod.networked for net in pod.addresses]
    of_nodes = [Endpoint(net, node.name) for node in cluster.nodes.values() for net in node.addresses]
    ends = [*pods, *pods, *of_nodes, *map(Endpoint, OUTSIDE)]
    services: dict[Key, Service] = {}
    slices: dict[Key, EndpointSlice] = {}
    for number in range(1, draw(st.integers(2, 5))):
        key = Key(draw(st.sampled_from(NAMESPACES)), f"s{number}")
        slices[key] = draw(_slices(key, ends))
        external = st.lists(st.sampled_from([end.address for end in ends]), max_size=2, unique=True)
        port = ServicePort(
            "", slices[key].ports[0].protocol, draw(st.sampled_from((80, 443))), FIRST_NODE_PORT + number
        )
        services[key] = Service(
            key,
            (parse_address(f"10.96.0.{number}"), parse_address(f"fd00:96::{number}")),
            (port,),
            tuple(draw(external)),
            tuple(draw(external)),
            draw(st.sampled_from((None, None, (Net(4, 0x0A000100, 24),)))),
            draw(st.booleans()),
            draw(st.booleans()),
        )
    return replace(cluster, services=MappingProxyType(services), endpoint_slices=MappingProxyType(slices))
