"""The last status, cached: an HTTP request gets it without waiting for the reconciler's lock.

A thread of its own reads a new status when a request asks for one and events were handled since the last, and sets the
gauges of /metrics. A request waits for a new status for a bounded time only, however long the reconciler is busy: then
it gets the last one. Why: see docs/adr, ADR 9. What a status holds and how it is read: see `status.incremental`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from controller.base.threads import log_ended_threads, watched
from controller.metrics.gauges import Gauges
from controller.metrics.registry import Metrics
from controller.reconcile.events import BundleDone, BundleFailed, Event, FlowsDumped, SwitchDown, SwitchUp
from controller.status.incremental import IncrementalViews, ReconcilerAccess
from controller.status.model import NodeView, PodView, PolicyView, ProblemView, SwitchView
from flows.bridge.claim_contest import BridgeName

log = logging.getLogger(__name__)

GAUGE_SECONDS = 1.0  # between two settings of the gauges
GAUGE_REST_FACTOR = 9  # or this many times as long as the last setting took, if that is longer
_SWITCH_EVENTS = (SwitchUp, SwitchDown, FlowsDumped, BundleDone, BundleFailed)


@dataclass(frozen=True, slots=True)
class CachedStatus:
    """The part of a status that comes from the reconciler, as of `at` (monotonic clock)."""

    at: float = 0.0
    waiting: tuple[str, ...] = ("the controller has just started",)
    switches: tuple[SwitchView, ...] = ()
    policies: tuple[PolicyView, ...] = ()
    pods: tuple[PodView, ...] = ()
    problems: tuple[ProblemView, ...] = ()
    nodes: tuple[NodeView, ...] = ()

    def switches_at(self, now: float) -> tuple[SwitchView, ...]:
        """The switches, with their ages as of `now` (monotonic clock)."""
        passed = max(0.0, now - self.at)
        return tuple(
            replace(one, commit_age=_later(one.commit_age, passed), compare_age=_later(one.compare_age, passed))
            for one in self.switches
        )


def _later(age: float | None, passed: float) -> float | None:
    return None if age is None else age + passed


class StatusCache:
    """Caches the status, and sets the gauges.

    `count_policy_problems` and `away_reasons` are for the gauges (see `metrics.gauges`); `set_other_gauges` sets those
    that do not come from the reconciler.
    """

    def __init__(
        self,
        reconciler: ReconcilerAccess,
        metrics: Metrics,
        count_policy_problems: Callable[[], int],
        set_other_gauges: Callable[[], None] = lambda: None,
        away_reasons: Callable[[], Mapping[BridgeName, str]] = dict,
    ) -> None:
        self._reconciler = reconciler
        self._views = IncrementalViews(reconciler)
        self._gauges = Gauges(reconciler, self._views, metrics, count_policy_problems, away_reasons)
        self._set_other_gauges = set_other_gauges
        self._last = CachedStatus()
        self._last_batch = -1  # the batch of events after which it was read
        self._batches = 0  # handled so far
        self._wake = threading.Event()
        self._answered_condition = threading.Condition()
        self._requested = 0  # requests for a new status so far
        self._answered = 0  # how many of them are answered
        self._stopping = False
        self._thread = watched("status", self._run)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; the last status stays."""
        self._thread.release()
        self._stopping = True
        self._wake.set()

    def handled(self, events: Iterable[Event]) -> None:
        """These events were handled. With the reconciler's lock held."""
        for event in events:
            if isinstance(event, _SWITCH_EVENTS):
                self._views.switch_changed(event.dpid)
        self._batches += 1

    @property
    def last(self) -> CachedStatus:
        """The last status."""
        return self._last

    def fresh(self, seconds: float) -> CachedStatus:
        """A status read after this call, or the last one where that would take longer than `seconds`."""
        if self._last_batch == self._batches:
            return self._last
        deadline = time.monotonic() + seconds
        with self._answered_condition:
            self._requested += 1
            number = self._requested
            self._wake.set()
            while self._answered < number and (left := deadline - time.monotonic()) > 0:
                self._answered_condition.wait(left)
        return self._last

    # -- in its thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        gauges_at = time.monotonic() + GAUGE_SECONDS
        while not self._stopping:
            self._wake.wait(max(0.0, gauges_at - time.monotonic()))
            self._wake.clear()
            if self._answered < self._requested and not self._stopping:
                self._attempt(self._answer)
            began = time.monotonic()
            if began >= gauges_at and not self._stopping:
                self._attempt(self._set_gauges)
                now = time.monotonic()
                gauges_at = now + max(GAUGE_SECONDS, GAUGE_REST_FACTOR * (now - began))

    def _attempt(self, work: Callable[[], None]) -> None:
        """Call `work`; if it fails, the last status stays and the thread goes on."""
        try:
            work()
        except TimeoutError:
            log.warning("the controller is busy; the status is the one before the changes under way")
        except Exception:
            log.exception("the status could not be read")

    def _answer(self) -> None:
        requested, batch = self._requested, self._batches
        try:
            self._last = self._read()
            self._last_batch = batch
        finally:
            with self._answered_condition:
                self._answered = requested
                self._answered_condition.notify_all()

    def _read(self) -> CachedStatus:
        views = self._views
        state = views.state()
        at, switches = views.switches(state)
        pods, policies, problems = views.pods(state), views.policies(state), views.problems(state)
        return CachedStatus(at, state.waiting, switches, policies, pods, problems, views.nodes(state))

    def _set_gauges(self) -> None:
        self._gauges.set()
        self._set_other_gauges()
        log_ended_threads()
