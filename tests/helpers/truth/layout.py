"""The world of the truth tables: namespaces x, y, z, pods a, b, c in each, two nodes, and perhaps an outside.

Names and labels stand here once; addresses are given by whoever runs the tables: made up for the reference semantics,
the lab's own for real packets. Nothing is expected here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

Manifest = dict[str, Any]

NAMESPACES = ("x", "y", "z")
PODS = tuple(f"{namespace}/{pod}" for namespace in NAMESPACES for pod in "abc")
PORTS = (80, 81)
PROTOCOLS = ("TCP", "UDP", "SCTP")
OUTSIDE = "outside"


@dataclass(frozen=True)
class TruthLayout:
    """Where everything is. Addresses are text, by family 4 and 6.

    `pods` and `placement` (the node of each pod) are by `namespace/name`, `nodes` by the node's name. Pods a and b of
    a namespace must be on different nodes, so that every table crosses from one to another. Without `outside`, checks
    that ask about it are left out.
    """

    pods: Mapping[str, Mapping[int, str]]
    placement: Mapping[str, str]
    nodes: Mapping[str, Mapping[int, str]]
    outside: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        for namespace in NAMESPACES:
            if self.placement[f"{namespace}/a"] == self.placement[f"{namespace}/b"]:
                raise ValueError(f"pods a and b of {namespace} must be on different nodes")

    def address(self, end: str, version: int) -> str | None:
        """The address of an end: a pod `x/a`, a pod's node `@x/a`, or `outside`. None where it has none."""
        if end == OUTSIDE:
            return self.outside.get(version)
        if end.startswith("@"):
            return self.nodes[self.placement[end[1:]]].get(version)
        return self.pods[end].get(version)

    def pods_prefix(self, version: int) -> str:
        """The longest prefix that all nine pods' addresses lie in."""
        numbers = [int(ipaddress.ip_address(self.pods[pod][version])) for pod in PODS]
        width = 32 if version == 4 else 128
        prefix = width - (min(numbers) ^ max(numbers)).bit_length()
        first = ipaddress.ip_address(self.pods[PODS[0]][version])
        return str(ipaddress.ip_network((first, prefix), strict=False))

    def fill(self, value: Any) -> Any:
        """`value` with each `{ip4 x/a}` in its strings replaced by an address, `{pods6}` by `pods_prefix`.

        `{ip6 @x/a}` is the address of x/a's node. Raises KeyError on a word that is none of these.
        """
        if isinstance(value, dict):
            return {key: self.fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if isinstance(value, str) and value.startswith("{"):
            word, _, rest = value[1:].partition("}")
            return self._word(*word.split()) + rest
        return value

    def _word(self, kind: str, *end: str) -> str:
        version = int(kind[-1])
        found: Mapping[str, Callable[[], str | None]] = {
            "pods": lambda: self.pods_prefix(version),
            "ip": lambda: self.address(end[0], version),
        }
        text = found[kind[:-1]]()
        if text is None:
            raise KeyError(f"{end} has no IPv{version} address")
        return text

    def manifests(self) -> list[Manifest]:
        """The objects that exist before any case: namespaces, nodes and pods."""
        nodes = [
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name},
                "status": {"addresses": [{"type": "InternalIP", "address": one} for one in addresses.values()]},
            }
            for name, addresses in self.nodes.items()
        ]
        return [*map(namespace_manifest, NAMESPACES), *nodes, *map(self.pod_manifest, PODS)]

    def pod_manifest(self, pod: str, labels: Mapping[str, str] | None = None) -> Manifest:
        """A pod's object, with its addresses in its status and two named ports of each protocol.

        `labels` replace the usual one, `pod: NAME`. The rest is as the lab has it: a server lets nobody change more.
        """
        namespace, name = pod.split("/")
        addresses = list(self.pods[pod].values())
        ports = [
            {"name": f"serve-{port}-{protocol.lower()}", "containerPort": port, "protocol": protocol}
            for port in PORTS
            for protocol in PROTOCOLS
        ]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "namespace": namespace,
                "name": name,
                "labels": dict(labels if labels is not None else {"pod": name}),
            },
            "spec": {
                "nodeName": self.placement[pod],
                "containers": [{"name": "main", "image": "lab", "ports": ports}],
            },
            "status": {
                "phase": "Running",
                "podIP": addresses[0],
                "podIPs": [{"ip": address} for address in addresses],
            },
        }


def namespace_manifest(name: str, labels: Mapping[str, str] | None = None) -> Manifest:
    """A namespace's object; `labels` replace the usual one, `ns: NAME`."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": dict(labels if labels is not None else {"ns": name})},
    }


def paper_world() -> TruthLayout:
    """A world with made-up addresses, for running the tables without a lab."""
    return TruthLayout(
        pods={
            pod: {4: f"10.10.{1 + (pod[-1] == 'b')}.{number + 2}", 6: f"fd00:10:{1 + (pod[-1] == 'b')}::{number + 2}"}
            for number, pod in enumerate(PODS)
        },
        placement={pod: "two" if pod.endswith("b") else "one" for pod in PODS},
        nodes={"one": {4: "10.10.1.1", 6: "fd00:10:1::1"}, "two": {4: "10.10.2.1", 6: "fd00:10:2::1"}},
        outside={4: "203.0.113.7", 6: "2001:db8::7"},
    )
