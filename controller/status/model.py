"""The JSON contract of `/status`, `/wait` and `/flows`: frozen values, served field for field.

A field's name, type and meaning may not change without a note in CHANGELOG.md; docs/status.md documents them. `headgate
status` reads the JSON back into the same classes. How values are made: see `incremental` and `runtime.answers`; how
they are served: `http`; how they are shown: `cli`. The contract of the other pages: see `detail_model`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

STATUS_FORM = 1
WAIT_VERSION = 1


@dataclass(frozen=True, slots=True)
class SourceView:
    """One source of Kubernetes objects.

    `age` is in seconds since it was last known to be current, None before the first sync. `ignored` counts what is not
    read, by kind, like "Service (v1)" or "subfolders".
    """

    name: str
    kind: str
    synced: bool
    age: float | None = None
    problems: int = 0
    reason: str = ""
    ignored: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OvsdbView:
    """One OVSDB connection, made by Headgate or (`listening`) by the switch.

    `synced`: its contents were read at least once.
    """

    remote: str
    connected: bool
    synced: bool
    listening: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PortView:
    """A port of a bridge without a pod, other than the uplink and LOCAL, and why. All its traffic is dropped."""

    name: str
    ofport: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class SwitchView:
    """One bridge on one switch.

    `dpid` is 16 hex digits as ovs-vsctl prints it, empty while unknown. Flow counts are of Headgate's flows;
    `actual_flows` is None before the first dump. `commit_age` is in seconds since the last bundle that the switch
    committed, None when there was none. `in_sync`: its flows are realized. `limits` is why pods are not limited there,
    empty when they are; `answered` are addresses of the node, beyond those of its Node object, that it confirmed.
    `owner` is the replica that the switch belongs to, "" without replicas. `primary`: the switch has given this replica
    the role, in `generation` (16 hex digits), `owned_for` seconds ago; all three as of the replica that answers for it.
    `compare_age` is in seconds since all its flows were read and compared, None where they were not; changes that
    something else makes are reported at once on top of that.
    """

    node: str
    bridge: str
    dpid: str
    ovsdb: str
    ovsdb_connected: bool
    openflow_connected: bool
    datapath_type: str = ""
    ovs_version: str = ""
    uplink: str = ""
    desired_flows: int = 0
    actual_flows: int | None = None
    foreign_flows: int = 0
    in_sync: bool = False
    error: str = ""
    commit_age: float | None = None
    unbound_ports: tuple[PortView, ...] = ()
    limits: str = ""
    answered: tuple[str, ...] = ()
    owner: str = ""
    primary: bool = False
    generation: str = ""
    owned_for: float | None = None
    compare_age: float | None = None


# Of `NodeView.missing`: the switch of the node says the same.
NO_CONNECTION = "its switch has no OpenFlow connection to this controller"


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node of a network in which switches route; there are none in a flat network.

    `mode` is "routed" or "overlay". `tunnel_end` is the address to which its packets are tunneled, "" for none;
    `pod_cidrs` and `addresses` are those of its Node that no other node has. `missing` says what it lacks and how to
    mend it, a line each; it is `ready` where it lacks nothing.
    """

    node: str
    mode: str
    bridge: str = ""
    tunnel_end: str = ""
    pod_cidrs: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    ready: bool = False
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyView:
    """One NetworkPolicy. `key` is `namespace/name`, `isolates` holds "ingress" and "egress", `pods` counts the pods it
    selects. A ClusterNetworkPolicy has a name alone as `key`, a `tier` and a `priority`; `isolates` are the directions
    in which it has rules.

    `mode` is audit for a staged policy, audit-deletion for one whose deletion is staged, else "".
    `reason` is why it is not wholly realized; `notes` are parts of it that have no effect now, such as a peer that
    selects no pod, the first few.
    """

    key: str
    realized: bool
    reason: str = ""
    isolates: tuple[str, ...] = ()
    pods: int = 0
    notes: tuple[str, ...] = ()
    tier: str = ""
    priority: int = 0
    mode: str = ""


@dataclass(frozen=True, slots=True)
class PodView:
    """One pod that has a port, or should have one.

    `isolated` holds "ingress" and "egress"; `installed`: the policy of its port is realized; `programmed_after`
    is the time from the port's appearance to that, in seconds; `limited` counts packets that its limits dropped,
    `invalid` those that conntrack called invalid, as of the last dump.
    """

    key: str
    node: str
    port: str = ""
    ofport: int | None = None
    addresses: tuple[str, ...] = ()
    mac: str = ""
    isolated: tuple[str, ...] = ()
    installed: bool = False
    programmed_after: float | None = None
    reason: str = ""
    limited: int = 0
    invalid: int = 0


