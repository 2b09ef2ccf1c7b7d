"""A machine that becomes a node of Headgate's own network: its files stay in the machine's folder.

The caller writes into the OVSDB what the controller writes there.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.deploy.machine import NODE, UNDO, Machine
from tests.helpers.lab.datapath_choice import DATAPATH_TYPE, datapath

PLUGINS = [Path("/usr/lib/cni"), Path("/opt/cni/bin")]
FACTS = {
    "headgate-network": "overlay",
    "headgate-encap": "geneve",
    "headgate-pod-cidrs": "10.244.1.0/24,fd00:10:244:1::/64",
    "headgate-cluster-cidrs": "10.244.0.0/16,fd00:10:244::/56",
    "headgate-service-cidrs": "10.96.0.0/16,fd00:10:96::/112",
    "headgate-node-ips": "192.0.2.7,2001:db8:2::7",
    "headgate-mtu": "1442",
    "headgate-node-ports": "30000-32767",
    "headgate-revision": "r1",
}
SYSCTLS = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")


class CniNode:
    """A machine with the standard plugins, whose files of the node go into the machine's own folder."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.bin = machine.folder / "bin"
        self.conf = machine.folder / "net.d"
        self.sbin = machine.folder / "sbin"
        self.run_dir = machine.folder / "run"
        self.list = self.conf / "10-headgate.conflist"
        self.env = {
            "CNI_BIN_DIR": str(self.bin),
            "CNI_CONF_DIR": str(self.conf),
            "HEADGATE_SBIN_DIR": str(self.sbin),
            "HEADGATE_RUN_DIR": str(self.run_dir),
        }
        self.bin.mkdir(exist_ok=True)
        for name in ("host-local", "portmap"):
            if not (self.bin / name).exists():
                (self.bin / name).symlink_to(next(folder / name for folder in PLUGINS if (folder / name).exists()))

    def setup(self, *options: str, code: int = 0) -> str:
        arguments = ("--datapath", DATAPATH_TYPE, "--controller", "198.51.100.1", "--name", "n1", "--cni", *options)
        done = self.machine.script(NODE, *arguments, **self.env)
        assert done.returncode == code, done.stderr
        return done.stderr

    def undo(self, *options: str) -> None:
        done = self.machine.script(UNDO, *options, **self.env)
        assert done.returncode == 0, done.stderr
        assert not self.machine.state.exists()

    def headgate_node(self, *arguments: str, code: int = 0) -> str:
        done = self.machine.script(self.sbin / "headgate-node", *arguments)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    def write_facts(self, **changed: str) -> None:
        values = {**FACTS, **{f"headgate-{key.replace('_', '-')}": text for key, text in changed.items()}}
        self.machine.vsctl("set", "Bridge", "br-int", *(f'external_ids:{key}="{text}"' for key, text in values.items()))

    def answer(self, key: str) -> str:
        return self.machine.vsctl("--if-exists", "get", "Open_vSwitch", ".", f"external_ids:headgate-node-{key}").strip(
            ' "\n'
        )

    def missing(self) -> str:
        """What the node says is missing, but the way to other nodes, which most tests do not give it."""
        words = [one for one in self.answer("missing").split("; ") if "--underlay" not in one]
        return "; ".join(words)

    def network(self) -> dict[str, str]:
        """All that headgate-node sets in the kernel."""
        run = self.machine.run
        link = "br-int" in run("ip", "-br", "link")
        listed = run("ip", "-br", "addr", "show", "scope", "global")
        return {
            "nft": run("nft", "list", "ruleset"),
            "routes": run("ip", "-4", "route") + run("ip", "-6", "route", "show", "proto", "static"),
            "neighbours": run("ip", "neigh", "show", "dev", "br-int", "nud", "permanent") if link else "",
            "sysctls": " ".join(run("cat", f"/proc/sys/net/{key}").strip() for key in SYSCTLS),
            "addresses": "\n".join(
                sorted(" ".join((name, *nets)) for name, _, *nets in map(str.split, listed.splitlines()) if nets)
            ),
        }

    def files(self) -> list[str]:
        return sorted(
            str(path) for folder in (self.bin, self.conf, self.sbin, self.run_dir) for path in folder.glob("*")
        )


@contextmanager
def made_cni_node() -> Iterator[CniNode]:
    """Up inside the context; skips the test where the machine cannot have it."""
    datapath()
    if not any((folder / "host-local").exists() for folder in PLUGINS):
        pytest.skip("the standard CNI plugins are not installed")
    machine = Machine(Path(tempfile.mkdtemp(prefix="hgn-", dir="/tmp")))
    try:
        machine.start()
        yield CniNode(machine)
    finally:
        for name in ("node.pid", "health.pid"):
            running = machine.folder / "run" / name
            if running.exists():  # the test ended before the undo
                with suppress(ProcessLookupError):
                    os.kill(int(running.read_text()), signal.SIGTERM)
        machine.stop()


def with_controller(node: CniNode) -> None:
    """The bridge stands already, and a controller has written into it."""
    node.machine.vsctl(
        "add-br", "br-int", "--", "set", "Bridge", "br-int", f"datapath_type={DATAPATH_TYPE}", "fail_mode=secure"
    )
    node.write_facts()
