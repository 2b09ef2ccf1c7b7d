"""A fleet for measurements: many nodes on one machine, with real switches and real OVSDBs.

All bridges are in one ovs-vswitchd, of the dummy datapath; each node has an ovsdb-server of its own, because a node's
name is in its OVSDB. The node's ports are in that OVSDB only: a flow names its port by number, so that the switch keeps
and compares the same flows without 50,000 devices. Nothing is measured here.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import socket
import subprocess
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.fleet_objects import FleetObjects
from bench.openvswitch import PrivateSwitch
from bench.result import cpu_of
from bench.worlds import (
    ApiObject,
    label_selector,
    namespace_manifest,
    node_manifest,
    pod_manifest,
    policy_manifest,
)
from controller.ovsdb.bridge_settings import INACTIVITY_PROBE

APPS = 10  # in each namespace
EVERYWHERE = "everywhere"  # a namespace with one pod on each node
BRIDGES_AT_ONCE = 25
START_SECONDS = 60.0
REPLY_SECONDS = 60.0
_DATABASE = "Open_vSwitch"


class NodeDatabase:
    """The ovsdb-server of one node: bridge `br-int` with a port for each pod."""

    def __init__(self, folder: Path, number: int, empty: Path, controllers: Sequence[str]) -> None:
        self.folder = folder
        folder.mkdir()
        shutil.copy(empty, folder / "conf.db")
        self._socket = str(folder / "db.sock")
        self._numbers = itertools.count(1)
        quiet = subprocess.DEVNULL
        managers = f"db:{_DATABASE},{_DATABASE},manager_options"
        self._process = subprocess.Popen(
            ["ovsdb-server", "--no-chdir", "-vconsole:off", f"--unixctl={folder}/ctl", f"--remote=punix:{self._socket}",
             f"--remote={managers}", f"{folder}/conf.db"], stdin=quiet, stdout=quiet, stderr=quiet,
        )  # fmt: skip
        self.number = number
        self._controllers = controllers
        self.ofports = itertools.count(1)
        self.ports: dict[str, int] = {}  # ofport by pod

    def await_start(self) -> None:
        """Wait until it answers. Raises RuntimeError."""
        deadline = time.monotonic() + START_SECONDS
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("ovsdb-server did not start")
            time.sleep(0.01)

    def _listens(self) -> bool:
        """The socket is there before anybody listens at it."""
        with socket.socket(socket.AF_UNIX) as connection:
            return connection.connect_ex(self._socket) == 0

    def create(self, pods: list[str]) -> None:
        """Fill the empty database: the node's name, the bridge, the ports of these pods, and whom to connect to."""
        node = f"node-{self.number}"
        bridge = {
            "name": "br-int", "datapath_type": "dummy", "fail_mode": "secure", "datapath_id": f"{self.number + 1:016x}",
            "ports": ["set", []],
        }  # fmt: skip
        root = {
            "bridges": ["set", [["named-uuid", "bridge"]]], "ovs_version": "3.1.0",
            "external_ids": ["map", [["hostname", node], ["system-id", node]]],
            "manager_options": ["set", [["named-uuid", f"m{place}"] for place in range(len(self._controllers))]],
        }  # fmt: skip
        managers = (
            {"op": "insert", "table": "Manager", "uuid-name": f"m{place}",
             "row": {"target": one, "connection_mode": "out-of-band", "inactivity_probe": INACTIVITY_PROBE}}
            for place, one in enumerate(self._controllers)
        )  # fmt: skip
        self.transact(
            {"op": "insert", "table": "Open_vSwitch", "row": root},
            {"op": "insert", "table": "Bridge", "row": bridge, "uuid-name": "bridge"},
            *managers,
        )
        self.add_ports(pods)

    def add_ports(self, pods: list[str]) -> None:
        """Add a port for each of these pods (`namespace/name`)."""
        operations: list[dict[str, Any]] = []
        for place, pod in enumerate(pods):
            ofport = self.ports[pod] = next(self.ofports)
            interface = {
                "name": f"p{ofport}", "type": "dummy", "ofport": ofport, "external_ids": _external_ids(pod, ofport)
            }  # fmt: skip
            port = {"name": f"p{ofport}", "interfaces": ["named-uuid", f"i{place}"]}
            operations += [
                {"op": "insert", "table": "Interface", "row": interface, "uuid-name": f"i{place}"},
                {"op": "insert", "table": "Port", "row": port, "uuid-name": f"o{place}"},
            ]
        ports = ["set", [["named-uuid", f"o{place}"] for place in range(len(pods))]]
        operations.append(
            {"op": "mutate", "table": "Bridge", "where": [], "mutations": [["ports", "insert", ports]]},
        )
        self.transact(*operations)

    def remove_port(self, pod: str) -> None:
        """Remove a pod's port."""
        name = f"p{self.ports.pop(pod)}"
        found = self.transact({"op": "select", "table": "Port", "where": [["name", "==", name]], "columns": ["_uuid"]})
        uuid = found[0]["rows"][0]["_uuid"]
        mutations = [["ports", "delete", ["set", [uuid]]]]
        self.transact({"op": "mutate", "table": "Bridge", "where": [], "mutations": mutations})

    def await_installed(self, pod: str, seconds: float) -> None:
        """Wait until a pod's port is marked as installed. Raises RuntimeError."""
        ofport = self.ports[pod]
        ids = _external_ids(pod, ofport)
        ids[1].append(["headgate-installed", "true"])
        self.transact(
            {"op": "wait", "table": "Interface", "where": [["name", "==", f"p{ofport}"]], "columns": ["external_ids"],
             "until": "==", "rows": [{"external_ids": ids}], "timeout": round(1e3 * seconds)},
            seconds=seconds + 5,
        )  # fmt: skip

    def transact(self, *operations: dict[str, Any], seconds: float = REPLY_SECONDS) -> list[dict[str, Any]]:
        """One transaction; returns its results. Raises RuntimeError with the first error."""
        number = next(self._numbers)
        request = {"id": number, "method": "transact", "params": [_DATABASE, *operations]}
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(seconds)
            connection.connect(self._socket)
            connection.sendall(json.dumps(request).encode())
            results = _reply(connection, number)
        for one in results:
            if one and one.get("error"):
                raise RuntimeError(f"OVSDB: {one['error']} {one.get('details', '')}")
        return results

    def cpu(self) -> float:
        """The CPU seconds of the process so far."""
        return cpu_of(self._process.pid)

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def _external_ids(pod: str, ofport: int) -> list[Any]:
    mac = f"02:00:00:00:{ofport >> 8 & 255:02x}:{ofport & 255:02x}"
    return ["map", [["attached-mac", mac], ["iface-id", pod]]]


