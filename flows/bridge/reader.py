"""Reads one bridge again and again: only ports that changed, or whose pods did, are read anew.

Pods, addresses and port numbers that two ports claim are nobody's; who claims what is kept, so a port's change costs
that port and those that it contends with. Says the same as `attach.read_bridge` does from nothing, which is what tests
hold it to.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace
from operator import attrgetter
from typing import NamedTuple

from flows.bridge.binding import bind_ports, node_addresses_of, read_port
from flows.bridge.conflicts import current_port
from flows.bridge.external_ids import parse_unicast_mac, pod_of_interface
from flows.bridge.state import BindingResult, BridgeBinding, BridgeState, InterfaceState, PodBinding, PortUse
from flows.cluster.model import Cluster, Key
from flows.cluster.net import Net

Claim = Key | Net | int  # a pod, an address, or a port number


class _Port(NamedTuple):
    """An interface as it was read, and the pod that it names."""

    interface: InterfaceState
    pod: Key | None
    reading: PortUse


class BindingChange(NamedTuple):
    """What a bridge comes to now, apart from its pods, and the pods' ports that are gone or came since the last
    reading. A port that changed is in both."""

    bridge: BridgeBinding
    gone: tuple[PodBinding, ...]
    came: tuple[PodBinding, ...]


class BindingReader:
    """What is known of one bridge's ports."""

    def __init__(self) -> None:
        self._bridge: BridgeState | None = None
        self._ports: dict[str, _Port] = {}  # by the interface's uuid
        self._naming: dict[Key, tuple[str, ...]] = {}
        self._claims: dict[Claim, str | set[str]] = {}  # who claims it: most often one
        self._uplinks: set[str] = set()
        self._own: tuple[Net, ...] = ()
        self._local_mac: int | None = None
        self._attached: dict[str, PodBinding] = {}
        self._touched: set[str] = set()  # ports that may come to something else
        self._decided: dict[Claim, str | None] = {}  # whose a contested claim is, while ports are judged

    def read(self, bridge: BridgeState, cluster: Cluster, changed: AbstractSet[Key]) -> BindingChange:
        """The bridge as it is now. `changed` names the pods that may be others than at the last call."""
        if bridge is not self._bridge:
            self._take(bridge, cluster, changed)
        else:
            for key in self._naming.keys() & changed:
                for uuid in self._naming[key]:
                    self._put(self._ports[uuid].interface, bridge, cluster)
        own = node_addresses_of(bridge, cluster, self._claims.__contains__)
        if own != self._own:
            self._own = own
            self._touched.update(self._ports)
        return self._settle()

    def reading(self) -> BindingResult:
        """The whole bridge as it was read last. Raises ValueError before that."""
        if self._bridge is None:
            raise ValueError("a bridge that was never read")
        ports = sorted(self._ports.values(), key=lambda port: port.interface.name)
        return bind_ports(self._bridge, self._own, [port.reading for port in ports])

    def _take(self, bridge: BridgeState, cluster: Cluster, changed: AbstractSet[Key]) -> None:
        old, before = self._bridge, self._ports
        same = old is not None and _frame(old) == _frame(bridge)
        self._bridge = bridge
        there = {interface.uuid for interface in bridge.interfaces}
        for uuid in [uuid for uuid in before if uuid not in there]:
            self._remove(uuid)
        for interface in bridge.interfaces:
            port = before.get(interface.uuid)
            if not same or port is None or port.interface is not interface or port.pod in changed:
                self._put(interface, bridge, cluster)
        local = next((i for i in bridge.interfaces if i.name == bridge.name), None)
        self._local_mac = parse_unicast_mac(local.mac_in_use) if local else None

    def _put(self, interface: InterfaceState, bridge: BridgeState, cluster: Cluster) -> None:
        """Read a port, and note what it claims."""
        uuid, pod = interface.uuid, pod_of_interface(interface.external_ids)
        old = self._ports.get(uuid)
        reading = read_port(interface, bridge, cluster)
        self._ports[uuid] = _Port(interface, pod, reading)
        if old is None or old.pod != pod:
            self._name(uuid, old.pod if old else None, pod)
        if old is None or old.reading != reading:
            self._unclaim(uuid, old.reading if old else None)
            for claim in _claims(reading):
                self._claim(uuid, claim)
            if isinstance(reading, InterfaceState):
                self._uplinks.add(uuid)
            self._touched.add(uuid)

    def _remove(self, uuid: str) -> None:
        port = self._ports.pop(uuid)
        self._name(uuid, port.pod, None)
        self._unclaim(uuid, port.reading)
        self._touched.add(uuid)

    def _name(self, uuid: str, old: Key | None, new: Key | None) -> None:
        """A port names another pod than before."""
        if old is not None:
            others = tuple(one for one in self._naming[old] if one != uuid)
            if others:
                self._naming[old] = others
            else:
                del self._naming[old]
        if new is not None:
            self._naming[new] = (*self._naming.get(new, ()), uuid)

    def _claim(self, uuid: str, claim: Claim) -> None:
        holders = self._claims.get(claim)
        if holders is None:
            self._claims[claim] = uuid
        else:
            holders = holders if isinstance(holders, set) else {holders}
            self._touched.update(holders)
            holders.add(uuid)
            self._claims[claim] = holders

    def _unclaim(self, uuid: str, reading: PortUse) -> None:
        self._uplinks.discard(uuid)
        for claim in _claims(reading):
            holders = self._claims[claim]
            if not isinstance(holders, set):
                del self._claims[claim]
                continue
            holders.discard(uuid)
            self._touched.update(holders)
            if len(holders) == 1:
                (self._claims[claim],) = holders

    def _settle(self) -> BindingChange:
        """Judge the ports that were touched."""
        gone, came = [], []
        self._decided = {}
        self._touch_rivals()
        for uuid in self._touched:
            old, new = self._attached.get(uuid), self._judge(uuid)
            if old == new:
                continue
            if old is not None:
                gone.append(old)
            if new is None:
                del self._attached[uuid]
            else:
                came.append(new)
                self._attached[uuid] = new
        self._touched = set()
        answered = self._bridge.confirmed_if_probed if self._bridge is not None else None
        return BindingChange(
            BridgeBinding(self._own, self._local_mac, self._uplink(), answered), tuple(gone), tuple(came)
        )

    def _touch_rivals(self) -> None:
        """What a port comes to can decide what others do that name its pod, and then those that claim an address with
        one of them."""
        for kind in (Key, Net):
            seen: set[Claim] = set()
            for uuid in tuple(self._touched):
                port = self._ports.get(uuid)
                for claim in _claims(port.reading) if port is not None else ():
                    if type(claim) is kind and claim not in seen:
                        seen.add(claim)
                        holders = self._claims[claim]
                        if isinstance(holders, set):
                            self._touched.update(holders)

    def _judge(self, uuid: str) -> PodBinding | None:
        """What a port comes to beside the others."""
        port = self._ports.get(uuid)
        if port is None or not isinstance(port.reading, PodBinding):
            return None
        found = port.reading
        if not (self._is_alone(found.ofport) and self._has(uuid, found.pod)):
            return None
        addresses = tuple([net for net in found.addresses if net not in self._own and self._has(uuid, net)])
        return found if addresses == found.addresses else replace(found, addresses=addresses)

    def _has(self, uuid: str, claim: Key | Net) -> bool:
        """Whether what a port claims is its own."""
        holders = self._claims.get(claim)
        if not isinstance(holders, set):
            return True
        if claim not in self._decided:
            self._decided[claim] = self._latest(holders) if isinstance(claim, Key) else self._only(holders)
        return self._decided[claim] == uuid

    def _latest(self, holders: set[str]) -> str | None:
        """Of several ports that name one pod the one that is its own."""
        readings = ((uuid, self._ports[uuid].reading) for uuid in holders)
        found = {uuid: one for uuid, one in readings if isinstance(one, PodBinding) and self._is_alone(one.ofport)}
        return current_port({uuid: one.agreement for uuid, one in found.items()})

    def _only(self, holders: set[str]) -> str | None:
        """Of several ports that claim one address the only one that counts, as port and as its pod's."""
        readings = ((uuid, self._ports[uuid].reading) for uuid in holders)
        found = [
            uuid
            for uuid, one in readings
            if isinstance(one, PodBinding) and self._is_alone(one.ofport) and not self._is_earlier(uuid, one.pod)
        ]
        return found[0] if len(found) == 1 else None

    def _is_earlier(self, uuid: str, pod: Key) -> bool:
        """Whether its pod has another port now; not so where nobody can tell which is the pod's."""
        return not self._has(uuid, pod) and self._decided[pod] is not None

    def _is_alone(self, claim: Claim) -> bool:
        return not isinstance(self._claims.get(claim), set)

    def _uplink(self) -> int | None:
        found = [self._ports[uuid].interface for uuid in self._uplinks]
        usable = [one for one in found if one.ofport is not None and self._is_alone(one.ofport)]
        return min(usable, key=attrgetter("name")).ofport if usable else None


def _claims(reading: PortUse) -> Iterable[Claim]:
    """What nobody else may have."""
    if isinstance(reading, PodBinding):
        return (reading.pod, reading.ofport, *reading.addresses)
    if isinstance(reading, InterfaceState) and reading.ofport is not None:
        return (reading.ofport,)
    return ()


def _frame(bridge: BridgeState) -> tuple[object, ...]:
    """All of a bridge, apart from its ports, that decides what is on them."""
    return bridge.name, bridge.node, bridge.datapath_type, bridge.metered
