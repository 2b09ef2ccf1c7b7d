"""Ports of one bridge that claim the same pod, address or ofport: which one is bound, and the problems of the others.

Example: p1 and p2 both name pod x/a. Where only p2 has the pod's uid in iface-id-ver, p2 is bound and p1 is a stale
port; where nothing tells them apart, neither is bound.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import chain
from typing import TypeVar

from flows.bridge.state import Agreement, InterfaceState, PodBinding, PortProblem
from flows.cluster.model import Key
from flows.cluster.net import Net

T = TypeVar("T")
MAX_PORTS_LISTED = 5  # in the problem of ports that claim the same thing


def has_no_conflicts(found: list[PodBinding], uplinks: list[InterfaceState], own: tuple[Net, ...]) -> bool:
    """True where no two ports share a pod, an address or an ofport, and no pod has a node's address: nearly always."""
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
    """Drop ports that share an ofport: a switch has one port of a number, so OVSDB is wrong or out of date."""
    by_number: dict[int | None, list[str]] = defaultdict(list)
    for pod in found:
        by_number[pod.ofport].append(pod.interface)
    for uplink in uplinks:
        by_number[uplink.ofport].append(uplink.name)
    for number, names in by_number.items():
        if len(names) > 1:
            problems.extend(PortProblem(name, _claimed_by_several(f"ofport {number}", names)) for name in names)
    return (
        [pod for pod in found if len(by_number[pod.ofport]) == 1],
        [uplink for uplink in uplinks if len(by_number[uplink.ofport]) == 1],
    )


def current_port(ports: Mapping[T, Agreement]) -> T | None:
    """The current one of several ports of one pod; None where their external_ids do not tell.

    When a pod's sandbox is made anew, its old port may still be there. The current port is the one that agrees with the
    Pod object at least as much as every other in both respects, and more in one.
    """
    best = max(ports, key=lambda port: ports[port], default=None)
    if best is None:
        return None
    addresses, uid = ports[best]
    others = (found for port, found in ports.items() if port != best)
    decided = all(addresses >= a and uid >= u and (addresses, uid) != (a, u) for a, u in others)
    return best if decided else None


def without_stale_ports(found: list[PodBinding], problems: list[PortProblem]) -> list[PodBinding]:
    """Drop the old ports of pods that have a newer one."""
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
        reason = f"pod {pod.pod} has a newer port, {port}, which agrees with its addresses and uid; nothing passes here"
        problems.append(PortProblem(pod.interface, reason))
    return kept


def without_node_addresses(
    found: list[PodBinding], own: tuple[Net, ...], problems: list[PortProblem]
) -> list[PodBinding]:
    """Remove the node's addresses from pods: every policy would take a pod with one of them for the node."""
    kept = []
    for pod in found:
        stolen = [net for net in pod.addresses if net in own]
        if stolen:
            reason = f"{stolen[0]} of pod {pod.pod} is an address of the node itself"
            problems.append(PortProblem(pod.interface, reason))
            pod = pod._replace(addresses=tuple(net for net in pod.addresses if net not in own))
        kept.append(pod)
    return kept


def without_duplicates(found: list[PodBinding], problems: list[PortProblem]) -> list[PodBinding]:
    """Drop ports that share a pod, and addresses that ports share: nothing tells which port is right."""
    by_pod: dict[Key, list[str]] = defaultdict(list)
    by_address: dict[Net, list[str]] = defaultdict(list)
    for pod in found:
        by_pod[pod.pod].append(pod.interface)
        for net in pod.addresses:
            by_address[net].append(pod.interface)
    kept = []
    for pod in found:
        if len(by_pod[pod.pod]) > 1:
            problems.append(PortProblem(pod.interface, _claimed_by_several(f"pod {pod.pod}", by_pod[pod.pod])))
            continue
        contested = [net for net in pod.addresses if len(by_address[net]) > 1]
        if contested:
            problems.extend(
                PortProblem(pod.interface, _claimed_by_several(str(net), by_address[net])) for net in contested
            )
            pod = pod._replace(addresses=tuple(net for net in pod.addresses if net not in contested))
        kept.append(pod)
    return kept


def _claimed_by_several(claim: str, ports: list[str]) -> str:
    names = ", ".join(sorted(ports)[:MAX_PORTS_LISTED])
    if len(ports) > MAX_PORTS_LISTED:
        names += f" and {len(ports) - MAX_PORTS_LISTED} more"
    return f"{claim} is claimed by several ports: {names}; until one of them goes, nothing passes to or from it"
