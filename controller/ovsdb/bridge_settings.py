"""What Headgate sets on a bridge that it manages: OVSDB operations from the present settings and the desired ones.

Values only; connections must not live here. An empty list means that nothing differs, so a restart of the controller
writes nothing. Some settings make ovs-vswitchd delete the bridge's flows; observed with OVS 3.1: the first Controller
that is added, the last that is removed, and a change of fail_mode while there is no Controller. No other operation here
does. Columns: ovs-vswitchd.conf.db(5).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OPENFLOW_PROTOCOL = "OpenFlow14"
CONTROLLER_EXTERNAL_ID = ("headgate", "true")  # external_ids of Headgate's own Controller rows
INSTALLED_MARK = ("headgate-installed", "true")  # external_ids of Interfaces whose desired flows are realized
CONTROLLER_GRACE = 3.0  # seconds to find out whether an operator's connected Controller is this one
# Milliseconds, inactivity_probe of Headgate's own rows once they are connected: a switch that heard nothing for so long
# asks, and closes the session after as long again. Open vSwitch 3.1 keeps to the value only when it changes during a
# session, so a new row has none. With the default of 5,000 a controller that has too little
# CPU for ten seconds loses all sessions at once, and then has to read every switch again. Only a controller whose
# machine is gone without a word is noticed later, and nothing waits for that: see docs/ha.md.
INACTIVITY_PROBE = 15_000
DEFAULT_MAX_BACKOFF = 8000  # milliseconds, Controller.max_backoff when empty (ovs-vswitchd.conf.db(5))
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,30}")  # OFP_MAX_TABLE_NAME_LEN is 32, its NUL included
Operation = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ControllerRow:
    """A Controller of the bridge. `ours`: it has Headgate's external_ids. `max_backoff` and `probe`, its
    inactivity_probe, are in milliseconds; `probe` is 0 where the row leaves it to Open vSwitch.
    """

    uuid: str
    target: str
    ours: bool = False
    connected: bool = False
    in_band: bool = True
    max_backoff: int = DEFAULT_MAX_BACKOFF
    probe: int = 0


@dataclass(frozen=True, slots=True)
class FlowTableRow:
    """A Flow_Table of the bridge. `shared`: it has other uses too, so Headgate does not rename it."""

    uuid: str
    name: str
    shared: bool = False


@dataclass(frozen=True, slots=True)
class BridgeSettings:
    """The settings of one bridge in OVSDB."""

    uuid: str
    name: str
    fail_mode: str = ""
    protocols: frozenset[str] = frozenset()
    tables: Mapping[int, FlowTableRow] | None = None
    controllers: tuple[ControllerRow, ...] = ()
    in_band_managers: tuple[str, ...] = ()  # targets, of the whole Open_vSwitch
    in_band_disabled: bool = False


def check_table_names(tables: Mapping[int, str]) -> None:
    """Raises ValueError for a table id or name that OVS does not accept, and for a name used twice."""
    for number, name in tables.items():
        if not 0 <= number <= 253 or not _NAME.fullmatch(name):
            raise ValueError(f"flow table {number} cannot be named {name!r}")
    if len(set(tables.values())) != len(tables):
        raise ValueError("two flow tables have the same name")


def plan_bridge(bridge: BridgeSettings, names: Mapping[int, str]) -> list[Operation]:
    """Operations for fail_mode, protocols and table names. Empty `protocols` means all, and stays empty."""
    operations = []
    if bridge.fail_mode != "secure":
        operations.append(update_row("Bridge", bridge.uuid, {"fail_mode": "secure"}))
    if bridge.protocols and OPENFLOW_PROTOCOL not in bridge.protocols:
        operations.append(mutate_row("Bridge", bridge.uuid, ["protocols", "insert", OPENFLOW_PROTOCOL]))
    present = bridge.tables or {}
    added = []
    for number, name in sorted(names.items()):
        row = present.get(number)
        if row is None:
            label = f"table_{number}"
            operations.append({"op": "insert", "table": "Flow_Table", "uuid-name": label, "row": {"name": name}})
            added.append([number, ["named-uuid", label]])
        elif row.name != name and not row.shared:
            operations.append(update_row("Flow_Table", row.uuid, {"name": name}))
    if added:
        operations.append(mutate_row("Bridge", bridge.uuid, ["flow_tables", "insert", ["map", added]]))
    return operations


def plan_controller(
    bridge: BridgeSettings, target: str, leads: Callable[[str], bool], add: bool, others: Sequence[str] = ()
) -> list[Operation]:
    """Operations after which the bridge has exactly one Controller for this Headgate, and one for each of the `others`,
    the targets of its replicas. Rows of the operator are kept.

    `target` is this Headgate's; `leads` recognises an operator's target as this Headgate; `add` allows a row of its own
    beside the operator's.
    """
    ours = sorted((row for row in bridge.controllers if row.ours), key=lambda row: (row.target != target, row.uuid))
    theirs = [row for row in bridge.controllers if not row.ours]
    led = any(leads(row.target) for row in theirs)
    has_own = not led and (add or not theirs or len(_only(ours, target, others)) > 0)
    wanted = [*([target] if has_own else []), *(one for one in others if all(row.target != one for row in theirs))]
    kept: dict[str, ControllerRow] = {}
    for row in ours:
        if row.target in wanted:
            kept.setdefault(row.target, row)
    spare = [row for row in ours if row not in kept.values()]
    missing = [one for one in wanted if one not in kept]
    operations = []
    surplus = [["uuid", row.uuid] for row in spare[len(missing) :]]
    if surplus:
        operations.append(mutate_row("Bridge", bridge.uuid, ["controller", "delete", ["set", surplus]]))
    for row, one in zip(spare, missing, strict=False):
        operations.append(update_row("Controller", row.uuid, {"target": one, "inactivity_probe": ["set", []]}))
    for row in kept.values():
        if row.connected and row.probe != INACTIVITY_PROBE:  # changes the session's timer, and nothing else
            operations.append(update_row("Controller", row.uuid, {"inactivity_probe": INACTIVITY_PROBE}))
    for number, one in enumerate(missing[len(spare) :]):
        label = f"ours{number or ''}"
        new = {
            "target": one,
            # In-band control, OVS's default, adds hidden flows for the controller's address that bypass the pipeline.
            "connection_mode": "out-of-band",
            "external_ids": ["map", [list(CONTROLLER_EXTERNAL_ID)]],
        }
        operations.append({"op": "insert", "table": "Controller", "uuid-name": label, "row": new})
        operations.append(mutate_row("Bridge", bridge.uuid, ["controller", "insert", ["named-uuid", label]]))
    return operations


def _only(ours: Sequence[ControllerRow], target: str, others: Sequence[str]) -> list[ControllerRow]:
    """Headgate's rows that are this replica's: none of another's, but perhaps with an address that it had before."""
    return [row for row in ours if row.target == target or row.target not in others]


