"""The JSON contract of `/pods/NS/NAME`, `/policies/NS/NAME` and `/support`: frozen values, served field for field.

The rules of `model` hold here too. The answer of `/explain` is `flows.explain.model.Explanation`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from controller.status.audit_model import AuditApi
from controller.status.model import PodView, PolicyView, StatusApi
from controller.status.verify_model import VerifyView
from flows.explain.model import Explanation

DETAIL_VERSION = 1


@dataclass(frozen=True, slots=True)
class PeerView:
    """An address or prefix that a rule allows, and the pods that have the address; none for a prefix."""

    address: str
    pods: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleView:
    """A rule as it is on switches, with the packets that it allowed.

    `rules` are its places in manifests: several policies may have equal rules. `peers` and `ports` are None
    where the rule does not restrict; `peers` holds at most MAX_LISTED of the `peer_count` there are. `packets` and
    `bytes` are of both directions of the connections, of all subjects on these switches; None where no
    switch has dumped counters. `tier` and `action` are those of a ClusterNetworkPolicy's rule, which counts what it
    matches, whatever it does.
    """

    direction: str
    rules: tuple[str, ...]
    peers: tuple[PeerView, ...] | None = None
    peer_count: int = 0
    ports: tuple[str, ...] | None = None
    packets: int | None = None
    bytes: int | None = None
    tier: str = ""
    action: str = ""


@dataclass(frozen=True, slots=True)
class IsolationView:
    """Whether a pod is isolated in a direction: by which policies, and how many packets were dropped."""

    direction: str
    policies: tuple[str, ...] = ()
    denied_packets: int | None = None
    denied_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class LearnedView:
    """An address that a DNS answer gave the pod for a name that its rules have.

    New connections may be opened to it for so many `seconds` more; None: only those that run go on.
    """

    name: str
    address: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class StagedView:
    """What the promotion of staged policies would change in a direction: these policies, the packets that pass now and
    would be denied, and those that isolation denies now and would pass this end."""

    direction: str
    policies: tuple[str, ...] = ()
    would_deny: int | None = None
    would_allow: int | None = None


@dataclass(frozen=True, slots=True)
class PodDetail:
    """Everything about one pod; `version` is that of the form.

    `bridge` is empty where it has no port. `in_force`: its switch has all desired flows; `note` is why counters are
    missing or old. `learned` has at most 1000 addresses.
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
    staged: tuple[StagedView, ...] = ()
    rules: tuple[RuleView, ...] = ()
    note: str = ""
    learned: tuple[LearnedView, ...] = ()
    version: int = DETAIL_VERSION


@dataclass(frozen=True, slots=True)
class SubjectView:
    """A pod that a policy selects, and its node; `port` is empty where it has none."""

    pod: str
    node: str
    port: str = ""


@dataclass(frozen=True, slots=True)
class PolicySwitchView:
    """A switch with subjects of the policy, and whether it has all desired flows; else why not."""

    node: str
    bridge: str
    in_force: bool
    pods: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PolicyDetail:
    """Everything about one policy; `version` is that of the form.

    `subjects` holds at most MAX_LISTED of the pods that it selects (`policy.pods` counts them). `left_out` names rules
    that are on no switch and why: it has an error, or no pod matches it now.
    """

    policy: PolicyView
    subjects: tuple[SubjectView, ...] = ()
    rules: tuple[RuleView, ...] = ()
    left_out: tuple[str, ...] = ()
    switches: tuple[PolicySwitchView, ...] = ()
    note: str = ""
    staged: tuple[StagedView, ...] = ()
    version: int = DETAIL_VERSION


@dataclass(frozen=True, slots=True)
class InterfaceRecord:
    """An Interface row of OVSDB; of its external_ids, the values that Headgate reads or writes."""

    name: str
    ofport: int | None
    mac: str
    external_ids: dict[str, str]


@dataclass(frozen=True, slots=True)
class BridgeRecord:
    """A Bridge row of OVSDB."""

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
    """What a support bundle contains beside status and flows.

    `versions` are of Python, the system and the libraries; `settings` has the names of files, never their contents;
    `log` are the last log lines.
    """

    versions: dict[str, str]
    settings: dict[str, str]
    bridges: tuple[BridgeRecord, ...]
    log: tuple[str, ...]


class UnknownObject(LookupError):
    """There is no such pod or policy; the message names the command that lists them."""


class BadQuestion(ValueError):
    """A question that this cluster has no answer to; the message says what is wrong."""


class Live(enum.StrEnum):
    """Whether a question about a connection has a packet of it sent: none, one that no pod sees, or one that is
    delivered where the switches let it through."""

    NO = "no"
    PROBE = "probe"
    DELIVER = "deliver"


@dataclass(frozen=True, slots=True)
class PolicyPart:
    """What a replica says of one policy: the generation that it has read, and where that is not realized."""

    generation: int
    pending: str = ""


@dataclass(frozen=True, slots=True)
class ConditionsPart:
    """What a replica says of its own: the datapath ids of the switches that it serves, and all policies by name."""

    replica: str
    switches: tuple[str, ...]
    policies: Mapping[str, PolicyPart]


class DetailedStatusApi(StatusApi, Protocol):
    """A StatusApi with details of single objects. Any thread may call every method, several at a time."""

    @property
    def audit(self) -> AuditApi:
        """Events of audited pods, and what is dropped."""

    def explain(
        self,
        source: str,
        destination: str,
        port: str,
        version: int | None,
        switches: bool = True,
        live: Live = Live.NO,
    ) -> Explanation:
        """The verdict on a connection and its reasons; arguments as in `flows.explain.question`. With `switches` also
        what the switches do with it, and with `live` what they do with a packet that is sent. Raises BadQuestion, and
        SwitchUnavailable while another packet is under way."""

    def verify(self, node: str | None, count: int, seed: int) -> VerifyView:
        """Policy compared with switches over `count` connections. Raises BadQuestion or SwitchUnavailable."""

    def pod(self, key: str) -> PodDetail:
        """Everything about a pod. Raises UnknownObject."""

    def policy(self, key: str) -> PolicyDetail:
        """Everything about a policy. Raises UnknownObject."""

    def conditions(self) -> ConditionsPart:
        """What this replica says of policies of the whole cluster, to the one that writes their conditions."""

    def cluster(self) -> bytes:
        """The effective cluster as `cluster_model` encodes it."""

    def support(self) -> SupportView:
        """What a support bundle contains beside status and flows, without secrets."""
