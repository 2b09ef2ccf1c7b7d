"""Carrying out, on one connection, what `settings` plans: one transaction at a time, none where nothing differs.

Which bridges are ours is the configuration's word, when a controller counts as ours is `settings`'s.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ovs.db.idl
import structlog

from controller.ovsdb import settings
from controller.ovsdb.bridges import clean, datapath_id, first, owned_rows, texts
from controller.ovsdb.feed import Feed
from controller.ovsdb.remotes import controller_target, leads_to, plain_address

log = structlog.get_logger(__name__)
BATCH = 1000  # Interfaces in one transaction
REST = 1.0  # seconds between two writes to the same bridge's settings, should someone else keep undoing them
REST_AFTER_ERROR = 10.0
LOOK_AGAIN = 0.25  # seconds between looks for an OpenFlow session


@dataclass(frozen=True)
class Config:
    """What all connections are told: the bridges owned, table names, the OpenFlow listener and who is connected there.

    `method` is how to reach that listener, tcp or ssl.
    `connected` is asked with a datapath id, from any thread. Without `openflow` no Controller is ever written.
    """

    bridges: frozenset[str]
    tables: Mapping[int, str] = field(default_factory=dict)
    openflow: tuple[str, int] | None = None
    connected: Callable[[int], bool] = lambda dpid: False
    grace: float = settings.GRACE
    method: str = "tcp"


@dataclass
class _Sent:
    """The transaction that is on its way, and what to do when it is through; `key` is what it is about."""

    transaction: Any
    key: str
    done: Callable[[], None]


class Writer:
    """Writes to one replica's database. It belongs to the thread that runs the replica."""

    def __init__(self, config: Config, replica: Any, local_address: Callable[[], str | None]) -> None:
        self._config = config
        self._replica = replica
        self._local_address = local_address
        self._sent: _Sent | None = None
        self._rests: dict[str, float] = {}
        self._waiting: dict[tuple[str, frozenset[str]], float] = {}
        self._proven: set[tuple[str, frozenset[str]]] = set()
        self.error = ""
        self.notes: tuple[str, ...] = ()

    @property
    def answered(self) -> bool:
        """Whether a transaction has ended and the next turn will say so."""
        incomplete = ovs.db.idl.Transaction.INCOMPLETE
        return self._sent is not None and self._sent.transaction.commit() != incomplete

    def turn(self, owner: object, feed: Feed) -> float | None:
        """Send what is due. Returns in how many seconds to come again even if nothing changes; None if never."""
        if self._sent is not None and not self._finish(self._sent):
            return None
        self._sent = None
        now = time.monotonic()
        delays = [delay for delay in (self._installed(now, owner, feed), self._settings(now)) if delay is not None]
        return min(delays, default=None)

    def _finish(self, sent: _Sent) -> bool:
        """Whether the transaction has ended; if so, draw the consequences."""
        status = sent.transaction.commit()
        if status == ovs.db.idl.Transaction.INCOMPLETE:
            return False
        if status in (ovs.db.idl.Transaction.SUCCESS, ovs.db.idl.Transaction.UNCHANGED):
            self._rests[sent.key] = time.monotonic() + (0.0 if sent.key == "" else REST)
            self.error = ""
            sent.done()
        else:
            hard = status == ovs.db.idl.Transaction.ERROR
            self._rests[sent.key] = time.monotonic() + (REST_AFTER_ERROR if hard else REST)
            self.error = f"transaction failed: {clean(sent.transaction.get_error())[:500]}"
            log.warning("ovsdb write failed", about=sent.key or "interfaces", error=self.error)
        return True

    def _send(self, key: str, operations: Sequence[settings.Operation], done: Callable[[], None]) -> None:
        transaction = ovs.db.idl.Transaction(self._replica)
        transaction.add_comment(f"headgate: {key or 'policy in force on interfaces'}")
        for operation in operations:
            transaction.add_op(operation)
        transaction.commit()
        self._sent = _Sent(transaction, key, done)

    def _resting(self, key: str, now: float) -> float | None:
        left = self._rests.get(key, 0.0) - now
        return left if left > 0 else None

    def _installed(self, now: float, owner: object, feed: Feed) -> float | None:
        """Write the flags that the feed waits for, or say that they stand already."""
        asked = feed.wanted(BATCH)
        if not asked or feed.owner is not owner:
            return None
        rest = self._resting("", now)
        if rest is None:
            rows = self._replica.tables["Interface"].rows
            found = {text: row for text in asked if (row := _row(rows, text)) is not None}
            standing = {text: asked[text] for text in found}
            operations = settings.plan_installed({text: row.external_ids for text, row in found.items()}, asked)
            if operations:
                self._send("", operations, partial(feed.written, owner, asked, standing))
                return None
            feed.written(owner, asked, standing)
            rest = 0.0  # there may be more
        return rest

    def _settings(self, now: float) -> float | None:
        delays, notes = [], []
        for name, row in owned_rows(self._replica.tables, self._config.bridges).items():
            bridge = read_settings(row, self._replica.tables)
            if note := settings.hidden_flows(bridge):
                notes.append(note)
            operations = settings.plan_bridge(bridge, self._config.tables)
            delay = self._controller(now, bridge, datapath_id(row), operations)
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
        return min(delays, default=None)

    def _controller(
        self, now: float, bridge: settings.BridgeSettings, dpid: int, operations: list[settings.Operation]
    ) -> float | None:
        """Adds to `operations` what the Controllers need; seconds to the next look while that is not clear yet."""
        listen, local = self._config.openflow, self._local_address()
        if listen is None or local is None:
            return None
        target = controller_target(listen, plain_address(local) if local else "", self._config.method)
        add = undecided = False
        theirs = frozenset(row.target for row in bridge.controllers if not row.ours)
        ours = any(row.ours for row in bridge.controllers)
        key = (bridge.uuid, theirs)
        if theirs and not ours and not any(leads_to(text, target, listen) for text in theirs):
            if dpid and self._config.connected(dpid):
                self._proven.add(key)  # one of the operator's leads here, by whatever name; an outage does not unsay it
            if key not in self._proven:
                since = self._waiting.setdefault(key, now) if dpid else now
                add = now - since >= settings.patience(bridge.controllers, self._config.grace)
                undecided = not add
        operations.extend(settings.plan_controller(bridge, target, lambda text: leads_to(text, target, listen), add))
        return LOOK_AGAIN if undecided else None


