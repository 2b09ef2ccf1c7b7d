"""Writes to one OVSDB what `bridge_settings` and `controller_planner` plan: one transaction at a time, none without a
difference.

What to write must not be decided here.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import ovs.db.idl
import structlog

from controller.ovsdb import bridge_settings
from controller.ovsdb.controller_planner import BridgeConfig, ControllerPlanner
from controller.ovsdb.database import Database
from controller.ovsdb.network_rows import NetworkRows, plan_network, read_network_rows, tunnel_note
from controller.ovsdb.rows import datapath_id, owned_rows, valid_text
from controller.ovsdb.settings_rows import read_controller_status, read_settings
from flows.bridge.network import NO_NETWORK

log = structlog.get_logger(__name__)
INTERFACE_BATCH = 1000  # Interfaces in one transaction
WRITE_PAUSE = 1.0  # seconds between two writes to the settings of one bridge, in case another writer reverts them
WRITE_PAUSE_AFTER_ERROR = 10.0  # seconds
_INTERFACES = ""  # the key of a transaction with marks of Interfaces; others have the bridge's name


class ReadSettings(NamedTuple):
    """The settings of a bridge as read, at which `change_seqno` and `settings_seqno` of the replica, and what differs
    in them from what Headgate sets on every bridge."""

    seqno: tuple[int, int]
    settings: bridge_settings.BridgeSettings
    network: NetworkRows
    operations: list[bridge_settings.Operation]


@dataclass
class PendingWrite:
    """A transaction without a reply so far. `key` is the bridge's name, or _INTERFACES; `done` is called on success."""

    transaction: Any
    key: str
    done: Callable[[], None]


