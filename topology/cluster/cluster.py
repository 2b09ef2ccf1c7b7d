"""A cluster: brings it up and down. The interface for the command line and tests.

A cluster has one folder, CLUSTERS_FOLDER/NAME. Its processes are marked with that folder, its network namespaces are
bound to files in it, and its control groups have its name; so `down` finds all of it, also after a crash.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from topology.cluster import cgroups
from topology.cluster.control_plane import ControlPlane
from topology.cluster.files import find_files
from topology.cluster.kubectl import Kubectl
from topology.cluster.names import CLUSTERS_FOLDER, CONTROL, DEFAULT_NAME, MAX_NODES, POD_CIDRS, STATUS_PORT, NodeName
from topology.cluster.needs import require_cluster_support
from topology.cluster.node import DAEMONS, ClusterNode
from topology.cluster.reach import OUTSIDE, connect_command, from_here
from topology.errors import LabError
from topology.host import netns, process
from topology.host.machine import Datapath, DatapathChoice, choose_datapath
from topology.lab.product import free_port, headgate_command
from topology.lab.state import lab_locked

HEADGATE_ROLE = "headgate"
READY_SECONDS = 120.0
_RIGHTS = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes" / "rbac.yaml"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class ClusterState:
    """The state of a cluster: its datapath and nodes, and where API server and `headgate run` answer on the loopback.
    `ready` is False until it is up completely."""

    datapath: Datapath
    nodes: int
    api_port: int
    status_port: int
    ready: bool = False


class Cluster:
    """One cluster. The constructor starts nothing: `up` starts it, `Cluster.load` gives one that is up."""

    def __init__(
        self, name: str = DEFAULT_NAME, base: Path = CLUSTERS_FOLDER, state: ClusterState | None = None
    ) -> None:
        self.name = name
        self.base = base
        self.folder = base / name
        self.state = state

    @classmethod
    def load(cls, name: str = DEFAULT_NAME, base: Path = CLUSTERS_FOLDER) -> Cluster:
        """The running cluster of that name. Raises LabError if there is none."""
        found = cls(name, base)._read_state()
        if found is None or not found.ready:
            raise LabError(f"no cluster {name} is up: run `make cluster`, or `headgate lab cluster up`")
        return cls(name, base, found)

    @property
    def current(self) -> ClusterState:
        """The state. Raises LabError before `up`."""
        if self.state is None:
            raise LabError(f"the cluster {self.name} is not up")
        return self.state

    @property
    def control(self) -> ControlPlane:
        """The control plane."""
        return ControlPlane(self.folder, find_files())

    @property
    def nodes(self) -> list[ClusterNode]:
        """The nodes, those that are down included."""
        return [self.node(number) for number in range(1, self.current.nodes + 1)]

    def node(self, number: int) -> ClusterNode:
        """A node by its number, from 1."""
        return ClusterNode(self.control, NodeName(number), self.name, self.current.datapath)

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig for any shell of this machine."""
        return self.folder / "kubeconfig"

    @property
    def kubectl(self) -> Kubectl:
        """kubectl for this cluster."""
        return Kubectl(self.control.files.program("kubectl"), self.kubeconfig)

    @property
    def server(self) -> str:
        """The URL for `headgate --server`."""
        return f"http://127.0.0.1:{self.current.status_port}"

    def connects(self, source: str, host: str, port: int) -> bool:
        """Whether a node, or the machine outside, opens a connection (`topology.cluster.reach`)."""
        if source == OUTSIDE:
            with netns.inside(self.control.netns):
                return from_here(source, host, port)
        node = next(one for one in self.nodes if one.name == source)
        return node.run(*connect_command(host, port)).returncode == 0

    # Up and down

    def up(self, nodes: int = 2, datapath: DatapathChoice = "auto", progress: Progress = lambda _: None) -> bool:
        """Bring the cluster up; returns False if it was up already. Remains of an earlier one are removed first.

        On any error it is removed again, but for its logs' end in the message. Raises LabError.
        """
        if not 1 <= nodes <= MAX_NODES:
            raise LabError(f"a cluster has 1 to {MAX_NODES} nodes")
        with lab_locked(self.base, self.name):
            found = self._read_state()
            if found is not None and found.ready and process.find(self.folder, "kube-apiserver"):
                self.state = found
                return False
            chosen = choose_datapath(datapath)
            require_cluster_support(chosen)
            self._remove()
            self.state = ClusterState(chosen, nodes, free_port(), free_port())
            try:
                self._make(progress)
            except BaseException as error:  # also after an interrupt nothing must remain
                words = self._log_ends() if isinstance(error, LabError) else ""
                self._remove()
                if words:
                    raise LabError(f"{error}\n{words}") from error
                raise
            self.state = dataclasses.replace(self.current, ready=True)
            self._save_state()
            return True

    def down(self) -> bool:
        """Remove the cluster, or what is left of it; returns whether there was anything."""
        with lab_locked(self.base, self.name):
            there = self.folder.exists() or bool(process.find(self.folder))
            self._remove()
            return there

    def _make(self, progress: Progress) -> None:
        self.folder.mkdir(parents=True)
        (self.folder / "netns").mkdir()
        (self.folder / "log").mkdir()
        self._save_state()
        progress("unpacking programs and images")
        control = self.control
        progress("starting the control plane")
        control.make([NodeName(number) for number in range(1, MAX_NODES + 1)], self.current.api_port)
        control.start()
        self._start_relay()
        self.kubectl.run("apply", "-f", str(_RIGHTS))
        progress("starting headgate run --network overlay")
        self.start_headgate()
        progress(f"starting {self.current.nodes} nodes ({self.current.datapath} datapath)")
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(self.start_node, self.nodes))
        progress("waiting until all nodes are ready")
        self.wait_ready()

    def start_node(self, node: ClusterNode, new: bool = True) -> None:
        """Start a node with all its daemons, as a machine boots; a `new` one gets images and joins, too."""
        if new:
            node.make()
        node.boot()
        for name in DAEMONS:
            node.start_daemon(name)
            if new and name == "containerd":
                node.load_images()
        # Also at a boot: there is no systemd that would run the unit.
        node.join()

    def add_node(self) -> ClusterNode:
        """Add one more node to the running cluster. Raises LabError."""
        if self.current.nodes == MAX_NODES:
            raise LabError(f"a cluster has at most {MAX_NODES} nodes")
        self.state = dataclasses.replace(self.current, nodes=self.current.nodes + 1)
        self._save_state()
        added = self.node(self.current.nodes)
        self.start_node(added)
        return added

    def remove_node(self) -> None:
        """Remove the last node: its machine, then its Node object."""
        last = self.node(self.current.nodes)
        self.control.lead_away(last.addresses)
        last.shut_down()
        shutil.rmtree(last.folder)
        self.kubectl.run("delete", "node", last.name)
        self.state = dataclasses.replace(self.current, nodes=self.current.nodes - 1)
        self._save_state()

    def start_headgate(self) -> None:
        """Start `headgate run` in the control plane's namespace."""
        listen = [f"--{what}-listen=tcp:{CONTROL[0]}:{port}" for what, port in (("ovsdb", 6640), ("openflow", 6653))]
        ranges = [f"--pod-cidr={cidr}" for cidr in POD_CIDRS]
        command = [*headgate_command(), "run", f"--kubeconfig={self.control.kubeconfig('headgate')}",
                   "--network=overlay", *ranges, *listen, f"--http=127.0.0.1:{STATUS_PORT}"]  # fmt: skip
        process.start(self.folder, HEADGATE_ROLE, command, netns=self.control.netns, env=process.python_path(),
                      log=self.folder / "log" / "headgate.log")  # fmt: skip

    def stop_headgate(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End `headgate run`."""
        process.end(self.folder, HEADGATE_ROLE, how)

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until all nodes are Ready, and the API server reaches their pods, as its proxy and webhooks do. Raises
        LabError that says which is not, and why."""
        names, deadline = {node.name for node in self.nodes}, time.monotonic() + seconds
        while True:
            waiting = names - set(self._ready_nodes())
            if not waiting:
                break
            if time.monotonic() > deadline:
                raise LabError(f"not Ready after {seconds:g} s: {', '.join(sorted(waiting))}\n{self._why()}")
            time.sleep(0.3)
        for node in self.nodes:
            cidrs = self.kubectl.get("node", node.name)["spec"]["podCIDRs"]
            self.control.lead_to(cidrs, node.addresses)

    def _ready_nodes(self) -> list[str]:
        path = '{range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}'
        done = self.kubectl.call("get", "nodes", "-o", f"jsonpath={path}")
        return [line.split()[0] for line in done.stdout.splitlines() if line.endswith(" True")]

    def _why(self) -> str:
        nodes = self.kubectl.call("describe", "nodes").stdout
        reasons = [line.strip() for line in nodes.splitlines() if line.strip().startswith("Ready ")]
        return "\n".join(reasons)

    def _start_relay(self) -> None:
        """Let any shell of this machine reach API server and `headgate run`, without an interface in its namespace."""
        here, control = self.folder / "netns" / "machine", self.control.netns
        netns.keep_own(here)
        ways = [((CONTROL[0], 6443), self.current.api_port), (("127.0.0.1", STATUS_PORT), self.current.status_port)]
        job = [{"netns": str(here), "listen": ["127.0.0.1", port], "to": list(to)} for to, port in ways]
        path = self.folder / "relay.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        with netns.inside(control):
            process.start_python(
                self.folder, "relay", "topology.lab.relay", [str(path)], self.folder / "log" / "relay.log"
            )

    def _remove(self) -> None:
        process.end(self.folder, how=signal.SIGKILL)  # what a node has on its disk goes, too
        for path in (self.folder / "netns").glob("*"):
            netns.remove(path)
        cgroups.remove(cgroups.group_name(self.name, ""))
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.state = None

    def _log_ends(self) -> str:
        """The last lines of every log, for a message: the files go."""
        found = []
        for path in sorted((self.folder / "log").glob("*.log")):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
            found += [f"  {path.name}: {line[:300]}" for line in lines]
        return "\n".join(found)

    def _save_state(self) -> None:
        partial = self.folder / ".state"
        partial.write_text(json.dumps(dataclasses.asdict(self.current)), encoding="utf-8")
        partial.replace(self.folder / "state.json")

    def _read_state(self) -> ClusterState | None:
        try:
            return ClusterState(**json.loads((self.folder / "state.json").read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None
