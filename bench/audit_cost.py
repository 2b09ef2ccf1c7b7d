"""Measures what audit costs while a pod is flooded with what policy denies: the switch's CPU for each denied packet, an
honest stream beside the flood, and the controller's CPU; without and with audit in turns. Needs root.

And it counts: every denied packet is an event, or among those that were not reported one by one.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench.result import Result, precise_cpu_of
from bench.worlds import label_selector, policy_manifest
from topology.host import process
from topology.lab.lab import Lab
from topology.lab.product import CONTROLLER_ROLE
from topology.spec.load import check_topology

RATE = 100_000  # datagrams a second
STREAM_PORT, FLOODED_PORT = 5001, 9
SETTLE_SECONDS = 0.5
METERS_SECONDS = 6.0  # after which what meters counted is told, once they were read
COUNTED_SECONDS = 75.0  # they are read with a switch's dumps, at least once a minute
_PEER, _FLOOD = (str(Path(__file__).with_name(name)) for name in ("peer.py", "denied_flood.py"))
SERVER, CLIENT, FLOODER = "bench/server", "bench/client", "bench/flooder"


def measure_audit(scale: float) -> list[Result]:
    """Twenty pairs of two seconds at the full size, six of one at a tenth of it."""
    pairs, seconds = (20, 2.0) if scale >= 1 else (6, 1.0)
    lab = _lab()
    try:
        lab.up("userspace")
        server = lab.popen(SERVER, [sys.executable, _PEER, "serve", str(STREAM_PORT)])
        try:
            return _Bench(lab).measure(pairs, seconds)
        finally:
            server.kill()
            server.wait()
    finally:
        lab.down()


def _lab() -> Lab:
    pods = [
        {"namespace": "bench", "name": name, "node": "node-1", "labels": {"app": name}}
        for name in ("client", "server", "flooder")
    ]
    raw = {"name": f"audit{os.getpid()}", "families": [4], "ports": [STREAM_PORT + 1], "nodes": [{"name": "node-1"}],
           "namespaces": [{"name": "bench"}], "pods": pods}  # fmt: skip
    return Lab(check_topology(raw, "bench"))


class _Bench:
    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._address = str(lab.endpoints[SERVER].addresses[4])
        rule = {"from": [{"podSelector": label_selector(app="client")}]}
        policy = policy_manifest("bench", "only-client", label_selector(app="server"), ingress=[rule])
        self._policy = json.dumps(policy)

    def measure(self, pairs: int, seconds: float) -> list[Result]:
        """Without and with audit in turns, each with the flood alone and with the stream beside it."""
        self._lab.apply(self._policy, "bench", 60)
        alone: dict[bool, list[dict[str, float]]] = {False: [], True: []}
        beside: dict[bool, list[float]] = {False: [], True: []}
        self._phase(seconds)  # the first warms the caches
        for turn in range(pairs):
            for audit in (False, True) if turn % 2 else (True, False):
                self._audit(audit)
                alone[audit].append(self._phase(seconds))
                beside[audit].append(self._stream(seconds))
        return [*self._costs(alone, beside), self._uncounted(seconds)]

    def _audit(self, on: bool) -> None:
        annotations = {"headgate.io/audit": "denied"} if on else {}
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench", "annotations": annotations}}
        self._lab.apply(json.dumps(space), "bench", 60)
        time.sleep(SETTLE_SECONDS)

    def _flood(self, seconds: float) -> subprocess.Popen[bytes]:
        arguments = [self._address, str(FLOODED_PORT), str(seconds), str(RATE)]
        return self._lab.popen(FLOODER, [sys.executable, _FLOOD, *arguments], stdout=subprocess.PIPE)

    def _phase(self, seconds: float) -> dict[str, float]:
        """The flood alone: packets sent and denied a second, CPU of the switch for each, of the controller a second."""
        denied, spent, begin = self._denied(), self._spent(), time.perf_counter()
        out, _ = self._flood(seconds).communicate(timeout=60)
        took = time.perf_counter() - begin
        after = self._spent()
        packets = self._denied() - denied
        if not packets:
            raise RuntimeError("the flood did not come to the switch")
        return {
            "sent": int(out) / seconds,
            "denied": packets / took,
            "switch": 1e6 * (after["switch"] - spent["switch"]) / packets,
            "controller": 100 * (after["controller"] - spent["controller"]) / took,
        }

    def _stream(self, seconds: float) -> float:
        """The bytes per second of an honest stream beside the flood."""
        flood = self._flood(seconds + 0.5)
        command = [sys.executable, _PEER, "stream", self._address, str(STREAM_PORT), str(seconds)]
        out, _ = self._lab.popen(CLIENT, command, stdout=subprocess.PIPE).communicate(timeout=60)
        flood.communicate(timeout=60)
        return float(out)

    def _spent(self) -> dict[str, float]:
        """The CPU seconds of switch and controller so far."""
        pids = {one.role: one.pid for one in process.find(self._lab.folder)}
        roles = {"switch": "node-1/ovs-vswitchd", "controller": CONTROLLER_ROLE}
        return {name: precise_cpu_of(pids[role]) for name, role in roles.items()}

    def _denied(self) -> int:
        """The packets that policy denied so far; the switch is asked."""
        ends: list[dict[str, Any]] = self._lab.product.get(f"/pods/{SERVER}")["isolation"]
        return sum(one["denied_packets"] or 0 for one in ends)

    def _costs(self, alone: dict[bool, list[dict[str, float]]], beside: dict[bool, list[float]]) -> list[Result]:
        name = f"{RATE:,} denied datagrams a second to an audited pod"
        medians = {
            audit: {key: statistics.median(one[key] for one in alone[audit]) for key in alone[audit][0]}
            for audit in alone
        }
        off, on = medians[False], medians[True]
        more: dict[str, float | str] = {
            "µs without, µs with": f"{off['switch']:.2f}, {on['switch']:.2f}",
            "sent a second": on["sent"], "taken by the switch a second": on["denied"],
            "pairs": float(len(beside[True])),
        }  # fmt: skip
        cost = statistics.median(b["switch"] / a["switch"] for a, b in zip(alone[False], alone[True], strict=True))
        stream = statistics.median(b / a for a, b in zip(beside[False], beside[True], strict=True))
        mbit = {audit: statistics.median(beside[audit]) * 8 / 1e6 for audit in beside}
        return [
            Result(f"{name}, CPU of the switch for each", cost, "x without audit", bar=1.03, more=more),
            Result(f"{name}, an honest stream beside them", stream, "x without audit", bar=0.97, rising=True,
                   more={"Mbit/s without, with": f"{mbit[False]:.0f}, {mbit[True]:.0f}"}),
            Result(f"{name}, the controller", on["controller"], "% of a core", bar=5.0, reach=2.0,
                   more={"without audit": off["controller"]}),
        ]  # fmt: skip

    def _uncounted(self, seconds: float) -> Result:
        """One more flood with audit: how many of its packets neither an event nor a number stands for."""
        self._audit(True)
        denied = self._denied()  # the meters are read with it
        time.sleep(METERS_SECONDS)
        before = self._counted()
        self._flood(seconds).communicate(timeout=60)
        time.sleep(SETTLE_SECONDS)
        denied = self._denied() - denied
        deadline = time.monotonic() + COUNTED_SECONDS
        while (counted := self._counted() - before).total() < denied and time.monotonic() < deadline:
            time.sleep(1.0)
        more: dict[str, float | str] = {"denied": float(denied)}
        more.update({name: float(one) for name, one in counted.items()})
        return Result("of the denied packets, neither reported nor counted", float(max(0, denied - counted.total())),
                      "packets", bar=0.0, more=more)  # fmt: skip

    def _counted(self) -> Counter[str]:
        """The denied packets that are events, and those that were counted instead, by cause."""
        found = self._lab.product.get("/audit?limit=10000&verdict=denied")
        return Counter({"events": len(found["events"]), **found["unreported"]})
