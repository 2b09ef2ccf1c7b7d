"""The pods that were deleted lately, with the addresses that they had: for questions about what happened before.

An operator often has only two addresses out of a log, and one of them is of a pod that is gone. The number kept is
bounded; the oldest is forgotten first. Nothing that is enforced depends on this.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from flows.cluster.model import Cluster, Key, Pod
from flows.cluster.objects import ObjectRef
from flows.policy.engine import PolicyEngine

MAX_GONE = 10_000


class GonePod(NamedTuple):
    """A deleted pod as it was last, with the addresses that counted, and when it was deleted (monotonic seconds)."""

    pod: Pod
    at: float


class GonePods:
    """The last MAX_GONE deleted pods, by key."""

    def __init__(self) -> None:
        self._pods: OrderedDict[Key, GonePod] = OrderedDict()

    def note(self, changed: Iterable[ObjectRef], new: Cluster, old: Cluster, engine: PolicyEngine, now: float) -> None:
        """A new snapshot comes: keep the pods that it does not have any more. `engine` still has the old ones."""
        for kind, key in changed:
            if kind != "Pod" or not isinstance(key, Key):
                continue
            if key in new.pods:
                self._pods.pop(key, None)
            elif (pod := old.pods.get(key)) is not None and pod.networked:
                known = engine.pod(key)
                self._pods.pop(key, None)
                self._pods[key] = GonePod(pod if known is None else known, now)
        while len(self._pods) > MAX_GONE:
            self._pods.popitem(last=False)

    def named(self, texts: Iterable[str]) -> list[GonePod]:
        """The pods with one of these names (`namespace/name`, also after `pod:`) or addresses, the last first."""
        wanted = {text.removeprefix("pod:") for text in texts}
        return [
            one
            for key, one in reversed(self._pods.items())
            if str(key) in wanted or any(str(address) in wanted for address in one.pod.addresses)
        ]
