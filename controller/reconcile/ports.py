"""The ledger of ports: when each was first seen, how long it took until its policy was in force, and which marks are
on their way.

The mark is `Interface.external_ids:headgate-installed=true`. Pure; the writing is a command.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from flows.attach import BridgeState, InterfaceState, SwitchView

INSTALLED = "headgate-installed"
PortId = tuple[str, str]  # the OVSDB's name and the Interface row's uuid


def is_marked(interface: InterfaceState) -> bool:
    """True when OVSDB says that the port's policy is in force."""
    return interface.external_ids.get(INSTALLED) == "true"


@dataclass(slots=True)
class PortLedger:
    """Times in seconds of a monotonic clock. `durations` are taken out by whoever records them."""

    first_seen: dict[PortId, float] = field(default_factory=dict)
    programmed_after: dict[PortId, float] = field(default_factory=dict)
    durations: list[float] = field(default_factory=list)
    _requested: dict[PortId, bool] = field(default_factory=dict)
    _unwritten: set[PortId] = field(default_factory=set)

    def see(self, bridge: BridgeState, now: float) -> None:
        """Note new ports; forget those that are gone."""
        present = {(bridge.ovsdb, interface.uuid) for interface in bridge.interfaces}
        for interface in bridge.interfaces:
            if interface.ofport is not None and not is_marked(interface):
                self.first_seen.setdefault((bridge.ovsdb, interface.uuid), now)
        known = self.first_seen.keys() | self._requested.keys()
        for port in [p for p in known if p[0] == bridge.ovsdb and p not in present]:
            self.first_seen.pop(port, None)
            self.programmed_after.pop(port, None)
            self._answered(port)

    def forget_requests(self, ovsdb: str) -> None:
        """The OVSDB connection changed: what was asked may never have been written, so ask again."""
        for port in [p for p in self._requested if p[0] == ovsdb]:
            self._answered(port)

    def _answered(self, port: PortId) -> None:
        self._requested.pop(port, None)
        self._unwritten.discard(port)

    def written(self, ovsdb: str, interfaces: Mapping[str, bool]) -> None:
        """The OVSDB has committed these marks. They are not asked for again before it reports the ports as they are
        now."""
        self._unwritten.difference_update((ovsdb, uuid) for uuid in interfaces)

    def pending(self, ovsdb: str) -> int:
        """How many marks an OVSDB has still to commit."""
        return sum(1 for port in self._unwritten if port[0] == ovsdb)

    def unwritten(self) -> Mapping[str, int]:
        """How many marks each OVSDB has still to commit."""
        return Counter(ovsdb for ovsdb, _ in self._unwritten)

    def wanted(self, bridge: BridgeState, view: SwitchView, realized: bool, now: float) -> dict[str, bool]:
        """The marks to write now: on for ports whose flows are in force, off for ports that carry no pod any more."""
        carrying = {attachment.interface for attachment in view.attachments if attachment.addresses}
        wishes: dict[str, bool] = {}
        for interface in bridge.interfaces:
            port = (bridge.ovsdb, interface.uuid)
            marked = is_marked(interface)
            wish = interface.name in carrying
            if wish and not realized:
                continue
            if wish and port not in self.programmed_after and port in self.first_seen:
                self.programmed_after[port] = now - self.first_seen[port]
                self.durations.append(self.programmed_after[port])
            if marked == wish:
                self._answered(port)
            elif self._requested.get(port) != wish:
                self._requested[port] = wish
                self._unwritten.add(port)
                wishes[interface.uuid] = wish
        return wishes
