"""The running controller: sources, OVSDB and OpenFlow around one reconciler, joined by a queue of events.

One thread takes events and carries out commands; everything that decides stands in `reconcile`. Long computations run
beside the hub, so that echo requests are answered meanwhile.
"""

from __future__ import annotations

import contextlib
import gc
import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import structlog

from controller.base import logs
from controller.base.errors import StartError, reason_of
from controller.base.garbage_collector import GC_THRESHOLDS
from controller.base.hub import offload
from controller.base.threads import watched
from controller.base.version import version
from controller.config.addresses import is_tls
from controller.config.schema import RunConfig
from controller.metrics.meter import BatchMeter
from controller.metrics.series import Metrics
from controller.openflow.app import OpenFlowSetup, open_app
from controller.ovsdb.service import Ovsdb, OvsdbBounds
from controller.reconcile.events import (
    BridgeGone,
    BundleFailed,
    ClusterChanged,
    Event,
    FlowsDisturbed,
    FlowsDumped,
    OvsdbState,
    Problem,
    SwitchDown,
    SwitchUp,
    Tick,
)
from controller.reconcile.reconciler import Reconciler
from controller.runtime.answers import Answers
from controller.runtime.board import StatusCache
from controller.runtime.commands import CommandRunner
from controller.sources.folder.source import ManifestFolder
from controller.sources.kubernetes.source import KubernetesApi
from controller.sources.store import Store
from controller.status.invalid_packets import BEGAN, ENDED, invalid_senders_changes
from controller.status.policy_notes import SourceProblemLog
from controller.tls.credentials import Credentials
from flows.pipeline.tables import TABLE_NAMES

log = structlog.get_logger("headgate")

TICK_SECONDS = 1.0
MAX_BATCH = 10_000
FREEZE_AFTER_SECONDS = 0.5
T = TypeVar("T")


class DrainMark:
    """A question to the core's thread: asked in the order of events, answered once everything before it was handled."""

    def __init__(self) -> None:
        self.answered = threading.Event()


