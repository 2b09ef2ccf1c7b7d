"""A bridge and its interfaces as OVSDB says them, and what they come to, as frozen values. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from flows.cluster.model import Key
from flows.cluster.net import Net
from flows.pipeline.pod_limits import Limit


@dataclass(frozen=True, slots=True)
class InterfaceState:
    """One OVSDB Interface of the bridge. `ofport` is None until the switch has given one (or failed to, -1)."""

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

    @property
    def confirmed_if_probed(self) -> tuple[Net, ...] | None:
        """The addresses that the node answered for and that count; None where it cannot be asked."""
        return self.confirmed_addresses if Limit.COPIES in self.metered else None

    @property
    def node(self) -> str:
        """The node's name: the Node that the host name means, else what it claims."""
        return self.matched_node or self.claimed_node

    @property
    def claimed_node(self) -> str:
        """What it says of its node: Open_vSwitch.external_ids:hostname, else system-id."""
        return self.hostname or self.system_id


class Agreement(NamedTuple):
    """In what a port's own words are the Pod's: its addresses are the status's (1), others (-1), or not said or not
    known (0); and it names the pod's uid."""

    addresses: int = 0
    uid: bool = False


NO_AGREEMENT = Agreement()


@dataclass(frozen=True, slots=True)
class PodBinding:
    """A pod on a port. `mac` is None where nothing says it; `addresses` may be empty, then nothing passes yet. `limits`
    are those that hold for it, `problem` says which of its addresses count for nothing, and why. `agrees` says in what
    the port says of itself what the Pod says, which decides between several ports of one pod."""

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
    """What rendering needs to know of one switch. `answered` are addresses that the node answered for; None where it is
    not asked."""

    node_addresses: tuple[Net, ...] = ()
    local_mac: int | None = None
    uplink: int | None = None
    pods: tuple[PodBinding, ...] = ()
    userspace: bool = False
    confirmed_addresses: tuple[Net, ...] | None = None


class BridgeBinding(NamedTuple):
    """All that the flows of a bridge itself depend on."""

    node_addresses: tuple[Net, ...] = ()
    local_mac: int | None = None
    uplink: int | None = None
    confirmed_addresses: tuple[Net, ...] | None = None


@dataclass(frozen=True, slots=True)
class PortProblem:
    """A port that passes nothing, or not everything, and why."""

    interface: str
    reason: str


class BindingResult(NamedTuple):
    """What a bridge's interfaces come to: the switch to render, and the ports that do not fit."""

    binding: Binding
    problems: tuple[PortProblem, ...]


# What stands on one port: a pod, nothing usable, an uplink, or the bridge itself (None).
PortUse = PodBinding | PortProblem | InterfaceState | None
USERSPACE_DATAPATHS = frozenset({"netdev", "dummy"})
