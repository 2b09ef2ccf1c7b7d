"""Keeps the metrics true to the reconciler: called after every batch of events, and at leisure for what takes
longer."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

from controller.details import isolating
from controller.metrics import Allowed, Denied, Metrics, Reading
from controller.reconcile.events import BundleDone, BundleFailed, Command, Event, FlowsDumped, SendBundle
from controller.reconcile.reconciler import Reconciler
from controller.reconcile.world import BridgeName
from controller.report import policy_views, switch_views
from flows.fields import CookieKind, read_cookie
from flows.model import Direction

GAUGE_SECONDS = 1.0
NAMED_POLICIES = 3  # in a label


class Meter:
    """Remembers what was sent, to count it when the switch has committed it."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._sent: dict[tuple[int, int], SendBundle] = {}
        self._shown: set[tuple[str, str]] = set()
        self._gauges_at = 0.0

    def handled(
        self, core: Reconciler, events: Iterable[Event], commands: Iterable[Command], seconds: float, now: float
    ) -> None:
        """One batch was handled in `seconds`; `now` is a monotonic clock."""
        for event in events:
            if isinstance(event, BundleDone | BundleFailed):
                self._bundle(core, event)
            elif isinstance(event, FlowsDumped):
                self._counters(core, event)
        for command in commands:
            if isinstance(command, SendBundle):
                self._sent[command.dpid, command.number] = command
                self.metrics.reconciled(seconds)
        for duration in core.ports.durations:
            self.metrics.port_programmed(duration)
        core.ports.durations.clear()
        if now >= self._gauges_at:
            self._gauges_at = now + GAUGE_SECONDS
            self._gauges(core, now)

    def _bundle(self, core: Reconciler, event: BundleDone | BundleFailed) -> None:
        sent = self._sent.pop((event.dpid, event.number), None)
        name = _bridge(core, event.dpid)
        if sent is None or name is None:
            return
        node, bridge = core.world.bridges[name].node, name[1]
        if isinstance(event, BundleFailed):
            self.metrics.bundle_failed(node, bridge)
            return
        adds, modifies, deletes = map(len, sent.changes)
        self.metrics.bundle_committed(node, bridge, adds, modifies, deletes)

    def _counters(self, core: Reconciler, event: FlowsDumped) -> None:
        name = _bridge(core, event.dpid)
        plan = core.world.planned(name) if name else None
        if name is None or plan is None:
            return
        pods = {attachment.ofport: attachment.pod for attachment in plan.view.attachments}
        isolated = isolating(core, pods.values())
        owners = {number: part.owners[0] for number, part in plan.rules.rules.items()}
        readings: dict[Hashable, Reading] = {}
        for key, counters in event.counters.items():
            body = event.flows.get(key) or plan.flows.get(key)
            kind, number = (body and read_cookie(body.cookie)) or (CookieKind.PIPELINE, 0)
            counts: Denied | Allowed | None = None
            if kind in (CookieKind.DENY_EGRESS, CookieKind.DENY_INGRESS) and number in pods:
                direction = Direction.EGRESS if kind is CookieKind.DENY_EGRESS else Direction.INGRESS
                counts = Denied(*pods[number], direction.value, _named(isolated.get((pods[number], direction), ())))
            elif kind is CookieKind.RULE and number in owners:
                owner = owners[number]
                counts = Allowed(*owner.policy, owner.direction.value, owner.number)
            if counts is not None:
                readings[key] = Reading(counts, counters.packets, counters.duration)
        self.metrics.observe_counters(core.world.bridges[name].node, name[1], readings)

    def _gauges(self, core: Reconciler, now: float) -> None:
        shown = set()
        for view in switch_views(core, now):
            shown.add((view.node, view.bridge))
            self.metrics.switch(
                view.node, view.bridge, view.desired_flows, view.actual_flows, view.foreign_flows, view.in_sync
            )
            self.metrics.connected(view.node, view.bridge, view.openflow_connected)
        for gone in self._shown - shown:
            self.metrics.forget_switch(*gone)
        self._shown = shown
        policies = policy_views(core)
        pods = sum(len(core.world.reading(name).view.attachments) for name in core.world.bridges)
        self.metrics.world(len(policies), sum(not policy.realized for policy in policies), pods)
        up = sum(switch.session is not None for switch in core.switches.values())
        self.metrics.connections(up, sum(state.synced for state in core.ovsdb.values()))


def _named(policies: Sequence[str]) -> str:
    """The policies as the value of one label: a pod may be isolated by any number of them."""
    rest = len(policies) - NAMED_POLICIES
    return ", ".join(policies[:NAMED_POLICIES]) + (f" and {rest} more" if rest > 0 else "")


def _bridge(core: Reconciler, dpid: int) -> BridgeName | None:
    return next(iter(core.world.by_dpid.get(dpid, ())), None)