class Controller:
    """Everything that `headgate run` runs, apart from HTTP and signals."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.metrics = Metrics(version(), config.hub)
        self.meter = BatchMeter(self.metrics)
        self.changed = threading.Condition()
        self._queue: queue.Queue[Event | DrainMark] = queue.Queue()
        self._lock = threading.Lock()
        self._stopping = False
        self.notes = SourceProblemLog()
        self._unlimited: dict[int, int] = {}  # switches without meters, and the session in which that was said
        self._contained: dict[tuple[str, str, str], Problem] = {}
        self._bridgeless: frozenset[Problem] = frozenset()  # OVSDBs of which it was said that they have no bridge
        self.started = time.monotonic()
        files = config.tls_files
        self.tls = Credentials(files, config.allowed_switch, self.metrics) if files else None
        self.store = Store(self.post)
        if config.manifests:
            ManifestFolder(config.manifests, self.store)
        self.kubernetes = KubernetesApi(config.kubeconfig, self.store) if config.kubeconfig else None
        try:
            secured = is_tls(config.openflow_listen)
            setup = OpenFlowSetup(
                tls=self.tls if secured else None, refused=partial(self.metrics.peer_refused, "openflow")
            )
            self.openflow = open_app(self.post, [config.openflow_address], setup)
            self.ovsdb = Ovsdb(
                config.ovsdb,
                post=self.post,
                listen=config.ovsdb_listen,
                bridges=config.bridge,
                tables=TABLE_NAMES,
                openflow=(self.openflow.addresses[0].host, self.openflow.addresses[0].port),
                connected=self.openflow.session_of,
                tls=self.tls,
                openflow_tls=secured,
                bounds=OvsdbBounds(refused=partial(self.metrics.peer_refused, "ovsdb")),
            )
        except (OSError, ValueError) as error:
            where = config.ovsdb_listen or ", ".join(config.ovsdb)
            raise StartError(
                f"OVSDB at {where}: {reason_of(error)}; choose another address with --ovsdb-listen"
            ) from error
        self.reconciler = Reconciler(
            config.ovsdb, self.started, config.ovsdb_listen is not None, config.rates, config.bridge
        )
        self.board = StatusCache(
            self, self.metrics, lambda: len(self.notes.faults), self._show_sources, self.ovsdb.away
        )
        self._carrier = CommandRunner(self.openflow, self.ovsdb, self.post, self.switch_fields)
        self._views = Answers(self)
        self._thread = watched("core", self._run)

    @property
    def views(self) -> Answers:
        """What HTTP shows."""
        return self._views

    def post(self, event: Event) -> None:
        """Hand an event to the core, from any thread of the hub."""
        self._queue.put(event)

    def start(self) -> None:
        """Open listeners, connect, and go on in threads. Raises StartError."""
        gc.set_threshold(*GC_THRESHOLDS)
        try:
            self.ovsdb.start()
            self.store.start()
        except (OSError, ValueError) as error:
            raise StartError(reason_of(error)) from error
        self._thread.start()
        self.board.start()

    def stop(self, timeout: float) -> None:
        """End all that start began, within `timeout` seconds, leaving the flows on the switches in place."""
        deadline = time.monotonic() + timeout
        self._thread.release()
        self.board.stop()
        self._stopping = True
        self.post(Tick())
        self.store.stop()
        self.ovsdb.close()
        self.openflow.close()
        if self.tls is not None:
            self.tls.close()
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def settle(self, timeout: float) -> bool:
        """Wait until every event posted before this call was handled. False when that took too long."""
        question = DrainMark()
        self._queue.put(question)
        return question.answered.wait(timeout)

    def read(self, look: Callable[[Reconciler, float], T], timeout: float = -1) -> T:
        """What `look` reads off the reconciler while nothing changes it.

        Raises TimeoutError when that changes for more than `timeout` seconds.
        """
        if not self._lock.acquire(timeout=timeout):
            raise TimeoutError("the controller is busy with earlier changes")
        try:
            return look(self.reconciler, time.monotonic())
        finally:
            self._lock.release()

    def _run(self) -> None:
        while not self._stopping:
            events, questions = self._next_batch()
            try:
                self._handle(events)
            except Exception:
                # The only thread that enforces policy goes on; what it had decided on is timed out by the reconciler.
                with contextlib.suppress(Exception):
                    log.exception("events could not be handled")
            for question in questions:
                question.answered.set()
            with self.changed:
                self.changed.notify_all()

    def _next_batch(self) -> tuple[list[Event], list[DrainMark]]:
        now = time.monotonic()
        due = self.reconciler.due(now)
        found: list[Event | DrainMark] = []
        try:
            found.append(self._queue.get(timeout=TICK_SECONDS if due is None else min(max(due, 0.001), TICK_SECONDS)))
            while len(found) < MAX_BATCH:
                found.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        events = [item for item in found if not isinstance(item, DrainMark)]
        return events or [Tick()], [item for item in found if isinstance(item, DrainMark)]

    def _handle(self, events: list[Event]) -> None:
        known = self.notes.faults
        for event in events:
            self._note(event)
        with self._lock:
            before = time.monotonic()
            commands = offload(self.reconciler.handle, events, before)
            now = time.monotonic()
            faults = {(p.where, p.key, p.field): p for p in self.reconciler.contained_problems()}
        # First of all: whatever else goes wrong, what was decided on is done, or is said to have failed.
        for command in commands:
            self._carrier.carry_out(command)
        self._tell(faults)
        with self._lock:
            self.meter.handled(self.reconciler, events, commands, now - before)
            self.board.handled(events)
            self._note_invalid(events)
            if any(isinstance(event, OvsdbState | BridgeGone) for event in events):
                self._note_bridgeless()
        if now - before > FREEZE_AFTER_SECONDS:
            gc.freeze()
        if self.kubernetes is not None and self.notes.faults is not known:
            # Policies that are not, or only in part, in force for as long as nobody changes them.
            self.kubernetes.events.report(self.notes.faults)

    def _show_sources(self) -> None:
        self.metrics.log_dropped(logs.dropped())
        now = time.monotonic()
        for source in self.store.states():
            age = None if source.current_at is None else now - source.current_at
            self.metrics.source(source.name, source.synced, source.problems, age)

    def _tell(self, faults: dict[tuple[str, str, str], Problem]) -> None:
        """Say in the log what is kept out because handling it failed, once."""
        for name in faults.keys() - self._contained.keys():
            fault = faults[name]
            log.error(fault.reason, where=fault.where, object=fault.key, field=fault.field)
        self._contained = faults

    def switch_fields(self, dpid: int) -> dict[str, str]:
        """A switch as log lines name it: its node, where that is known, beside the datapath id."""
        name = self.reconciler.bridge_of(dpid)
        bridge = self.reconciler.world.bridges.get(name) if name else None
        known = {"node": bridge.node} if bridge and bridge.node else {}
        return {**known, "dpid": f"{dpid:016x}"}

    def _note(self, event: Event) -> None:
        """Say what an operator wants to read in the log. A log that cannot be written must not stop enforcement."""
        with contextlib.suppress(Exception):
            self._say(event)

    def _say(self, event: Event) -> None:
        if isinstance(event, SwitchUp):
            log.info("switch connected", **self.switch_fields(event.dpid))
        elif isinstance(event, SwitchDown):
            log.warning("switch disconnected; its flows stay in force", **self.switch_fields(event.dpid))
            self._unlimited.pop(event.dpid, None)
        elif isinstance(event, FlowsDisturbed):
            self._note_drift(event)
        elif isinstance(event, FlowsDumped | BundleFailed):
            self._note_limits(event)
        elif isinstance(event, OvsdbState) and event.reason:
            log.warning("OVSDB", ovsdb=event.ovsdb, synced=event.synced, reason=event.reason)
        elif isinstance(event, ClusterChanged):
            self.notes.take(event)

    def _note_bridgeless(self) -> None:
        """Say of each OVSDB once that it has no bridge of ours, and again when it had one meanwhile."""
        found = frozenset(self.reconciler.without_bridge())
        for problem in found - self._bridgeless:
            log.warning(problem.reason, ovsdb=problem.where)
        self._bridgeless = found

    def _note_invalid(self, events: list[Event]) -> None:
        """Say which pods began, or ceased, to send mostly invalid packets: two lines at most for a switch's dump."""
        for dpid in dict.fromkeys(event.dpid for event in events if isinstance(event, FlowsDumped)):
            for began, pods in invalid_senders_changes(self.reconciler, dpid):
                with contextlib.suppress(Exception):
                    say = log.warning if began else log.info
                    say(BEGAN if began else ENDED, **self.switch_fields(dpid), pods=pods)

    def _note_drift(self, event: FlowsDisturbed) -> None:
        """What somebody else did to a switch's flows."""
        ours = [f"{word} {count}" for word, count in event.changes.items() if word != "foreign"]
        who = self.switch_fields(event.dpid)
        if ours:
            log.warning("somebody else changed flows of ours; they are put right", **who, flows=", ".join(ours))
        if event.foreign:
            words = "foreign flows came, went or changed in tables of ours; see headgate status"
            log.warning(words, **who, flows=event.foreign)

    def _note_limits(self, event: FlowsDumped | BundleFailed) -> None:
        """Say once for each session of a switch that pods are not limited there."""
        known = self._unlimited.get(event.dpid) == event.session
        if known or not self.config.rates.metered:
            return
        if isinstance(event, BundleFailed):
            reason = event.reason if event.no_meters else ""
        else:
            reason = "" if event.meters and event.meters.most else "the switch has no meters"
        if reason:
            self._unlimited[event.dpid] = event.session
            text = "new connections and fragments of pods are not limited"
            log.warning(text, **self.switch_fields(event.dpid), reason=reason)
