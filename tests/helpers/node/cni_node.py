"""A node to call the CNI plugin on: a network namespace with a real Open vSwitch, containers
as further namespaces, and the plugin as the one file that a node has.

The controller is replaced by a thread that does what the plugin waits for: it marks ports as installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from node.bundle import pack, read_sources
from node.ovsdb import Ovsdb, OvsdbError, as_map, make_map
from tests.helpers.lab.datapath_choice import DATAPATH_TYPE
from tests.helpers.ovs.node import Node
from topology.host import netns

PLUGIN_FOLDERS = "/opt/cni/bin:/usr/lib/cni:/usr/libexec/cni"
FACTS = {
    "headgate-network": "overlay",
    "headgate-pod-cidrs": "10.244.1.0/24 fd00:10:244:1::/64",
    "headgate-mtu": "1450",
    "headgate-revision": "1",
}


class Answer(NamedTuple):
    """What a call of the plugin gave: exit status (negative: the signal that ended it), and its JSON or None."""

    status: int
    result: Any
    errors: str


class StandIn(threading.Thread):
    """Marks pods' ports as installed while `marking` is set."""

    def __init__(self, path: str) -> None:
        super().__init__(name="stand-in", daemon=True)
        self.marking = threading.Event()
        self.marking.set()
        self._path = path
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            with suppress(OvsdbError), Ovsdb(self._path) as ovsdb:
                ovsdb.watch("Interface", [], ["external_ids"])
                while not self._ended.is_set():
                    ovsdb.wait_for_change(time.monotonic() + 0.2)
                    if self.marking.is_set():
                        self._mark(ovsdb)
            self._ended.wait(0.1)

    def _mark(self, ovsdb: Ovsdb) -> None:
        for row in ovsdb.select("Interface", [], ["_uuid", "external_ids"]):
            ids = as_map(row["external_ids"])
            if "headgate-sandbox" in ids and "headgate-installed" not in ids:
                change = ["external_ids", "insert", make_map({"headgate-installed": "true"})]
                where = [["_uuid", "==", row["_uuid"]]]
                ovsdb.transact({"op": "mutate", "table": "Interface", "where": where, "mutations": [change]})

    def stop(self) -> None:
        self._ended.set()
        self.join(10)


class CniNode:
    """One node. The calling thread must be in its namespace (`cni_node` sees to it)."""

    def __init__(self, folder: Path, plugin: Path) -> None:
        self.folder = folder
        self.run_dir = folder / "run"
        self.plugin = plugin
        self.ovs = Node()
        self.controller = StandIn(f"{self.ovs.folder}/db.sock")
        self.containers: dict[str, Path] = {}
        self.add_bridge()

    def add_bridge(self) -> None:
        """Make the bridge, with what the controller writes."""
        settings = [f'external_ids:{key}="{value}"' for key, value in FACTS.items()]
        self.ovs.vsctl("add-br", "br-int", "--", "set", "Bridge", "br-int", f"datapath_type={DATAPATH_TYPE}",
                       "fail_mode=secure", *settings)  # fmt: skip

    def container(self, name: str) -> Path:
        """The network namespace of a container, made when it is first asked for."""
        if name not in self.containers:
            path = self.folder / f"ns-{name}"
            netns.create(path)
            self.containers[name] = path
        return self.containers[name]

    def end_container(self, name: str) -> None:
        netns.remove(self.containers.pop(name))

    def configuration(self, version: str = "1.1.0", **more: object) -> dict[str, object]:
        return {"cniVersion": version, "name": "headgate", "type": "headgate", "ovsdb": f"{self.ovs.folder}/db.sock",
                "runDir": str(self.run_dir), "timeout": 20, **more}  # fmt: skip

    def start(
        self,
        command: str,
        container: str,
        env: Mapping[str, str] | None = None,
        netns_path: str | None = None,
        **more: Any,
    ) -> subprocess.Popen[str]:
        """Start the plugin as a runtime does; `more` are keys of its configuration."""
        path = str(self.container(container)) if netns_path is None else netns_path
        arguments = f"IgnoreUnknown=1;K8S_POD_NAMESPACE=x;K8S_POD_NAME={container};K8S_POD_UID=uid-{container}"
        environment = {"CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_IFNAME": "eth0", "CNI_NETNS": path,
                       "CNI_ARGS": arguments, "CNI_PATH": PLUGIN_FOLDERS, "PATH": os.environ["PATH"],
                       **(env or {})}  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-IS", str(self.plugin)], env=environment, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(json.dumps(self.configuration(**more)))
        process.stdin.close()
        process.stdin = None
        return process

    def call(self, command: str, container: str = "c1", **more: Any) -> Answer:
        """Run a command of the plugin to its end."""
        return finish(self.start(command, container, **more))

    def ports(self) -> list[str]:
        """The ports of the bridge."""
        return self.ovs.vsctl("list-ports", "br-int").split()

    def left(self) -> dict[str, Sequence[str]]:
        """What is on the node of any attachment; all values are empty when nothing is."""
        links = subprocess.run(["ip", "-o", "link"], check=True, capture_output=True, text=True).stdout.splitlines()
        reserved = (self.run_dir / "ipam" / "headgate").glob("*")
        records = (self.run_dir / "attachments").glob("*")
        return {
            "ports": self.ports(),
            "links": [line.split()[1] for line in links if " hgp" in line],
            "addresses": [one.name for one in reserved if one.name != "lock" and not one.name.startswith("last")],
            "records": [one.name for one in records],
        }

    def stop(self) -> None:
        self.controller.stop()
        self.ovs.stop()
        for path in self.containers.values():
            netns.remove(path)


NOTHING: dict[str, Sequence[str]] = {"ports": [], "links": [], "addresses": [], "records": []}


def finish(process: subprocess.Popen[str]) -> Answer:
    """Wait for a call of the plugin."""
    output, errors = process.communicate(timeout=60)
    return Answer(process.returncode, json.loads(output) if output.strip() else None, errors)


def run_ip(place: Path, *words: str) -> Any:
    """ip(8) in a namespace, as JSON."""
    command = ["nsenter", f"--net={place}", "ip", "-j", *words]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout or "[]")


@contextmanager
def cni_node() -> Iterator[CniNode]:
    """A node that ends with the block, the calling thread inside it."""
    with tempfile.TemporaryDirectory(prefix="hgn-") as name:
        folder = Path(name)
        plugin = folder / "headgate"
        plugin.write_bytes(pack(read_sources(), sys.executable, compiled=True))
        netns.create(folder / "node")
        try:
            with netns.inside(folder / "node"):
                subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
                node = CniNode(folder, plugin)
                try:
                    node.controller.start()
                    yield node
                finally:
                    node.stop()
        finally:
            netns.remove(folder / "node")
