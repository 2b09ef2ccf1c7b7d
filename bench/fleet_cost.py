"""Measures controllers with a fleet: start with nothing on the switches, restart with everything right, policies that
touch all nodes and some, a node's reboot, a rollout that replaces pods, and with replicas the takeover after kill -9.

Controllers are processes of their own, which say when each switch committed. Times are wall-clock times unless they say
otherwise. CPU is told apart by who used it, since in a real fleet only the controllers share a machine with themselves.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType

from bench.fleet import EVERYWHERE, Fleet
from bench.fleet_controllers import Controllers, Says
from bench.fleet_objects import Api, FleetObjects, Folder
from bench.fleet_room import check_room
from bench.result import Result, cpu_of, quantile

FULL_NODES, PODS_PER_NODE = 500, 100
FULL_TAKEOVER = 240  # switches that one replica serves, from where on the bar for 250 holds
POLICY_ROUNDS, SMALL_POLICY_ROUNDS, REBOOT_ROUNDS = 12, 40, 5
FIRST_ROUNDS = 2  # which are not counted
CHURN_RATE = 10_000 / 300  # replaced pods a second, at the full size: 10,000 in five minutes
CHURN_SECONDS = 30.0
FEW_NODES = 50  # with which, and fewer, the rollout is shorter
CHURN_WORKERS = 64
INSTALLED_SECONDS = 60.0
More = dict[str, float | str]


def measure_fleet(scale: float, nodes: str = "", pods: str = "", replicas: str = "") -> list[Result]:
    """Measure. Without `nodes` the scale decides how many there are; without `replicas` it is one controller alone."""
    count, each = int(nodes) if nodes else max(2, round(FULL_NODES * scale)), int(pods or PODS_PER_NODE)
    check_room(count, each, int(replicas or 1))
    with tempfile.TemporaryDirectory(prefix="hg-fleet-") as name, ExitStack() as stack:
        folder = Path(name)
        objects: FleetObjects = Folder(folder / "manifests")
        if replicas:
            objects = api = Api(folder / "api")
            stack.callback(api.stop)
        controllers = Controllers(int(replicas or 0), count, folder)
        stack.callback(controllers.stop_all)
        fleet = stack.enter_context(Fleet(count, each, folder, objects, controllers.ovsdb, controllers.openflow))
        return FleetMeasurement(fleet, controllers, count == FULL_NODES and each == PODS_PER_NODE).run()


class FleetMeasurement:
    """One run of all measurements with one fleet; `full`: bars hold for this size."""

    def __init__(self, fleet: Fleet, controllers: Controllers, full: bool) -> None:
        self._fleet = fleet
        self._controllers = controllers
        self._full = full
        self._of = f"{fleet.nodes} bridges"
        if len(controllers.names) > 1:
            self._of += f", {len(controllers.names)} replicas"

    def run(self) -> list[Result]:
        """Measure everything, in an order in which each leaves the fleet as the next one needs it."""
        steps = [self.start, self.restart, self.everywhere, self.policy, self.reboot, self.rollout]
        if len(self._controllers.names) > 1:
            steps.append(self.takeover)
        found: list[Result] = []
        for step in steps:
            found += (new := step())
            for one in new:  # all of them together take minutes, and a later one may fail
                sys.stderr.write(f"{one.name}: {one.value:.3g} {one.unit} {one.more}\n")
        return found

    # -- measurements --------------------------------------------------------------------------------------------------

    def start(self) -> list[Result]:
        """All controllers start, and nothing is on the switches."""
        costs = _Costs(self._fleet, self._controllers)
        self._controllers.start_all(self._fleet.objects.source)
        at, said = self._controllers.wait_for("realized", _all_realized)
        more = costs.more()
        at_most = self._controllers.memory("VmHWM")
        more |= {
            "flows": sum(one.flows for one in said.values()), "MB of each": max(self._controllers.memory()),
            "at most, MB": max(at_most),
        }  # fmt: skip
        more |= self._work()
        bar, reach = (60.0, 25.0) if self._full else (None, None)
        return [Result(f"{self._of}, nothing on them → all realized", at - costs.since, "s", bar, reach, more=more)]

    def restart(self) -> list[Result]:
        """All controllers start again, and everything is right on the switches."""
        self._controllers.wait_divided()
        self._controllers.stop_all()
        costs = _Costs(self._fleet, self._controllers)
        self._controllers.start_all(self._fleet.objects.source)
        at, _ = self._controllers.wait_for("compared", _all_realized)
        more = costs.more()
        more |= self._work()
        divided = self._controllers.wait_divided() - costs.since
        if len(self._controllers.names) > 1:
            more["each replica has its own, s"] = divided
        bar, reach = (40.0, 15.0) if self._full else (None, None)
        return [Result(f"{self._of}, everything right → all compared", at - costs.since, "s", bar, reach, more=more)]

    def _work(self) -> More:
        work = self._controllers.work()
        return {
            "dumps": work.dumps, "bundles sent": work.bundles, "flows changed": work.changes,
            "sessions ended": work.ended,
        }  # fmt: skip

    def everywhere(self) -> list[Result]:
        """A policy with subjects on every node changes."""
        times, costs = [], _Costs(self._fleet, self._controllers)
        for number in range(POLICY_ROUNDS):
            before = time.monotonic()
            self._fleet.change_everywhere(1000 + number)
            times.append(self._committed(before) - before)
        return _both(f"policy on all of {self._of} → committed", times[FIRST_ROUNDS:], costs.more(POLICY_ROUNDS))

    def policy(self) -> list[Result]:
        """The policy of one app of one namespace changes, which has pods on some nodes."""
        times, nodes, costs = [], 0, _Costs(self._fleet, self._controllers)
        subjects = itertools.cycle(sorted(self._fleet.subjects().items()))
        for number, ((space, app), concerned) in enumerate(itertools.islice(subjects, SMALL_POLICY_ROUNDS)):
            before = time.monotonic()
            self._fleet.change_policy(space, app, 2000 + number)
            times.append(self._committed(before, [node + 1 for node in concerned]) - before)
            nodes = max(nodes, len(concerned))
        more: More = {"nodes, at most": nodes, **costs.more(SMALL_POLICY_ROUNDS)}
        return _both(f"policy of an app, {self._of} → committed", times[FIRST_ROUNDS:], more)

    def _committed(self, since: float, switches: Sequence[int] = ()) -> float:
        """The time of the last commit reply, once each of these switches, or all, has committed after `since`."""

        def holds(said: Says) -> bool:
            return all(one.realized and (one.committed_at or 0.0) > since for one in said.values())

        _, said = self._controllers.wait_for("committed", holds, switches)
        return max(one.committed_at or 0.0 for one in said.values())

    def reboot(self) -> list[Result]:
        """A node's switch comes back without flows: from its removal to the commit of all its flows."""
        times = []
        for number in range(REBOOT_ROUNDS):
            node = number * 7 % self._fleet.nodes
            before = time.monotonic()
            self._fleet.reboot(node)
            times.append(self._committed(before, [node + 1]) - before)
        return _both(f"a node of {self._of} reboots → realized", times, {})

    def rollout(self) -> list[Result]:
        """Pods are replaced at a steady rate: from the new pod's object and port to its mark in OVSDB."""
        rate = max(2.0, CHURN_RATE * self._fleet.nodes / FULL_NODES)
        count = round(rate * CHURN_SECONDS * min(1.0, self._fleet.nodes / FEW_NODES))
        begin, costs = time.monotonic(), _Costs(self._fleet, self._controllers)
        rollout = _Rollout(self._fleet)
        with ThreadPoolExecutor(CHURN_WORKERS) as workers:
            for number in range(count):
                time.sleep(max(0.0, begin + number / rate - time.monotonic()))
                workers.submit(rollout.replace, number, begin + number / rate)
        more: More = {
            "pods": count, "a second": rate, "not in time": count - len(rollout.seconds), "latest, s": rollout.latest,
            "first error": rollout.error, **costs.more(count),
        }  # fmt: skip
        return _both(f"rollout on {self._of}: pod created → enforced", rollout.seconds, more)

    def takeover(self) -> list[Result]:
        """A replica is killed: from its end until the others have compared its switches. Then it comes back."""
        controllers = self._controllers
        controllers.wait_divided()
        controllers.wait_quiet()  # what the last replaced pod leaves to others would count as the takeover's
        name, served = max(controllers.says().items(), key=lambda one: len(one[1]))
        moved = set(served)
        costs = _Costs(self._fleet, controllers)
        controllers.kill(name)
        bundles = controllers.bundles()
        first, _ = controllers.wait_for("taken over", lambda said: True, [min(moved)])
        at, _ = controllers.wait_for("taken over", _all_realized)
        more: More = {
            "switches": len(moved), "one of them after, s": first - costs.since,
            "bundles sent": controllers.bundles() - bundles, **costs.more(),
        }  # fmt: skip
        bar, reach = (30.0, 12.0) if len(moved) >= FULL_TAKEOVER else (None, None)
        found = [Result(f"{self._of}: kill -9 → all owned and compared", at - costs.since, "s", bar, reach, more=more)]
        costs = _Costs(self._fleet, controllers)
        controllers.start(name, self._fleet.objects.source)
        at = controllers.wait_divided()
        found.append(Result(f"{self._of}: it comes back → has its own", at - costs.since, "s", more=costs.more()))
        return found


