"""One OVSDB connection in one thread: it runs the replica, publishes the bridges, and lets the writer write.

The database and the peer are untrusted: an error ends the connection, never the process. A connecting thread tries
again; a listening one ends.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, Protocol

import structlog

from controller.ovsdb.contents_size import ContentsSize
from controller.ovsdb.database import Database
from controller.ovsdb.poller import WakeablePoller
from controller.ovsdb.replica import Replica
from controller.ovsdb.rows import DatabaseIdentity, RowReader, database_identity
from controller.ovsdb.session import FramedSession
from controller.ovsdb.writer import BridgeConfig, BridgeWriter
from controller.peers.backoff import Backoff
from controller.peers.limits import OvsdbLimits
from controller.peers.memory_budget import MemoryBudget

log = structlog.get_logger(__name__)
ConnectionDirection = Literal["connecting", "listening"]
PUBLISH_INTERVAL = 0.05  # seconds: a burst of changes is told at most this often; the first of it at once
CHALLENGE_SECONDS = (
    3.0  # seconds a connection gets to show that it is alive when a newer one for the same database comes
)
STATUS_QUERY_INTERVAL = 2.0  # seconds between two questions about the Controllers of a switch that does not call
PUBLISH_IDLE_FACTOR = (
    10  # a reading is followed by ten times as long without one: a database that always changes is no burden
)
MAX_PUBLISH_INTERVAL = 2.0  # seconds without a reading, at most


class BarrierRequest:
    """A question whether everything up to now has been told. `reason` says why it could not be."""

    def __init__(self) -> None:
        self.reason = ""
        self._done = threading.Event()

    def answer(self, reason: str = "") -> None:
        """The answer; empty means that all has been told."""
        self.reason = reason
        self._done.set()

    def wait(self, seconds: float) -> bool:
        """Whether the answer came within `seconds`."""
        return self._done.wait(seconds)


class ConnectionRegistry(Protocol):
    """Who decides which connection speaks for a database."""

    def claim(self, link: DatabaseConnection, this: DatabaseIdentity) -> Database | str:
        """The feed to speak through; or why this connection is to keep silent."""

    def proved(self, link: DatabaseConnection) -> None:
        """The connection has shown a database, whether it speaks for it or not."""

    def ended(self, link: DatabaseConnection) -> None:
        """The connection's thread has ended."""


class ContentsBounds(NamedTuple):
    """What bounds a database: the limits, and the room that the contents of all have together."""

    limits: OvsdbLimits
    contents: MemoryBudget


