"""Nodes for one `headgate run`: honest ones with a real switch, and liars that are no more than a real OVSDB.

All peers come from one address here, so without certificates the first one that came has what several claim (ADR 7).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.helpers.controller.headgate_process import HOST, Headgate
from tests.helpers.ovs.flow_dumps import without_cache_mark
from tests.helpers.ovs.node import Node

DENY = {
    "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "deny", "namespace": "x"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
}  # fmt: skip


def pod(name: str, node: str, address: str = "", **labels: str) -> dict[str, Any]:
    """A Pod of the namespace x."""
    status = {"podIPs": [{"ip": address}]} if address else {}
    metadata = {"name": name, "namespace": "x", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": node}, "status": status}


def policy(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A NetworkPolicy of the namespace x."""
    return {**DENY, "metadata": {"name": name, "namespace": "x"}, "spec": spec}


def put(run: Headgate, name: str, *objects: dict[str, Any]) -> None:
    """Write a manifest in one step."""
    fresh = run.manifests / f".{name}"
    fresh.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    os.rename(fresh, run.manifests / f"{name}.json")


@contextmanager
def plain(*objects: dict[str, Any], arguments: tuple[str, ...] = (), listen: bool = True) -> Iterator[Headgate]:
    """A controller without TLS that knows these objects and the Nodes n1, n2 and evil."""
    folder = Path(tempfile.mkdtemp(prefix="hgn-"))
    run = Headgate("native", folder, *arguments, listen=listen, method="tcp")
    try:
        know(run, *objects)
        run.start()
        yield run
    finally:
        run.stop()
        shutil.rmtree(folder, ignore_errors=True)


def know(run: Headgate, *objects: dict[str, Any]) -> None:
    """Let a controller know these objects and the Nodes."""
    nodes = [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}} for name in ("n1", "n2", "evil")]
    put(run, "world", *nodes, *objects)


def name(node: Node, hostname: str, system_id: str) -> None:
    """Say what the node is called."""
    ids = f"external_ids:hostname={hostname}", f"external_ids:system-id={system_id}"
    node.vsctl("set", "Open_vSwitch", ".", *ids)


def bridge(node: Node, dpid: int) -> None:
    """Give a node its br-int under this datapath id."""
    node.vsctl("add-br", "br-int", "--", "set", "Bridge", "br-int", "datapath_type=dummy", "fail_mode=secure",
               f"other_config:datapath-id={dpid:016x}")  # fmt: skip


@contextmanager
def honest(hostname: str, dpid: int, pods: dict[str, int], system_id: str = "") -> Iterator[Node]:
    """A node whose switch has an uplink and these pods' ports, by ofport."""
    node = Node()
    try:
        name(node, hostname, system_id or hostname)
        bridge(node, dpid)
        node.add_port("up", "ofport_request=1", "external_ids:headgate-role=uplink")
        for key, ofport in pods.items():
            attach(node, key, ofport)
        yield node
    finally:
        node.stop()


def attach(node: Node, key: str, ofport: int, *settings: str) -> None:
    """A pod's port."""
    ids = f"external_ids:iface-id=x/{key}", f'external_ids:attached-mac="02:00:00:00:00:{ofport:02x}"'
    node.add_port(key, f"ofport_request={ofport}", *ids, *settings)


@contextmanager
def liar(hostname: str, system_id: str, dpid: int, ports: dict[int, dict[str, str]]) -> Iterator[Node]:
    """An OVSDB that says it has such a bridge with such ports; there is no switch."""
    node = Node(switch=False)
    try:
        name(node, hostname, system_id)
        node.vsctl("add-br", "br-int", "--", "set", "Bridge", "br-int", f'datapath_id="{dpid:016x}"')
        for ofport, pairs in ports.items():
            ids = (f'external_ids:{key}="{value}"' for key, value in pairs.items())
            node.vsctl("add-port", "br-int", f"e{ofport}", "--", "set", "Interface", f"e{ofport}",
                       f"ofport={ofport}", *ids)  # fmt: skip
        yield node
    finally:
        node.stop()


def call(node: Node, run: Headgate, controller: bool = True) -> None:
    """Let a node call, for OVSDB and, with `controller`, for OpenFlow."""
    if controller:
        node.vsctl("set-controller", "br-int", f"{run.method}:{HOST}:{run.openflow}", "--", "set", "controller",
                   "br-int", "max_backoff=1000", "connection_mode=out-of-band")  # fmt: skip
    node.vsctl("set-manager", f"{run.method}:{HOST}:{run.ovsdb}")


def view(run: Headgate, ovsdb: str) -> dict[str, Any]:
    """What /status says of the bridge of an OVSDB, found by a part of its name; empty while there is none."""
    found: dict[str, Any] = next((one for one in run.status()["switches"] if ovsdb in one["ovsdb"]), {})
    return found


def flows(node: Node) -> list[str]:
    """The flows of a node's switch without counters and cache mark."""
    dump = node.ofctl("-O", "OpenFlow14", "dump-flows", node.management(), "--no-names", "--no-stats")
    return without_cache_mark(line.strip() for line in dump.splitlines() if "table=" in line or "priority=" in line)


def peers(node: Node) -> set[str]:
    """Addresses that rules on the switch let in."""
    return set(re.findall(r"ct_nw_src=([\d.]+)", "\n".join(flows(node))))
