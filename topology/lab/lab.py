"""A lab: starts and removes it, changes its pods and objects, probes. The interface for the command line and tests.

A lab has one folder, `LABS_FOLDER/NAME`: `netns/` has its network namespaces, `nodes/` the Open vSwitch of each node,
`manifests/` the objects that the controller watches. Everything is named after that folder or marked with it, so
several labs can run at once, and `down` finds exactly the parts of this lab, also after a crash.

`headgate run` runs in the machine's own network namespace, on free loopback ports, so that any shell can reach it;
`relay` forwards the switches' OpenFlow connections out of their namespaces.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from topology.errors import LabError
from topology.host import links, machine, netns, process
from topology.lab import state
from topology.lab.manifests import LabManifests, cluster_objects, object_name, parse_manifests, pod_object
from topology.lab.node import LAB_BRIDGE, NodeSwitch, is_running
from topology.lab.objects import LabCluster, ObjectStore
from topology.lab.pod import PodLink, attach_pods, detach_pods, make_host, pod_uid
from topology.lab.product import LabController, free_port
from topology.lab.state import LABS_FOLDER, LabState
from topology.probe import client
from topology.probe.matrix import LabProbe, Matrix, probe_mesh
from topology.probe.traffic import Capture, Traffic
from topology.spec.address import LabEndpoint, plan_endpoints
from topology.spec.load import check_topology
from topology.spec.model import LabNamespace, LabPod, LabPort, Topology

HOST_PREFIXES = {4: 32, 6: 128}
REALIZE_SECONDS = 30.0
Progress = Callable[[str], None]


def _silent(_: str) -> None:
    """Ignore progress messages."""


class Lab:
    """One lab. The constructor starts nothing: `up` starts the lab, `Lab.load` gives one that is up."""

    def __init__(
        self,
        topology: Topology,
        base: Path = LABS_FOLDER,
        current: LabState | None = None,
        cluster: LabCluster | None = None,
    ) -> None:
        self.topology = topology
        self.base = base
        self.folder = base / topology.name
        self.state = current
        self.environment: dict[str, str] = {}
        self.cluster = cluster
        self.objects: ObjectStore = cluster.objects if cluster else self.manifests
        self.endpoints: dict[str, LabEndpoint] = plan_endpoints(topology)
        self.prefixes = {4: topology.subnets.ipv4.prefixlen, 6: topology.subnets.ipv6.prefixlen}

    @classmethod
    def load(cls, name: str, base: Path = LABS_FOLDER) -> Lab:
        """The running lab of that name. Raises LabError if there is none."""
        found = state.load_lab(base / name)
        if found is None or not found[1].ready:
            others = ", ".join(state.lab_names(base)) or "none"
            raise LabError(f"no lab {name} is up (run `headgate lab up`); labs under {base}: {others}")
        return cls(found[0], base, found[1])

    @property
    def netns_folder(self) -> Path:
        """The folder of the files that the lab's network namespaces are bound to."""
        return self.folder / "netns"

    @property
    def manifests(self) -> LabManifests:
        """The manifests that the controller watches, unless the lab has an API server."""
        return LabManifests(self.folder / "manifests")

    @property
    def nodes(self) -> dict[str, NodeSwitch]:
        """The nodes by name. Raises LabError before the lab is up."""
        datapath, mtu = self.current().datapath, self.topology.mtu
        return {
            node.name: NodeSwitch(
                self.folder, node.name, self.endpoints[f"node:{node.name}"], self.prefixes, mtu, datapath
            )
            for node in self.topology.nodes
        }

    @property
    def product(self) -> LabController:
        """The controller. Raises LabError if the lab is up without one."""
        current = self.current()
        if not current.controller:
            raise LabError(f"the lab {self.topology.name} was brought up without a controller")
        ovsdbs = tuple(node.ovsdb for node in self.nodes.values())
        source = ("--kubeconfig", self.cluster.kubeconfig) if self.cluster else ("--manifests", self.manifests.path)
        return LabController(self.folder, current.openflow_port, current.http_port, ovsdbs, source, self.environment)

    # Up and down

    def up(
        self,
        datapath: machine.DatapathChoice = "auto",
        controller: bool = True,
        http_port: int = 0,
        settle: float = REALIZE_SECONDS,
        progress: Progress = _silent,
    ) -> bool:
        """Start the lab; returns False if it was up already. Remains of a crashed lab are removed first.

        If only the controller of a running lab has ended, it is started again. Without `controller` the bridges drop
        everything until flows are added. `settle` is how many seconds the controller may take to realize everything. On
        any error the lab is removed again.
        """
        with state.lab_locked(self.base, self.topology.name):
            if self._is_up():
                return self._revive(settle, progress)
            chosen = machine.choose_datapath(datapath)
            machine.require_lab_support(chosen)
            if self.folder.exists():
                progress("removing the remains of an earlier lab of this name")
                self._remove()
            self.state = LabState(chosen, controller, free_port(), http_port or free_port())
            try:
                self._make(progress)
                if controller:
                    progress("waiting until everything is realized")
                    self.wait(settle)
            except BaseException:  # also after an interrupt nothing must remain
                self._remove()
                raise
            self.state = dataclasses.replace(self.current(), ready=True)
            state.save_lab(self.folder, self.topology, self.state)
            return True

    def down(self) -> bool:
        """Remove the lab, or what is left of it; returns whether there was anything."""
        with state.lab_locked(self.base, self.topology.name):
            there = self.folder.exists() or bool(process.find(self.folder))
            self._remove()
            return there

    def _is_up(self) -> bool:
        found = state.load_lab(self.folder)
        if found is None or not found[1].ready:
            return False
        up = Lab(found[0], self.base, found[1])
        if not all(is_running(self.folder, name) for name in up.nodes):
            return False
        if found[0] != self.topology:
            raise LabError(f"the lab {self.topology.name} is up with another topology; run `headgate lab down` first")
        self.state = found[1]
        return True

    def _revive(self, settle: float, progress: Progress) -> bool:
        """Start the controller of a running lab again if it has ended; returns whether it had."""
        if not self.current().controller or self.product.running():
            return False
        progress("starting headgate run again")
        self.product.start()
        self.wait(settle)
        return True

    def _make(self, progress: Progress) -> None:
        self.netns_folder.mkdir(parents=True)
        (self.folder / "manifests").mkdir()
        state.save_lab(self.folder, self.topology, self.current())
        progress(f"making {len(self.topology.nodes)} nodes ({self.current().datapath} datapath)")
        underlay = self._make_underlay()
        for index, node in enumerate(self.nodes.values()):
            node.make(underlay, f"to-node{index}")
        self.objects.put(cluster_objects(self.topology, self.endpoints))
        started = None
        if self.current().controller:
            progress("starting headgate run")
            started = self.product.launch()
            self._start_relay()
        progress(f"making {len(self.topology.pods)} pods")
        self._attach_to_bridges(self.topology.pods)
        self._serve_all()
        if started is not None:
            self.product.ready(started)

    def _serve_all(self) -> None:
        nodes = self.topology.nodes
        served: dict[str, Sequence[LabPort]] = {f"node:{node.name}": self.topology.ports for node in nodes}
        served |= {f"external:{item.name}": self.topology.served(item) for item in self.topology.externals}
        self.start_servers("servers", served | {pod.key: self.topology.served(pod) for pod in self.topology.pods})

    def _make_underlay(self) -> Path:
        path = self.netns_folder / "underlay"
        netns.create(path)
        with netns.inside(path):
            links.switch_ports_only()
            links.make_bridge("underlay", self.topology.mtu)
        for index, external in enumerate(self.topology.externals):
            endpoint = self.endpoints[f"external:{external.name}"]
            port = f"to-ext{index}"
            make_host(self.netns_folder / endpoint.netns, endpoint, port, path, HOST_PREFIXES, self.topology.mtu)
            with netns.inside(path):
                links.add_to_bridge(port, "underlay")
        return path

    def _start_relay(self) -> None:
        address = ["127.0.0.1", self.current().openflow_port]
        job = [{"netns": str(node.netns), "listen": address, "to": address} for node in self.nodes.values()]
        self._start_job("relay", "topology.lab.relay", job)

    def start_servers(self, role: str, ports: Mapping[str, Sequence[LabPort]]) -> None:
        """Start a process of this role with the servers of some endpoints, which have network namespaces."""
        job = [
            {
                "name": name,
                "netns": str(self.netns_folder / self.endpoints[name].netns),
                "ports": [[port.protocol, port.port] for port in served],
            }
            for name, served in ports.items()
        ]
        self._start_job(role, "topology.probe.servers", job)

    def _start_job(self, role: str, module: str, job: Sequence[Mapping[str, object]]) -> None:
        path = self.folder / f"{role}.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        process.start_python(self.folder, role, module, [str(path)], self.folder / f"{role}.log")

    def _remove(self) -> None:
        process.end(self.folder)
        for path in self.netns_folder.glob("*"):
            netns.remove(path)
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.state = None

    # Pods that come and go

    def grown(self, pods: Iterable[LabPod], namespaces: Iterable[LabNamespace] = ()) -> Topology:
        """The topology with these pods, and those of the namespaces that it lacks; existing addresses stay.

        Raises TopologyError if one does not fit in.
        """
        pinned = self._pinned()
        known = {one.name for one in pinned.namespaces}
        added = {
            "pods": (*pinned.pods, *pods),
            "namespaces": (*pinned.namespaces, *(one for one in namespaces if one.name not in known)),
        }
        found = check_topology({**dict(pinned), **added}, self.topology.name)
        plan_endpoints(found)
        return found

    def add_pods(self, pods: Iterable[LabPod], namespaces: Iterable[LabNamespace] = ()) -> None:
        """Add pods to a running lab: object, network namespace, port and servers of each. See `wait`.

        Raises TopologyError if one does not fit in.
        """
        new = tuple(pods)
        self._change(self.grown(new, namespaces))
        self.objects.put(pod_object(self.topology, pod, self.endpoints) for pod in new)
        self._attach_to_bridges(new)
        served = {pod.key: self.topology.served(pod) for pod in new}
        self.start_servers(f"servers-{new[0].key.replace('/', '.')}", served)

    def remove_pod(self, key: str) -> None:
        """Remove one pod of a running lab: its object, port and network namespace."""
        pod = self._pod(key)
        node, link = self.nodes[pod.node], self.link(pod)
        self.objects.delete([pod_object(self.topology, pod, self.endpoints)])
        detach_pods([link], self.netns_folder, node.netns, LAB_BRIDGE, node.vsctl)
        pinned = self._pinned()
        self._change(pinned.model_copy(update={"pods": tuple(other for other in pinned.pods if other.key != key)}))

    def _attach_to_bridges(self, pods: Sequence[LabPod]) -> None:
        for name, node in self.nodes.items():
            own = [self.link(pod) for pod in pods if pod.node == name]
            attach_pods(own, self.netns_folder, node.netns, LAB_BRIDGE, node.vsctl, self.prefixes, self.topology.mtu)

    def _pinned(self) -> Topology:
        """The topology with explicit addresses of all pods, so that they stay when a pod is removed."""
        pods = tuple(
            pod.model_copy(update={"addresses": tuple(self.endpoints[pod.key].addresses.values())})
            for pod in self.topology.pods
        )
        return self.topology.model_copy(update={"pods": pods})

    def _change(self, topology: Topology) -> None:
        self.endpoints = plan_endpoints(topology)
        self.topology = topology
        state.save_lab(self.folder, topology, self.current())

    def link(self, pod: LabPod) -> PodLink:
        """The link of a pod to its node's bridge. UIDs that an API server assigns are unknown here."""
        return PodLink(self.endpoints[pod.key], "" if self.cluster else pod_uid(self.topology.name, pod.key))

    def _pod(self, key: str) -> LabPod:
        for pod in self.topology.pods:
            if pod.key == key:
                return pod
        raise LabError(f"the lab {self.topology.name} has no pod {key}")

    # Working with it

    def apply(self, text: str, origin: str = "manifest", wait: float | None = REALIZE_SECONDS) -> list[str]:
        """Apply objects (YAML or JSON); returns a line for each. Waits `wait` seconds until realized, or not (None)."""
        done = self.objects.put(parse_manifests(text, origin))
        self._wait_until_realized(wait)
        return done

    def delete(self, text: str, origin: str = "manifest", wait: float | None = REALIZE_SECONDS) -> list[str]:
        """Delete objects by kind, namespace and name; otherwise like `apply`."""
        done = self.objects.delete(parse_manifests(text, origin))
        self._wait_until_realized(wait)
        return done

    def reset(self, wait: float | None = REALIZE_SECONDS) -> None:
        """Reset the objects to those after `up`: only the topology's objects, unchanged."""
        own = cluster_objects(self.topology, self.endpoints)
        names = {object_name(item) for item in own}
        self.manifests.delete(item for item in self.manifests.objects() if object_name(item) not in names)
        self.manifests.put(own)
        self._wait_until_realized(wait)

    def wait(self, timeout: float = REALIZE_SECONDS) -> None:
        """Wait until everything is realized on every switch. Raises LabError with what is missing."""
        self.product.wait(timeout)

    def _wait_until_realized(self, wait: float | None) -> None:
        if wait is not None and self.current().controller:
            self.wait(wait)

    def probe(
        self,
        endpoints: Sequence[str] | None = None,
        ports: Sequence[LabPort] | None = None,
        *,
        nodes: bool = False,
        icmp: bool = False,
        families: Sequence[int] | None = None,
        destinations: Sequence[str] | None = None,
        patience: Sequence[float] = client.PROBE_PATIENCE,
        expected: client.Expectation | None = None,
    ) -> Matrix:
        """Probe from every endpoint to every endpoint, over all `ports` (default: those of the topology) and families.

        The default endpoints are all pods and externals; `nodes` adds the nodes, `icmp` echo requests. With
        `destinations`, probes go from the endpoints to those only. `patience` has the seconds that each attempt waits.
        """
        wanted = self.probes(endpoints, ports, nodes=nodes, icmp=icmp, families=families, destinations=destinations)
        return self.run_probes(wanted, patience, expected)

    def probes(
        self,
        endpoints: Sequence[str] | None = None,
        ports: Sequence[LabPort] | None = None,
        *,
        nodes: bool = False,
        icmp: bool = False,
        families: Sequence[int] | None = None,
        destinations: Sequence[str] | None = None,
    ) -> list[LabProbe]:
        """The probes that `probe` would run."""
        names = [name for name in self.endpoints if nodes or not name.startswith("node:")]
        chosen = names if endpoints is None else list(dict.fromkeys(endpoints))
        there = chosen if destinations is None else list(dict.fromkeys(destinations))
        for name in (*chosen, *there):
            self.netns(name)
        ways = self.ports() if ports is None else ports
        return probe_mesh(chosen, ways, self.topology.families if families is None else families, icmp, there)

    def run_probes(
        self,
        probes: Iterable[LabProbe],
        patience: Sequence[float] = client.PROBE_PATIENCE,
        expected: client.Expectation | None = None,
    ) -> Matrix:
        """Run exactly these probes."""
        return client.run_probes(probes, self.endpoints, self.netns_folder, patience, expected)

    def traffic(self, probes: Iterable[LabProbe], interval: float = 0.005) -> Traffic:
        """Continuous traffic, as a context manager: see `Traffic`."""
        return Traffic(probes, self.endpoints, self.netns_folder, interval)

    def capture(self, name: str) -> Capture:
        """A counter of packets that arrive at an endpoint, as a context manager: see `Capture`."""
        return Capture(self.endpoints[name], self.netns_folder)

    def ports(self) -> list[LabPort]:
        """All ports that pods and externals of the topology serve."""
        return self.topology.all_served()

    def netns(self, name: str) -> Path:
        """The file of an endpoint's network namespace. Raises LabError if there is no such endpoint."""
        if name not in self.endpoints:
            raise LabError(f"the lab {self.topology.name} has no endpoint {name}; it has {', '.join(self.endpoints)}")
        return self.netns_folder / self.endpoints[name].netns

    def popen(self, name: str, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a command in an endpoint's namespace, with `options` of subprocess.Popen. The caller ends it."""
        with netns.inside(self.netns(name)):
            return subprocess.Popen(list(command), **options)

    def execute(self, name: str, command: Sequence[str]) -> NoReturn:
        """Replace this process by the command, in an endpoint's namespace."""
        fd = os.open(self.netns(name), os.O_RDONLY | os.O_CLOEXEC)
        netns.enter(fd)
        os.execvpe(command[0], list(command), {**os.environ, **self.command_environment(name)})

    def command_environment(self, name: str) -> dict[str, str]:
        """Environment variables for a command in an endpoint's namespace.

        On a node they make `ovs-vsctl show` and `ovs-ofctl dump-flows br-int` use the node's own switch.
        """
        node = self.nodes.get(name.removeprefix("node:")) if name.startswith("node:") else None
        if node is None:
            return {}
        path = os.environ.get("PATH", os.defpath).split(os.pathsep)
        return {
            **node.env,
            "PATH": os.pathsep.join([*path, *(one for one in machine.PROGRAM_FOLDERS if one not in path)]),
        }

    def restart_switch(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """Restart a node's ovs-vswitchd, as an upgrade or a crash does."""
        node = self.nodes[name]
        node.stop_switch(how)
        node.start_switch()

    def current(self) -> LabState:
        """The saved state of the lab. Raises LabError before `up`."""
        if self.state is None:
            raise LabError(f"the lab {self.topology.name} is not up")
        return self.state
