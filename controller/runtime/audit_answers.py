"""What the controller answers to `/audit` and `/drops`: events that are kept, and totals that are counted anyway."""

from __future__ import annotations

from dataclasses import replace

from controller.metrics.registry import Metrics
from controller.reconcile.reconciler import Reconciler
from controller.runtime.audit_log import AuditLog
from controller.runtime.flow_dumps import FlowDumps
from controller.runtime.locked_reconciler import LockedReconciler
from controller.status.audit_model import AuditAnswer, DropsAnswer, DropTotal, ForeignDrop
from controller.status.details import parse_key, pod_bridges
from controller.status.foreign_flows import describe_foreign
from flows.bridge.claim_contest import BridgeName
from flows.pipeline.pod_limits import Limit
from flows.pipeline.tables import TABLE_NAMES

PASSED = frozenset({"allowed", "would-deny"})  # verdicts of packets that were not dropped
MAX_TOTALS = 5000
MAX_FOREIGN = 200
MAX_PROBLEMS = 50
MAX_READ = 1_000_000  # events; there are never more


class AuditAnswers:
    """Implements `AuditApi`. Every method may be called from any thread of the hub."""

    def __init__(self, kept: AuditLog, reconciler: LockedReconciler, metrics: Metrics, dumps: FlowDumps) -> None:
        self._kept = kept
        self._dumps = dumps
        self._reconciler = reconciler
        self._metrics = metrics

    def audit(self, after: int, most: int, wait: float = 0.0) -> AuditAnswer:
        """Events with greater numbers than `after`, the last `most` of them; waits up to `wait` seconds for one."""
        found = self._kept.after(after, most, wait)
        if wait:
            return found
        audited, problems = self._reconciler.read(lambda reconciler, _: _audited(reconciler))
        return replace(found, audited=audited, problems=problems)

    def drops(self, pod: str | None, most: int, count_now: bool = True) -> DropsAnswer:
        """What was dropped, of one pod or of all; with `count_now` up to now, where few switches have to be asked."""
        bridges = self._reconciler.read(lambda reconciler, _: _bridges(reconciler, pod)) if count_now else []
        note = self._dumps.refresh_counters(bridges)
        totals = [one for one in map(_total, self._metrics.dropped()) if pod in (None, one.pod)]
        totals.sort(key=lambda one: (-one.packets, one.pod))
        foreign, problems = self._reconciler.read(lambda reconciler, _: (_foreign(reconciler), _audited(reconciler)[1]))
        events = [one for one in self._kept.after(0, MAX_READ).events if one.verdict not in PASSED]
        if pod is not None:
            events, foreign = [one for one in events if pod in one.ends], []
        problems = (note, *problems) if note else problems
        return DropsAnswer(tuple(totals[:MAX_TOTALS]), tuple(foreign), tuple(events[-most:] if most else ()), problems)


def _bridges(reconciler: Reconciler, pod: str | None) -> list[BridgeName]:
    """The bridges that count what is dropped of a pod, or of all pods; another replica counts that of its own."""
    if pod is None:
        found = [name for name in reconciler.world.bridges if not reconciler.world.refusal(name)]
    else:
        found = pod_bridges(reconciler, parse_key(pod))
    return [name for name in found if reconciler.roles.owns(name)]


def _total(found: tuple[str, dict[str, str], float]) -> DropTotal:
    cause, labels, value = found
    detail = labels.get("direction") or labels.get("reason") or labels.get("kind") or ""
    pod = f"{labels['namespace']}/{labels['pod']}"
    return DropTotal(pod, cause, detail.replace("_", " "), int(value), labels.get("policies", ""))


def _audited(reconciler: Reconciler) -> tuple[int, tuple[str, ...]]:
    """How many pods are audited on switches that can report, and which switches with such pods cannot."""
    world, count = reconciler.world, 0
    problems: list[str] = []
    for name, bridge in world.bridges.items():
        plan = world.plan_of(name)
        if plan is None or not plan.audited_pods:
            continue
        if Limit.COPIES in bridge.metered:
            count += plan.audited_pods
        else:
            problems.append(f"node {bridge.node}: its switch has no meters, so nothing is reported of its pods")
    return count, tuple(problems[:MAX_PROBLEMS])


def _foreign(reconciler: Reconciler) -> list[ForeignDrop]:
    found: list[ForeignDrop] = []
    for dpid, switch in reconciler.switches.items():
        name = reconciler.bridge_of(dpid)
        for one in switch.foreign_flows if name is not None else ():
            if one.counters.packets and len(found) < MAX_FOREIGN and name is not None:
                match, actions = describe_foreign(one.flow)
                table = TABLE_NAMES.get(one.flow.table, str(one.flow.table))
                node = reconciler.world.bridges[name].node
                found.append(ForeignDrop(node, table, match, actions, one.counters.packets))
    return found
