"""What the running controller answers to HTTP: `status.model.DetailedStatusApi`, put together from its parts.

Nothing is computed here: pieces of the status come from `StatusCache`, waits and dumps have modules of their own.
"""

from __future__ import annotations

import time
from dataclasses import replace

from controller.base.near_names import did_you_mean
from controller.base.version import version
from controller.config.schema import RunConfig
from controller.openflow.app import HeadgateApp
from controller.ovsdb.service import Ovsdb
from controller.replicas.fleet import Fleet
from controller.runtime.answer_lanes import compute
from controller.runtime.audit_answers import AuditAnswers
from controller.runtime.explanations import Explanations
from controller.runtime.flow_dumps import FlowDumps
from controller.runtime.live_probe import LiveProbes
from controller.runtime.locked_reconciler import LockedReconciler
from controller.runtime.status_cache import StatusCache
from controller.runtime.support import support_view
from controller.runtime.verification import Verification
from controller.runtime.wait import RealizationWait
from controller.sources.store import Store
from controller.status.cluster_model import cluster_json
from controller.status.detail_model import ConditionsPart, Live, PodDetail, PolicyDetail, SupportView, UnknownObject
from controller.status.details import parse_key, pod_bridges, pod_detail, policy_bridges, policy_detail
from controller.status.model import (
    FlowStream,
    OvsdbView,
    ProblemView,
    SourceView,
    StatusView,
    TlsView,
    WaitResult,
)
from controller.status.policy_conditions import conditions_part
from controller.status.verify_model import VerifyView
from controller.tls.credentials import Credentials
from flows.bridge.network import NetworkOptions
from flows.bridge.state import BridgeState
from flows.explain.model import Explanation
from flows.plan.effective_cluster import EffectiveParts, effective_cluster
from flows.plan.world import World

STATUS_SECONDS = 2.0  # that a request waits for a new status; then it gets the last one
READINESS_SECONDS = 1.0  # the same for /readyz
MAX_PEER_PROBLEMS = 100  # in a status; a peer can make up datapath ids


