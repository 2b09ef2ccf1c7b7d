"""One connection to an OVSDB, in one thread: it runs the replica, publishes the bridges, and lets the writer write.

The database and the peer are untrusted: an error ends the connection, never the process. What rows mean must not live
here (see `rows`), nor what to write (see `writer`), nor which of two connections to one database serves it (see
`service`).

Theory of operation. `_serve` is a loop: run the replica, act on its state, wait for the socket, a timer or `wake`.
A new connection asks which database this is, which proves the peer, and waits for its turn to read the contents
(`reading`). Until the replica has them, `_wait_for_contents` bounds the time. Then each round of `_run_synced` does
this:

1. `_claim`: when rows changed, find out which database this is. The registry returns the `Database` to publish
   through, or a reason to stay on standby (another connection serves the same database).
2. `_holds_lock`: the OVSDB lock (RFC 7047, section 4.1.8) that every Headgate requests. While another one has it, this
   connection neither publishes nor writes. Replicas of one cluster (`sharing`) all publish; the one that owns the
   switch requests the lock, and writes.
3. `_publish`: read the bridges that changed. The first change is published at once, later ones at most every
   `PUBLISH_INTERVAL`, and after a long reading `PUBLISH_IDLE_FACTOR` times as long is waited.
4. `BridgeWriter.turn`: write settings and marks, at most one transaction at a time.
5. Answer barriers (`barriers`), after the changes before them are published; check a challenge.

Example: an operator adds port p1. The replica's change_seqno grows and `notify` drops the port's row from `RowReader`;
`_publish` reads this one row, and `Database.publish` posts BridgeChanged. The flows are installed, and the reconciler's
WriteMarks ends in `Database.queue_marks` and `wake`; the next round writes `headgate-installed=true`, and the
transaction's reply posts the answer.

If the connection breaks, `_connection_down` tells the database (nothing else changes: the switch keeps its flows) and
fails all barriers. A connecting thread tries again, through FramedSession's own backoff; a listening one ends.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Literal, Protocol

import structlog

from controller.base.threads import PromptThread
from controller.ovsdb.barriers import BarrierRequest, Barriers
from controller.ovsdb.contents_size import ContentsBounds, ContentsSize
from controller.ovsdb.controller_planner import BridgeConfig
from controller.ovsdb.database import Database
from controller.ovsdb.poller import WakeablePoller
from controller.ovsdb.reading_turns import ReadingTurns, Turn
from controller.ovsdb.replica import Replica
from controller.ovsdb.rows import DatabaseIdentity, RowReader, database_identity
from controller.ovsdb.session import FramedSession
from controller.ovsdb.writer import BridgeWriter
from controller.peers.backoff import Backoff

log = structlog.get_logger(__name__)
ConnectionDirection = Literal["connecting", "listening"]
PUBLISH_INTERVAL = 0.05  # seconds between two publications; the first change is published at once
PUBLISH_IDLE_FACTOR = (
    10  # a reading is followed by ten times as long without one, so at most a tenth of the time is used
)
MAX_PUBLISH_INTERVAL = 2.0  # seconds between two readings, at most
CHALLENGE_SECONDS = 3.0  # to answer an echo when a newer connection reports the same database
STEAL_SECONDS = 1.0  # that a replica waits for the lock of a switch of its own before it takes it
STATUS_QUERY_INTERVAL = 2.0  # seconds between two queries of Controller.status, while a switch does not connect


class ConnectionRegistry(Protocol):
    """Decides which connection serves a database. All methods are called in the connection's thread."""

    def claim(self, connection: DatabaseConnection, this: DatabaseIdentity) -> Database | str:
        """The database to publish through, or the reason to stay on standby."""

    def mark_proven(self, connection: DatabaseConnection) -> None:
        """The connection has a database, whether it serves it or not."""

    def ended(self, connection: DatabaseConnection) -> None:
        """The connection's thread has ended."""


