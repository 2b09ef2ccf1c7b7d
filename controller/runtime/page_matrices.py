"""Matrices and plans for the page: from the effective cluster, outside of the reconciler's lock, in a native thread.

The last matrices are kept as long as the cluster is the same, so that another filter costs nothing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from controller.runtime.answer_lanes import compute, compute_long
from controller.runtime.locked_reconciler import LockedReconciler
from controller.sources.folder.manifest import read_manifest
from controller.sources.unit import SourceUnit
from controller.status.detail_model import BadQuestion, PolicyDetail
from controller.status.matrix_page import matrix_page, matrix_values
from controller.status.page_model import MAX_GROUPS, Choice, PagePlan
from controller.status.plans import Changes, Present, plan_and_cluster
from flows.bridge.network import NetworkOptions
from flows.bridge.state import BridgeState
from flows.cluster.model import Cluster, Key, Pod
from flows.parse.objects import PARSERS_WITH_WORKLOADS
from flows.plan.effective_cluster import EffectiveParts, effective_cluster
from flows.plan.world import World
from flows.reach.answer import PortError, matrix_view
from flows.reach.changes import affected_pods
from flows.reach.ends import workload_of
from flows.reach.matrix import Level
from flows.reach.model import MatrixView, narrowed

MAX_KEPT = 4  # matrices
MAX_PLANNED_PODS = 20_000  # of a cluster whose matrix is drawn before and after a change


class Matrices:
    """Every method may be called from any thread of the hub."""

    def __init__(self, reconciler: LockedReconciler, policy: Callable[[str], PolicyDetail]) -> None:
        """`policy` gives the details of a policy. Raises UnknownObject."""
        self._reconciler = reconciler
        self._policy = policy
        self._lock = threading.Lock()
        self._parts: EffectiveParts | None = None
        self._cluster = Cluster()
        self._kept: OrderedDict[tuple[str, str], MatrixView] = OrderedDict()

    def cluster(self) -> Cluster:
        """The effective cluster; the same object as long as nothing in it changes."""
        parts = self._reconciler.read(lambda reconciler, _: reconciler.world.effective_parts())
        with self._lock:
            if self._parts is None or self._parts.cluster is not parts.cluster or self._parts != parts:
                self._parts, self._cluster = parts, compute(effective_cluster, parts)
                self._kept.clear()
            return self._cluster

    def matrix(self, by: str, port: str, choice: Choice) -> dict[str, Any]:
        """The rows and columns that are wanted. Raises BadQuestion."""
        found, wanted = self._chosen(by, port, choice, MAX_GROUPS)
        return compute(_values, found, wanted)

    def matrix_file(self, by: str, port: str, choice: Choice) -> str:
        """The same as one HTML file, however long. Raises BadQuestion."""
        found, wanted = self._chosen(by, port, choice)
        text: str = compute_long(lambda: matrix_page(found if wanted is None else narrowed(found, wanted)))
        return text

    def _chosen(
        self, by: str, port: str, choice: Choice, most: int | None = None
    ) -> tuple[MatrixView, set[int] | None]:
        """The matrix, and the numbers of the groups that are wanted; None for all. Raises BadQuestion, where more than
        `most` are wanted before anything is computed."""
        if by not in list(Level):
            raise BadQuestion(f"a matrix is by {', '.join(Level)}")
        cluster = self.cluster()
        names = compute(_wanted_names, cluster, by, choice)
        if most is not None and len(names) > most:
            raise BadQuestion(f"{len(names):,} rows are too many for a page: choose a namespace, a node or a label")
        view = self._kept.get((by, port))
        if view is None:
            try:
                view = compute_long(matrix_view, cluster, Level(by), port)
            except PortError as error:
                raise BadQuestion(str(error)) from None
            with self._lock:
                if cluster is self._cluster:
                    self._kept[by, port] = view
                    while len(self._kept) > MAX_KEPT:
                        self._kept.popitem(last=False)
        return view, None if choice == Choice() else _wanted(view, names, choice)

    def plan(self, applied: str, deleted: str) -> PagePlan:
        """What applying and deleting the objects of two manifests would do. Raises BadQuestion."""
        bridges, network = self._reconciler.read(lambda reconciler, _: _served(reconciler.world))
        cluster = self.cluster()
        present = Present(cluster, bridges, network, self._policy)
        changes = _changes(applied, deleted)
        if not changes.put and not changes.deleted:
            reasons = "; ".join(f"{one.field}: {one.reason}" for one in changes.problems[:3])
            raise BadQuestion(reasons or "the text has no object that policy depends on")
        plan, after = compute_long(plan_and_cluster, present, changes)
        if not plan.reach or len(cluster.pods) > MAX_PLANNED_PODS:
            return PagePlan(plan)
        return PagePlan(plan, *compute_long(_before_and_after, cluster, after))


def _served(world: World) -> tuple[list[BridgeState], NetworkOptions]:
    return [state for name, state in world.bridges.items() if not world.owners.refusal(name)], world.network_options


def _changes(applied: str, deleted: str) -> Changes:
    put, gone = _unit(applied, "the text to apply"), _unit(deleted, "the text to delete")
    return Changes(
        tuple((one.name, one.value) for one in put.objects),
        tuple((one.name, one.value) for one in gone.objects),
        (*put.problems, *gone.problems),
    )


def _unit(text: str, where: str) -> SourceUnit:
    return read_manifest(text.encode(), where, False, PARSERS_WITH_WORKLOADS).unit


def _before_and_after(before: Cluster, after: Cluster) -> tuple[dict[str, Any], dict[str, Any]]:
    """The matrices of the workloads that the change concerns."""
    affected = affected_pods(before, after)
    found = []
    for cluster in (before, after):
        view = matrix_view(cluster, Level.WORKLOAD)
        names = {_group(cluster.pods[key], Level.WORKLOAD) for key in affected if key in cluster.pods}
        wanted = {n for n, one in enumerate(view.groups) if one.name in names}
        found.append(_values(view, wanted))
    return found[0], found[1]


def _group(pod: Pod, level: str) -> str:
    """The group of a pod: as `flows.reach.matrix` names it."""
    if level == Level.NAMESPACE:
        return pod.key.namespace
    return f"{pod.key.namespace}/{workload_of(pod)}" if level == Level.WORKLOAD else str(pod.key)


def _wanted_names(cluster: Cluster, by: str, choice: Choice) -> set[str]:
    """The names of the groups with a pod that has everything that was asked for."""
    text = choice.text.lower()
    fitting = (pod for pod in cluster.pods.values() if pod.networked and pod.addresses and _fits(pod, choice))
    return {name for pod in fitting if text in (name := _group(pod, by)).lower()}


def _wanted(view: MatrixView, names: set[str], choice: Choice) -> set[int]:
    """The numbers of these groups; where only a text was asked for, addresses outside that have it, too."""
    text = choice.text.lower()
    only_text = choice == Choice(text=choice.text)
    return {
        n
        for n, one in enumerate(view.groups)
        if one.name in names or (only_text and one.kind == "outside" and text in one.name)
    }


def _fits(pod: Pod, choice: Choice) -> bool:
    if choice.namespace not in ("", pod.key.namespace) or choice.node not in ("", pod.node):
        return False
    name, equals, value = choice.label.partition("=")
    return not name or (pod.labels.get(name) == value if equals else name in pod.labels)


def _values(view: MatrixView, wanted: set[int] | None) -> dict[str, Any]:
    """The matrix, and which of its groups were wanted; groups without a connection to them are left out."""
    if wanted is None:
        return matrix_values(view)
    view = narrowed(view, wanted)
    used = sorted(wanted.union(*({*one.sources, *one.destinations} for one in view.blocks)))
    place = {n: m for m, n in enumerate(used)}
    values = matrix_values(
        MatrixView(
            view.level,
            view.port,
            tuple(view.groups[n] for n in used),
            tuple(
                type(one)(
                    tuple(place[n] for n in one.sources),
                    tuple(place[n] for n in one.destinations),
                    one.ports,
                    one.complete,
                )
                for one in view.blocks
            ),
            view.notes,
        )
    )
    values["wanted"] = [place[n] for n in sorted(wanted)]
    return values


def pod_workload(cluster: Cluster, key: Key) -> str:
    """The workload of a pod, as the matrix names it; "" for one that is not there."""
    pod = cluster.pods.get(key)
    return _group(pod, Level.WORKLOAD) if pod is not None else ""
