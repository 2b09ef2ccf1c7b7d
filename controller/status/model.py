"""What a running controller shows of itself: frozen values, and the Protocol through which the HTTP side asks for them.

The JSON that HTTP serves is exactly these values, field for field (docs/status.md explains them); the commands read it
back into the same classes. How the values come about is the core's business, how they are served `http`'s, how they
are drawn the commands'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class SourceView:
    """One source of Kubernetes objects.

    `age` is in seconds since it was last known to be current, None before the first sync. `ignored` says what is passed
    over, and how many of it, like "Service (v1)" or "subfolders".
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
    """One OVSDB connection, made by us or (`listening`) by the switch.

    `synced`: its contents were read at least once.
    """

    remote: str
    connected: bool
    synced: bool
    listening: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PortView:
    """A port of a bridge that carries no pod, the uplink and the LOCAL port aside, and why: nothing passes it."""

    name: str
    ofport: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class SwitchView:
    """One bridge on one switch.

    `dpid` is 16 hex digits as ovs-vsctl prints it, empty while unknown. Flow counts are of our own flows;
    `actual_flows` is None before the first dump. `commit_age` is in seconds since the last bundle that the switch
    committed, None when there was none. `in_sync` means that nothing is left to send, by the switch's own word.
    `limits` says why limits of pods do not hold there, empty when they do; `answered` are addresses that the node
    itself said it has, beyond its Node object's, and that count.
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


@dataclass(frozen=True, slots=True)
class PolicyView:
    """One NetworkPolicy. `key` is `namespace/name`, `isolates` holds "ingress" and "egress", `pods` counts the pods it
    selects.

    `reason` says why it is not realized, or not wholly; `notes` say what of it comes to nothing as things are, like a
    peer that fits no pod, the first few.
    """

    key: str
    realized: bool
    reason: str = ""
    isolates: tuple[str, ...] = ()
    pods: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PodView:
    """One pod that has a port, or should have one.

    `isolated` holds "ingress" and "egress"; `installed` means that its port's policy is in force; `programmed_after`
    is the time from the port's appearance to that, in seconds; `limited` counts packets that its limits dropped,
    `invalid` those that conntrack called invalid, as of the last reading of counters.
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
    """Something in a source that could not be taken as it stands: where (file or API object), which object and field,
    and why.
    """

    where: str
    key: str
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class TlsView:
    """Our side of TLS. `expires` is the Unix time when the certificate in use ends; `problem` says why newer files are
    not in use, or that the certificate has ended; `refused` counts peers, `last_refused` says which and why.
    """

    certificate: str
    expires: float
    problem: str = ""
    refused: int = 0
    last_refused: str = ""


@dataclass(frozen=True, slots=True)
class StatusView:
    """Everything `/status` says. `uptime` is in seconds; `waiting_for` is what StatusApi.ready() says, empty when
    ready.

    `plain` names the addresses of switches that go over a network without TLS; `tls` is None where none needs TLS.
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


@dataclass(frozen=True, slots=True)
class WaitResult:
    """Whether everything that stood in the sources when the wait began is realized; else what is missing."""

    realized: bool
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FlowView:
    """One of our flows as it stands on a switch now, with what it is there for.

    `match` and `actions` are in ovs-ofctl syntax. `kind` is the cookie's kind in lower case ("rule", "deny_ingress",
    ...). `pods` are the `namespace/name` whose ports the flow is for, `policies` the policies it belongs to (a clause
    flow may belong to many), `rules` names their rules, each like `namespace/name ingress[0]` with the rule's place in
    the manifest. `duration` is in seconds.
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
    """Flows of the switches that answered; and those that did not, a line each."""

    flows: list[FlowView]
    missing: tuple[str, ...] = ()


class UnknownNode(LookupError):
    """There is no switch of that node; the message names those there are."""


class SwitchUnavailable(Exception):
    """The switch is known but gave no flows (not connected, or no answer in time); the message says which and why."""


class StatusApi(Protocol):
    """What HTTP asks of the running controller. Every method may be called from any thread, several at a time."""

    def status(self) -> StatusView:
        """The state now; never blocks on a switch."""

    def wait(self, timeout: float) -> WaitResult:
        """Read every source and OVSDB again and block until all of that is realized, or `timeout` seconds went by."""

    def flows(self, node: str | None) -> FlowsAnswer:
        """The flows now on the switches of `node`, or on all. Raises UnknownNode, or SwitchUnavailable if none of them
        answers."""

    def ready(self) -> list[str]:
        """What is still missing before the first flows may be sent, a line each; empty when every source has synced
        once.
        """
