"""A machine to try deployment scripts on: a network namespace with an Open vSwitch of its own and one interface.

Its file system is the real machine's: only the network and Open vSwitch are its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.helpers.paths import ROOT
from topology.host import links, netns, process
from topology.host.machine import ovs_schema, program

NODE = ROOT / "deploy" / "node.sh"
UNDO = ROOT / "deploy" / "node-undo.sh"
UPLINK = "eth9"
# What the scripts may set, and nothing that changes by itself.
COLUMNS = {
    "Open_vSwitch": "_uuid,bridges,manager_options,ssl,external_ids",
    "Bridge": "_uuid,name,controller,fail_mode,datapath_type,ports,other_config,protocols",
    "Port": "_uuid,name,interfaces",
    "Interface": "_uuid,name,external_ids",
    "Controller": "_uuid,target,connection_mode",
    "Manager": "_uuid,target,connection_mode",
    "SSL": "_uuid,private_key,certificate,ca_cert",
}


class Machine:
    """Up from `start` to `stop`. `folder` needs a short path, for sockets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.netns = folder / "machine"
        self.state = folder / "state"

    @property
    def env(self) -> dict[str, str]:
        here = str(self.folder)
        return {"OVS_RUNDIR": here, "OVS_LOGDIR": here, "OVS_DBDIR": here, "HEADGATE_NODE_STATE": str(self.state)}

    def start(self) -> None:
        """Start Open vSwitch and make the interface, with addresses and a route as an administrator has them."""
        netns.create(self.netns)
        with netns.inside(self.netns):
            links.quiet_namespace()
        self.run("ip", "link", "add", UPLINK, "address", "0a:58:c0:00:02:07", "type", "veth", "peer", "name", "wire")
        for name in (UPLINK, "wire"):
            self.run("ip", "link", "set", name, "up")
        self.run("ip", "addr", "add", "192.0.2.7/24", "dev", UPLINK)
        self.run("ip", "addr", "add", "2001:db8:2::7/64", "dev", UPLINK, "nodad")
        self.run("ip", "route", "add", "default", "via", "192.0.2.1", "dev", UPLINK)
        process.run_program([program("ovsdb-tool"), "create", f"{self.folder}/conf.db", ovs_schema()])
        database = [f"--remote=punix:{self.folder}/db.sock", f"{self.folder}/conf.db"]
        # As the packages start it: managers are in the database, and so are the files for TLS with them.
        column = "db:Open_vSwitch,SSL"
        tls = [f"--private-key={column},private_key", f"--certificate={column},certificate"]
        tls += [f"--ca-cert={column},ca_cert"]
        self._daemon("ovsdb-server", [*database, "--remote=db:Open_vSwitch,Open_vSwitch,manager_options", *tls])
        self.vsctl("--no-wait", "init")
        self.start_switch()

    def start_switch(self) -> None:
        """Start ovs-vswitchd, again after its end."""
        self._daemon("ovs-vswitchd", [f"unix:{self.folder}/db.sock"])

    def stop(self) -> None:
        process.end(self.folder)
        netns.remove(self.netns)
        shutil.rmtree(self.folder)

    def _daemon(self, name: str, arguments: list[str]) -> None:
        command = [program(name), "--detach", f"--pidfile={self.folder}/{name}.pid", "-vconsole:off", "-vsyslog:off"]
        command += [f"--log-file={self.folder}/{name}.log", *arguments]
        log = self.folder / f"{name}.out"
        started = process.start(self.folder, name, command, netns=self.netns, env=self.env, log=log)
        assert started.wait() == 0, log.read_text()

    def script(self, path: Path, *arguments: str, given: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        """Run a script on the machine, `given` on its standard input; the caller looks at how it ended."""
        return self._call([str(path), *arguments], more, given)

    def run(self, *command: str) -> str:
        """Run a program on the machine and return what it printed."""
        done = self._call(list(command), {})
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def vsctl(self, *arguments: str) -> str:
        return self.run(program("ovs-vsctl"), "--timeout=30", *arguments)

    def _call(self, command: list[str], more: Mapping[str, str], given: str = "") -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **self.env, **more}
        with netns.inside(self.netns):
            return subprocess.run(
                command, env=env, input=given, capture_output=True, text=True, check=False, timeout=120
            )

    def everything(self) -> dict[str, str]:
        """All that the scripts may change, as text to compare."""
        found = {table: self.vsctl(f"--columns={columns}", "list", table) for table, columns in COLUMNS.items()}
        found["addresses"] = self.run("ip", "-o", "addr", "show", "scope", "global")
        found["routes"] = self.run("ip", "-4", "route", "show", "table", "main")
        found["hardware"] = self.run("ip", "-br", "link", "show", "type", "veth")
        return {name: "\n".join(sorted(text.splitlines())) for name, text in found.items()}
