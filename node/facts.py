"""What the controller wrote for this node into external_ids of its bridge, as checked values.

The controller is the only one who writes these keys; the texts are checked all the same, and nothing is guessed.
"""

from __future__ import annotations

from node.addresses import Cidr, parse_address, parse_cidr
from node.errors import NodeError
from node.ovsdb import Ovsdb, as_map, as_uuid
from node.quick import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")
BRIDGE = "br-int"
ROUTING_MODES = ("routed", "overlay")
MAX_LIST = 64  # ranges or addresses of one key
MAX_CLUSTER = 8192  # ranges of the whole cluster: at most some for each node, where they cannot be joined
MIN_MTU, MAX_MTU = 576, 65535
USERSPACE = "netdev"
REVISION_FILE = "node-revision"  # in the run folder: the revision that headgate-node has applied


class BridgeFacts(NamedTuple):
    """One bridge. `network` is flat, routed or overlay, "" before the controller wrote it; `node_ports` are the first
    and the last node port; `revision` changes with any of the values."""

    uuid: str
    name: str
    datapath_type: str
    network: str
    encap: str
    pod_cidrs: tuple[Cidr, ...]
    cluster_cidrs: tuple[Cidr, ...]
    service_cidrs: tuple[Cidr, ...]
    node_ips: tuple[bytes, ...]
    mtu: int
    node_ports: tuple[int, int] | None
    revision: str

    @property
    def userspace(self) -> bool:
        """Whether the datapath is the userspace one, which needs whole checksums."""
        return self.datapath_type == USERSPACE

    def missing(self) -> str:
        """Why no pod can be attached with these facts, "" if one can."""
        if not self.network:
            return (
                f"the controller has not yet written into the bridge {self.name}: it must run with --network overlay "
                "or routed, and this node must reach it"
            )
        if self.network not in ROUTING_MODES:
            return f"the controller runs with --network {self.network}, in which pods come from another CNI plugin"
        if not self.pod_cidrs:
            return "this node has no pod CIDR: the Node object has no spec.podCIDRs, or Headgate refused them"
        return ""


def read_facts(database: Ovsdb, bridge: str = BRIDGE) -> BridgeFacts:
    """The facts of a bridge. Raises NodeError where there is no such bridge or one of the texts is invalid."""
    rows = database.select("Bridge", [["name", "==", bridge]], ["_uuid", "datapath_type", "external_ids"])
    if not rows:
        raise NodeError(f"Open vSwitch has no bridge {bridge}: run deploy/node.sh --cni on this node")
    return parse_facts(
        bridge, as_uuid(rows[0]["_uuid"]), str(rows[0]["datapath_type"]), as_map(rows[0]["external_ids"])
    )


def parse_facts(bridge: str, uuid: str, datapath_type: str, ids: dict[str, str]) -> BridgeFacts:
    """Facts from the external_ids of a bridge. Raises NodeError that names the key of an invalid text."""
    return BridgeFacts(
        uuid=uuid,
        name=bridge,
        datapath_type=datapath_type,
        network=_word(ids, "headgate-network"),
        encap=_word(ids, "headgate-encap"),
        pod_cidrs=_list(ids, "headgate-pod-cidrs", parse_cidr),
        cluster_cidrs=_list(ids, "headgate-cluster-cidrs", parse_cidr, MAX_CLUSTER),
        service_cidrs=_list(ids, "headgate-service-cidrs", parse_cidr),
        node_ips=_list(ids, "headgate-node-ips", parse_address),
        mtu=_mtu(ids.get("headgate-mtu", "")),
        node_ports=_ports(ids.get("headgate-node-ports", "")),
        revision=_word(ids, "headgate-revision"),
    )


def _word(ids: dict[str, str], key: str) -> str:
    text = ids.get(key, "")
    if len(text) > 200 or not text.isprintable():
        raise NodeError(f"external_ids:{key} of the bridge is no single word")
    return text


def _list(ids: dict[str, str], key: str, parse: Callable[[str], T], most: int = MAX_LIST) -> tuple[T, ...]:
    words = ids.get(key, "").replace(",", " ").split()
    if len(words) > most:
        raise NodeError(f"external_ids:{key} of the bridge has {len(words)} entries, more than {most}")
    try:
        return tuple(parse(word) for word in words)
    except NodeError as error:
        raise NodeError(f"external_ids:{key} of the bridge: {error}") from None


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else -1


def _mtu(text: str) -> int:
    if not text:
        return 1500
    if not MIN_MTU <= _number(text) <= MAX_MTU:
        raise NodeError(f"external_ids:headgate-mtu of the bridge: {text[:20]!r} is not within {MIN_MTU}-{MAX_MTU}")
    return _number(text)


def _ports(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    first, _, last = text.partition("-")
    if not 0 < _number(first) <= _number(last) <= 65535:
        raise NodeError(f"external_ids:headgate-node-ports of the bridge: {text[:20]!r} is no range of ports")
    return _number(first), _number(last)
