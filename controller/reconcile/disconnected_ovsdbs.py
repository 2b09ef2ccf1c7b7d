"""OVSDBs that are away, and for how long: what is gone for good is forgotten after a time, and there are never many.

An OVSDB that was named in the configuration is never forgotten, nor one whose switch is served over OpenFlow. One whose
bridges all belong to others that are there is forgotten at once: its machine was installed again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from controller.reconcile.events import OvsdbState

FORGET_OVSDB_SECONDS = 600.0
MOST_DISCONNECTED_OVSDBS = 256


class DisconnectedOvsdbs:
    """Which OVSDBs are away, the longest first."""

    def __init__(self, kept: Collection[str]) -> None:
        self._kept = frozenset(kept)
        self._since: dict[str, float] = {}

    def state(self, state: OvsdbState, now: float) -> None:
        """A connection came or went. One that is there with a reason speaks for nothing: its database comes by another
        name."""
        if state.synced and not state.reason:
            self._since.pop(state.ovsdb, None)
        elif state.ovsdb not in self._kept:
            self._since.setdefault(state.ovsdb, now)

    def heard(self, ovsdb: str) -> None:
        """It says something, so it is there."""
        self._since.pop(ovsdb, None)

    def forgotten(
        self, now: float, is_served: Callable[[str], bool], is_replaced: Callable[[str], bool] = lambda _: False
    ) -> list[str]:
        """The OVSDBs that are to be forgotten now."""
        gone = [ovsdb for ovsdb in self._since if is_replaced(ovsdb)]
        for ovsdb, since in self._since.items():
            if ovsdb in gone:
                continue
            if now - since < FORGET_OVSDB_SECONDS and len(self._since) - len(gone) <= MOST_DISCONNECTED_OVSDBS:
                break
            if not is_served(ovsdb):
                gone.append(ovsdb)
        for ovsdb in gone:
            del self._since[ovsdb]
        return gone
