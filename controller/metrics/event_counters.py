"""Counters and histograms, updated after every batch of events.

Must not live here: gauges of the reconciler's state; see `gauges`.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Sequence

from controller.metrics.packet_counters import (
    AllowedLabels,
    CounterSample,
    DeniedLabels,
    ForgedLabels,
    InvalidLabels,
    LimitedLabels,
    PacketLabels,
    StagedLabels,
    TierLabels,
)
from controller.metrics.registry import Metrics
from controller.reconcile.commands import Command, SendBundle
from controller.reconcile.events import (
    BundleDone,
    BundleFailed,
    Event,
    FlowsDrifted,
    FlowsDumped,
    SwitchDown,
    SwitchUp,
)
from controller.reconcile.invalid_packets import InvalidReason
from controller.reconcile.reconciler import Reconciler
from controller.status.details import STAGED_KINDS, isolating_policies
from flows.bridge.claim_contest import BridgeName
from flows.cluster.model import Direction
from flows.pipeline import priorities, tables
from flows.pipeline.cookies import CookieKind, read_cookie
from flows.pipeline.pod_limits import METERED, Limit, read_meter
from flows.policy.rule import STAGED
from flows.policy.tracked_sets import TrackedRule
from flows.wire.values import KEY_PREFIX, FlowKey

MAX_POLICIES_IN_LABEL = 3  # in a label
_INVALID = {CookieKind.INVALID: InvalidReason.CONNECTION, CookieKind.BROKEN: InvalidReason.BROKEN}
_FORGED = {
    (tables.CLASSIFY.number, priorities.CLASSIFY_OTHER_OF_POD): "sent",
    (tables.CLASSIFY.number, priorities.CLASSIFY_AUDITED): "sent",
    (tables.CLASSIFY.number, priorities.CLASSIFY_SPOOFED): "address",
}


class EventCounters:
    """Remembers the bundles that were sent, to count their changes when the switch has committed them."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._waiting = self._learned = 0
        # By datapath id: the number of the bundle without a reply, and its adds, modifies and deletes.
        self._sent: dict[int, tuple[int, tuple[int, int, int]]] = {}

    def handled(
        self, reconciler: Reconciler, events: Iterable[Event], commands: Iterable[Command], seconds: float
    ) -> None:
        """One batch was handled, and its commands were computed in `seconds`."""
        for event in events:
            if isinstance(event, BundleDone | BundleFailed):
                self._bundle(reconciler, event)
            elif isinstance(event, FlowsDumped):
                self._counters(reconciler, event)
                time.sleep(0)  # after a restart, a batch has the dumps of hundreds of switches
            elif isinstance(event, FlowsDrifted):
                self._drift(reconciler, event)
            elif isinstance(event, SwitchUp | SwitchDown):
                self._sent.pop(event.dpid, None)  # the bundle gets no reply any more
        for command in commands:
            if isinstance(command, SendBundle):
                adds, modifies, deletes = map(len, command.changes)
                self._sent[command.dpid] = command.number, (adds, modifies, deletes)
                self.metrics.reconciled(seconds)
        held = reconciler.held_answers
        if held.counts or held.waiting != self._waiting or reconciler.world.learned.size != self._learned:
            self._waiting, self._learned = held.waiting, reconciler.world.learned.size
            self.metrics.dns(held.counts, self._waiting, self._learned, reconciler.world.learned.refused)
            held.counts.clear()
        for duration in reconciler.ports.durations:
            self.metrics.port_programmed(duration)
        reconciler.ports.durations.clear()
        for duration in reconciler.roles.takeovers:
            self.metrics.taken_over(duration)
        reconciler.roles.takeovers.clear()

    def _bundle(self, reconciler: Reconciler, event: BundleDone | BundleFailed) -> None:
        number, changes = self._sent.get(event.dpid, (None, (0, 0, 0)))
        name = _bridge(reconciler, event.dpid)
        if number != event.number or name is None:
            return
        del self._sent[event.dpid]
        node, bridge = reconciler.world.bridges[name].node, name[1]
        if isinstance(event, BundleFailed):
            self.metrics.bundle_failed(node, bridge)
            return
        self.metrics.bundle_committed(node, bridge, *changes)

    def _drift(self, reconciler: Reconciler, event: FlowsDrifted) -> None:
        name = _bridge(reconciler, event.dpid)
        if name is not None and reconciler.roles.may_write(event.dpid):  # else its owner may have changed them
            self.metrics.drift(reconciler.world.bridges[name].node, name[1], event.changes)

    def _counters(self, reconciler: Reconciler, event: FlowsDumped) -> None:
        name = _bridge(reconciler, event.dpid)
        plan = reconciler.world.plan_of(name) if name else None
        if name is None or plan is None:
            return
        pods = {pod_binding.ofport: pod_binding.pod for pod_binding in plan.binding.pods}
        parts = plan.rules_by_number()
        isolated = isolating_policies(reconciler, pods.values())
        samples: dict[Hashable, CounterSample] = {}
        for key, counters in event.counters.items():
            body = event.flows.get(key) or plan.flows.get(key)
            kind, number = (body and read_cookie(body.cookie)) or (CookieKind.PIPELINE, 0)
            counts: tuple[PacketLabels, ...] = ()
            if kind in (CookieKind.DENY_EGRESS, CookieKind.DENY_INGRESS) and number in pods:
                direction = Direction.EGRESS if kind is CookieKind.DENY_EGRESS else Direction.INGRESS
                names = _named(isolated.get((pods[number], direction), ()))
                counts = (DeniedLabels(*pods[number], direction.value, names),)
            elif kind in STAGED_KINDS and number in pods:
                counts = (StagedLabels(*pods[number], *STAGED_KINDS[kind]),)
            elif kind in _INVALID and number in pods and counters.packets:  # most pods send none
                counts = (InvalidLabels(*pods[number], _INVALID[kind].value),)
            elif kind is CookieKind.PORT and number in pods and counters.packets and (forged := _forged(key)):
                counts = (ForgedLabels(*pods[number], forged),)
            elif kind is CookieKind.RULE and number in parts:
                # Equal rules of several policies share the flow, and each counts all its packets.
                counts = _rule_labels(reconciler, parts[number])
            if counts:
                source = parts[number].identity if kind is CookieKind.RULE else key
                samples[key] = CounterSample(counts, counters.packets, counters.duration, source)
        for number, dropped in (event.meters.dropped if event.meters else {}).items():
            limit, ofport = read_meter(number) or (Limit.ASSOCIATIONS, 0)
            if limit in (*METERED, Limit.DNS) and ofport in pods:
                limited = (LimitedLabels(*pods[ofport], limit.word),)
                samples[number] = CounterSample(limited, dropped.packets, dropped.duration, number)
        self.metrics.packets.observe(reconciler.world.bridges[name].node, name[1], samples)


