"""The controller of a lab, used as an operator does: `headgate run` as a process, other commands by exit code."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from topology.errors import LabError
from topology.host import process
from topology.lab.state import controller_url

CONTROLLER_ROLE = "headgate"
EXIT_NOT_REALIZED = 1  # of `status --wait` when not everything is realized
NOT_REALIZED = "headgate: not everything is realized"  # the first line of its message


@dataclass(frozen=True)
class LabController:
    """The controller of one lab: where it listens, and its options."""

    folder: Path
    openflow_port: int
    http_port: int
    ovsdbs: tuple[str, ...]
    source: tuple[str, Path]  # option of `headgate run`, --manifests or --kubeconfig, and its value
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def server(self) -> str:
        """The URL of this controller for `headgate --server`."""
        return controller_url(self.http_port)

    @property
    def log(self) -> Path:
        """The controller's log file."""
        return self.folder / "headgate.log"

    def arguments(self) -> list[str]:
        """The arguments of `headgate` that run the controller."""
        found = ["run", self.source[0], str(self.source[1])]
        for remote in self.ovsdbs:
            found += ["--ovsdb", remote]
        return [
            *found,
            "--openflow-listen",
            f"tcp:127.0.0.1:{self.openflow_port}",
            "--http",
            f"127.0.0.1:{self.http_port}",
        ]

    def start(self) -> None:
        """Start the controller and wait until it serves HTTP. Raises LabError if it ends before."""
        self.ready(self.launch())

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the controller without waiting."""
        return process.start(
            self.folder,
            CONTROLLER_ROLE,
            [*headgate_command(), *self.arguments()],
            env={**process.python_path(), **self.environment},
            log=self.log,
        )

    def ready(self, started: subprocess.Popen[bytes]) -> None:
        """Wait until the controller that `launch` returned serves HTTP. Raises LabError if it ends before."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if started.poll() is not None:
                raise LabError(f"headgate run ended with {started.returncode}:\n{self.tail()}")
            with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as sock:
                if sock.connect_ex(("127.0.0.1", self.http_port)) == 0:
                    return
            time.sleep(0.05)
        raise LabError(f"headgate run does not answer on {self.server}; see {self.log}:\n{self.tail()}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> bool:
        """End the controller with the signal `how`; returns whether it ran."""
        return process.end(self.folder, CONTROLLER_ROLE, how, patience=10) > 0

    def running(self) -> bool:
        """Whether the controller's process runs."""
        return bool(process.find(self.folder, CONTROLLER_ROLE))

    def wait(self, timeout: float) -> None:
        """Wait until everything in the sources and OVSDBs is realized. Raises LabError with what is missing."""
        done = self.call(["status", "--wait", "--timeout", f"{timeout:g}"])
        if done.returncode == 0:
            return
        output = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith(NOT_REALIZED)]
        if done.returncode != EXIT_NOT_REALIZED:  # the controller gave no answer: its log may say why
            output += ["its log ends with:", self.tail()]
        raise LabError("\n".join([f"not everything is realized after {timeout:g} s:", *output]))

    def call(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run another headgate command against this controller."""
        return subprocess.run(
            [*headgate_command(), "--server", self.server, *arguments],
            env={**os.environ, **process.python_path()},
            capture_output=True,
            text=True,
            check=False,
        )

    def get(self, path: str) -> Any:
        """The JSON that the controller serves under `path`. Raises OSError while it does not answer."""
        with urllib.request.urlopen(self.server + path, timeout=10) as answer:
            return json.load(answer)

    def text(self, path: str) -> str:
        """The text that the controller serves under `path`. Raises OSError while it does not answer."""
        with urllib.request.urlopen(self.server + path, timeout=10) as answer:
            return str(answer.read().decode())

    def tail(self, lines: int = 20) -> str:
        """The end of the controller's log."""
        try:
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""


def headgate_command() -> list[str]:
    """The command that runs headgate, with this interpreter and so from the same environment.

    With -P a folder called `controller` in the user's working directory is not imported.
    """
    return [sys.executable, "-P", "-m", "controller"]


def free_port() -> int:
    """A TCP port of the loopback that is free now."""
    with closing(socket.create_server(("127.0.0.1", 0))) as sock:
        port: int = sock.getsockname()[1]
        return port
