"""Which pods have ports on which bridges.

A pod has one port as a rule; two while it moves to another node, or where OVSDB wrongly names it twice. This also keeps
where each pod's ports were when rules were distributed last, since plans must give up those rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from flows.bridge.claim_contest import BridgeName
from flows.bridge.state import PodBinding
from flows.cluster.model import Key
from flows.cluster.net import Net

BridgePorts = tuple[tuple[BridgeName, int], ...]  # bridges and ofports of a pod


class PodPorts:
    """Ports by bridge and by pod, and of pods that moved the ports that they had."""

    def __init__(self) -> None:
        self._by_bridge: dict[BridgeName, dict[Key, PodBinding]] = {}
        self.by_pod: dict[Key, BridgePorts] = {}  # `of`, for very many pods
        self._before: dict[Key, BridgePorts] = {}  # of pods that moved: the ports that plans were told of

    def of(self, key: Key) -> BridgePorts:
        """A pod's ports."""
        return self.by_pod.get(key, ())

    @property
    def bridges(self) -> AbstractSet[BridgeName]:
        """The bridges with ports of pods. A view: it follows changes."""
        return self._by_bridge.keys()

    def on(self, name: BridgeName) -> Mapping[Key, PodBinding]:
        """A bridge's pods and their ports."""
        return self._by_bridge.get(name, {})

    def move(
        self, name: BridgeName, gone: Iterable[PodBinding], came: Iterable[PodBinding]
    ) -> tuple[set[Key], set[Key]]:
        """Ports of a bridge are gone, others came; one that changed is in both.

        Returns the pods whose ofport came, went or changed, and all pods of these ports.
        """
        before, after = {pod.pod: pod for pod in gone}, {pod.pod: pod for pod in came}
        if not before and not after:
            return set(), set()
        there = self._by_bridge.setdefault(name, {})
        for key in before:
            del there[key]
        there.update(after)
        if not there:
            del self._by_bridge[name]
        moved = set()
        for key in before.keys() | after.keys() if before else after:
            new = after.get(key)
            known = self.by_pod.get(key)
            if known is None and new is not None:  # as nearly all that came
                moved.add(key)
                self._before.setdefault(key, ())
                self.by_pod[key] = ((name, new.ofport),)
            elif (dict(known).get(name) if known else None) != (new.ofport if new else None):
                moved.add(key)
                self._set_port(key, name, new)
        return moved, {*before, *after}

    def _set_port(self, key: Key, name: BridgeName, pod_binding: PodBinding | None) -> None:
        before = self.by_pod.get(key, ())
        self._before.setdefault(key, before)
        ports = _without(before, name) if before else ()
        if pod_binding is not None:
            ports = (*ports, (name, pod_binding.ofport))
        if ports:
            self.by_pod[key] = ports
        else:
            self.by_pod.pop(key, None)

    def forget_reported(self, name: BridgeName, keys: Iterable[Key]) -> None:
        """The bridge has no plan, or a new one, which was never told of these pods."""
        reported = self._before
        for key in keys:
            before = reported.get(key)
            if before is None:
                before = self.by_pod.get(key, ())
                reported[key] = ()
            if before:
                reported[key] = _without(before, name)

    def take_reported(self) -> dict[Key, BridgePorts]:
        """Of pods that moved since the last call, the ports that plans were told of. The caller tells them now."""
        before, self._before = self._before, {}
        return before

    def addresses(self, key: Key, bridges: Iterable[BridgeName]) -> tuple[Net, ...]:
        """The addresses of a pod's port on these bridges; of several bridges that give any, the last one's."""
        found: tuple[Net, ...] = ()
        for name in bridges:
            found = self._by_bridge[name][key].addresses or found
        return found


def _without(ports: BridgePorts, name: BridgeName) -> BridgePorts:
    return tuple([one for one in ports if one[0] != name])
