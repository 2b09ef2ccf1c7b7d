"""Real replicas: `headgate run` processes on one API server and the same switches, which tests stop and cut off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.ports import free_ports
from tests.helpers.ovs.daemons import END_WITH_PARENT
from tests.helpers.paths import ROOT
from tests.helpers.waiting import until


class Replica:
    """One process. `kubeconfig` may lead through a proxy of its own; `environment` is added to that of the test, and
    `root` is the folder of another version of Headgate than this one.
    """

    def __init__(self, name: str, folder: Path, kubeconfig: Path, ovsdbs: Sequence[str], *more: str) -> None:
        self.name = name
        self.kubeconfig = kubeconfig
        self.log = folder / f"{name}.log"
        self.openflow_port, self.http_port = free_ports(2)
        self.url = f"http://127.0.0.1:{self.http_port}"
        self._ovsdbs = ovsdbs
        self._more = more
        self.environment: Mapping[str, str] = {}
        self.root = ROOT
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; returns at once."""
        command = [sys.executable, "-P", "-m", "controller", "run", "--kubeconfig", str(self.kubeconfig)]
        command += ["--replica", self.name, "--lease-duration", "4s", "--renew-interval", "500ms"]
        command += ["--openflow-listen", f"tcp:127.0.0.1:{self.openflow_port}"]
        command += ["--http", f"127.0.0.1:{self.http_port}", *self._more]
        for remote in self._ovsdbs:
            command += ["--ovsdb", remote]
        environment = {**os.environ, "PYTHONPATH": str(self.root), **self.environment}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*END_WITH_PARENT, *command], stdout=log, stderr=log, env=environment)

    def send(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the process; what it returned."""
        if self.process is None:
            return 0
        self.process.send_signal(how)
        if how is not signal.SIGCONT:
            self.process.send_signal(signal.SIGCONT)
        code, self.process = self.process.wait(20), None
        return code

    def get(self, path: str) -> Any:
        """The JSON of a page; {} while the process does not answer."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)
        except OSError:
            return {}

    def status(self, local: bool = True) -> dict[str, Any]:
        """Its status: its own part, or that of all."""
        return dict(self.get("/status?local=1" if local else "/status"))

    def primary(self) -> set[str]:
        """The nodes whose switches it serves, by its own words."""
        return {one["node"] for one in self.status().get("switches", ()) if one["primary"]}

    def ready(self) -> bool:
        """Whether /readyz says so."""
        return bool(self.get("/readyz").get("ready"))

    def said(self, text: str) -> bool:
        """Whether its log has this text."""
        return text in self.log.read_text(errors="replace")


def logs(replicas: Sequence[Replica]) -> str:
    """The ends of all logs, for messages."""
    return "\n".join(f"== {one.name}\n" + "\n".join(one.log.read_text().splitlines()[-40:]) for one in replicas)


def until_divided(replicas: Sequence[Replica], nodes: set[str], seconds: float = 60.0) -> dict[str, set[str]]:
    """Wait until each switch has exactly one of these replicas as its primary, its flows realized and no other one."""

    def divided() -> bool:
        statuses = [one.status() for one in replicas]
        owned = [s["node"] for status in statuses for s in status.get("switches", ()) if s["primary"] and s["in_sync"]]
        return sorted(owned) == sorted(nodes)

    until(divided, lambda: logs(replicas), seconds)
    return {one.name: one.primary() for one in replicas}
