"""From the replica's rows to BridgeState values. Unchanged rows are kept, so one new port costs one row, not all.

Writing must not live here, nor the meaning of external_ids: see `flows.bridge.binding`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from controller.base.printable import printable
from flows.bridge.external_ids import NODE_ADDRESSES_KEY
from flows.bridge.state import BridgeState, InterfaceState
from flows.openflow.port_numbers import LOCAL_16

# external_ids of Open_vSwitch: the name of the Node, before `hostname`, which Open vSwitch may write at each start.
NODE_NAME_KEY = "headgate-node-name"
NODE_READY_KEY = "headgate-node-ready"  # external_ids of Open_vSwitch: the revision of the settings that are applied
NODE_MISSING_KEY = "headgate-node-missing"  # and what is missing on the node, in words
MAX_REVISION_LENGTH = 64  # characters
MAX_MISSING_LENGTH = 1000  # characters
MAX_NODE_ADDRESSES_LENGTH = 4000  # characters of a node's addresses that are read; valid lists are shorter
_YIELD_EVERY = 200  # interfaces read, after which other green threads run


class DatabaseIdentity(NamedTuple):
    """A database: the uuid of its Open_vSwitch row, and its machine's system-id and name from external_ids.

    `hostname` names its Node. `ready` and `missing` are what the own program of the node says there: see BridgeState.
    """

    row: str
    system_id: str
    hostname: str
    ready: str = ""
    missing: str = ""


def valid_text(text: object) -> str:
    """A string from the database, with lone surrogates (which JSON can write and UTF-8 cannot) replaced."""
    value = str(text)
    if value.isascii():
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def valid_map(value: Mapping[str, str]) -> dict[str, str]:
    """A string map from the database, as `valid_text`, sorted by key."""
    return {valid_text(key): valid_text(value[key]) for key in sorted(value)}


def column(row: Any, name: str) -> Any:
    """A column of a row, as `row.name`; the `ovs` package's own way is slower, since it looks for values that a
    transaction has assigned. Headgate's transactions assign none.
    """
    return row._data[name].to_python(row._uuid_to_row)


def referenced(row: Any, name: str) -> list[Any]:
    """The uuids in a column of references, those of rows that have not arrived included."""
    return [atom.value for atom in row._data[name].values]


def optional_value(value: Collection[Any]) -> Any:
    """The value of an optional column, or None."""
    return next(iter(value), None)


def database_identity(tables: Mapping[str, Any]) -> DatabaseIdentity | None:
    """The database's identity; None before `ovs-vsctl init` has made its Open_vSwitch row."""
    rows = sorted(tables["Open_vSwitch"].rows.values(), key=lambda row: str(row.uuid))
    if not rows:
        return None
    ids = valid_map(rows[0].external_ids)
    ready, missing = ids.get(NODE_READY_KEY, ""), ids.get(NODE_MISSING_KEY, "")
    return DatabaseIdentity(
        str(rows[0].uuid),
        ids.get("system-id", ""),
        ids.get(NODE_NAME_KEY) or ids.get("hostname", ""),
        printable(ready[:MAX_REVISION_LENGTH]),
        printable(missing[:MAX_MISSING_LENGTH]),
    )


def datapath_id(row: Any) -> int:
    """The bridge's datapath id, 0 while ovs-vswitchd has set none."""
    text = str(optional_value(row.datapath_id) or "")
    try:
        return int(text, 16) if len(text) <= 16 else 0
    except ValueError:
        return 0


def owned_rows(tables: Mapping[str, Any], owned: Collection[str]) -> dict[str, Any]:
    """The Bridge rows whose names are in `owned`, by name."""
    rows = sorted(tables["Bridge"].rows.values(), key=lambda row: str(row.uuid))
    return {row.name: row for row in rows if row.name in owned}


class RowReader:
    """Reads the owned bridges of one replica, and keeps each row's value until `forget` says that the row changed.

    Not thread-safe: it belongs to the thread that runs the replica.
    """

    def __init__(self, owned: Collection[str]) -> None:
        self._owned = frozenset(owned)
        self._ports: dict[object, tuple[object, ...]] = {}
        self._interfaces: dict[object, InterfaceState] = {}

    def forget(self, uuid: object) -> None:
        """The row with this uuid was added, changed or deleted."""
        self._ports.pop(uuid, None)
        self._interfaces.pop(uuid, None)

    def clear(self) -> None:
        """Forget all rows: the replica is read again."""
        self._ports.clear()
        self._interfaces.clear()

    def read(self, name: str, tables: Mapping[str, Any]) -> dict[str, BridgeState]:
        """The owned bridges that exist now, by name. `name` is that of the database, for BridgeState.ovsdb."""
        this = database_identity(tables)
        if this is None:
            return {}
        system = tables["Open_vSwitch"].rows
        version = next((optional_value(row.ovs_version) for row in system.values()), None)
        return {
            bridge: BridgeState(
                ovsdb=name,
                name=bridge,
                dpid=datapath_id(row),
                hostname=this.hostname,
                system_id=this.system_id,
                datapath_type=valid_text(row.datapath_type),
                ovs_version=valid_text(version or ""),
                interfaces=self._read_interfaces(row, tables),
                node_addresses_text=valid_text(row.external_ids.get(NODE_ADDRESSES_KEY, ""))[
                    :MAX_NODE_ADDRESSES_LENGTH
                ],
                node_revision=this.ready,
                node_missing=this.missing,
            )
            for bridge, row in owned_rows(tables, self._owned).items()
        }

    def _read_interfaces(self, bridge: Any, tables: Mapping[str, Any]) -> tuple[InterfaceState, ...]:
        ports, rows = tables["Port"].rows, tables["Interface"].rows
        found: dict[object, InterfaceState] = {}
        unread = 0
        for port in referenced(bridge, "ports"):
            uuids = self._ports.get(port)
            if uuids is None:
                if (port_row := ports.get(port)) is None:
                    continue
                uuids = self._ports[port] = tuple(referenced(port_row, "interfaces"))
            for uuid in uuids:
                state = self._interfaces.get(uuid)
                if state is None:
                    row = rows.get(uuid)
                    if row is None:
                        self._ports.pop(port, None)  # the port's row has arrived before its interface's
                        continue
                    state = self._interfaces[uuid] = read_interface(row)
                    unread += 1
                    if unread % _YIELD_EVERY == 0:
                        time.sleep(0)
                found[uuid] = state
        return tuple(sorted(found.values(), key=lambda state: (state.name, state.uuid)))


def read_interface(row: Any) -> InterfaceState:
    """One Interface row as a value."""
    ofport = optional_value(column(row, "ofport"))
    return InterfaceState(
        uuid=str(row.uuid),
        name=valid_text(column(row, "name")),
        ofport=ofport if isinstance(ofport, int) and 0 < ofport <= LOCAL_16 else None,
        mac_in_use=valid_text(optional_value(column(row, "mac_in_use")) or ""),
        external_ids=MappingProxyType(valid_map(column(row, "external_ids"))),
    )
