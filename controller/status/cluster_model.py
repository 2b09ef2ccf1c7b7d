"""The effective cluster as JSON: what `headgate matrix` and `headgate plan` compute their answers from.

Between a controller and a command of the same version, so there is no published schema. Encoding it costs seconds for
100,000 pods, so it is done outside of the controller's lock and of its event loop.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from flows.bridge.network import FLAT_NETWORK, NetworkOptions
from flows.bridge.state import BridgeState
from flows.cluster.domain_names import LearnedAddress
from flows.cluster.model import Cluster, ClusterPolicy, Key, Namespace, Node, Pod, Policy


@dataclass(frozen=True, slots=True)
class ClusterValues:
    """The objects that policy depends on, as the switches have them, and the bridges that are served."""

    namespaces: list[Namespace]
    pods: list[Pod]
    nodes: list[Node]
    policies: list[Policy]
    cluster_policies: list[ClusterPolicy]
    bridges: list[BridgeState]
    network: NetworkOptions = FLAT_NETWORK
    learned: list[tuple[Key, tuple[LearnedAddress, ...]]] = field(default_factory=list)

    def cluster(self) -> Cluster:
        """The objects as a snapshot."""
        return Cluster(
            {one.name: one for one in self.namespaces},
            {one.key: one for one in self.pods},
            {one.name: one for one in self.nodes},
            {one.key: one for one in self.policies},
            cluster_policies={one.key: one for one in self.cluster_policies},
            learned=dict(self.learned),
        )


CLUSTER_VALUES = TypeAdapter(ClusterValues)


def cluster_json(cluster: Cluster, bridges: Iterable[BridgeState], network: NetworkOptions) -> bytes:
    """Encode a cluster and its bridges."""
    values = ClusterValues(
        list(cluster.namespaces.values()),
        list(cluster.pods.values()),
        list(cluster.nodes.values()),
        list(cluster.policies.values()),
        list(cluster.cluster_policies.values()),
        list(bridges),
        network,
        list(cluster.learned.items()),
    )
    return CLUSTER_VALUES.dump_json(
        values, fallback=dict, warnings=False
    )  # mappings that cannot be changed are no dicts