def _reply(connection: socket.socket, number: int) -> list[dict[str, Any]]:
    """The result of a request; the server's own requests in between are answered."""
    decoder, text = json.JSONDecoder(), ""
    while True:
        with contextlib.suppress(json.JSONDecodeError):
            message, end = decoder.raw_decode(text)
            text = text[end:].lstrip()
            if message.get("method") == "echo":
                answer = {"id": message["id"], "result": message["params"], "error": None}
                connection.sendall(json.dumps(answer).encode())
            elif message.get("id") == number:
                if message["error"]:
                    raise RuntimeError(f"OVSDB: {message['error']}")
                found: list[dict[str, Any]] = message["result"]
                return found
            continue
        data = connection.recv(1 << 16)
        if not data:
            raise RuntimeError("the OVSDB closed the connection")
        text += data.decode()


class Fleet:
    """`nodes` nodes with `pods` pods each, as a context manager; `objects` gets what they are, and their policies.

    Pod i of node n is in namespace (n * pods + i) % nodes, so that the pods of a namespace are on many nodes; pod 0 is
    in `everywhere`. `ovsdb` and `openflow` are the addresses of all controllers.
    """

    def __init__(
        self,
        nodes: int,
        pods: int,
        folder: Path,
        objects: FleetObjects,
        ovsdb: Sequence[str],
        openflow: Sequence[str],
    ) -> None:
        self.nodes = nodes
        self.objects = objects
        self._folder = folder
        self._ovsdb, self._openflow = ovsdb, openflow
        self._switch = PrivateSwitch(bridges=0)
        self.databases: list[NodeDatabase] = []
        self.pods: list[dict[str, ApiObject]] = [{} for _ in range(nodes)]  # of each node, by `namespace/name`
        self._addresses = itertools.count(1)
        for node in range(nodes):
            for place in range(pods):
                number = node * pods + place
                space = f"namespace-{number % nodes}" if place else EVERYWHERE
                self.new_pod(node, space, f"pod-{number}", f"app-{number // nodes % APPS}")

    def __enter__(self) -> Fleet:
        try:
            self._switch.__enter__()
            self._begin_world()
            self._start_databases()
            for first in range(0, self.nodes, BRIDGES_AT_ONCE):
                self.add_bridges(range(first, min(first + BRIDGES_AT_ONCE, self.nodes)))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for database in self.databases:
            database.stop()
        self._switch.__exit__()

    def _start_databases(self) -> None:
        empty = self._folder / "empty.db"
        self._switch.run("ovsdb-tool", "create", str(empty), "/usr/share/openvswitch/vswitch.ovsschema")
        for node in range(self.nodes):
            self.databases.append(NodeDatabase(self._folder / f"node-{node}", node, empty, self._ovsdb))
        for node, database in enumerate(self.databases):
            database.await_start()
            database.create(list(self.pods[node]))

    def cpu(self) -> tuple[float, float]:
        """The CPU seconds so far of the switch, and of the nodes' OVSDBs."""
        return self._switch.cpu(), sum(database.cpu() for database in self.databases)

    # -- switches ------------------------------------------------------------------------------------------------------

    def add_bridges(self, nodes: range) -> None:
        """Add the bridges of these nodes, without flows; they connect to the controller."""
        command: list[str] = []
        for node in nodes:
            name = f"br{node}"
            command += ["--", "add-br", name, "--", "set", "Bridge", name, "datapath_type=dummy", "fail_mode=secure",
                        "protocols=OpenFlow14", f"other_config:datapath-id={node + 1:016x}",
                        "other_config:disable-in-band=true"]  # fmt: skip
            for place, target in enumerate(self._openflow):  # as deploy/node.sh does
                row = f"@{name}-{place}"
                command += ["--", f"--id={row}", "create", "Controller", f'target="{target}"',
                            "connection_mode=out-of-band", f"inactivity_probe={INACTIVITY_PROBE}",
                            "--", "add", "Bridge", name, "controller", row]  # fmt: skip
        self._switch.vsctl("--no-wait", *command[1:])

    def reboot(self, node: int) -> None:
        """A node's switch loses its flows and its connection, and connects anew."""
        self._switch.vsctl("del-br", f"br{node}")
        self.add_bridges(range(node, node + 1))

    # -- objects -------------------------------------------------------------------------------------------------------

    def new_pod(self, node: int, space: str, name: str, app: str) -> str:
        """Add a pod to the objects of a node; returns it as `namespace/name`."""
        pod = pod_manifest(space, name, next(self._addresses), 1, {"app": app})
        pod["spec"]["nodeName"] = f"node-{node}"
        self.pods[node][f"{space}/{name}"] = pod
        return f"{space}/{name}"

    def _begin_world(self) -> None:
        spaces = [f"namespace-{n}" for n in range(self.nodes)]
        world = [*map(namespace_manifest, [EVERYWHERE, *spaces]), *map(node_manifest, range(self.nodes))]
        for space in spaces:
            world.append(policy_manifest(space, "default-deny", {}, policyTypes=["Ingress"]))
            world += [_between(space, app, 8080) for app in range(APPS)]
        self.objects.begin([*world, _everywhere(80)], self.pods)

    def change_everywhere(self, port: int) -> None:
        """Change the policy that concerns all nodes."""
        self.objects.set_policy(_everywhere(port))

    def subjects(self) -> dict[tuple[str, int], set[int]]:
        """The nodes that have pods of each app, by its namespace and number, where its policy has peers."""
        found: dict[tuple[str, int], set[int]] = defaultdict(set)
        for node, pods in enumerate(self.pods):
            for key, pod in pods.items():
                if not key.startswith(f"{EVERYWHERE}/"):
                    app = int(pod["metadata"]["labels"]["app"].removeprefix("app-"))
                    found[key.partition("/")[0], app].add(node)
        return {(space, app): nodes for (space, app), nodes in found.items() if (space, _peer(app)) in found}

    def change_policy(self, space: str, app: int, port: int) -> None:
        """Change the policy of an app of a namespace."""
        self.objects.set_policy(_between(space, app, port))


def _everywhere(port: int) -> ApiObject:
    """Every pod of `everywhere` lets all others in at a port."""
    rule = {"from": [{"podSelector": {}}], "ports": [{"port": port}]}
    return policy_manifest(EVERYWHERE, "all", {}, ingress=[rule])


def _peer(app: int) -> int:
    """The app whose pods reach those of an app."""
    return (app + 1) % APPS


def _between(space: str, app: int, port: int) -> ApiObject:
    rule = {"from": [{"podSelector": label_selector(app=f"app-{_peer(app)}")}], "ports": [{"port": port}]}
    return policy_manifest(space, f"app-{app}", label_selector(app=f"app-{app}"), ingress=[rule])
