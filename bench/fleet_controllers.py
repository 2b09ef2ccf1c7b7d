"""The controllers of a fleet: started, stopped and killed, and what all of them say together of its switches.

Without replicas it is one controller that reads a folder of manifests; with replicas they read a real API server, and
divide the switches by Leases there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.fleet_replica import Answer, FleetReplica, SwitchSays, Work
from bench.ports import free_ports

PATIENCE_SECONDS = 900.0
POLL_SECONDS = 0.1
QUIET_SECONDS = 1.5
Says = Mapping[int, SwitchSays]


class Controllers:
    """`count` controllers, 0 for one without replicas."""

    def __init__(self, count: int, nodes: int, folder: Path) -> None:
        self._nodes = nodes
        self._folder = folder
        ports = free_ports(3 * max(1, count))
        self.names = [f"replica-{number}" for number in range(max(1, count))]
        self._ports = {name: ports[3 * place : 3 * place + 3] for place, name in enumerate(self.names)}
        self._replicated = count > 0
        self._running: dict[str, FleetReplica] = {}
        self._asking = ThreadPoolExecutor(len(self.names))

    @property
    def ovsdb(self) -> list[str]:
        """The addresses for the nodes' OVSDBs."""
        return [f"tcp:127.0.0.1:{ovsdb}" for ovsdb, _, _ in self._ports.values()]

    @property
    def openflow(self) -> list[str]:
        """The addresses for the switches."""
        return [f"tcp:127.0.0.1:{openflow}" for _, openflow, _ in self._ports.values()]

    # -- the processes -------------------------------------------------------------------------------------------------

    def start(self, name: str, source: Mapping[str, str]) -> None:
        """Start one; returns at once."""
        ovsdb, openflow, http = self._ports[name]
        options: dict[str, Any] = {
            **source, "bridge": ["br-int"], "ovsdb_listen": f"tcp:127.0.0.1:{ovsdb}",
            "openflow_listen": f"tcp:127.0.0.1:{openflow}", "http": f"127.0.0.1:{http}",
        }  # fmt: skip
        if self._replicated:
            options["replica"] = name
        self._running[name] = FleetReplica(options, self._nodes, self._folder / f"{name}.log")

    def start_all(self, source: Mapping[str, str]) -> None:
        """Start all."""
        for name in self.names:
            self.start(name, source)

    def kill(self, name: str) -> None:
        """kill -9 of one."""
        self._running.pop(name).kill()

    def stop_all(self) -> None:
        """End all in order."""
        list(self._asking.map(FleetReplica.stop, self._running.values()))
        self._running.clear()

    # -- questions -----------------------------------------------------------------------------------------------------

    def says(self) -> dict[str, Says]:
        """What each says of the switches that it serves, by datapath id."""
        return {name: {said.dpid: said for said in one.switches} for name, one in self._ask().items()}

    def bundles(self) -> int:
        """How many bundles those that run have sent."""
        return sum(one.bundles for one in self._ask().values())

    def work(self) -> Work:
        """What those that run have done since their start, together."""
        done = self._asking.map(FleetReplica.work, self._running.values())
        return Work(*map(sum, zip(*done, strict=True)))

    def _ask(self) -> dict[str, Answer]:
        return dict(zip(list(self._running), self._asking.map(FleetReplica.ask, self._running.values()), strict=True))

    def served(self) -> Says:
        """What is said of each switch that somebody serves."""
        return {dpid: one for found in self.says().values() for dpid, one in found.items()}

    def wait_for(self, what: str, holds: Callable[[Says], bool], wanted: Collection[int] = ()) -> tuple[float, Says]:
        """Wait until `holds` of all switches, or of those that are wanted; returns the time (monotonic) and the answer.

        Raises TimeoutError.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            said = self.served()
            if len(said) == self._nodes or (wanted and said.keys() >= set(wanted)):
                chosen = {dpid: said[dpid] for dpid in wanted} if wanted else said
                if holds(chosen):
                    return time.monotonic(), chosen
            if time.monotonic() > deadline:
                raise TimeoutError(f"not {what} within {PATIENCE_SECONDS:g} s: {self._why_not()}")
            time.sleep(POLL_SECONDS)

    def _why_not(self) -> str:
        """How far each is, and what most often keeps a fleet from becoming realized."""
        parts = [
            f"{name} serves {len(found)} of {self._nodes} switches, {sum(one.realized for one in found.values())} of "
            "them realized"
            for name, found in self.says().items()
        ]
        ended = self.work().ended
        parts.append(
            f"{ended} OpenFlow sessions have ended{': this machine has too little CPU for them' * bool(ended)}"
        )
        return "; ".join(parts)

    def wait_divided(self) -> float:
        """Wait until each replica serves what belongs to it, all of it realized; returns the time (monotonic)."""
        self.wait_for("divided", lambda said: all(one.realized for one in said.values()) and self._is_divided())
        return time.monotonic()

    def wait_quiet(self) -> None:
        """Wait until nobody has sent a bundle for QUIET_SECONDS. Raises TimeoutError."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        sent, since = self.bundles(), time.monotonic()
        while time.monotonic() < since + QUIET_SECONDS:
            if time.monotonic() > deadline:
                raise TimeoutError(f"bundles are still sent after {PATIENCE_SECONDS:g} s")
            time.sleep(POLL_SECONDS)
            if (now := self.bundles()) != sent:
                sent, since = now, time.monotonic()

    def _is_divided(self) -> bool:
        from controller.reconcile.ownership import owner_of

        if not self._replicated:
            return True
        return all(
            owner_of(f"node-{dpid - 1}", self._running) == name for name, found in self.says().items() for dpid in found
        )

    # -- costs ---------------------------------------------------------------------------------------------------------

    def cpu(self) -> dict[str, float]:
        """The CPU seconds so far of each that runs."""
        return {name: one.cpu() for name, one in self._running.items()}

    def memory(self, what: str = "VmRSS") -> Sequence[float]:
        """Resident megabytes of each that runs."""
        return [one.memory(what) for one in self._running.values()]