def _forged(key: FlowKey) -> str:
    """How packets that meet a flow of a port are forged; "" for a flow that drops no forged ones."""
    return _FORGED.get(KEY_PREFIX.unpack_from(key), "")


def _rule_labels(reconciler: Reconciler, part: TrackedRule) -> tuple[PacketLabels, ...]:
    """The labels of a rule's flow, for each policy that has the rule."""
    level, cluster = part.level, reconciler.world.cluster
    if level == STAGED:
        return ()  # it allows nothing; what it would change is counted by pod
    if level is None:
        return tuple([AllowedLabels(*one.policy, one.direction.value, one.number) for one in part.owners])
    found = []
    for one in part.owners:
        policy = cluster.cluster_policies.get(one.policy) if cluster else None
        rules = policy.rules(one.direction) if policy is not None else ()
        name = rules[one.number].name if one.number < len(rules) else ""
        tier, action = level.tier.value, level.action.value
        found.append(TierLabels(tier, one.policy.name, one.direction.value, one.number, name, action))
    return tuple(found)


def _named(policies: Sequence[str]) -> str:
    """The policies as the value of one label, the first few by name: any number may isolate a pod."""
    rest = len(policies) - MAX_POLICIES_IN_LABEL
    return ", ".join(policies[:MAX_POLICIES_IN_LABEL]) + (f" and {rest} more" if rest > 0 else "")


def _bridge(reconciler: Reconciler, dpid: int) -> BridgeName | None:
    return reconciler.bridge_of(dpid)
