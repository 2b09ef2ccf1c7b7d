"""A cluster of machines, for instance virtual ones: the files of the control plane and of each node.

`certify` runs once, wherever there is room for it; the rest on the machines, which have the addresses of
`topology.cluster.names`. Programs and images are in PROGRAMS_FOLDER there. systemd runs everything.
"""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

from topology.cluster.control_plane import PROGRAMS, ControlPlane
from topology.cluster.files import ClusterFiles
from topology.cluster.kubectl import Kubectl
from topology.cluster.names import MAX_NODES, NodeName
from topology.cluster.node import ClusterNode
from topology.cluster.reach import Reach, probe
from topology.errors import LabError

PROGRAMS_FOLDER = Path("/opt/kubernetes")
_SECONDS = 600.0  # virtual machines without hardware's help are some ten times slower
_UNIT = """[Unit]
Description={name} of the Headgate lab
After=network.target containerd.service
[Service]
ExecStart={command}
Restart=on-failure
RestartSec=3
[Install]
WantedBy=multi-user.target
"""


def certify(folder: Path) -> bool:
    """Make what proves who each machine is, for as many nodes as a cluster can have: `control/pki`, and `NAME/pki` with
    no more than that node needs. Returns False if it is there already."""
    names = [NodeName(number) for number in range(1, MAX_NODES + 1)]
    if all((folder / name / "pki" / "ca.crt").exists() for name in ("control", *(one.name for one in names))):
        return False
    shutil.rmtree(folder, ignore_errors=True)
    control = _control(folder / "control")
    control.folder.mkdir(parents=True, mode=0o700)
    control.certify(names)
    for one in names:
        own = folder / one.name / "pki"
        own.mkdir(parents=True, mode=0o700)
        for name in ("ca.crt", f"{one.name}.crt", f"{one.name}.key", f"{one.name}.kubeconfig"):
            shutil.copy2(control.pki / name, own / name)
    return True


def write_control_plane(folder: Path, units: Path) -> list[str]:
    """Write the units of the control plane on this machine, whose `pki` is in the folder. Returns their names."""
    control = _control(folder)
    return [_write(units, name, [str(control.files.program(name)), *control.arguments(name)]) for name in PROGRAMS]


def write_node(folder: Path, number: int, units: Path, etc: Path) -> list[str]:
    """Write the kubelet's unit and the files of /etc/kubernetes on this node, whose `pki` is in the folder."""
    node = ClusterNode(_control(folder), NodeName(number), "machines", "kernel")
    etc.mkdir(parents=True, exist_ok=True)
    for name, text in node.settings().items():
        (etc / name).write_text(text, encoding="utf-8")
    return [_write(units, "kubelet", node.kubelet())]


def reach(folder: Path) -> list[Reach]:
    """Who reaches whom, asked on the machine of the control plane. Raises LabError."""
    control = _control(folder)
    kubectl = Kubectl(control.files.program("kubectl"), control.kubeconfig("admin"))
    found = kubectl.get("nodes")["items"]
    if not found:
        raise LabError("there is no Node yet")
    nodes = {one["metadata"]["name"]: _addresses(one) for one in found}
    return probe(kubectl, nodes, seconds=_SECONDS)


def _addresses(node: dict[str, object]) -> list[str]:
    status = json.loads(json.dumps(node["status"]))
    return [str(one["address"]) for one in status["addresses"] if one["type"] == "InternalIP"]


def _control(folder: Path) -> ControlPlane:
    return ControlPlane(folder, ClusterFiles(PROGRAMS_FOLDER))


def _write(units: Path, name: str, command: list[str]) -> str:
    unit = f"lab-{name}.service"
    words = shlex.join(command).replace("%", "%%").replace("$", "$$")
    (units / unit).write_text(_UNIT.format(name=name, command=words), encoding="utf-8")
    return unit
