"""Who reaches whom in a cluster, by real connections: pods, nodes and a machine outside, to pods and Services."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from topology.cluster.files import AGNHOST_IMAGE
from topology.cluster.names import API_SERVICE
from topology.errors import LabError

if TYPE_CHECKING:
    from rich.console import Console

    from topology.cluster.kubectl import Kubectl

NAMESPACE = "reach"
OUTSIDE = "outside"
Connects = Callable[[str, str, int], bool]  # from a node's name or OUTSIDE, to a host and a port
_SECONDS = 60.0
_PORT = 8080
_CONNECT = "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()"


@dataclass(frozen=True)
class Reach:
    """One cell of the table: source and target in words, and whether a connection came about."""

    source: str
    target: str
    reached: bool


def probe(
    kubectl: Kubectl,
    nodes: Mapping[str, Sequence[str]],
    connects: Connects | None = None,
    seconds: float = _SECONDS,
) -> list[Reach]:
    """Start a web server on each node with a Service before it, and connect from everywhere to everything.

    `nodes` are the nodes' addresses by name. `connects` opens a connection from a node, or from outside; without it a
    pod in the node's own network does, and this machine is outside. Raises LabError where the servers do not start
    within `seconds`.
    """
    kubectl.apply(_manifests(with_host=connects is None))
    pods = _wait_for_pods(kubectl, "web", nodes, seconds)
    hosts = _wait_for_pods(kubectl, "host", nodes, seconds) if connects is None else {}
    service = kubectl.get("-n", NAMESPACE, "service", "web")["spec"]
    targets = {f"pod {node}": [(address, _PORT) for address in addresses] for node, (_, addresses) in pods.items()}
    targets["ClusterIP"] = [(address, 80) for address in service["clusterIPs"]]
    node_port = int(service["ports"][0]["nodePort"])
    for node, addresses in nodes.items():
        targets[f"NodePort {node}"] = [(address, node_port) for address in addresses]
    targets["API server"] = [(API_SERVICE[0], 443)]
    sources = [*(f"pod {node}" for node in pods), *nodes, OUTSIDE]
    cells = [(source, target) for source in sources for target in targets if not _outside_only(source, target)]

    def ask(cell: tuple[str, str]) -> Reach:
        source, target = cell
        pod = pods.get(source.removeprefix("pod ")) if source.startswith("pod ") else hosts.get(source)
        if pod is not None:
            return Reach(source, target, all(_from_pod(kubectl, pod[0], *to) for to in targets[target]))
        return Reach(source, target, all((connects or from_here)(source, *to) for to in targets[target]))

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(ask, cells))


def _outside_only(source: str, target: str) -> bool:
    """Whether this is not meant to work: only node ports are for machines outside of the cluster."""
    return source == OUTSIDE and not target.startswith("NodePort")


def draw(found: list[Reach], console: Console) -> None:
    """Print the table. A blank means that it is not meant to work, and was not tried."""
    targets = list(dict.fromkeys(one.target for one in found))
    cells = {(one.source, one.target): "✓" if one.reached else "✗" for one in found}
    table = Table("from \\ to", *targets, box=None, title="Who reaches whom (TCP, IPv4 and IPv6)", title_justify="left")
    for source in dict.fromkeys(one.source for one in found):
        table.add_row(source, *(cells.get((source, target), "") for target in targets))
    console.print(table)


def connect_command(host: str, port: int) -> list[str]:
    """The command that ends with 0 where it could connect."""
    return [sys.executable, "-c", _CONNECT, host, str(port)]


def from_here(source: str, host: str, port: int) -> bool:
    """Whether this machine connects, whatever the source is called."""
    return subprocess.run(connect_command(host, port), capture_output=True, check=False).returncode == 0


def _from_pod(kubectl: Kubectl, pod: str, host: str, port: int) -> bool:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return kubectl.exec(NAMESPACE, pod, "/agnhost", "connect", "--timeout=3s", where).returncode == 0


def _wait_for_pods(
    kubectl: Kubectl, app: str, nodes: Mapping[str, Sequence[str]], seconds: float
) -> dict[str, tuple[str, list[str]]]:
    """Name and addresses of the ready pod of an application on each node, by node."""
    deadline = time.monotonic() + seconds
    while True:
        found = {}
        for pod in kubectl.get("-n", NAMESPACE, "pods", "-l", f"app={app}")["items"]:
            ready = any(
                one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", [])
            )
            if ready and "deletionTimestamp" not in pod["metadata"]:
                addresses = [one["ip"] for one in pod["status"]["podIPs"]]
                found[pod["spec"]["nodeName"]] = (pod["metadata"]["name"], addresses)
        if len(found) == len(nodes):
            return found
        if time.monotonic() > deadline:
            events = kubectl.call("-n", NAMESPACE, "get", "events", "--sort-by=.lastTimestamp").stdout
            raise LabError("the probes' pods do not become ready:\n" + "\n".join(events.splitlines()[-8:]))
        time.sleep(0.3)


def _manifests(with_host: bool) -> str:
    """A web server on each node, and a Service of both families before them; also a pod in each node's own network."""
    labels = {"app": "web"}
    container = {
        "name": "web",
        "image": AGNHOST_IMAGE,
        "args": ["netexec", f"--http-port={_PORT}"],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": _PORT}, "periodSeconds": 1},
    }
    spec = {
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
        },
    }
    service = {
        "type": "NodePort",
        "ipFamilyPolicy": "PreferDualStack",
        "selector": labels,
        "ports": [{"port": 80, "targetPort": _PORT}],
    }
    named = {"namespace": NAMESPACE, "name": "web"}
    items = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": named, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": named, "spec": service},
    ]
    if with_host:
        waiting = {"name": "host", "image": AGNHOST_IMAGE, "args": ["pause"]}
        host = {
            "selector": {"matchLabels": {"app": "host"}},
            "template": {
                "metadata": {"labels": {"app": "host"}},
                "spec": {"containers": [waiting], "hostNetwork": True},
            },
        }
        named = {"namespace": NAMESPACE, "name": "host"}
        items.append({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": named, "spec": host})
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
