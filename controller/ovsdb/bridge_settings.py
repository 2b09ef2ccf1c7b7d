"""What Headgate sets on a bridge it owns: from what stands there and what is wanted to the OVSDB operations, as values.

An empty list means that all is as wanted, and nothing is sent: a restart of the controller writes nothing. Which
setting makes OVS 3.1 delete the bridge's flows was observed: the first Controller that comes, the last that goes, and a
change of fail_mode while there is no Controller. Everything else here leaves them alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OPENFLOW_PROTOCOL = "OpenFlow14"
CONTROLLER_EXTERNAL_ID = ("headgate", "true")  # external_ids of the Controller rows that are ours
INSTALLED_MARK = ("headgate-installed", "true")  # external_ids of Interfaces whose policy is in force
CONTROLLER_GRACE = 3.0  # seconds an operator's controller, connected, gets to turn out to be this one
DEFAULT_MAX_BACKOFF = 8000  # milliseconds, Controller.max_backoff when empty (ovs-vswitchd.conf.db(5))
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,30}")  # OFP_MAX_TABLE_NAME_LEN is 32, its NUL included
Operation = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ControllerRow:
    """A Controller of the bridge. `ours` says that it bears Headgate's mark; `max_backoff` is in milliseconds."""

    uuid: str
    target: str
    ours: bool = False
    connected: bool = False
    in_band: bool = True
    max_backoff: int = DEFAULT_MAX_BACKOFF


@dataclass(frozen=True, slots=True)
class FlowTableRow:
    """A Flow_Table of the bridge. `shared` says that it also serves elsewhere, so that it isn't ours to name."""

    uuid: str
    name: str
    shared: bool = False


@dataclass(frozen=True, slots=True)
class BridgeSettings:
    """What stands in OVSDB for one bridge."""

    uuid: str
    name: str
    fail_mode: str = ""
    protocols: frozenset[str] = frozenset()
    tables: Mapping[int, FlowTableRow] | None = None
    controllers: tuple[ControllerRow, ...] = ()
    in_band_managers: tuple[str, ...] = ()  # targets, of the whole Open_vSwitch
    in_band_disabled: bool = False


def check_table_names(tables: Mapping[int, str]) -> None:
    """Raises ValueError for a table id or name that OVS would not take as it is, or a name used twice."""
    for number, name in tables.items():
        if not 0 <= number <= 253 or not _NAME.fullmatch(name):
            raise ValueError(f"flow table {number} cannot be named {name!r}")
    if len(set(tables.values())) != len(tables):
        raise ValueError("two flow tables have the same name")


def plan_bridge(bridge: BridgeSettings, names: Mapping[int, str]) -> list[Operation]:
    """Operations for fail_mode, protocols and table names. Empty `protocols` means all, and stays empty."""
    operations = []
    if bridge.fail_mode != "secure":
        operations.append(_update("Bridge", bridge.uuid, {"fail_mode": "secure"}))
    if bridge.protocols and OPENFLOW_PROTOCOL not in bridge.protocols:
        operations.append(_mutate("Bridge", bridge.uuid, ["protocols", "insert", OPENFLOW_PROTOCOL]))
    standing = bridge.tables or {}
    fresh = []
    for number, name in sorted(names.items()):
        row = standing.get(number)
        if row is None:
            label = f"table_{number}"
            operations.append({"op": "insert", "table": "Flow_Table", "uuid-name": label, "row": {"name": name}})
            fresh.append([number, ["named-uuid", label]])
        elif row.name != name and not row.shared:
            operations.append(_update("Flow_Table", row.uuid, {"name": name}))
    if fresh:
        operations.append(_mutate("Bridge", bridge.uuid, ["flow_tables", "insert", ["map", fresh]]))
    return operations