class _Rollout:
    """Replaces pods, from several threads."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._lock = threading.Lock()
        self.seconds: list[float] = []
        self.latest = 0.0  # seconds by which a replacement began after its time
        self.error = ""

    def replace(self, number: int, at: float) -> None:
        """Replace the oldest pod of a node by another one of its app."""
        self.latest = max(self.latest, time.monotonic() - at)
        try:
            self.seconds.append(self._replace(number))
        except Exception as error:  # noqa: BLE001 - one that fails is counted, and the first one told
            self.error = self.error or f"{type(error).__name__}: {error}"

    def _replace(self, number: int) -> float:
        fleet = self._fleet
        node = number % fleet.nodes
        database = fleet.databases[node]
        with self._lock:
            pods = fleet.pods[node]
            old = next(one for one in pods if not one.startswith(EVERYWHERE))
            app = pods.pop(old)["metadata"]["labels"]["app"]
            new = fleet.new_pod(node, old.partition("/")[0], f"new-{number}", app)
            now = MappingProxyType(dict(pods))
        database.remove_port(old)
        fleet.objects.remove(old)
        before = time.monotonic()
        fleet.objects.create(node, now, new)
        database.add_ports([new])
        database.await_installed(new, INSTALLED_SECONDS)
        return time.monotonic() - before


class _Costs:
    """The CPU seconds that everything uses from now on; `since` is now (monotonic)."""

    def __init__(self, fleet: Fleet, controllers: Controllers) -> None:
        self._fleet, self._controllers = fleet, controllers
        self.since = time.monotonic()
        self._before = controllers.cpu()
        self._others = self._now()

    def _now(self) -> tuple[float, float, float]:
        return (*self._fleet.cpu(), sum(map(cpu_of, self._fleet.objects.pids())))

    def more(self, rounds: int = 1) -> More:
        """What was used since, of each round: by the controllers, the one that used most, and what in a real fleet is
        on other machines.
        """
        used = {name: now - self._before.get(name, 0.0) for name, now in self._controllers.cpu().items()}
        switch, databases, api = (now - then for now, then in zip(self._now(), self._others, strict=True))
        found: More = {"CPU": sum(used.values()) / rounds}
        if len(self._controllers.names) > 1:
            found["CPU of one, at most"] = max(used.values()) / rounds
        found |= {"CPU of the switch": switch / rounds, "CPU of the OVSDBs": databases / rounds}
        if self._fleet.objects.pids():
            found["CPU of the API server"] = api / rounds
        return found


def _all_realized(said: Says) -> bool:
    return all(one.realized for one in said.values())


def _both(name: str, seconds: Sequence[float], more: More) -> list[Result]:
    return [
        Result(f"{name}, {what}", 1e3 * quantile(seconds, part), "ms", more=more)
        for what, part in (("p50", 0.5), ("p99", 0.99))
    ]
