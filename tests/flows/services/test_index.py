"""The index of Services equals what is computed from nothing, and a change touches only its own Services."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.cluster.model import (
    Cluster,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    HostPort,
    Key,
    Pod,
    Protocol,
    Service,
    ServicePort,
)
from flows.cluster.net import parse_address
from flows.services import endpoints, limits, served
from flows.services.choice import Target
from flows.services.frontends import Frontend, FrontendKind
from flows.services.index import ServiceIndex
from flows.services.reference import serve_all
from flows.services.served import PortUse

VIP, OTHER_VIP, EXTERNAL = map(parse_address, ("10.96.0.5", "10.96.0.6", "192.0.2.1"))
TCP = Protocol.TCP
WEB, API = Key("shop", "web"), Key("shop", "api")


def service(key: Key = WEB, vip: str = "10.96.0.5", **fields: Any) -> Service:
    return Service(key, (parse_address(vip),), (ServicePort("", TCP, 80),))._replace(**fields)


def slice_of(key: Key, *addresses: str, port: int = 8080) -> EndpointSlice:
    found = tuple(Endpoint(parse_address(text), "n1") for text in addresses)
    return EndpointSlice(key, "web", found, (EndpointPort("", TCP, port),))


def backends_of(index: ServiceIndex, key: Key = WEB) -> list[str]:
    return [f"{one.endpoint.address}:{one.number}" for port in index.ports(key) for one in port.backends]


def test_a_service_and_its_slices() -> None:
    index = ServiceIndex()
    one, two = Key("shop", "web-1"), Key("shop", "web-2")
    index.put_slice(one, slice_of(one, "10.0.0.1"))
    assert index.take_changes() == set()
    index.put_service(WEB, service())
    assert index.take_changes() == {WEB}
    assert backends_of(index) == ["10.0.0.1:8080"]
    index.put_slice(two, slice_of(two, "10.0.0.2", "10.0.0.1", port=9090))
    assert index.take_changes() == {WEB}
    assert backends_of(index) == ["10.0.0.1:8080", "10.0.0.1:9090", "10.0.0.2:9090"]
    index.put_slice(one, None)
    assert index.take_changes() == {WEB}
    assert backends_of(index) == ["10.0.0.1:9090", "10.0.0.2:9090"]
    index.put_slice(two, slice_of(two, "10.0.0.2", "10.0.0.1", port=9090))
    assert index.take_changes() == set()
    index.put_service(WEB, None)
    assert index.take_changes() == {WEB}
    assert list(index) == []


def test_an_endpoint_that_moves_between_slices_counts_once() -> None:
    one, two = Key("shop", "web-1"), Key("shop", "web-2")
    old = slice_of(one, "10.0.0.1")
    gone = old._replace(endpoints=(old.endpoints[0]._replace(ready=False, serving=False),))
    for first, second in ((gone, slice_of(two, "10.0.0.1")), (slice_of(one, "10.0.0.1"), gone._replace(key=two))):
        index = ServiceIndex()
        index.put_service(WEB, service())
        index.put_slice(one, first)
        index.put_slice(two, second)
        index.take_changes()
        (found,) = index.ports(WEB)[0].backends
        assert found.endpoint.ready


def test_a_slice_of_another_proxy_or_service_is_not_used() -> None:
    index = ServiceIndex()
    index.put_service(WEB, service())
    one = Key("shop", "web-1")
    for other in (slice_of(one, "10.0.0.1")._replace(proxied=False), slice_of(one, "10.0.0.1")._replace(service="api")):
        index.put_slice(one, other)
        index.take_changes()
        assert backends_of(index) == []
    foreign = Key("other", "web-1")
    index.put_slice(foreign, slice_of(foreign, "10.0.0.1"))
    index.take_changes()
    assert backends_of(index) == []
    index.put_service(WEB, service(proxied=False))
    assert index.take_changes() == {WEB}
    assert list(index) == []


def test_the_stronger_claim_has_a_frontend() -> None:
    index = ServiceIndex()
    thief = service(API, "10.96.0.6", external_ips=(VIP, EXTERNAL))
    index.put_service(API, thief)
    index.take_changes()
    assert [str(one) for _, one in index.ports(API)[0].frontends] == [
        "10.96.0.6:80/TCP", "10.96.0.5:80/TCP", "192.0.2.1:80/TCP"
    ]  # fmt: skip
    index.put_service(WEB, service(ingress_ips=(EXTERNAL,)))
    assert index.take_changes() == {WEB, API}
    assert index.ports(WEB)[0].frontends == (
        (FrontendKind.CLUSTER_IP, Frontend(VIP, TCP, 80)),
        (FrontendKind.LOAD_BALANCER, Frontend(EXTERNAL, TCP, 80)),
    )
    assert [str(one) for _, one in index.ports(API)[0].frontends] == ["10.96.0.6:80/TCP"]
    assert index.problems == {
        API: (
            "10.96.0.5:80/TCP belongs to another Service, so nothing of it comes here",
            "192.0.2.1:80/TCP belongs to another Service, so nothing of it comes here",
        )
    }
    index.put_service(WEB, None)
    assert index.take_changes() == {WEB, API}
    assert len(index.ports(API)[0].frontends) == 3
    assert index.problems == {}


def test_too_many_endpoints_are_left_out_and_told() -> None:
    index = ServiceIndex()
    index.put_service(WEB, service())
    for number in range(12):
        key = Key("shop", f"web-{number}")
        index.put_slice(key, slice_of(key, *(f"10.{number}.{n >> 8}.{n & 255}" for n in range(1000))))
    index.take_changes()
    assert len(index.ports(WEB)[0].backends) == limits.MAX_BACKENDS
    assert index.problems == {WEB: ("2000 endpoints are left out: a port has more than 10000 of one family",)}


def test_the_endpoints_of_many_ports_are_bounded_together() -> None:
    """Each is a bucket on every bridge, and a slice gives all its endpoints to all ports."""
    ports = tuple(ServicePort(f"p{number}", TCP, number) for number in range(1, 101))
    many = slice_of(WEB, *(f"10.0.{n >> 8}.{n & 255}" for n in range(300)))
    index = ServiceIndex()
    index.put_service(WEB, service(ports=ports))
    index.put_slice(WEB, many._replace(ports=tuple(EndpointPort(one.name, TCP, 8080) for one in ports)))
    index.take_changes()
    assert sum(len(port.backends) for port in index.ports(WEB)) == limits.MAX_SERVICE_BACKENDS
    assert index.problems == {WEB: ("10000 endpoints are left out: a port has more than 200 of one family",)}


def test_what_a_change_looks_at_is_bounded_whatever_the_slices_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes slices chooses how many there are, and how many ports stand beside how many endpoints."""
    looked: list[int] = []

    def merge(slices: Iterable[EndpointSlice], names: Iterable[endpoints.PortName]) -> tuple[endpoints.Backends, int]:
        kept = list(slices)
        looked.append(sum(len(one.endpoints) * len(one.ports) for one in kept))
        return endpoints.merge_slices(kept, names)

    monkeypatch.setattr(served, "merge_slices", merge)
    ports = tuple(ServicePort(f"p{number}", TCP, number) for number in range(1, 501))
    of_slice = tuple(EndpointPort(one.name, TCP, 8080) for one in ports)
    index = ServiceIndex()
    index.put_service(WEB, service(ports=ports))
    for number in range(6):
        key = Key("shop", f"web-{number}")
        found = slice_of(key, *(f"10.{number}.{n >> 8}.{n & 255}" for n in range(1000)))
        index.put_slice(key, found._replace(ports=of_slice))
        index.take_changes()
    assert 0 < max(looked) <= limits.MAX_MERGED
    (first, _) = index.problems[WEB]
    assert first.startswith("6 EndpointSlices from web-0 on are left out, the first perhaps in part: at most 1,000")
    assert all(port.backends for port in index.ports(WEB))


