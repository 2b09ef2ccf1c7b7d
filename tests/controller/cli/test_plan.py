"""`headgate plan` offline and on a controller: connections, flows, counters of rules that go, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from controller.cli import main
from controller.config.addresses import HostPort
from controller.http.pages import Application
from controller.http.server import HttpServer
from controller.metrics.registry import Metrics
from controller.sources.offline import offline_manifests
from tests.controller.cli.test_matrix import MINIMAL
from tests.helpers.controller.fake_views import POLICY, FakeViews

# The change in the documentation of netpol-analyzer's `diff`, on the example of its `list`.
WIDER = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: backend, namespace: default}
spec:
  podSelector: {matchLabels: {app: backend}}
  policyTypes: [Ingress, Egress]
  ingress:
  - {from: [{podSelector: {matchLabels: {app: frontend}}}], ports: [{port: 9090}, {port: 53, protocol: UDP}]}
  - {from: [{ipBlock: {cidr: 0.0.0.0/0}}], ports: [{port: 9090}]}
"""
PODS = """
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: x, labels: {app: a}}
spec: {nodeName: node-1, containers: []}
status: {podIPs: [{ip: 10.0.1.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: x, labels: {app: b}}
spec: {nodeName: node-2, containers: []}
status: {podIPs: [{ip: 10.0.2.2}]}
"""
DENY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: x}
spec: {podSelector: {matchLabels: {app: a}}, ingress: []}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {"now/all": MINIMAL, "pods/all": PODS, "wider": WIDER, "deny": DENY}.items():
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def planned(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    assert main(["plan", *map(str, arguments)]) == code
    return capsys.readouterr().out


def test_connections_are_the_published_difference(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = planned(capsys, 1, folder / "wider.yaml", "--manifests", folder / "now", "-o", "json")
    found = json.loads(text)
    assert found["version"] == 1
    assert [
        (one["kind"], one["sources"], one["destinations"], one["before"]["text"], one["after"]["text"])
        for one in found["reach"]
    ] == [
        (
            "added",
            ["0.0.0.0-255.255.255.255"],
            ["default/backend[Deployment]"],
            "No Connections",
            "TCP 9090",
        ),
        (
            "changed",
            ["default/frontend[Deployment]"],
            ["default/backend[Deployment]"],
            "TCP 9090",
            "TCP 9090,UDP 53",
        ),
    ]


def test_flows_are_those_of_the_nodes_with_subjects(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = planned(capsys, 1, folder / "deny.yaml", "--manifests", folder / "pods", "-o", "json")
    (switch,) = json.loads(text)["switches"]
    assert switch["node"] == "node-1" and switch["changed"] and not switch["removed"]  # its default is to deny now


def test_what_is_there_already_changes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = planned(capsys, 0, folder / "now/all.yaml", "--manifests", folder / "now")
    assert text == "Nothing would change: the cluster has these objects as they are.\n"


def test_a_deletion_opens_and_markdown_tells(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = planned(
        capsys, 1, "--delete", folder / "now/all.yaml", folder / "wider.yaml", "--manifests", folder / "now", "-o",
        "markdown",
    )  # fmt: skip
    assert "| removed | `default/frontend[Deployment]` |" in text
    folder.joinpath("both.yaml").write_text(PODS + "---" + DENY)
    text = planned(capsys, 1, "--delete", folder / "deny.yaml", "--manifests", folder / "both.yaml")
    assert "  + x/b[Pod], outside (IPv4) => x/a[Pod] : All Connections\n" in text


def test_a_relabelled_pod_keeps_its_address(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.joinpath("both.yaml").write_text(PODS + "---" + DENY)
    folder.joinpath("pod.yaml").write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: x, labels: {app: c}}\nspec: {containers: []}\n"
    )
    text = planned(capsys, 1, folder / "pod.yaml", "--manifests", folder / "both.yaml", "-o", "json")
    assert {one["kind"] for one in json.loads(text)["reach"]} == {"added"}


def test_what_cannot_be_read_is_no_plan_of_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.joinpath("slip.yaml").write_text("--- just a text\n")
    text = planned(capsys, 2, folder / "slip.yaml", "--manifests", folder / "now")
    assert "slip.yaml, document 1 (line 1): must be an object" in text


def test_errors_are_two(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planned(capsys, 2, folder / "none.yaml", "--manifests", folder / "now")
    planned(capsys, 2, "--manifests", folder / "now")
    planned(capsys, 3, folder / "wider.yaml", "--server", "http://127.0.0.1:1")


def test_a_controller_tells_what_rules_that_go_have_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    namespace, name = POLICY.policy.key.split("/")
    old = WIDER.replace("name: backend, namespace: default", f"name: {name}, namespace: {namespace}")
    pods = PODS.replace("namespace: x", f"namespace: {namespace}").replace("app: a", "app: backend")
    folder.joinpath("running.yaml").write_text(pods + "---" + old)
    folder.joinpath("new.yaml").write_text(old.split("  ingress:")[0] + "  ingress: []\n")
    views = FakeViews()
    views.snapshot = offline_manifests([str(folder / "running.yaml")]).cluster
    server = HttpServer(HostPort("127.0.0.1", 0), Application(views, Metrics("1", "native").registry, loopback=True))
    server.start()
    try:
        text = planned(capsys, 1, folder / "new.yaml", "--server", f"http://{server.address}", "-o", "json")
    finally:
        server.stop()
    assert not json.loads(text)["switches"]  # it has no bridges
    counted = {one["rule"]: one["packets"] for one in json.loads(text)["traffic"]}
    expected = {
        place: rule.packets
        for rule in POLICY.rules
        for place in rule.rules
        if place.endswith(("ingress[0]", "ingress[1]")) and place.startswith(f"{namespace}/{name} ")
    }
    assert counted == expected and counted
