"""The machines of the Vagrant lab, driven from the host: vagrant, ssh to each, tunnels to the controller's servers.

What is expected of them stands in the tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from bench.ports import free_ports
from tests.helpers.paths import ROOT
from tests.helpers.truth.cases import Step
from tests.helpers.truth.layout import OUTSIDE, PODS, TruthLayout
from topology.host.process import python_path
from topology.probe.matrix import LabProbe, Outcome
from topology.remote.api import ClusterApi
from topology.remote.session import AgentSession, MachineFleet
from topology.spec.address import LabEndpoint, plan_endpoints
from topology.spec.load import check_topology

RESULTS = ROOT / "build" / "vagrant" / "results"
TOPOLOGY = "/vagrant/build/vagrant/topology.json"
ADMIN = "/var/lib/headgate-lab/admin.kubeconfig"
HTTP, API = 8080, 6443
# A guest without KVM is slow: what is not expected answers late, too.
PATIENCE = (1.0,)
IN_FORCE_SECONDS = 120


def vagrant(*arguments: str) -> str:
    """Run vagrant, show what it says while it says it, and return that. Fails when it fails."""
    said = []
    command = ["vagrant", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            sys.stdout.write(line)
            said.append(line)
    assert process.returncode == 0, f"{' '.join(command)} ended with {process.returncode}"
    return "".join(said)


class Machines:
    """The lab after `vagrant up`, a context manager. Sources of probes are pods, `node:NAME` and `external:outside`."""

    def __init__(self) -> None:
        text = (ROOT / "build" / "vagrant" / "topology.json").read_text()
        self.topology = check_topology(json.loads(text), "the Vagrant lab")
        self.endpoints: Mapping[str, LabEndpoint] = plan_endpoints(self.topology)
        self._ssh_config = RESULTS / "ssh"  # written by what draws the matrix at the end of `vagrant up`
        self._stack = ExitStack()

    def __enter__(self) -> Machines:
        with self._stack:
            self.sessions = {node.name: self._session(node.name, node.name) for node in self.topology.nodes}
            self.sessions[OUTSIDE] = self._session("controller", OUTSIDE)
            homes = {pod.key: self.sessions[pod.node] for pod in self.topology.pods}
            homes |= {f"node:{node.name}": self.sessions[node.name] for node in self.topology.nodes}
            self._fleet = MachineFleet({**homes, f"external:{OUTSIDE}": self.sessions[OUTSIDE]})
            http, api = free_ports(2)
            self._tunnel({http: HTTP, api: API})
            self.server = f"http://127.0.0.1:{http}"
            self.api = ClusterApi(self._kubeconfig(api))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, machine: str, command: str) -> str:
        """What a command says on a machine, as root. Fails when it fails."""
        done = subprocess.run(self._ssh(machine, f"sudo {command}"), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{machine}: {command}: {done.stderr}"
        return done.stdout

    def wait(self) -> None:
        """Wait until everything in the API server is realized on every node."""
        command = ["status", "--wait", "--timeout", str(IN_FORCE_SECONDS)]
        done = self.headgate(*command)
        assert done.returncode == 0, done.stdout + done.stderr

    def headgate(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Ask the controller."""
        command = [sys.executable, "-P", "-m", "controller", "--server", self.server, *arguments]
        return subprocess.run(command, env=python_path(), capture_output=True, text=True, check=False)

    def take(self, step: Step) -> None:
        """Do what the step says through the API server, and wait until it is in force."""
        self.api.delete(step.delete)
        self.api.put(step.apply)
        self.wait()

    def observe(self, expected: Mapping[LabProbe, bool]) -> list[str]:
        """Probe, and return one line for each outcome that differs from the expected one."""
        seen = self._fleet.run_probes(list(expected), PATIENCE, lambda probe: expected[probe])
        return [
            f"{probe}: {outcome.value}, should be {'allowed' if expected[probe] else 'denied'}"
            for probe, outcome in seen.results.items()
            if outcome is Outcome.WRONG or outcome.reachable != expected[probe]
        ]

    def world(self) -> TruthLayout:
        """The world of the truth tables with these machines' addresses."""
        placement = {pod.key: pod.node for pod in self.topology.pods}
        return TruthLayout(
            pods={pod: self.endpoints[pod].addresses for pod in PODS},
            placement=placement,
            nodes={node.name: self.endpoints[f"node:{node.name}"].addresses for node in self.topology.nodes},
            outside=self.endpoints[f"external:{OUTSIDE}"].addresses,
        )

    def _ssh(self, machine: str, command: str) -> list[str]:
        return ["ssh", "-F", str(self._ssh_config), machine, command]

    def _session(self, machine: str, name: str) -> AgentSession:
        command = f"sudo headgate lab machine serve {name} -f {TOPOLOGY}"
        return self._stack.enter_context(AgentSession(name, self._ssh(machine, command)))

    def _tunnel(self, ports: Mapping[int, int]) -> None:
        ways = [word for here, there in ports.items() for word in ("-L", f"127.0.0.1:{here}:127.0.0.1:{there}")]
        command = ["ssh", "-F", str(self._ssh_config), "-o", "ExitOnForwardFailure=yes", *ways, "controller"]
        process = subprocess.Popen([*command, "echo; cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._stack.callback(_end, process)
        assert process.stdout is not None
        assert process.stdout.readline(), "no tunnel to the controller"

    def _kubeconfig(self, port: int) -> Path:
        config: Any = yaml.safe_load(self.run("controller", f"cat {ADMIN}"))
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
        path = RESULTS / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path


class Going:
    """Traffic between pods that goes on until the lab's sessions end, in the order of `probes`."""

    def __init__(self, session: AgentSession, probes: Sequence[LabProbe]) -> None:
        self._session = session
        self._at_the_end: list[tuple[int, int]] | None = None
        session.request("traffic", probes=list(probes), interval=0.05)

    def counts(self) -> list[tuple[int, int]]:
        """Messages sent and answered of each flow so far."""
        return [(sent, answered) for sent, answered in self._session.request("counts")]

    def stop(self) -> list[tuple[int, int]]:
        """Send no more, give answers their time, and count."""
        if self._at_the_end is None:
            self._at_the_end = [(sent, answered) for sent, answered in self._session.request("stop")]
        return self._at_the_end

    def grows(self, by: int = 20) -> None:
        """Wait until every flow has got so many more answers; the test's time limit is the limit."""
        before = self.counts()
        while not all(now[1] >= then[1] + by for now, then in zip(self.counts(), before, strict=True)):
            time.sleep(0.2)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
