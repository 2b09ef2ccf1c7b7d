"""What the status report says of an OVSDB connection, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from controller.ovsdb.connection import ConnectionDirection, DatabaseConnection
from controller.ovsdb.database import Database


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """One OVSDB connection, for the status report. `since` is Unix time of the last change of `synced`; `standby` is
    why the connection does not serve its database.

    `name` is the `ovsdb` of events, or the peer's address while the database is not known.
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
    standby: str = ""
    bridges: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def connection_status(connection: DatabaseConnection) -> ConnectionStatus:
    """The status of a connection now."""
    database = connection.database
    return ConnectionStatus(
        name=database.name if database else connection.name,
        remote=connection.name,
        direction=connection.direction,
        connected=connection.connected,
        synced=connection.synced,
        since=connection.since,
        last_error=connection.rival or connection.last_error,
        system_id=connection.identity.system_id,
        hostname=connection.identity.hostname,
        standby=connection.standby,
        bridges=database.bridges() if database and not connection.standby else (),
        notes=connection.notes,
    )


def away_status(database: Database) -> ConnectionStatus:
    """The status of a database without a connection."""
    since, reason, bridges = database.since, database.reason, database.bridges()
    return ConnectionStatus(database.name, "", "listening", False, False, since, reason, bridges=bridges)
