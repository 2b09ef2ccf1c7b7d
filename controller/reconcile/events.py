"""The words between the core and the shells: events that come in, commands that go out.

All are frozen values. A shell posts events and carries out commands; it decides nothing about policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controller.reconcile.meters import NO_METER_CHANGES, MeterChanges, MeterReport
from flows.bridge.connection_peer import NO_PEER, ConnectionPeer
from flows.bridge.state import BridgeState
from flows.cluster.model import Cluster, Key
from flows.cluster.net import Net
from flows.wire.values import NO_FLOW_CHANGES, Body, FlowChanges, FlowCounters, FlowKey, ForeignFlow


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a source that could not be taken as it stands: where (file or API object), which object and field,
    and why.

    `key` is the object's `Kind namespace/name` where it is known, else empty.
    """

    where: str
    key: str
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class ClusterChanged:
    """Every source has synced and this is the world now. `generation` grows with every reading of the sources.

    `touched` has kind and key (or name) of whatever may differ from the last one; None has everything compared.
    """

    cluster: Cluster
    problems: tuple[Problem, ...] = ()
    generation: int = 0
    touched: tuple[tuple[str, Key | str], ...] | None = None


@dataclass(frozen=True, slots=True)
class OvsdbPeer:
    """Who an OVSDB is connected to, before anything that comes through that connection."""

    ovsdb: str
    peer: ConnectionPeer


@dataclass(frozen=True, slots=True)
class BridgeChanged:
    """A bridge of ours appeared in an OVSDB, or something about it changed."""

    bridge: BridgeState


@dataclass(frozen=True, slots=True)
class BridgeGone:
    """A bridge is no longer in its OVSDB (not: its OVSDB connection is away, which changes nothing)."""

    ovsdb: str
    name: str


@dataclass(frozen=True, slots=True)
class OvsdbState:
    """An OVSDB connection came up (`synced`: its contents were read) or went away."""

    ovsdb: str
    synced: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class MarksWritten:
    """The answer to WriteMarks: OVSDB has committed these flags, by row uuid. Interfaces that are gone are left
    out."""

    ovsdb: str
    interfaces: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class SwitchUp:
    """An OpenFlow session was negotiated. `session` is unique within the process; a newer one replaces an older."""

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
    """The whole answer to the DumpFlows of that number: in `flows` our own (learned ones left out) that are not among
    those it named as known, and None for known ones that are not there; counters, how many flows are foreign, and the
    first of the foreign flows that stand in tables of ours. `meters` is None where the switch says nothing of them."""

    dpid: int
    session: int
    number: int
    flows: Mapping[FlowKey, Body | None]
    counters: Mapping[FlowKey, FlowCounters]
    foreign: int
    foreign_flows: tuple[ForeignFlow, ...] = ()
    meters: MeterReport | None = None


@dataclass(frozen=True, slots=True)
class FlowsDisturbed:
    """Somebody else changed flows of a switch: how many of ours are gone, were changed or were added, and how many
    foreign flows changed in tables of ours. `unknown`: the switch could not say all of it."""

    dpid: int
    session: int
    removed: int = 0
    modified: int = 0
    added: int = 0
    foreign: int = 0
    unknown: bool = False

    @property
    def changes(self) -> dict[str, int]:
        """How many flows were changed in each way, those that were."""
        counts = {"removed": self.removed, "modified": self.modified, "added": self.added, "foreign": self.foreign}
        return {name: count for name, count in counts.items() if count}


@dataclass(frozen=True, slots=True)
class BundleDone:
    """The switch has committed bundle `number`."""

    dpid: int
    session: int
    number: int


@dataclass(frozen=True, slots=True)
class BundleFailed:
    """The switch refused bundle `number`, or did not answer; nothing of it is in force. `no_meters` says that it was
    refused for its meters, which the switch cannot have."""

    dpid: int
    session: int
    number: int
    reason: str
    no_meters: bool = False


@dataclass(frozen=True, slots=True)
class DumpFailed:
    """The switch could not be asked for its flows."""

    dpid: int
    session: int
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class NodeAnswered:
    """These are all addresses, beyond those that everybody knows, that a switch's node answers for."""

    dpid: int
    session: int
    addresses: tuple[Net, ...]


@dataclass(frozen=True, slots=True)
class MarksFailed:
    """WriteMarks could not be handed over: these interfaces, by row uuid, are as they were."""

    ovsdb: str
    interfaces: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed: retries that are due may start."""


Event = (
    ClusterChanged
    | BridgeChanged
    | BridgeGone
    | OvsdbPeer
    | OvsdbState
    | MarksWritten
    | MarksFailed
    | SwitchUp
    | SwitchDown
    | FlowsDumped
    | FlowsDisturbed
    | BundleDone
    | BundleFailed
    | DumpFailed
    | NodeAnswered
    | Tick
)


@dataclass(frozen=True, slots=True)
class DumpFlows:
    """Ask a switch for all its flows; the answer is FlowsDumped.

    `known` are flows that it may well have, which nobody changes: the answer names only what differs. `all_counters`
    asks for those of all flows, not only of those that count for a rule or a denial.
    """

    dpid: int
    session: int
    number: int
    known: Mapping[FlowKey, Body]
    all_counters: bool = True


@dataclass(frozen=True, slots=True)
class SendBundle:
    """Send `changes` as one atomic, ordered bundle; the answer is BundleDone or BundleFailed. Meters, which no bundle
    takes, are made before it, and removed after it. `marks` goes into the bundle too, and changes nothing for packets:
    see `flows.render.cache_marks`."""

    dpid: int
    session: int
    number: int
    changes: FlowChanges
    meters: MeterChanges = NO_METER_CHANGES
    marks: FlowChanges = NO_FLOW_CHANGES

    @property
    def all_changes(self) -> FlowChanges:
        """All flows that the bundle changes."""
        adds, modifies, deletes = (ours + marks for ours, marks in zip(self.changes, self.marks, strict=True))
        return FlowChanges(adds, modifies, deletes)


@dataclass(frozen=True, slots=True)
class WriteMarks:
    """Write or remove `headgate-installed=true` on Interfaces of one OVSDB, by row uuid."""

    ovsdb: str
    interfaces: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class ServePeer:
    """An OpenFlow session of this peer takes the place of any other that speaks for the datapath id."""

    dpid: int
    peer: ConnectionPeer


@dataclass(frozen=True, slots=True)
class ForgetOvsdb:
    """An OVSDB that is away is not expected any more; should it come back it comes as a new one."""

    ovsdb: str


@dataclass(frozen=True, slots=True)
class ProbeNode:
    """The node of a switch answered for these addresses in an earlier session: ask whether it still does."""

    dpid: int
    session: int
    addresses: tuple[Net, ...]


Command = DumpFlows | SendBundle | WriteMarks | ServePeer | ForgetOvsdb | ProbeNode
