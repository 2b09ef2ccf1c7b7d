"""The ledger of ports: when each was first seen, how long it took until its policy was in force, and which marks are
on their way.

The mark is `Interface.external_ids:headgate-installed=true`. Pure; the writing is a command.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from flows.bridge.state import Binding, BridgeState, InterfaceState

INSTALLED_KEY = "headgate-installed"
PortId = tuple[str, str]  # the OVSDB's name and the Interface row's uuid
# A mark that was asked for and is neither written nor refused is asked for again after this time.
REWRITE_MARK_SECONDS = 30.0


class _Request(NamedTuple):
    """A mark that was asked for, and when."""

    wish: bool
    at: float


def is_marked(interface: InterfaceState) -> bool:
    """True when OVSDB says that the port's policy is in force."""
    return interface.external_ids.get(INSTALLED_KEY) == "true"


@dataclass(slots=True)
class PortLedger:
    """Times in seconds of a monotonic clock. `durations` are taken out by whoever records them."""

    first_seen: dict[PortId, float] = field(default_factory=dict)
    realized_after: dict[PortId, float] = field(default_factory=dict)
    durations: list[float] = field(default_factory=list)
    _known: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)  # uuids, by OVSDB and bridge
    # By OVSDB and uuid. The first of an OVSDB's is the oldest.
    _requested: dict[str, dict[str, _Request]] = field(default_factory=dict)
    _unwritten: dict[str, set[str]] = field(default_factory=dict)

    def see(self, bridge: BridgeState, now: float) -> None:
        """Note new ports; forget those that are gone."""
        name = (bridge.ovsdb, bridge.name)
        present = frozenset([interface.uuid for interface in bridge.interfaces])
        for interface in bridge.interfaces:
            if interface.ofport is not None and not is_marked(interface):
                self.first_seen.setdefault((bridge.ovsdb, interface.uuid), now)
        self._forget(bridge.ovsdb, self._known.get(name, frozenset()) - present)
        self._known[name] = present

    def gone(self, ovsdb: str, bridge: str) -> None:
        """A bridge is gone with all its ports."""
        self._forget(ovsdb, self._known.pop((ovsdb, bridge), frozenset()))

    def _forget(self, ovsdb: str, uuids: Iterable[str]) -> None:
        for uuid in uuids:
            self.first_seen.pop((ovsdb, uuid), None)
            self.realized_after.pop((ovsdb, uuid), None)
            self._answered(ovsdb, uuid)

    def forget_requests(self, ovsdb: str) -> None:
        """What was asked of an OVSDB may never have been written, so ask again."""
        self._requested.pop(ovsdb, None)
        self._unwritten.pop(ovsdb, None)

    def failed(self, ovsdb: str, interfaces: Mapping[str, bool], now: float) -> None:
        """These marks could not be asked for. They are again, as if they had been asked for and never answered."""
        for uuid, wish in interfaces.items():
            self._requested.setdefault(ovsdb, {})[uuid] = _Request(wish, now)

    def overdue(self, now: float) -> list[str]:
        """The OVSDBs that have not answered for too long."""
        oldest = ((ovsdb, next(iter(asked.values()), None)) for ovsdb, asked in self._requested.items())
        return [ovsdb for ovsdb, first in oldest if first is not None and now - first.at >= REWRITE_MARK_SECONDS]

    def _answered(self, ovsdb: str, uuid: str) -> None:
        asked, unwritten = self._requested.get(ovsdb), self._unwritten.get(ovsdb)
        if asked is not None:
            asked.pop(uuid, None)
            if not asked:
                del self._requested[ovsdb]
        if unwritten is not None:
            unwritten.discard(uuid)
            if not unwritten:
                del self._unwritten[ovsdb]

    def written(self, ovsdb: str, interfaces: Mapping[str, bool]) -> None:
        """The OVSDB has committed these marks. They are not asked for again before it reports the ports as they are
        now."""
        self._unwritten.get(ovsdb, set()).difference_update(interfaces)

    def pending(self, ovsdb: str) -> int:
        """How many marks an OVSDB has still to commit."""
        return len(self._unwritten.get(ovsdb, ()))

    def unwritten(self) -> Mapping[str, int]:
        """How many marks each OVSDB has still to commit."""
        return {ovsdb: len(ports) for ovsdb, ports in self._unwritten.items() if ports}

    def wanted(self, bridge: BridgeState, view: Binding, realized: bool, now: float) -> dict[str, bool]:
        """The marks to write now: on for ports whose flows are in force, off for ports that carry no pod any more."""
        carrying = {pod_binding.interface for pod_binding in view.pods if pod_binding.addresses}
        requested = self._requested.get(bridge.ovsdb, {})
        wishes: dict[str, bool] = {}
        for interface in bridge.interfaces:
            marked = is_marked(interface)
            wish = interface.name in carrying
            if wish and not realized:
                continue
            if wish:
                self._programmed((bridge.ovsdb, interface.uuid), now)
            if marked == wish:
                if interface.uuid in requested:
                    self._answered(bridge.ovsdb, interface.uuid)
            elif (asked := requested.get(interface.uuid)) is None or asked.wish != wish:
                wishes[interface.uuid] = wish
        if wishes:
            self._requested.setdefault(bridge.ovsdb, {}).update(
                {uuid: _Request(wish, now) for uuid, wish in wishes.items()}
            )
            self._unwritten.setdefault(bridge.ovsdb, set()).update(wishes)
        return wishes

    def _programmed(self, port: PortId, now: float) -> None:
        if port not in self.realized_after and port in self.first_seen:
            self.realized_after[port] = now - self.first_seen[port]
            self.durations.append(self.realized_after[port])