def test_slices_beyond_the_limit_are_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_SLICES", 3)
    index = ServiceIndex()
    index.put_service(WEB, service())
    for number in (4, 1, 0, 3, 2):
        key = Key("shop", f"web-{number}")
        index.put_slice(key, slice_of(key, f"10.0.0.{number}"))
    index.take_changes()
    assert backends_of(index) == ["10.0.0.0:8080", "10.0.0.1:8080", "10.0.0.2:8080"]
    (told,) = index.problems[WEB]
    assert told.startswith("2 EndpointSlices from web-3 on are left out")
    for name in ("web-0", "web-2"):
        index.put_slice(Key("shop", name), None)
    index.take_changes()
    assert backends_of(index) == ["10.0.0.1:8080", "10.0.0.3:8080", "10.0.0.4:8080"]
    assert index.problems == {}


def test_a_health_check_counts_the_ready_endpoints_of_all_ports_at_a_node() -> None:
    ports = ServicePort("a", TCP, 80, 30080), ServicePort("b", TCP, 81, 30081)
    balancer = service(ports=ports, external_local=True, health_check_port=31000)
    here = slice_of(WEB, "10.0.0.1", "10.0.0.2", "10.0.0.3")
    named = [one._replace(node="n1", ready=number < 2) for number, one in enumerate(here.endpoints)]
    index = ServiceIndex()
    index.put_service(WEB, balancer)
    index.put_slice(
        WEB, here._replace(endpoints=tuple(named), ports=(EndpointPort("a", TCP, 1), EndpointPort("b", TCP, 2)))
    )
    index.take_changes()
    (health,) = [port for port in index.ports(WEB) if port.use is PortUse.HEALTH_CHECK]
    assert [str(one) for _, one in health.frontends] == ["169.254.72.4:31000/TCP"]
    assert health.choose("n1", "").local == (Target(parse_address("169.254.72.5"), 2),)
    assert health.choose("n2", "").local == (Target(parse_address("169.254.72.5"), 65535),)
    # Of a node port with the same number only one answers.
    index.put_service(API, service(API, "10.96.0.6", ports=(ServicePort("", TCP, 80, 31000),)))
    index.take_changes()
    assert not any(port.use is PortUse.HEALTH_CHECK for port in index.ports(WEB))
    assert index.problems[WEB] == (
        "169.254.72.4:31000/TCP belongs to another Service, so no health check is answered there",
    )


