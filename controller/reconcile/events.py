"""Events: what the shells report to the reconciler. They are frozen values.

An event of a switch names its OpenFlow session, so that one of an earlier session is recognized; the answer to a
command (see `commands`) also has that command's number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.reconcile.meters import MeterCounters, MeterReport
from controller.reconcile.ownership import Member, View
from controller.reconcile.problem import Problem
from flows.bridge.connection_peer import NO_PEER, ConnectionPeer
from flows.bridge.state import BridgeState
from flows.cluster.model import Cluster, Key
from flows.cluster.net import Net
from flows.wire.values import Body, FlowCounters, FlowKey, ForeignFlow, GroupBody


@dataclass(frozen=True, slots=True)
class ClusterChanged:
    """A new snapshot, after all sources have synced. `generation` grows whenever the sources are read again.

    `changed` has kind and key (or name) of the objects that may differ from the last snapshot; None has all compared.
    """

    cluster: Cluster
    problems: tuple[Problem, ...] = ()
    generation: int = 0
    changed: tuple[tuple[str, Key | str], ...] | None = None


@dataclass(frozen=True, slots=True)
class OvsdbPeer:
    """The peer of an OVSDB connection. It comes before all other events of that connection."""

    ovsdb: str
    peer: ConnectionPeer


@dataclass(frozen=True, slots=True)
class BridgeChanged:
    """One of the bridges that Headgate programs is new in an OVSDB, or has changed."""

    bridge: BridgeState


@dataclass(frozen=True, slots=True)
class BridgeGone:
    """A bridge was removed from its OVSDB. The end of an OVSDB connection is OvsdbState, and removes nothing."""

    ovsdb: str
    name: str


@dataclass(frozen=True, slots=True)
class OvsdbState:
    """An OVSDB was read (`synced`) or its connection ended.

    Synced with a `reason`: this is a second connection, to a database that another name already stands for.
    """

    ovsdb: str
    synced: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class MarksWritten:
    """The answer to WriteMarks: OVSDB has committed these marks, by row uuid of the Interface. Interfaces that are gone
    are left out."""

    ovsdb: str
    interfaces: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class SwitchUp:
    """An OpenFlow session was negotiated. `session` is unique within the process; it replaces an older session."""

    dpid: int
    session: int
    peer: ConnectionPeer = NO_PEER


@dataclass(frozen=True, slots=True)
class SwitchDown:
    """An OpenFlow session ended."""

    dpid: int
    session: int


@dataclass(frozen=True, slots=True)
class FlowsDumped:
    """The whole answer to the DumpFlows with that number.

    `flows` has Headgate's flows (not learned ones) that differ from that command's `expected`, and None for expected
    ones that the switch does not have. `foreign` counts the flows without Headgate's cookie; `foreign_flows` are the
    first of those in Headgate's tables. `meters` is None where the switch refuses to report meters. `groups` has the
    groups that differ, as `flows` does; None where the switch was not asked.
    """

    dpid: int
    session: int
    number: int
    flows: Mapping[FlowKey, Body | None]
    counters: Mapping[FlowKey, FlowCounters]
    foreign: int
    foreign_flows: tuple[ForeignFlow, ...] = ()
    meters: MeterReport | None = None
    groups: Mapping[int, GroupBody | None] | None = None


@dataclass(frozen=True, slots=True)
class FlowsDrifted:
    """Something other than this controller changed flows of a switch.

    How many of Headgate's flows were removed, modified or added, and how many foreign flows changed in its tables.
    `unknown`: the switch could not report all changes.
    """

    dpid: int
    session: int
    removed: int = 0
    modified: int = 0
    added: int = 0
    foreign: int = 0
    unknown: bool = False

    @property
    def changes(self) -> dict[str, int]:
        """The counts that are not 0, by name."""
        counts = {"removed": self.removed, "modified": self.modified, "added": self.added, "foreign": self.foreign}
        return {name: count for name, count in counts.items() if count}


@dataclass(frozen=True, slots=True)
class BundleDone:
    """The switch has committed bundle `number`. `ended` has what the meters that went with it had counted."""

    dpid: int
    session: int
    number: int
    ended: Mapping[int, MeterCounters] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BundleFailed:
    """The switch refused bundle `number`, or did not answer. Of one that it was told to commit at once, or did not
    answer, changes may be in force.

    `no_meters`: it refused because it cannot have the meters.
    """

    dpid: int
    session: int
    number: int
    reason: str
    no_meters: bool = False


@dataclass(frozen=True, slots=True)
class DumpFailed:
    """Dump `number` failed."""

    dpid: int
    session: int
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class FlushRefused:
    """A switch cannot carry out FlushConnections."""

    dpid: int
    session: int
    reason: str


@dataclass(frozen=True, slots=True)
class NodeAnswered:
    """All addresses that a switch's node answers for, apart from those that are known otherwise."""

    dpid: int
    session: int
    addresses: tuple[Net, ...]


@dataclass(frozen=True, slots=True)
class DnsPacket:
    """A switch handed over a packet of DNS (`flows.render.answers`): the copy of a pod's query, or what a server sends
    to a pod, which goes on only by ReleasePackets.

    `ofport` is the pod's, `in_port` (32 bits) where the packet came in, and `tunnel` the ends of the tunnel that it
    came through: the other one and our own.
    """

    dpid: int
    session: int
    ofport: int
    in_port: int
    frame: bytes
    tunnel: tuple[Net, Net] | None = None


@dataclass(frozen=True, slots=True)
class MarksFailed:
    """WriteMarks failed: these marks, by row uuid of the Interface, were not written."""

    ovsdb: str
    interfaces: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class ReplicasChanged:
    """The view of the replicas was read, or could not be; `me` is this process.

    `view` is the newest that is known, None before the first. `read_at` is when the reading of it began, and until
    `ask_until` switches may be asked for roles (both of a monotonic clock). `alone`: there are no other replicas, and
    no roles.
    """

    me: Member
    view: View | None
    read_at: float = 0.0
    ask_until: float = 0.0
    alone: bool = False


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """The switch says which role this session has, and the generation of the last role request that it took."""

    dpid: int
    session: int
    primary: bool
    generation: int


@dataclass(frozen=True, slots=True)
class RoleRefused:
    """The switch refused the role PRIMARY in this generation, because it has seen the generation `newest`."""

    dpid: int
    session: int
    asked: int
    newest: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed: what is due is done."""


OpenFlowEvent = (
    SwitchUp
    | SwitchDown
    | FlowsDumped
    | FlowsDrifted
    | BundleDone
    | BundleFailed
    | DumpFailed
    | FlushRefused
    | NodeAnswered
    | DnsPacket
    | RoleChanged
    | RoleRefused
)
OvsdbEvent = BridgeChanged | BridgeGone | OvsdbPeer | OvsdbState | MarksWritten | MarksFailed
Event = ClusterChanged | OvsdbEvent | OpenFlowEvent | ReplicasChanged | Tick
