"""The question put to `verdict`: a connection between two endpoints, given directly or by names.

An endpoint is named by a pod's key, a node's name or an address. No policy may be evaluated here.
"""

from __future__ import annotations

from dataclasses import dataclass

from flows.cluster.model import Cluster, Key, Pod, Protocol
from flows.cluster.net import Net

ICMP, ICMPV6 = 1, 58  # IP protocol numbers (IANA)
_PROTOCOL_NAMES = {ICMP: "ICMP", ICMPV6: "ICMPv6", **{int(protocol): protocol.name for protocol in Protocol}}
EndpointName = Key | str | Net  # a pod's key, a node's name, or an address


class ProbeError(ValueError):
    """A probe that is not possible in this cluster. The message tells the user why."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a connection: the address in the packet, and what is behind the switch port.

    `pod` is set for a pod's port, `node` for the node itself (the bridge's LOCAL port), neither for an external host.
    Raises ProbeError when both are set, or when `address` is a prefix.
    """

    address: Net
    pod: Key | None = None
    node: str | None = None

    def __post_init__(self) -> None:
        if self.pod is not None and self.node is not None:
            raise ProbeError("an endpoint is a pod's port or the node itself, not both")
        if not self.address.is_host:
            raise ProbeError(f"{self.address} is a prefix, not an address")

    def __str__(self) -> str:
        if self.pod is not None:
            return f"{self.pod} ({self.address})"
        return f"node {self.node} ({self.address})" if self.node is not None else str(self.address)


@dataclass(frozen=True, slots=True)
class Probe:
    """A connection to be opened. `protocol` is an IP protocol number (IANA).

    `port` is the destination port: a number for TCP, UDP and SCTP, None for every other protocol. Raises ProbeError
    when the port does not suit the protocol, or the two addresses are of different families.
    """

    source: Endpoint
    destination: Endpoint
    protocol: int
    port: int | None = None

    def __post_init__(self) -> None:
        if self.source.address.version != self.destination.address.version:
            raise ProbeError(f"{self.source.address} and {self.destination.address} are of different families")
        has_ports = self.protocol in Protocol.__members__.values()
        if has_ports != (self.port is not None):
            raise ProbeError(f"{protocol_name(self.protocol)} {'needs a' if has_ports else 'has no'} port")

    def __str__(self) -> str:
        port = "" if self.port is None else f" port {self.port}"
        return f"{protocol_name(self.protocol)}{port} from {self.source} to {self.destination}"


def protocol_name(number: int) -> str:
    """The usual name of an IP protocol, or `protocol N`."""
    return _PROTOCOL_NAMES.get(number, f"protocol {number}")


def pods_with_address(cluster: Cluster, address: Net) -> tuple[Pod, ...]:
    """The pods whose status lists this address, sorted by key. Pods on the host's network and finished pods have no
    address of their own."""
    found = (pod for pod in cluster.pods.values() if pod.networked and address in pod.addresses)
    return tuple(sorted(found, key=lambda pod: pod.key))


def probe_between(
    cluster: Cluster,
    source: EndpointName,
    destination: EndpointName,
    protocol: int,
    port: int | None = None,
    version: int | None = None,
) -> Probe:
    """The probe from `source` to `destination` over IP `version` (4 or 6); by default the first family that both have.

    Raises ProbeError when an endpoint is unknown, ambiguous, or has no address of the family.
    """
    sources, destinations = endpoints_named(cluster, source), endpoints_named(cluster, destination)
    for one in sources:
        for other in destinations:
            family = one.address.version
            if family == other.address.version and version in (None, family):
                return Probe(one, other, protocol, port)
    family_text = "no address family" if version is None else f"no IPv{version} addresses"
    raise ProbeError(f"{source} and {destination} have {family_text} in common")


def endpoints_named(cluster: Cluster, name: EndpointName) -> list[Endpoint]:
    """The endpoints with this name, one for each address of the pod or node, in the order of the addresses.

    A pod on the host's network gives its node's endpoints. Raises ProbeError when `name` is unknown or ambiguous.
    """
    if isinstance(name, Key):
        return _pod_endpoints(cluster, name)
    if isinstance(name, str):
        node = cluster.nodes.get(name)
        if node is None:
            raise ProbeError(f"there is no node {name}")
        return [Endpoint(address, node=name) for address in node.addresses]
    return [_endpoint_at(cluster, name)]


def _pod_endpoints(cluster: Cluster, key: Key) -> list[Endpoint]:
    pod = cluster.pods.get(key)
    if pod is None:
        raise ProbeError(f"there is no pod {key}")
    if pod.finished:
        raise ProbeError(f"pod {key} has finished")
    if pod.host_network:
        return endpoints_named(cluster, pod.node)
    return [Endpoint(address, pod=key) for address in pod.addresses]


def _endpoint_at(cluster: Cluster, address: Net) -> Endpoint:
    pods = pods_with_address(cluster, address)
    if len(pods) > 1:
        raise ProbeError(f"{address} is claimed by {', '.join(str(pod.key) for pod in pods)}: name the pod")
    if pods:
        return Endpoint(address, pod=pods[0].key)
    nodes = sorted(node.name for node in cluster.nodes.values() if address in node.addresses)
    return Endpoint(address, node=nodes[0]) if nodes else Endpoint(address)
