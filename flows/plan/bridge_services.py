"""The flows and groups of Services on one bridge: one piece for each port of a Service, and for each external address.

What there is, and which numbers it has, is decided in `cluster_services`. A change puts or drops the pieces and groups
that it names, and nothing else.
"""

from __future__ import annotations

from flows.plan.bridge_groups import BridgeGroups
from flows.plan.cluster_services import ClusterServices, Place, PlannedPort, ServiceChanges
from flows.plan.pieces import Pieces


class BridgeServices:
    """Keeps the pieces numbered from `first` on."""

    __slots__ = ("_first", "_groups", "_pieces", "_place")

    def __init__(self, pieces: Pieces, groups: BridgeGroups, first: int) -> None:
        self._pieces = pieces
        self._groups = groups
        self._first = first
        self._place: Place | None = None

    def set_place(self, services: ClusterServices, place: Place) -> None:
        """The bridge is at this place now. The first time it gets everything."""
        before, self._place = self._place, place
        if before is None:
            self.update(services, services.everything())
        elif before != place:
            self.update(services, services.depending_on_node())

    def update(self, services: ClusterServices, changes: ServiceChanges) -> None:
        """Apply changes, once the bridge has a place."""
        if self._place is None:
            return
        for piece in changes.pieces_gone:
            self._pieces.drop(self._first + piece)
        for number in changes.groups_gone:
            self._groups.drop(number)
        for address in changes.addresses:
            self._pieces.put(self._first + address.piece, *address.flows)
        for port in changes.ports:
            self._put(services, port, self._place)

    def _put(self, services: ClusterServices, port: PlannedPort, place: Place) -> None:
        try:
            found = services.render(port, place)
            title, is_named = port.served.title, port.served.has_endpoint_flows(place.userspace)
        except Exception as error:  # noqa: BLE001 - it concerns this port and no other
            found, title, is_named = services.refuse(port, error), "", False
        self._pieces.put(self._first + port.piece, found.keys, found.bodies)
        bodies_by_id = dict(found.groups)
        for number in port.groups:
            body = bodies_by_id.get(number)
            if body is None:
                self._groups.drop(number)
                if is_named:
                    self._groups.names[number] = title
            else:
                self._groups.put(number, body, title)
