"""Ports of one bridge that claim the same pod, address or number: which counts, and what the others are told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from typing import TypeVar

from flows.bridge.state import Agreement, InterfaceState, PodBinding, PortProblem
from flows.cluster.model import Key
from flows.cluster.net import Net

T = TypeVar("T")
MAX_PORTS_LISTED = 5  # of the ports that claim the same; each of them is told of the others


def has_no_conflicts(found: list[PodBinding], uplinks: list[InterfaceState], own: tuple[Net, ...]) -> bool:
    """True when no pod, no address and no port number is anybody else's: nearly always."""
    addresses = list(chain(own, *[pod.addresses for pod in found]))
    numbers = [*[pod.ofport for pod in found], *[uplink.ofport for uplink in uplinks]]
    return (
        len(set(addresses)) == len(addresses)
        and len({pod.pod for pod in found}) == len(found)
        and len(set(numbers)) == len(numbers)
    )


def without_shared_ofports(
    found: list[PodBinding], uplinks: list[InterfaceState], problems: list[PortProblem]
) -> tuple[list[PodBinding], list[InterfaceState]]:
    """Two ports of one number: a switch has no such thing, and a flow for one would be the other's."""
    by_number: dict[int | None, list[str]] = defaultdict(list)
    for pod in found:
        by_number[pod.ofport].append(pod.interface)
    for uplink in uplinks:
        by_number[uplink.ofport].append(uplink.name)
    for number, names in by_number.items():
        if len(names) > 1:
            problems.extend(PortProblem(name, _rivals(f"port number {number}", names)) for name in names)
    return (
        [pod for pod in found if len(by_number[pod.ofport]) == 1],
        [uplink for uplink in uplinks if len(by_number[uplink.ofport]) == 1],
    )


def current_port(ports: Mapping[T, Agreement]) -> T | None:
    """Of several ports of one pod the one that is the pod's now; None where their words do not say it.

    Where a pod's network was made anew, the port that was before may be there still. The pod's now is the one that
    says more of what the Pod says than any other, and nothing less.
    """
    best = max(ports, key=lambda port: ports[port], default=None)
    if best is None:
        return None
    addresses, uid = ports[best]
    others = (found for port, found in ports.items() if port != best)
    decided = all(addresses >= a and uid >= u and (addresses, uid) != (a, u) for a, u in others)
    return best if decided else None


def without_stale_ports(found: list[PodBinding], problems: list[PortProblem]) -> list[PodBinding]:
    """Ports that were a pod's before it got another one."""
    by_pod: dict[Key, dict[str, Agreement]] = defaultdict(dict)
    for pod in found:
        by_pod[pod.pod][pod.interface] = pod.agreement
    now = {key: current_port(ports) for key, ports in by_pod.items() if len(ports) > 1}
    kept = []
    for pod in found:
        port = now.get(pod.pod)
        if port is None or port == pod.interface:
            kept.append(pod)
            continue
        reason = f"pod {pod.pod} has another port, {port}, which says the pod's addresses and uid; nothing passes here"
        problems.append(PortProblem(pod.interface, reason))
    return kept


def without_node_addresses(
    found: list[PodBinding], own: tuple[Net, ...], problems: list[PortProblem]
) -> list[PodBinding]:
    """A pod cannot have its node's address: whoever answers to it would be the node for all policies."""
    kept = []
    for pod in found:
        stolen = [net for net in pod.addresses if net in own]
        if stolen:
            reason = f"{stolen[0]} of pod {pod.pod} is an address of the node itself"
            problems.append(PortProblem(pod.interface, reason))
            pod = replace(pod, addresses=tuple(net for net in pod.addresses if net not in own))
        kept.append(pod)
    return kept


def without_duplicates(found: list[PodBinding], problems: list[PortProblem]) -> list[PodBinding]:
    """Two ports of one pod, or of one address: nobody can say which is right, so neither is."""
    by_pod: dict[Key, list[str]] = defaultdict(list)
    by_address: dict[Net, list[str]] = defaultdict(list)
    for pod in found:
        by_pod[pod.pod].append(pod.interface)
        for net in pod.addresses:
            by_address[net].append(pod.interface)
    kept = []
    for pod in found:
        if len(by_pod[pod.pod]) > 1:
            problems.append(PortProblem(pod.interface, _rivals(f"pod {pod.pod}", by_pod[pod.pod])))
            continue
        contested = [net for net in pod.addresses if len(by_address[net]) > 1]
        if contested:
            problems.extend(PortProblem(pod.interface, _rivals(str(net), by_address[net])) for net in contested)
            pod = replace(pod, addresses=tuple(net for net in pod.addresses if net not in contested))
        kept.append(pod)
    return kept


def _rivals(what: str, rivals: list[str]) -> str:
    names = ", ".join(sorted(rivals)[:MAX_PORTS_LISTED])
    if len(rivals) > MAX_PORTS_LISTED:
        names += f" and {len(rivals) - MAX_PORTS_LISTED} more"
    return f"{what} is claimed by several ports: {names}; until one of them goes, nothing passes to or from it"
