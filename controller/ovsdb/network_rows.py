"""What Headgate sets on a bridge that routes: external_ids that its node reads, and the port of its tunnels.

Values only, as in `bridge_settings`: operations from what the rows have and what they must have, none where nothing
differs. When the network is flat again, Headgate removes what it set. Columns: ovs-vswitchd.conf.db(5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from controller.ovsdb.bridge_settings import Operation, mutate_row, update_row
from controller.ovsdb.rows import valid_map, valid_text
from flows.bridge.network import NETWORK_KEY, NETWORK_KEYS, NodeNetwork
from flows.bridge.routing import TUNNEL_INTERFACE

TUNNEL_MARK = ("headgate", "true")  # external_ids of the tunnel's Interface: Headgate made it, and may remove it
# The far end is set by each flow; tunnels have no key, so that what comes with another key is not taken.
TUNNEL_OPTIONS: Mapping[str, str] = MappingProxyType({"key": "0", "remote_ip": "flow"})


@dataclass(frozen=True, slots=True)
class TunnelRow:
    """The rows of the tunnel's port on the bridge. `ours`: Headgate made it."""

    port: str
    interface: str
    kind: str
    options: Mapping[str, str]
    ours: bool


@dataclass(frozen=True, slots=True)
class NetworkRows:
    """What one bridge has. `uuid` is the Bridge's; `external_ids` are only those of NETWORK_KEYS; `elsewhere` is true
    where the name of the tunnel's port is taken by a port outside the bridge."""

    uuid: str
    name: str
    external_ids: Mapping[str, str] = field(default_factory=dict)
    tunnel: TunnelRow | None = None
    elsewhere: bool = False


def read_network_rows(row: Any, tables: Mapping[str, Any], routes: bool) -> NetworkRows:
    """What a Bridge row of the replica has. Without `routes`, a bridge that has no mark of a network is not searched
    for a tunnel: then its cost does not depend on its ports."""
    ids = {key: valid_text(row.external_ids[key]) for key in NETWORK_KEYS if key in row.external_ids}
    tunnel = _read_tunnel(row) if routes or NETWORK_KEY in ids else None
    elsewhere = (
        routes
        and tunnel is None
        and any(one.name == TUNNEL_INTERFACE for one in list(tables["Interface"].rows.values()))
    )
    return NetworkRows(str(row.uuid), valid_text(row.name), ids, tunnel, elsewhere)


def _read_tunnel(row: Any) -> TunnelRow | None:
    key, value = TUNNEL_MARK
    for port in row.ports:
        for interface in port.interfaces:
            if interface.name == TUNNEL_INTERFACE:
                return TunnelRow(
                    str(port.uuid),
                    str(interface.uuid),
                    valid_text(interface.type),
                    valid_map(interface.options),
                    interface.external_ids.get(key) == value,
                )
    return None


def plan_network(rows: NetworkRows, wanted: NodeNetwork) -> list[Operation]:
    """Operations after which the bridge has these settings. Other keys, and a tunnel of the operator that is not
    needed, stay."""
    return [*_plan_ids(rows, wanted.external_ids), *_plan_tunnel(rows, wanted.tunnel)]


def _plan_ids(rows: NetworkRows, wanted: Mapping[str, str]) -> list[Operation]:
    stale = [key for key, value in rows.external_ids.items() if wanted.get(key) != value]
    missing = [[key, value] for key, value in wanted.items() if rows.external_ids.get(key) != value]
    mutations: list[list[Any]] = []
    if stale:
        mutations.append(["external_ids", "delete", ["set", stale]])  # insert keeps another value
    if missing:
        mutations.append(["external_ids", "insert", ["map", missing]])
    return [mutate_row("Bridge", rows.uuid, *mutations)] if mutations else []


def _plan_tunnel(rows: NetworkRows, kind: str) -> list[Operation]:
    tunnel = rows.tunnel
    if tunnel is None:
        return _new_tunnel(rows.uuid, kind) if kind and not rows.elsewhere else []
    if not kind:
        port = ["set", [["uuid", tunnel.port]]]
        return [mutate_row("Bridge", rows.uuid, ["ports", "delete", port])] if tunnel.ours else []
    operations = []
    if (tunnel.kind, dict(tunnel.options)) != (kind, dict(TUNNEL_OPTIONS)):
        settings = {"type": kind, "options": _map(TUNNEL_OPTIONS)}
        operations.append(update_row("Interface", tunnel.interface, settings))
    if not tunnel.ours:
        mark = ["map", [list(TUNNEL_MARK)]]
        forget = ["external_ids", "delete", ["set", [TUNNEL_MARK[0]]]]
        operations.append(mutate_row("Interface", tunnel.interface, forget, ["external_ids", "insert", mark]))
    return operations


def _new_tunnel(bridge: str, kind: str) -> list[Operation]:
    interface = {
        "name": TUNNEL_INTERFACE,
        "type": kind,
        "options": _map(TUNNEL_OPTIONS),
        "external_ids": ["map", [list(TUNNEL_MARK)]],
    }
    port = {"name": TUNNEL_INTERFACE, "interfaces": ["named-uuid", "tunnel_interface"]}
    return [
        {"op": "insert", "table": "Interface", "uuid-name": "tunnel_interface", "row": interface},
        {"op": "insert", "table": "Port", "uuid-name": "tunnel_port", "row": port},
        mutate_row("Bridge", bridge, ["ports", "insert", ["named-uuid", "tunnel_port"]]),
    ]


def tunnel_note(rows: NetworkRows, wanted: NodeNetwork) -> str:
    """A note for the operator if the tunnel's port cannot be made; else empty."""
    if not wanted.tunnel or not rows.elsewhere:
        return ""
    return (
        f"bridge {rows.name}: a port outside of it has the name {TUNNEL_INTERFACE}, so it has no tunnels; remove that "
        f"port: ovs-vsctl del-port {TUNNEL_INTERFACE}"
    )


def _map(values: Mapping[str, str]) -> list[Any]:
    return ["map", [[key, value] for key, value in values.items()]]
