"""What the page for the browser asks the running controller, and the values that it gets.

The page comes with the controller, so these values are no published contract. What is published already is used as it
is: `status.model`, `status.detail_model`, `flows.explain.model`, `flows.reach.model`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from controller.status.audit_model import AuditApi
from controller.status.detail_model import PodDetail, PolicyDetail
from controller.status.model import FlowView, NodeView, PodView, PolicyView, ProblemView, SourceView, SwitchView
from flows.explain.model import Explanation
from flows.reach.model import PlanView

MAX_PODS_LISTED = 5000  # in a PageState; others are found by search
MAX_POLICIES_LISTED = 3000
MAX_PROBLEMS_LISTED = 200
MAX_FOUND = 50
MAX_FLOWS_LISTED = 1000
MAX_GROUPS = 4000  # rows of a matrix that the page shows at once


@dataclass(frozen=True, slots=True)
class PageState:
    """Everything that the page lists. `serial` numbers the states; `*_count` are how many there are in all."""

    serial: int
    version: str
    uptime: float
    waiting_for: tuple[str, ...]
    sources: tuple[SourceView, ...]
    switches: tuple[SwitchView, ...]
    nodes: tuple[NodeView, ...]
    pods: tuple[PodView, ...]
    pod_count: int
    policies: tuple[PolicyView, ...]
    policy_count: int
    problems: tuple[ProblemView, ...]
    problem_count: int


@dataclass(frozen=True, slots=True)
class PageDelta:
    """What differs from the state before. `problems` is None where they are the same."""

    serial: int
    waiting_for: tuple[str, ...]
    pod_count: int
    policy_count: int
    problem_count: int
    switches: tuple[SwitchView, ...] = ()
    switches_gone: tuple[str, ...] = ()
    pods: tuple[PodView, ...] = ()
    pods_gone: tuple[str, ...] = ()
    policies: tuple[PolicyView, ...] = ()
    policies_gone: tuple[str, ...] = ()
    problems: tuple[ProblemView, ...] | None = None


class PageChanges(NamedTuple):
    """The deltas since a serial; with `reset` they are not known any more, and the whole state must be read."""

    deltas: tuple[PageDelta, ...] = ()
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Rate:
    """Packets a second between the last two dumps of a switch, None after the first one; and packets in all."""

    rate: float | None
    packets: int


@dataclass(frozen=True, slots=True)
class RuleRate:
    """A rule that counts: its packets, and the workloads of its two ends (at most MAX_FOUND; None: it does not
    restrict). Of a ClusterNetworkPolicy it has a tier and an action."""

    policy: str
    direction: str
    rule: int
    rate: float
    packets: int
    sources: tuple[str, ...] | None = None
    destinations: tuple[str, ...] | None = None
    tier: str = ""
    action: str = ""


@dataclass(frozen=True, slots=True)
class DeniedRate:
    """A pod whose packets are dropped now in a direction."""

    pod: str
    workload: str
    direction: str
    rate: float
    packets: int


@dataclass(frozen=True, slots=True)
class NodeRates:
    """The tables of one bridge: packets that matched a flow there, by table."""

    node: str
    bridge: str
    age: float
    tables: dict[str, Rate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PageRates:
    """What counts now. `nodes` has the node that was asked for; `covered` is how many bridges
    of `of` were counted twice, so that they have rates."""

    nodes: tuple[NodeRates, ...] = ()
    rules: tuple[RuleRate, ...] = ()
    denied: tuple[DeniedRate, ...] = ()
    covered: int = 0
    of: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class ManifestView:
    """A policy as Headgate understood it: its lines, and the place of each below `spec`."""

    lines: tuple[str, ...] = ()
    places: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """Something that happened to a pod's realization, `ago` seconds ago."""

    ago: float
    text: str
    realized: bool


@dataclass(frozen=True, slots=True)
class PagePod:
    """A pod with the history of its realization, the oldest entry first."""

    detail: PodDetail
    workload: str = ""
    history: tuple[HistoryEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class PagePolicy:
    """A policy with its manifest."""

    detail: PolicyDetail
    manifest: ManifestView


@dataclass(frozen=True, slots=True)
class StageView:
    """A table of the pipeline. `flows` are Headgate's flows in it on this bridge."""

    number: int
    name: str
    does: str
    miss: str
    leads_to: tuple[str, ...]
    flows: int


@dataclass(frozen=True, slots=True)
class PageNode:
    """The bridges of one node and the pipeline of the first."""

    node: str
    switches: tuple[SwitchView, ...]
    stages: tuple[StageView, ...]
    pods: tuple[PodView, ...]
    pod_count: int


@dataclass(frozen=True, slots=True)
class PageFlows:
    """Flows of a node, the first MAX_FLOWS_LISTED of `count`. `missing` names switches that did not answer."""

    flows: tuple[FlowView, ...]
    count: int
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundObject:
    """Something whose name, address or label has what was searched for. `detail` says what."""

    kind: str
    name: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which rows of a matrix are wanted: those with an end in the namespace, with the label (`key` or `key=value`), on
    the node, and with the text in their name. "" does not restrict."""

    namespace: str = ""
    label: str = ""
    node: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class PagePlan:
    """What a change would do, and the matrix of the workloads that it concerns, before and after it: as
    `matrix_page.matrix_values` writes them; empty where nothing would change."""

    plan: PlanView
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)


class PageApi(Protocol):
    """The questions of the page. Any thread may call every method, several at a time."""

    @property
    def audit(self) -> AuditApi:
        """Events of audited pods, and what is dropped."""

    def state(self) -> PageState:
        """The whole state; never waits for a switch."""

    def changes(self, after: int, seconds: float) -> PageChanges:
        """What changed after a serial; waits for `seconds` at most."""

    def rates(self, node: str) -> PageRates:
        """What counts now, on the switch of `node` first; "" for none. Has switches dump their flows."""

    def matrix(self, by: str, port: str, choice: Choice) -> dict[str, Any]:
        """Who reaches whom, as `matrix_page.matrix_values`. Raises BadQuestion."""

    def matrix_file(self, by: str, port: str, choice: Choice) -> str:
        """The same as one HTML file. Raises BadQuestion."""

    def explain(
        self, source: str, destination: str, port: str, version: int | None, switches: bool = True
    ) -> Explanation:
        """As `DetailedStatusApi.explain`."""

    def pod(self, key: str) -> PagePod:
        """Everything about a pod. Raises UnknownObject."""

    def policy(self, key: str) -> PagePolicy:
        """Everything about a policy. Raises UnknownObject."""

    def node(self, name: str) -> PageNode:
        """Everything about a node. Raises UnknownNode."""

    def flows(self, node: str, table: str, text: str) -> PageFlows:
        """Flows of a node in a table that have a text anywhere. Raises UnknownNode or SwitchUnavailable."""

    def find(self, text: str) -> tuple[FoundObject, ...]:
        """Pods, policies, nodes and Services that a text leads to, at most MAX_FOUND."""

    def plan(self, applied: str, deleted: str) -> PagePlan:
        """What applying and deleting the objects of two manifests would do. Raises BadQuestion."""
