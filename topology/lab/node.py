"""One node: its namespace, its ovsdb-server and ovs-vswitchd, its bridge with the uplink and the node's own port.

Neither pods nor flows belong here: the bridge is created as an operator would do it, and drops everything
(`fail_mode=secure`) until a controller has programmed it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from topology.errors import LabError
from topology.host import links, netns, process
from topology.host.machine import Datapath, ovs_schema, program
from topology.spec.address import LabEndpoint

LAB_BRIDGE = "br-int"
UPLINK = "uplink"
SOCKET_PATH_LIMIT = 100


@dataclass(frozen=True)
class NodeSwitch:
    """A node of a lab. `folder` is the lab's, `prefixes` the prefix length of each address family."""

    folder: Path
    name: str
    endpoint: LabEndpoint
    prefixes: Mapping[int, int]
    mtu: int
    datapath: Datapath

    @property
    def netns(self) -> Path:
        """The file that the node's network namespace is bound to."""
        return self.folder / "netns" / self.endpoint.netns

    @property
    def home(self) -> Path:
        """The folder of the node's Open vSwitch: sockets, logs, database."""
        return self.folder / "nodes" / self.name

    @property
    def ovsdb(self) -> str:
        """The address of the node's OVSDB, as in ovs-vsctl --db."""
        return f"unix:{self.home}/db.sock"

    @property
    def management(self) -> str:
        """The socket for `ovs-ofctl dump-flows` on the node's bridge."""
        return f"unix:{self.home}/{LAB_BRIDGE}.mgmt"

    @property
    def env(self) -> dict[str, str]:
        """Environment variables that make Open vSwitch's programs use this node's folder."""
        return {"OVS_RUNDIR": str(self.home), "OVS_LOGDIR": str(self.home), "OVS_DBDIR": str(self.home)}

    def make(self, underlay: Path, underlay_port: str) -> None:
        """Start the node: namespace, uplink into the namespace `underlay`, switch, bridge, addresses."""
        if len(f"{self.home}/ovs-vswitchd.9999999.ctl") > SOCKET_PATH_LIMIT:
            raise LabError(f"the path {self.home} is too long for a socket; choose a shorter run folder or lab name")
        self.home.mkdir(parents=True)
        netns.create(self.netns)
        with netns.inside(self.netns):
            links.quiet_namespace()
            links.switch_ports_only()
            links.make_veth(UPLINK, underlay_port, underlay, self.mtu)
            links.checksums_in_software(UPLINK)
        with netns.inside(underlay):
            links.add_to_bridge(underlay_port, "underlay")
        process.run_program([program("ovsdb-tool"), "create", str(self.home / "conf.db"), ovs_schema()], self.env)
        self.start_database()
        self.vsctl(["--no-wait", "init"])
        self.vsctl(["--no-wait", *self._bridge_commands()])
        self.start_switch()

    def start_database(self) -> None:
        """Start the node's ovsdb-server."""
        arguments = [
            "--remote=punix:" + str(self.home / "db.sock"),
            "--remote=db:Open_vSwitch,Open_vSwitch,manager_options",
        ]
        self._start("ovsdb-server", [*arguments, str(self.home / "conf.db")])

    def start_switch(self) -> None:
        """Start the node's ovs-vswitchd, wait for the bridge, and set the addresses of the node's port.

        Also needed after `stop_switch`: with the userspace datapath the node's port is a tap device that ends with the
        process.
        """
        self._start("ovs-vswitchd", [self.ovsdb])
        self.vsctl(["set", "Open_vSwitch", ".", f"external_ids:hostname={self.name}"])
        with netns.inside(self.netns):
            links.configure_interface(LAB_BRIDGE, self.endpoint.addresses, self.prefixes, self.mtu)

    def stop_switch(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the node's ovs-vswitchd."""
        process.end(self.folder, f"{self.name}/ovs-vswitchd", how)

    def vsctl(self, arguments: Sequence[str]) -> str:
        """Run ovs-vsctl on the node's database. Raises LabError."""
        return process.run_program([program("ovs-vsctl"), f"--db={self.ovsdb}", "--timeout=30", *arguments], self.env)

    def ofctl(self, command: str, *arguments: str) -> str:
        """Run ovs-ofctl with `command` on the node's bridge. Raises LabError."""
        return process.run_program(
            [program("ovs-ofctl"), "-OOpenFlow14", command, self.management, *arguments], self.env
        )

    def appctl(self, *arguments: str) -> str:
        """Run ovs-appctl on the node's ovs-vswitchd. Raises LabError."""
        return process.run_program([program("ovs-appctl"), "--target=ovs-vswitchd", *arguments], self.env)

    def _bridge_commands(self) -> list[str]:
        kind = "netdev" if self.datapath == "userspace" else "system"
        commands = [
            "set",
            "Open_vSwitch",
            ".",
            f"external_ids:hostname={self.name}",
            f"external_ids:system-id={self.name}",
        ]
        commands += [
            "--",
            "add-br",
            LAB_BRIDGE,
            "--",
            "set",
            "Bridge",
            LAB_BRIDGE,
            f"datapath_type={kind}",
            "fail_mode=secure",
        ]
        commands += [f'other_config:hwaddr="{self.endpoint.mac}"', "other_config:disable-in-band=true"]
        commands += ["protocols=[OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15]"]
        commands += ["--", "set", "Interface", LAB_BRIDGE, f"mtu_request={self.mtu}"]
        commands += ["--", "add-port", LAB_BRIDGE, UPLINK]
        commands += ["--", "set", "Interface", UPLINK, "external_ids:headgate-role=uplink"]
        return commands

    def _start(self, name: str, arguments: Sequence[str]) -> None:
        """Start one of the two daemons; it detaches itself once it is ready."""
        log = self.home / f"{name}.log"
        command = [program(name), "--detach", f"--pidfile={self.home / name}.pid", f"--log-file={log}", *arguments]
        command += ["-vconsole:off", "-vsyslog:off"]
        role = f"{self.name}/{name}"
        output = self.home / f"{name}.out"
        code = process.start(self.folder, role, command, netns=self.netns, env=self.env, log=output).wait()
        if code != 0:
            raise LabError(f"{role} did not start: {output.read_text(encoding='utf-8').strip()} (see {log})")


def is_running(folder: Path, name: str) -> bool:
    """Whether both of the node's daemons run."""
    roles = {found.role for found in process.find(folder) if os.path.exists(f"/proc/{found.pid}")}
    return {f"{name}/ovsdb-server", f"{name}/ovs-vswitchd"} <= roles
