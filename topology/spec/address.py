"""Assigns addresses to the endpoints of a topology: a pure function, so that two labs of one file are the same.

Nodes get the first addresses of the subnet, the pods of node N those of block N: with 10.10.0.0/16, node 1 is 10.10.0.1
and its pods are 10.10.1.1, 10.10.1.2, and so on. Externals are outside the subnet, in prefixes reserved for examples
(RFC 5737, RFC 3849).
"""

from __future__ import annotations

import ipaddress
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from topology.errors import TopologyError
from topology.spec.model import LabPod, Topology

PODS_PER_NODE = 250
EXTERNAL_ADDRESSES = {4: ipaddress.ip_address("203.0.113.9"), 6: ipaddress.ip_address("2001:db8:113::9")}


@dataclass(frozen=True)
class LabEndpoint:
    """A host that sends and receives packets: a pod, a node or an external.

    `name` is `namespace/pod`, `node:NAME` or `external:NAME`; `netns` is the file name of its network namespace;
    `addresses` has one address as text for each family (4, 6) of the lab.
    """

    name: str
    netns: str
    mac: str
    addresses: Mapping[int, str]


def plan_endpoints(topology: Topology) -> dict[str, LabEndpoint]:
    """All endpoints of the topology by name. Raises TopologyError if addresses collide or run out."""
    endpoints: dict[str, LabEndpoint] = {}
    for index, node in enumerate(topology.nodes):
        found = _choose(topology, node.addresses, index + 1, index + 1)
        _add(
            endpoints, LabEndpoint(f"node:{node.name}", f"node-{node.name}", mac_of(f"node:{node.name}", found), found)
        )
    taken = {node.name: 0 for node in topology.nodes}
    order = {node.name: index for index, node in enumerate(topology.nodes)}
    used = {address for pod in topology.pods for address in pod.addresses}
    for pod in topology.pods:
        taken[pod.node] += 1
        # The next number may be taken: a pod keeps its address when earlier pods of its node are removed.
        numbers = [taken[pod.node], *range(1, PODS_PER_NODE + 1)]
        choices = (pod_endpoint(topology, pod, order[pod.node], number) for number in numbers)
        new = next((one for one in choices if used.isdisjoint(_chosen(pod, one))), None)
        if new is None:
            raise TopologyError(f"node {pod.node} has no address left for pod {pod.key}")
        _add(endpoints, new)
        used.update(new.addresses.values())
    for index, external in enumerate(topology.externals):
        own = _given(external.addresses)
        automatic = {family: str(EXTERNAL_ADDRESSES[family] + index + 1) for family in (4, 6)}
        found = {family: own.get(family, automatic[family]) for family in topology.families}
        name = f"external:{external.name}"
        _add(endpoints, LabEndpoint(name, f"ext-{external.name}", mac_of(name, found), found))
    return endpoints


def pod_endpoint(topology: Topology, pod: LabPod, node_index: int, number: int) -> LabEndpoint:
    """The endpoint of the `number`th pod (from 1) of the node at `node_index`."""
    if number > PODS_PER_NODE:
        raise TopologyError(f"node {pod.node} has more than {PODS_PER_NODE} pods")
    block = node_index + 1
    found = _choose(topology, pod.addresses, block * 256 + number, (block << 16) + number)
    return LabEndpoint(pod.key, f"pod-{pod.namespace}.{pod.name}", mac_of(pod.key, found), found)


def _chosen(pod: LabPod, endpoint: LabEndpoint) -> list[str]:
    """The addresses of a pod's endpoint that were assigned, not given in the topology."""
    own = _given(pod.addresses)
    return [address for family, address in endpoint.addresses.items() if family not in own]


def _choose(topology: Topology, given: Sequence[str], offset4: int, offset6: int) -> dict[int, str]:
    own = _given(given)
    automatic = {
        4: str(topology.subnets.ipv4.network_address + offset4),
        6: str(topology.subnets.ipv6.network_address + offset6),
    }
    return {family: own.get(family, automatic[family]) for family in topology.families}


def _given(addresses: Sequence[str]) -> dict[int, str]:
    return {ipaddress.ip_address(text).version: text for text in addresses}


def mac_of(name: str, addresses: Mapping[int, str]) -> str:
    """0a:58 and the IPv4 address, as several CNI plugins do: readable in captured frames."""
    if 4 in addresses:
        tail = ipaddress.ip_address(addresses[4]).packed
    else:
        tail = zlib.crc32(name.encode()).to_bytes(4, "big")
    return ":".join(f"{byte:02x}" for byte in b"\x0a\x58" + tail)


def _add(endpoints: dict[str, LabEndpoint], new: LabEndpoint) -> None:
    for other in endpoints.values():
        for family, address in new.addresses.items():
            if other.addresses.get(family) == address:
                raise TopologyError(f"{new.name} and {other.name} both have the address {address}")
    endpoints[new.name] = new
