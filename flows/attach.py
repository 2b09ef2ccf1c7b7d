"""Which pod is behind which port: the reading of a bridge's Interface records against the cluster.

Input is what OVSDB says, as plain values; output is what the renderer needs of a switch. OVSDB contents are untrusted:
whatever does not fit is named as a problem and gets no attachment, so that its port passes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from flows.model import Key
from flows.net import Net


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

    `ovsdb` names the OVSDB connection (unique within the process), `dpid` is the datapath id, 0 while unknown; `datapath_type` is OVSDB's ("" and
    "system" are the kernel's, "netdev" and "dummy" userspace).
    """

    ovsdb: str
    name: str
    dpid: int = 0
    hostname: str = ""
    system_id: str = ""
    datapath_type: str = ""
    ovs_version: str = ""
    interfaces: tuple[InterfaceState, ...] = ()

    @property
    def node(self) -> str:
        """The node's name: Open_vSwitch.external_ids:hostname, else system-id."""
        return self.hostname or self.system_id


@dataclass(frozen=True, slots=True)
class Attachment:
    """A pod on a port. `mac` is None where nothing says it; `addresses` may be empty, then nothing passes yet."""

    ofport: int
    interface: str
    pod: Key
    mac: int | None
    addresses: tuple[Net, ...]


@dataclass(frozen=True, slots=True)
class SwitchView:
    """What rendering needs to know of one switch."""

    node_addresses: tuple[Net, ...] = ()
    local_mac: int | None = None
    uplink: int | None = None
    attachments: tuple[Attachment, ...] = ()
    userspace: bool = False
