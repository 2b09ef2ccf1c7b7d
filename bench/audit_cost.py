"""Measures what audit costs while a pod is flooded with what policy denies: the switch's CPU for each packet, an honest
stream beside the flood, and the controller's CPU. Needs root.

Theory of operation. The flood runs all the time, and audit is switched on and off in short slices, each pair in the
other order than the last one. What else the machine does changes slowly against a slice, so it is in both of a pair
alike, and the ratios of many pairs tell a small difference that no two long runs would: their median, with the interval
that contains the real one in 19 of 20 cases.

And it counts: every denied packet is an event, or among those that were not reported one by one.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench.result import Result, median_interval, precise_cpu_of
from bench.worlds import label_selector, policy_manifest
from topology.host import process
from topology.lab.lab import Lab
from topology.lab.product import CONTROLLER_ROLE
from topology.spec.load import check_topology

RATE = 100_000  # datagrams a second
STREAM_PORT, FLOODED_PORT = 5001, 9
SETTLE_SECONDS = 0.3  # after audit was switched, before a slice
SLICE_SECONDS = 0.5
COUNTED_FLOOD_SECONDS = 2.0
METERS_SECONDS = 6.0  # after which what meters counted is told, once they were read
COUNTED_SECONDS = 75.0  # they are read with a switch's dumps, at least once a minute
_RECEIVED = re.compile(r"packets received: (\d+)")
_PEER, _FLOOD = (str(Path(__file__).with_name(name)) for name in ("peer.py", "denied_flood.py"))
SERVER, CLIENT, FLOODER = "bench/server", "bench/client", "bench/flooder"
_FOREVER = "86400"


class _Slice(NamedTuple):
    """What happened in one slice: a second, but for `cpu`, which are µs of the switch for each packet that it took."""

    sent: float
    taken: float
    cpu: float
    controller: float  # percent of a core
    stream: float  # packets that the server got


def measure_audit(scale: float) -> list[Result]:
    """A hundred pairs of slices with the flood alone, and beside the stream, at the full size; ten at a tenth of it."""
    lab = _lab()
    try:
        lab.up("userspace")
        server = lab.popen(SERVER, [sys.executable, _PEER, "serve", str(STREAM_PORT)])
        try:
            return _Bench(lab, server.pid).measure(round(100 * scale) if scale >= 0.1 else 10)
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
    def __init__(self, lab: Lab, server: int) -> None:
        self._lab = lab
        self._server = server
        self._address = str(lab.endpoints[SERVER].addresses[4])
        pids = {one.role: one.pid for one in process.find(lab.folder)}
        self._switch, self._controller = pids["node-1/ovs-vswitchd"], pids[CONTROLLER_ROLE]
        rule = {"from": [{"podSelector": label_selector(app="client")}]}
        policy = policy_manifest("bench", "only-client", label_selector(app="server"), ingress=[rule])
        self._policy = json.dumps(policy)

    def measure(self, pairs: int) -> list[Result]:
        """The flood alone, then beside the stream."""
        self._lab.apply(self._policy, "bench", 60)
        with self._flood(_FOREVER) as flooder:
            alone = self._pairs(pairs, flooder)
            with self._stream():
                beside = self._pairs(pairs, flooder)
        return [*_costs(alone, beside), self._uncounted(COUNTED_FLOOD_SECONDS)]

    def _pairs(self, count: int, flooder: int) -> list[tuple[_Slice, _Slice]]:
        """Slices without and with audit."""
        found = []
        for audit in (False, True):  # the first warm the caches
            self._slice(audit, flooder)
        for number in range(count):
            one = {audit: self._slice(audit, flooder) for audit in ((False, True) if number % 2 else (True, False))}
            found.append((one[False], one[True]))
        return found

    def _slice(self, audit: bool, flooder: int) -> _Slice:
        self._audit(audit)
        time.sleep(SETTLE_SECONDS)
        before, begin = self._state(flooder), time.perf_counter()
        time.sleep(SLICE_SECONDS)
        after, took = self._state(flooder), time.perf_counter() - begin
        sent, taken, switch, controller, stream = (b - a for a, b in zip(before, after, strict=True))
        if not taken:
            raise RuntimeError("no packet came to the switch")
        return _Slice(sent / took, taken / took, 1e6 * switch / taken, 100 * controller / took, stream / took)

    def _state(self, flooder: int) -> tuple[float, ...]:
        """What was sent and taken so far, the CPU seconds of switch and controller, and what the server got."""
        stats = self._lab.nodes["node-1"].appctl("dpif-netdev/pmd-stats-show")
        return (
            _packets(flooder).sent,
            sum(map(int, _RECEIVED.findall(stats))),
            precise_cpu_of(self._switch),
            precise_cpu_of(self._controller),
            _packets(self._server).received,
        )

    def _audit(self, on: bool) -> None:
        annotations = {"headgate.io/audit": "denied"} if on else {}
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench", "annotations": annotations}}
        self._lab.apply(json.dumps(space), "bench", 60)

    @contextmanager
    def _flood(self, seconds: str) -> Iterator[int]:
        """The flood, as long as it is needed; gives its process."""
        arguments = [self._address, str(FLOODED_PORT), seconds, str(RATE)]
        with _running(self._lab, FLOODER, [sys.executable, _FLOOD, *arguments]) as flooder:
            yield flooder.pid

    @contextmanager
    def _stream(self) -> Iterator[None]:
        with _running(self._lab, CLIENT, [sys.executable, _PEER, "stream", self._address, str(STREAM_PORT), _FOREVER]):
            yield

    def _denied(self) -> int:
        """The packets that policy denied so far; the switch is asked."""
        ends: list[dict[str, Any]] = self._lab.product.get(f"/pods/{SERVER}")["isolation"]
        return sum(one["denied_packets"] or 0 for one in ends)

    def _uncounted(self, seconds: float) -> Result:
        """One more flood with audit: how many of its packets neither an event nor a number stands for."""
        self._audit(True)
        denied = self._denied()  # the meters are read with it
        time.sleep(METERS_SECONDS)
        before = self._counted()
        with self._flood(str(seconds)):
            time.sleep(seconds)
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


class _Packets(NamedTuple):
    received: int
    sent: int


def _packets(pid: int) -> _Packets:
    """The packets of the interfaces, loopback apart, of the network namespace that a process is in."""
    received = sent = 0
    for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]:
        name, _, rest = line.partition(":")
        values = rest.split()
        if name.strip() != "lo":
            received, sent = received + int(values[1]), sent + int(values[9])
    return _Packets(received, sent)


@contextmanager
def _running(lab: Lab, pod: str, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    started = lab.popen(pod, command, stdout=subprocess.DEVNULL)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def _costs(alone: Sequence[tuple[_Slice, _Slice]], beside: Sequence[tuple[_Slice, _Slice]]) -> list[Result]:
    name = f"{RATE:,} denied datagrams a second to an audited pod"
    cost, more = _ratios([(off.cpu, on.cpu) for off, on in alone], "µs")
    both, more_both = _ratios([(off.cpu, on.cpu) for off, on in beside], "µs")
    stream, more_stream = _ratios([(off.stream, on.stream) for off, on in beside], "a second")
    sent, taken, off, on = (
        statistics.median(values)
        for values in zip(*((on.sent, on.taken, off.controller, on.controller) for off, on in alone), strict=True)
    )
    more |= {"sent a second": sent, "taken by the switch a second": taken}
    return [
        Result(f"{name}, CPU of the switch for each packet", cost, "x without audit", bar=1.03, more=more),
        Result(f"{name}, the same beside an honest stream", both, "x without audit", bar=1.03, more=more_both),
        Result(f"{name}, packets of that stream a second", stream, "x without audit", bar=0.97, rising=True,
               more=more_stream),
        Result(f"{name}, the controller", on, "% of a core", bar=5.0, reach=2.0, more={"without audit": off}),
    ]  # fmt: skip


def _ratios(pairs: Sequence[tuple[float, float]], unit: str) -> tuple[float, dict[str, float | str]]:
    """The median of the ratios of pairs, and what it came from."""
    low, middle, high = median_interval([on / off for off, on in pairs if off])
    without, with_it = (statistics.median(side) for side in zip(*pairs, strict=True))
    return middle, {
        "interval of 95 %": f"{low:.3f} to {high:.3f}",
        "pairs": float(len(pairs)),
        f"{unit} without, with": f"{without:,.2f}, {with_it:,.2f}",
    }
