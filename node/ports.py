"""Pods' ports in the OVSDB: added and removed in one transaction each, and the wait for their policy.

A port is the plugin's if its interface's external_ids name the sandbox. What the controller reads of them:
`pod-namespace`, `pod-name`, `iface-id`, `iface-id-ver` (the pod's uid), `attached-mac` and `ip_addresses`.
"""

from __future__ import annotations

import time

from node.addresses import text_of
from node.cni_request import Attachment, Pod, is_port_name
from node.errors import TRY_AGAIN, CniError, NodeError
from node.facts import BridgeFacts
from node.ipam import Address
from node.ovsdb import Ovsdb, as_map, as_set, as_uuid, make_map
from node.quick import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from node.ovsdb import Operation, Row

SANDBOX, IFNAME = "headgate-sandbox", "headgate-ifname"
INSTALLED = "headgate-installed"  # the controller writes `true` when the port's policy is in force


class PodPort(NamedTuple):
    """A port of the plugin: its name and what its interface's external_ids say."""

    name: str
    external_ids: dict[str, str]

    @property
    def attachment(self) -> Attachment:
        """Whose it is."""
        return Attachment(self.external_ids.get(SANDBOX, ""), self.external_ids.get(IFNAME, ""))


def make_external_ids(attachment: Attachment, pod: Pod, mac: str, addresses: Sequence[Address]) -> dict[str, str]:
    """The external_ids of a pod's interface."""
    ids = {
        "pod-namespace": pod.namespace,
        "pod-name": pod.name,
        "iface-id": str(pod),
        "attached-mac": mac,
        "ip_addresses": " ".join(text_of(one.packed) for one in addresses),
        SANDBOX: attachment.container,
        IFNAME: attachment.ifname,
    }
    return {**ids, "iface-id-ver": pod.uid} if pod.uid else ids


def add_port(ovsdb: Ovsdb, bridge: BridgeFacts, name: str, external_ids: dict[str, str]) -> None:
    """Add a port to the bridge. Ports that earlier sandboxes of the same pod have left go in the same transaction: a
    pod has one sandbox, and two ports of a pod would get neither of them its policy. Raises OvsdbError."""
    pod = {key: external_ids[key] for key in ("pod-namespace", "pod-name")}
    earlier = [one.name for one in list_ports(ovsdb, pod) if one.attachment.container != external_ids[SANDBOX]]
    ovsdb.transact(
        # The bridge may have been deleted since; a port of no bridge would vanish without a word.
        {"op": "wait", "table": "Bridge", "where": _is(bridge.uuid), "columns": ["name"], "until": "==", "timeout": 0,
         "rows": [{"name": bridge.name}]},
        *_remove(ovsdb, [*earlier, name]),
        {"op": "insert", "table": "Interface", "uuid-name": "interface",
         "row": {"name": name, "external_ids": make_map(external_ids)}},
        {"op": "insert", "table": "Port", "uuid-name": "port",
         "row": {"name": name, "interfaces": ["named-uuid", "interface"]}},
        {"op": "mutate", "table": "Bridge", "where": _is(bridge.uuid),
         "mutations": [["ports", "insert", ["named-uuid", "port"]]]},
        {"op": "comment", "comment": f"headgate-node: add {name}"},
    )  # fmt: skip


def remove_port(ovsdb: Ovsdb, name: str) -> bool:
    """Remove a port from whatever bridge it is on. Returns whether there was one. Raises OvsdbError."""
    operations = _remove(ovsdb, [name])
    if operations:
        ovsdb.transact(*operations, {"op": "comment", "comment": f"headgate-node: remove {name}"})
    return bool(operations)


def list_ports(ovsdb: Ovsdb, external_ids: dict[str, str]) -> list[PodPort]:
    """The plugin's ports whose external_ids include these."""
    where = [["external_ids", "includes", make_map(external_ids)]] if external_ids else []
    rows = ovsdb.select("Interface", where, ["name", "external_ids"])
    ports = [PodPort(str(row["name"]), as_map(row["external_ids"])) for row in rows]
    return [port for port in ports if SANDBOX in port.external_ids and is_port_name(port.name)]


def find_port(ovsdb: Ovsdb, name: str) -> PodPort | None:
    """The plugin's port of that name, None if there is none."""
    row = _interface(ovsdb, name)
    return PodPort(name, as_map(row["external_ids"])) if row is not None else None


def wait_until_installed(ovsdb: Ovsdb, name: str, pod: Pod, timeout: float) -> None:
    """Wait until the controller has marked the port: its policy is in force. Raises CniError that says why not."""
    deadline = time.monotonic() + timeout
    ovsdb.watch("Interface", [["name", "==", name]], ["external_ids", "ofport", "error"])
    row: Row | None = None
    while ovsdb.wait_for_change(deadline):
        row = _interface(ovsdb, name)
        if row is None:
            raise CniError(TRY_AGAIN, f"the port of pod {pod} was removed while its policy was waited for")
        if as_map(row["external_ids"]).get(INSTALLED) == "true":
            return
        if as_set(row["ofport"]) == [-1]:
            error = " ".join(str(one) for one in as_set(row["error"]))
            raise CniError(TRY_AGAIN, f"Open vSwitch cannot use the port of pod {pod}: {error[:300]}")
    raise CniError(
        TRY_AGAIN, f"the policy of pod {pod} is not in force after {timeout:g} s: {_why_not(ovsdb, row, pod)}"
    )


def _why_not(ovsdb: Ovsdb, row: Row | None, pod: Pod) -> str:
    """What seems to be missing on this node."""
    if row is None or not as_set(row["ofport"]):
        return "ovs-vswitchd has not taken the port; is it running?"
    connected = [one.get("is_connected") for one in ovsdb.select("Controller", [], ["is_connected"])]
    if not any(one is True for one in connected):
        return "the switch has no connection to the controller"
    return f"the controller has not installed it; `headgate pod {pod}` says why"


def _interface(ovsdb: Ovsdb, name: str) -> Row | None:
    rows = ovsdb.select("Interface", [["name", "==", name]], ["external_ids", "ofport", "error"])
    return rows[0] if rows else None


def _remove(ovsdb: Ovsdb, names: Sequence[str]) -> list[Operation]:
    """The operations that take these ports from their bridges; the OVSDB deletes rows that nothing refers to."""
    uuids = [as_uuid(row["_uuid"]) for name in names for row in ovsdb.select("Port", [["name", "==", name]], ["_uuid"])]
    if len(set(uuids)) > 1000:
        raise NodeError("one pod has more than 1000 ports in the OVSDB")
    return [
        {"op": "mutate", "table": "Bridge", "where": [["ports", "includes", ["uuid", uuid]]],
         "mutations": [["ports", "delete", ["uuid", uuid]]]}
        for uuid in dict.fromkeys(uuids)
    ]  # fmt: skip


def _is(uuid: str) -> list[Any]:
    return [["_uuid", "==", ["uuid", uuid]]]
