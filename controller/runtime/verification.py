"""Answers `/verify`: policy compared with the flows on some switches, beside the controller's own work."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from controller.reconcile.reconciler import Reconciler
from controller.runtime.answer_lanes import compute_long
from controller.runtime.flow_dumps import MAX_FRESH_DUMPS, FlowDumps
from controller.runtime.locked_reconciler import LockedReconciler
from controller.status.detail_model import BadQuestion
from controller.status.model import SwitchUnavailable
from controller.status.verification import compare
from controller.status.verify_model import VerifyView
from controller.status.walks import SwitchParts, Unwalkable, switch_parts
from flows.bridge.claim_contest import BridgeName
from flows.plan.effective_cluster import EffectiveParts, effective_cluster

COMPARE_SECONDS = 20.0  # after which a comparison ends with what it has
MAX_NODES_NAMED = 20
MAX_BRIDGES = MAX_FRESH_DUMPS  # that are compared at once: so many are dumped anew


class Verification:
    """Every method may be called from any thread of the hub."""

    def __init__(self, reconciler: LockedReconciler, dumps: FlowDumps) -> None:
        self._reconciler = reconciler
        self._dumps = dumps

    def verify(self, node: str | None, count: int, seed: int) -> VerifyView:
        """Compare `count` connections between the pods of up to MAX_BRIDGES bridges, or of those of `node`.

        Raises BadQuestion for a node without a bridge, and SwitchUnavailable where no flows can be had.
        """
        names = self._reconciler.read(lambda reconciler, _: _bridges(reconciler, node, seed))
        if not names:
            known = self._reconciler.read(lambda reconciler, _: _nodes(reconciler))
            raise BadQuestion(
                f"there is no switch of node {node}; known: {', '.join(known) or 'none'}"
                if node
                else "there is no switch yet"
            )
        note = self._dumps.refresh_counters(names)
        cluster, parts = self._reconciler.read(lambda reconciler, _: _parts(reconciler, names))
        try:
            return compute_long(_compare, cluster, parts, count, seed, note)
        except Unwalkable as error:
            raise SwitchUnavailable(str(error)) from None


def _bridges(reconciler: Reconciler, node: str | None, seed: int) -> list[BridgeName]:
    """The served bridges; of many, those from a place on that the seed chooses."""
    world = reconciler.world
    names = [name for name in sorted(world.bridges) if not world.refusal(name)]
    names = [name for name in names if node in (None, world.bridges[name].node)]
    start = seed % len(names) if names else 0
    return [*names[start:], *names[:start]][:MAX_BRIDGES]


def _nodes(reconciler: Reconciler) -> list[str]:
    """The nodes with a served bridge, the first MAX_NODES_NAMED."""
    world = reconciler.world
    found = {one.node for name, one in world.bridges.items() if one.node and not world.refusal(name)}
    return sorted(found)[:MAX_NODES_NAMED]


def _parts(reconciler: Reconciler, names: Sequence[BridgeName]) -> tuple[EffectiveParts, list[SwitchParts]]:
    world = reconciler.world
    return world.effective_parts(), [switch_parts(reconciler, name) for name in names if name in world.bridges]


def _compare(parts: EffectiveParts, bridges: Sequence[SwitchParts], count: int, seed: int, note: str) -> VerifyView:
    deadline = time.monotonic() + COMPARE_SECONDS
    found = compare(effective_cluster(parts), bridges, count, seed, lambda: time.monotonic() < deadline)
    return replace(found, notes=tuple(filter(None, (note, *found.notes))))
