"""A private Open vSwitch with dummy bridges, for measurements that need a real switch without packets.

All its files are in a temporary folder. It needs the programs of Open vSwitch, and no root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from bench.result import cpu_of

_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
_START_SECONDS = 30.0


class PrivateSwitch:
    """ovsdb-server and ovs-vswitchd with dummy bridges, as a context manager. Raises RuntimeError on errors."""

    def __init__(self, bridges: int = 1) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hg-bench-"))
        self.names = [f"br{n}" for n in range(bridges)]
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> PrivateSwitch:
        try:
            self.run("ovsdb-tool", "create", f"{self.folder}/conf.db", _SCHEMA)
            self._start("ovsdb-server", f"--remote=p{self.remote}", f"{self.folder}/conf.db")
            self.vsctl("--no-wait", "init")
            self._start("ovs-vswitchd", "--enable-dummy", self.remote)
            for number, name in enumerate(self.names, 1):
                self.vsctl("add-br", name, "--", "set", "Bridge", name, "datapath_type=dummy", "fail_mode=secure",
                           "protocols=OpenFlow14", f"other_config:datapath-id={number:016x}")  # fmt: skip
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def cpu(self) -> float:
        """The CPU seconds of its processes so far."""
        return sum(cpu_of(daemon.pid) for daemon in self._daemons)

    @property
    def remote(self) -> str:
        """The OVSDB's address."""
        return f"unix:{self.folder}/db.sock"

    def target(self, name: str = "br0") -> str:
        """The address of a bridge for ovs-ofctl."""
        return f"unix:{self.folder}/{name}.mgmt"

    def vsctl(self, *arguments: str) -> str:
        """Run ovs-vsctl."""
        return self.run("ovs-vsctl", f"--db={self.remote}", "--timeout=60", *arguments)

    def ofctl(self, *arguments: str) -> str:
        """Run ovs-ofctl in OpenFlow 1.4."""
        return self.run("ovs-ofctl", "-O", "OpenFlow14", *arguments)

    def run(self, *command: str) -> str:
        """Run a program and return its output. Raises RuntimeError if it fails."""
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[:4])}: {done.stderr.strip()}")
        return done.stdout

    @property
    def _environment(self) -> dict[str, str]:
        own = dict.fromkeys(("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR"), str(self.folder))
        return {**os.environ, **own, "PATH": os.environ.get("PATH", "") + ":/usr/sbin"}

    def _start(self, program: str, *arguments: str) -> None:
        control = self.folder / f"{program}.ctl"
        command = [program, "--no-chdir", f"--unixctl={control}", "-vconsole:off",
                   f"--log-file={self.folder}/{program}.log", *arguments]  # fmt: skip
        quiet = subprocess.DEVNULL
        daemon = subprocess.Popen(command, env=self._environment, stdin=quiet, stdout=quiet, stderr=quiet)
        self._daemons.append(daemon)
        deadline = time.monotonic() + _START_SECONDS
        while not control.exists():
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{program} did not start")
            time.sleep(0.01)
