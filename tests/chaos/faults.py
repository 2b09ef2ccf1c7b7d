"""Carries out one fault: begins it, and ends it. When, is in `run`."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.history import Disturbance
from tests.chaos.schedule import CUTS, PROCESS, Kind, Step, links_of
from tests.chaos.stage import ASK_PAUSE, Stage
from tests.chaos.writers import Restarted
from topology.host import process


@dataclass
class Breaker:
    """Breaks things on a stage. `disturbed` gets the time in which a switch lost packets, in seconds of `clock`."""

    stage: Stage
    disturbed: list[Disturbance]
    clock: Callable[[], float]
    over: Callable[[], bool]

    def carry_out(self, step: Step) -> None:
        """The whole fault; blocks until it is over."""
        kind = step.what
        if kind in PROCESS:
            self._process(step)
        elif kind in CUTS:
            self._cut(step)
        elif kind in (Kind.API, Kind.ETCD):
            self._control_plane(step)
        elif kind is Kind.SWITCH:
            self._switch(step)
        else:
            self._database(step)

    def _process(self, step: Step) -> None:
        one = self.stage.replicas[step.target]
        if step.what is Kind.STOP:
            self.stage.paused.add(step.target)
            one.send(signal.SIGSTOP)
            time.sleep(step.seconds)
            one.send(signal.SIGCONT)
            self.stage.paused.discard(step.target)
            return
        one.end(signal.SIGKILL if step.what is Kind.KILL else signal.SIGTERM)
        time.sleep(step.seconds)
        self.stage.start(step.target)

    def _cut(self, step: Step) -> None:
        links = links_of(step)
        for name in links:
            self.stage.links.cut(name)
        time.sleep(step.seconds)
        self.stage.healed_at = time.monotonic()
        for name in links:
            self.stage.links.heal(name)

    def _control_plane(self, step: Step) -> None:
        api = self.stage.api
        with self.stage.api_lock:
            if step.what is Kind.API:
                api.kill()
                time.sleep(step.seconds)
                api.start()
            else:
                api.stop_etcd()
                time.sleep(step.seconds)
                api.start_etcd()
                api.wait()

    def _switch(self, step: Step) -> None:
        node, begun = step.target, self.clock()
        place = len(self.disturbed)
        self.disturbed.append(Disturbance(node, begun))
        switch = self.stage.lab.nodes[node]
        switch.stop_switch(signal.SIGKILL)
        time.sleep(step.seconds)
        self.stage.heard.append(Restarted(time.monotonic(), node))
        switch.start_switch()
        while not self.over():
            # One that is silently cut off does not know yet that its switch was restarted.
            if not self._is_cut(node) and self.stage.announced() and not self._is_cut(node):
                self.disturbed[place] = Disturbance(node, begun, self.clock())
                return
            time.sleep(ASK_PAUSE)

    def _is_cut(self, node: str) -> bool:
        return any(name.startswith("openflow ") and name.endswith(f"/{node}") for name in self.stage.links.cuts())

    def _database(self, step: Step) -> None:
        node = self.stage.lab.nodes[step.target]
        process.end(self.stage.lab.folder, f"{node.name}/ovsdb-server", signal.SIGKILL)
        time.sleep(step.seconds)
        node.start_database()
