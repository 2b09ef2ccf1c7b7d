"""What a lab consists of at the moment, as plain data: the answer of `headgate lab status`."""

from __future__ import annotations

from typing import Any

from topology import process
from topology.lab import Lab
from topology.node import alive
from topology.product import ROLE


def describe(lab: Lab) -> dict[str, Any]:
    """Everything one needs to work with a lab that is up: addresses, sockets, namespaces, processes.

    `server` is None when the lab was brought up without a controller; `controller` says whether it runs. Raises
    LabError when the lab is not up.
    """
    current = lab.current()
    running = process.find(lab.folder)
    return {
        "name": lab.topology.name,
        "folder": str(lab.folder),
        "datapath": current.datapath,
        "server": lab.product.server if current.controller else None,
        "controller": any(found.role == ROLE for found in running),
        "nodes": _nodes(lab),
        "pods": _pods(lab),
        "externals": [
            {"name": name, "addresses": list(endpoint.addresses.values()), "netns": str(lab.netns(name))}
            for name, endpoint in lab.endpoints.items()
            if name.startswith("external:")
        ],
        "processes": [{"pid": found.pid, "role": found.role} for found in running],
    }


def _nodes(lab: Lab) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "running": alive(lab.folder, name),
            "addresses": list(node.endpoint.addresses.values()),
            "ovsdb": node.ovsdb,
            "management": node.management,
            "netns": str(node.netns),
        }
        for name, node in lab.nodes.items()
    ]


def _pods(lab: Lab) -> list[dict[str, Any]]:
    return [
        {
            "name": pod.key,
            "node": pod.node,
            "labels": dict(pod.labels),
            "addresses": list(lab.endpoints[pod.key].addresses.values()),
            "mac": lab.endpoints[pod.key].mac,
            "interface": lab.link(pod).interface,
            "ports": [str(port) for port in lab.topology.served(pod)],
            "netns": str(lab.netns(pod.key)),
        }
        for pod in lab.topology.pods
    ]
