"""A bridge and its interfaces as OVSDB has them, and their binding to pods, as frozen values.

Only values live here: `binding` makes a Binding from a BridgeState, `reader` does so incrementally.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from flows.bridge.routing import FLAT, Routing
from flows.cluster.model import Key
from flows.cluster.net import Net
from flows.pipeline.pod_limits import Limit


@dataclass(frozen=True, slots=True)
class InterfaceState:
    """One OVSDB Interface of the bridge. `ofport` is None until the switch has assigned one, and where it could not."""

    uuid: str
    name: str
    ofport: int | None = None
    mac_in_use: str = ""
    external_ids: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class BridgeState:
    """One bridge that Headgate owns, as OVSDB has it. The interface with the bridge's own name is its LOCAL port.

    `ovsdb` names the OVSDB connection (unique within the process). `dpid` is the datapath id, 0 while unknown.
    `datapath_type` is OVSDB's: "" and "system" are the kernel datapath, "netdev" and "dummy" the userspace datapath.

    Not from OVSDB are: `metered`, the limits for which the switch has meters; `matched_node`, the Node that the host
    name stands for, where their names differ; and the addresses below.

    `node_addresses_text` is external_ids:headgate-node-addresses of the bridge, and `node_addresses` the addresses in
    it that no pod has. `answered_addresses` are those that the node answered probes for, and `confirmed_addresses`
    those of them that no pod has.

    `routing` is what the bridge must know to route, from Node objects and options. `node_revision` and `node_missing`
    are untrusted text of the node itself: the settings of the network that it has applied, and what it lacks.
    """

    ovsdb: str
    name: str
    dpid: int = 0
    hostname: str = ""
    system_id: str = ""
    datapath_type: str = ""
    ovs_version: str = ""
    interfaces: tuple[InterfaceState, ...] = ()
    metered: tuple[Limit, ...] = ()
    matched_node: str = ""
    node_addresses_text: str = ""
    node_addresses: tuple[Net, ...] = ()
    answered_addresses: tuple[Net, ...] = ()
    confirmed_addresses: tuple[Net, ...] = ()
    routing: Routing = FLAT
    node_revision: str = ""
    node_missing: str = ""

    @property
    def confirmed_if_probed(self) -> tuple[Net, ...] | None:
        """`confirmed_addresses`; None where the node cannot be probed, because the switch has no meters."""
        return self.confirmed_addresses if Limit.COPIES in self.metered else None

    @property
    def node(self) -> str:
        """The node's name: the Node that the host name stands for, else `claimed_node`."""
        return self.matched_node or self.hostname or self.system_id

    @property
    def claimed_node(self) -> str:
        """The node as OVSDB has it: Open_vSwitch.external_ids:headgate-node-name, else hostname, else system-id."""
        return self.hostname or self.system_id


class Agreement(NamedTuple):
    """How far a port's external_ids agree with the Pod object.

    `addresses` is 1 where all its addresses are in the Pod's status, -1 where one is not, 0 where either has none.
    `uid` is True where iface-id-ver is the Pod's uid.
    """

    addresses: int = 0
    uid: bool = False


NO_AGREEMENT = Agreement()


class PodBinding(NamedTuple):
    """One pod on one port.

    `mac` is None where OVSDB has none. `addresses` may be empty: then nothing passes yet. `limits` are those that apply
    to the pod. `problem` says which of its addresses are refused, and why. `agreement` decides between several ports of
    one pod.
    """

    ofport: int
    interface: str
    pod: Key
    mac: int | None
    addresses: tuple[Net, ...]
    limits: tuple[Limit, ...] = ()
    problem: str = ""
    agreement: Agreement = NO_AGREEMENT


@dataclass(frozen=True, slots=True)
class Binding:
    """All of a bridge that its flows depend on, apart from policy: which pod is behind which port, and the node's own
    ports and addresses.

    `local_mac` is the MAC address of the LOCAL port, `uplink` an ofport. `confirmed_addresses` are those that the node
    answered probes for; None where it is not probed. `tunnel` is the ofport that all tunnels go through, in mode
    `overlay`.
    """

    node_addresses: tuple[Net, ...] = ()
    local_mac: int | None = None
    uplink: int | None = None
    pods: tuple[PodBinding, ...] = ()
    userspace: bool = False
    confirmed_addresses: tuple[Net, ...] | None = None
    routing: Routing = FLAT
    tunnel: int | None = None


class BridgeBinding(NamedTuple):
    """A Binding without its pods: what the flows of the bridge itself depend on."""

    node_addresses: tuple[Net, ...] = ()
    local_mac: int | None = None
    uplink: int | None = None
    confirmed_addresses: tuple[Net, ...] | None = None
    routing: Routing = FLAT
    tunnel: int | None = None


@dataclass(frozen=True, slots=True)
class PortProblem:
    """Why a port carries no pod, or not all of a pod's addresses."""

    interface: str
    reason: str


class BindingResult(NamedTuple):
    """What reading a bridge gives: the binding to render, and the problems of its ports."""

    binding: Binding
    problems: tuple[PortProblem, ...]


# What one port is used for, looked at alone: a pod, an uplink (its InterfaceState), nothing because of a problem, or
# the bridge's LOCAL port (None).
PortUse = PodBinding | PortProblem | InterfaceState | None
USERSPACE_DATAPATHS = frozenset({"netdev", "dummy"})