def plan_controller(bridge: BridgeSettings, target: str, leads: Callable[[str], bool], add: bool) -> list[Operation]:
    """Operations that leave the bridge with exactly one way to us; rows without our mark are never touched.

    `target` is the way, `leads` recognises an operator's target as one, and `add` allows ours beside the operator's.
    """
    ours = sorted((row for row in bridge.controllers if row.ours), key=lambda row: row.uuid)
    theirs = [row for row in bridge.controllers if not row.ours]
    keep = None if any(leads(row.target) for row in theirs) else next(iter(ours), None)
    surplus = [["uuid", row.uuid] for row in ours if row is not keep]
    operations = []
    if surplus:
        operations.append(_mutate("Bridge", bridge.uuid, ["controller", "delete", ["set", surplus]]))
    if keep is not None:
        if keep.target != target:
            operations.append(_update("Controller", keep.uuid, {"target": target}))
    elif not any(leads(row.target) for row in theirs) and (add or not theirs):
        row = {
            "target": target,
            # In-band control, OVS's default, adds hidden flows for the controller's address that no table of ours sees.
            "connection_mode": "out-of-band",
            "external_ids": ["map", [list(CONTROLLER_EXTERNAL_ID)]],
        }
        operations.append({"op": "insert", "table": "Controller", "uuid-name": "ours", "row": row})
        operations.append(_mutate("Bridge", bridge.uuid, ["controller", "insert", ["named-uuid", "ours"]]))
    return operations


def controller_patience(controllers: Sequence[ControllerRow], grace: float = CONTROLLER_GRACE) -> float:
    """Seconds to wait before an operator's controllers are taken to lead elsewhere.

    One that is connected shows itself at once. One that is not may lead here and be waiting for its next attempt, which
    after an absence of ours is up to max_backoff away: adding ours earlier would give the switch two sessions with us.
    """
    active = [row for row in controllers if not row.ours and not row.target.startswith("p")]
    return max((grace if row.connected else grace + row.max_backoff / 1000 for row in active), default=0.0)


def hidden_flows_note(bridge: BridgeSettings) -> str:
    """A note for the operator if in-band control puts flows on the bridge that bypass the pipeline; else empty.

    It stays the operator's choice: a node that reaches its controller through this very bridge cannot do without.
    """
    controllers = [row.target for row in bridge.controllers if row.in_band and not row.ours]
    targets = sorted(one for one in (*controllers, *bridge.in_band_managers) if one.startswith(("tcp:", "ssl:")))
    if bridge.in_band_disabled or not targets:
        return ""
    return (
        f"bridge {bridge.name}: in-band control of {', '.join(targets)} adds hidden flows that policy does not see; "
        "unless the node reaches it through this bridge, set connection_mode=out-of-band there or "
        "other_config:disable-in-band=true on the bridge"
    )


def plan_installed_marks(standing: Mapping[str, Mapping[str, str]], wanted: Mapping[str, bool]) -> list[Operation]:
    """Operations that set or remove the installed flag.

    `standing` has the external_ids of the Interfaces that exist, by row uuid. Only the flag's own key is changed.
    """
    key, value = INSTALLED_MARK
    operations = []
    for uuid, flag in wanted.items():
        ids = standing.get(uuid)
        if ids is None or ids.get(key) == (value if flag else None):
            continue
        mutations: list[list[Any]] = [["external_ids", "delete", ["set", [key]]]]  # insert alone keeps another value
        if flag:
            mutations.append(["external_ids", "insert", ["map", [[key, value]]]])
        operations.append(_mutate("Interface", uuid, *mutations))
    return operations


def _where(uuid: str) -> list[Any]:
    return [["_uuid", "==", ["uuid", uuid]]]


def _update(table: str, uuid: str, row: Mapping[str, Any]) -> Operation:
    return {"op": "update", "table": table, "where": _where(uuid), "row": dict(row)}


def _mutate(table: str, uuid: str, *mutations: list[Any]) -> Operation:
    return {"op": "mutate", "table": table, "where": _where(uuid), "mutations": list(mutations)}
