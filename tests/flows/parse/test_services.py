"""Parsing Services and EndpointSlices: what cannot be used is reported by its path and left out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.cluster.model import Endpoint, EndpointPort, EndpointSlice, Key, Protocol, Service, ServiceCidr, ServicePort
from flows.cluster.net import parse_address, parse_network
from flows.parse import endpoint_slice, service
from flows.parse.endpoint_slice import parse_endpoint_slice
from flows.parse.objects import PARSERS_WITH_SERVICES, ParseError, parse_object
from flows.parse.service import parse_service
from flows.parse.service_cidr import parse_service_cidr
from flows.parse.untrusted import FieldError

WEB = Key("shop", "web")
META = {"name": "web", "namespace": "shop"}
ONE_PORT = [{"port": 80}]


def read(spec: Any, status: Any = None, labels: Any = None) -> tuple[Service, list[str]]:
    errors: list[FieldError] = []
    raw = {"metadata": {**META, "labels": labels}, "spec": spec, "status": status}
    return parse_service(raw, errors), [error.field for error in errors]


def read_slice(labels: Any = None, **parts: Any) -> tuple[EndpointSlice, list[str]]:
    errors: list[FieldError] = []
    raw = {"metadata": {**META, "labels": labels}, "addressType": "IPv4", **parts}
    return parse_endpoint_slice(raw, errors), [error.field for error in errors]


def test_a_whole_service() -> None:
    found, errors = read(
        {
            "type": "LoadBalancer",
            "clusterIP": "10.96.0.5",
            "clusterIPs": ["10.96.0.5", "fd00:96::5"],
            "ports": [
                {"name": "http", "port": 80, "targetPort": "web", "nodePort": 30080},
                {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053},
            ],
            "externalIPs": ["198.51.100.7"],
            "loadBalancerSourceRanges": [" 192.0.2.0/24 ", "10.0.0.1/8"],
            "internalTrafficPolicy": "Local",
            "externalTrafficPolicy": "Local",
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
            "healthCheckNodePort": 31000,
        },
        {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}, {"ip": "203.0.113.8", "ipMode": "Proxy"},
                                      {"hostname": "lb.example.org"}, {"ip": "203.0.113.7", "ipMode": "VIP"}]}},
    )  # fmt: skip
    assert errors == []
    assert found == Service(
        WEB,
        (parse_address("10.96.0.5"), parse_address("fd00:96::5")),
        (ServicePort("http", Protocol.TCP, 80, 30080), ServicePort("dns", Protocol.UDP, 53, 30053)),
        (parse_address("198.51.100.7"),),
        (parse_address("203.0.113.9"), parse_address("203.0.113.7")),
        (parse_network("10.0.0.0/8"), parse_network("192.0.2.0/24")),
        internal_local=True,
        external_local=True,
        affinity_seconds=60,
        health_check_port=31000,
    )


@pytest.mark.parametrize(
    "spec",
    [
        {"clusterIP": "None", "ports": ONE_PORT},
        {"clusterIPs": ["None"], "ports": ONE_PORT},
        {"type": "ExternalName", "externalName": "example.org", "ports": ONE_PORT},
        {"ports": ONE_PORT},
        None,
    ],
    ids=["headless", "headless list", "external name", "no address yet", "empty"],
)
def test_services_without_translation(spec: Any) -> None:
    assert read(spec) == (Service(WEB), [])


def test_defaults() -> None:
    found, errors = read({"clusterIP": "10.96.0.5", "ports": [{"port": 80, "nodePort": 0}], "sessionAffinity": "None"})
    assert errors == []
    assert found == Service(WEB, (parse_address("10.96.0.5"),), (ServicePort("", Protocol.TCP, 80),))
    found, _ = read({"clusterIP": "10.96.0.5", "sessionAffinity": "ClientIP"})
    assert found.affinity_seconds == service.DEFAULT_AFFINITY_SECONDS
    # What only a load balancer or a node port has counts for no other type.
    found, errors = read(
        {"clusterIP": "10.96.0.5", "ports": [{"port": 80, "nodePort": 30080}], "loadBalancerSourceRanges": ["::/0"]},
        {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}},
    )  # fmt: skip
    assert (found.ports[0].node_port, found.ingress_ips, found.source_ranges, errors) == (0, (), None, [])


@pytest.mark.parametrize("label", service.FOREIGN_PROXY_LABELS)
def test_labels_of_another_proxy(label: str) -> None:
    assert not read({"clusterIP": "10.96.0.5"}, labels={label: ""})[0].proxied
    assert not read_slice(labels={label: "other"})[0].proxied


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"type": "Balancer", "clusterIP": "10.96.0.5"}, "spec.type"),
        ({"clusterIPs": ["169.254.72.1"]}, "spec.clusterIPs[0]"),
        ({"clusterIPs": ["fe80::4847:1"]}, "spec.clusterIPs[0]"),
        ({"clusterIP": "127.0.0.1"}, "spec.clusterIP"),
        ({"clusterIPs": ["10.96.0.5", "10.96.0.6"]}, "spec.clusterIPs[1]"),
        ({"clusterIPs": ["10.96.0.5"], "externalIPs": ["224.0.0.1"]}, "spec.externalIPs[0]"),
        ({"clusterIPs": ["10.96.0.5"], "ports": [{"port": 0}]}, "spec.ports[0].port"),
        ({"clusterIPs": ["10.96.0.5"], "ports": [{"port": True}]}, "spec.ports[0].port"),
        ({"clusterIPs": ["10.96.0.5"], "ports": [{}]}, "spec.ports[0].port"),
        ({"clusterIPs": ["10.96.0.5"], "ports": [{"port": 1, "protocol": "ICMP"}]}, "spec.ports[0].protocol"),
        ({"clusterIPs": ["10.96.0.5"], "ports": [{"port": 1, "name": "A"}]}, "spec.ports[0].name"),
        ({"clusterIPs": ["10.96.0.5"], "ports": [{"port": 1, "name": "a"}, {"port": 2}]}, "spec.ports[1].name"),
        (
            {"clusterIPs": ["10.96.0.5"], "ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]},
            "spec.ports[1].name",
        ),
        ({"clusterIPs": ["10.96.0.5"], "ports": [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]}, "spec.ports[1]"),
        ({"clusterIPs": ["10.96.0.5"], "internalTrafficPolicy": "Nearby"}, "spec.internalTrafficPolicy"),
        ({"clusterIPs": ["10.96.0.5"], "sessionAffinity": "Cookie"}, "spec.sessionAffinity"),
        (
            {
                "clusterIPs": ["10.96.0.5"],
                "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}},
            },
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
        ),
        (
            {"type": "NodePort", "clusterIPs": ["10.96.0.5"], "ports": [{"port": 1, "nodePort": -1}]},
            "spec.ports[0].nodePort",
        ),
        ({"type": "LoadBalancer", "clusterIPs": ["10.96.0.5"], "healthCheckNodePort": "x"}, "spec.healthCheckNodePort"),
    ],
)  # fmt: skip
def test_errors_of_services(spec: Any, field: str) -> None:
    assert read(spec)[1] == [field]


def test_what_cannot_be_read_opens_nothing() -> None:
    base = {"type": "LoadBalancer", "clusterIPs": ["10.96.0.5"], "ports": ONE_PORT}
    assert read({**base, "loadBalancerSourceRanges": ["everywhere"]})[0].source_ranges == ()
    assert read({**base, "loadBalancerSourceRanges": "0.0.0.0/0"})[0].source_ranges == ()
    assert read({**base, "loadBalancerSourceRanges": []})[0].source_ranges is None
    assert read({**base, "externalTrafficPolicy": 5})[0].external_local
    assert read({**base, "ports": [{"port": 80, "protocol": "ICMP"}]})[0].ports == ()


def test_a_whole_slice() -> None:
    found, errors = read_slice(
        labels={"kubernetes.io/service-name": "web"},
        endpoints=[
            {"addresses": ["10.0.0.1"], "nodeName": "n1"},
            {
                "addresses": ["10.0.0.2", "10.0.0.3"],
                "conditions": {"ready": False, "serving": True, "terminating": True},
            },
            {"addresses": ["10.0.0.4"], "hints": {"forZones": [{"name": "z1"}], "forNodes": [{"name": "n1"}]}},
        ],
        ports=[{"name": "http", "port": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "any"}],
    )  # fmt: skip
    assert errors == []
    assert found == EndpointSlice(
        WEB,
        "web",
        (
            Endpoint(parse_address("10.0.0.1"), "n1"),
            Endpoint(parse_address("10.0.0.2"), "", False, True, True),
            Endpoint(parse_address("10.0.0.4"), zones=("z1",), nodes=("n1",)),
        ),
        (EndpointPort("http", Protocol.TCP, 8080), EndpointPort("dns", Protocol.UDP, 53)),
    )


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ({"addressType": "IPv5"}, "addressType"),
        ({"endpoints": [{"addresses": []}]}, "endpoints[0].addresses[0]"),
        ({"endpoints": [{"addresses": ["fd00::1"]}]}, "endpoints[0].addresses[0]"),
        ({"endpoints": [{"addresses": ["169.254.169.254"]}]}, "endpoints[0].addresses[0]"),
        ({"endpoints": ["10.0.0.1"]}, "endpoints[0]"),
        ({"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": "yes"}}]}, "endpoints[0].conditions.ready"),
        ({"endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "-"}]}, "endpoints[0].nodeName"),
        (
            {"endpoints": [{"addresses": ["10.0.0.1"], "hints": {"forZones": [{}]}}]},
            "endpoints[0].hints.forZones[0].name",
        ),
        ({"ports": [{"port": 70000}]}, "ports[0].port"),
        ({"ports": [{"port": 1}, {"port": 2}]}, "ports[1].name"),
        ({"labels": {"kubernetes.io/service-name": "A b"}}, "metadata.labels[kubernetes.io/service-name]"),
    ],
)
def test_errors_of_slices(parts: dict[str, Any], field: str) -> None:
    assert read_slice(**parts)[1] == [field]


def test_a_condition_that_is_no_boolean_counts_against_the_endpoint() -> None:
    found, _ = read_slice(endpoints=[{"addresses": ["10.0.0.1"], "conditions": {"ready": "yes", "serving": 1}}])
    assert (found.endpoints[0].ready, found.endpoints[0].serving) == (False, False)


def test_slices_of_names_have_no_endpoints() -> None:
    assert read_slice(addressType="FQDN", endpoints=[{"addresses": ["example.org"]}]) == (EndpointSlice(WEB), [])


def test_how_many_there_may_be() -> None:
    many = [{"port": number, "name": f"p{number}"} for number in range(1, service.MAX_PORTS + 2)]
    found, errors = read({"clusterIP": "10.96.0.5", "ports": many})
    assert (len(found.ports), errors) == (service.MAX_PORTS, ["spec.ports"])
    addresses = [f"203.0.113.{number}" for number in range(service.MAX_ADDRESSES)]
    for ports, kept in ((1, len(addresses)), (100, service.MAX_FRONTENDS // 100)):
        found, errors = read({"clusterIP": "10.96.0.5", "ports": many[:ports], "externalIPs": addresses})
        assert len(found.external_ips) == kept and errors == ([] if kept == len(addresses) else ["spec.externalIPs"])
    endpoints = [{"addresses": [f"10.0.{n >> 8}.{n & 255}"]} for n in range(endpoint_slice.MAX_ENDPOINTS + 1)]
    slice_, errors = read_slice(endpoints=endpoints)
    assert (len(slice_.endpoints), errors) == (endpoint_slice.MAX_ENDPOINTS, ["endpoints"])


def test_kinds_are_read_only_where_asked_for() -> None:
    for version, kind in (("v1", "Service"), ("discovery.k8s.io/v1", "EndpointSlice")):
        raw = {"apiVersion": version, "kind": kind, "metadata": META, "addressType": "IPv4"}
        assert parse_object(raw) is None
        found = parse_object(raw, PARSERS_WITH_SERVICES)
        assert found is not None
        assert (found.kind, found.name) == (kind, WEB)
    with pytest.raises(ParseError, match=r"discovery\.k8s\.io/v1"):
        parse_object({"apiVersion": "discovery.k8s.io/v1beta1", "kind": "EndpointSlice"}, PARSERS_WITH_SERVICES)


WORDS = st.sampled_from(
    [*("clusterIPs", "clusterIP", "ports", "port", "nodePort", "name", "protocol", "type", "sessionAffinity", "spec"),
     *("externalIPs", "loadBalancerSourceRanges", "internalTrafficPolicy", "sessionAffinityConfig", "clientIP"),
     *("endpoints", "addresses", "conditions", "ready", "hints", "forZones", "nodeName", "status", "loadBalancer"),
     *("ingress", "ip", "ipMode", "labels", "metadata", "timeoutSeconds", "healthCheckNodePort", "addressType")]
)  # fmt: skip
TEXTS = st.sampled_from(["", "None", "10.96.0.5", "fd00::1", "TCP", "Local", "LoadBalancer", "IPv4", "ClientIP", "a"])
JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2**70) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=6),
    max_leaves=30,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(WORDS, JUNK), JUNK, JUNK, st.sampled_from(["Service", "EndpointSlice"]))
def test_only_parse_error_is_raised(raw: dict[str, Any], spec: Any, labels: Any, kind: str) -> None:
    version = "v1" if kind == "Service" else "discovery.k8s.io/v1"
    whole = {**raw, "apiVersion": version, "kind": kind, "metadata": {**META, "labels": labels}, "spec": spec}
    found = parse_object(whole, PARSERS_WITH_SERVICES)
    assert found is not None
    assert hash(found.value) == hash(found.value)
    assert parse_object(whole, PARSERS_WITH_SERVICES) == found


def test_the_ranges_of_a_service_cidr() -> None:
    errors: list[FieldError] = []
    raw = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/12", "fd00:10:96::/112"]}}
    assert parse_service_cidr(raw, errors) == ServiceCidr(
        "kubernetes", (parse_network("10.96.0.0/12"), parse_network("fd00:10:96::/112"))
    )
    assert not errors


@pytest.mark.parametrize("value", [None, 7, "10.96.0.1", "0.0.0.0/0", "10.96.0.0/12", "x" * 10_000, ["10.0.0.0/8"]])
def test_a_range_of_services_that_cannot_be_used_is_left_out_and_named(value: object) -> None:
    errors: list[FieldError] = []
    raw = {"metadata": {"name": "a"}, "spec": {"cidrs": ["10.0.0.0/16", value]}}
    assert parse_service_cidr(raw, errors).cidrs == (parse_network("10.0.0.0/16"),)
    assert [error.field for error in errors] == ["spec.cidrs[1]"]
