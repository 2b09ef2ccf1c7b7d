"""Commands: what the reconciler has the shells do. They are frozen values.

Every command to a switch ends in an event with the same session and number, or with the end of the session. A shell
carries out commands and decides nothing about policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controller.reconcile.events import DnsPacket
from controller.reconcile.meters import NO_METER_CHANGES, MeterChanges
from flows.bridge.connection_peer import ConnectionPeer
from flows.bridge.network import NodeNetwork
from flows.cluster.net import Net
from flows.openflow.group import NatTarget
from flows.wire.values import NO_FLOW_CHANGES, NO_GROUP_CHANGES, Body, FlowChanges, FlowKey, GroupBody, GroupChanges


@dataclass(frozen=True, slots=True)
class DumpFlows:
    """Request all flows and meters of a switch. Ends in FlowsDumped or DumpFailed.

    `expected` are the flows that it should have: the answer names only what differs from them. The mapping must not
    change. `all_counters` requests the counters of all flows, not only of those that count for a rule or a denial.
    `groups` are the groups that it should have, likewise; None does not ask for groups.
    """

    dpid: int
    session: int
    number: int
    expected: Mapping[FlowKey, Body]
    all_counters: bool = True
    groups: Mapping[int, GroupBody] | None = None


@dataclass(frozen=True, slots=True)
class SendBundle:
    """Send `changes` and `cache_marks` as one atomic, ordered bundle. Ends in BundleDone or BundleFailed.

    A bundle cannot hold meters: they are made before it, since its flows refer to them, and deleted after it.
    `cache_marks` changes nothing for packets (see `flows.render.cache_marks`). Groups are added and modified before
    flows, since these refer to them, and deleted after. `names_only`: it changes only flows of what pods learned of
    domain names, of which each is right without the others.
    """

    dpid: int
    session: int
    number: int
    changes: FlowChanges
    meters: MeterChanges = NO_METER_CHANGES
    cache_marks: FlowChanges = NO_FLOW_CHANGES
    groups: GroupChanges = NO_GROUP_CHANGES
    names_only: bool = False

    @property
    def all_changes(self) -> FlowChanges:
        """All flows that the bundle changes."""
        adds, modifies, deletes = (ours + marks for ours, marks in zip(self.changes, self.cache_marks, strict=True))
        return FlowChanges(adds, modifies, deletes)


@dataclass(frozen=True, slots=True)
class WriteMarks:
    """Set (True) or remove (False) `headgate-installed=true` on Interfaces of one OVSDB, by row uuid.

    Ends in MarksWritten or MarksFailed.
    """

    ovsdb: str
    interfaces: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class SetNetwork:
    """From now on a bridge has these settings of the network in its OVSDB; None: leave them as they are."""

    ovsdb: str
    bridge: str
    network: NodeNetwork | None


@dataclass(frozen=True, slots=True)
class ServePeer:
    """Let this peer's OpenFlow session replace any other session of the datapath id."""

    dpid: int
    peer: ConnectionPeer


@dataclass(frozen=True, slots=True)
class ForgetOvsdb:
    """Expect an OVSDB that is away no more. If it connects again it is a new one."""

    ovsdb: str


@dataclass(frozen=True, slots=True)
class ProbeNode:
    """Probe the addresses that a switch's node answered for in an earlier session. Ends in NodeAnswered."""

    dpid: int
    session: int
    addresses: tuple[Net, ...]


@dataclass(frozen=True, slots=True)
class FlushConnections:
    """Have a switch delete the UDP connections that were translated to these endpoints; a target without address and
    port is every endpoint of its zone. FlushRefused follows if the switch cannot."""

    dpid: int
    session: int
    targets: tuple[NatTarget, ...]


@dataclass(frozen=True, slots=True)
class ReleasePackets:
    """Let packets that a switch handed over go on: each passes the pipeline again, marked as released."""

    dpid: int
    session: int
    packets: tuple[DnsPacket, ...]


@dataclass(frozen=True, slots=True)
class KeepListening:
    """Renew the flow by which a switch hands over packets of DNS. It ends by itself after LISTENING_SECONDS."""

    dpid: int
    session: int


@dataclass(frozen=True, slots=True)
class RequestRole:
    """Request the role PRIMARY in this generation, or SECONDARY (None). Ends in RoleChanged or RoleRefused."""

    dpid: int
    session: int
    generation: int | None


@dataclass(frozen=True, slots=True)
class WriteTo:
    """From now on write to these OVSDBs only; None: to all.

    The switches of those in `primary` have said that this replica is their primary.
    """

    ovsdbs: frozenset[str] | None
    primary: frozenset[str] = frozenset()


Command = (
    DumpFlows
    | SendBundle
    | WriteMarks
    | SetNetwork
    | ServePeer
    | ForgetOvsdb
    | ProbeNode
    | FlushConnections
    | ReleasePackets
    | KeepListening
    | RequestRole
    | WriteTo
)
