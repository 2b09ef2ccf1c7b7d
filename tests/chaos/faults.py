"""Carries out one fault: begins it, and ends it. When, is in `run`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.history import Disturbance
from tests.chaos.schedule import CLOCKS, CUTS, PROCESS, SLOW, Kind, Step, links_of
from tests.chaos.stage import ASK_PAUSE, Stage
from tests.chaos.writers import Restarted
from topology.host import process

JUMP_SECONDS = 3600
STALL_SECONDS, BREATH_SECONDS = 0.4, 0.1  # of a disk that is slow


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
        elif kind in CLOCKS:
            self._clock_jumps(step)
        elif kind in SLOW:
            self._slow(step)
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

    def _clock_jumps(self, step: Step) -> None:
        clock = self.stage.clocks[step.target]
        clock.set(JUMP_SECONDS if step.what is Kind.CLOCK_AHEAD else -JUMP_SECONDS)
        time.sleep(step.seconds)
        clock.set(0)

    def _slow(self, step: Step) -> None:
        """A process with a disk that stalls does nothing meanwhile: it is stopped for most of the time."""
        if step.what is Kind.SLOW_DATABASE:
            node = self.stage.lab.nodes[step.target]
            (found,) = process.find(self.stage.lab.folder, f"{node.name}/ovsdb-server")
            pid = found.pid
        else:
            pid = self.stage.api.pid("etcd" if step.what is Kind.SLOW_ETCD else "kube-apiserver")
        end = time.monotonic() + step.seconds
        while time.monotonic() < end:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(STALL_SECONDS)
            os.kill(pid, signal.SIGCONT)
            time.sleep(BREATH_SECONDS)

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
        place = self._disturb(step.target)
        switch = self.stage.lab.nodes[step.target]
        switch.stop_switch(signal.SIGKILL)
        time.sleep(step.seconds)
        self.stage.heard.append(Restarted(time.monotonic(), step.target))
        switch.start_switch()
        self._until_realized(place)

    def _database(self, step: Step) -> None:
        """With the userspace datapath, Open vSwitch 3.1 forwards nothing and serves no OpenFlow until its database is
        back: the main thread, which also forwards, waits for the lock in the database.
        """
        place = self._disturb(step.target)
        node = self.stage.lab.nodes[step.target]
        process.end(self.stage.lab.folder, f"{node.name}/ovsdb-server", signal.SIGKILL)
        time.sleep(step.seconds)
        node.start_database()
        node.ofctl("show")  # answered once it works again
        self._until_realized(place)

    def _disturb(self, node: str) -> int:
        """From now on the switch loses packets; the disturbance's place in the list."""
        self.disturbed.append(Disturbance(node, self.clock()))
        return len(self.disturbed) - 1

    def _until_realized(self, place: int) -> None:
        """The disturbance ends when everything is announced as realized again."""
        one = self.disturbed[place]
        while not self.over():
            # A replica that is silently cut off does not know yet that its switch was restarted.
            if not self._is_cut(one.node) and self.stage.announced() and not self._is_cut(one.node):
                self.disturbed[place] = Disturbance(one.node, one.begun, self.clock())
                return
            time.sleep(ASK_PAUSE)

    def _is_cut(self, node: str) -> bool:
        return any(name.startswith("openflow ") and name.endswith(f"/{node}") for name in self.stage.links.cuts())
