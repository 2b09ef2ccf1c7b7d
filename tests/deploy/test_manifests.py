"""A real API server takes every manifest under deploy/kubernetes (server-side dry run), and they fit together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploy.documents import MANIFESTS, deployment, documents
from tests.helpers.api_server.server import ApiServer

FILES = sorted(path for path in MANIFESTS.glob("*.yaml") if path.name != "kustomization.yaml")
# The Prometheus operator's kind, which no API server has by itself: its name and place, not its fields.
SERVICE_MONITOR_CRD = "servicemonitors.monitoring.coreos.com"
SERVICE_MONITORS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": SERVICE_MONITOR_CRD},
    "spec": {
        "group": "monitoring.coreos.com",
        "names": {"kind": "ServiceMonitor", "plural": "servicemonitors"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                    }
                },
            }
        ],
    },
}


@pytest.fixture(scope="module")
def prepared(api: ApiServer) -> Iterator[ApiServer]:
    """The API server with the namespace and the kind that a dry run cannot make for the others."""
    namespace = next(one for one in documents(MANIFESTS / "rbac.yaml") if one["kind"] == "Namespace")
    api.apply([namespace, SERVICE_MONITORS])
    api.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", SERVICE_MONITOR_CRD)
    yield api
    api.kubectl("delete", "crd", SERVICE_MONITOR_CRD)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_server_takes_it(prepared: ApiServer, path: Any) -> None:
    said = prepared.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(path))
    assert len(said.splitlines()) == len(documents(path))


def test_kustomize_takes_them_together(prepared: ApiServer) -> None:
    said = prepared.kubectl("apply", "--dry-run=server", "--validate=strict", "-k", str(MANIFESTS))
    expected = sum(len(documents(path)) for path in FILES if path.name != "servicemonitor.yaml")
    assert len(said.splitlines()) == expected


def test_selectors_and_names_fit_together() -> None:
    spec = deployment()["spec"]
    labels = spec["template"]["metadata"]["labels"].items()
    single = {path.name: documents(path)[0] for path in FILES if len(documents(path)) == 1}
    assert spec["selector"]["matchLabels"].items() <= labels
    assert single["service.yaml"]["spec"]["selector"].items() <= labels
    assert single["networkpolicy.yaml"]["spec"]["podSelector"]["matchLabels"].items() <= labels
    assert single["poddisruptionbudget.yaml"]["spec"]["selector"]["matchLabels"].items() <= labels
    service_labels = single["service.yaml"]["metadata"]["labels"].items()
    assert single["servicemonitor.yaml"]["spec"]["selector"]["matchLabels"].items() <= service_labels
    account = spec["template"]["spec"]["serviceAccountName"]
    accounts = [
        one["metadata"]["name"] for one in documents(MANIFESTS / "rbac.yaml") if one["kind"] == "ServiceAccount"
    ]
    assert accounts == [account]
    ports = {port["name"] for port in spec["template"]["spec"]["containers"][0]["ports"]}
    asked = [port["port"] for rule in single["networkpolicy.yaml"]["spec"]["ingress"] for port in rule["ports"]]
    assert set(asked) == ports
