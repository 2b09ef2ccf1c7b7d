"""Answers `/explain`: policy's verdict from the effective cluster, and the same packet through the switches' flows.

Under the reconciler's lock only references are copied; everything is computed beside it, in a native thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from controller.base.hub import offload
from controller.reconcile.reconciler import Reconciler
from controller.runtime.flow_dumps import FlowDumps
from controller.runtime.locked_reconciler import LockedReconciler
from controller.status.detail_model import BadQuestion
from controller.status.walks import (
    Switches,
    SwitchParts,
    Unwalkable,
    bridges_of,
    describe_met,
    met_flows,
    switch_parts,
    switch_walk,
)
from flows.bridge.claim_contest import BridgeName
from flows.cluster.model import Pod
from flows.explain.model import Explanation
from flows.explain.past import with_gone
from flows.explain.question import Answer, answer
from flows.interpret.journey import Journey
from flows.plan.effective_cluster import EffectiveParts, effective_cluster
from flows.policy.probe import Probe, ProbeError

GONE = "is gone"
MAX_WALKS = 8  # connections of one question that are walked; a Service has one for each endpoint


class Explanations:
    """Every method may be called from any thread of the hub."""

    def __init__(self, reconciler: LockedReconciler, dumps: FlowDumps) -> None:
        self._reconciler = reconciler
        self._dumps = dumps

    def explain(self, source: str, destination: str, port: str, version: int | None, switches: bool) -> Explanation:
        """The verdict on a connection and its reasons, and with `switches` what the switches do with it.

        Raises BadQuestion.
        """
        parts, gone = self._reconciler.read(partial(_parts_and_gone, (source, destination)))
        try:
            found = offload(_answer, parts, gone, source, destination, port, version)
        except ProbeError as error:
            raise BadQuestion(str(error)) from None
        # A pod that is gone has no port: nothing would arrive, whatever the flows were.
        walked = switches and not any(GONE in note for note in found.explanation.notes)
        return self._with_switches(found) if walked else found.explanation

    def _with_switches(self, found: Answer) -> Explanation:
        """The explanation with the walks of its first connections, and a note where they cannot be walked."""
        explanation, probes = found.explanation, found.probes[:MAX_WALKS]
        names = self._reconciler.read(lambda reconciler, _: bridges_of(reconciler, probes))
        if not names:
            return replace(explanation, notes=(*explanation.notes, "no switch has an end of it"))
        note = self._dumps.refresh_counters(names)
        parts = self._reconciler.read(partial(_switch_parts, names))
        try:
            note, journeys = offload(_journeys, parts, probes, note)
        except Unwalkable as error:
            return replace(explanation, notes=(*explanation.notes, f"the switches are not looked at: {error}"))
        met = [met_flows(one) for one in journeys]
        views = self._reconciler.read(lambda reconciler, _: [describe_met(reconciler, one) for one in met])
        walked = [
            replace(one, switches=switch_walk(journey, one.allowed, view, note))
            for one, journey, view in zip(explanation.connections, journeys, views, strict=False)
        ]
        return replace(explanation, connections=(*walked, *explanation.connections[len(walked) :]))


def _parts_and_gone(
    ends: tuple[str, str], reconciler: Reconciler, now: float
) -> tuple[EffectiveParts, list[tuple[Pod, float]]]:
    gone = reconciler.gone_pods.named(ends)
    return reconciler.world.effective_parts(), [(one.pod, now - one.at) for one in gone]


def _answer(
    parts: EffectiveParts,
    gone: Sequence[tuple[Pod, float]],
    source: str,
    destination: str,
    port: str,
    version: int | None,
) -> Answer:
    """The answer, with pods that are gone put back where the question names them."""
    cluster, back = with_gone(effective_cluster(parts), [pod for pod, _ in gone])
    found = answer(cluster, source, destination, port, version)
    ages = {pod.key: age for pod, age in gone}
    notes = []
    for key in back:
        addresses = ", ".join(map(str, cluster.pods[key].addresses))
        what = "it is explained as it was, with the policies of now"
        notes.append(f"pod {key} ({addresses}) {GONE} since {ages[key]:.0f} s: {what}")
    return found._replace(explanation=replace(found.explanation, notes=(*notes, *found.explanation.notes)))


def _switch_parts(names: Sequence[BridgeName], reconciler: Reconciler, _: float) -> list[SwitchParts]:
    return [switch_parts(reconciler, name) for name in names if name in reconciler.world.bridges]


def _journeys(parts: Sequence[SwitchParts], probes: Sequence[Probe], note: str) -> tuple[str, list[Journey]]:
    switches = Switches(parts)
    journeys = [switches.travel(probe) for probe in probes]
    return "; ".join(filter(None, (note, switches.note))), journeys
