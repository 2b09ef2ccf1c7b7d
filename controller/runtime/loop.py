"""The event loop: the one thread that changes the reconciler. What to do is decided in `reconcile`, never here.

Theory of operation. Sources, OVSDB connections and OpenFlow sessions post events to the `EventQueue`. The loop takes
all events that are there as one batch, so that a thousand changed pods cost one computation. For each batch:

1. The event log writes what an operator should read.
2. With the lock held, `Reconciler.handle` turns events into commands. That may take seconds in a large cluster, so it
   runs beside the hub (`offload`), and OpenFlow echo requests are answered meanwhile. A few packets of DNS do not: it
   would take longer than they do.
3. Without the lock, the commands are handed over: bundles to OpenFlow sessions, port marks to OVSDB connections. This
   comes before metrics and log, so that an error in those never keeps a decided command back.
4. With the lock held again, metrics, status and log take what the batch changed.
5. Threads that wait for a batch (`/wait`, `/flows`) are woken.

Example: a NetworkPolicy is created. The source posts ClusterChanged; step 2 returns a SendBundle for each switch with a
pod of the policy; step 3 sends it. The switch's reply comes back as the event BundleDone, a batch of its own, and its
WriteMarks command marks the ports in OVSDB.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping

import structlog

from controller.base.garbage_collector import without_collection
from controller.base.hub import offload
from controller.base.threads import watched
from controller.metrics.event_counters import EventCounters
from controller.reconcile.commands import Command
from controller.reconcile.events import Event, Tick
from controller.reconcile.reconciler import Reconciler
from controller.runtime.command_runner import CommandRunner
from controller.runtime.event_log import EventLog
from controller.runtime.event_queue import EventQueue
from controller.runtime.locked_reconciler import LockedReconciler
from controller.runtime.status_cache import StatusCache
from flows.cluster.model import Key

log = structlog.get_logger("headgate")

TICK_SECONDS = 1.0  # between two batches at most, and between two ticks
MIN_TICK_SECONDS = 0.001


class EventLoop:
    """Feeds events to the reconciler and carries out its commands.

    `report_policies` is called with the policies that have problems, and why, whenever these change.
    """

    def __init__(
        self,
        events: EventQueue,
        reconciler: Reconciler,
        locked: LockedReconciler,
        *,
        commands: CommandRunner,
        event_log: EventLog,
        event_counters: EventCounters,
        status: StatusCache,
        report_policies: Callable[[Mapping[Key, str]], None] = lambda problems: None,
    ) -> None:
        self._events = events
        self._reconciler = reconciler
        self._locked = locked
        self._commands = commands
        self._event_log = event_log
        self._event_counters = event_counters
        self._status = status
        self._report_policies = report_policies
        self._stopping = False
        self._ticked_at = 0.0
        self._thread = watched("core", self._run)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End after the batch under way; `join` waits for that."""
        self._thread.release()
        self._stopping = True
        self._events.post(Tick())

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended, for at most `timeout` seconds."""
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping:
            due = self._reconciler.due(time.monotonic())
            wait = TICK_SECONDS if due is None else min(max(due, MIN_TICK_SECONDS), TICK_SECONDS)
            events, marks = self._events.next_batch(wait)
            self._tick(events)
            try:
                self._handle(events)
            except Exception:
                # This thread alone enforces policy, so it goes on. The reconciler times out commands without an answer.
                with contextlib.suppress(Exception):
                    log.exception("events could not be handled")
            for mark in marks:
                mark.handled.set()
            self._locked.notify_batch()

    def _tick(self, events: list[Event]) -> None:
        """Add a tick where the last one is too long ago: events that come all the time must not keep it away."""
        now = time.monotonic()
        if not any(isinstance(event, Tick) for event in events):
            if now - self._ticked_at < TICK_SECONDS:
                return
            events.append(Tick())
        self._ticked_at = now

    def _handle(self, events: list[Event]) -> None:
        problems_before = self._event_log.policy_problems
        self._event_log.received(events)
        with self._locked.lock:
            began = time.monotonic()
            brief = self._reconciler.is_brief(events, began)
            commands = self._compute(events, began) if brief else offload(self._compute, events, began)
            seconds = time.monotonic() - began
            contained = tuple(self._reconciler.contained_problems())
        # Before everything else: whatever fails below, each command is carried out or reported as failed.
        for command in commands:
            self._commands.carry_out(command)
        self._event_log.contained(contained)
        with self._locked.lock:
            if dropped := self._events.take_dropped():
                self._reconciler.held_answers.counts["dropped"] += dropped
            self._event_counters.handled(self._reconciler, events, commands, seconds)
            self._status.handled(events)
            self._event_log.handled(events)
        if self._event_log.policy_problems is not problems_before:
            self._report_policies(self._event_log.policy_problems)

    def _compute(self, events: list[Event], now: float) -> list[Command]:
        with without_collection():
            return self._reconciler.handle(events, now)
