"""One OVSDB as the reconciler knows it, by name, independent of the connection that serves it at the moment.

A database outlives its connections. While there is none, nothing changes; when one comes back, only the differences to
what was published before are posted. Reading and writing the OVSDB must not live here: see `rows` and `writer`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from controller.reconcile.events import BridgeChanged, BridgeGone, Event, MarksWritten, OvsdbPeer, OvsdbState
from flows.bridge.connection_peer import ConnectionPeer
from flows.bridge.network import NodeNetwork
from flows.bridge.state import BridgeState


class Database:
    """The published bridges of one OVSDB, and the marks and settings to write there. Thread-safe.

    Methods with an `owner` (a connection) do nothing when another connection serves the database now.
    """

    def __init__(self, name: str, post: Callable[[Event], None]) -> None:
        self.name = name
        self.row = ""  # uuid of the Open_vSwitch row, empty without a connection
        self.owner: object | None = None
        self.synced = False
        self.reason = "not connected yet"
        self.since = time.time()
        self._post = post
        self._lock = threading.RLock()
        self._bridges: dict[str, BridgeState] = {}
        self._marks: dict[str, bool] = {}
        self._networks: dict[str, NodeNetwork] = {}

    def assign(self, owner: object | None, row: str) -> None:
        """From now on the connection `owner` serves this database; `row` is the uuid of its Open_vSwitch row."""
        with self._lock:
            self.owner, self.row = owner, row

    def publish(self, owner: object, bridges: Mapping[str, BridgeState], peer: ConnectionPeer | None = None) -> None:
        """Publish all owned bridges: post what differs from the last time, then OvsdbState(synced) if it was not.

        When it was not synced, everything is posted, after OvsdbPeer: the reconciler may have forgotten a database that
        was away for long.
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
                self._post_state(True, "")

    def connection_lost(self, owner: object | None, reason: str) -> None:
        """The connection is away, or an attempt failed. Posts OvsdbState; the bridges stay as they were."""
        with self._lock:
            if self.owner is owner and (self.synced or reason != self.reason):
                self._post_state(False, reason)

    def retire(self, reason: str) -> None:
        """Another database publishes the same bridges. They are gone here, and this one counts as synced."""
        with self._lock:
            for name in sorted(self._bridges):
                self._post(BridgeGone(self.name, name))
            self._bridges.clear()
            self._marks.clear()
            self._networks.clear()
            self.row = ""
            if not self.synced or reason != self.reason:
                self._post_state(True, reason)

    def queue_marks(self, interfaces: Mapping[str, bool]) -> None:
        """Keep these marks (by row uuid) until they are written; a later one for the same Interface replaces it."""
        with self._lock:
            self._marks.update(interfaces)

    def queued_marks(self, limit: int) -> dict[str, bool]:
        """Up to `limit` of the marks that are not written yet."""
        with self._lock:
            return dict(list(self._marks.items())[:limit])

    def marks_written(self, owner: object, asked: Mapping[str, bool], written: Mapping[str, bool]) -> None:
        """Of the marks `asked`, `written` are in the OVSDB now; the Interfaces of the others are gone."""
        with self._lock:
            if self.owner is not owner:
                return
            for uuid, flag in asked.items():
                if self._marks.get(uuid) is flag:
                    del self._marks[uuid]
            if written:
                self._post(MarksWritten(self.name, dict(written)))

    def writer_changed(self) -> None:
        """Another replica may have written since marks were queued here: have them asked for anew."""
        with self._lock:
            self._marks.clear()
            if self.synced:
                self._post_state(True, self.reason)

    def set_network(self, bridge: str, network: NodeNetwork | None) -> None:
        """The settings of the network that a bridge must have from now on; None leaves them as they are."""
        with self._lock:
            self._networks.pop(bridge, None)
            if network is not None:
                self._networks[bridge] = network

    def network(self, bridge: str) -> NodeNetwork | None:
        """The settings of the network that a bridge must have; None while they are not known."""
        with self._lock:
            return self._networks.get(bridge)

    def bridges(self) -> tuple[str, ...]:
        """The names of the owned bridges, as published last."""
        with self._lock:
            return tuple(sorted(self._bridges))

    def _post_state(self, synced: bool, reason: str) -> None:
        if synced != self.synced:
            self.since = time.time()
        self.synced, self.reason = synced, reason
        self._post(OvsdbState(self.name, synced, reason))
