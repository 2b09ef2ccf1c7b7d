"""`headgate run` beside one real switch with three pods, as the commands meet it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from controller.cli import main
from flows.interpret.frame_encoder import encode
from flows.interpret.packet import Packet
from flows.openflow import match_fields as oxm
from tests.helpers.ovs.open_vswitch import OpenVSwitch, open_vswitch
from tests.helpers.paths import ROOT
from tests.helpers.waiting import free_port

START_SECONDS = 120.0
TCP, SYN, TRIES = 6, 2, 3
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {{app: {name}}}, uid: uid-{name}}}
spec: {{nodeName: one, containers: [{{name: c, ports: [{{name: http, containerPort: 80}}]}}]}}
status: {{phase: Running, podIPs: [{{ip: 10.0.0.{number}}}]}}
---
"""
POLICIES = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: only-web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: http}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shut, namespace: shop}
spec: {podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress]}
"""
TOKEN = "eyJhbGciOiJSUzI1NiJ9.cGxhbnRlZC1zZWNyZXQ.c2lnbmF0dXJl"
NAMES = ("web", "db", "other")


class Run:
    """`headgate run` beside one switch, with a folder of manifests."""

    def __init__(self, ovs: OpenVSwitch, folder: Path) -> None:
        self.ovs = ovs
        self.folder = folder / "manifests"
        self.folder.mkdir()
        pods = "".join(POD.format(name=name, number=number) for number, name in enumerate(NAMES, 1))
        (self.folder / "all.yaml").write_text(f"{pods}{POLICIES}")
        self.log = folder / "log"
        command = [
            sys.executable, "-m", "controller", "run", "--hub", "native", "--manifests", str(self.folder),
            "--http", "127.0.0.1:0", "--ovsdb", ovs.remote, "--openflow-listen", f"tcp:127.0.0.1:{free_port()}",
        ]  # fmt: skip
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        self.url = ""

    def wait(self) -> None:
        """Until it serves; a busy machine takes its time to load it."""
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(r"headgate runs.*http=(\S+)", self.log.read_text())):
            assert time.monotonic() < deadline and self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        self.url = f"http://{found[1]}"

    def get(self, page: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{page}", timeout=30) as answer:
            return json.load(answer)

    def metrics(self) -> str:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as answer:
            text: str = answer.read().decode()
            return text


@contextmanager
def run_beside_one_switch() -> Iterator[Run]:
    """TRIES first segments of `web`, and one more of `other`, have met the flows."""
    folder = Path(tempfile.mkdtemp(prefix="hgc-"))
    with open_vswitch(hostname="one") as ovs:
        bridge = ovs.add_bridge("br-int", "dummy")
        numbers = {f"p-{name}": number for number, name in enumerate(NAMES, 1)}
        bridge.add_ports(numbers)
        ids = {
            f"p-{name}": {"iface-id": f"shop/{name}", "attached-mac": f"02:00:00:00:00:0{number}", "credential": TOKEN}
            for number, name in enumerate(NAMES, 1)
        }
        for name, pairs in ids.items():
            ovs.vsctl("set", "Interface", name, *(f'external_ids:{key}="{value}"' for key, value in pairs.items()))
        started = Run(ovs, folder)
        try:
            started.wait()
            assert main(["--server", started.url, "status", "--wait", "--timeout", "120"]) == 0
            for number, count in ((1, TRIES), (3, TRIES + 1)):
                frames = [encode(syn(number, 10_000 + n)) for n in range(count)]
                bridge.inject(f"p-{NAMES[number - 1]}", *frames)
            bridge.settle()
            yield started
        finally:
            started.process.kill()
            started.process.wait()
            shutil.rmtree(folder, ignore_errors=True)


def syn(source: int, port: int) -> Packet:
    """A pod's first segment to TCP 80 of the pod `db`."""
    net = 10 << 24
    return Packet(
        eth_src=0x02_00_00_00_00_00 + source, eth_dst=0x02_00_00_00_00_02, eth_type=oxm.ETH_IPV4, source=net + source,
        target=net + 2, proto=TCP, sport=port, dport=80, flags=SYN,
    )  # fmt: skip
