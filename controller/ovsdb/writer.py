"""Carrying out, on one connection, what `settings` plans: one transaction at a time, none where nothing differs.

Which bridges are ours is the configuration's word, when a controller counts as ours is `settings`'s.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import ovs.db.idl
import structlog

from controller.config.addresses import canonical_address
from controller.ovsdb import bridge_settings
from controller.ovsdb.database import Database
from controller.ovsdb.rows import datapath_id, optional_value, owned_rows, valid_map, valid_text
from controller.ovsdb.targets import controller_target, leads_to
from controller.peers.backoff import Backoff
from controller.status import away_reasons

log = structlog.get_logger(__name__)
INTERFACE_BATCH = 1000  # Interfaces in one transaction
WRITE_PAUSE = 1.0  # seconds between two writes to the same bridge's settings, should someone else keep undoing them
WRITE_PAUSE_AFTER_ERROR = 10.0
SESSION_POLL_SECONDS = 0.25  # seconds between looks for an OpenFlow session
EXPECTED_SESSION_SECONDS = 3.0  # seconds without a session after which it is asked why
FIRST_OVERWRITE_PAUSE, MAX_OVERWRITE_PAUSE = (
    2.0,
    60.0,
)  # seconds before we write again where somebody else has written over it


@dataclass(frozen=True)
class BridgeConfig:
    """What all connections are told: the bridges owned, table names, the OpenFlow listener and who is connected there.

    `method` is how to reach that listener, tcp or ssl.
    `connected` is asked with a datapath id, from any thread: the number of its session, 0 if it has none. Without
    `openflow` no Controller is ever written.
    """

    bridges: frozenset[str]
    tables: Mapping[int, str] = field(default_factory=dict)
    openflow: tuple[str, int] | None = None
    connected: Callable[[int], int] = lambda dpid: 0
    grace: float = bridge_settings.CONTROLLER_GRACE
    method: str = "tcp"


class ControllerStatus(NamedTuple):
    """What OVSDB knows of a Controller's connection beyond what is monitored."""

    target: str
    connected: bool
    state: str
    error: str


@dataclass
class WatchedControllers:
    """A bridge whose Controllers are all the operator's, by names that do not say where they lead.

    `session` was up when these targets came: one that ends with the targets before proves nothing. `believed` is when
    there was reason last to believe that one of them leads here.
    """

    targets: frozenset[str]
    session: int
    since: float
    believed: float


@dataclass
class PendingWrite:
    """The transaction that is on its way, and what to do when it is through; `key` is what it is about."""

    transaction: Any
    key: str
    done: Callable[[], None]