class DatabaseConnection:
    """A connection to one OVSDB. `name` is the remote (connecting) or the peer's address (listening)."""

    def __init__(
        self,
        name: str,
        direction: ConnectionDirection,
        session: Callable[[], FramedSession],
        config: BridgeConfig,
        registry: ConnectionRegistry,
        bounds: ContentsBounds,
        turns: ReadingTurns | None = None,
    ) -> None:
        """`turns` are shared with the connections that are read in turn with this one."""
        self.name = name
        self.direction: ConnectionDirection = direction
        self.database: Database | None = None
        self.identity = DatabaseIdentity("", "", "")
        self.standby = ""  # why it does not serve its database although it is connected
        self.rival = ""  # another Headgate that serves the database, while there is one
        self.connected = False
        self.synced = False
        self.since = time.time()
        self.last_error = ""
        self.fault = ""  # the peer's breach of the protocol, or of a limit
        self.notes: tuple[str, ...] = ()
        self.away: Mapping[str, str] = {}  # as `BridgeWriter.away`
        self._new_session = session
        self._config = config
        self._registry = registry
        self._limits = bounds.limits
        self._contents = ContentsSize(bounds.limits, bounds.contents)
        self._backoff: Backoff[str] = Backoff(bounds.limits.retry, bounds.limits.max_retry, bounds.limits.max_retry)
        self._reader = RowReader(config.bridges)
        self._poller = WakeablePoller()
        self._turn = Turn(turns or ReadingTurns(), self._poller.wake)
        self._closing = False
        self._barriers = Barriers()
        self._published_at = 0.0  # time.monotonic()
        self._publish_interval = PUBLISH_INTERVAL
        self._changed = False  # rows have changed since the last publication
        self._challenged = False
        self._challenge: tuple[BarrierRequest, float] | None = None  # the echo, and its deadline
        self._status_queried_at = 0.0
        self._lock_name = "headgate_" + re.sub(r"[^A-Za-z0-9]", "_", "_".join(sorted(config.bridges)))
        self._stale_lock_at: float | None = None  # since when another replica has the lock of a switch that is ours
        self._holding = False  # whether it had the lock in the last round, among replicas
        self._serves = False  # whether the registry lets this connection serve its database
        self._thread = PromptThread(self._main, f"ovsdb {name}")

    def start(self) -> None:
        """Start the connection's thread, which does everything else."""
        self._thread.start()

    def wake(self) -> None:
        """The database has marks to write."""
        self._poller.wake()

    def barrier(self, request: BarrierRequest) -> None:
        """Answer the request when every change committed before this call has been published."""
        if self._barriers.add(request):
            self._poller.wake()

    def challenge(self) -> None:
        """Send an echo that the peer must answer, or the connection ends. A newer connection waits for its place."""
        self._challenged = True
        self._poller.wake()

    def discard(self) -> None:
        """Free a connection that was not started; its socket belongs to the caller."""
        self._poller.close()

    def evict(self, reason: str) -> None:
        """End the connection soon, because a newer one takes its place."""
        self.fault = reason
        self.last_error = reason
        log.warning("ended an OVSDB connection", peer=self.name, reason=reason)
        self.close()

    def close(self) -> None:
        """End the connection soon; `join` waits for it."""
        self._closing = True
        self._poller.wake()

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
                    self._connection_down(self.fault)
                if self.direction == "listening":
                    break
                if not self._closing:
                    self._poller.timer_wait(1000 * self._backoff.failed(self.name, time.monotonic()))
                    self._poller.block()
        finally:
            self._end()

    def _serve(self, session: FramedSession) -> None:
        """Run the replica until the session has ended for good, or until `close`."""
        self._turn.begin()
        try:
            while self._is_open(session) and not self._has_turn(session):
                self._wait_for_turn(session)
            if self._is_open(session):
                self._run_replica(session)
            self.fault = self.fault or session.fault
            self._connection_down(session.last_error or "closed")
        finally:
            self._turn.end()
            session.close()

    def _is_open(self, session: FramedSession) -> bool:
        return bool(not self._closing and session.is_alive())

    def _run_replica(self, session: FramedSession) -> None:
        self._reader.clear()
        replica = Replica(session, self._reader.forget, self._contents)
        writer = BridgeWriter(self._config, replica, lambda: session.local_address)
        seen = -1
        deadline = time.monotonic() + self._limits.sync
        try:
            while self._is_open(session):
                if not self._has_turn(session):  # a connecting session has another connection
                    self._wait_for_turn(session)
                    deadline = time.monotonic() + self._limits.sync
                    continue
                replica.run()
                self.connected = session.is_connected()
                if not replica.synced:
                    self._reader.clear()
                    self._contents.clear()
                    seen = -1
                    deadline = self._wait_for_contents(session, deadline)
                else:
                    deadline = time.monotonic() + self._limits.sync
                    self._changed |= seen != replica.change_seqno
                    seen = replica.change_seqno
                    self._run_synced(session, replica, writer)
                    self._turn.end()
                replica.wait(self._poller)
                self._poller.block()
        finally:
            replica.close()
            self._contents.clear()

    def _has_turn(self, session: FramedSession) -> bool:
        """Whether the contents may be asked for, or have been: it is this connection's turn."""
        if not session.is_connected():
            self._turn.begin()
            return True
        return self._turn.take()

    def _wait_for_turn(self, session: FramedSession) -> None:
        """Answer echoes, and ask which database this is: a peer that says so is proven before it is read."""
        self.connected = True
        self._barriers.fail("not read yet")
        if self._turn.ask_who():
            session.select("Open_vSwitch", ["_uuid"])
        session.run()
        session.recv()
        if session.rows:
            self._registry.mark_proven(self)
        session.rows = None
        session.wait(self._poller)
        session.recv_wait(self._poller)
        self._poller.block()

    def _wait_for_contents(self, session: FramedSession, deadline: float) -> float:
        """The replica is not synced. Returns the time, of time.monotonic(), by which it must be."""
        now = time.monotonic()
        self._turn.note(session.received_bytes, now)
        if not self.connected:
            deadline = now + self._limits.sync
            if self.synced or session.last_error:
                self._connection_down(session.last_error or "not connected")
        elif self.synced:
            self._connection_down(session.last_error or "contents are being read again")
        elif now >= deadline:
            self.fault = self.last_error = f"did not send its contents within {self._limits.sync:g} s"
            session.give_up(self.last_error)
            deadline = now + self._limits.sync
        self._barriers.fail(self.last_error or "not connected yet")
        self._poller.timer_wait(1000)
        return deadline

    def _run_synced(self, session: FramedSession, replica: Replica, writer: BridgeWriter) -> None:
        """One round with the contents there: claim, publish, write, answer."""
        if self._changed:
            self._claim(replica)
        database = self.database
        shared = self._config.sharing.shared
        holds_lock = self._holds_shared_lock(replica, writer) if shared else self._holds_lock(replica, writer)
        self._barriers.send_new(session, bool(self.standby), self.rival)
        if database is not None and self._serves and not self.standby and (holds_lock or shared):
            now = time.monotonic()
            self._publish(session, replica, writer, database, now)
            delay = writer.turn(self, database) if holds_lock else None
            self._query_controller_status(session, writer, now)
            self.notes, self.away = writer.notes, writer.away
            self.last_error = writer.error
            if delay is not None:
                self._poller.timer_wait(delay * 1000)
        if session.rows is not None:
            writer.status_received(session.rows)
            session.rows = None
        self._barriers.answer_replies(session)
        self._check_challenge(session)

    def _publish(
        self, session: FramedSession, replica: Replica, writer: BridgeWriter, database: Database, now: float
    ) -> None:
        """Publish the bridges if rows changed and it is time; otherwise make sure of waking up then."""
        # A change that a barrier or a transaction waits for is published before its answer.
        due = (
            session.echo_replies
            or writer.is_write_done
            or not self.synced
            or now - self._published_at >= self._publish_interval
        )
        if self._changed and due:
            database.publish(self, self._reader.read(database.name, replica.tables), session.peer)
            self._changed, self._published_at = False, time.monotonic()
            used = self._published_at - now
            self._publish_interval = min(max(PUBLISH_INTERVAL, PUBLISH_IDLE_FACTOR * used), MAX_PUBLISH_INTERVAL)
            if not self.synced:
                self.synced, self.since, self.last_error = True, time.time(), ""
                log.info("ovsdb synced", ovsdb=database.name, peer=self.name, bridges=list(database.bridges()))
        if self._changed:
            self._poller.timer_wait((self._published_at + self._publish_interval - now) * 1000)

    def _claim(self, replica: Replica) -> None:
        """Find out which database this is, and whether this connection serves it."""
        this = database_identity(replica.tables)
        if this is None:
            self._barriers.fail("the database has no Open_vSwitch row")
            return
        same = self._serves and this.row == self.identity.row
        self.identity = this
        if same:
            return
        self._registry.mark_proven(self)
        answer = self._registry.claim(self, this)
        if isinstance(answer, str):
            if answer != self.standby:
                log.info("ovsdb connection on standby", peer=self.name, reason=answer)
            self.standby, self._serves, self.synced = answer, False, False
        else:
            self.database, self.standby, self._serves = answer, "", True

    def _holds_lock(self, replica: Replica, writer: BridgeWriter) -> bool:
        """Whether this connection has the lock that every Headgate requests of the OVSDB server.

        A connection on standby requests none, or it would take the lock from the one that serves.
        """
        wanted = self._lock_name if self._serves and not self.standby else None
        replica.want_lock(wanted)
        if wanted is None or replica.has_lock:
            if self.rival:
                log.info("the other Headgate has released the OVSDB", peer=self.name)
                self.rival, self._changed = "", True
            return True
        if replica.is_lock_contended:
            rival = writer.rival()
            if rival != self.rival:
                self.rival = rival
                log.warning("another Headgate serves this OVSDB", peer=self.name, reason=rival)
            if self.synced:
                self.synced, self.since = False, time.time()
            if self.database is not None:
                self.database.connection_lost(self, rival)
            self._barriers.fail(rival)
        return False

    def _holds_shared_lock(self, replica: Replica, writer: BridgeWriter) -> bool:
        """Whether this connection may write, and has the lock: the switch is this replica's, not another one's.

        The lock of a replica that was stopped is taken from it once the switch has said who is its primary now.
        """
        name = self.database.name if self.database is not None else ""
        wanted = self._serves and not self.standby and self._config.sharing.may_write(name)
        replica.want_lock(self._lock_name if wanted else None)
        self.rival = ""
        holding, now = wanted and replica.has_lock, time.monotonic()
        if holding != self._holding:
            self._holding, self._changed = holding, True
            if not holding:
                writer.stop()
            elif self.database is not None:
                self.database.writer_changed()
        if not (wanted and replica.is_lock_contended and self._config.sharing.may_steal(name)):
            self._stale_lock_at = None
        elif self._stale_lock_at is None:
            self._stale_lock_at = now
        elif now - self._stale_lock_at >= STEAL_SECONDS:
            log.warning("taking the OVSDB's lock: its owner does not serve this switch any more", peer=self.name)
            replica.steal_lock()
            self._stale_lock_at = None
        if self._stale_lock_at is not None:
            self._poller.timer_wait(1000 * STEAL_SECONDS)
        return holding

    def _query_controller_status(self, session: FramedSession, writer: BridgeWriter, now: float) -> None:
        """While a switch does not connect, query Controller.status now and then. The column is not monitored, because
        it changes every few seconds on every node.
        """
        if writer.session_missing and now - self._status_queried_at >= STATUS_QUERY_INTERVAL:
            self._status_queried_at = now
            session.select("Controller", ["_uuid", "target", "is_connected", "status"])
        if writer.session_missing:
            self._poller.timer_wait(1000 * STATUS_QUERY_INTERVAL)

    def _check_challenge(self, session: FramedSession) -> None:
        """Send a challenge's echo; end the connection if it is not answered in time."""
        now = time.monotonic()
        if self._challenged:
            self._challenged = False
            if self._challenge is None:
                self._challenge = BarrierRequest(), now + CHALLENGE_SECONDS
                self._barriers.send(session, self._challenge[0])
        if self._challenge is not None:
            echo, deadline = self._challenge
            if echo.wait(0):
                self._challenge = None
            elif now < deadline:
                self._poller.timer_wait((deadline - now) * 1000)
            else:
                self.close()

    def _connection_down(self, reason: str) -> None:
        if not self._closing and (self.synced or reason != self.last_error):
            log.warning("ovsdb away", peer=self.name, reason=reason)
        if self.synced:
            self.since = time.time()
        self.connected = self.synced = self._serves = self._holding = False
        self.standby = self.rival = ""
        self.last_error = reason
        if self.database is not None:
            self.database.connection_lost(self, reason)
        self._barriers.fail(reason)

    def _end(self) -> None:
        self.connected = self.synced = False
        self._barriers.close()
        self._poller.close()
        self._registry.ended(self)
