"""From OVSDB rows to the values of `bridge_settings`: a bridge's settings, and the status of its Controllers.

Deciding what to write must not live here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from controller.ovsdb import bridge_settings
from controller.ovsdb.rows import column, optional_value, valid_map, valid_text


class ControllerStatus(NamedTuple):
    """Columns of a Controller row that are not monitored (`status` in ovs-vswitchd.conf.db(5)), as last queried."""

    target: str
    connected: bool
    state: str
    error: str


def read_controller_status(rows: Sequence[Any]) -> dict[str, ControllerStatus]:
    """The rows of a reply to `select`, by row uuid. Malformed rows are left out."""
    return dict(filter(None, map(_controller_status, rows)))


def _controller_status(row: Any) -> tuple[str, ControllerStatus] | None:
    try:
        status = dict(row["status"][1])
        connected = row["is_connected"] is True
        target, state = valid_text(row["target"])[:200], valid_text(status.get("state", ""))[:50]
        error = valid_text(status.get("last_error", ""))[:200]
        return str(row["_uuid"][1]), ControllerStatus(target, connected, state, error)
    except (TypeError, ValueError, KeyError, IndexError):
        return None


def read_settings(row: Any, tables: Mapping[str, Any]) -> bridge_settings.BridgeSettings:
    """The settings of one Bridge row of the replica."""
    used: dict[object, int] = {}
    for bridge in tables["Bridge"].rows.values():
        for table in column(bridge, "flow_tables").values():
            used[table.uuid] = used.get(table.uuid, 0) + 1
    return bridge_settings.BridgeSettings(
        uuid=str(row.uuid),
        name=valid_text(row.name),
        fail_mode=valid_text(optional_value(row.fail_mode) or ""),
        protocols=frozenset(valid_text(protocol) for protocol in row.protocols),
        tables={
            number: bridge_settings.FlowTableRow(
                str(table.uuid), valid_text(optional_value(column(table, "name")) or ""), used.get(table.uuid, 0) > 1
            )
            for number, table in column(row, "flow_tables").items()
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
        probe=optional_value(row.inactivity_probe) or 0,
    )


def _is_in_band(row: Any) -> bool:
    return bool(optional_value(row.connection_mode) != "out-of-band")  # empty means in-band