def test_node_ports_of_policy_local_lead_to_the_endpoints_of_the_node_that_is_named() -> None:
    n1, n2 = (parse_address("192.0.2.1"), parse_address("2001:db8::1")), (parse_address("192.0.2.2"),)
    states = {
        "10.0.1.1": ("n1", True, True, False),
        "10.0.1.2": ("n1", False, True, True),  # one that is ready comes before it
        "10.0.2.1": ("n2", False, True, True),
        "10.0.3.1": ("n3", False, False, False),
        "10.0.4.1": ("n4", True, True, False),  # a node without an address, at first
    }
    ends = tuple(Endpoint(parse_address(address), *state) for address, state in states.items())
    local = service(ports=(ServicePort("", TCP, 80, 30080),), external_local=True)
    index = ServiceIndex()
    index.set_node_addresses({"n1": n1, "n2": n2, "n3": (parse_address("192.0.2.3"),)})
    index.put_service(WEB, local)
    index.put_slice(WEB, EndpointSlice(WEB, "web", ends, (EndpointPort("", TCP, 8080),)))
    index.take_changes()

    def led() -> set[str]:
        return {
            f"{port.name}: {frontend} to {target.address}:{target.number}"
            for port in index.ports(WEB) if port.use is PortUse.AT_NODE
            for _, frontend in port.frontends for target in port.choose("n1", "").cluster
        }  # fmt: skip

    first = {
        "shop/web:node port 30080/TCP at n1: 192.0.2.1:30080/TCP to 10.0.1.1:8080",
        "shop/web:node port 30080/TCP at n2: 192.0.2.2:30080/TCP to 10.0.2.1:8080",
    }
    assert led() == first
    index.set_node_addresses({"n1": n1, "n2": n2, "n4": (parse_address("192.0.2.4"),)})
    assert index.take_changes() == {WEB}
    assert led() == first | {"shop/web:node port 30080/TCP at n4: 192.0.2.4:30080/TCP to 10.0.4.1:8080"}
    index.put_service(WEB, local._replace(external_local=False))
    index.take_changes()
    assert led() == set()
    index.put_service(WEB, local)
    # Another Service has the node port.
    index.put_service(Key("a", "a"), service(Key("a", "a"), "10.96.0.6", ports=(ServicePort("", TCP, 80, 30080),)))
    index.take_changes()
    assert led() == set()


