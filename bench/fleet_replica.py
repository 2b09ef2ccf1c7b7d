"""One controller of a fleet, in a process of its own, which says what it has on its switches.

The process is `headgate run` with higher limits of connections by address, because all nodes of a fleet share the
address of this machine. It answers each byte on a socket that it inherits with a line of JSON. For SWITCHES it is how
many bundles it has sent, and [datapath id, realized, time of the last commit (monotonic clock) or null, desired flows]
of each switch that it serves now; for WORK what it has done so far, as `Work`. It ends when that socket does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.result import cpu_of

if TYPE_CHECKING:
    from controller.config.schema import RunConfig
    from controller.peers.limits import ConnectionLimits
    from controller.reconcile.reconciler import Reconciler
    from controller.runtime.controller import Controller

SWITCHES, WORK = b"s", b"w"
ANSWER_SECONDS = 120.0
END_SECONDS = 10.0


class SwitchSays(NamedTuple):
    """What a controller says of a switch that it serves. `committed_at` is None before the first commit."""

    dpid: int
    realized: bool
    committed_at: float | None
    flows: int


class Answer(NamedTuple):
    """What a controller says: of the switches that it serves now, and how many bundles it has sent to any."""

    bundles: int
    switches: list[SwitchSays]


class Work(NamedTuple):
    """What a controller has done so far: flow dumps and bundles that it requested of switches, changes of flows that
    they committed, and OpenFlow sessions that have ended."""

    dumps: int
    bundles: int
    changes: int
    ended: int


class FleetReplica:
    """A process; `options` are those of `headgate run` by name. `log` is the file that gets its log."""

    def __init__(self, options: Mapping[str, Any], nodes: int, log: Path) -> None:
        self._here, there = socket.socketpair()
        self._here.settimeout(ANSWER_SECONDS)
        self._lines = self._here.makefile("r", encoding="ascii")
        command = [sys.executable, "-W", "ignore", "-m", "bench.fleet_replica", json.dumps(options), str(nodes)]
        with there, log.open("ab") as out:
            self._process = subprocess.Popen(
                [*command, str(there.fileno())], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                pass_fds=[there.fileno()],
            )  # fmt: skip
        self._log = log
        self._lock = threading.Lock()

    def ask(self) -> Answer:
        """What it says now. Raises RuntimeError when it has ended."""
        bundles, switches = json.loads(self._question(SWITCHES))
        return Answer(bundles, [SwitchSays(*one) for one in switches])

    def work(self) -> Work:
        """What it has done so far. Raises RuntimeError when it has ended."""
        return Work(*json.loads(self._question(WORK)))

    def _question(self, what: bytes) -> str:
        with self._lock:
            try:
                self._here.sendall(what)
                line = self._lines.readline()
            except OSError as error:
                raise RuntimeError(f"a controller does not answer: {error}; its log ends with {self._end()}") from None
        if not line:
            raise RuntimeError(f"a controller has ended; its log ends with {self._end()}")
        return line

    def cpu(self) -> float:
        """The CPU seconds so far."""
        return cpu_of(self._process.pid)

    def memory(self, what: str = "VmRSS") -> float:
        """Resident megabytes now, or at most (VmHWM)."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(what))

    def kill(self) -> None:
        """kill -9."""
        self._close(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order."""
        self._close(signal.SIGTERM)

    def _close(self, number: signal.Signals) -> None:
        self._process.send_signal(number)
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._lines.close()
        self._here.close()

    def _end(self) -> str:
        return " / ".join(self._log.read_text(errors="replace").splitlines()[-3:])


# -- in the process ----------------------------------------------------------------------------------------------------


def main(options: str, nodes: str, descriptor: str) -> None:
    """Run the controller until the parent is gone, or SIGTERM."""
    from controller.base.hub import install

    install(os.environ.get("OSKEN_HUB_TYPE", "eventlet"))
    from controller.base import logs
    from controller.base.freed_memory import give_back_freed_memory
    from controller.cli.run import run_until_signal
    from controller.config.schema import RunConfig
    from controller.runtime.controller import Controller

    give_back_freed_memory()
    logs.configure_logging("info", "human")
    limits = _limits(int(nodes))

    def make(config: RunConfig) -> Controller:
        core = Controller(config, limits)
        threading.Thread(target=_answer, args=(socket.socket(fileno=int(descriptor)), core), daemon=True).start()
        return core

    run_until_signal(RunConfig.model_validate(json.loads(options)), make)


def _limits(nodes: int) -> ConnectionLimits:
    from controller.peers.limits import ConnectionLimits

    most = 4 * nodes + 4096
    return ConnectionLimits(
        connections=most, per_address=most, unproven=most, unproven_new_address=most, unproven_per_address=most,
        tolerated_faults=most,
    )  # fmt: skip


def _answer(connection: socket.socket, core: Controller) -> None:
    while what := connection.recv(1):
        found = core.reconciler.read(_look) if what == SWITCHES else _work(core)
        connection.sendall(json.dumps(found).encode() + b"\n")
    os._exit(1)  # the parent is gone


def _work(core: Controller) -> Work:
    def requested(reconciler: Reconciler, _: float) -> tuple[int, int, int]:
        switches = reconciler.switches.values()
        up = [one.session for one in switches if one.session is not None]
        # Sessions are numbered from 1 in a process.
        ended = max(up, default=0) - len(up)
        return sum(one.dumps_sent for one in switches), sum(one.bundles_sent for one in switches), ended

    from controller.metrics.series import FLOW_MODS

    counted = core.metrics.registry.restricted_registry([f"{FLOW_MODS.name}_total"]).collect()
    changes = sum(sample.value for metric in counted for sample in metric.samples)
    dumps, bundles, ended = core.reconciler.read(requested)
    return Work(dumps, bundles, round(changes), ended)


def _look(reconciler: Reconciler, _: float) -> tuple[int, list[tuple[int, bool, float | None, int]]]:
    roles, switches = reconciler.roles, reconciler.switches
    served = [
        (dpid, one.realized, one.committed_at, len(one.desired))
        for dpid, one in switches.items()
        if one.session is not None and roles.may_write(dpid)
    ]
    return sum(one.bundles_sent for one in switches.values()), served


if __name__ == "__main__":
    main(*sys.argv[1:])
