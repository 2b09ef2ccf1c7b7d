"""The marks of ports, and how long each port waited for its policy.

A port whose flows are realized is marked with `Interface.external_ids:headgate-installed=true`, which a CNI plugin can
wait for. The mark is removed when the port carries no pod any more. This keeps which marks were requested and not
written yet; writing them is a command (`WriteMarks`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from flows.bridge.claim_contest import BridgeName
from flows.bridge.state import Binding, BridgeState, InterfaceState

INSTALLED_KEY = "headgate-installed"
PortId = tuple[str, str]  # the OVSDB's name and the Interface row's uuid
# A mark whose request was not answered is requested again after this time.
REWRITE_MARK_SECONDS = 30.0


class _Request(NamedTuple):
    """A mark that was requested (False: its removal), and when."""

    mark: bool
    at: float


def is_marked(interface: InterfaceState) -> bool:
    """Whether OVSDB has the mark on a port."""
    return interface.external_ids.get(INSTALLED_KEY) == "true"


@dataclass(slots=True)
class PortLedger:
    """Times are seconds of a monotonic clock: when a port was first seen, and how long until it was realized.

    Metrics take `durations` out as they record them.
    """

    first_seen: dict[PortId, float] = field(default_factory=dict)
    realized_after: dict[PortId, float] = field(default_factory=dict)
    durations: list[float] = field(default_factory=list)
    _ports: dict[BridgeName, frozenset[str]] = field(default_factory=dict)  # uuids
    _requests: dict[str, dict[str, _Request]] = field(default_factory=dict)  # by OVSDB and uuid, the oldest first
    _unwritten: dict[str, set[str]] = field(default_factory=dict)  # uuids by OVSDB

    def update_bridge(self, bridge: BridgeState, now: float) -> None:
        """Note new ports; forget those that are gone."""
        name = (bridge.ovsdb, bridge.name)
        present = frozenset([interface.uuid for interface in bridge.interfaces])
        for interface in bridge.interfaces:
            if interface.ofport is not None and not is_marked(interface):
                self.first_seen.setdefault((bridge.ovsdb, interface.uuid), now)
        self._forget_ports(bridge.ovsdb, self._ports.get(name, frozenset()) - present)
        self._ports[name] = present

    def remove_bridge(self, name: BridgeName) -> None:
        """A bridge is gone with all its ports."""
        self._forget_ports(name[0], self._ports.pop(name, frozenset()))

    def _forget_ports(self, ovsdb: str, uuids: Iterable[str]) -> None:
        for uuid in uuids:
            self.first_seen.pop((ovsdb, uuid), None)
            self.realized_after.pop((ovsdb, uuid), None)
            self._forget_request(ovsdb, uuid)

    def _forget_request(self, ovsdb: str, uuid: str) -> None:
        requests, unwritten = self._requests.get(ovsdb), self._unwritten.get(ovsdb)
        if requests is not None:
            requests.pop(uuid, None)
            if not requests:
                del self._requests[ovsdb]
        if unwritten is not None:
            unwritten.discard(uuid)
            if not unwritten:
                del self._unwritten[ovsdb]

    def forget_requests(self, ovsdb: str) -> None:
        """Marks that were requested of an OVSDB may never have been written: request them again."""
        self._requests.pop(ovsdb, None)
        self._unwritten.pop(ovsdb, None)

    def on_marks_failed(self, ovsdb: str, interfaces: Mapping[str, bool], now: float) -> None:
        """Requests failed. They are made again after REWRITE_MARK_SECONDS, like those without an answer."""
        for uuid, mark in interfaces.items():
            self._requests.setdefault(ovsdb, {})[uuid] = _Request(mark, now)

    def on_marks_written(self, ovsdb: str, interfaces: Mapping[str, bool]) -> None:
        """OVSDB has committed these marks. They stay requested until it reports the ports with them."""
        self._unwritten.get(ovsdb, set()).difference_update(interfaces)

    def overdue(self, now: float) -> list[str]:
        """The OVSDBs with a request that is not answered for REWRITE_MARK_SECONDS."""
        oldest = ((ovsdb, next(iter(requests.values()), None)) for ovsdb, requests in self._requests.items())
        return [ovsdb for ovsdb, first in oldest if first is not None and now - first.at >= REWRITE_MARK_SECONDS]

    def unwritten(self) -> Mapping[str, int]:
        """How many marks each OVSDB has still to commit."""
        return {ovsdb: len(ports) for ovsdb, ports in self._unwritten.items() if ports}

    def marks_to_write(self, bridge: BridgeState, binding: Binding, realized: bool, now: float) -> dict[str, bool]:
        """The marks to request now, by uuid: True for ports that are realized, False for ports without a pod."""
        with_pod = {pod.interface for pod in binding.pods if pod.addresses}
        requests = self._requests.get(bridge.ovsdb, {})
        marks: dict[str, bool] = {}
        for interface in bridge.interfaces:
            marked = is_marked(interface)
            mark = interface.name in with_pod
            if mark and not realized:
                continue
            if mark:
                self._note_realized((bridge.ovsdb, interface.uuid), now)
            if marked == mark:
                if interface.uuid in requests:
                    self._forget_request(bridge.ovsdb, interface.uuid)
            elif (request := requests.get(interface.uuid)) is None or request.mark != mark:
                marks[interface.uuid] = mark
        if marks:
            self._requests.setdefault(bridge.ovsdb, {}).update(
                {uuid: _Request(mark, now) for uuid, mark in marks.items()}
            )
            self._unwritten.setdefault(bridge.ovsdb, set()).update(marks)
        return marks

    def _note_realized(self, port: PortId, now: float) -> None:
        if port not in self.realized_after and port in self.first_seen:
            self.realized_after[port] = now - self.first_seen[port]
            self.durations.append(self.realized_after[port])
