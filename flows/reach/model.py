"""The answers of `headgate matrix`, `headgate plan` and `headgate recommend` as values, for JSON and for
all ways to show them.

A change of a field's meaning or name is a new version. Nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from flows.reach.ports import Ports, ports_text

MATRIX_VERSION = 1
PLAN_VERSION = 1
EXPOSURE_VERSION = 1
RECOMMEND_VERSION = 1


@dataclass(frozen=True, slots=True)
class PortsView:
    """Protocols and ports. `text` says it all, like `TCP 80,8080-8090`; `ranges` are [protocol, first, last]; `others`
    stands for every protocol without ports, like ICMP."""

    text: str
    ranges: tuple[tuple[str, int, int], ...] = ()
    others: bool = False


@dataclass(frozen=True, slots=True)
class GroupView:
    """A row and column of the matrix. `kind` is pod, workload, namespace or outside; `pods` its number of pods."""

    name: str
    kind: str
    namespace: str = ""
    pods: int = 0


@dataclass(frozen=True, slots=True)
class BlockView:
    """Every group of `sources` reaches every group of `destinations` on these ports; both by their places in `groups`.

    Without `complete`, only some of their pods do, or on some of the ports. A pair of a group with itself is about
    different pods of it, and means nothing where it has one pod.
    """

    sources: tuple[int, ...]
    destinations: tuple[int, ...]
    ports: PortsView
    complete: bool = True


@dataclass(frozen=True, slots=True)
class MatrixView:
    """Who reaches whom. Groups that are in no block together do not reach each other.

    `port` is the port that was asked for, "" for any. `notes` say what a reader must know beside it.
    """

    level: str
    port: str
    groups: tuple[GroupView, ...]
    blocks: tuple[BlockView, ...]
    notes: tuple[str, ...] = ()
    version: int = MATRIX_VERSION


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """An object that the change adds, changes or removes (`action`)."""

    action: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class ReachChange:
    """Every one of `sources` reaches every one of `destinations` otherwise than before: on `after` instead of `before`.

    `kind` is added (not reached before), removed or changed. Names are workloads, or namespaces and all pods where the
    whole of them is meant; a part of a workload has its pods behind it.
    """

    kind: str
    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    before: PortsView
    after: PortsView


@dataclass(frozen=True, slots=True)
class SwitchChange:
    """How many flows a switch gets, loses, and has with other actions."""

    node: str
    bridge: str
    added: int
    removed: int
    changed: int


@dataclass(frozen=True, slots=True)
class RuleTraffic:
    """A rule that goes, and the packets that its flows have counted since they were last written."""

    policy: str
    rule: str
    packets: int


@dataclass(frozen=True, slots=True)
class PlanView:
    """What a change would do. `switches` has those whose flows change.

    `traffic` has the rules that go, where a running controller was asked: packets are those that opened or
    continued connections; 0 is a rule that nothing has used.
    """

    objects: tuple[ObjectChange, ...]
    reach: tuple[ReachChange, ...]
    switches: tuple[SwitchChange, ...] = ()
    traffic: tuple[RuleTraffic, ...] = ()
    notes: tuple[str, ...] = field(default=())
    version: int = PLAN_VERSION

    @property
    def changes(self) -> bool:
        """Whether anything would change: reachability, or a flow."""
        return bool(self.reach or self.switches)


@dataclass(frozen=True, slots=True)
class SeenView:
    """Connections that were seen. An end is a pod's NAMESPACE/NAME, or an address. `protocol` is "" and `port` None for
    one that NetworkPolicies do not name; `last` is the time of the last, in UTC."""

    source: str
    destination: str
    protocol: str
    port: int | None
    times: int
    last: str


@dataclass(frozen=True, slots=True)
class EvidenceView:
    """What a rule came from. `rule` is its place in the policy, as `ingress[0]`; `text` says it all for people.

    `kind` is seen (`connections`), counted (by the present rule `counted`, which counted `packets` that were not
    audited), or names (not seen: so that names can be resolved).
    """

    rule: str
    kind: str
    text: str
    connections: tuple[SeenView, ...] = ()
    counted: str = ""
    packets: int = 0


@dataclass(frozen=True, slots=True)
class RecommendedView:
    """A NetworkPolicy as it can be applied, and the evidence of each of its rules."""

    policy: dict[str, Any]
    evidence: tuple[EvidenceView, ...]


@dataclass(frozen=True, slots=True)
class RecommendView:
    """The least policies of a namespace that allow what was seen.

    `deletes` names its present policies that none of `policies` replaces under the same name: apply these first, then
    delete those. `plan` is what both would do together. Of the connections that were seen, `checked` could be asked
    about; `denied` are those of them that would be denied, `unchecked` is how many could not.
    """

    namespace: str
    policies: tuple[RecommendedView, ...]
    deletes: tuple[str, ...]
    plan: PlanView
    checked: int
    denied: tuple[SeenView, ...]
    unchecked: int
    notes: tuple[str, ...] = ()
    version: int = RECOMMEND_VERSION


def narrowed(view: MatrixView, inside: Collection[int]) -> MatrixView:
    """The blocks with an end among these groups, cut to the pairs that have one."""
    blocks: list[BlockView] = []
    for one in view.blocks:
        own = tuple(n for n in one.sources if n in inside)
        others = tuple(n for n in one.sources if n not in inside)
        into = tuple(n for n in one.destinations if n in inside)
        for sources, destinations in ((own, one.destinations), (others, into)):
            if sources and destinations:
                blocks.append(BlockView(sources, destinations, one.ports, one.complete))
    return MatrixView(view.level, view.port, view.groups, tuple(blocks), view.notes)


def ports_view(ports: Ports) -> PortsView:
    """Ports for JSON and people."""
    ranges = tuple((one.protocol.name, max(one.low, 1), one.high) for one in ports.ranges)
    return PortsView(ports_text(ports), ranges, ports.others)


@dataclass(frozen=True, slots=True)
class Exposure:
    """What the policies of a workload allow in a direction with pods that need not exist: `peer` says which, and
    `ports` is as in PortsView."""

    workload: str
    direction: str
    peer: str
    ports: str


@dataclass(frozen=True, slots=True)
class ExposureView:
    """The answer of `headgate matrix --exposure`; `version` is that of the form. `left_out` counts the kinds of pods
    that were not asked about, because there are too many."""

    exposures: tuple[Exposure, ...]
    left_out: int = 0
    version: int = EXPOSURE_VERSION
