"""Objects that are kept out because taking them in failed, each with the reason; the rest of the cluster goes on.

A policy that is kept out still isolates: the pods that it selects in the directions that it names, without a rule; if
that fails too, all pods of its namespace. A pod that is kept out has no port. An object is tried again when it changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from flows.cluster.model import EVERYTHING, Cluster, Key, Policy

K = TypeVar("K")
V = TypeVar("V")
ObjectName = tuple[str, Key | str]  # kind, and key or name


def describe_error(error: BaseException) -> str:
    """An error as people read it, with the place it comes from."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" ({place.tb_frame.f_code.co_filename.rpartition('/')[2]}:{place.tb_lineno})" if place is not None else ""
    return f"{type(error).__name__}: {error}{where}"[:500]


class _Without(Mapping[K, V]):
    """A mapping with some of its entries gone, or others in their place."""

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
    """What is kept out: `reasons` by kind and key."""

    def __init__(self) -> None:
        self.reasons: dict[ObjectName, str] = {}
        self._levels: dict[
            ObjectName, int
        ] = {}  # how often a policy failed: 1 with its own subjects, 2 with its namespace

    def add(self, kind: str, key: Key | str, error: BaseException) -> None:
        """Taking this object in failed, in the form that `known` gave."""
        name = kind, key
        self._levels[name] = self._levels.get(name, 0) + 1
        self.reasons[name] = f"it cannot be taken in and is kept out: {describe_error(error)}"

    def readmit(self, kind: str, key: Key | str) -> bool:
        """The object has changed or is gone: it is as good as any other. Whether it was kept out."""
        self._levels.pop((kind, key), None)
        return self.reasons.pop((kind, key), None) is not None

    def accepted(self, cluster: Cluster) -> Cluster:
        """The cluster as far as it is taken in."""
        if not self.reasons:
            return cluster
        instead: dict[str, dict[Key | str, object]] = {}
        for kind, key in self.reasons:
            instead.setdefault(kind, {})[key] = self._instead(kind, key, cluster)
        return Cluster(
            _Without(cluster.namespaces, instead.get("Namespace", {})),  # type: ignore[arg-type]  # of these kinds
            _Without(cluster.pods, instead.get("Pod", {})),  # type: ignore[arg-type]
            _Without(cluster.nodes, instead.get("Node", {})),  # type: ignore[arg-type]
            _Without(cluster.policies, instead.get("NetworkPolicy", {})),  # type: ignore[arg-type]
        )

    def _instead(self, kind: str, key: Key | str, cluster: Cluster) -> Policy | None:
        """What stands in for an object."""
        policy = cluster.policies.get(key) if kind == "NetworkPolicy" and isinstance(key, Key) else None
        if policy is None:
            return None
        level = self._levels[kind, key]
        if level > 2:
            return None
        closed = policy._replace(ingress=(), egress=())
        return closed if level == 1 else closed._replace(subjects=EVERYTHING)