def read_settings(row: Any, tables: Mapping[str, Any]) -> settings.BridgeSettings:
    """What stands in the database for this Bridge row."""
    used: dict[object, int] = {}
    for bridge in tables["Bridge"].rows.values():
        for table in bridge.flow_tables.values():
            used[table.uuid] = used.get(table.uuid, 0) + 1
    return settings.BridgeSettings(
        uuid=str(row.uuid),
        name=clean(row.name),
        fail_mode=clean(first(row.fail_mode) or ""),
        protocols=frozenset(clean(protocol) for protocol in row.protocols),
        tables={
            number: settings.TableRow(str(table.uuid), clean(first(table.name) or ""), used.get(table.uuid, 0) > 1)
            for number, table in row.flow_tables.items()
        },
        controllers=tuple(_controller_row(controller) for controller in row.controller),
        in_band_managers=tuple(
            clean(manager.target) for manager in tables["Manager"].rows.values() if _is_in_band(manager)
        ),
        in_band_disabled=row.other_config.get("disable-in-band") == "true",
    )


def _controller_row(row: Any) -> settings.ControllerRow:
    key, value = settings.MARK
    return settings.ControllerRow(
        uuid=str(row.uuid),
        target=clean(row.target),
        ours=texts(row.external_ids).get(key) == value,
        connected=bool(row.is_connected),
        in_band=_is_in_band(row),
        max_backoff=first(row.max_backoff) or settings.DEFAULT_MAX_BACKOFF,
    )


def _is_in_band(row: Any) -> bool:
    return bool(first(row.connection_mode) != "out-of-band")  # empty means in-band


def _row(rows: Mapping[Any, Any], text: str) -> Any:
    try:
        return rows.get(uuid.UUID(text))
    except ValueError:
        return None
