"""Sets of ends in as few words as possible: all pods, whole namespaces, workloads, parts of workloads, addresses."""

from __future__ import annotations

from flows.cluster.model import Key
from flows.reach.bits import numbers_of
from flows.reach.ends import Ends

ALL_PODS = "all pods"
MAX_PODS_NAMED = 3  # of a workload of which only a part is meant
MANY = 4  # workloads; a whole namespace of fewer is told by their names


class EndNames:
    """The names of the ends of one numbering. A pod counts when one of its addresses is in the set."""

    def __init__(self, ends: Ends) -> None:
        self._ends = ends
        self._of: dict[int, tuple[str, ...]] = {}
        self._workloads: dict[tuple[str, str], set[Key]] = {}
        self._namespaces: dict[str, set[str]] = {}
        for (key, _), workload in zip(ends.addresses, ends.workloads, strict=True):
            self._workloads.setdefault((key.namespace, workload), set()).add(key)
            self._namespaces.setdefault(key.namespace, set()).add(workload)

    def without_itself(self, near: int, far: int) -> int:
        """`far` without the pod of `near`, where that is one pod only: it always reaches itself."""
        pods = {self._ends.addresses[n][0] for n in numbers_of(near) if n < len(self._ends.addresses)}
        return far & ~self._ends.of_pods(pods) if len(pods) == 1 else far

    def of(self, bits: int) -> tuple[str, ...]:
        """The names of a set, sorted: pods first, then addresses outside, a name for each range."""
        found = self._of.get(bits)
        if found is None:
            found = self._of[bits] = self._names(bits)
        return found

    def _names(self, bits: int) -> tuple[str, ...]:
        ends = self._ends
        pods: dict[tuple[str, str], set[Key]] = {}
        outside: list[str] = []
        for n in numbers_of(bits):
            if n >= len(ends.addresses):
                outside += ends.outside[n - len(ends.addresses)].range_texts()
            else:
                key = ends.addresses[n][0]
                pods.setdefault((key.namespace, ends.workloads[n]), set()).add(key)
        return (*self._pod_names(pods), *outside)

    def _pod_names(self, pods: dict[tuple[str, str], set[Key]]) -> list[str]:
        whole = {one for one, keys in pods.items() if keys == self._workloads[one]}
        if len(whole) == len(self._workloads) >= MANY:
            return [ALL_PODS]
        spaces: dict[str, set[str]] = {}
        for namespace, workload in whole:
            spaces.setdefault(namespace, set()).add(workload)
        complete = {
            one for one, found in spaces.items() if found == self._namespaces[one] and len(found) >= MANY
        }  # fmt: skip
        names = [f"namespace {one}" for one in complete]
        for (namespace, workload), keys in pods.items():
            if (namespace, workload) not in whole:
                names.append(f"{namespace}/{workload} ({self._part(keys, (namespace, workload))})")
            elif namespace not in complete:
                names.append(f"{namespace}/{workload}")
        return sorted(names)

    def _part(self, keys: set[Key], workload: tuple[str, str]) -> str:
        named = ", ".join(sorted(key.name for key in keys)[:MAX_PODS_NAMED])
        more = ", ..." if len(keys) > MAX_PODS_NAMED else ""
        return f"{len(keys)} of {len(self._workloads[workload])} pods: {named}{more}"
