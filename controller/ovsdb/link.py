"""One OVSDB connection in one thread: it runs the replica, tells the feed, and lets the writer write.

Contents and peers are untrusted: whatever goes wrong on a connection ends that connection, never the process, nor the
thread's duty to try again if it is the one that connects.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal, Protocol

import structlog

from controller.ovsdb.bridges import BridgeReader, Identity, identity
from controller.ovsdb.feed import Feed
from controller.ovsdb.replica import Replica
from controller.ovsdb.session import FramedSession
from controller.ovsdb.waiter import Waiter
from controller.ovsdb.writer import Config, Writer

log = structlog.get_logger(__name__)
Direction = Literal["connecting", "listening"]
COALESCE = 0.05  # seconds: a burst of changes is told at most this often; the first of it at once
SYNC_WITHIN = 30.0  # seconds a peer gets to send its contents
PROVE_WITHIN = 3.0  # seconds a connection gets to show that it is alive when a newer one for the same database comes
AGAIN_AFTER = 2.0  # seconds before a connection that broke our reading is tried again


class Ticket:
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


class Registry(Protocol):
    """Who decides which connection speaks for a database."""

    def claim(self, link: Link, this: Identity) -> Feed | str:
        """The feed to speak through; or why this connection is to keep silent."""

    def ended(self, link: Link) -> None:
        """The connection's thread has ended."""


class Link:
    """A connection to one OVSDB. `name` is the remote in the connecting direction, the peer in the listening one."""

    def __init__(
        self, name: str, direction: Direction, session: Callable[[], FramedSession], config: Config, registry: Registry
    ) -> None:
        self.name = name
        self.direction: Direction = direction
        self.feed: Feed | None = None
        self.identity = Identity("", "", "")
        self.silent = ""  # why it keeps silent although it is connected
        self.connected = False
        self.synced = False
        self.since = time.time()
        self.last_error = ""
        self.notes: tuple[str, ...] = ()
        self._new_session = session
        self._config = config
        self._registry = registry
        self._reader = BridgeReader(config.bridges)
        self._waiter = Waiter()
        self._closing = False
        self._lock = threading.Lock()
        self._tickets: list[Ticket] | None = []
        self._asked: dict[str, Ticket] = {}
        self._told = 0.0  # time.monotonic() of the last reading
        self._dirty = False
        self._challenged = False
        self._proof: tuple[Ticket, float] | None = None
        self._speaks = False  # whether the registry let it speak for this database on this connection
        self._thread = threading.Thread(target=self._main, name=f"ovsdb {name}", daemon=True)

    def start(self) -> None:
        """Begin; all else happens in the link's own thread."""
        self._thread.start()

    def wake(self) -> None:
        """Something was left in the feed to be written."""
        self._waiter.wake()

    def ask(self, ticket: Ticket) -> None:
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
                    self._down(f"cannot be read: {type(error).__name__}: {error}"[:500])
                if self.direction == "listening":
                    break
                if not self._closing:
                    self._waiter.timer_wait(AGAIN_AFTER * 1000)
                    self._waiter.block()
        finally:
            self._end()

    def _serve(self, session: FramedSession) -> None:
        """Run the replica until the session has ended for good or we close."""
        self._reader.clear()
        replica = Replica(session, self._reader.forget)
        writer = Writer(self._config, replica, lambda: session.local_address)
        seen = -1
        deadline = time.monotonic() + SYNC_WITHIN
        try:
            while not self._closing and session.is_alive():
                replica.run()
                self.connected = session.is_connected()
                if not replica.synced:
                    self._reader.clear()
                    seen = -1
                    deadline = self._unsynced(session, deadline)
                else:
                    deadline = time.monotonic() + SYNC_WITHIN
                    self._dirty |= seen != replica.change_seqno
                    seen = replica.change_seqno
                    self._turn(session, replica, writer)
                replica.wait(self._waiter)
                self._waiter.block()
            self._down(session.last_error or "closed")
        finally:
            replica.close()

    def _unsynced(self, session: FramedSession, deadline: float) -> float:
        """Tell that the contents aren't there. Returns the time, of time.monotonic(), by which they must be."""
        now = time.monotonic()
        if not self.connected:
            deadline = now + SYNC_WITHIN
            if self.synced or session.last_error:
                self._down(session.last_error or "not connected")
        elif self.synced:
            self._down(session.last_error or "contents are being read again")
        elif now >= deadline:
            self.last_error = f"did not send its contents within {SYNC_WITHIN:.0f} s"
            session.force_reconnect()
            deadline = now + SYNC_WITHIN
        self._fail_tickets(self.last_error or "not connected yet")
        self._waiter.timer_wait(1000)
        return deadline

    def _turn(self, session: FramedSession, replica: Replica, writer: Writer) -> None:
        """One round with the contents there: tell, write, answer."""
        if self._dirty:
            self._claim(replica)
        self._send_questions(session)
        feed = self.feed
        if feed is not None and self._speaks and not self.silent:
            now = time.monotonic()
            # What a question or a write of ours waited for is told before its answer.
            due = session.answered or writer.answered or not self.synced or now - self._told >= COALESCE
            if self._dirty and due:
                feed.update(self, self._reader.read(feed.name, replica.tables), session.peer)
                self._dirty, self._told = False, now
                if not self.synced:
                    self.synced, self.since, self.last_error = True, time.time(), ""
                    log.info("ovsdb synced", ovsdb=feed.name, peer=self.name, bridges=list(feed.bridges()))
            if self._dirty:
                self._waiter.timer_wait((self._told + COALESCE - now) * 1000)
            delay = writer.turn(self, feed)
            self.notes = writer.notes
            self.last_error = writer.error
            if delay is not None:
                self._waiter.timer_wait(delay * 1000)
        while session.answered:
            if (ticket := self._asked.pop(session.answered.pop(0), None)) is not None:
                ticket.answer()
        self._prove(session)

    def _claim(self, replica: Replica) -> None:
        """Find out which database this is and whether this connection speaks for it."""
        this = identity(replica.tables)
        if this is None:
            self._fail_tickets("the database has no Open_vSwitch row")
            return
        same = self._speaks and this.row == self.identity.row
        self.identity = this
        if same:
            return
        answer = self._registry.claim(self, this)
        if isinstance(answer, str):
            if answer != self.silent:
                log.info("ovsdb connection kept silent", peer=self.name, reason=answer)
            self.silent, self._speaks, self.synced = answer, False, False
        else:
            self.feed, self.silent, self._speaks = answer, "", True

    def _send_questions(self, session: FramedSession) -> None:
        with self._lock:
            tickets, self._tickets = self._tickets or [], []
        for ticket in tickets:
            if self.silent:
                ticket.answer()
            else:
                self._asked[session.ask()] = ticket

    def _prove(self, session: FramedSession) -> None:
        """Meet a challenge, if there is one."""
        now = time.monotonic()
        if self._challenged:
            self._challenged = False
            if self._proof is None:
                self._proof = Ticket(), now + PROVE_WITHIN
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
        self.silent = ""
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
