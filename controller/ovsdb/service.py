"""All OVSDB connections of the process, and which of them serves which database. `Ovsdb` is the interface of this room.

The same database may be connected twice: by a configured remote, and by its own manager connection. Databases are told
apart by the uuid of their Open_vSwitch row, and one connection serves each:

- a configured remote wins over a manager connection, even while it is away; of two remotes, the first one wins;
- of two manager connections the older one stays as long as its peer answers a challenge. If it does not, as after a
  switch's power cut, the newer one takes over under the same name.

The others stay on standby. Policy and flows must not live here.
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
from controller.ovsdb.barriers import BarrierRequest
from controller.ovsdb.connection import DatabaseConnection
from controller.ovsdb.connection_status import ConnectionStatus, away_status, connection_status
from controller.ovsdb.contents_size import ContentsBounds
from controller.ovsdb.controller_planner import BridgeConfig
from controller.ovsdb.database import Database
from controller.ovsdb.listener import OvsdbListener
from controller.ovsdb.reading_turns import ReadingTurns
from controller.ovsdb.rows import DatabaseIdentity
from controller.ovsdb.session import FramedSession, MessageBounds
from controller.ovsdb.sharing import Sharing
from controller.ovsdb.targets import absolute_remote
from controller.peers.connection_limiter import AcceptedConnection, ConnectionLimiter, TooManyConnections
from controller.peers.limits import ConnectionLimits, OvsdbLimits
from controller.peers.memory_budget import MemoryBudget
from controller.reconcile.events import Event
from controller.status import away_reasons
from controller.tls.credentials import Credentials
from flows.bridge.network import NodeNetwork

log = structlog.get_logger(__name__)
CLOSE_SECONDS = 0.9  # seconds


@dataclass(frozen=True, slots=True)
class OvsdbBounds:
    """The limits for peers, and a callback for each refused connection, called with the kind of refusal."""

    limits: OvsdbLimits = field(default_factory=OvsdbLimits)
    connections: ConnectionLimits = field(default_factory=ConnectionLimits)
    refused: Callable[[str], None] = lambda kind: None


class Ovsdb:
    """Connects to `remotes`, listens at `listen`, and manages the bridges named `bridges` in all these databases.

    A remote's text is its `ovsdb` in events; a manager connection has `manager:` and the switch's system-id. `tables`
    has the flow tables' names by id. `openflow` is the bound address (host, port) of the OpenFlow listener,
    `openflow_tls` says that it uses TLS, and `connected` returns the OpenFlow session number of a datapath id, from
    any thread, 0 without one. `tls` is for addresses that begin with ssl. With `routes`, bridges get the settings of
    `set_network`; else they lose such settings. With `shared` nothing is written before `write_to`. A database's
    BridgeChanged events come before its OvsdbState(synced); a remote whose database another connection serves counts as
    synced, with the reason.
    Raises ValueError for an invalid remote, address or name, and OSError if it cannot listen.
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
        routes: bool = False,
        shared: bool = False,
    ) -> None:
        bridge_settings.check_table_names(tables or {})
        for address in (*remotes, *([listen] if listen else [])):
            if is_tls(address) and tls is None:
                raise ValueError(f"{address} needs a private key, a certificate and a CA certificate")
        method = "ssl" if openflow_tls else "tcp"
        self._sharing = Sharing(shared)
        self._config = BridgeConfig(
            frozenset(bridges), dict(tables or {}), openflow, connected, grace, method, routes, self._sharing
        )
        self._post = post
        self._lock = threading.RLock()
        self._closed = False
        self._bounds = bounds = bounds or OvsdbBounds()
        limits = bounds.limits
        self._limiter = ConnectionLimiter(bounds.connections)
        self._counted: dict[DatabaseConnection, AcceptedConnection] = {}
        self._message_bounds = MessageBounds(limits, MemoryBudget(limits.message_share, limits.messages_pot))
        self._contents_bounds = ContentsBounds(limits, MemoryBudget(limits.contents_share, limits.contents_pot))
        self._turns = ReadingTurns()
        self._databases = {remote: Database(remote, post) for remote in remotes}
        self._connections: dict[DatabaseConnection, None] = {}  # in the order in which they came
        self._claimed: dict[str, dict[DatabaseConnection, None]] = {}  # those that claimed a database, by its row
        self._row_of: dict[DatabaseConnection, str] = {}  # the row that each of them claimed
        for name, database in self._databases.items():
            session = partial(FramedSession.connecting, absolute_remote(name), self._message_bounds, tls)
            connection = DatabaseConnection(
                name, "connecting", session, self._config, self, self._contents_bounds, self._turns
            )
            connection.database = database
            database.assign(connection, "")
            self._connections[connection] = None
        self._listener: OvsdbListener | None = None
        self._accept_tls = tls if listen and is_tls(listen) else None
        if listen:
            self._listener = OvsdbListener(
                parse_listen(listen, OVSDB_EXAMPLE), self._accepted, "ssl" if self._accept_tls else "tcp"
            )
            self._accepting = watched("ovsdb listener", self._listener.run)

    @property
    def listen_address(self) -> tuple[str, int] | None:
        """The bound (host, port) for manager connections; None without a listener."""
        return self._listener.address if self._listener else None

    def start(self) -> None:
        """Start connecting and listening; returns at once."""
        with self._lock:
            for connection in self._connections:
                connection.start()
        if self._listener:
            self._accepting.start()

    def write_marks(self, ovsdb: str, interfaces: Mapping[str, bool]) -> None:
        """Set (True) or remove (False) `headgate-installed=true` on Interfaces, by row uuid.

        Answered with MarksWritten once committed, in one or several parts; kept over a reconnect until then. An
        Interface that is gone is not answered, nor is an `ovsdb` that is not known.
        """
        with self._lock:
            database = self._databases.get(ovsdb)
        if database is None:
            log.debug("marks for an unknown ovsdb", ovsdb=ovsdb)
            return
        database.queue_marks(interfaces)
        _wake_owner(database)

    def set_network(self, ovsdb: str, bridge: str, network: NodeNetwork | None) -> None:
        """From now on keep these settings of the network on a bridge; None: leave those that it has as they are."""
        with self._lock:
            database = self._databases.get(ovsdb)
        if database is not None:  # else it is read anew when it comes, and set then
            database.set_network(bridge, network)
            _wake_owner(database)

    def write_to(self, ovsdbs: frozenset[str] | None, primary: frozenset[str] = frozenset()) -> None:
        """From now on write to these OVSDBs only, None: to all. Of those in `primary` the lock may be taken."""
        changed = self._sharing.write_to(ovsdbs, primary)
        if changed is None:
            self._wake_all()
            return
        with self._lock:
            databases = [self._databases[name] for name in changed & self._databases.keys()]
        for database in databases:
            _wake_owner(database)

    def set_replicas(self, targets: Collection[str]) -> None:
        """The OpenFlow targets of the other replicas, which switches are to connect to as well."""
        if self._sharing.set_others(targets):
            self._wake_all()

    def _wake_all(self) -> None:
        with self._lock:
            for connection in self._connections:
                connection.wake()

    def forget(self, ovsdb: str) -> None:
        """Forget a database without a manager connection, by its name in events. A connected one stays."""
        with self._lock:
            database = self._databases.get(ovsdb)
            owner = database.owner if database is not None else None
            # A manager connection that is down is still listed until its thread has ended.
            stays = (
                isinstance(owner, DatabaseConnection)
                and owner in self._connections
                and (owner.connected or owner.direction == "connecting")
            )
            if database is None or database.synced or stays:
                return
            del self._databases[ovsdb]

    def barrier(self, timeout: float) -> list[str]:
        """Return when every change committed before this call has been posted, for every database.

        Returns a line with name and reason for each database without an answer within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            databases = list(self._databases.values())
        missing, barriers = [], []
        for database in databases:
            connection = database.owner
            if isinstance(connection, DatabaseConnection) and connection.standby:
                continue  # another connection serves the same database
            if not isinstance(connection, DatabaseConnection) or not database.synced:
                missing.append(f"{database.name}: {database.reason or 'not read yet'}")
                continue
            barrier = BarrierRequest()
            connection.barrier(barrier)
            barriers.append((database.name, barrier))
        for name, barrier in barriers:
            if not barrier.wait(max(0.0, deadline - time.monotonic())):
                missing.append(f"{name}: no answer within {timeout:g} s")
            elif barrier.reason:
                missing.append(f"{name}: {barrier.reason}")
        return missing

    def rivals(self) -> list[str]:
        """A line for each OVSDB that another Headgate serves."""
        with self._lock:
            return [
                f"OVSDB {connection.database.name if connection.database else connection.name}: {connection.rival}"
                for connection in self._connections
                if connection.rival
            ]

    def away(self) -> dict[tuple[str, str], str]:
        """Away reasons (`status.away_reasons`) of switches without an OpenFlow session, by OVSDB and bridge.

        Bridges without a known reason are left out.
        """
        with self._lock:
            connections = [
                (connection, connection.database)
                for connection in self._connections
                if connection.database is not None and not connection.standby
            ]
        found: dict[tuple[str, str], str] = {}
        for connection, database in connections:
            if connection.rival:
                found.update(((database.name, bridge), away_reasons.RIVAL) for bridge in database.bridges())
            elif connection.synced:
                found.update(((database.name, bridge), word) for bridge, word in connection.away.items())
        return found

    def status(self) -> list[ConnectionStatus]:
        """All connections, and all databases without one."""
        with self._lock:
            connections, databases = list(self._connections), list(self._databases.values())
        found = [connection_status(connection) for connection in connections]
        named = {connection.name for connection in found}
        found.extend(away_status(database) for database in databases if database.name not in named)
        return found

    def close(self) -> None:
        """End all connections and stop listening, within a second. Flows and settings of the switches stay."""
        with self._lock:
            self._closed = True
            connections = list(self._connections)
        deadline = time.monotonic() + CLOSE_SECONDS
        if self._listener:
            self._accepting.release()
            self._listener.close()
        for connection in connections:
            connection.close()
        for connection in connections:
            connection.join(max(0.0, deadline - time.monotonic()))
        if self._listener:
            self._accepting.join(max(0.0, deadline - time.monotonic()))

    def claim(self, connection: DatabaseConnection, this: DatabaseIdentity) -> Database | str:
        """Called by a connection that knows its database's identity. See ConnectionRegistry."""
        with self._lock:
            self._note_claim(connection, this.row)
            rivals = [
                other
                for other in self._claimed[this.row]
                if other is not connection and other.database is not None and other.database.row == this.row
            ]
            for other in rivals:
                if other.direction == "connecting":
                    reason = f"the same database as {other.name}"
                    if connection.database is not None:
                        connection.database.retire(reason)
                    return reason
            if connection.direction == "connecting":
                database = self._databases[connection.name]
                for other in rivals:
                    self._put_on_standby(other, f"the same database as {connection.name}")
            elif rivals:
                rivals[0].challenge()
                return f"the same database as the older connection {rivals[0].name}"
            else:
                database = self._manager_database(this)
                if connection.database is not None and connection.database is not database:
                    connection.database.connection_lost(connection, "the connection has another database now")
            database.assign(connection, this.row)
            return database

    def _note_claim(self, connection: DatabaseConnection, row: str | None) -> None:
        """A connection claims the database with this row, or has ended (None)."""
        if (old := self._row_of.pop(connection, None)) is not None:
            self._claimed[old].pop(connection)
            if not self._claimed[old]:
                del self._claimed[old]
        if row is not None:
            self._row_of[connection] = row
            self._claimed.setdefault(row, {})[connection] = None

    def mark_proven(self, connection: DatabaseConnection) -> None:
        """Called by a connection that has a database."""
        accepted = self._counted.get(connection)
        if accepted is not None:
            self._limiter.mark_proven(accepted)

    def ended(self, connection: DatabaseConnection) -> None:
        """Called by a connection whose thread has ended. Those on standby claim again, as one may take over."""
        with self._lock:
            accepted = self._counted.pop(connection, None)
            if accepted is not None:
                self._limiter.release(accepted, bool(connection.fault) or not accepted.proven)
                self._connections.pop(connection, None)
            self._note_claim(connection, None)
            for other in self._connections:
                if other.standby:
                    other.wake()

    def _put_on_standby(self, connection: DatabaseConnection, reason: str) -> None:
        """A configured remote serves this manager connection's database. It stays open, or it would return."""
        database = connection.database
        connection.standby, connection.database = reason, None
        if database is not None and database.owner is connection:
            database.retire(reason)
            database.assign(None, "")
            del self._databases[database.name]

    def _manager_database(self, this: DatabaseIdentity) -> Database:
        """The database of a manager connection. Its name stays the same across connections and a new database file.

        Two machines with the same system-id at the same time are told apart by the uuid of their row.
        """
        name = f"manager:{(this.system_id or this.hostname or this.row)[:100]}"
        database = self._databases.get(name)
        if database is not None and database.synced and database.row != this.row:
            name = f"{name}/{this.row}"
            database = self._databases.get(name)
        if database is None:
            database = self._databases[name] = Database(name, self._post)
        return database

    def _accepted(self, sock: socket.socket, host: str, peer: str) -> None:
        """Serve a connection that the socket has accepted, or close it if there are too many. After an exception the
        acceptor closes it.
        """
        found: list[DatabaseConnection] = []
        try:
            accepted = self._limiter.accept_settled(host, lambda reason: self._evict(found, reason))
        except TooManyConnections as error:
            sock.close()
            self._bounds.refused(error.kind)
            # Without numbers that vary, so that the log can collapse repeated warnings.
            log.warning("refusing OVSDB connections", peer=host, reason=error.kind)
            return
        try:
            session = partial(FramedSession.accepted, sock, peer, self._message_bounds, self._accept_tls)
            connection = DatabaseConnection(
                peer, "listening", session, self._config, self, self._contents_bounds, self._turns
            )
            found.append(connection)
            with self._lock:
                if self._closed:
                    raise ConnectionAbortedError("closing")
                self._connections[connection] = None
                self._counted[connection] = accepted
                connection.start()
        except BaseException:
            with self._lock:
                for connection in found:
                    self._counted.pop(connection, None)
                    self._connections.pop(connection, None)
                    connection.discard()
            self._limiter.release(accepted)
            raise

    def _evict(self, found: list[DatabaseConnection], reason: str) -> None:
        self._bounds.refused("unproven")
        for connection in found:
            connection.evict(reason)


def _wake_owner(database: Database) -> None:
    if isinstance(connection := database.owner, DatabaseConnection):
        connection.wake()
