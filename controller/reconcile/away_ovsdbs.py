"""OVSDBs that are away, and for how long. Those that do not come back are forgotten, so that there are never many.

An OVSDB is forgotten after FORGET_OVSDB_SECONDS, or earlier if there are too many; at once if all its bridges are
another OVSDB's now, since its machine was installed again. Never forgotten are the OVSDBs that the configuration names,
nor those with a bridge whose switch has an OpenFlow session.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from controller.reconcile.events import OvsdbState

FORGET_OVSDB_SECONDS = 600.0
MAX_AWAY_OVSDBS = 256


class AwayOvsdbs:
    """When each OVSDB went away, in seconds of a monotonic clock, the earliest first. `kept` are never forgotten."""

    def __init__(self, kept: Collection[str]) -> None:
        self._kept = frozenset(kept)
        self._since: dict[str, float] = {}

    def on_state(self, state: OvsdbState, now: float) -> None:
        """A connection was made or ended. `ovsdb` is away if it ended, or if the database there turned out to be one
        that another name already stands for (`reason`)."""
        if state.synced and not state.reason:
            self._since.pop(state.ovsdb, None)
        elif state.ovsdb not in self._kept:
            self._since.setdefault(state.ovsdb, now)

    def on_bridge(self, ovsdb: str) -> None:
        """An OVSDB reported a bridge, so it is not away."""
        self._since.pop(ovsdb, None)

    def take_forgotten(
        self, now: float, is_served: Callable[[str], bool], is_replaced: Callable[[str], bool] = lambda _: False
    ) -> list[str]:
        """The OVSDBs to forget now. Each is returned once."""
        forgotten = [ovsdb for ovsdb in self._since if is_replaced(ovsdb)]
        for ovsdb, since in self._since.items():
            if ovsdb in forgotten:
                continue
            if now - since < FORGET_OVSDB_SECONDS and len(self._since) - len(forgotten) <= MAX_AWAY_OVSDBS:
                break
            if not is_served(ovsdb):
                forgotten.append(ovsdb)
        for ovsdb in forgotten:
            del self._since[ovsdb]
        return forgotten
