"""The whole of `headgate run --network overlay` at one node: from its Node object to its OVSDB, and to the status."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.controller.headgate_process import Headgate
from tests.helpers.ovs.node import Node
from tests.helpers.waiting import until

pytestmark = [pytest.mark.switch, pytest.mark.process, pytest.mark.slow]

NODES = """
apiVersion: v1
kind: Node
metadata: {name: n1, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: thief, creationTimestamp: "2026-02-01T00:00:00Z"}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
---
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [10.96.0.0/12]}
"""


@pytest.fixture
def node() -> Iterator[Node]:
    one = Node()
    try:
        one.vsctl("set", "Open_vSwitch", ".", "external_ids:hostname=n1")
        one.add_bridge()
        yield one
    finally:
        one.stop()


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="hgn-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def running(node: Node, folder: Path, *arguments: str) -> Iterator[Headgate]:
    (folder / "manifests").mkdir(exist_ok=True)
    (folder / "manifests" / "nodes.yaml").write_text(NODES)
    run = Headgate("native", folder, "--ovsdb", node.remote, *arguments, listen=False, method="tcp")
    try:
        run.start()
        yield run
    finally:
        run.stop()


def test_an_overlay_comes_is_applied_and_goes(node: Node, folder: Path) -> None:
    with running(node, folder, "--network", "overlay", "--encap", "vxlan") as run:
        until(lambda: run.in_sync("n1"), "realized")
        until(lambda: "headgate-revision" in node.get("Bridge", "br-int", "external_ids"), "settings")
        written = node.get("Bridge", "br-int", "external_ids")
        for setting in ("network=overlay", "encap=vxlan", "pod-cidrs=10.244.1.0/24", "service-cidrs=10.96.0.0/12",
                        "node-ips=192.0.2.1", "mtu=1450", "node-ports=30000-32767"):  # fmt: skip
            assert f"headgate-{setting}" in written
        revision = written.split("headgate-revision=")[1].split(",")[0].rstrip("}")
        node.vsctl("set", "Open_vSwitch", ".", f"external_ids:headgate-node-ready={revision}")
        until(lambda: run.status()["nodes"][0]["ready"], "ready")
        first, thief = run.status()["nodes"]
        assert (first["tunnel_end"], first["pod_cidrs"], first["missing"]) == ("192.0.2.1", ["10.244.1.0/24"], [])
        assert thief["pod_cidrs"] == [] and "refused: it is that of n1 already" in thief["missing"][0]
    with running(node, folder, "--network", "overlay", "--encap", "vxlan") as run:
        until(lambda: run.in_sync("n1") and run.status()["nodes"][0]["ready"], "ready again")
        assert node.get("Bridge", "br-int", "external_ids") == written
    with running(node, folder) as run:
        until(lambda: run.in_sync("n1"), "realized")
        until(lambda: "headgate-network" not in node.get("Bridge", "br-int", "external_ids"), "removed")
        assert "headgate-tun" not in node.vsctl("list-ports", "br-int")
        assert run.status()["nodes"] == []
