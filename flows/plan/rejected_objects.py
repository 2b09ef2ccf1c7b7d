"""Objects that are rejected because handling them raised an exception, with the reason. All others are unaffected.

A rejected policy still isolates the pods that it selects, in its directions, and allows nothing. If that raises too, it
isolates all pods of its namespace; if that raises as well, the policy is left out. A rejected ClusterNetworkPolicy
denies everything to the pods that it selects, then to all pods, as if its rules could not be read. A rejected pod has
no port. An object is tried again when it changes. `describe_error` puts every contained exception into words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from flows.cluster.model import (
    CLUSTER_NETWORK_POLICY,
    EVERYTHING,
    NETWORK_POLICY,
    Cluster,
    ClusterPolicy,
    ClusterRule,
    Direction,
    Key,
    Policy,
    Subject,
)

K = TypeVar("K")
V = TypeVar("V")
ObjectName = tuple[str, Key | str]  # kind, and key or name
_MAX_DESCRIPTION = 500  # characters


def describe_error(error: BaseException) -> str:
    """An exception in one line for the operator, with the file and line that raised it."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" ({place.tb_frame.f_code.co_filename.rpartition('/')[2]}:{place.tb_lineno})" if place is not None else ""
    return f"{type(error).__name__}: {error}{where}"[:_MAX_DESCRIPTION]


class _Overlay(Mapping[K, V]):
    """A mapping with some of its entries replaced, or (None) removed."""

    def __init__(self, whole: Mapping[K, V], instead: Mapping[K, V | None]) -> None:
        self._whole, self._instead = whole, instead

    def __getitem__(self, key: K) -> V:
        found = self._instead[key] if key in self._instead else self._whole[key]
        if found is None or key not in self._whole:
            raise KeyError(key)
        return found

    def __iter__(self) -> Iterator[K]:
        return (key for key in self._whole if self._instead.get(key, self) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class RejectedObjects:
    """`reasons` says why, by kind and key."""

    def __init__(self) -> None:
        self.reasons: dict[ObjectName, str] = {}
        self._attempts: dict[ObjectName, int] = {}  # exceptions that an object or its replacement raised

    def add(self, kind: str, key: Key | str, error: BaseException) -> None:
        """Handling an object, or its replacement by `accepted`, raised."""
        name = kind, key
        self._attempts[name] = self._attempts.get(name, 0) + 1
        self.reasons[name] = f"handling it failed, so it is left out: {describe_error(error)}"

    def readmit(self, kind: str, key: Key | str) -> bool:
        """An object has changed or is gone: it is tried again. Returns whether it was rejected."""
        self._attempts.pop((kind, key), None)
        return self.reasons.pop((kind, key), None) is not None

    def accepted(self, cluster: Cluster) -> Cluster:
        """The cluster with rejected policies replaced by policies that only isolate, and other objects left out."""
        if not self.reasons:
            return cluster
        instead: dict[str, dict[Key | str, object]] = {}
        for kind, key in self.reasons:
            instead.setdefault(kind, {})[key] = self._instead(kind, key, cluster)
        return Cluster(
            _Overlay(cluster.namespaces, instead.get("Namespace", {})),  # type: ignore[arg-type]  # of these kinds
            _Overlay(cluster.pods, instead.get("Pod", {})),  # type: ignore[arg-type]
            _Overlay(cluster.nodes, instead.get("Node", {})),  # type: ignore[arg-type]
            _Overlay(cluster.policies, instead.get("NetworkPolicy", {})),  # type: ignore[arg-type]
            _Overlay(cluster.services, instead.get("Service", {})),  # type: ignore[arg-type]
            _Overlay(cluster.endpoint_slices, instead.get("EndpointSlice", {})),  # type: ignore[arg-type]
            _Overlay(cluster.service_cidrs, instead.get("ServiceCIDR", {})),  # type: ignore[arg-type]
            _Overlay(cluster.cluster_policies, instead.get(CLUSTER_NETWORK_POLICY, {})),  # type: ignore[arg-type]
        )

    def _instead(self, kind: str, key: Key | str, cluster: Cluster) -> Policy | ClusterPolicy | None:
        attempts = self._attempts[kind, key]
        if attempts > 2 or not isinstance(key, Key):
            return None
        if kind == CLUSTER_NETWORK_POLICY:
            found = cluster.cluster_policies.get(key)
            if found is None:
                return None
            ingress, egress = (tuple([_unreadable(one) for one in found.rules(direction)]) for direction in Direction)
            subject = found.subject if attempts == 1 else Subject()
            return found._replace(ingress=ingress, egress=egress, subject=subject)
        policy = cluster.policies.get(key) if kind == NETWORK_POLICY else None
        if policy is None:
            return None
        isolating = policy._replace(ingress=(), egress=())
        return isolating if attempts == 1 else isolating._replace(subjects=EVERYTHING)


def _unreadable(rule: ClusterRule) -> ClusterRule:
    return ClusterRule(rule.action, name=rule.name, unreadable=True)
