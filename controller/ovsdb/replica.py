"""The `ovs` package's replica of a database (`Idl`) over a session of Headgate's own.

What rows mean must not live here: see `rows`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import ovs.db.idl
import ovs.jsonrpc

from controller.ovsdb.contents_size import ContentsSize
from controller.ovsdb.schema import monitored_schema
from controller.ovsdb.session import FramedSession

# An Idl names its monitors with uuid1(), for which libuuid opens a file in each thread and never closes it, so every
# connection would leak a file descriptor. Random names avoid that.
ovs.db.idl.uuid = SimpleNamespace(UUID=uuid.UUID, uuid1=uuid.uuid4, uuid4=uuid.uuid4)

_PORTS = frozenset({"Port", "Interface"})
_YIELD_EVERY = 200  # rows of an update, after which other green threads run


class Replica(ovs.db.idl.Idl):  # type: ignore[misc]  # ovs has no types
    """An Idl over a given session. `changed` is called with the uuid of each row that was added, changed or deleted.

    `settings_seqno` grows as the Idl's `change_seqno`, but not when nothing but ports changed: what is read of a bridge
    apart from its ports is read anew only then.
    """

    _session: Any
    _outstanding_txns: Any
    lock_name: Any
    txn: Any

    def __init__(self, session: FramedSession, changed: Callable[[object], None], contents: ContentsSize) -> None:
        # The Idl makes a session of its own from a remote's name; that one is never run, so it never connects.
        super().__init__("unix:unused", monitored_schema(), leader_only=False)
        self._session.close()
        self._session = session
        self._changed = changed
        self._contents = contents
        self._rows = 0
        self.settings_seqno = 0

    @property
    def synced(self) -> bool:
        """Whether it is connected and has the database's contents."""
        return bool(self._session.is_connected() and self.state == self.IDL_S_MONITORING)

    def notify(self, event: str, row: Any, updates: Any = None) -> None:
        """Called by the Idl for each row that came, changed or went. Raises ContentsTooLarge."""
        self._contents.changed(row, event == ovs.db.idl.ROW_DELETE)
        self._changed(row.uuid)
        table = row._table.name
        if table in _PORTS or (table == "Bridge" and updates is not None and updates._data.keys() == {"ports"}):
            return
        self.settings_seqno += 1

    def cooperative_yield(self) -> None:
        """Called by the Idl for each row of an update."""
        self._rows += 1
        if self._rows % _YIELD_EVERY == 0:
            time.sleep(0)

    def want_lock(self, name: str | None) -> None:
        """Request this lock, or release the one that was requested (None). While a transaction is under way the Idl
        can do neither: then nothing happens, and its answer is the time to ask again.
        """
        if name != self.lock_name and not self.txn and not self._outstanding_txns:
            self.set_lock(name)

    def steal_lock(self) -> None:
        """Take the lock from the client that has it (RFC 7047, section 4.1.9). The Idl takes the reply as its own."""
        name: str | None = self.lock_name
        self.set_lock(None)  # the server takes no second request for a lock before the first is withdrawn
        if name is None or not self._session.is_connected():
            return
        message = ovs.jsonrpc.Message.create_request("steal", [name])
        self._session.send(message)
        self.lock_name, self._lock_request_id = name, message.id
