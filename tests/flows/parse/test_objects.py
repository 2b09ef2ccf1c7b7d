"""Parsing Pods, Namespaces and Nodes: invalid fields are reported and left out, the rest is kept."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.cluster.model import ContainerPort, Key, Namespace, Node, Pod, Policy, Protocol
from flows.cluster.net import parse_address
from flows.parse import selector as selectors
from flows.parse import untrusted as reading
from flows.parse.objects import ParseError, parse_namespace, parse_node, parse_object, parse_pod
from flows.parse.untrusted import FieldError

# Addresses that no pod or node can have.
NOBODYS = ("0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "224.0.0.1", "239.255.255.255", "255.255.255.255",
           "::", "::1", "ff02::1", "ff0e::5", "::ffff:10.0.0.1", "::ffff:0:0")  # fmt: skip


def pod(**parts: Any) -> dict[str, Any]:
    metadata = {"name": "web-0", "namespace": "shop", **parts.pop("metadata", {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, **parts}


def read_pod(**parts: Any) -> tuple[Pod, list[str]]:
    errors: list[FieldError] = []
    return parse_pod(pod(**parts), errors), [error.field for error in errors]


def test_a_whole_pod() -> None:
    read, errors = read_pod(
        metadata={"labels": {"app": "web"}, "uid": "u-1", "resourceVersion": "7"},
        spec={
            "nodeName": "node-1",
            "containers": [
                {"name": "a", "ports": [{"name": "http", "containerPort": 80}, {"containerPort": 81}]},
                {"name": "b", "ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"}]},
            ],
            "initContainers": [
                {"name": "c", "ports": [{"name": "setup", "containerPort": 1}]},
                {"name": "d", "restartPolicy": "Always", "ports": [{"name": "proxy", "containerPort": 2}]},
            ],
        },
        status={"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
    )
    assert not errors
    assert read == Pod(
        Key("shop", "web-0"),
        {"app": "web"},
        "node-1",
        "u-1",
        (parse_address("10.0.0.1"), parse_address("fd00::1")),
        (
            ContainerPort("http", 80, Protocol.TCP),
            ContainerPort("dns", 53, Protocol.UDP),
            ContainerPort("proxy", 2, Protocol.TCP),
        ),
    )


def test_a_pod_with_few_fields() -> None:
    read, errors = read_pod(spec=None, status=None, metadata={"labels": None, "uid": None})
    assert (read, errors) == (Pod(Key("shop", "web-0")), [])


@pytest.mark.parametrize(
    ("phase", "finished"),
    [("Pending", False), ("Running", False), ("Unknown", False), ("Succeeded", True), ("Failed", True)],
)
def test_phases(phase: str, finished: bool) -> None:
    assert read_pod(status={"phase": phase})[0].finished is finished


@pytest.mark.parametrize(
    ("status", "addresses", "fields"),
    [
        ({"podIP": "10.0.0.1"}, ["10.0.0.1"], []),
        ({"podIP": "10.0.0.1", "podIPs": []}, ["10.0.0.1"], []),
        ({"podIP": "", "podIPs": None}, [], []),
        ({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.1"}]}, ["10.0.0.1"], []),
        ({"podIPs": [{"ip": "10.0.0.256"}, {"ip": "fd00::1"}]}, ["fd00::1"], ["status.podIPs[0].ip"]),
        ({"podIPs": [{"ip": "fe80::1%eth0"}, {}, "10.0.0.1"]}, [],
         ["status.podIPs[0].ip", "status.podIPs[1].ip", "status.podIPs[2]"]),
        ({"podIPs": "10.0.0.1"}, [], ["status.podIPs"]),
        ({"podIP": "127.0.0.1"}, [], ["status.podIP"]),
        *[
            ({"podIPs": [{"ip": address}, {"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}, ["10.0.0.1", "fd00::1"],
             ["status.podIPs[0].ip"])
            for address in NOBODYS
        ],
        ({"podIP": 10}, [], ["status.podIP"]),
        ("Running", [], ["status"]),
    ],
)  # fmt: skip
def test_addresses(status: object, addresses: list[str], fields: list[str]) -> None:
    read, errors = read_pod(status=status)
    assert (read.addresses, errors) == (tuple(map(parse_address, addresses)), fields)


@pytest.mark.parametrize("address", NOBODYS)
def test_reserved_addresses_are_errors_in_a_node(address: str) -> None:
    errors: list[FieldError] = []
    entries = [{"type": "InternalIP", "address": one} for one in (address, "10.0.0.1")]
    read = parse_node({"metadata": {"name": "one"}, "status": {"addresses": entries}}, errors)
    assert read.addresses == (parse_address("10.0.0.1"),)
    assert [one.field for one in errors] == ["status.addresses[0].address"]
    assert "no pod or node can have" in errors[0].reason


@pytest.mark.parametrize("address", ["1.0.0.0", "126.255.255.255", "128.0.0.1", "223.255.255.255", "240.0.0.1",
                                     "255.255.255.254", "::2", "::fffe:10.0.0.1", "::1:0:0:0", "fe80::1",
                                     "feff::1"])  # fmt: skip
def test_addresses_beside_reserved_ranges_are_valid(address: str) -> None:
    assert read_pod(status={"podIP": address}) == (read_pod(status={"podIP": address})[0], [])
    assert read_pod(status={"podIP": address})[0].addresses == (parse_address(address),)


@pytest.mark.parametrize(
    ("labels", "kept", "fields"),
    [
        ({"a": "b", "c": ""}, {"a": "b", "c": ""}, []),
        ({"a": None}, {"a": ""}, []),
        ({"a": "b", "c": True}, {"a": "b"}, ["metadata.labels[c]"]),
        ({"a": "b", "c": 1.5, "d": date(2024, 1, 1), "e": ["x"], "f": {}}, {"a": "b"},
         [f"metadata.labels[{key}]" for key in "cdef"]),
        ({1: "b"}, {}, ["metadata.labels[the number 1]"]),
        ({"a b": "c", "d": "-"}, {}, ["metadata.labels[a b]", "metadata.labels[d]"]),
        (["a"], {}, ["metadata.labels"]),
    ],
)  # fmt: skip
def test_labels(labels: object, kept: dict[str, str], fields: list[str]) -> None:
    read, errors = read_pod(metadata={"labels": labels})
    assert (dict(read.labels), errors) == (kept, fields)


def test_the_error_for_a_label_that_is_not_a_string_says_what_to_do() -> None:
    errors: list[FieldError] = []
    parse_pod(pod(metadata={"labels": {"enabled": True, "day": date(2024, 1, 1)}}), errors)
    assert [error.reason for error in errors] == [
        "must be a string, not the boolean true; quote it",
        "must be a string, not a date; quote it",
    ]


@pytest.mark.parametrize(
    ("port", "fields"),
    [
        ({"name": "Bad", "containerPort": 1}, ["name"]),
        ({"name": 5, "containerPort": 1}, ["name"]),
        ({"name": "a"}, ["containerPort"]),
        ({"name": "a", "containerPort": 0}, ["containerPort"]),
        ({"name": "a", "containerPort": "80"}, ["containerPort"]),
        ({"name": "a", "containerPort": 80, "protocol": "tcp"}, ["protocol"]),
    ],
)
def test_invalid_container_ports(port: object, fields: list[str]) -> None:
    good = {"name": "good", "containerPort": 80}
    read, errors = read_pod(spec={"containers": [{"ports": [port, good]}]})
    assert read.ports == (ContainerPort("good", 80, Protocol.TCP),)
    assert errors == [f"spec.containers[0].ports[0].{field}" for field in fields]


@pytest.mark.parametrize("spec", [{"containers": {}}, {"containers": [1]}, {"containers": [{"ports": 1}]}, 5])
def test_invalid_containers(spec: object) -> None:
    read, errors = read_pod(spec=spec)
    assert read.ports == ()
    assert len(errors) == 1


@pytest.mark.parametrize(
    ("value", "kept", "count"), [(True, True, 0), (False, False, 0), (None, False, 0), ("true", False, 1)]
)
def test_host_network(value: object, kept: bool, count: int) -> None:
    read, errors = read_pod(spec={"hostNetwork": value})
    assert (read.host_network, len(errors)) == (kept, count)


def test_equal_labels_are_shared() -> None:
    assert read_pod(metadata={"labels": {"a": "b"}})[0].labels is read_pod(metadata={"labels": {"a": "b"}})[0].labels


def test_names_that_are_not_printable_are_left_out() -> None:
    read, errors = read_pod(metadata={"uid": "a\x1b", "labels": {"a\n": "b"}}, spec={"nodeName": "a b"})
    assert (read.uid, read.node, dict(read.labels)) == ("", "", {})
    assert sorted(errors) == [r"metadata.labels['a\n']", "metadata.uid", "spec.nodeName"]


@pytest.mark.parametrize("labels", [None, {}, {"kubernetes.io/metadata.name": "other"}, {"team": "x"}])
def test_a_namespace_has_its_name_as_a_label(labels: dict[str, str] | None) -> None:
    errors: list[FieldError] = []
    read = parse_namespace({"metadata": {"name": "shop", "labels": labels}}, errors)
    assert read == Namespace("shop", {**(labels or {}), "kubernetes.io/metadata.name": "shop"})
    assert not errors


def test_node_addresses() -> None:
    errors: list[FieldError] = []
    addresses = [
        {"type": "InternalIP", "address": "192.0.2.1"},
        {"type": "Hostname", "address": "node-1"},
        {"type": "InternalIP", "address": "2001:db8::1"},
        {"type": "ExternalIP", "address": "198.51.100.1"},
        {"type": "InternalIP", "address": "node-1"},
        {"type": 5},
        None,
    ]
    read = parse_node({"metadata": {"name": "node-1"}, "status": {"addresses": addresses}}, errors)
    external = (parse_address("198.51.100.1"),)
    addresses_read = parse_address("192.0.2.1"), parse_address("2001:db8::1")
    assert read == Node("node-1", addresses_read, external_addresses=external)
    assert [error.field for error in errors] == [
        "status.addresses[4].address",
        "status.addresses[5].type",
        "status.addresses[6]",
    ]


@pytest.mark.parametrize(
    ("version", "kind"),
    [("v1", "Secret"), ("apps/v1", "Deployment"), ("crd.antrea.io/v1", "NetworkPolicy"), ("metrics.k8s.io/v1", "Pod")],
)
def test_other_kinds_are_ignored(version: str, kind: str) -> None:
    assert parse_object({"apiVersion": version, "kind": kind}) is None


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (None, ""),
        ("text", ""),
        ({}, "kind"),
        ({"kind": "Pod"}, "apiVersion"),
        ({"kind": ["Pod"], "apiVersion": "v1"}, "kind"),
        ({"kind": "Pod", "apiVersion": 1}, "apiVersion"),
        ({"kind": "NetworkPolicy", "apiVersion": "v1"}, "apiVersion"),
        ({"kind": "NetworkPolicy", "apiVersion": "networking.k8s.io/v2"}, "apiVersion"),
        ({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "a.b"}}, "metadata.name"),
    ],
)
def test_unusable_objects_raise(raw: object, field: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_object(raw)
    assert caught.value.errors[0].field == field


WORDS = st.sampled_from(
    [
        *(
            "apiVersion",
            "kind",
            "metadata",
            "name",
            "namespace",
            "labels",
            "spec",
            "status",
            "podSelector",
            "matchLabels",
        ),
        *("matchExpressions", "key", "operator", "values", "policyTypes", "ingress", "egress", "from", "to", "ports"),
        *("port", "endPort", "protocol", "ipBlock", "cidr", "except", "namespaceSelector", "podIPs", "podIP", "ip"),
        *("containers", "initContainers", "containerPort", "hostNetwork", "nodeName", "phase", "addresses", "type"),
    ]
)
TEXTS = st.sampled_from(
    ["", "v1", "In", "Exists", "Ingress", "10.0.0.0/8", "::/0", "TCP", "web", "-", "Always", "InternalIP"]
)
SCALARS = st.none() | st.booleans() | st.integers(-1, 2**70) | st.floats() | TEXTS | st.text(max_size=5) | st.dates()
JUNK: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=5),
    max_leaves=25,
)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A valid object with junk put at a random place."""
    raw: Any = draw(
        st.sampled_from(
            [
                lambda: pod(
                    metadata={"labels": {"a": "b"}, "uid": "u"},
                    spec={"nodeName": "one", "containers": [{"ports": [{"name": "a", "containerPort": 80}]}]},
                    status={"podIPs": [{"ip": "10.0.0.1"}], "phase": "Running"},
                ),
                lambda: {
                    "apiVersion": "networking.k8s.io/v1",
                    "kind": "NetworkPolicy",
                    "metadata": {"name": "p"},
                    "spec": {
                        "podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]},
                        "policyTypes": ["Ingress", "Egress"],
                        "ingress": [
                            {
                                "from": [{"podSelector": {"matchLabels": {"a": "b"}}}],
                                "ports": [{"port": 80, "endPort": 90}],
                            }
                        ],
                        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}],
                    },
                },
                lambda: {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "labels": {"a": "b"}}},
                lambda: {
                    "apiVersion": "v1",
                    "kind": "Node",
                    "metadata": {"name": "n"},
                    "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
                },
            ]
        )
    )()
    at: Any = raw
    while True:
        place = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else list(range(len(at)))))
        inner = at[place]
        if not isinstance(inner, (dict, list)) or not inner or draw(st.integers(0, 3)) == 0:
            at[place] = draw(JUNK)
            return raw
        at = inner


@settings(max_examples=400, deadline=None)
@given(JUNK | mutated())
def test_only_parse_error_is_raised(raw: Any) -> None:
    try:
        found = parse_object(raw)
    except ParseError as error:
        assert error.errors
        assert str(error)
        return
    if found is None:
        return
    assert all(error.reason for error in found.errors)
    assert hash(found.name) is not None
    if isinstance(found.value, Policy):
        assert found.value.isolates
        assert found.value.errors == tuple(map(str, found.errors))
    assert parse_object(raw) == found


def said_of(raw: Any) -> object:
    try:
        return parse_object(raw)
    except ParseError as error:
        return error.key, error.errors


@settings(max_examples=400, deadline=None)
@given(mutated())
def test_fast_paths_give_the_same_result(raw: Any) -> None:
    """The fast paths for common valid values; without them the values and errors are the same."""
    found = said_of(raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selectors, "simple_selector", lambda raw: None)
        patch.setattr(reading, "_shared_namespace", lambda text: "")
        patch.setattr(reading, "_shared_labels", lambda items: None)
        patch.setattr(reading, "valid_labels", lambda items: None)
        assert said_of(raw) == found
