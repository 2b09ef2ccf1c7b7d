"""Policies of the whole cluster once more, straight from manifests: what tests hold parser and walk against.

Written after the documents of network-policy-api (v0.3.0, and v1alpha1 of v0.1.7), without the model's policies: these
are plain data here, and only pods, nodes and namespaces come from the model. Each address has one pod at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from flows.cluster.model import Cluster, Key, Pod

Raw = dict[str, Any]
OLD_ACTIONS = {"Allow": "Accept", "Deny": "Deny", "Pass": "Pass"}
PLACES = {"AdminNetworkPolicy": "adminnetworkpolicy:", "BaselineAdminNetworkPolicy": "baselineadminnetworkpolicy:"}
BEHIND_ALL = 1001  # the priority of the BaselineAdminNetworkPolicy
# By direction and pod that a NetworkPolicy isolates: the networks that it may talk with.
Isolated = Mapping[tuple[str, Key], list[str]]


def opens(
    cluster: Cluster, policies: list[Raw], isolated: Isolated, source: Pod, target: Pod | str, protocol: str,
    port: int | None,
) -> bool:  # fmt: skip
    """Whether a pod may open a connection to a pod or an address."""
    if source is target:
        return True
    if source.networked and not side(cluster, policies, isolated, "egress", source, target, protocol, port):
        return False
    if isinstance(target, str) or not target.networked:
        return True
    return side(cluster, policies, isolated, "ingress", target, source, protocol, port)


def side(
    cluster: Cluster, policies: list[Raw], isolated: Isolated, direction: str, subject: Pod, far: Pod | str,
    protocol: str, port: int | None,
) -> bool:  # fmt: skip
    """Admin, NetworkPolicy where one isolates, else Baseline: the first rule that matches decides, and Pass leaves the
    tier."""
    address = far if isinstance(far, str) else str(far.addresses[0])
    node = cluster.nodes.get(subject.node)
    own = node is not None and address in map(str, node.addresses)
    if direction == "ingress" and own:
        return True
    for tier in ("Admin", "Baseline"):
        nets = isolated.get((direction, subject.key)) if tier == "Baseline" else None
        if nets is not None:
            return own or any(ip_address(address) in ip_network(net) for net in nets)
        for action in matching(cluster, policies, tier, direction, subject, far, protocol, port):
            if action == "Pass":
                break
            return action == "Accept"
    return True


def matching(
    cluster: Cluster, policies: list[Raw], tier: str, direction: str, subject: Pod, far: Pod | str, protocol: str,
    port: int | None,
) -> Iterator[str]:  # fmt: skip
    """The actions of the rules that match, in their order."""
    for policy in sorted((one for one in policies if tier_of(one) == tier), key=order):
        old = policy["kind"] != "ClusterNetworkPolicy"
        if not selects(cluster, policy["spec"]["subject"], subject):
            continue
        for rule in policy["spec"].get(direction, ()):
            if not any(is_peer(cluster, one, far) for one in rule["from" if direction == "ingress" else "to"]):
                continue
            target = subject if direction == "ingress" else far
            ports = rule.get("ports" if old else "protocols")
            if ports is None or any((old_port if old else new_port)(one, target, protocol, port) for one in ports):
                yield OLD_ACTIONS[rule["action"]] if old else rule["action"]


def tier_of(policy: Raw) -> str:
    if policy["kind"] == "ClusterNetworkPolicy":
        return str(policy["spec"]["tier"])
    return "Admin" if policy["kind"] == "AdminNetworkPolicy" else "Baseline"


def order(policy: Raw) -> tuple[int, str]:
    kind, name = policy["kind"], policy["metadata"]["name"]
    return policy["spec"].get("priority", BEHIND_ALL), PLACES.get(kind, "") + name


def selects(cluster: Cluster, peer: Raw, pod: Pod) -> bool:
    """The pods of `namespaces` or `pods`: never those on the host's network."""
    spaces = cluster.namespace_labels(pod.key.namespace)
    if not pod.networked:
        return False
    if "namespaces" in peer:
        return has(peer["namespaces"], spaces)
    return has(peer["pods"].get("namespaceSelector", {}), spaces) and has(peer["pods"]["podSelector"], pod.labels)


def is_peer(cluster: Cluster, peer: Raw, far: Pod | str) -> bool:
    address = ip_address(far if isinstance(far, str) else str(far.addresses[0]))
    if "networks" in peer:
        nets = [ip_network(one, strict=False) for one in peer["networks"]]
        return any(net.version == address.version and address in net for net in nets)
    if "nodes" in peer:
        nodes = [one for one in cluster.nodes.values() if has(peer["nodes"], one.labels)]
        return any(str(address) in map(str, (*one.addresses, *one.external_addresses)) for one in nodes)
    return isinstance(far, Pod) and selects(cluster, peer, far)


def new_port(entry: Raw, target: Pod | str, protocol: str, port: int | None) -> bool:
    if "destinationNamedPort" in entry:
        return has_port(entry["destinationNamedPort"], target, protocol, port)
    ((kind, below),) = entry.items()
    ports = below["destinationPort"]
    low, high = (ports["number"],) * 2 if "number" in ports else (ports["range"]["start"], ports["range"]["end"])
    return kind.upper() == protocol and port is not None and low <= port <= high


def old_port(entry: Raw, target: Pod | str, protocol: str, port: int | None) -> bool:
    if "namedPort" in entry:
        return has_port(entry["namedPort"], target, protocol, port)
    ((kind, ports),) = entry.items()
    low, high = (ports["port"],) * 2 if kind == "portNumber" else (ports["start"], ports["end"])
    return ports.get("protocol", "TCP") == protocol and port is not None and low <= port <= high


def has_port(name: str, target: Pod | str, protocol: str, port: int | None) -> bool:
    """A name stands for the ports of the destination pod that have it, of any protocol."""
    return isinstance(target, Pod) and any(
        (one.name, one.protocol.name, one.number) == (name, protocol, port) for one in target.ports
    )


def has(selector: Raw, labels: Any) -> bool:
    """Labels meet a selector: all of its labels and expressions."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for one in selector.get("matchExpressions", ()):
        value, values = labels.get(one["key"]), one.get("values", ())
        met = {
            "In": value in values, "NotIn": value not in values, "Exists": value is not None,
            "DoesNotExist": value is None,
        }  # fmt: skip
        if not met[one["operator"]]:
            return False
    return True