def controller_patience(controllers: Sequence[ControllerRow], grace: float = CONTROLLER_GRACE) -> float:
    """Seconds to wait before the operator's Controllers are taken to lead elsewhere.

    A connected one has its session at once. Another one may lead here and wait for its next attempt, up to max_backoff
    after Headgate was away. Adding a row before that would give the switch two sessions.
    """
    active = [row for row in controllers if not row.ours and not row.target.startswith("p")]
    return max((grace if row.connected else grace + row.max_backoff / 1000 for row in active), default=0.0)


def hidden_flows_note(bridge: BridgeSettings) -> str:
    """A note for the operator if in-band control adds flows that bypass the pipeline; else empty.

    Headgate does not change it: a node that reaches its controller through this bridge needs in-band control.
    """
    controllers = [row.target for row in bridge.controllers if row.in_band and not row.ours]
    targets = sorted(one for one in (*controllers, *bridge.in_band_managers) if one.startswith(("tcp:", "ssl:")))
    if bridge.in_band_disabled or not targets:
        return ""
    return (
        f"bridge {bridge.name}: in-band control of {', '.join(targets)} adds hidden flows that bypass policy; "
        "unless the node reaches it through this bridge, set connection_mode=out-of-band there or "
        "other_config:disable-in-band=true on the bridge"
    )


def plan_installed_marks(present: Mapping[str, Mapping[str, str]], desired: Mapping[str, bool]) -> list[Operation]:
    """Operations that set or remove `headgate-installed`.

    `present` has the external_ids of the existing Interfaces, `desired` the marks, both by row uuid. No other key is
    changed.
    """
    key, value = INSTALLED_MARK
    operations = []
    for uuid, mark in desired.items():
        ids = present.get(uuid)
        if ids is None or ids.get(key) == (value if mark else None):
            continue
        mutations: list[list[Any]] = [["external_ids", "delete", ["set", [key]]]]  # insert keeps another value
        if mark:
            mutations.append(["external_ids", "insert", ["map", [[key, value]]]])
        operations.append(mutate_row("Interface", uuid, *mutations))
    return operations


def _where(uuid: str) -> list[Any]:
    return [["_uuid", "==", ["uuid", uuid]]]


def update_row(table: str, uuid: str, row: Mapping[str, Any]) -> Operation:
    """An operation that sets columns of one row."""
    return {"op": "update", "table": table, "where": _where(uuid), "row": dict(row)}


def mutate_row(table: str, uuid: str, *mutations: list[Any]) -> Operation:
    """An operation that changes sets and maps in columns of one row."""
    return {"op": "mutate", "table": table, "where": _where(uuid), "mutations": list(mutations)}