class BridgeWriter:
    """Writes to one replica's database. It belongs to the thread that runs the replica.

    `error` is that of the last transaction, empty after success. `notes` are for the operator. `away` has the away
    reason of each bridge whose switch has no session.
    """

    def __init__(self, config: BridgeConfig, replica: Any, local_address: Callable[[], str | None]) -> None:
        self._config = config
        self._replica = replica
        self._local_address = local_address
        self._planner = ControllerPlanner(config)
        self._pending: PendingWrite | None = None
        self._read: dict[object, ReadSettings] = {}  # by the Bridge's row uuid
        self._not_before: dict[str, float] = {}  # time.monotonic() of the next write, by key
        self.error = ""
        self.notes: tuple[str, ...] = ()
        self.away: dict[str, str] = {}

    @property
    def session_missing(self) -> bool:
        """Whether a switch had no OpenFlow session at the last turn."""
        return self._planner.session_missing

    @property
    def is_write_done(self) -> bool:
        """Whether the pending transaction has ended; the next turn handles it."""
        incomplete = ovs.db.idl.Transaction.INCOMPLETE
        return self._pending is not None and self._pending.transaction.commit() != incomplete

    def turn(self, owner: object, database: Database) -> float | None:
        """Send what is due. Returns the seconds until the next turn if nothing changes before; None if never."""
        if self._pending is not None and not self._finish(self._pending):
            return None
        self._pending = None
        now = time.monotonic()
        delays = [self._write_marks(now, owner, database), self._write_settings(now, database)]
        return min((delay for delay in delays if delay is not None), default=None)

    def stop(self) -> None:
        """Another replica writes from now on. A transaction under way fails, or the rows will show what it changed."""
        self._pending = None
        self.error, self.notes, self.away = "", (), {}

    def _finish(self, write: PendingWrite) -> bool:
        """Handle the reply to the transaction. False while there is none."""
        status = write.transaction.commit()
        if status == ovs.db.idl.Transaction.INCOMPLETE:
            return False
        if status in (ovs.db.idl.Transaction.SUCCESS, ovs.db.idl.Transaction.UNCHANGED):
            self._not_before[write.key] = time.monotonic() + (0.0 if write.key == _INTERFACES else WRITE_PAUSE)
            self.error = ""
            write.done()
        else:
            hard = status == ovs.db.idl.Transaction.ERROR
            self._not_before[write.key] = time.monotonic() + (WRITE_PAUSE_AFTER_ERROR if hard else WRITE_PAUSE)
            self.error = f"transaction failed: {valid_text(write.transaction.get_error())[:500]}"
            log.warning("ovsdb write failed", about=write.key or "interfaces", error=self.error)
        return True

    def _send(self, key: str, operations: Sequence[bridge_settings.Operation], done: Callable[[], None]) -> None:
        transaction = ovs.db.idl.Transaction(self._replica)
        transaction.add_comment(f"headgate: {key or 'policy in force on interfaces'}")
        for operation in operations:
            transaction.add_op(operation)
        transaction.commit()
        self._pending = PendingWrite(transaction, key, done)

    def _pause_left(self, key: str, now: float) -> float | None:
        left = self._not_before.get(key, 0.0) - now
        return left if left > 0 else None

    def _write_marks(self, now: float, owner: object, database: Database) -> float | None:
        """Write queued marks of Interfaces, or report those that the rows have already."""
        asked = database.queued_marks(INTERFACE_BATCH)
        if not asked or database.owner is not owner:
            return None
        pause = self._pause_left(_INTERFACES, now)
        if pause is None:
            rows = self._replica.tables["Interface"].rows
            found = {text: row for text in asked if (row := _row(rows, text)) is not None}
            written = {text: asked[text] for text in found}
            ids = {text: row.external_ids for text, row in found.items()}
            operations = bridge_settings.plan_installed_marks(ids, asked)
            if operations:
                self._send(_INTERFACES, operations, partial(database.marks_written, owner, asked, written))
                return None
            database.marks_written(owner, asked, written)
            pause = 0.0  # there may be more than one batch
        return pause

    def _write_settings(self, now: float, database: Database) -> float | None:
        """Write the settings of one bridge that differ; update `notes` and `away` of all."""
        delays: list[float] = []
        notes: list[str] = []
        reasons: dict[str, str] = {}
        rows = owned_rows(self._replica.tables, self._config.bridges)
        self._planner.session_missing = False
        for name, row in rows.items():
            read = self._read_bridge(row)
            bridge, operations = read.settings, list(read.operations)
            plan = self._planner.plan(now, bridge, datapath_id(row), self._local_address())
            operations.extend(plan.operations)
            operations.extend(self._plan_network(read.network, database, notes))
            reasons[valid_text(row.name)] = plan.away
            notes.extend(filter(None, (bridge_settings.hidden_flows_note(bridge), *plan.notes)))
            delay = plan.again
            if operations and self._pending is None:
                delay = self._pause_left(name, now)
                if delay is None:
                    log.info("setting up bridge", bridge=name, operations=len(operations))
                    self._send(name, operations, lambda: None)
            if delay is not None:
                delays.append(delay)
        for note in notes:
            if note not in self.notes:
                log.warning(note)
        self.notes = tuple(notes)
        self.away = {name: reason for name, reason in reasons.items() if reason}
        self._planner.keep_only([str(row.uuid) for row in rows.values()])
        self._read = {uuid: read for uuid, read in self._read.items() if uuid in {row.uuid for row in rows.values()}}
        return min(delays, default=None)

    def _read_bridge(self, row: Any) -> ReadSettings:
        """The settings of a bridge, read anew only if rows that may concern them changed: a turn comes with every port,
        echo and mark."""
        tables, routes, known = self._replica.tables, self._config.routes, self._read.get(row.uuid)
        # A bridge that routes has its tunnel among its ports.
        seqno = (self._replica.change_seqno if routes else 0, self._replica.settings_seqno)
        if known is None or known.seqno != seqno:
            settings = read_settings(row, tables)
            operations = bridge_settings.plan_bridge(settings, self._config.tables)
            known = ReadSettings(seqno, settings, read_network_rows(row, tables, routes), operations)
            self._read[row.uuid] = known
        return known

    def _plan_network(self, rows: NetworkRows, database: Database, notes: list[str]) -> list[bridge_settings.Operation]:
        """The operations for the settings of the network. None while it is not known what a bridge must have."""
        wanted = database.network(rows.name) if self._config.routes else NO_NETWORK
        if wanted is None:
            return []
        notes.extend(filter(None, (tunnel_note(rows, wanted),)))
        return plan_network(rows, wanted)

    def rival(self) -> str:
        """A note on the other Headgate that holds the database's lock."""
        own = self._config.target(self._local_address() or "")
        found = sorted(
            row.target
            for bridge in owned_rows(self._replica.tables, self._config.bridges).values()
            for row in read_settings(bridge, self._replica.tables).controllers
            if row.ours and row.target != own
        )
        where = f" at {found[0]}" if found else ""
        return f"another Headgate{where} writes this bridge; only one may serve it, so this one does not write it"

    def status_received(self, rows: list[Any]) -> None:
        """The reply to a query of Controller.status."""
        self._planner.status = read_controller_status(rows)


def _row(rows: Mapping[Any, Any], text: str) -> Any:
    try:
        return rows.get(uuid.UUID(text))
    except ValueError:
        return None
