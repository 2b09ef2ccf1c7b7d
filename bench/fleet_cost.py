"""Measures a controller with a fleet: start with nothing on the switches, restart with everything right, a policy that
touches all nodes, a node's reboot, and a rollout that replaces pods.

The controller runs in this process, where the times of commit replies are known exactly; the switches and OVSDBs are
`fleet`'s. Times are wall-clock times unless they say otherwise.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from bench.fleet import EVERYWHERE, Fleet
from bench.result import Result, memory, most_memory, quantile

if TYPE_CHECKING:
    from controller.reconcile.reconciler import Reconciler
    from controller.reconcile.switch import Switch
    from controller.runtime.controller import Controller

FULL_NODES, PODS_PER_NODE = 500, 100
PATIENCE_SECONDS = 600.0
POLICY_ROUNDS, REBOOT_ROUNDS = 12, 5
CHURN_RATE = 10_000 / 300  # replaced pods a second, at the full size: 10,000 in five minutes
CHURN_SECONDS = 30.0
INSTALLED_SECONDS = 60.0


def measure_fleet(scale: float, nodes: str = "", pods: str = "") -> list[Result]:
    """Measure. Without `nodes` the scale decides how many there are."""
    from controller.base.hub import install

    install(os.environ.get("OSKEN_HUB_TYPE", "eventlet"))
    count, each = int(nodes) if nodes else max(2, round(FULL_NODES * scale)), int(pods or PODS_PER_NODE)
    with tempfile.TemporaryDirectory(prefix="hg-fleet-") as folder, ExitStack() as stack:
        ports = [_free_port() for _ in range(2)]
        ovsdb, openflow = (f"tcp:127.0.0.1:{port}" for port in ports)
        fleet = stack.enter_context(Fleet(count, each, Path(folder), ovsdb, openflow))
        return FleetMeasurement(fleet, ovsdb, openflow, count == FULL_NODES and each == PODS_PER_NODE).run()


class FleetMeasurement:
    """One run of all measurements with one fleet; `full`: bars hold for this size."""

    def __init__(self, fleet: Fleet, ovsdb: str, openflow: str, full: bool) -> None:
        self._fleet = fleet
        self._ovsdb, self._openflow = ovsdb, openflow
        self._full = full
        self._of = f"{fleet.nodes} bridges"
        self._core: Controller | None = None

    def run(self) -> list[Result]:
        """Measure everything, in an order in which each leaves the fleet as the next one needs it."""
        try:
            return [*self._start(), *self._restart(), *self._policy(), *self._reboot(), *self._rollout()]
        finally:
            self._stop()

    # -- the controller ------------------------------------------------------------------------------------------------

    def _open(self) -> Controller:
        from controller.config.schema import RunConfig
        from controller.peers.limits import ConnectionLimits
        from controller.runtime.controller import Controller

        # All nodes of this fleet share the address of this machine, where those of a real one have an address each.
        most = 4 * self._fleet.nodes + 4096
        limits = ConnectionLimits(
            connections=most, per_address=most, unproven=most, unproven_new_address=most, unproven_per_address=most,
            tolerated_faults=most,
        )  # fmt: skip

        config = RunConfig.model_validate(
            {"manifests": self._fleet.manifests, "ovsdb_listen": self._ovsdb, "openflow_listen": self._openflow,
             "bridge": ("br-int",), "http": "127.0.0.1:1"}
        )  # fmt: skip
        core = self._core = Controller(config, limits)
        core.start()
        return core

    def _stop(self) -> None:
        if self._core is not None:
            self._core.stop(10.0)
            self._core = None

    def _running(self) -> Controller:
        if self._core is None:
            raise RuntimeError("no controller runs")
        return self._core

    def _await(self, what: str, is_done: Callable[[Controller], bool]) -> float:
        """Wait until `is_done`; returns the time.monotonic(). Raises TimeoutError."""
        core, deadline = self._running(), time.monotonic() + PATIENCE_SECONDS
        while not is_done(core):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not {what} within {PATIENCE_SECONDS:g} s")
            core.reconciler.wait_for_batch(0.05)
        return time.monotonic()

    def _all_realized(self, core: Controller) -> bool:
        return core.reconciler.read(
            lambda reconciler, _: sum([switch.realized for switch in reconciler.switches.values()]) == self._fleet.nodes
        )

    # -- measurements --------------------------------------------------------------------------------------------------

    def _start(self) -> list[Result]:
        before, cpu, others = time.monotonic(), time.process_time(), self._fleet.cpu()
        self._open()
        seconds = self._await("realized", self._all_realized) - before
        cpu = time.process_time() - cpu
        megabytes = memory()
        more: dict[str, float | str] = {
            "CPU": cpu, **self._others(others), "flows": self._sum(_desired), "MB": megabytes,
            "at most, MB": most_memory(),
        }  # fmt: skip
        bar, reach = (60.0, 25.0) if self._full else (None, None)
        return [Result(f"{self._of}, nothing on them → all realized", seconds, "s", bar, reach, more=more)]

    def _restart(self) -> list[Result]:
        self._stop()
        before, cpu, others = time.monotonic(), time.process_time(), self._fleet.cpu()
        self._open()
        seconds = self._await("compared", self._all_realized) - before
        cpu = time.process_time() - cpu
        more: dict[str, float | str] = {
            "CPU": cpu, **self._others(others), "bundles sent": self._sum(attrgetter("bundles_sent"))
        }  # fmt: skip
        bar, reach = (40.0, 15.0) if self._full else (None, None)
        return [Result(f"{self._of}, everything right → all compared", seconds, "s", bar, reach, more=more)]

    def _others(self, before: tuple[float, float]) -> dict[str, float | str]:
        """The CPU seconds of what shares the machine with the controller here, and does not in a real fleet."""
        switch, databases = (now - then for now, then in zip(self._fleet.cpu(), before, strict=True))
        return {"CPU of the switch": switch, "CPU of the OVSDBs": databases}

    def _sum(self, of: Callable[[Switch], int]) -> int:
        """The sum over all switches."""
        return self._running().reconciler.read(
            lambda reconciler, _: sum(of(switch) for switch in reconciler.switches.values())
        )

    def _policy(self) -> list[Result]:
        """A policy with subjects on every node changes."""
        times, cpu = [], []
        for number in range(POLICY_ROUNDS):
            before, began = time.monotonic(), time.process_time()
            self._fleet.write_policy(1000 + number)
            times.append(self._await_commits(before) - before)
            cpu.append(time.process_time() - began)
        more: dict[str, float | str] = {"CPU of one, p50": quantile(cpu, 0.5)}
        return _both(f"policy on all of {self._of} → committed", times[2:], more)

    def _await_commits(self, since: float) -> float:
        """The time of the last commit reply, once every switch has committed after `since`."""

        def last(core: Controller) -> float:
            found = core.reconciler.read(
                lambda reconciler, _: [
                    s.committed_at for s in reconciler.switches.values()
                    if s.realized and s.committed_at is not None and s.committed_at > since
                ]
            )  # fmt: skip
            return max(found) if len(found) == self._fleet.nodes else 0.0

        self._await("committed", lambda core: last(core) > 0)
        return last(self._running())

    def _reboot(self) -> list[Result]:
        """A node's switch comes back without flows: from its removal to the commit of all its flows."""
        times = []
        for number in range(REBOOT_ROUNDS):
            node = number * 7 % self._fleet.nodes
            before = time.monotonic()
            self._fleet.reboot(node)
            self._await("realized again", partial(_has_committed, node + 1, before))
            times.append(_committed(self._running(), node + 1) - before)
        return _both(f"a node of {self._of} reboots → realized", times, {})

    def _rollout(self) -> list[Result]:
        """Pods are replaced at a steady rate: from the new pod's object and port to its mark in OVSDB."""
        rate = max(1.0, CHURN_RATE * self._fleet.nodes / FULL_NODES)
        count, begin, cpu = round(rate * CHURN_SECONDS), time.monotonic(), time.process_time()
        found: list[float] = []
        threads = []
        late = 0.0
        for number in range(count):
            at = begin + number / rate
            time.sleep(max(0.0, at - time.monotonic()))
            late = max(late, time.monotonic() - at)
            thread = threading.Thread(target=self._replace, args=(number, found), daemon=True)
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join(INSTALLED_SECONDS + 10)
        cpu = (time.process_time() - cpu) / count
        more: dict[str, float | str] = {
            "pods": count, "a second": rate, "not in time": count - len(found), "CPU for each, ms": 1e3 * cpu,
            "latest start, s": late,
        }  # fmt: skip
        return _both(f"rollout on {self._of}: pod created → enforced", found, more)

    def _replace(self, number: int, found: list[float]) -> None:
        fleet = self._fleet
        node = number % fleet.nodes
        pods = fleet.pods[node]
        old = next(one for one in pods if not one.startswith(EVERYWHERE))
        app = pods.pop(old)["metadata"]["labels"]["app"]
        database = fleet.databases[node]
        database.remove_port(old)
        new = fleet.new_pod(node, old.partition("/")[0], f"new-{number}", app)
        before = time.monotonic()
        fleet.write_node(node)
        database.add_ports([new])
        database.await_installed(new, INSTALLED_SECONDS)
        found.append(time.monotonic() - before)


def _desired(switch: Switch) -> int:
    return len(switch.desired)


def _committed(core: Controller, dpid: int) -> float:
    """When a realized switch committed last; 0.0 where it is not realized."""

    def look(reconciler: Reconciler, _: float) -> float:
        switch = reconciler.switches.get(dpid)
        return switch.committed_at or 0.0 if switch is not None and switch.realized else 0.0

    return core.reconciler.read(look)


def _has_committed(dpid: int, since: float, core: Controller) -> bool:
    return _committed(core, dpid) > since


def _both(name: str, seconds: list[float], more: dict[str, float | str]) -> list[Result]:
    return [
        Result(f"{name}, {what}", 1e3 * quantile(seconds, part), "ms", more=more)
        for what, part in (("p50", 0.5), ("p99", 0.99))
    ]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