def test_the_addresses_of_nodes_that_one_service_may_have_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_SERVICE_FLOWS", 20)
    nodes = {f"n{number}": (parse_address(f"192.0.2.{number}"),) for number in range(1, 31)}
    ends = tuple(Endpoint(parse_address(f"10.0.{number}.1"), f"n{number}") for number in range(1, 31))
    index = ServiceIndex()
    index.set_node_addresses(nodes)
    index.put_service(WEB, service(ports=(ServicePort("", TCP, 80, 30080),), external_local=True))
    index.put_slice(WEB, EndpointSlice(WEB, "web", ends, (EndpointPort("", TCP, 8080),)))
    index.take_changes()
    found = [port for port in index.ports(WEB) if port.use is PortUse.AT_NODE]
    assert sum(len(port.frontends) for port in found) == 20
    assert index.problems == {WEB: ("pods reach its node ports at 20 addresses of other nodes only",)}


def test_host_ports_lead_to_their_pod_at_its_nodes_addresses() -> None:
    node = tuple(map(parse_address, ("192.0.2.7", "192.0.2.8", "2001:db8::7")))
    ports = (
        HostPort(TCP, 80, 8080),
        HostPort(TCP, 81, 8081, parse_address("192.0.2.8")),
        HostPort(TCP, 82, 8082, parse_address("::")),
        HostPort(TCP, 83, 8083, parse_address("127.0.0.1")),
    )
    addresses = tuple(map(parse_address, ("10.0.0.1", "fd00::1")))
    pod = Pod(Key("x", "a"), node="n1", addresses=addresses, host_ports=ports)
    index = ServiceIndex()
    index.put_pod(pod.key, pod)
    index.set_node_addresses({"n1": node, "n2": (parse_address("192.0.2.9"),)})
    (key,) = index.take_changes()

    def led() -> set[str]:
        return {
            f"{frontend} to {backend.endpoint.address}:{backend.number}"
            for port in index.ports(key) for _, frontend in port.frontends for backend in port.backends
        }  # fmt: skip

    assert led() == {
        "192.0.2.7:80/TCP to 10.0.0.1:8080",
        "192.0.2.8:80/TCP to 10.0.0.1:8080",
        "[2001:db8::7]:80/TCP to fd00::1:8080",
        "192.0.2.8:81/TCP to 10.0.0.1:8081",
        "[2001:db8::7]:82/TCP to fd00::1:8082",
    }
    # An external address of a Service, which anybody may write, takes no host port; another pod's claim is told.
    index.put_service(WEB, service(external_ips=(parse_address("192.0.2.7"),)))
    index.put_pod(Key("x", "b"), pod._replace(key=Key("x", "b"), host_ports=ports[:1]))
    index.take_changes()
    assert index.problems[WEB] == ("192.0.2.7:80/TCP belongs to another Service, so nothing of it comes here",)
    assert index.problems[Key("x", "pod b")][0] == "host port 192.0.2.7:80/TCP leads to Pod x/a already"
    index.put_pod(pod.key, pod._replace(host_network=True))
    assert index.take_changes() == {key, Key("x", "pod b")}
    assert index.ports(key) == ()


def test_what_is_not_supported_is_told() -> None:
    index = ServiceIndex()
    sctp = (ServicePort("sip", Protocol.SCTP, 5060),)
    index.put_service(WEB, service(affinity_seconds=86400, ports=sctp))
    index.take_changes()
    assert index.problems[WEB] == (
        "session affinity ends 65535 s after a client's last connection, the switch's longest",
    )
    assert index.sctp == {WEB}
    index.put_service(WEB, service(affinity_seconds=65535))
    index.take_changes()
    assert index.sctp == set()
    assert index.problems == {}


