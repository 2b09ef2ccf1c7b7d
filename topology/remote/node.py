"""One node of a topology on this machine: its pods on an existing bridge, with their servers.

The operator creates the bridge (deploy/node.sh does); only ports of pods are added and removed here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from topology.errors import LabError
from topology.host import netns, process
from topology.host.machine import program
from topology.lab import state
from topology.lab.node import LAB_BRIDGE
from topology.lab.pod import PodLink, attach_pods, detach_pods
from topology.lab.state import LABS_FOLDER
from topology.probe import client
from topology.probe.matrix import LabProbe, Matrix
from topology.spec.address import LabEndpoint, plan_endpoints
from topology.spec.model import LabPod, LabPort, Topology

SERVERS = "servers"


class MachineNode:
    """The pods of the node `name` of a topology on this machine, or the machine as the external `name`."""

    def __init__(self, topology: Topology, name: str, base: Path = LABS_FOLDER, bridge: str = LAB_BRIDGE) -> None:
        self.topology = topology
        self.name = name
        self.bridge = bridge
        self.base = base
        self.folder = base / topology.name
        self.endpoints: dict[str, LabEndpoint] = plan_endpoints(topology)
        self.itself = next((end for end in (f"node:{name}", f"external:{name}") if end in self.endpoints), "")
        if not self.itself:
            raise LabError(f"the topology {topology.name} has neither a node nor an external {name}")

    @property
    def netns_folder(self) -> Path:
        """The folder of the files that the network namespaces are bound to, the machine's own included."""
        return self.folder / "netns"

    @property
    def own_pods(self) -> tuple[LabPod, ...]:
        """The pods of this node."""
        return tuple(pod for pod in self.topology.pods if f"node:{pod.node}" == self.itself)

    def up(self) -> bool:
        """Create the pods and start the servers; returns False if they exist. After an error nothing remains."""
        with state.lab_locked(self.base, self.topology.name):
            if process.find(self.folder, SERVERS):
                return False
            self._remove()
            try:
                self._make()
            except BaseException:  # an interrupt, too, must leave nothing behind
                self._remove()
                raise
            return True

    def down(self) -> bool:
        """Remove what `up` created, or what is left of it; returns whether there was anything."""
        with state.lab_locked(self.base, self.topology.name):
            there = self.folder.exists() or bool(process.find(self.folder))
            self._remove()
            return there

    def is_here(self, probe: LabProbe) -> bool:
        """Whether the probe starts on this machine."""
        return probe.source == self.itself or any(probe.source == pod.key for pod in self.own_pods)

    def run_probes(
        self,
        probes: Iterable[LabProbe],
        patience: Sequence[float] = client.PROBE_PATIENCE,
        expected: client.Expectation | None = None,
    ) -> Matrix:
        """Run those of the probes that start on this machine."""
        own = [probe for probe in probes if self.is_here(probe)]
        return client.run_probes(own, self.endpoints, self.netns_folder, patience, expected)

    def vsctl(self, arguments: Sequence[str]) -> str:
        """Run ovs-vsctl on the machine's own Open vSwitch. Raises LabError."""
        return process.run_program([program("ovs-vsctl"), "--timeout=60", *arguments])

    def _make(self) -> None:
        self.netns_folder.mkdir(parents=True)
        netns.keep_own(self.netns_folder / self.endpoints[self.itself].netns)
        prefixes = {4: self.topology.subnets.ipv4.prefixlen, 6: self.topology.subnets.ipv6.prefixlen}
        # The UIDs of the pods' objects are not known here.
        links = [PodLink(self.endpoints[pod.key], "") for pod in self.own_pods]
        attach_pods(links, self.netns_folder, None, self.bridge, self.vsctl, prefixes, self.topology.mtu)
        served: dict[str, Sequence[LabPort]] = {pod.key: self.topology.served(pod) for pod in self.own_pods}
        externals = {f"external:{item.name}": self.topology.served(item) for item in self.topology.externals}
        served[self.itself] = externals.get(self.itself, self.topology.ports)
        self._serve(served)

    def _serve(self, ports: Mapping[str, Sequence[LabPort]]) -> None:
        job = [
            {
                "name": name,
                "netns": str(self.netns_folder / self.endpoints[name].netns),
                "ports": [[port.protocol, port.port] for port in served],
            }
            for name, served in ports.items()
        ]
        path = self.folder / f"{SERVERS}.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        log = self.folder / f"{SERVERS}.log"
        process.start_python(self.folder, SERVERS, "topology.probe.servers", [str(path)], log)

    def _remove(self) -> None:
        process.end(self.folder)
        if not self.folder.exists():
            return
        links = [PodLink(self.endpoints[pod.key], "") for pod in self.own_pods]
        detach_pods(links, self.netns_folder, None, self.bridge, self.vsctl)
        for path in self.netns_folder.glob("*"):
            netns.remove(path)
        shutil.rmtree(self.folder)
