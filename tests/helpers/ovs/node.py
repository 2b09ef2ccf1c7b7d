"""A node's ovsdb-server and ovs-vswitchd, for tests that kill and restart them and reach the OVSDB in every way.

Tests that watch packets use `open_vswitch` instead.
"""

from __future__ import annotations

import queue
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from controller.ovsdb.service import Ovsdb
from controller.reconcile.events import BridgeChanged, BridgeGone, Event, OvsdbState
from flows.bridge.state import BridgeState, InterfaceState
from tests.helpers.ovs.daemons import END_WITH_PARENT, SCHEMA, environment
from tests.helpers.waiting import free_port, until


class Node:
    """One ovsdb-server and, unless `switch` is False, one ovs-vswitchd in a temporary folder."""

    def __init__(self, switch: bool = True, init: bool = True) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hgo-"))
        self.remote = f"unix:{self.folder}/db.sock"
        self.port = free_port()
        self.tcp = f"tcp:127.0.0.1:{self.port}"
        self._database: subprocess.Popen[bytes] | None = None
        self._switch: subprocess.Popen[bytes] | None = None
        try:
            self.create()
            self.start_database()
            if init:
                self.vsctl("init")
            if switch:
                self.start_switch()
        except BaseException:
            self.stop()
            raise

    def create(self) -> None:
        (self.folder / "conf.db").unlink(missing_ok=True)
        subprocess.run(
            ["ovsdb-tool", "create", f"{self.folder}/conf.db", SCHEMA], check=True, env=environment(self.folder)
        )

    def start_database(self) -> None:
        self._database = self._start(
            "ovsdb-server", f"--remote=p{self.remote}", f"--remote=ptcp:{self.port}:127.0.0.1",
            "--remote=db:Open_vSwitch,Open_vSwitch,manager_options", f"--unixctl={self.folder}/db.ctl",
            f"{self.folder}/conf.db",
        )  # fmt: skip
        until(lambda: self._answers("ovsdb-client", "list-dbs", self.remote), "ovsdb-server")

    def start_switch(self) -> None:
        self._switch = self._start("ovs-vswitchd", "--enable-dummy", f"--unixctl={self.folder}/vs.ctl", self.remote)

    def kill_database(self) -> None:
        self._kill(self._database)

    def kill_switch(self) -> None:
        self._kill(self._switch)

    def stop(self) -> None:
        self._kill(self._switch)
        self._kill(self._database)
        shutil.rmtree(self.folder, ignore_errors=True)

    def vsctl(self, *arguments: str) -> str:
        wait = [] if self._switch is not None and self._switch.poll() is None else ["--no-wait"]
        return self._run("ovs-vsctl", f"--db={self.remote}", "--timeout=20", *wait, *arguments)

    def ofctl(self, *arguments: str) -> str:
        """ovs-ofctl as an operator types it; the bridge is named by its management socket."""
        return self._run("ovs-ofctl", *arguments)

    def management(self, bridge: str = "br-int") -> str:
        return f"unix:{self.folder}/{bridge}.mgmt"

    def get(self, table: str, record: str, column: str) -> str:
        """A column's value, without quotation marks: ovs-vsctl puts them where the text needs them, `true` included."""
        return self.vsctl("get", table, record, column).strip().replace('"', "")

    def add_port(self, name: str, *settings: str, bridge: str = "br-int") -> str:
        """A dummy port; returns its Interface's uuid."""
        self.vsctl("add-port", bridge, name, "--", "set", "Interface", name, "type=dummy", *settings)
        return self.get("Interface", name, "_uuid")

    def add_bridge(self, name: str = "br-int") -> None:
        self.vsctl("add-br", name, "--", "set", "Bridge", name, "datapath_type=dummy")

    def transactions(self) -> int:
        """How many transactions of Headgate the database file holds: each is a record with its comment."""
        return (self.folder / "conf.db").read_bytes().count(b'"_comment":"headgate: ')

    def appctl(self, *arguments: str) -> str:
        """Ask ovsdb-server over its control socket."""
        return self._run("ovs-appctl", "-t", f"{self.folder}/db.ctl", *arguments)

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{command[0]}.log").open("ab")
        with log:
            return subprocess.Popen(
                [*END_WITH_PARENT, *command, "-vconsole:info"],
                env=environment(self.folder), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def _kill(self, process: subprocess.Popen[bytes] | None) -> None:
        if process is not None:
            process.kill()
            process.wait()

    def _answers(self, *command: str) -> bool:
        return subprocess.run(command, capture_output=True, env=environment(self.folder), check=False).returncode == 0

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, env=environment(self.folder), check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout


class EventCollector:
    """Takes the place of the core: collects events, and keeps the bridges that they describe."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._queue: queue.Queue[Event] = queue.Queue()
        self.post = self._queue.put

    def take(self) -> list[Event]:
        """The events that came since the last take."""
        fresh = []
        while not self._queue.empty():
            fresh.append(self._queue.get())
        self.events.extend(fresh)
        return fresh

    @property
    def bridges(self) -> dict[tuple[str, str], BridgeState]:
        self.take()
        found: dict[tuple[str, str], BridgeState] = {}
        for event in self.events:
            if isinstance(event, BridgeChanged):
                found[event.bridge.ovsdb, event.bridge.name] = event.bridge
            elif isinstance(event, BridgeGone):
                del found[event.ovsdb, event.name]
        return found

    def bridge(self, name: str = "br-int") -> BridgeState | None:
        return next((bridge for (_, own), bridge in self.bridges.items() if own == name), None)

    def interfaces(self, bridge: str = "br-int") -> dict[str, InterfaceState]:
        state = self.bridge(bridge)
        return {one.name: one for one in state.interfaces} if state else {}

    def ofport(self, interface: str) -> int | None:
        state = self.interfaces().get(interface)
        return state.ofport if state else None

    def states(self) -> dict[str, OvsdbState]:
        self.take()
        return {event.ovsdb: event for event in self.events if isinstance(event, OvsdbState)}

    def synced(self) -> bool:
        states = self.states()
        return bool(states) and all(state.synced for state in states.values())


@contextmanager
def ovsdb_service(core: EventCollector, remotes: list[str], **settings: Any) -> Iterator[Ovsdb]:
    """An Ovsdb that is started, and closed whatever happens."""
    ovsdb = Ovsdb(remotes, post=core.post, **settings)
    ovsdb.start()
    try:
        yield ovsdb
    finally:
        ovsdb.close()
