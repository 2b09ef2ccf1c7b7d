"""Answers `/explain`: policy's verdict from the effective cluster, and the same packet through the switches' flows.

Under the reconciler's lock only references are copied; everything is computed beside it, in a native thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from controller.reconcile.reconciler import Reconciler
from controller.runtime.answer_lanes import compute
from controller.runtime.flow_dumps import FlowDumps
from controller.runtime.live_probe import Busy, LiveProbes, OpenSwitch, holds_back
from controller.runtime.locked_reconciler import LockedReconciler
from controller.status.detail_model import BadQuestion, Live
from controller.status.model import SwitchUnavailable
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
from flows.cluster.net import parse_address
from flows.explain.ends import without_ports
from flows.explain.model import Connection, Explanation
from flows.explain.past import with_gone
from flows.explain.question import Answer, answer
from flows.interpret.journey import Journey
from flows.plan.effective_cluster import EffectiveParts, effective_cluster
from flows.policy.probe import Probe, ProbeError

GONE = "is gone"
MAX_LIVE = 2  # connections of one question of which a packet is sent: one of each family
MAX_WALKS = 8  # connections of one question that are walked; a Service has one for each endpoint


class Explanations:
    """Every method may be called from any thread of the hub."""

    def __init__(self, reconciler: LockedReconciler, dumps: FlowDumps, live: LiveProbes) -> None:
        self._reconciler = reconciler
        self._dumps = dumps
        self._live = live

    def explain(
        self, source: str, destination: str, port: str, version: int | None, switches: bool, live: Live = Live.NO
    ) -> Explanation:
        """The verdict on a connection and its reasons, and with `switches` what the switches do with it; with `live`
        also what they do with a packet that is sent.

        Raises BadQuestion, and SwitchUnavailable while another live probe is under way.
        """
        try:
            source, destination, port = without_ports(source, destination, port)
        except ProbeError as error:
            raise BadQuestion(str(error)) from None
        parts, gone = self._reconciler.read(partial(_parts_and_gone, (source, destination)))
        answered = self._reconciler.read(partial(_answered, source))
        try:
            found = compute(_answer, parts, gone, source, destination, port, version)
        except ProbeError as error:
            raise BadQuestion(str(error)) from None
        found = found._replace(
            explanation=replace(found.explanation, notes=(*found.explanation.notes, *map(_of_node, answered)))
        )
        # A pod that is gone has no port: nothing would arrive, whatever the flows were.
        walked = switches and not any(GONE in note for note in found.explanation.notes)
        return self._with_switches(found, live) if walked else found.explanation

    def _with_switches(self, found: Answer, live: Live) -> Explanation:
        """The explanation with the walks of its first connections, and a note where they cannot be walked."""
        explanation, probes = found.explanation, found.probes[:MAX_WALKS]
        names = self._reconciler.read(lambda reconciler, _: bridges_of(reconciler, probes))
        if not names:
            return replace(explanation, notes=(*explanation.notes, "no switch has an end of it"))
        note = self._dumps.refresh_counters(names)
        parts = self._reconciler.read(partial(_switch_parts, names))
        try:
            known, journeys = compute(_journeys, parts, probes)
        except Unwalkable as error:
            return replace(explanation, notes=(*explanation.notes, f"the switches are not looked at: {error}"))
        met = [met_flows(one) for one in journeys]
        views = self._reconciler.read(lambda reconciler, _: [describe_met(reconciler, one) for one in met])
        note = "; ".join(filter(None, (note, known.note)))
        walked = [
            replace(one, switches=switch_walk(journey, one.allowed, view, note))
            for one, journey, view in zip(explanation.connections, journeys, views, strict=False)
        ]
        if live is not Live.NO:
            walked = [*self._probed(walked[:MAX_LIVE], known, parts, probes, live), *walked[MAX_LIVE:]]
        return replace(explanation, connections=(*walked, *explanation.connections[len(walked) :]))

    def _probed(
        self,
        connections: Sequence[Connection],
        known: Switches,
        parts: Sequence[SwitchParts],
        probes: Sequence[Probe],
        live: Live,
    ) -> list[Connection]:
        """These connections with what the switches did with a packet of each."""
        ready = [part.name for part in parts if holds_back(part)]
        switches = self._reconciler.read(lambda reconciler, _: _open_switches(reconciler, ready))
        allowed = [one.allowed for one in connections]
        asked = probes[: len(connections)]
        try:
            found = self._live.send(known.sites(), switches, asked, allowed, live is Live.DELIVER)
        except Busy as error:
            raise SwitchUnavailable(str(error)) from None
        return [replace(one, live=live) for one, live in zip(connections, found, strict=True)]


def _parts_and_gone(
    ends: tuple[str, str], reconciler: Reconciler, now: float
) -> tuple[EffectiveParts, list[tuple[Pod, float]]]:
    gone = reconciler.gone_pods.named(ends)
    return reconciler.world.effective_parts(), [(one.pod, now - one.at) for one in gone]


def _answered(source: str, reconciler: Reconciler, _: float) -> list[str]:
    """The nodes that answered probes for an address, which their Node objects need not have."""
    try:
        net = parse_address(source)
    except ValueError:
        return []
    return sorted(one.node for one in reconciler.world.bridges.values() if net in one.confirmed_addresses)


def _of_node(node: str) -> str:
    return (
        f"node {node} has answered for this source: what it sends from it to its own pods passes, as from its other "
        f"addresses; the answer here is for everybody else"
    )


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


def _journeys(parts: Sequence[SwitchParts], probes: Sequence[Probe]) -> tuple[Switches, list[Journey]]:
    switches = Switches(parts)
    return switches, [switches.travel(probe) for probe in probes]


def _open_switches(reconciler: Reconciler, names: Sequence[BridgeName]) -> dict[BridgeName, OpenSwitch]:
    """Where packets for these bridges are sent; those whose switch is away are left out."""
    found = {}
    for name in names:
        switch = reconciler.switch_of(name)
        if switch is not None and switch.session is not None:
            found[name] = OpenSwitch(switch.dpid, switch.session)
    return found
