"""Whether tunnels can leave the userspace datapath: it sends them only through a bridge that has the node's address.

A node is set up all the same, for pods on it reach each other: what is missing is told.
"""

from __future__ import annotations

from node import host_moved
from node.addresses import text_of
from node.facts import BridgeFacts
from node.host_settings import Settings
from node.ovsdb import Ovsdb

OVERLAY = "overlay"
_REASON = (
    "pods of other nodes are not reached, for the userspace datapath tunnels only through a bridge that has the Node's "
    "InternalIP"
)


def missing(settings: Settings, facts: BridgeFacts) -> str:
    """What keeps pods of other nodes away and what to do, "" if nothing does. Raises NodeError."""
    if facts.network != OVERLAY or not facts.userspace or not facts.node_ips:
        return ""
    if set(facts.cluster_cidrs) <= set(facts.pod_cidrs):
        return ""  # no other node has pods
    own = {text_of(address) for address in facts.node_ips}
    holders = _holders(own)
    if not holders or any(_is_bridge_port(settings, name) for name in holders):
        return ""  # without any, `host_routes` has raised
    first = "node-undo.sh, then node.sh" if settings.underlay else "node.sh again"
    return f"{_REASON}, which {holders[0]} has: run {first} with --underlay {holders[0]}"


def _holders(addresses: set[str]) -> list[str]:
    """The interfaces that have one of these addresses."""
    found = []
    for link in host_moved.parse(["ip", "-j", "addr", "show"]):
        listed = link.get("addr_info")
        if any(one.get("local") in addresses for one in (listed if isinstance(listed, list) else [])):
            found.append(str(link["ifname"]))
    return found


def _is_bridge_port(settings: Settings, name: str) -> bool:
    """Whether Open vSwitch made the interface."""
    with Ovsdb(settings.ovsdb) as database:
        return any(row["type"] == "internal" for row in database.select("Interface", [["name", "==", name]], ["type"]))
