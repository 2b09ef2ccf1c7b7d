"""All OVSDB connections of the process: the one object that the rest of Headgate talks to.

The same database may be reached twice, by a configured remote and by its own manager. It is recognised by the uuid of
its Open_vSwitch row and spoken for once: a configured remote wins over a manager's connection (even while it is away,
and of two configured ones the first). Of two managers' connections the older stays as long as its peer answers; if it
doesn't, as after a switch's power cut, the newer takes its place under the same name.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from controller.base.threads import watched
from controller.config.addresses import OVSDB_EXAMPLE, is_tls, parse_listen
from controller.ovsdb import bridge_settings
from controller.ovsdb.connection import BarrierRequest, ConnectionDirection, ContentsBounds, DatabaseConnection
from controller.ovsdb.database import Database
from controller.ovsdb.listener import OvsdbListener
from controller.ovsdb.rows import DatabaseIdentity
from controller.ovsdb.session import FramedSession, MessageBounds
from controller.ovsdb.targets import absolute_remote
from controller.ovsdb.writer import BridgeConfig
from controller.peers.connection_limiter import AcceptedConnection, ConnectionLimiter, TooManyConnections
from controller.peers.limits import ConnectionLimits, OvsdbLimits
from controller.peers.memory_budget import MemoryBudget
from controller.reconcile.events import Event
from controller.status import away_reasons
from controller.tls.credentials import Credentials

log = structlog.get_logger(__name__)
CLOSE_SECONDS = 0.9  # seconds


@dataclass(frozen=True, slots=True)
class OvsdbBounds:
    """What peers may cost, and whom to tell of each that is refused, by the kind of refusal."""

    limits: OvsdbLimits = field(default_factory=OvsdbLimits)
    connections: ConnectionLimits = field(default_factory=ConnectionLimits)
    refused: Callable[[str], None] = lambda kind: None


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """One connection, for status. `since` is Unix time of the last change of `synced`; `silent` says why it is mute.

    `name` is the `ovsdb` of events; a connection whose database is not known yet goes by its peer.
    """

    name: str
    remote: str
    direction: ConnectionDirection
    connected: bool
    synced: bool
    since: float
    last_error: str = ""
    system_id: str = ""
    hostname: str = ""
    silent: str = ""
    bridges: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Ovsdb:
    """Connects to `remotes`, listens at `listen`, owns the bridges named `bridges`; posts events, writes what is ours.

    A remote's text, as given, is its `ovsdb` in events; a switch that comes by itself is `manager:` with its system-id.
    `tables` names flow tables by id; `openflow` is where switches reach us, as the listener has it bound (host, port),
    `openflow_tls` that it speaks TLS, and `connected` tells, in any thread, the number of a datapath id's OpenFlow
    session. `tls` is for addresses that begin with ssl. Raises ValueError for remotes, addresses or names that cannot
    be, and OSError if it cannot listen. A connection's BridgeChanged events come before its OvsdbState(synced); a
    configured remote whose database comes by another name counts as synced, with the reason.
    """

    def __init__(
        self,
        remotes: Sequence[str],
        *,
        post: Callable[[Event], None],
        listen: str | None = None,
        bridges: Collection[str] = ("br-int",),
        tables: Mapping[int, str] | None = None,
        openflow: tuple[str, int] | None = None,
        connected: Callable[[int], int] = lambda dpid: 0,
        grace: float = bridge_settings.CONTROLLER_GRACE,
        tls: Credentials | None = None,
        openflow_tls: bool = False,
        bounds: OvsdbBounds | None = None,
    ) -> None:
        bridge_settings.check_table_names(tables or {})
        for address in (*remotes, *([listen] if listen else [])):
            if is_tls(address) and tls is None:
                raise ValueError(f"{address} needs a private key, a certificate and a CA certificate")
        method = "ssl" if openflow_tls else "tcp"
        self._config = BridgeConfig(frozenset(bridges), dict(tables or {}), openflow, connected, grace, method)
        self._post = post
        self._lock = threading.RLock()
        self._closed = False
        self._bounds = bounds = bounds or OvsdbBounds()
        limits = bounds.limits
        self._limiter = ConnectionLimiter(bounds.connections)
        self._counted: dict[DatabaseConnection, AcceptedConnection] = {}
        self._share = MessageBounds(limits, MemoryBudget(limits.message_share, limits.messages_pot))
        self._room = ContentsBounds(limits, MemoryBudget(limits.contents_share, limits.contents_pot))
        self._feeds = {remote: Database(remote, post) for remote in remotes}
        self._links: dict[DatabaseConnection, None] = {}  # in the order in which they came
        for name, feed in self._feeds.items():
            session = partial(FramedSession.connecting, absolute_remote(name), self._share, tls)
            link = DatabaseConnection(name, "connecting", session, self._config, self, self._room)
            link.feed = feed
            feed.take(link, "")
            self._links[link] = None
        self._listener: OvsdbListener | None = None
        self._accept_tls = tls if listen and is_tls(listen) else None
        if listen:
            self._listener = OvsdbListener(
                parse_listen(listen, OVSDB_EXAMPLE), self._accepted, "ssl" if self._accept_tls else "tcp"
            )
            self._accepting = watched("ovsdb listener", self._listener.run)

    @property
    def listen_address(self) -> tuple[str, int] | None:
        """Where managers' connections are accepted, with the port that was given for 0."""
        return self._listener.address if self._listener else None

    def start(self) -> None:
        """Begin connecting and listening; returns at once."""
        with self._lock:
            for link in self._links:
                link.start()
        if self._listener:
            self._accepting.start()

    def set_installed(self, ovsdb: str, interfaces: Mapping[str, bool]) -> None:
        """Set (True) or remove (False) `headgate-installed=true` on Interfaces, by row uuid.

        Answered with InstalledWritten once committed, in one or several parts; kept over a reconnect until then. An
        Interface that is gone is not answered, nor is an `ovsdb` that is not known.
        """
        with self._lock:
            feed = self._feeds.get(ovsdb)
        if feed is None:
            log.debug("flags for an unknown ovsdb", ovsdb=ovsdb)
            return
        feed.want(interfaces)
        if isinstance(link := feed.owner, DatabaseConnection):
            link.wake()

    def forget(self, ovsdb: str) -> None:
        """Expect a manager's connection no more that has ended, by its name in events; one that is there stays."""
        with self._lock:
            feed = self._feeds.get(ovsdb)
            owner = feed.owner if feed is not None else None
            # A connection that is down is one for a moment longer, until its thread has ended.
            stays = (
                isinstance(owner, DatabaseConnection)
                and owner in self._links
                and (owner.connected or owner.direction == "connecting")
            )
            if feed is None or feed.synced or stays:
                return
            del self._feeds[ovsdb]

    def barrier(self, timeout: float) -> list[str]:
        """Return when every change committed before this call has been posted, on every connection.

        What could not be asked within `timeout` seconds is named, with the reason: empty means that all has been told.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            feeds = list(self._feeds.values())
        missing, tickets = [], []
        for feed in feeds:
            link = feed.owner
            if isinstance(link, DatabaseConnection) and link.silent:
                continue  # another connection speaks for the same database
            if not isinstance(link, DatabaseConnection) or not feed.synced:
                missing.append(f"{feed.name}: {feed.reason or 'not read yet'}")
                continue
            ticket = BarrierRequest()
            link.ask(ticket)
            tickets.append((feed.name, ticket))
        for name, ticket in tickets:
            if not ticket.wait(max(0.0, deadline - time.monotonic())):
                missing.append(f"{name}: no answer within {timeout:g} s")
            elif ticket.reason:
                missing.append(f"{name}: {ticket.reason}")
        return missing

    def rivals(self) -> list[str]:
        """The OVSDBs that another Headgate serves, a line each."""
        with self._lock:
            return [
                f"OVSDB {link.feed.name if link.feed else link.name}: {link.rival}"
                for link in self._links
                if link.rival
            ]

    def away(self) -> dict[tuple[str, str], str]:
        """Why switches have no OpenFlow session with us, a word of `status.away_reasons` each, by OVSDB and bridge.

        Bridges of which nothing is known are left out.
        """
        with self._lock:
            links = [(link, link.feed) for link in self._links if link.feed is not None and not link.silent]
        found: dict[tuple[str, str], str] = {}
        for link, feed in links:
            if link.rival:
                found.update(((feed.name, bridge), away_reasons.RIVAL) for bridge in feed.bridges())
            elif link.synced:
                found.update(((feed.name, bridge), word) for bridge, word in link.away.items())
        return found

    def status(self) -> list[ConnectionStatus]:
        """Every connection and every database whose connection is away, as of now."""
        with self._lock:
            links, feeds = list(self._links), list(self._feeds.values())
        found = [_describe(link) for link in links]
        spoken = {connection.name for connection in found}
        found.extend(
            ConnectionStatus(feed.name, "", "listening", False, False, feed.since, feed.reason, bridges=feed.bridges())
            for feed in feeds
            if feed.name not in spoken
        )
        return found

    def close(self) -> None:
        """End all connections and stop listening, within a second. What the switches have stays as it is."""
        with self._lock:
            self._closed = True
            links = list(self._links)
        deadline = time.monotonic() + CLOSE_SECONDS
        if self._listener:
            self._accepting.release()
            self._listener.close()
        for link in links:
            link.close()
        for link in links:
            link.join(max(0.0, deadline - time.monotonic()))
        if self._listener:
            self._accepting.join(max(0.0, deadline - time.monotonic()))

    def claim(self, link: DatabaseConnection, this: DatabaseIdentity) -> Database | str:
        """Called by a link that knows its database: the feed it speaks through, or why it keeps silent."""
        with self._lock:
            others = [other for other in self._links if other is not link and other.feed is not None]
            rivals = [other for other in others if other.feed is not None and other.feed.row == this.row]
            for other in rivals:
                if other.direction == "connecting":
                    reason = f"the same database as {other.name}"
                    if link.feed is not None:
                        link.feed.retire(reason)
                    return reason
            if link.direction == "connecting":
                feed = self._feeds[link.name]
                for other in rivals:
                    self._silence(other, f"the same database as {link.name}")
            elif rivals:
                rivals[0].challenge()
                return f"the same database as the older connection {rivals[0].name}"
            else:
                feed = self._manager_feed(this)
                if link.feed is not None and link.feed is not feed:
                    link.feed.lost(link, "another database is there now")
            feed.take(link, this.row)
            return feed

    def proved(self, link: DatabaseConnection) -> None:
        """Called by a link that has read a database."""
        accepted = self._counted.get(link)
        if accepted is not None:
            self._limiter.mark_proven(accepted)

    def ended(self, link: DatabaseConnection) -> None:
        """Called by a link whose thread has ended: one that kept silent for its sake may take its place."""
        with self._lock:
            accepted = self._counted.pop(link, None)
            if accepted is not None:
                self._limiter.release(accepted, bool(link.fault) or not accepted.proven)
                self._links.pop(link, None)
            for other in self._links:
                if other.silent:
                    other.wake()

    def _silence(self, link: DatabaseConnection, reason: str) -> None:
        """A manager's connection that a configured one made superfluous; it stays open, or it would come again."""
        feed = link.feed
        link.silent, link.feed = reason, None
        if feed is not None and feed.owner is link:
            feed.retire(reason)
            feed.take(None, "")
            del self._feeds[feed.name]

    def _manager_feed(self, this: DatabaseIdentity) -> Database:
        """The feed for a manager's connection. Its name outlives the connection and even the database's file.

        Two machines that claim the same system-id at the same time are kept apart by their row's uuid.
        """
        name = f"manager:{(this.system_id or this.hostname or this.row)[:100]}"
        feed = self._feeds.get(name)
        if feed is not None and feed.synced and feed.row != this.row:
            name = f"{name}/{this.row}"
            feed = self._feeds.get(name)
        if feed is None:
            feed = self._feeds[name] = Database(name, self._post)
        return feed

    def _accepted(self, sock: socket.socket, host: str, peer: str) -> None:
        """A connection was accepted. It is let in, or closed; should anything else go wrong, the acceptor closes it."""
        found: list[DatabaseConnection] = []
        try:
            accepted = self._limiter.accept(host, lambda reason: self._evict(found, reason))
        except TooManyConnections as closed:
            sock.close()
            self._bounds.refused(closed.kind)
            # Without numbers that vary: a repeated warning is one warning.
            log.warning("refusing OVSDB connections", peer=host, reason=closed.kind)
            return
        try:
            session = partial(FramedSession.accepted, sock, peer, self._share, self._accept_tls)
            link = DatabaseConnection(peer, "listening", session, self._config, self, self._room)
            found.append(link)
            with self._lock:
                if self._closed:
                    raise ConnectionAbortedError("closing")
                self._links[link] = None
                self._counted[link] = accepted
                link.start()
        except BaseException:
            with self._lock:
                for link in found:
                    self._counted.pop(link, None)
                    self._links.pop(link, None)
                    link.discard()
            self._limiter.release(accepted)
            raise

    def _evict(self, found: list[DatabaseConnection], reason: str) -> None:
        self._bounds.refused("unproven")
        for link in found:
            link.evict(reason)


def _describe(link: DatabaseConnection) -> ConnectionStatus:
    feed = link.feed
    return ConnectionStatus(
        name=feed.name if feed else link.name,
        remote=link.name,
        direction=link.direction,
        connected=link.connected,
        synced=link.synced,
        since=link.since,
        last_error=link.rival or link.last_error,
        system_id=link.identity.system_id,
        hostname=link.identity.hostname,
        silent=link.silent,
        bridges=feed.bridges() if feed and not link.silent else (),
        notes=link.notes,
    )