class BridgeWriter:
    """Writes to one replica's database. It belongs to the thread that runs the replica."""

    def __init__(self, config: BridgeConfig, replica: Any, local_address: Callable[[], str | None]) -> None:
        self._config = config
        self._replica = replica
        self._local_address = local_address
        self._sent: PendingWrite | None = None
        self._not_before: dict[str, float] = {}
        self._watched: dict[str, WatchedControllers] = {}
        self._backoff: Backoff[str] = Backoff(FIRST_OVERWRITE_PAUSE, MAX_OVERWRITE_PAUSE, MAX_OVERWRITE_PAUSE)
        self._ours: dict[str, str] = {}  # the target that stands in our own Controller by our hand, by its uuid
        self._controller_status: dict[str, ControllerStatus] = {}
        self.session_missing = False  # whether a switch that should have called has not
        self.error = ""
        self.notes: tuple[str, ...] = ()
        self.away: dict[str, str] = {}  # the word for each bridge whose switch has no session

    @property
    def is_write_done(self) -> bool:
        """Whether a transaction has ended and the next turn will say so."""
        incomplete = ovs.db.idl.Transaction.INCOMPLETE
        return self._sent is not None and self._sent.transaction.commit() != incomplete

    def turn(self, owner: object, database: Database) -> float | None:
        """Send what is due. Returns in how many seconds to come again even if nothing changes; None if never."""
        if self._sent is not None and not self._finish(self._sent):
            return None
        self._sent = None
        now = time.monotonic()
        delays = [delay for delay in (self._installed(now, owner, database), self._settings(now)) if delay is not None]
        return min(delays, default=None)

    def _finish(self, sent: PendingWrite) -> bool:
        """Whether the transaction has ended; if so, draw the consequences."""
        status = sent.transaction.commit()
        if status == ovs.db.idl.Transaction.INCOMPLETE:
            return False
        if status in (ovs.db.idl.Transaction.SUCCESS, ovs.db.idl.Transaction.UNCHANGED):
            self._not_before[sent.key] = time.monotonic() + (0.0 if sent.key == "" else WRITE_PAUSE)
            self.error = ""
            sent.done()
        else:
            hard = status == ovs.db.idl.Transaction.ERROR
            self._not_before[sent.key] = time.monotonic() + (WRITE_PAUSE_AFTER_ERROR if hard else WRITE_PAUSE)
            self.error = f"transaction failed: {valid_text(sent.transaction.get_error())[:500]}"
            log.warning("ovsdb write failed", about=sent.key or "interfaces", error=self.error)
        return True

    def _send(self, key: str, operations: Sequence[bridge_settings.Operation], done: Callable[[], None]) -> None:
        transaction = ovs.db.idl.Transaction(self._replica)
        transaction.add_comment(f"headgate: {key or 'policy in force on interfaces'}")
        for operation in operations:
            transaction.add_op(operation)
        transaction.commit()
        self._sent = PendingWrite(transaction, key, done)

    def _resting(self, key: str, now: float) -> float | None:
        left = self._not_before.get(key, 0.0) - now
        return left if left > 0 else None

    def _installed(self, now: float, owner: object, database: Database) -> float | None:
        """Write the flags that the database waits for, or say that they stand already."""
        asked = database.queued_marks(INTERFACE_BATCH)
        if not asked or database.owner is not owner:
            return None
        rest = self._resting("", now)
        if rest is None:
            rows = self._replica.tables["Interface"].rows
            found = {text: row for text in asked if (row := _row(rows, text)) is not None}
            standing = {text: asked[text] for text in found}
            operations = bridge_settings.plan_installed_marks(
                {text: row.external_ids for text, row in found.items()}, asked
            )
            if operations:
                self._send("", operations, partial(database.marks_written, owner, asked, standing))
                return None
            database.marks_written(owner, asked, standing)
            rest = 0.0  # there may be more
        return rest

    def _settings(self, now: float) -> float | None:
        delays: list[float] = []
        notes: list[str] = []
        words: dict[str, str] = {}
        rows = owned_rows(self._replica.tables, self._config.bridges)
        self.session_missing = False
        for name, row in rows.items():
            bridge = read_settings(row, self._replica.tables)
            operations = bridge_settings.plan_bridge(bridge, self._config.tables)
            plan = self._controller(now, bridge, datapath_id(row))
            operations.extend(plan.operations)
            words[valid_text(row.name)] = plan.away
            notes.extend(filter(None, (bridge_settings.hidden_flows_note(bridge), *plan.notes)))
            delay = plan.again
            if operations and self._sent is None:
                delay = self._resting(name, now)
                if delay is None:
                    log.info("setting up bridge", bridge=name, operations=len(operations))
                    self._send(name, operations, lambda: None)
            if delay is not None:
                delays.append(delay)
        for note in notes:
            if note not in self.notes:
                log.warning(note)
        self.notes = tuple(notes)
        self.away = {name: word for name, word in words.items() if word}
        for uuid_ in self._watched.keys() - {str(row.uuid) for row in rows.values()}:
            del self._watched[uuid_]
        return min(delays, default=None)

    def _controller(self, now: float, bridge: bridge_settings.BridgeSettings, dpid: int) -> ControllerPlan:
        """What the Controllers need, seconds to the next look while that may change by itself, and what to tell."""
        listen, local = self._config.openflow, self._local_address()
        if listen is None or local is None:
            return ControllerPlan()
        target = controller_target(listen, canonical_address(local) if local else "", self._config.method)
        leads = partial(leads_to, ours=target, listen=listen)
        session = self._config.connected(dpid) if dpid else 0
        rival = "" if session else self._rival(bridge, target, leads)
        if rival:
            return ControllerPlan(again=1.0, notes=(rival,), away=away_reasons.RIVAL)
        theirs = [row for row in bridge.controllers if not row.ours]
        add, again = False, None
        if theirs and len(theirs) == len(bridge.controllers) and not any(leads(row.target) for row in theirs):
            add = self._leads_elsewhere(now, bridge, session if dpid else None)
            again = None if add else SESSION_POLL_SECONDS
        else:
            self._watched.pop(bridge.uuid, None)
        operations = bridge_settings.plan_controller(bridge, target, leads, add)
        if operations and (wait := self._backoff.left(bridge.uuid, now)):
            return ControllerPlan(again=wait, away="" if session else away_reasons.RIVAL)
        self._note_ours(now, bridge, target)
        if session or not dpid:
            return ControllerPlan(operations, again)
        word = away_reasons.reason_of_controllers(
            bridge.controllers, lambda it: it == target or leads(it), self._last_error
        )
        return ControllerPlan(operations, min(again or 1.0, 1.0), self._why_away(now, bridge, target), word)

    def _last_error(self, controller: str) -> str:
        status = self._controller_status.get(controller)
        return status.error if status is not None and not status.connected else ""

    def _leads_elsewhere(self, now: float, bridge: bridge_settings.BridgeSettings, session: int | None) -> bool:
        """Whether the operator's Controllers have had their chance to show that one of them leads here.

        The switch's session shows it, unless it was there before these targets were and may be about to end. It shows
        it for as long as it lasts, and no longer. `session` is None while the switch has no datapath id.
        """
        targets = frozenset(row.target for row in bridge.controllers)
        watched = self._watched.get(bridge.uuid)
        if watched is None or watched.targets != targets:
            watched = self._watched[bridge.uuid] = WatchedControllers(targets, session or 0, now, now)
        if session is None or (session and (session != watched.session or now - watched.since >= self._config.grace)):
            watched.believed = now
        tried = [self._controller_status.get(row.uuid) for row in bridge.controllers]
        failed = all(one is not None and one.error and not one.connected for one in tried)
        patience = (
            self._config.grace
            if failed
            else bridge_settings.controller_patience(bridge.controllers, self._config.grace)
        )
        return now - watched.believed >= patience

    def _rival(self, bridge: bridge_settings.BridgeSettings, target: str, leads: Callable[[str], bool]) -> str:
        """What to tell of another Headgate whose Controller row the switch follows at this moment; else empty."""
        for row in bridge.controllers:
            if row.ours and row.connected and row.target != target and not leads(row.target):
                return (
                    f"bridge {bridge.name}: another Headgate at {row.target} writes this bridge; only one may serve it"
                )
        return ""

    def _note_ours(self, now: float, bridge: bridge_settings.BridgeSettings, target: str) -> None:
        """Wait longer each time that somebody else has written over the target that we wrote."""
        for row in bridge.controllers:
            if not row.ours:
                continue
            if self._ours.get(bridge.uuid) == target != row.target:
                self._backoff.failed(bridge.uuid, now)
            self._ours[bridge.uuid] = row.target

    def rival(self) -> str:
        """What to tell while another Headgate has the database's lock."""
        listen, local = self._config.openflow, self._local_address()
        here = canonical_address(local) if local else ""
        own = controller_target(listen, here, self._config.method) if listen else ""
        found = sorted(
            row.target
            for bridge in owned_rows(self._replica.tables, self._config.bridges).values()
            for row in read_settings(bridge, self._replica.tables).controllers
            if row.ours and row.target != own
        )
        where = f" at {found[0]}" if found else ""
        return f"another Headgate{where} writes this bridge; only one may serve it, so this one keeps away"

    def status_received(self, rows: list[Any]) -> None:
        """What OVSDB says of its Controllers, in answer to a question of ours."""
        self._controller_status = dict(filter(None, map(_attempt, rows)))

    def _why_away(self, now: float, bridge: bridge_settings.BridgeSettings, target: str) -> tuple[str, ...]:
        """What to tell of a switch without a session: where its Controllers lead, how that failed, how to mend it."""
        self.session_missing = True
        if not self._controller_status:
            return ()
        found = []
        for row in sorted(bridge.controllers, key=lambda row: row.target):
            status = self._controller_status.get(row.uuid)
            how = "connected" if row.connected else (status.error if status is not None else "") or "not connected"
            found.append(f"{row.target} ({how})")
        note = (
            f"bridge {bridge.name}: the switch has no OpenFlow session here; its controllers: "
            f"{', '.join(found) or 'none'}; Headgate listens at {target}; if that is where it shall lead: "
            f"ovs-vsctl set-controller {bridge.name} {target}"
        )
        return (note,)


