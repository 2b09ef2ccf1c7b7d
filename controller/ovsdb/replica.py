"""The `ovs` package's replica of a database over a session of ours. What its rows mean is not known here."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import ovs.db.idl

from controller.ovsdb.contents_size import ContentsSize
from controller.ovsdb.schema import monitored_schema
from controller.ovsdb.session import FramedSession

# An Idl names its monitors with uuid1(), for which libuuid opens a file in each thread and never closes it: a file
# descriptor would be lost with each connection. Random names do as well.
ovs.db.idl.uuid = SimpleNamespace(UUID=uuid.UUID, uuid1=uuid.uuid4, uuid4=uuid.uuid4)

_YIELD_EVERY = 200  # rows taken in between two chances for other green threads


class Replica(ovs.db.idl.Idl):  # type: ignore[misc]  # ovs has no types
    """An Idl that takes its session as given and says which rows changed."""

    _session: Any

    def __init__(self, session: FramedSession, changed: Callable[[object], None], contents: ContentsSize) -> None:
        # The Idl makes a session of its own from a remote's name; that one is never run, so it never connects.
        super().__init__("unix:unused", monitored_schema(), leader_only=False)
        self._session.close()
        self._session = session
        self._changed = changed
        self._contents = contents
        self._rows = 0

    @property
    def synced(self) -> bool:
        """Whether a connection is there and the contents are the database's."""
        return bool(self._session.is_connected() and self.state == self.IDL_S_MONITORING)

    def notify(self, event: str, row: Any, updates: Any = None) -> None:
        """Called by the Idl for each row that came, changed or went. Raises TooMuch."""
        self._contents.changed(row, event == ovs.db.idl.ROW_DELETE)
        self._changed(row.uuid)

    def cooperative_yield(self) -> None:
        """Called by the Idl for each row of an update."""
        self._rows += 1
        if self._rows % _YIELD_EVERY == 0:
            time.sleep(0)
