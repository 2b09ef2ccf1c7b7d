"""Pods on a node: a network namespace with one interface each, whose other end is a port as an OVS CNI plugin makes it.

Works for a node of a lab and, with `where=None`, for the machine's own namespace and Open vSwitch.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from topology.host import links, netns
from topology.spec.address import LabEndpoint

POD_INTERFACE = "eth0"
Vsctl = Callable[[Sequence[str]], str]


@dataclass(frozen=True)
class PodLink:
    """A pod on a bridge: its endpoint, and the UID of its Pod object, "" if unknown."""

    endpoint: LabEndpoint
    uid: str

    @property
    def interface(self) -> str:
        """The name of the port: readable, unique by a hash, within the kernel's 15 characters: `backend-1a2b3c`."""
        name = re.sub("[^a-z0-9-]", "-", self.endpoint.name.rpartition("/")[2])
        digest = hashlib.sha256(self.endpoint.name.encode()).hexdigest()
        return f"{name[:8]}-{digest[:6]}"


def pod_uid(lab: str, key: str) -> str:
    """The UID of a Pod object: the same each time that the lab is started."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"headgate-lab:{lab}/{key}"))


def attach_pods(
    pods: Iterable[PodLink],
    folder: Path,
    where: Path | None,
    bridge: str,
    vsctl: Vsctl,
    prefixes: Mapping[int, int],
    mtu: int,
) -> None:
    """Create the pods' network namespaces in `folder` and their ports on `bridge`, in one OVSDB transaction.

    `where` is the network namespace of the node. Raises OSError or LabError.
    """
    commands: list[str] = []
    for pod in pods:
        path = folder / pod.endpoint.netns
        make_host(path, pod.endpoint, pod.interface, where, prefixes, mtu)
        commands += port_commands(pod, bridge)
    if commands:
        vsctl(commands[1:])


def make_host(
    path: Path, endpoint: LabEndpoint, outer: str, where: Path | None, prefixes: Mapping[int, int], mtu: int
) -> None:
    """Create a namespace with an interface that has the endpoint's addresses; its other end is `outer` in `where`."""
    netns.create(path)
    with netns.inside(path):
        links.quiet_namespace()
    with netns.inside(where) if where is not None else nullcontext():
        links.make_veth(outer, POD_INTERFACE, path, mtu, endpoint.mac)
        links.checksums_in_software(outer)
    with netns.inside(path):
        links.checksums_in_software(POD_INTERFACE)
        links.configure_interface(POD_INTERFACE, endpoint.addresses, prefixes, mtu)


def port_commands(pod: PodLink, bridge: str) -> list[str]:
    """The arguments of ovs-vsctl that add the pod's port to the bridge, with its external_ids."""
    name = pod.interface
    ids = {"iface-id": pod.endpoint.name, "iface-id-ver": pod.uid, "attached-mac": pod.endpoint.mac}
    commands = ["--", "--may-exist", "add-port", bridge, name, "--", "set", "Interface", name]
    return commands + [f'external_ids:{key}="{value}"' for key, value in ids.items() if value]


def detach_pods(pods: Iterable[PodLink], folder: Path, where: Path | None, bridge: str, vsctl: Vsctl) -> None:
    """Undo `attach_pods`; missing parts are no error."""
    for pod in pods:
        vsctl(["--if-exists", "del-port", bridge, pod.interface])
        with netns.inside(where) if where is not None else nullcontext():
            links.remove_link(pod.interface)
        netns.remove(folder / pod.endpoint.netns)
