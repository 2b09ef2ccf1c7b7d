"""Which pods stand where: the ports of each bridge's pods, and each pod's bridges and ports.

Also where each pod was when the bridges' plans heard of it last, for that is what they must be told to give up.
"""

from __future__ import annotations

from collections.abc import Iterable

from flows.bridge.owners import BridgeName
from flows.bridge.state import PodBinding
from flows.cluster.model import Key
from flows.cluster.net import Net

BridgePorts = tuple[tuple[BridgeName, int], ...]  # bridges and ofports of a pod


class PodPorts:
    """`ports` has the pods on each bridge."""

    def __init__(self) -> None:
        self.ports: dict[BridgeName, dict[Key, PodBinding]] = {}
        self._of: dict[Key, BridgePorts] = {}
        self._before: dict[Key, BridgePorts] = {}  # of pods that moved: what plans were told last

    def of(self, key: Key) -> BridgePorts:
        """Where a pod stands."""
        return self._of.get(key, ())

    def move(
        self, name: BridgeName, gone: Iterable[PodBinding], came: Iterable[PodBinding]
    ) -> tuple[set[Key], set[Key]]:
        """Ports of a bridge are gone, others came. Returns the pods that came, went or moved, and all that were
        concerned."""
        before, after = {pod.pod: pod for pod in gone}, {pod.pod: pod for pod in came}
        if not before and not after:
            return set(), set()
        there = self.ports.setdefault(name, {})
        for key in before:
            del there[key]
        there.update(after)
        if not there:
            del self.ports[name]
        moved = set()
        for key in before.keys() | after.keys():
            new = after.get(key)
            if dict(self._of.get(key, ())).get(name) != (new.ofport if new else None):
                moved.add(key)
                self._stand(key, name, new)
        return moved, {*before, *after}

    def _stand(self, key: Key, name: BridgeName, pod_binding: PodBinding | None) -> None:
        """A pod has this port on a bridge now, or none."""
        before = self._of.get(key, ())
        self._before.setdefault(key, before)
        place = _without(before, name)
        if pod_binding is not None:
            place = (*place, (name, pod_binding.ofport))
        if place:
            self._of[key] = place
        else:
            self._of.pop(key, None)

    def forget_reported(self, name: BridgeName, keys: Iterable[Key]) -> None:
        """The bridge has no plan, or a new one, that never heard of these pods."""
        for key in keys:
            self._before[key] = _without(self._before.get(key, self._of.get(key, ())), name)

    def take_reported(self) -> dict[Key, BridgePorts]:
        """Where pods that moved were when plans heard of them last. From now on plans have heard of all."""
        before, self._before = self._before, {}
        return before

    def addresses(self, key: Key, bridges: Iterable[BridgeName]) -> tuple[Net, ...]:
        """What a pod's ports on these bridges say of its addresses; should several say any, the last of them does."""
        found: tuple[Net, ...] = ()
        for name in bridges:
            found = self.ports[name][key].addresses or found
        return found


def _without(place: BridgePorts, name: BridgeName) -> BridgePorts:
    return tuple([one for one in place if one[0] != name])
