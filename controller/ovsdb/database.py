"""What one database has told the core, under one name, whichever connection it comes through at the moment.

A feed outlives its connection: while that is away nothing changes, and what comes afterwards is told as a difference to
what was told last. It posts events; it neither reads the database nor writes it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from controller.reconcile.events import BridgeChanged, BridgeGone, Event, MarksWritten, OvsdbPeer, OvsdbState
from flows.bridge.connection_peer import ConnectionPeer
from flows.bridge.state import BridgeState


class Database:
    """The outward side of one OVSDB. Thread-safe; the methods that name an `owner` do nothing for a former one."""

    def __init__(self, name: str, post: Callable[[Event], None]) -> None:
        self.name = name
        self.row = ""  # uuid of the Open_vSwitch row that it stands for at the moment
        self.owner: object | None = None
        self.synced = False
        self.reason = "not connected yet"
        self.since = time.time()
        self._post = post
        self._lock = threading.RLock()
        self._bridges: dict[str, BridgeState] = {}
        self._wanted: dict[str, bool] = {}

    def take(self, owner: object | None, row: str) -> None:
        """From now on `owner` is the connection that speaks for this feed."""
        with self._lock:
            self.owner, self.row = owner, row

    def update(self, owner: object, bridges: Mapping[str, BridgeState], peer: ConnectionPeer | None = None) -> None:
        """These are all owned bridges now: posts what differs, then OvsdbState(synced) if this was the first time.

        Then all of it is posted, and who the `peer` is before it: what is away for long is forgotten by the core.
        """
        with self._lock:
            if self.owner is not owner:
                return
            if not self.synced and peer is not None:
                self._post(OvsdbPeer(self.name, peer))
            for name in sorted(self._bridges.keys() - bridges.keys()):
                del self._bridges[name]
                self._post(BridgeGone(self.name, name))
            for name, bridge in bridges.items():
                if self._bridges.get(name) != bridge or not self.synced:
                    self._bridges[name] = bridge
                    self._post(BridgeChanged(bridge))
            if not self.synced or self.reason:
                self._turn(True, "")

    def lost(self, owner: object | None, reason: str) -> None:
        """The connection is away, or an attempt failed: nothing changes but that it is known."""
        with self._lock:
            if self.owner is owner and (self.synced or reason != self.reason):
                self._turn(False, reason)

    def retire(self, reason: str) -> None:
        """The same bridges come under another name: gone here, and as nothing is missing this counts as synced."""
        with self._lock:
            for name in sorted(self._bridges):
                self._post(BridgeGone(self.name, name))
            self._bridges.clear()
            self._wanted.clear()
            self.row = ""
            if not self.synced or reason != self.reason:
                self._turn(True, reason)

    def want(self, interfaces: Mapping[str, bool]) -> None:
        """Keep these flags until they are written; a later wish for the same Interface replaces an earlier one."""
        with self._lock:
            self._wanted.update(interfaces)

    def wanted(self, limit: int) -> dict[str, bool]:
        """Up to `limit` of the flags still to be written."""
        with self._lock:
            return dict(list(self._wanted.items())[:limit])

    def written(self, owner: object, asked: Mapping[str, bool], standing: Mapping[str, bool]) -> None:
        """Of the wishes `asked`, `standing` are in the database now; the others' Interfaces are gone."""
        with self._lock:
            if self.owner is not owner:
                return
            for uuid, flag in asked.items():
                if self._wanted.get(uuid) is flag:
                    del self._wanted[uuid]
            if standing:
                self._post(MarksWritten(self.name, dict(standing)))

    def bridges(self) -> tuple[str, ...]:
        """The names of the owned bridges, as told last."""
        with self._lock:
            return tuple(sorted(self._bridges))

    def _turn(self, synced: bool, reason: str) -> None:
        if synced != self.synced:
            self.since = time.time()
        self.synced, self.reason = synced, reason
        self._post(OvsdbState(self.name, synced, reason))
