"""Which pods are audited, and for what: by annotations of pods, namespaces and policies, and by the default.

A pod's annotation counts before its namespace's, and that before the default. A policy's annotation adds to them: what
it isolates its pods for is audited. Nothing here changes what is allowed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from flows.cluster.model import EVERYTHING, AuditMode, ClusterPolicy, Direction, Key, Pod, Policy
from flows.policy.pod_index import PodIndex
from flows.policy.rule import NO_WATCH, Watch
from flows.policy.selecting_policies import SelectingPolicies

_DROPPED = frozenset({Watch.EGRESS, Watch.INGRESS, Watch.DROPS})
WATCHED = {AuditMode.OFF: NO_WATCH, AuditMode.DENIED: _DROPPED, AuditMode.ALL: _DROPPED | {Watch.OPENED}}

_BY_POLICY = {
    (AuditMode.DENIED, Direction.EGRESS): frozenset({Watch.EGRESS}),
    (AuditMode.DENIED, Direction.INGRESS): frozenset({Watch.INGRESS}),
    (AuditMode.ALL, Direction.EGRESS): frozenset({Watch.EGRESS, Watch.OPENED}),
    (AuditMode.ALL, Direction.INGRESS): frozenset({Watch.INGRESS, Watch.OPENED}),
}


def watched_by(mode: AuditMode, direction: Direction) -> frozenset[Watch]:
    """What is audited of a pod for a policy with this annotation that applies to it in a direction."""
    return _BY_POLICY.get((mode, direction), NO_WATCH)


class AuditedPods:
    """Notes in `selecting.changed` the pods for which something may have changed."""

    def __init__(self, index: PodIndex, selecting: SelectingPolicies, default: AuditMode) -> None:
        self._index = index
        self._selecting = selecting
        self._default = default
        self._pods: dict[Key, AuditMode] = {}  # those with an annotation; so are the others
        self._namespaces: dict[str, AuditMode] = {}
        self._policies: dict[Key, AuditMode] = {}

    # -- changes -----------------------------------------------------------------------------------------------------

    @contextmanager
    def noting(self, key: Key) -> Iterator[None]:
        """Notes a pod that comes, goes or changes meanwhile, if that changes what is audited of it."""
        numbers = self._index.numbers
        n, before = numbers.get(key), self.watched(key)
        yield
        if before != self.watched(key):
            self._selecting.changed.update(one for one in (n, numbers.get(key)) if one is not None)

    def put_pod(self, pod: Pod) -> None:
        """A pod is new or has changed."""
        if pod.audit is not None:
            self._pods[pod.key] = pod.audit
        elif self._pods:
            self._pods.pop(pod.key, None)

    def remove_pod(self, key: Key) -> None:
        """A pod is deleted."""
        self._pods.pop(key, None)

    def put_namespace(self, name: str, mode: AuditMode | None) -> None:
        """A namespace has this annotation now; None without one, and when its object is deleted."""
        if self._namespaces.get(name) is mode:
            return
        self._namespaces.pop(name, None)
        if mode is not None:
            self._namespaces[name] = mode
        self._selecting.changed.update(self._index.select(name, EVERYTHING))

    def replace_policy(self, old: Policy | None, new: Policy | None) -> None:
        """A NetworkPolicy is another one now."""
        self._replace(old, new)
        for one in (old, new):
            if one is not None and one.audit is not AuditMode.OFF:
                self._selecting.changed.update(self._index.select(one.key.namespace, one.subjects))

    def replace_cluster_policy(
        self, old: ClusterPolicy | None, new: ClusterPolicy | None, subjects: Collection[int]
    ) -> None:
        """A ClusterNetworkPolicy is another one now; `subjects` are the pods that either selects."""
        self._replace(old, new)
        self._selecting.changed.update(subjects)

    def _replace(self, old: Policy | ClusterPolicy | None, new: Policy | ClusterPolicy | None) -> None:
        if old is not None:
            self._policies.pop(old.key, None)
        if new is not None and new.audit is not AuditMode.OFF:
            self._policies[new.key] = new.audit

    # -- questions ---------------------------------------------------------------------------------------------------

    @property
    def any(self) -> bool:
        """Whether anything may be audited; hardly ever."""
        return bool(self._pods or self._namespaces or self._policies) or self._default is not AuditMode.OFF

    def watched(self, pod: Key) -> frozenset[Watch]:
        """What of a pod's packets is audited."""
        if not self.any:
            return NO_WATCH
        if pod not in self._index.numbers:
            return NO_WATCH  # it has no network of its own
        mode = self._pods.get(pod)
        if mode is None:
            mode = self._namespaces.get(pod.namespace, self._default)
        found = WATCHED[mode]
        return found | self._by_policies(pod) if self._policies else found

    def _by_policies(self, pod: Key) -> set[Watch]:
        found: set[Watch] = set()
        for direction, policies in self._selecting.policies_of(pod):
            for policy in policies:
                found |= watched_by(self._policies.get(policy, AuditMode.OFF), direction)
        return found
