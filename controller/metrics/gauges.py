"""The gauges of the reconciler's state: read as counts, not as views, and set where they differ from the last setting.

Called by the status cache's thread. Must not live here: what is counted as events happen; see `event_counters`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from typing import NamedTuple

from controller.metrics.packet_counters import (
    DeniedLabels,
    ForgedLabels,
    InvalidLabels,
    LimitedLabels,
    PacketLabels,
    StagedLabels,
    TierLabels,
)
from controller.metrics.registry import Metrics
from controller.reconcile.reconciler import Reconciler
from controller.status.away_reasons import CONTESTED, OVSDB, WAITING
from controller.status.incremental import READ_TIMEOUT_SECONDS, IncrementalViews, ReconcilerAccess
from controller.status.node_views import lacking
from controller.status.switch_views import unrealized_bridges
from flows.bridge.claim_contest import BridgeName
from flows.cluster.model import Cluster, Direction, Key

MAX_NODES = 5000  # with a series, the first by name: whoever may create Nodes may create more
MAX_NODE_NAME = 253  # characters of the label, as the API server allows


class _Switch(NamedTuple):
    """The gauges of one switch."""

    desired: int
    actual: int | None
    foreign: int
    in_sync: bool
    connected: bool
    away: str  # why it is not connected, as one word
    owned: bool = True  # by this replica
    primary: bool = False


class _Counts(NamedTuple):
    """What is read with the lock held: it costs as much as there are bridges."""

    switches: dict[tuple[str, str], _Switch]
    nodes: dict[str, bool]  # whether each is ready
    policies: int
    pods: int
    unrealized: bool
    left_out: bool
    cluster: Cluster | None
    contained: int
    openflow: int
    ovsdb: int
    services: int
    service_problems: int


class Gauges:
    """Sets the gauges.

    `count_policy_problems` is how many policies cannot be realized as they are written; `away_reasons` gives by bridge
    why switches have no OpenFlow session.
    """

    def __init__(
        self,
        reconciler: ReconcilerAccess,
        views: IncrementalViews,
        metrics: Metrics,
        count_policy_problems: Callable[[], int],
        away_reasons: Callable[[], Mapping[BridgeName, str]] = dict,
    ) -> None:
        self._reconciler = reconciler
        self._views = views
        self._metrics = metrics
        self._count_policy_problems = count_policy_problems
        self._away_reasons = away_reasons
        self._shown: dict[tuple[str, str], _Switch] = {}
        self._nodes: dict[str, bool] = {}  # as set last

    def set(self) -> None:
        """Set them. Raises TimeoutError when the reconciler is busy for longer than READ_TIMEOUT_SECONDS."""
        counts = self._reconciler.read(partial(_count, self._away_reasons()), READ_TIMEOUT_SECONDS)
        for where, values in counts.switches.items():
            if self._shown.get(where) != values:
                if values.owned:
                    self._metrics.switch(*where, values.desired, values.actual, values.foreign, values.in_sync)
                else:
                    self._metrics.forget_flows(*where)
                self._metrics.primary(*where, values.primary)
                self._metrics.connected(*where, values.connected)
                self._metrics.away(*where, values.away)
        for gone in self._shown.keys() - counts.switches.keys():
            self._metrics.forget_switch(*gone)
        self._shown = counts.switches
        self._set_nodes(counts.nodes)
        if counts.cluster is not None:
            self._metrics.packets.retire(partial(_exists, counts.cluster))
        unrealized = self._count_policy_problems()
        if counts.unrealized or counts.left_out:
            policies = self._views.policies(self._views.state())
            unrealized = sum(not policy.realized for policy in policies)
        self._metrics.world(counts.policies, unrealized, counts.pods)
        self._metrics.services(counts.services, counts.service_problems)
        self._metrics.contained(counts.contained)
        self._metrics.connections(counts.openflow, counts.ovsdb)

    def _set_nodes(self, nodes: Mapping[str, bool]) -> None:
        for node in self._nodes.keys() - nodes.keys():
            self._metrics.node(node, None)
        for node, ready in nodes.items():
            if self._nodes.get(node) is not ready:
                self._metrics.node(node, ready)
        self._nodes = dict(nodes)


def _count(away: Mapping[BridgeName, str], reconciler: Reconciler, _: float) -> _Counts:
    world = reconciler.world
    switches = {}
    pods = 0
    for name, bridge in world.bridges.items():
        switch = reconciler.switch_of(name)
        found = world.kept_binding(name)
        pods += len(found.binding.pods) if found else 0
        if world.refusal(name) and (bridge.node, bridge.name) in switches:
            continue  # a bridge that claims another's node name must not set that node's gauges
        switches[bridge.node, bridge.name] = _Switch(
            len(switch.desired) if switch else 0,
            switch.actual_count if switch else None,
            switch.foreign if switch else 0,
            switch is not None and switch.realized,
            switch is not None and switch.session is not None,
            "" if switch and switch.session is not None else _reason(reconciler, name, away),
            reconciler.roles.owns(name),
            switch is not None and reconciler.roles.may_write(switch.dpid) and switch.session is not None,
        )
    plans = (world.plan_of(name) for name in world.bridges)
    refused = sum(len(plan.refused) for plan in plans if plan is not None)
    nodes = islice(lacking(reconciler).items(), MAX_NODES)
    return _Counts(
        switches,
        {node[:MAX_NODE_NAME]: not missing for node, missing in nodes},
        len(world.cluster.policies) + len(world.cluster.cluster_policies) if world.cluster else 0,
        pods,
        bool(unrealized_bridges(reconciler)),
        bool(world.left_out() or world.closed_policies()),
        world.cluster,
        refused + sum(1 for _ in reconciler.contained_problems()),
        sum(switch.session is not None for switch in reconciler.switches.values()),
        sum(state.synced for state in reconciler.ovsdb.values()),
        len(world.cluster.services) if world.cluster else 0,
        len(world.service_problems),
    )


def _reason(reconciler: Reconciler, name: BridgeName, away: Mapping[BridgeName, str]) -> str:
    if reconciler.world.refusal(name):
        return CONTESTED
    return away.get(name) or (WAITING if reconciler.is_synced(name[0]) else OVSDB)


def _exists(cluster: Cluster, counts: PacketLabels) -> bool:
    """Whether the pod, or the policy with this rule, still exists."""
    if isinstance(counts, DeniedLabels | LimitedLabels | InvalidLabels | ForgedLabels | StagedLabels):
        return Key(counts.namespace, counts.pod) in cluster.pods
    if isinstance(counts, TierLabels):
        of_cluster = cluster.cluster_policies.get(Key("", counts.policy))
        tiered = of_cluster.rules(Direction(counts.direction)) if of_cluster is not None else ()
        return counts.rule < len(tiered) and tiered[counts.rule].name == counts.name
    policy = cluster.policies.get(Key(counts.namespace, counts.policy))
    rules = policy.rules(Direction(counts.direction)) if policy is not None else ()
    return counts.rule < len(rules)
