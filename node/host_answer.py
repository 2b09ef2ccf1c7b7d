"""What the node writes into its OVSDB: the answer to the controller, and the MTU of the bridge's own port.

The answer stands in external_ids of Open_vSwitch: READY is the applied revision, "" if none is; MISSING says what is
missing and how to mend it, "" if nothing is.
"""

from __future__ import annotations

from typing import Any

from node.errors import NodeError
from node.host_settings import Settings
from node.ovsdb import Ovsdb, as_set, make_map

READY, MISSING = "headgate-node-ready", "headgate-node-missing"
MAX_WORDS = 1000  # characters of MISSING


def write(settings: Settings, ready: str | None, missing: str | None) -> None:
    """Write both answers, or remove those that are None. Raises NodeError."""
    texts = {READY: ready, MISSING: missing if missing is None else missing[:MAX_WORDS]}
    mutations: list[Any] = [["external_ids", "delete", ["set", [READY, MISSING]]]]
    mutations.append(
        ["external_ids", "insert", make_map({key: text for key, text in texts.items() if text is not None})]
    )
    with Ovsdb(settings.ovsdb) as database:
        database.transact({"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": mutations})


def try_to_write(settings: Settings, ready: str | None, missing: str | None) -> None:
    """The same where another error is already being reported, or Open vSwitch may be gone."""
    try:
        write(settings, ready, missing)
    except NodeError:
        return


def requested_mtu(settings: Settings) -> int:
    """The MTU that is requested for the bridge's own port, 0 if none is. Raises NodeError."""
    with Ovsdb(settings.ovsdb) as database:
        rows = database.select("Interface", [["name", "==", settings.bridge]], ["mtu_request"])
    values = as_set(rows[0]["mtu_request"]) if rows else []
    return values[0] if values and isinstance(values[0], int) else 0


def request_mtu(settings: Settings, mtu: int) -> None:
    """Have Open vSwitch keep this MTU of the bridge's own port, which it else derives from other ports (0)."""
    row = {"mtu_request": mtu if mtu > 0 else ["set", []]}
    where = [["name", "==", settings.bridge]]
    with Ovsdb(settings.ovsdb) as database:
        database.transact({"op": "update", "table": "Interface", "where": where, "row": row})
