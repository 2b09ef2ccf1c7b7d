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
    """One bridge that Headgate owns, as OVSDB has it. The interface that has the bridge's own name is its LOCAL port.

    `ovsdb` names the OVSDB connection (unique within the process), `dpid` is the datapath id, 0 while unknown;
    `datapath_type` is OVSDB's ("" and
    "system" are the kernel's, "netdev" and "dummy" userspace). `metered` and `meant` do not come from OVSDB: the limits
    for which the switch has meters, and the Node whose name the host name means, where it is not the same.
    `said_addresses` is what stands there of more addresses of the node, `node_addresses` are those of them that count;
    `said_own` are those that the node itself answered for when it was asked, `answered` are those of them that count.
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
    meant: str = ""
    said_addresses: str = ""
    node_addresses: tuple[Net, ...] = ()
    said_own: tuple[Net, ...] = ()
    answered: tuple[Net, ...] = ()

    @property
    def answers(self) -> tuple[Net, ...] | None:
        """The addresses that the node answered for and that count; None where it cannot be asked."""
        return self.answered if Limit.QUESTIONS in self.metered else None

    @property
    def node(self) -> str:
        """The node's name: the Node that the host name means, else what it claims."""
        return self.meant or self.claimed

    @property
    def claimed(self) -> str:
        """What it says of its node: Open_vSwitch.external_ids:hostname, else system-id."""
        return self.hostname or self.system_id


class Agreement(NamedTuple):
    """In what a port's own words are the Pod's: its addresses are the status's (1), others (-1), or not said or not
    known (0); and it names the pod's uid."""

    addresses: int = 0
    uid: bool = False


NO_AGREEMENT = Agreement()


@dataclass(frozen=True, slots=True)
class Attachment:
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
    agrees: Agreement = NO_AGREEMENT


@dataclass(frozen=True, slots=True)
class SwitchView:
    """What rendering needs to know of one switch. `answered` are addresses that the node answered for; None where it is
    not asked."""

    node_addresses: tuple[Net, ...] = ()
    local_mac: int | None = None
    uplink: int | None = None
    attachments: tuple[Attachment, ...] = ()
    userspace: bool = False
    answered: tuple[Net, ...] | None = None


class OwnPorts(NamedTuple):
    """All that the flows of a bridge itself depend on."""

    node_addresses: tuple[Net, ...] = ()
    local_mac: int | None = None
    uplink: int | None = None
    answered: tuple[Net, ...] | None = None


@dataclass(frozen=True, slots=True)
class PortProblem:
    """A port that passes nothing, or not everything, and why."""

    interface: str
    reason: str


class Reading(NamedTuple):
    """What a bridge's interfaces come to: the switch to render, and the ports that do not fit."""

    view: SwitchView
    problems: tuple[PortProblem, ...]


# What stands on one port: a pod, nothing usable, an uplink, or the bridge itself (None).
PortReading = Attachment | PortProblem | InterfaceState | None
USERSPACE_DATAPATHS = frozenset({"netdev", "dummy"})
