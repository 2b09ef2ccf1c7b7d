"""A lab over several machines, on one: a network namespace stands for each, with its own Open vSwitch and bridge.

Everything goes through `headgate lab machine`, as on virtual machines.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.deploy.machine import NODE, UPLINK, Machine
from topology.errors import LabError, MissingError
from topology.host import netns, process
from topology.host.machine import require_lab_support
from topology.host.process import python_path
from topology.probe.matrix import LabProbe, Matrix, Outcome
from topology.remote.session import AgentSession, MachineFleet

pytestmark = pytest.mark.lab

TOPOLOGY_NAME = "m"
TOPOLOGY = {
    "name": TOPOLOGY_NAME,
    "ports": [80, "80/UDP", "80/SCTP"],
    "nodes": [{"name": "one"}, {"name": "two"}],
    "namespaces": [{"name": "x"}],
    "pods": [
        {"namespace": "x", "name": "a", "node": "one"},
        {"namespace": "x", "name": "b", "node": "two"},
        {"namespace": "x", "name": "c", "node": "one"},
    ],
}
ADDRESSES = {"one": ("10.10.0.1/16", "fd10:10::1/64"), "two": ("10.10.0.2/16", "fd10:10::2/64")}


@pytest.fixture
def machines() -> Iterator[dict[str, Machine]]:
    """Two nodes made by deploy/node.sh, joined by their uplinks; their bridges learn, as there is no controller."""
    try:
        require_lab_support("userspace")
    except MissingError as error:
        pytest.skip(str(error))
    with ExitStack() as stack:
        made = {}
        for name in ADDRESSES:
            made[name] = Machine(Path(tempfile.mkdtemp(prefix="hgm-", dir="/tmp")))
            stack.callback(made[name].stop)
            stack.callback(clean_up, made[name].folder / "lab" / TOPOLOGY_NAME)
            made[name].start()
        join(*made.values())
        for name, machine in made.items():
            addresses = [word for address in ADDRESSES[name] for word in ("--address", address)]
            options = ["--name", name, "--controller", "198.51.100.1", "--datapath", "netdev", "--uplink", UPLINK]
            done = machine.script(NODE, *options, *addresses)
            assert done.returncode == 0, done.stderr
            machine.run("ovs-ofctl", "add-flow", f"unix:{machine.folder}/br-int.mgmt", "actions=NORMAL")
        yield made


def join(one: Machine, other: Machine) -> None:
    """A wire from one machine's interface to the other's, in place of the ones that led nowhere."""
    for machine in (one, other):
        machine.run("ip", "link", "del", UPLINK)
    fd = other.netns.open()
    try:
        peer = ["peer", "name", UPLINK, "netns", f"/proc/self/fd/{fd.fileno()}"]
        with netns.inside(one.netns):
            command = ["ip", "link", "add", UPLINK, "type", "veth", *peer]
            subprocess.run(command, check=True, pass_fds=[fd.fileno()])
    finally:
        fd.close()
    for machine in (one, other):
        machine.run("ip", "link", "set", UPLINK, "up")


def clean_up(lab: Path) -> None:
    """End what a failed test has left of the lab in this folder."""
    process.end(lab)
    for path in (lab / "netns").glob("*"):
        netns.remove(path)


def headgate(machine: Machine, *arguments: str) -> str:
    """Run `headgate lab machine` on a machine."""
    environment = [f"{name}={value}" for name, value in python_path().items()]
    command = ["env", *environment, sys.executable, "-P", "-m", "controller"]
    return machine.run(*command, "lab", "--run-dir", str(machine.folder / "lab"), "machine", *arguments)


def agent(machine: Machine, name: str, topology: Path) -> AgentSession:
    """The agent of a machine, reached by entering its namespace in place of ssh."""
    environment = [f"{key}={value}" for key, value in {**python_path(), **machine.env}.items()]
    command = [sys.executable, "-P", "-m", "controller", "lab", "--run-dir", str(machine.folder / "lab"), "machine"]
    enter = ["nsenter", f"--net={machine.netns}", "env", *environment]
    return AgentSession(name, [*enter, *command, "serve", name, "-f", str(topology)])


def test_agents_probe_and_keep_traffic_going(machines: dict[str, Machine], tmp_path: Path) -> None:
    topology = tmp_path / "topology.json"
    topology.write_text(json.dumps(TOPOLOGY))
    for name, machine in machines.items():
        headgate(machine, "up", name, "-f", str(topology))
    with ExitStack() as stack:
        sessions = {name: stack.enter_context(agent(machine, name, topology)) for name, machine in machines.items()}
        homes = {"x/a": sessions["one"], "x/b": sessions["two"], "x/c": sessions["one"], "node:one": sessions["one"]}
        probes = [LabProbe(source, "x/b", "TCP", 80, family) for source in homes for family in (4, 6)]
        silent = LabProbe("x/b", "x/a", "UDP", 81, 4)  # nothing listens there, and ICMP says so
        seen = MachineFleet(homes).run_probes([*probes, silent]).results
        assert [seen[probe] for probe in probes] == [Outcome.ALLOWED] * len(probes)
        assert seen[silent] is Outcome.CLOSED
        going = [LabProbe("x/a", "x/b", protocol, 80, 4) for protocol in ("TCP", "UDP")]
        with pytest.raises(LabError, match="no traffic"):
            sessions["one"].request("counts")
        sessions["one"].request("traffic", probes=going, interval=0.01)
        while not all(answered > 20 for _, answered in sessions["one"].request("counts")):
            time.sleep(0.05)
        assert all(sent == answered for sent, answered in sessions["one"].request("stop"))
        with pytest.raises(LabError, match="no traffic"):
            sessions["one"].request("stop")


def test_pods_of_two_machines_reach_each_other(machines: dict[str, Machine], tmp_path: Path) -> None:
    topology = tmp_path / "topology.json"
    topology.write_text(json.dumps(TOPOLOGY))
    file = ("-f", str(topology))
    before = {name: machine.vsctl("list-ports", "br-int") for name, machine in machines.items()}
    for name, machine in machines.items():
        assert "are up" in headgate(machine, "up", name, *file)
        assert "were up already" in headgate(machine, "up", name, *file)
    found = {name: headgate(machine, "probe", name, *file) for name, machine in machines.items()}
    for name, text in found.items():
        matrix = Matrix.from_json(text)
        assert len(matrix.results) == {"one": 2, "two": 1}[name] * 3 * 3 * 2
        assert matrix.count()["allowed"] == len(matrix.results)
    results = [tmp_path / f"{name}.json" for name in found]
    for path, text in zip(results, found.values(), strict=True):
        path.write_text(text)
    drawn = headgate(machines["one"], "draw", *file, *map(str, results))
    assert "54 allowed" in drawn
    for name, machine in machines.items():
        assert "are down" in headgate(machine, "down", name, *file)
        assert machine.vsctl("list-ports", "br-int") == before[name]
        assert not (machine.folder / "lab" / TOPOLOGY_NAME).exists()
