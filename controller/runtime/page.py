"""What the running controller answers to the page for the browser: `status.page_model.PageApi`, put together.

Everything is computed outside of the reconciler's lock; under it only references are copied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from controller.metrics.packet_counters import PacketCounters
from controller.reconcile.reconciler import Reconciler
from controller.runtime.answer_lanes import compute
from controller.runtime.answers import Answers
from controller.runtime.flow_dumps import FlowDumps
from controller.runtime.locked_reconciler import LockedReconciler
from controller.runtime.page_ends import stand_in
from controller.runtime.page_feed import PageFeed, listed_problems
from controller.runtime.page_matrices import Matrices, pod_workload
from controller.runtime.page_rates import RateMeter
from controller.status.audit_model import AuditApi
from controller.status.details import parse_key
from controller.status.model import FlowView, UnknownNode
from controller.status.page_model import (
    MAX_FLOWS_LISTED,
    MAX_FOUND,
    MAX_PODS_LISTED,
    MAX_POLICIES_LISTED,
    Choice,
    FoundObject,
    ManifestView,
    PageChanges,
    PageFlows,
    PageNode,
    PagePlan,
    PagePod,
    PagePolicy,
    PageRates,
    PageState,
    StageView,
)
from flows.cluster.model import Cluster
from flows.explain.manifest import ManifestLine, cluster_policy_manifest, policy_manifest
from flows.explain.model import Explanation
from flows.pipeline.tables import TABLES


class Page:
    """Implements `PageApi`. Every method may be called from any thread of the hub."""

    def __init__(
        self,
        answers: Answers,
        feed: PageFeed,
        *,
        reconciler: LockedReconciler,
        dumps: FlowDumps,
        packets: PacketCounters,
    ) -> None:
        self._answers = answers
        self._feed = feed
        self._reconciler = reconciler
        self._rates = RateMeter(reconciler, dumps, packets)
        self._matrices = Matrices(reconciler, answers.policy)

    @property
    def audit(self) -> AuditApi:
        """Events of audited pods, and what is dropped."""
        return self._answers.audit

    def state(self) -> PageState:
        """The whole state; never waits for a switch."""
        status = self._answers.status()
        serial, cached = self._feed.current()
        return PageState(
            serial=serial,
            version=status.version,
            uptime=status.uptime,
            waiting_for=status.waiting_for,
            sources=status.sources,
            switches=cached.switches,
            nodes=cached.nodes,
            pods=cached.pods[:MAX_PODS_LISTED],
            pod_count=len(cached.pods),
            policies=cached.policies[:MAX_POLICIES_LISTED],
            policy_count=len(cached.policies),
            problems=listed_problems(cached),
            problem_count=len(cached.problems),
        )

    def changes(self, after: int, seconds: float) -> PageChanges:
        """What changed after a serial; waits for `seconds` at most."""
        return self._feed.changes(after, seconds)

    def rates(self, node: str) -> PageRates:
        """What counts now, on the switch of `node` first."""
        return self._rates.rates(node)

    def matrix(self, by: str, port: str, choice: Choice) -> dict[str, Any]:
        """Who reaches whom. Raises BadQuestion."""
        return self._matrices.matrix(by, port, choice)

    def matrix_file(self, by: str, port: str, choice: Choice) -> str:
        """The same as one HTML file. Raises BadQuestion."""
        return self._matrices.matrix_file(by, port, choice)

    def explain(
        self, source: str, destination: str, port: str, version: int | None, switches: bool = True
    ) -> Explanation:
        """The verdict on a connection and its reasons. Ends may be rows of the matrix, too. Raises BadQuestion."""
        source, destination, notes = compute(_stand_ins, self._matrices.cluster(), source, destination)
        found = self._answers.explain(source, destination, port, version, switches)
        return replace(found, notes=(*notes, *found.notes))

    def pod(self, key: str) -> PagePod:
        """Everything about a pod. Raises UnknownObject."""
        detail = self._answers.pod(key)
        return PagePod(detail, pod_workload(self._matrices.cluster(), parse_key(key)), self._feed.history(key))

    def policy(self, key: str) -> PagePolicy:
        """Everything about a policy. Raises UnknownObject."""
        detail = self._answers.policy(key)
        lines = self._reconciler.read(lambda reconciler, _: _manifest(reconciler.world.cluster, key))
        view = ManifestView(tuple(one.text for one in lines), tuple(one.place for one in lines))
        return PagePolicy(detail, view)

    def node(self, name: str) -> PageNode:
        """Everything about a node. Raises UnknownNode."""
        _, cached = self._feed.current()
        switches = tuple(one for one in cached.switches if one.node == name)
        if not switches:
            raise UnknownNode(f"there is no switch of node {name}")
        pods = [one for one in cached.pods if one.node == name]
        counts: Counter[int] = compute(Counter, self._reconciler.read(lambda reconciler, _: _tables(reconciler, name)))
        stages = tuple(
            StageView(one.number, one.name, one.does, one.miss, one.leads_to, counts[one.number]) for one in TABLES
        )
        return PageNode(name, switches, stages, tuple(pods[:MAX_PODS_LISTED]), len(pods))

    def flows(self, node: str, table: str, text: str) -> PageFlows:
        """Flows of a node in a table that have a text anywhere. Raises UnknownNode or SwitchUnavailable."""
        flows, missing = self._answers.flows(node)
        found = (one for one in flows if table in ("", one.table_name) and (not text or _has(one, text.lower())))
        listed = tuple(islice(found, MAX_FLOWS_LISTED))
        return PageFlows(listed, len(listed) + sum(1 for _ in found), missing)

    def find(self, text: str) -> tuple[FoundObject, ...]:
        """What a text leads to."""
        cluster = self._matrices.cluster()
        return compute(_find, cluster, text.strip().lower())

    def plan(self, applied: str, deleted: str) -> PagePlan:
        """What applying and deleting the objects of two manifests would do. Raises BadQuestion."""
        return self._matrices.plan(applied, deleted)


def _stand_ins(cluster: Cluster, source: str, destination: str) -> tuple[str, str, tuple[str, ...]]:
    near, first = stand_in(cluster, source)
    far, second = stand_in(cluster, destination, near.removeprefix("pod:"))
    return near, far, tuple(filter(None, (first, second)))


def _manifest(cluster: Cluster | None, key: str) -> list[ManifestLine]:
    wanted = parse_key(key)
    if cluster is None:
        return []
    if (policy := cluster.policies.get(wanted)) is not None:
        return policy_manifest(policy)
    found = cluster.cluster_policies.get(wanted)
    return cluster_policy_manifest(found) if found is not None else []


def _tables(reconciler: Reconciler, node: str) -> list[int]:
    """The table of each flow on the first bridge of a node."""
    for name, bridge in sorted(reconciler.world.bridges.items()):
        switch = reconciler.switch_of(name)
        if bridge.node == node and switch is not None:
            return [key[0] for key, _ in switch.actual_flows() or ()]  # a key begins with the table
    return []


def _has(flow: FlowView, text: str) -> bool:
    texts = (flow.match, flow.actions, flow.kind, *flow.pods, *flow.policies, *flow.rules)
    return any(text in one.lower() for one in texts)


def _find(cluster: Cluster, text: str) -> tuple[FoundObject, ...]:
    """Names that begin with the text come first."""
    if not text:
        return ()
    found = sorted(_matching(cluster, text), key=lambda one: (not _begins(one.name, text), one.kind, one.name))
    return tuple(found[:MAX_FOUND])


def _begins(name: str, text: str) -> bool:
    return name.lower().startswith(text) or name.lower().rpartition("/")[2].startswith(text)


def _matching(cluster: Cluster, text: str) -> Iterator[FoundObject]:
    for pod in cluster.pods.values():
        name = str(pod.key)
        addresses = ", ".join(map(str, pod.addresses))
        if text in name.lower() or any(str(one).startswith(text) for one in pod.addresses):
            yield FoundObject("pod", name, addresses)
        elif any(f"{key}={value}".lower().startswith(text) for key, value in pod.labels.items()):
            yield FoundObject("pod", name, "by its labels")
    for kind, names in (
        ("policy", [*cluster.policies, *cluster.cluster_policies]),
        ("node", list(cluster.nodes)),
        ("service", list(cluster.services)),
    ):
        yield from (FoundObject(kind, str(one)) for one in names if text in str(one).lower())
