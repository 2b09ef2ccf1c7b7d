"""From names to a probe: who stands behind a pod's name, a node's name or an address.

This is the convenience in front of `verdict`; no policy may live here.
"""

from __future__ import annotations

from flows.cluster.model import Cluster, Key
from flows.cluster.net import Net
from flows.policy.verdict import Endpoint, Probe, ProbeError, pods_with_address

EndpointName = Key | str | Net  # a pod, a node's name, or an address


def probe_between(
    cluster: Cluster,
    source: EndpointName,
    destination: EndpointName,
    protocol: int,
    port: int | None = None,
    version: int | None = None,
) -> Probe:
    """The probe from `source` to `destination`, over `version` (4 or 6), by default the first family both have.

    Raises ProbeError when an end is unknown, ambiguous, or has no address of the family.
    """
    sources, destinations = endpoints_named(cluster, source), endpoints_named(cluster, destination)
    for one in sources:
        for other in destinations:
            family = one.address.version
            if family == other.address.version and version in (None, family):
                return Probe(one, other, protocol, port)
    family_text = "no address family" if version is None else f"no IPv{version} addresses"
    raise ProbeError(f"{source} and {destination} have {family_text} in common")


def endpoints_named(cluster: Cluster, who: EndpointName) -> list[Endpoint]:
    """Every end that `who` can be, one an address, in the order of its addresses.

    A pod on the host's network is its node. Raises ProbeError when `who` is unknown or ambiguous.
    """
    if isinstance(who, Key):
        return _of_pod(cluster, who)
    if isinstance(who, str):
        node = cluster.nodes.get(who)
        if node is None:
            raise ProbeError(f"there is no node {who}")
        return [Endpoint(address, node=who) for address in node.addresses]
    return [_of_address(cluster, who)]


def _of_pod(cluster: Cluster, key: Key) -> list[Endpoint]:
    pod = cluster.pods.get(key)
    if pod is None:
        raise ProbeError(f"there is no pod {key}")
    if pod.finished:
        raise ProbeError(f"pod {key} has finished")
    if pod.host_network:
        return endpoints_named(cluster, pod.node)
    return [Endpoint(address, pod=key) for address in pod.addresses]


def _of_address(cluster: Cluster, address: Net) -> Endpoint:
    pods = pods_with_address(cluster, address)
    if len(pods) > 1:
        raise ProbeError(f"{address} is claimed by {', '.join(str(pod.key) for pod in pods)}: name the pod")
    if pods:
        return Endpoint(address, pod=pods[0].key)
    nodes = sorted(node.name for node in cluster.nodes.values() if address in node.addresses)
    return Endpoint(address, node=nodes[0]) if nodes else Endpoint(address)
