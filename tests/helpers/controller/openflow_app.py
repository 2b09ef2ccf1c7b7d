"""A running OpenFlow application seen from a test: the events that it posts and the commands that it gets."""

from __future__ import annotations

import json
import pickle
import queue
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from controller.reconcile.commands import DumpFlows
from controller.reconcile.events import Event, FlowsDrifted, FlowsDumped, SwitchUp
from controller.reconcile.meters import NO_METER_CHANGES, MeterChanges
from flows.wire.values import NO_GROUP_CHANGES, Body, FlowChanges, FlowKey, GroupBody, GroupChanges, WireFlow
from tests.helpers.controller.descriptor_watch import FOUND
from tests.helpers.waiting import WAIT_SECONDS, until

DRIVER = Path(__file__).with_name("openflow_app_process.py")
_WAIT = 60.0
E = TypeVar("E")


class AppProcess:
    """The driver process. `port` and `port6` are where it listens for IPv4 and IPv6."""

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket, log: Path) -> None:
        self.process = process
        self.log = log
        self._channel = channel
        self._events: queue.Queue[object] = queue.Queue()
        self.drifted: queue.Queue[FlowsDrifted] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        addresses = self._events.get(timeout=_WAIT)
        assert isinstance(addresses, list)
        self.port, self.port6 = addresses[0][1], addresses[1][1]

    def _read(self) -> None:
        with self._channel.makefile("rb") as stream:
            try:
                while True:
                    event = pickle.load(stream)
                    # What others change comes when it comes, between any two answers.
                    (self.drifted if isinstance(event, FlowsDrifted) else self._events).put(event)
            except (EOFError, OSError):
                self._events.put(None)

    def tell(self, command: str, *arguments: object) -> None:
        """Call a method of the application."""
        self._channel.sendall(pickle.dumps((command, arguments)))

    def next(self, kind: type[E]) -> E:
        """The next event, which must be of this kind."""
        event = self._events.get(timeout=_WAIT)
        assert isinstance(event, kind), f"{str(event)[:500]}\n{self.log.read_text()[-2000:]}"
        return event

    def skip_to(self, kind: type[E]) -> E:
        """The next event of this kind; others before it are forgotten."""
        while not isinstance(event := self._events.get(timeout=_WAIT), kind):
            assert event is not None, self.log.read_text()[-2000:]
        return event

    def wait_for_log(self, words: str, seconds: float = WAIT_SECONDS) -> None:
        """Wait until the process has logged these words."""
        until(lambda: words in self.log.read_text(), lambda: f"{words!r} in {self.log.read_text()[-3000:]}", seconds)

    def quiet(self) -> bool:
        """True when every posted event has been taken."""
        return self._events.empty()

    def dump(
        self,
        up: SwitchUp,
        known: Mapping[FlowKey, Body] | None = None,
        groups: Mapping[int, GroupBody] | None = None,
    ) -> FlowsDumped:
        """The flows of a switch, or those that are not as known; with `groups` its groups too, likewise."""
        self.tell("dump", DumpFlows(up.dpid, up.session, 1, known or {}, groups=groups))
        return self.next(FlowsDumped)

    def send(self, up: SwitchUp, number: int, adds: tuple[WireFlow, ...] = (), modifies: tuple[WireFlow, ...] = (),
             deletes: tuple[WireFlow, ...] = (), answer: type[Event] | None = None,
             meters: MeterChanges = NO_METER_CHANGES, groups: GroupChanges = NO_GROUP_CHANGES) -> Event:  # fmt: skip
        """Send a bundle and return how it ended."""
        self.tell("send_bundle", up.dpid, up.session, number, FlowChanges(adds, modifies, deletes), meters, groups)
        found: Event = self.next(object) if answer is None else self.next(answer)  # type: ignore[assignment]
        return found

    def close(self) -> list[str]:
        """Let the application close and return the names of threads that are left."""
        self.tell("close")
        left = self.skip_to(list)
        assert self.process.wait(_WAIT) == 0, self.log.read_text()[-2000:]
        return left


@contextmanager
def controller(hub: str, **limits: object) -> Iterator[AppProcess]:
    """A running application that ends with the block."""
    with tempfile.TemporaryDirectory(prefix="hg-of-") as folder, socket.socket(socket.AF_UNIX) as listening:
        path, log = f"{folder}/s", Path(folder) / "log"
        listening.bind(path)
        listening.listen(1)
        listening.settimeout(_WAIT)
        with log.open("wb") as stderr:
            process = subprocess.Popen([sys.executable, str(DRIVER), hub, path, json.dumps(limits)], stderr=stderr)
        try:
            channel, _ = listening.accept()
            with channel:
                yield AppProcess(process, channel, log)
        finally:
            process.kill()
            process.wait()
        assert FOUND not in log.read_text(), log.read_text()[-4000:]