@dataclass(frozen=True, slots=True)
class ProblemView:
    """A problem: where (file, server or switch), in which object and field, and why."""

    where: str
    key: str
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class TlsView:
    """The controller's TLS.

    `expires` is the Unix time when the certificate in use expires; `problem` is why newer files are not in use, or that
    the certificate has expired; `refused` counts connection peers, `last_refused` describes the last of them.
    """

    certificate: str
    expires: float
    problem: str = ""
    refused: int = 0
    last_refused: str = ""


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """One replica of the controller, as the one that answers knows it.

    `member`: it is in the view, so that it owns switches; `alive`: its Lease is renewed; `age` is in seconds since it
    was seen to be. `owned` counts the switches that belong to it, `primary` those that have given it the role. `http`
    is where it answers; `reason` is why nothing is known of its switches, "" while they are.
    """

    name: str
    member: bool = False
    alive: bool = False
    age: float = 0.0
    version: str = ""
    http: str = ""
    owned: int = 0
    primary: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StatusView:
    """Everything in `/status`. `version` is Headgate's; `form` is that of this answer's form. `uptime` is in seconds;
    `waiting_for` is what StatusApi.ready() returns, empty when ready.

    `replica` is the name of the one that answers, `epoch` that of the view it knows, `replicas` are all; empty without.
    `plain` are the addresses of OpenFlow and OVSDB that are used without TLS over a network; `tls` is None without TLS.
    """

    version: str
    uptime: float
    waiting_for: tuple[str, ...] = ()
    sources: tuple[SourceView, ...] = ()
    ovsdb: tuple[OvsdbView, ...] = ()
    switches: tuple[SwitchView, ...] = ()
    policies: tuple[PolicyView, ...] = ()
    pods: tuple[PodView, ...] = ()
    problems: tuple[ProblemView, ...] = ()
    plain: tuple[str, ...] = ()
    tls: TlsView | None = None
    nodes: tuple[NodeView, ...] = ()
    replica: str = ""
    epoch: int = 0
    replicas: tuple[ReplicaView, ...] = ()
    form: int = STATUS_FORM


@dataclass(frozen=True, slots=True)
class WaitResult:
    """Whether everything in the sources and OVSDBs at the time of the request is realized; else what is missing.

    `version` is that of the form.
    """

    realized: bool
    missing: tuple[str, ...] = ()
    version: int = WAIT_VERSION


@dataclass(frozen=True, slots=True)
class FlowView:
    """One flow as it is on a switch now, with its pods, policies and rules.

    `match` and `actions` are in ovs-ofctl syntax. `kind` is the cookie's kind in lower case ("rule", "deny_ingress",
    ...). `pods` are the `namespace/name` whose ports the flow is for, `policies` the policies it belongs to (a clause
    flow may belong to many), `rules` names their rules, each like `namespace/name ingress[0]` with the rule's index
    in the manifest. `duration` is in seconds.
    """

    node: str
    bridge: str
    table: int
    table_name: str
    priority: int
    match: str
    actions: str
    cookie: int
    kind: str
    packets: int
    bytes: int
    duration: int
    pods: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    note: str = ""


class FlowsAnswer(NamedTuple):
    """The flows of the switches that answered, and a line for each switch that did not."""

    flows: list[FlowView]
    missing: tuple[str, ...] = ()


class FlowStream(NamedTuple):
    """The same as the controller gives it: each flow is made when it is asked for, since all together may not fit into
    memory."""

    flows: Iterable[FlowView]
    missing: tuple[str, ...] = ()


class UnknownNode(LookupError):
    """No switch has that node; the message names the nodes that have one."""


class SwitchUnavailable(Exception):
    """The switch is known but did not dump its flows: it is not connected, or did not answer in time."""


class StatusApi(Protocol):
    """The questions that HTTP asks the running controller. Any thread may call every method, several at a time."""

    def status(self, local: bool = False) -> StatusView:
        """The status now; never waits for a switch. With `local` what this replica knows by itself, and no other."""

    def wait(self, timeout: float, local: bool = False) -> WaitResult:
        """Read every source and OVSDB again and block until all of that is realized, or `timeout` seconds went by.

        With `local` on the switches of this replica only.
        """

    def flows(self, node: str | None) -> FlowStream:
        """The flows now on the switches of `node`, or of all nodes.

        Raises UnknownNode, or SwitchUnavailable if no switch answered.
        """

    def ready(self) -> list[str]:
        """What is still missing before the first flows may be sent, a line each; empty once every source was read."""
