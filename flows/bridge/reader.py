"""Keeps the binding of one bridge as its ports and pods change: only ports that changed, or whose pods did, are read.

Theory of operation. Every port is read alone (`binding.read_port`), which gives its PortUse. A port that is bound to a
pod *claims* the pod, its ofport and its addresses; `_claims` keeps the ports behind each claim. A claim with one holder
is that port's. Where several ports hold a claim, the rules of `conflicts` decide, so a port's result may depend on the
other holders of its claims. A change therefore marks the port itself and the holders of its claims, old and new
(`_dirty`), then `_bind_dirty` decides the marked ports anew and returns the difference.

Example: p1 and p2 are bound to x/a and x/b. The external_ids of p2 change to name x/a too. `_put` reads p2: it drops
its claim to x/b and adds one to x/a, which p1 holds, so p1 is marked as well. Nothing tells which is x/a's port, so
both are removed: `BindingChange.removed` has the bindings of p1 and p2, `added` is empty.

Must give what `binding.read_bridge` gives from nothing; tests hold it to that. What a port is used for, and the rules
of conflicts, live there.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from operator import attrgetter
from typing import NamedTuple

from flows.bridge.binding import bind_ports, node_addresses_of, read_port, tunnel_of
from flows.bridge.conflicts import current_port
from flows.bridge.external_ids import parse_unicast_mac, pod_of_interface
from flows.bridge.routing import FLAT, Routing
from flows.bridge.state import BindingResult, BridgeBinding, BridgeState, InterfaceState, PodBinding, PortUse
from flows.cluster.model import Cluster, Key
from flows.cluster.net import Net
from flows.cluster.tuples import new_tuple

PortClaim = Key | Net | int  # a pod, an address, or an ofport


class _Port(NamedTuple):
    """An interface as it was read last, and the pod that its external_ids name."""

    interface: InterfaceState
    pod: Key | None
    use: PortUse


class BindingChange(NamedTuple):
    """The bridge's binding without its pods, and the difference in its pods since the last reading. A pod binding that
    changed is in both."""

    bridge: BridgeBinding
    removed: tuple[PodBinding, ...]
    added: tuple[PodBinding, ...]


class BindingReader:
    """The ports of one bridge as they were read last, and their claims."""

    __slots__ = (
        "_bound", "_bridge", "_claims", "_contested", "_decided", "_dirty", "_local_mac", "_naming", "_own",
        "_own_addresses", "_ports", "_routing", "_tunnel", "_uplinks",
    )  # fmt: skip

    def __init__(self) -> None:
        self._bridge: BridgeState | None = None
        self._ports: dict[str, _Port] = {}  # by the interface's uuid
        self._naming: dict[Key, tuple[str, ...]] = {}
        self._claims: dict[PortClaim, str | set[str]] = {}  # the uuids of its holders: most often one
        self._contested = 0  # claims with several holders
        self._uplinks: set[str] = set()
        self._own: tuple[Net, ...] = ()
        self._own_addresses: frozenset[Net] = frozenset()  # the same
        self._local_mac: int | None = None
        self._routing: Routing = FLAT
        self._tunnel: int | None = None
        self._bound: dict[str, PodBinding] = {}
        self._dirty: set[str] = set()  # uuids of ports to decide anew
        self._decided: dict[PortClaim, str | None] = {}  # the holder that wins a claim, while ports are decided

    def read(self, bridge: BridgeState, cluster: Cluster, changed: AbstractSet[Key]) -> BindingChange:
        """Read the bridge as it is now. `changed` are the pods that may differ from the last call."""
        if bridge is not self._bridge:
            self._take(bridge, cluster, changed)
        else:
            for key in self._naming.keys() & changed:
                for uuid in self._naming[key]:
                    self._put(self._ports[uuid].interface, bridge, cluster)
        own = node_addresses_of(bridge, cluster, self._claims.__contains__)
        if own != self._own:
            self._own, self._own_addresses = own, frozenset(own)
            self._dirty.update(self._ports)
        return self._bind_dirty()

    def reading(self) -> BindingResult:
        """The binding of the whole bridge as it was read last. Raises ValueError if it never was."""
        if self._bridge is None:
            raise ValueError("the bridge was never read")
        ports = sorted(self._ports.values(), key=lambda port: port.interface.name)
        return bind_ports(self._bridge, self._own, [port.use for port in ports])

    def _take(self, bridge: BridgeState, cluster: Cluster, changed: AbstractSet[Key]) -> None:
        old, before = self._bridge, self._ports
        same = old is not None and _common_inputs(old) == _common_inputs(bridge)
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
        self._routing, self._tunnel = bridge.routing, tunnel_of(bridge)

    def _put(self, interface: InterfaceState, bridge: BridgeState, cluster: Cluster) -> None:
        """Read a port, and update its claims."""
        uuid = interface.uuid
        old = self._ports.get(uuid)
        named = old.pod if old is not None and old.interface is interface else None
        use = read_port(interface, bridge, cluster, named)
        pod = use.pod if isinstance(use, PodBinding) else named or pod_of_interface(interface.external_ids)
        self._ports[uuid] = new_tuple(_Port, (interface, pod, use))
        if old is None or old.pod != pod:
            self._name(uuid, old.pod if old is not None else None, pod)
        if old is None or old.use != use:
            if old is not None:
                self._unclaim(uuid, old.use)
            claims = self._claims
            for claim in _claims(use):
                if claims.setdefault(claim, uuid) is not uuid:
                    self._contend(uuid, claim)
            if isinstance(use, InterfaceState):
                self._uplinks.add(uuid)
            self._dirty.add(uuid)

    def _remove(self, uuid: str) -> None:
        port = self._ports.pop(uuid)
        self._name(uuid, port.pod, None)
        self._unclaim(uuid, port.use)
        self._dirty.add(uuid)

    def _name(self, uuid: str, old: Key | None, new: Key | None) -> None:
        """The external_ids of a port name another pod than before."""
        if old is not None:
            others = tuple(one for one in self._naming[old] if one != uuid)
            if others:
                self._naming[old] = others
            else:
                del self._naming[old]
        if new is not None:
            self._naming[new] = (*self._naming.get(new, ()), uuid)

    def _contend(self, uuid: str, claim: PortClaim) -> None:
        """A port has a claim that another one holds."""
        holders = self._claims[claim]
        if not isinstance(holders, set):
            holders = {holders}
            self._contested += 1
        self._dirty.update(holders)
        holders.add(uuid)
        self._claims[claim] = holders

    def _unclaim(self, uuid: str, use: PortUse) -> None:
        """A port gives up what it claimed."""
        self._uplinks.discard(uuid)
        for claim in _claims(use):
            holders = self._claims[claim]
            if not isinstance(holders, set):
                del self._claims[claim]
                continue
            holders.discard(uuid)
            self._dirty.update(holders)
            if len(holders) == 1:
                (self._claims[claim],) = holders
                self._contested -= 1

    def _bind_dirty(self) -> BindingChange:
        """Decide the marked ports, and return the difference."""
        removed, added = [], []
        if self._contested:
            self._decided = {}
            self._mark_rivals()
        for uuid in self._dirty:
            old, new = self._bound.get(uuid), self._bind(uuid)
            if old == new:
                continue
            if old is not None:
                removed.append(old)
            if new is None:
                del self._bound[uuid]
            else:
                added.append(new)
                self._bound[uuid] = new
        self._dirty = set()
        answered = self._bridge.confirmed_if_probed if self._bridge is not None else None
        uplink = self._uplink() if self._uplinks else None
        fields = self._own, self._local_mac, uplink, answered, self._routing, self._tunnel
        return new_tuple(BindingChange, (new_tuple(BridgeBinding, fields), tuple(removed), tuple(added)))

    def _mark_rivals(self) -> None:
        """Mark the ports that share a pod with a marked port, then those that share an address with one of these: their
        results depend on each other in this order."""
        for kind in (Key, Net):
            seen: set[PortClaim] = set()
            for uuid in tuple(self._dirty):
                port = self._ports.get(uuid)
                for claim in _claims(port.use) if port is not None else ():
                    if type(claim) is kind and claim not in seen:
                        seen.add(claim)
                        holders = self._claims[claim]
                        if isinstance(holders, set):
                            self._dirty.update(holders)

    def _bind(self, uuid: str) -> PodBinding | None:
        """The pod binding of a port beside the other ports; None where it has none."""
        port = self._ports.get(uuid)
        if port is None or not isinstance(port.use, PodBinding):
            return None
        found = port.use
        if not self._contested and self._own_addresses.isdisjoint(found.addresses):
            return found
        if not (self._is_alone(found.ofport) and self._has(uuid, found.pod)):
            return None
        addresses = tuple([net for net in found.addresses if net not in self._own and self._has(uuid, net)])
        return found if addresses == found.addresses else found._replace(addresses=addresses)

    def _has(self, uuid: str, claim: Key | Net) -> bool:
        """Whether a port wins a claim that it holds."""
        holders = self._claims.get(claim)
        if not isinstance(holders, set):
            return True
        if claim not in self._decided:
            self._decided[claim] = self._latest(holders) if isinstance(claim, Key) else self._only(holders)
        return self._decided[claim] == uuid

    def _latest(self, holders: set[str]) -> str | None:
        """The current one of several ports of one pod; None where that cannot be told."""
        uses = ((uuid, self._ports[uuid].use) for uuid in holders)
        found = {uuid: one for uuid, one in uses if isinstance(one, PodBinding) and self._is_alone(one.ofport)}
        return current_port({uuid: one.agreement for uuid, one in found.items()})

    def _only(self, holders: set[str]) -> str | None:
        """The only one of several ports with one address that shares no ofport and is not stale; else None."""
        uses = ((uuid, self._ports[uuid].use) for uuid in holders)
        found = [
            uuid
            for uuid, one in uses
            if isinstance(one, PodBinding) and self._is_alone(one.ofport) and not self._is_stale(uuid, one.pod)
        ]
        return found[0] if len(found) == 1 else None

    def _is_stale(self, uuid: str, pod: Key) -> bool:
        """Whether the pod has another, newer port. False where it cannot be told which is newer."""
        return not self._has(uuid, pod) and self._decided[pod] is not None

    def _is_alone(self, claim: PortClaim) -> bool:
        return not isinstance(self._claims.get(claim), set)

    def _uplink(self) -> int | None:
        found = [self._ports[uuid].interface for uuid in self._uplinks]
        usable = [one for one in found if one.ofport is not None and self._is_alone(one.ofport)]
        return min(usable, key=attrgetter("name")).ofport if usable else None


def _claims(use: PortUse) -> Iterable[PortClaim]:
    """What no other port may have."""
    if isinstance(use, PodBinding):
        return (use.pod, use.ofport, *use.addresses)
    if isinstance(use, InterfaceState) and use.ofport is not None:
        return (use.ofport,)
    return ()


def _common_inputs(bridge: BridgeState) -> tuple[object, ...]:
    """The fields of a bridge on which the reading of every port depends."""
    return bridge.name, bridge.node, bridge.datapath_type, bridge.metered, bridge.routing.mode
