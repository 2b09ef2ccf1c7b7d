"""The CustomResourceDefinition of the original policy API on a real API server: taken, and as strict as the parser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from flows.cluster.model import OriginalApi
from flows.cluster.original_api import OriginalPolicy
from flows.parse.objects import parse_object
from tests.helpers.api_server.server import ApiServer
from tests.helpers.paths import ROOT

CRD = ROOT / "deploy" / "kubernetes" / "crd-networkpolicys.net.alpha.kubernetes.io.yaml"
EXAMPLES = ROOT / "docs" / "examples" / "10-original-api" / "manifests"
PATH = "/apis/net.alpha.kubernetes.io/v1alpha1/namespaces/tenant-a/networkpolicys"


@pytest.fixture(scope="module")
def server(api: ApiServer) -> Iterator[ApiServer]:
    """The API server with the definition and the namespace tenant-a."""
    api.kubectl("create", "-f", str(CRD))
    api.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRD))
    api.kubectl("create", "-f", str(EXAMPLES / "tenant-a.yaml"))
    yield api
    api.kubectl("delete", "networkpolicies.networking.k8s.io", "--all", "-n", "tenant-a")
    api.kubectl("delete", "-f", str(CRD))


def policy(name: str, spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "tenant-a"}
    whole = {"apiVersion": "net.alpha.kubernetes.io/v1alpha1", "kind": "NetworkPolicy", "metadata": metadata}
    return whole if spec is None else {**whole, "spec": spec}


def incoming(**fields: Any) -> dict[str, Any]:
    return {"podSelector": {}, "allowIncoming": fields}


TAKEN: dict[str, Any] = {
    "no-rule": {"podSelector": {"segment": "backend"}},
    "everybody": {"podSelector": {}, "allowIncoming": {}},
    "nobody": incoming(**{"from": [], "toPorts": []}),
    "peers": incoming(
        **{"from": [{"pods": {}}, {"namespaces": {"a.b/c": ""}}, {"pods": {"a": "b"}, "namespaces": {}}]}
    ),
    "ports": incoming(
        toPorts=[{"port": 1}, {"port": 65535, "protocol": "UDP"}, {"port": "web-2"}, {"protocol": "SCTP"}]
    ),
    "small-letters": incoming(toPorts=[{"port": 80, "protocol": "tcp"}]),
}
REFUSED: dict[str, Any] = {
    "no-spec": None,
    "no-selector": {"allowIncoming": {}},
    "selector-of-today": {"podSelector": {"matchLabels": {"segment": "backend"}}},
    "label-value": {"podSelector": {"segment": "not ok"}},
    "label-key": {"podSelector": {"not ok": "a"}},
    "label-of-other-type": {"podSelector": {"segment": 5}},
    "incoming-is-a-list": {"podSelector": {}, "allowIncoming": []},
    "from-is-an-object": incoming(**{"from": {"pods": {}}}),
    "empty-peer": incoming(**{"from": [{}]}),
    "peer-of-today": incoming(**{"from": [{"podSelector": {}}]}),
    "port-zero": incoming(toPorts=[{"port": 0}]),
    "port-too-large": incoming(toPorts=[{"port": 65536}]),
    "port-in-quotes": incoming(toPorts=[{"port": "80"}]),
    "port-name": incoming(toPorts=[{"port": "Web"}]),
    "port-name-too-long": incoming(toPorts=[{"port": "a-name-too-long-"}]),
    "protocol": incoming(toPorts=[{"protocol": "ICMP"}]),
}


@pytest.mark.parametrize("name", TAKEN)
def test_taken_by_both(server: ApiServer, name: str) -> None:
    server.kubectl("create", "--validate=strict", "-f", "-", text=json.dumps(policy(name, TAKEN[name])))
    stored = server.get(f"networkpolicys.net.alpha.kubernetes.io/{name}", "-n", "tenant-a")
    given, kept = parse_object(policy(name, TAKEN[name])), parse_object(stored)
    assert given is not None
    assert kept is not None
    assert (given.errors, kept.errors) == ((), ())
    # Nothing that means something gets lost on the way: an empty list stays one.
    assert kept.value == given.value


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_both(server: ApiServer, name: str) -> None:
    done = server.try_kubectl("create", "--validate=ignore", "-f", "-", text=json.dumps(policy(name, REFUSED[name])))
    assert done.returncode != 0
    assert "is invalid" in done.stderr, done.stderr
    read = parse_object(policy(name, REFUSED[name]))
    assert read is not None
    assert read.errors
    assert isinstance(read.value, OriginalPolicy)
    assert not any(read.value.active.ingress)


def test_the_tenant_example(server: ApiServer) -> None:
    """The original JSON by `kubectl create -f`, and as a POST to the path that the original text names."""
    example = EXAMPLES / "pol1-alpha.json"
    text = example.read_text(encoding="utf-8")
    created = server.kubectl("create", "-f", str(example))
    assert created.strip() == "networkpolicy.net.alpha.kubernetes.io/pol1 created"
    first = server.get("networkpolicys", "pol1", "-n", "tenant-a")
    server.kubectl("delete", "networkpolicys", "pol1", "-n", "tenant-a")
    server.kubectl("create", "--raw", PATH, "-f", "-", text=text)
    second = server.get("networkpolicys", "pol1", "-n", "tenant-a")
    assert second["spec"] == first["spec"] == json.loads(text)["spec"]
    shown = server.kubectl("get", "networkpolicys", "-n", "tenant-a", "pol1")
    assert '{"segment":"backend"}' in shown
    assert '[{"port":80,"protocol":"TCP"}]' in shown


def test_beside_v1(server: ApiServer) -> None:
    """The definition takes nothing from v1: its short words still mean v1's NetworkPolicy."""
    v1 = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "pol1"}}
    done = server.try_kubectl(
        "create", "-n", "tenant-a", "-f", "-", text=yaml.safe_dump({**v1, "spec": {"podSelector": {}}})
    )
    assert done.returncode == 0, done.stderr
    for word in ("networkpolicy", "networkpolicies", "netpol"):
        assert server.get(word, "pol1", "-n", "tenant-a")["apiVersion"] == "networking.k8s.io/v1"


def test_isolation_by_annotation(server: ApiServer) -> None:
    """`kubectl annotate` writes what the parser reads."""
    key = "net.alpha.kubernetes.io/network-isolation"
    for word, isolated in (("on", True), ("off", False), ("yes", True)):
        server.kubectl("annotate", "namespace", "tenant-a", f"{key}={word}", "--overwrite")
        read = parse_object(server.get("namespace", "tenant-a"))
        assert read is not None
        assert not read.errors
        assert (OriginalApi.ALPHA in getattr(read.value, "isolation", ())) == isolated
