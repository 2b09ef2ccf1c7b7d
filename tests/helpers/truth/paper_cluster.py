"""A cluster as the API server would have it, built from manifests alone: for running tables without a lab."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

from flows.cluster.model import Cluster, ClusterPolicy, Key, Namespace, Node, Pod, Policy
from flows.parse.objects import parse_object
from tests.helpers.truth.layout import Manifest


class PaperCluster:
    """Objects by kind and name. Applying replaces, as the API does; anything that does not parse whole is refused."""

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        self._namespaces: dict[str, Namespace] = {}
        self._pods: dict[Key, Pod] = {}
        self._nodes: dict[str, Node] = {}
        self._policies: dict[Key, Policy] = {}
        self._cluster_policies: dict[Key, ClusterPolicy] = {}
        for manifest in manifests:
            self.apply(manifest)

    def apply(self, manifest: Manifest) -> None:
        """Add or replace one object. Raises ValueError when something of it was not understood."""
        parsed = parse_object(manifest)
        if parsed is None or parsed.errors:
            raise ValueError(f"{manifest}: {parsed and parsed.errors}")
        value = parsed.value
        if isinstance(value, Pod):
            self._pods[value.key] = value
        elif isinstance(value, Policy):
            self._policies[value.key] = value
        elif isinstance(value, ClusterPolicy):
            self._cluster_policies[value.key] = value
        elif isinstance(value, Node):
            self._nodes[value.name] = value
        elif isinstance(value, Namespace):
            self._namespaces[value.name] = value
        else:
            raise ValueError(f"{manifest}: the tables have no such objects")

    def delete_policy(self, manifest: Manifest) -> None:
        """Take one policy away. Raises KeyError when it is not there."""
        meta = manifest["metadata"]
        if "namespace" in meta:
            del self._policies[Key(meta["namespace"], meta["name"])]
        else:
            del self._cluster_policies[Key("", meta["name"])]

    def delete_pod(self, key: Key) -> None:
        """Take one pod away. Raises KeyError when it is not there."""
        del self._pods[key]

    def snapshot(self) -> Cluster:
        """The cluster as it is now."""
        return Cluster(
            MappingProxyType(dict(self._namespaces)),
            MappingProxyType(dict(self._pods)),
            MappingProxyType(dict(self._nodes)),
            MappingProxyType(dict(self._policies)),
            cluster_policies=MappingProxyType(dict(self._cluster_policies)),
        )