class DatabaseConnection:
    """A connection to one OVSDB. `name` is the remote in the connecting direction, the peer in the listening one."""

    def __init__(
        self,
        name: str,
        direction: ConnectionDirection,
        session: Callable[[], FramedSession],
        config: BridgeConfig,
        registry: ConnectionRegistry,
        room: ContentsBounds,
    ) -> None:
        self.name = name
        self.direction: ConnectionDirection = direction
        self.feed: Database | None = None
        self.identity = DatabaseIdentity("", "", "")
        self.silent = ""  # why it keeps silent although it is connected
        self.rival = ""  # another Headgate that writes our bridges, while there is one
        self.connected = False
        self.synced = False
        self.since = time.time()
        self.last_error = ""
        self.fault = ""  # what the peer has done that no database does
        self.notes: tuple[str, ...] = ()
        self.away: Mapping[str, str] = {}  # as `BridgeWriter.away`
        self._new_session = session
        self._config = config
        self._registry = registry
        self._limits = room.limits
        self._contents = ContentsSize(room.limits, room.contents)
        self._backoff: Backoff[str] = Backoff(room.limits.retry, room.limits.max_retry, room.limits.max_retry)
        self._reader = RowReader(config.bridges)
        self._waiter = WakeablePoller()
        self._closing = False
        self._lock = threading.Lock()
        self._tickets: list[BarrierRequest] | None = []
        self._asked: dict[str, BarrierRequest] = {}
        self._told = 0.0  # time.monotonic() of the last reading
        self._telling = PUBLISH_INTERVAL  # seconds between two readings
        self._dirty = False
        self._challenged = False
        self._asked_why = 0.0
        self._lock_name = "headgate_" + re.sub(r"[^A-Za-z0-9]", "_", "_".join(sorted(config.bridges)))
        self._proof: tuple[BarrierRequest, float] | None = None
        self._speaks = False  # whether the registry let it speak for this database on this connection
        self._thread = threading.Thread(target=self._main, name=f"ovsdb {name}", daemon=True)

    def start(self) -> None:
        """Begin; all else happens in the link's own thread."""
        self._thread.start()

    def wake(self) -> None:
        """Something was left in the feed to be written."""
        self._waiter.wake()

    def ask(self, ticket: BarrierRequest) -> None:
        """Answer the ticket when every change committed before this call has been told."""
        with self._lock:
            if self._tickets is not None:
                self._tickets.append(ticket)
                self._waiter.wake()
                return
        ticket.answer("connection ended")

    def challenge(self) -> None:
        """Show that the peer still answers, or end: a newer connection waits for this one's place."""
        self._challenged = True
        self._waiter.wake()

    def discard(self) -> None:
        """Free what an unstarted link has; its socket is the caller's."""
        self._waiter.close()

    def evict(self, reason: str) -> None:
        """End the connection soon, for it has to make room."""
        self.fault = reason
        self.last_error = reason
        log.warning("ended an OVSDB connection", peer=self.name, reason=reason)
        self.close()

    def close(self) -> None:
        """End the connection soon; `join` waits for it."""
        self._closing = True
        self._waiter.wake()

    def join(self, seconds: float) -> None:
        """Wait up to `seconds` for the thread to end."""
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def _main(self) -> None:
        try:
            while not self._closing:
                try:
                    self._serve(self._new_session())
                except Exception as error:  # noqa: BLE001  # a peer's contents must not end the thread
                    self.fault = f"cannot be read: {type(error).__name__}: {error}"[:500]
                    self._down(self.fault)
                if self.direction == "listening":
                    break
                if not self._closing:
                    self._waiter.timer_wait(1000 * self._backoff.failed(self.name, time.monotonic()))
                    self._waiter.block()
        finally:
            self._end()

    def _serve(self, session: FramedSession) -> None:
        """Run the replica until the session has ended for good or we close."""
        self._reader.clear()
        replica = Replica(session, self._reader.forget, self._contents)
        writer = BridgeWriter(self._config, replica, lambda: session.local_address)
        seen = -1
        deadline = time.monotonic() + self._limits.sync
        try:
            while not self._closing and session.is_alive():
                replica.run()
                self.connected = session.is_connected()
                if not replica.synced:
                    self._reader.clear()
                    self._contents.clear()
                    seen = -1
                    deadline = self._unsynced(session, deadline)
                else:
                    deadline = time.monotonic() + self._limits.sync
                    self._dirty |= seen != replica.change_seqno
                    seen = replica.change_seqno
                    self._turn(session, replica, writer)
                replica.wait(self._waiter)
                self._waiter.block()
            self.fault = self.fault or session.fault
            self._down(session.last_error or "closed")
        finally:
            replica.close()
            self._contents.clear()

    def _unsynced(self, session: FramedSession, deadline: float) -> float:
        """Tell that the contents aren't there. Returns the time, of time.monotonic(), by which they must be."""
        now = time.monotonic()
        if not self.connected:
            deadline = now + self._limits.sync
            if self.synced or session.last_error:
                self._down(session.last_error or "not connected")
        elif self.synced:
            self._down(session.last_error or "contents are being read again")
        elif now >= deadline:
            self.fault = self.last_error = f"did not send its contents within {self._limits.sync:g} s"
            session.give_up(self.last_error)
            deadline = now + self._limits.sync
        self._fail_tickets(self.last_error or "not connected yet")
        self._waiter.timer_wait(1000)
        return deadline

    def _turn(self, session: FramedSession, replica: Replica, writer: BridgeWriter) -> None:
        """One round with the contents there: tell, write, answer."""
        if self._dirty:
            self._claim(replica)
        feed = self.feed
        alone = self._alone(replica, writer)
        self._send_questions(session)
        if feed is not None and self._speaks and not self.silent and alone:
            now = time.monotonic()
            # What a question or a write of ours waited for is told before its answer.
            due = session.answered or writer.answered or not self.synced or now - self._told >= self._telling
            if self._dirty and due:
                feed.update(self, self._reader.read(feed.name, replica.tables), session.peer)
                self._dirty, self._told = False, time.monotonic()
                self._telling = min(
                    max(PUBLISH_INTERVAL, PUBLISH_IDLE_FACTOR * (self._told - now)), MAX_PUBLISH_INTERVAL
                )
                if not self.synced:
                    self.synced, self.since, self.last_error = True, time.time(), ""
                    log.info("ovsdb synced", ovsdb=feed.name, peer=self.name, bridges=list(feed.bridges()))
            if self._dirty:
                self._waiter.timer_wait((self._told + self._telling - now) * 1000)
            delay = writer.turn(self, feed)
            self._ask_why(session, writer, now)
            self.notes, self.away = writer.notes, writer.away
            self.last_error = writer.error
            if delay is not None:
                self._waiter.timer_wait(delay * 1000)
        if session.rows is not None:
            writer.told(session.rows)
            session.rows = None
        while session.answered:
            if (ticket := self._asked.pop(session.answered.pop(0), None)) is not None:
                ticket.answer()
        self._prove(session)

    def _claim(self, replica: Replica) -> None:
        """Find out which database this is and whether this connection speaks for it."""
        this = database_identity(replica.tables)
        if this is None:
            self._fail_tickets("the database has no Open_vSwitch row")
            return
        same = self._speaks and this.row == self.identity.row
        self.identity = this
        if same:
            return
        self._registry.proved(self)
        answer = self._registry.claim(self, this)
        if isinstance(answer, str):
            if answer != self.silent:
                log.info("ovsdb connection kept silent", peer=self.name, reason=answer)
            self.silent, self._speaks, self.synced = answer, False, False
        else:
            self.feed, self.silent, self._speaks = answer, "", True

    def _alone(self, replica: Replica, writer: BridgeWriter) -> bool:
        """Whether no other Headgate serves this database: the lock that each asks its server for is ours.

        A connection that keeps silent wants none, for it would keep it from the one that speaks.
        """
        wanted = self._lock_name if self._speaks and not self.silent else None
        if replica.lock_name != wanted:
            replica.set_lock(wanted)
        if wanted is None or replica.has_lock:
            if self.rival:
                log.info("the other Headgate has gone", peer=self.name)
                self.rival, self._dirty = "", True
            return True
        if replica.is_lock_contended:
            rival = writer.rival()
            if rival != self.rival:
                self.rival = rival
                log.warning("keeping away from an OVSDB", peer=self.name, reason=rival)
            if self.synced:
                self.synced, self.since = False, time.time()
            if self.feed is not None:
                self.feed.lost(self, rival)
            self._fail_tickets(rival)
        return False

    def _ask_why(self, session: FramedSession, writer: BridgeWriter, now: float) -> None:
        """Now and then, while a switch does not call: what OVSDB knows of its attempts. That is not monitored, for it
        changes every few seconds on every node.
        """
        if writer.missing and now - self._asked_why >= STATUS_QUERY_INTERVAL:
            self._asked_why = now
            session.select("Controller", ["_uuid", "target", "is_connected", "status"])
        if writer.missing:
            self._waiter.timer_wait(1000 * STATUS_QUERY_INTERVAL)

    def _send_questions(self, session: FramedSession) -> None:
        with self._lock:
            tickets, self._tickets = self._tickets or [], []
        for ticket in tickets:
            if self.rival:
                ticket.answer(self.rival)
            elif self.silent:
                ticket.answer()
            else:
                self._asked[session.ask()] = ticket

    def _prove(self, session: FramedSession) -> None:
        """Meet a challenge, if there is one."""
        now = time.monotonic()
        if self._challenged:
            self._challenged = False
            if self._proof is None:
                self._proof = BarrierRequest(), now + CHALLENGE_SECONDS
                self._asked[session.ask()] = self._proof[0]
        if self._proof is not None:
            ticket, deadline = self._proof
            if ticket.wait(0):
                self._proof = None
            elif now < deadline:
                self._waiter.timer_wait((deadline - now) * 1000)
            else:
                self.close()

    def _fail_tickets(self, reason: str) -> None:
        with self._lock:
            tickets, self._tickets = self._tickets or [], []
        for ticket in [*tickets, *self._asked.values()]:
            ticket.answer(reason)
        self._asked.clear()

    def _down(self, reason: str) -> None:
        if not self._closing and (self.synced or reason != self.last_error):
            log.warning("ovsdb away", peer=self.name, reason=reason)
        if self.synced:
            self.since = time.time()
        self.connected = self.synced = self._speaks = False
        self.silent = self.rival = ""
        self.last_error = reason
        if self.feed is not None:
            self.feed.lost(self, reason)
        self._fail_tickets(reason)

    def _end(self) -> None:
        self.connected = self.synced = False
        self._fail_tickets("closed")
        with self._lock:
            self._tickets = None
        self._waiter.close()
        self._registry.ended(self)
