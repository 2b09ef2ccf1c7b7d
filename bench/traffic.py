"""Measures the data plane: one TCP stream, and connections per second, between two pods of one node, through Headgate's
pipeline and with `actions=NORMAL` on the same bridge, in turns.

A foreign flow of the highest priority on the lab's bridge turns NORMAL on and off. Needs root.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from bench.result import Result
from bench.worlds import label_selector, policy_manifest
from topology.lab.lab import Lab
from topology.spec.load import check_topology

STREAM_PORT = 5001
_PEER = str(Path(__file__).with_name("peer.py"))
_NORMAL = "table=0,priority=65535"


def _lab() -> Lab:
    pods = [
        {"namespace": "bench", "name": name, "node": "node-1", "labels": {"app": name}} for name in ("client", "server")
    ]
    raw = {"name": f"bench{os.getpid()}", "families": [4], "ports": [STREAM_PORT + 1], "nodes": [{"name": "node-1"}],
           "namespaces": [{"name": "bench"}], "pods": pods}  # fmt: skip
    return Lab(check_topology(raw, "bench"))


def _policies(count: int) -> str:
    """The client may reach the server by one policy; the others select the server too, with other peers."""
    made = [
        policy_manifest(
            "bench",
            "allow",
            label_selector(app="server"),
            ingress=[{"from": [{"podSelector": label_selector(app="client")}]}],
        )
    ]
    for n in range(count - 1):
        peer = {"ipBlock": {"cidr": f"172.{16 + n // 250}.{n % 250}.0/24"}}
        made.append(
            policy_manifest(
                "bench",
                f"p{n}",
                label_selector(app="server"),
                ingress=[{"from": [peer], "ports": [{"port": 6000 + n}]}],
            )
        )
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": made})


class TrafficRunner:
    """A lab with a server in one pod; clients run in the other."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.address = lab.endpoints["bench/server"].addresses[4]
        self._server = lab.popen("bench/server", [sys.executable, _PEER, "serve", str(STREAM_PORT)])

    def stop(self) -> None:
        """End the server."""
        self._server.kill()
        self._server.wait()

    def measure(self, what: str, seconds: float) -> float:
        """Run one measurement; returns bytes or connections per second."""
        command = [sys.executable, _PEER, what, str(self.address), str(STREAM_PORT), str(seconds)]
        client = self.lab.popen("bench/client", command, stdout=subprocess.PIPE)
        out, _ = client.communicate(timeout=60)
        return float(out)

    def normal(self, on: bool) -> None:
        """Switch all packets by NORMAL if `on`, else by the pipeline."""
        node = self.lab.nodes["node-1"]
        if on:
            node.ofctl("add-flow", f"{_NORMAL},actions=NORMAL")
        else:
            node.ofctl("del-flows", _NORMAL, "--strict")

    def paired(self, what: str, rounds: int, seconds: float) -> tuple[float, float, float]:
        """The median ratio of paired runs (pipeline to NORMAL), and the median of each."""
        pairs = []
        for n in range(rounds):
            found = {}
            for normal in (False, True) if n % 2 else (True, False):
                self.normal(normal)
                found[normal] = self.measure(what, seconds)
            pairs.append((found[False], found[True]))
        self.normal(False)
        ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
        return statistics.median(a / b for a, b in pairs), ours, theirs


def measure_traffic(scale: float) -> list[Result]:
    """Both measurements, with one policy for the server and with a thousand."""
    rounds, seconds = (5, 1.2) if scale >= 1 else (3, 0.7)
    lab = _lab()
    lab.up("userspace")
    found: list[Result] = []
    try:
        runner = TrafficRunner(lab)
        try:
            for count in (1, 1000):
                lab.apply(_policies(count), "bench", 60)
                runner.measure("stream", 0.2)
                found += _both(runner, f"{count:,} {'policy' if count == 1 else 'policies'}", rounds, seconds)
        finally:
            runner.stop()
    finally:
        lab.down()
    return found


def _both(runner: TrafficRunner, label: str, rounds: int, seconds: float) -> list[Result]:
    results = []
    for what, name, unit, bar, reach in (
        ("stream", "one TCP stream", 1e6 / 8, 0.85, 0.92),
        ("connect", "connections a second", 1.0, 0.75, 0.85),
    ):
        ratio, ours, theirs = runner.paired(what, rounds, seconds)
        names = ("Mbit/s", "NORMAL, Mbit/s") if what == "stream" else ("connections/s", "NORMAL, connections/s")
        masks = len([line for line in runner.lab.nodes["node-1"].appctl("dpctl/dump-flows", "-m").splitlines() if line])
        more: dict[str, float | str] = {names[0]: ours / unit, names[1]: theirs / unit, "megaflows": masks}
        results.append(
            Result(f"{name} through the pipeline, {label}", ratio, "x NORMAL", bar, reach, rising=True, more=more)
        )
    return results
