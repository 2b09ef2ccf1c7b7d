"""`headgate matrix`: lines that other analyzers print, JSON, the page, and a running controller's cluster."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from controller.cli import main
from controller.config.addresses import HostPort
from controller.http.pages import Application
from controller.http.server import HttpServer
from controller.metrics.registry import Metrics
from controller.sources.offline import offline_manifests
from tests.helpers.controller.fake_views import FakeViews

# The example of two workloads in the documentation of netpol-analyzer, and its published answer.
MINIMAL = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: frontend, namespace: default}
spec: {replicas: 1, template: {metadata: {labels: {app: frontend}}, spec: {containers: []}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: backend, namespace: default}
spec: {replicas: 1, template: {metadata: {labels: {app: backend}}, spec: {containers: []}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: frontend, namespace: default}
spec:
  podSelector: {matchLabels: {app: frontend}}
  policyTypes: [Ingress, Egress]
  ingress: [{ports: [{port: 8080}]}]
  egress:
  - {to: [{podSelector: {matchLabels: {app: backend}}}], ports: [{port: 9090}]}
  - {ports: [{protocol: UDP, port: 53}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: backend, namespace: default}
spec:
  podSelector: {matchLabels: {app: backend}}
  policyTypes: [Ingress, Egress]
  ingress: [{from: [{podSelector: {matchLabels: {app: frontend}}}], ports: [{port: 9090}]}]
"""
PUBLISHED = [
    "0.0.0.0-255.255.255.255 => default/frontend[Deployment] : TCP 8080",
    "default/frontend[Deployment] => 0.0.0.0-255.255.255.255 : UDP 53",
    "default/frontend[Deployment] => default/backend[Deployment] : TCP 9090",
]


@pytest.fixture
def folder(tmp_path: Path) -> str:
    (tmp_path / "all.yaml").write_text(MINIMAL)
    return str(tmp_path)


def lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["matrix", *arguments]) == 0
    return sorted(capsys.readouterr().out.splitlines())


def test_connections_are_the_published_ones(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, "--manifests", folder, "-o", "connections") == sorted(PUBLISHED)


def test_a_port_and_a_namespace_narrow_it(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, "--manifests", folder, "-o", "connections", "-p", "9090") == PUBLISHED[2:]
    assert lines(capsys, "--manifests", folder, "-o", "connections", "-n", "default") == sorted(PUBLISHED)
    assert main(["matrix", "--manifests", folder, "-n", "nowhere"]) == 2
    assert main(["matrix", "--manifests", folder, "-p", "eighty"]) == 2


def test_json_names_groups_once_and_has_a_version(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", "--manifests", folder, "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    names = [one["name"] for one in found["groups"]]
    pairs = {
        (names[a], names[b], one["ports"]["text"])
        for one in found["blocks"]
        for a in one["sources"]
        for b in one["destinations"]
    }
    assert found["version"] == 1
    assert ("default/frontend[Deployment]", "default/backend[Deployment]", "TCP 9090") in pairs


def test_the_table_has_a_legend(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", "--manifests", folder, "--by", "namespace"]) == 0
    assert "TCP 8080" in capsys.readouterr().out


def test_the_page_is_whole_and_lets_no_name_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "all.yaml").write_text(MINIMAL)
    page = tmp_path / "matrix.html"
    assert main(["matrix", "--manifests", str(tmp_path), "-o", "html", "--file", str(page)]) == 0
    text = page.read_text()
    assert not re.search(r"(src|href)\s*=", text)  # nothing is loaded
    assert 'http-equiv="Content-Security-Policy"' in text
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert "<" not in data
    assert json.loads(data)["groups"][0][0] == "default/backend[Deployment]"


def test_a_running_controller_is_asked(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    views = FakeViews()
    views.snapshot = offline_manifests([folder]).cluster
    server = HttpServer(HostPort("127.0.0.1", 0), Application(views, Metrics("1", "native").registry, loopback=True))
    server.start()
    try:
        found = lines(capsys, "--server", f"http://{server.address}", "-o", "connections")
    finally:
        server.stop()
    assert found == sorted(PUBLISHED)
