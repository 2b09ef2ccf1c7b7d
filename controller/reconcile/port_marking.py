"""Notes the bridges whose port marks may be due, and returns the commands that write them.

Must not live here: which mark a port should have, and when it was written; see `port_marks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from controller.reconcile.commands import WriteMarks
from controller.reconcile.contained_errors import ContainedErrors
from controller.reconcile.port_marks import PortLedger
from controller.reconcile.switch import Switch
from flows.bridge.claim_contest import BridgeName
from flows.plan.world import World


class PortMarker:
    """Bridges are noted as they change, and `commands` looks at each noted one once."""

    def __init__(
        self,
        world: World,
        ledger: PortLedger,
        errors: ContainedErrors,
        serves: Callable[[BridgeName], bool] = lambda name: True,
    ) -> None:
        """`serves`: whether this replica serves a bridge, so that its marks are its business."""
        self._serves = serves
        self._world = world
        self._ledger = ledger
        self._errors = errors
        self._noted: set[BridgeName] = set()
        self._failed: set[BridgeName] = set()  # bridges that raised; looked at again with the next tick
        self._revisions: dict[int, int] = {}  # by datapath id: the realized revision that was looked at
        self._settled: set[BridgeName] = set()  # bridges with nothing to do until they are noted

    def note(self, names: Iterable[BridgeName]) -> None:
        """The ports of these bridges may need other marks."""
        changed = set(names)
        self._noted |= changed
        self._settled -= changed

    def note_switch(self, switch: Switch, name: BridgeName) -> None:
        """A switch may have realized another revision. Nothing follows where only what pods learned changed."""
        if switch.realized and self._revisions.get(switch.dpid) != switch.realized_revision:
            self._revisions[switch.dpid] = switch.realized_revision
            if name not in self._settled:
                self._noted.add(name)

    def forget_switch(self, dpid: int) -> None:
        """A switch is known no more."""
        self._revisions.pop(dpid, None)

    def request_again(self, ovsdb: str) -> None:
        """Request all marks of an OVSDB again: it may not have them."""
        self._ledger.forget_requests(ovsdb)
        self.note(self._world.bridges_of(ovsdb))

    def on_tick(self, now: float) -> None:
        """Look again at bridges that raised, and request marks again that were never answered."""
        self._noted |= self._failed
        self._failed = set()
        for ovsdb in self._ledger.overdue(now):
            self.request_again(ovsdb)

    def commands(self, switch_of: Callable[[BridgeName], Switch | None], now: float) -> list[WriteMarks]:
        """The marks to write on the noted bridges, a command for each OVSDB."""
        found: dict[str, dict[str, bool]] = {}
        noted, self._noted = self._noted, set()
        for name in sorted(noted & self._world.bridges.keys()):
            if self._world.refusal(name) or name in self._world.failures or not self._serves(name):
                continue  # the switch has another bridge's flows, or it is not known what it should have
            subject = f"ports of bridge {name[1]} at {name[0]}"
            try:
                bridge, switch = self._world.bridges[name], switch_of(name)
                realized = switch is not None and switch.realized
                marks = self._ledger.marks_to_write(bridge, self._world.binding(name).binding, realized, now)
            except Exception as error:  # noqa: BLE001 - it concerns this bridge and no other
                self._errors.add(subject, error)
                self._failed.add(name)
                continue
            if realized:
                self._settled.add(name)
            if self._errors.reasons:
                self._errors.clear(subject)
            if marks:
                found.setdefault(bridge.ovsdb, {}).update(marks)
        return [WriteMarks(ovsdb, marks) for ovsdb, marks in sorted(found.items())]