@dataclass(frozen=True)
class ControllerPlan:
    """What a bridge's Controllers need, in how many seconds to look again, what to tell, and the word for a switch that
    has no session."""

    operations: list[bridge_settings.Operation] = field(default_factory=list)
    again: float | None = None
    notes: tuple[str, ...] = ()
    away: str = ""


def _attempt(row: Any) -> tuple[str, ControllerStatus] | None:
    """A row of the answer to a `select`, by its uuid; None for what is none."""
    try:
        status = dict(row["status"][1])
        connected = row["is_connected"] is True
        texts_ = (
            valid_text(row["target"]),
            valid_text(status.get("state", "")),
            valid_text(status.get("last_error", "")),
        )
        return str(row["_uuid"][1]), ControllerStatus(texts_[0][:200], connected, texts_[1][:50], texts_[2][:200])
    except (TypeError, ValueError, KeyError, IndexError):
        return None


def read_settings(row: Any, tables: Mapping[str, Any]) -> bridge_settings.BridgeSettings:
    """What stands in the database for this Bridge row."""
    used: dict[object, int] = {}
    for bridge in tables["Bridge"].rows.values():
        for table in bridge.flow_tables.values():
            used[table.uuid] = used.get(table.uuid, 0) + 1
    return bridge_settings.BridgeSettings(
        uuid=str(row.uuid),
        name=valid_text(row.name),
        fail_mode=valid_text(optional_value(row.fail_mode) or ""),
        protocols=frozenset(valid_text(protocol) for protocol in row.protocols),
        tables={
            number: bridge_settings.FlowTableRow(
                str(table.uuid), valid_text(optional_value(table.name) or ""), used.get(table.uuid, 0) > 1
            )
            for number, table in row.flow_tables.items()
        },
        controllers=tuple(_controller_row(controller) for controller in row.controller),
        in_band_managers=tuple(
            valid_text(manager.target) for manager in tables["Manager"].rows.values() if _is_in_band(manager)
        ),
        in_band_disabled=row.other_config.get("disable-in-band") == "true",
    )


def _controller_row(row: Any) -> bridge_settings.ControllerRow:
    key, value = bridge_settings.CONTROLLER_EXTERNAL_ID
    return bridge_settings.ControllerRow(
        uuid=str(row.uuid),
        target=valid_text(row.target),
        ours=valid_map(row.external_ids).get(key) == value,
        connected=bool(row.is_connected),
        in_band=_is_in_band(row),
        max_backoff=optional_value(row.max_backoff) or bridge_settings.DEFAULT_MAX_BACKOFF,
    )


def _is_in_band(row: Any) -> bool:
    return bool(optional_value(row.connection_mode) != "out-of-band")  # empty means in-band


def _row(rows: Mapping[Any, Any], text: str) -> Any:
    try:
        return rows.get(uuid.UUID(text))
    except ValueError:
        return None
