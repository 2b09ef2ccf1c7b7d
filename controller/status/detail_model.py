"""What a running controller knows of one pod and of one policy, and what it adds to a support bundle: frozen values.

The JSON of `/pods/NS/NAME`, `/policies/NS/NAME` and `/support` is exactly these values, field for field.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from controller.status.model import PodView, PolicyView, StatusApi


@dataclass(frozen=True, slots=True)
class PeerView:
    """An address or prefix that a rule lets through, and the pods that have the address; none for a prefix."""

    address: str
    pods: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleView:
    """A rule as it stands on switches, with what it has let through.

    `rules` are the places in manifests where it stands: several policies may say the same. `peers` and `ports` are None
    where the rule does not restrict; `peers` holds at most MAX_LISTED of the `peer_count` there are. `packets` and
    `bytes` are of both directions of the connections, of all pods that the rule is for on these switches; None
    where no switch has said.
    """

    direction: str
    rules: tuple[str, ...]
    peers: tuple[PeerView, ...] | None = None
    peer_count: int = 0
    ports: tuple[str, ...] | None = None
    packets: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class IsolationView:
    """Whether a pod is isolated in a direction: by which policies, and how many packets that has dropped."""

    direction: str
    policies: tuple[str, ...] = ()
    denied_packets: int | None = None
    denied_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class PodDetail:
    """Everything known of one pod.

    `bridge` is empty where it has no port. `in_force` says that its switch has all its flows; `note` why counters are
    missing or old.
    """

    pod: PodView
    bridge: str = ""
    uid: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    container_ports: tuple[str, ...] = ()
    host_network: bool = False
    finished: bool = False
    in_force: bool = False
    isolation: tuple[IsolationView, ...] = ()
    rules: tuple[RuleView, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class SubjectView:
    """A pod that a policy selects, and its node; `port` is empty where it has none."""

    pod: str
    node: str
    port: str = ""


@dataclass(frozen=True, slots=True)
class PolicySwitchView:
    """A switch that has pods which the policy selects, and whether all its flows are there; else why not."""

    node: str
    bridge: str
    in_force: bool
    pods: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PolicyDetail:
    """Everything known of one policy.

    `subjects` holds at most MAX_LISTED of the pods that it selects (`policy.pods` counts them). `left_out` names rules
    that are not in force on any switch and why: one that could not be understood, or that nothing matches now.
    """

    policy: PolicyView
    subjects: tuple[SubjectView, ...] = ()
    rules: tuple[RuleView, ...] = ()
    left_out: tuple[str, ...] = ()
    switches: tuple[PolicySwitchView, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class InterfaceRecord:
    """An Interface as OVSDB has it; of its external_ids those that Headgate reads or writes."""

    name: str
    ofport: int | None
    mac: str
    external_ids: dict[str, str]


@dataclass(frozen=True, slots=True)
class BridgeRecord:
    """A bridge as OVSDB has it."""

    ovsdb: str
    name: str
    dpid: str
    hostname: str
    system_id: str
    datapath_type: str
    ovs_version: str
    interfaces: tuple[InterfaceRecord, ...]


@dataclass(frozen=True, slots=True)
class SupportView:
    """What a support bundle takes from the controller beside its status and flows.

    `versions` are of Python, the system and the libraries; `settings` has the files' names, never what is in them;
    `log` are the last lines that the controller has logged.
    """

    versions: dict[str, str]
    settings: dict[str, str]
    bridges: tuple[BridgeRecord, ...]
    log: tuple[str, ...]


class UnknownObject(LookupError):
    """There is no such pod or policy; the message says where to look."""


class DetailedStatusApi(StatusApi, Protocol):
    """A StatusApi that can also tell of one object. Every method may be called from any thread, several at a time."""

    def pod(self, key: str) -> PodDetail:
        """Everything about a pod. Raises UnknownObject."""

    def policy(self, key: str) -> PolicyDetail:
        """Everything about a policy. Raises UnknownObject."""

    def support(self) -> SupportView:
        """What a support bundle needs, without secrets."""
