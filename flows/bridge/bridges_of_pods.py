"""Which bridges have a port whose external_ids name a pod, whether or not the port is bound to it."""

from __future__ import annotations

from flows.bridge.claim_contest import BridgeName
from flows.bridge.external_ids import pod_of_interface
from flows.bridge.state import BridgeState
from flows.cluster.model import Key


class BridgesOfPods:
    """An index from pods to bridges. An update costs what differs between the two states of a bridge."""

    def __init__(self) -> None:
        self._bridges: dict[Key, tuple[BridgeName, ...]] = {}
        self._names: dict[BridgeName, dict[Key, int]] = {}  # how many ports of a bridge name a pod

    def __len__(self) -> int:
        return len(self._names)

    def of(self, key: Key) -> tuple[BridgeName, ...]:
        """The bridges with ports that name a pod."""
        return self._bridges.get(key, ())

    def update_bridge(self, name: BridgeName, old: BridgeState | None, new: BridgeState | None) -> None:
        """A bridge was added (`old` is None), changed, or removed (`new` is None)."""
        was, now = (bridge.interfaces if bridge else () for bridge in (old, new))
        kept = {id(interface) for interface in was} & {id(interface) for interface in now}
        counts = self._names.setdefault(name, {})
        for interfaces, by in ((now, 1), (was, -1)):
            for interface in interfaces:
                key = pod_of_interface(interface.external_ids) if id(interface) not in kept else None
                if key is None:
                    continue
                count = counts.get(key, 0) + by
                counts[key] = count
                if by > 0 and count == 1:
                    self._bridges[key] = (*self._bridges.get(key, ()), name)
                elif not count:
                    del counts[key]
                    self._bridges[key] = tuple([one for one in self._bridges[key] if one != name])
                    if not self._bridges[key]:
                        del self._bridges[key]
        if new is None:
            del self._names[name]
