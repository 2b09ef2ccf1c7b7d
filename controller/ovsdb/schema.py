"""The columns of the Open_vSwitch schema that Headgate monitors; changes of other columns do not wake it.

Types are as in vswitch.ovsschema, without enumerations, so that new values of a newer server are no errors.
"""

from __future__ import annotations

from typing import Any

import ovs.db.idl

_TEXT = {"type": "string"}
_TEXT_OR_NONE = {"type": {"key": "string", "min": 0, "max": 1}}
_TEXTS = {"type": {"key": "string", "min": 0, "max": "unlimited"}}
_NUMBER_OR_NONE = {"type": {"key": "integer", "min": 0, "max": 1}}
_FLAG = {"type": "boolean"}
_MAP = {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}


def _rows(table: str, key: str = "") -> dict[str, Any]:
    """A set of references to rows of `table`, or a map to them from `key`."""
    row = {"type": "uuid", "refTable": table}
    return {"type": {**({"key": key, "value": row} if key else {"key": row}), "min": 0, "max": "unlimited"}}


_TABLES: dict[str, dict[str, Any]] = {
    "Open_vSwitch": {
        "bridges": _rows("Bridge"),
        "manager_options": _rows("Manager"),
        "external_ids": _MAP,
        "ovs_version": _TEXT_OR_NONE,
    },
    "Manager": {"target": _TEXT, "connection_mode": _TEXT_OR_NONE},
    "Bridge": {
        "name": _TEXT,
        "ports": _rows("Port"),
        "datapath_id": _TEXT_OR_NONE,
        "datapath_type": _TEXT,
        "protocols": _TEXTS,
        "fail_mode": _TEXT_OR_NONE,
        "other_config": _MAP,
        "external_ids": _MAP,
        "controller": _rows("Controller"),
        "flow_tables": _rows("Flow_Table", key="integer"),
    },
    "Port": {"interfaces": _rows("Interface")},
    "Interface": {
        "name": _TEXT,
        "type": _TEXT,
        "options": _MAP,
        "ofport": _NUMBER_OR_NONE,
        "mac_in_use": _TEXT_OR_NONE,
        "external_ids": _MAP,
    },
    "Controller": {
        "target": _TEXT,
        "connection_mode": _TEXT_OR_NONE,
        "is_connected": _FLAG,
        "max_backoff": _NUMBER_OR_NONE,
        "inactivity_probe": _NUMBER_OR_NONE,
        "external_ids": _MAP,
    },
    "Flow_Table": {"name": _TEXT_OR_NONE},
}


def monitored_schema() -> Any:
    """A new SchemaHelper for `ovs.db.idl.Idl`, which keeps and changes its argument."""
    tables = {name: {"columns": columns} for name, columns in _TABLES.items()}
    helper = ovs.db.idl.SchemaHelper(schema_json={"name": "Open_vSwitch", "version": "8.0.0", "tables": tables})
    helper.register_all()
    return helper