ADDRESSES = st.sampled_from([parse_address(text) for text in ("10.0.0.1", "10.0.0.2", "fd00::1")])
VIPS = st.sampled_from([(VIP,), (OTHER_VIP,), (VIP, parse_address("fd00:96::5")), ()])
PORTS = st.sampled_from(
    [(ServicePort("", TCP, 80),), (ServicePort("a", TCP, 80, 30080), ServicePort("b", TCP, 81, 30080))]
)
KEYS = st.sampled_from([Key("x", "a"), Key("x", "b"), Key("y", "a")])
SERVICES = st.builds(
    Service, KEYS, VIPS, PORTS,
    external_ips=st.sampled_from([(), (EXTERNAL,), (VIP, EXTERNAL)]),
    ingress_ips=st.sampled_from([(), (EXTERNAL,)]),
    external_local=st.booleans(), health_check_port=st.sampled_from([0, 31000, 30080]),
    proxied=st.sampled_from([True, True, False]),
)  # fmt: skip
ENDPOINTS = st.builds(
    Endpoint, ADDRESSES, st.sampled_from(["", "n1", "n2"]), st.booleans(), st.booleans(), st.booleans()
)
SLICES = st.builds(
    EndpointSlice, KEYS, st.sampled_from(["a", "b", ""]), st.lists(ENDPOINTS, max_size=3).map(tuple),
    st.sampled_from([(EndpointPort("", TCP, 8080),), (EndpointPort("a", TCP, 1), EndpointPort("b", TCP, 2))]),
    st.sampled_from([True, True, False]),
)  # fmt: skip
NODES = {"n1": (EXTERNAL, parse_address("2001:db8::1")), "n2": (OTHER_VIP,)}
HOST_PORTS = st.builds(
    HostPort, st.just(TCP), st.sampled_from([80, 81]), st.sampled_from([1, 2]),
    st.sampled_from([None, None, EXTERNAL, parse_address("::")]),
)  # fmt: skip
PODS = st.builds(
    Pod, KEYS, node=st.sampled_from(["", "n1", "n1", "n2", "n3"]), addresses=st.lists(ADDRESSES, max_size=2).map(tuple),
    host_ports=st.lists(HOST_PORTS, max_size=3).map(tuple), finished=st.sampled_from([False, False, True]),
)  # fmt: skip
STEPS = st.tuples(st.booleans(), KEYS, SERVICES | SLICES | PODS)


@settings(max_examples=300, deadline=None)
@pytest.mark.parametrize("few", [False, True])
@given(steps=st.lists(STEPS, max_size=20))
def test_index_equals_reference(few: bool, steps: list[tuple[bool, Key, Service | EndpointSlice | Pod]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if few:  # the limits are reached
            patch.setattr(limits, "MAX_SLICES", 1)
            patch.setattr(limits, "MAX_MERGED", 2)
        _run_beside_reference(steps)


def _run_beside_reference(steps: list[tuple[bool, Key, Service | EndpointSlice | Pod]]) -> None:
    index = ServiceIndex()
    nodes = dict(NODES)
    index.set_node_addresses(nodes)
    pods: dict[Key, Pod] = {}
    services: dict[Key, Service] = {}
    slices: dict[Key, EndpointSlice] = {}
    known: dict[Key, object] = {}
    for number, (there, key, value) in enumerate(steps):
        value = value._replace(key=key)
        if isinstance(value, Service):
            index.put_service(key, value if there else None)
            services = {**services, key: value} if there else {k: v for k, v in services.items() if k != key}
        elif isinstance(value, Pod):
            index.put_pod(key, value if there else None)
            pods = {**pods, key: value} if there else {k: v for k, v in pods.items() if k != key}
            nodes = {**nodes, "n1": nodes["n1"][::-1][: 1 + number % 2] or NODES["n1"]}
            index.set_node_addresses(nodes)
        else:
            index.put_slice(key, value if there else None)
            slices = {**slices, key: value} if there else {k: v for k, v in slices.items() if k != key}
        if number % 2:
            continue  # several changes together
        changed = index.take_changes()
        whole = Cluster(
            pods=MappingProxyType(pods),
            services=MappingProxyType(services),
            endpoint_slices=MappingProxyType(slices),
        )
        expected = serve_all(whole, nodes)
        assert {one: index.ports(one) for one in index} == expected
        assert changed == {one for one in known.keys() | expected.keys() if known.get(one) != expected.get(one)}
        known = dict(expected)
