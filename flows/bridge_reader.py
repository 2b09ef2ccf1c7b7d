"""Reads one bridge again and again: only ports that changed, or whose pods did, are read anew.

Says the same as `attach.read_bridge` does from nothing, which is what tests hold it to.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from operator import attrgetter
from typing import NamedTuple

from flows.attach import BridgeState, InterfaceState, PortReading, Reading, judge, pod_named, read_port
from flows.model import Cluster, Key


class _Port(NamedTuple):
    """An interface as it was read, and the pod that it names."""

    interface: InterfaceState
    pod: Key | None
    reading: PortReading


class BridgeReader:
    """What is known of one bridge's ports."""

    def __init__(self) -> None:
        self._bridge: BridgeState | None = None
        self._ports: dict[str, _Port] = {}  # by name, in order
        self._naming: dict[Key, list[str]] = {}

    def read(self, bridge: BridgeState, cluster: Cluster, changed: AbstractSet[Key]) -> Reading:
        """The bridge as it is now. `changed` names the pods that may be others than at the last call."""
        if bridge is self._bridge:
            for key in self._naming.keys() & changed:
                for name in self._naming[key]:
                    port = self._ports[name]
                    self._ports[name] = port._replace(reading=read_port(port.interface, bridge, cluster))
        else:
            self._take(bridge, cluster, changed)
        return judge(bridge, cluster, [port.reading for port in self._ports.values()])

    def _take(self, bridge: BridgeState, cluster: Cluster, changed: AbstractSet[Key]) -> None:
        old, before = self._bridge, self._ports
        same = old is not None and _frame(old) == _frame(bridge)
        self._bridge, self._ports, self._naming = bridge, {}, {}
        for interface in sorted(bridge.interfaces, key=attrgetter("name")):
            port = before.get(interface.name) if same else None
            if port is None or port.interface is not interface or port.pod in changed:
                port = _Port(interface, pod_named(interface.external_ids), read_port(interface, bridge, cluster))
            self._ports[interface.name] = port
            if port.pod is not None:
                self._naming.setdefault(port.pod, []).append(interface.name)


def _frame(bridge: BridgeState) -> tuple[object, ...]:
    """All of a bridge, apart from its ports, that decides what is on them."""
    return bridge.name, bridge.node, bridge.datapath_type, bridge.metered
