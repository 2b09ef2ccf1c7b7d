"""Sets of ends in as few words as possible: all pods, whole namespaces, workloads, parts of workloads, addresses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from flows.cluster.model import Key
from flows.reach.bits import numbers_of, span, text_of
from flows.reach.ends import Ends

ALL_PODS = "all pods"
MAX_PODS_NAMED = 3  # of a workload of which only a part is meant
MANY = 4  # workloads; a whole namespace of fewer is told by their names


class _Space(NamedTuple):
    """A namespace: its ends from `first` up to and without `end`, and how many workloads they are of."""

    name: str
    first: int
    end: int
    workloads: int


class EndNames:
    """The names of the ends of one numbering. A pod counts when one of its addresses is in the set."""

    def __init__(self, ends: Ends) -> None:
        self._ends = ends
        self._of: dict[int, tuple[str, ...]] = {}
        self._spaces = _spaces_of(ends)
        self._several = sum(one.workloads for one in self._spaces) >= MANY
        self._pods: dict[int, dict[str, set[Key]]] = {}

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
        pods = len(self._ends.addresses)
        found = self._pod_names(text_of(bits & span(0, pods)))
        for n in numbers_of(bits >> pods):
            found += self._ends.outside[n].range_texts()
        return tuple(found)

    def _pod_names(self, text: str) -> list[str]:
        """The names of the pods in a set, given as text: one of few or of most namespaces costs little."""
        names: list[str] = []
        complete = 0  # namespaces
        for space in self._spaces:
            count = text.count("1", space.first, space.end)
            if not count:
                continue
            pods = None if count == space.end - space.first else self._in(space, text)
            if pods is not None and pods != self._in(space):
                names += self._named(space, pods)
                continue
            complete += 1
            if space.workloads >= MANY:
                names.append(f"namespace {space.name}")
            else:
                names += self._named(space, self._in(space))
        return [ALL_PODS] if complete == len(self._spaces) and self._several else sorted(names)

    def _named(self, space: _Space, pods: dict[str, set[Key]]) -> Iterator[str]:
        whole = self._in(space)
        for workload, keys in pods.items():
            name = f"{space.name}/{workload}"
            yield name if keys == whole[workload] else f"{name} ({self._part(keys, whole[workload])})"

    def _in(self, space: _Space, text: str = "") -> dict[str, set[Key]]:
        """The pods of a namespace by workload: all, or those in a set."""
        if not text and space.first in self._pods:
            return self._pods[space.first]
        found: dict[str, set[Key]] = {}
        for n in range(space.first, space.end):
            if not text or text[n : n + 1] == "1":
                found.setdefault(self._ends.workloads[n], set()).add(self._ends.addresses[n][0])
        if not text:
            self._pods[space.first] = found
        return found

    @staticmethod
    def _part(keys: set[Key], whole: set[Key]) -> str:
        named = ", ".join(sorted(key.name for key in keys)[:MAX_PODS_NAMED])
        more = ", ..." if len(keys) > MAX_PODS_NAMED else ""
        return f"{len(keys)} of {len(whole)} pods: {named}{more}"


def _spaces_of(ends: Ends) -> list[_Space]:
    """The namespaces of pods, in the order of their ends."""
    return [
        _Space(name, first, end, len(set(ends.workloads[first:end]))) for name, (first, end) in ends.namespaces.items()
    ]