class Answers:
    """Implements `DetailedStatusApi`. Every method may be called from any thread of the hub."""

    def __init__(
        self,
        config: RunConfig,
        started: float,
        *,
        reconciler: LockedReconciler,
        status: StatusCache,
        store: Store,
        ovsdb: Ovsdb,
        openflow: HeadgateApp,
        tls: Credentials | None,
        realization: RealizationWait,
        dumps: FlowDumps,
        audit: AuditAnswers,
        fleet: Fleet | None = None,
    ) -> None:
        """`started` is a monotonic clock; `fleet` are the other replicas, None where there can be none."""
        self._fleet = fleet
        self._config = config
        self._started = started
        self._reconciler = reconciler
        self._status = status
        self._store = store
        self._ovsdb = ovsdb
        self._openflow = openflow
        self._tls = tls
        self._realization = realization
        self._dumps = dumps
        self.audit = audit
        self._explanations = Explanations(reconciler, dumps, LiveProbes(openflow))
        self._verification = Verification(reconciler, dumps)

    def status(self, local: bool = False) -> StatusView:
        """The status now, or the last one while the controller is busy; of all replicas unless `local`."""
        own = self._own_status()
        return own if local or self._fleet is None or not own.replica else self._fleet.status(own)

    def _own_status(self) -> StatusView:
        fleet = self._fleet
        cached = self._status.fresh(STATUS_SECONDS)
        now = time.monotonic()
        return StatusView(
            version(),
            now - self._started,
            tuple(self._unread_sources()) + cached.waiting + tuple(fleet.not_a_member() if fleet is not None else ()),
            self._sources(),
            self._ovsdbs(),
            cached.switches_at(now),
            cached.policies,
            cached.pods,
            (*cached.problems, *self._peer_problems()),
            self._config.exposed,
            TlsView(*self._tls.state()) if self._tls else None,
            cached.nodes,
            fleet.name if fleet is not None else "",
            fleet.epoch if fleet is not None else 0,
            fleet.replicas() if fleet is not None and fleet.name else (),
        )

    def _not_a_member(self) -> list[str]:
        return self._fleet.not_ready(self._taking_over()) if self._fleet is not None else []

    def _taking_over(self) -> int:
        return self._reconciler.taking_over

    def _peer_problems(self) -> list[ProblemView]:
        """Connection peers that claim a datapath id of another, or were disconnected for what they sent."""
        problems = self._openflow.claim_problems()
        return [ProblemView(f"switch {one.dpid:016x}", "", "", one.reason) for one in problems[:MAX_PEER_PROBLEMS]]

    def _sources(self) -> tuple[SourceView, ...]:
        now = time.monotonic()
        return tuple(
            SourceView(s.name, s.kind, s.synced, _age(s.current_at, now), s.problems, s.reason, dict(s.ignored))
            for s in self._store.states()
        )

    def _ovsdbs(self) -> tuple[OvsdbView, ...]:
        return tuple(
            OvsdbView(
                c.remote or c.name,
                c.connected,
                c.synced,
                c.direction == "listening",
                "; ".join(filter(None, (c.last_error, c.standby, *c.notes))),
            )
            for c in self._ovsdb.status()
        )

    def ready(self) -> list[str]:
        """What is still missing before the first flows may be sent, a line each."""
        last = self._status.last
        # Ready once is ready for good, so a waiting status alone is worth reading again.
        cached = self._status.fresh(READINESS_SECONDS) if last.waiting else last
        return [*self._unread_sources(), *cached.waiting, *self._ovsdb.rivals(), *self._not_a_member()]

    def _unread_sources(self) -> list[str]:
        return [f"source {s.name}: {s.reason or 'not read yet'}" for s in self._sources() if not s.synced]

    def wait(self, timeout: float, local: bool = False) -> WaitResult:
        """Read every source and OVSDB again; block until all of that is realized, or `timeout` seconds went by.

        On the switches of all replicas unless `local`.
        """
        if local or self._fleet is None or not self._fleet.name:
            return self._realization.wait(timeout)
        return self._fleet.wait(timeout, lambda: self._realization.wait(timeout), self._own_status)

    def conditions(self) -> ConditionsPart:
        """What this replica says of policies of the whole cluster, to the one that writes their conditions."""
        name = self._fleet.name if self._fleet is not None else ""
        return self._reconciler.read(lambda reconciler, _: conditions_part(reconciler, name))

    def flows(self, node: str | None) -> FlowStream:
        """The flows now on the switches of `node`, or of all nodes.

        Raises UnknownNode, or SwitchUnavailable if no switch answered.
        """
        return self._dumps.flows(node)

    def pod(self, key: str) -> PodDetail:
        """Everything about a pod. Raises UnknownObject."""
        wanted = parse_key(key)
        note = self._dumps.refresh_counters(
            self._reconciler.read(lambda reconciler, _: pod_bridges(reconciler, wanted))
        )
        pods = self._status.fresh(STATUS_SECONDS).pods
        view = next((one for one in pods if one.key == key), None)
        found = self._reconciler.read(lambda reconciler, now: pod_detail(reconciler, wanted, view, now))
        if found is None:
            near = did_you_mean(key, (one.key for one in pods))
            raise UnknownObject(f"there is no pod {key}{near or '; `headgate status --pods` lists those there are'}")
        return replace(found, note=note)

    def policy(self, key: str) -> PolicyDetail:
        """Everything about a policy. Raises UnknownObject."""
        wanted = parse_key(key)
        note = self._dumps.refresh_counters(
            self._reconciler.read(lambda reconciler, _: policy_bridges(reconciler, wanted))
        )
        policies = self._status.fresh(STATUS_SECONDS).policies
        view = next((one for one in policies if one.key == key), None)
        if view is None:
            near = did_you_mean(key, (one.key for one in policies))
            known = near or "; `headgate status --policies` lists those there are"
            raise UnknownObject(f"there is no policy {key}{known}")
        return replace(self._reconciler.read(lambda reconciler, _: policy_detail(reconciler, wanted, view)), note=note)

    def explain(
        self,
        source: str,
        destination: str,
        port: str,
        version: int | None,
        switches: bool = True,
        live: Live = Live.NO,
    ) -> Explanation:
        """The verdict on a connection and its reasons, and with `switches` what the switches do with it; with `live`
        also what they do with a packet that is sent.

        Raises BadQuestion, and SwitchUnavailable while another packet is under way.
        """
        return self._explanations.explain(source, destination, port, version, switches, live)

    def verify(self, node: str | None, count: int, seed: int) -> VerifyView:
        """Policy compared with switches over `count` connections. Raises BadQuestion or SwitchUnavailable."""
        return self._verification.verify(node, count, seed)

    def cluster(self) -> bytes:
        """The effective cluster and the served bridges, encoded outside of the lock."""
        parts, bridges, network = self._reconciler.read(lambda reconciler, _: _cluster_parts(reconciler.world))
        return compute(_encoded, parts, bridges, network)

    def support(self) -> SupportView:
        """What a support bundle takes from the controller, without secrets."""
        bridges = self._reconciler.read(lambda reconciler, _: list(reconciler.world.bridges.values()))
        return support_view(bridges, self._config)


def _cluster_parts(world: World) -> tuple[EffectiveParts, list[BridgeState], NetworkOptions]:
    served = [bridge for name, bridge in world.bridges.items() if not world.owners.refusal(name)]
    return world.effective_parts(), served, world.network_options


def _encoded(parts: EffectiveParts, bridges: list[BridgeState], network: NetworkOptions) -> bytes:
    return cluster_json(effective_cluster(parts), bridges, network)


def _age(since: float | None, now: float) -> float | None:
    return None if since is None else now - since
