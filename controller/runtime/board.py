"""The status as a kept value: whoever asks takes the last one and never the core's lock.

A thread makes a new value when somebody asks and something may have changed, and sets the gauges now and then. However
long that takes, and however long the core is busy, those who ask wait for a bounded time only. ADR 9 says why.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from controller.base.threads import log_ended_threads, watched
from controller.metrics.gauges import Gauges
from controller.metrics.series import Metrics
from controller.reconcile.events import BundleDone, BundleFailed, Event, FlowsDumped, SwitchDown, SwitchUp
from controller.status.keeper import IncrementalViews, ReconcilerAccess
from controller.status.model import PodView, PolicyView, ProblemView, SwitchView
from flows.bridge.claim_contest import BridgeName

log = logging.getLogger(__name__)

GAUGE_SECONDS = 1.0
GAUGE_REST_FACTOR = 9  # times as long as the gauges took, where that is longer
_OF_SWITCHES = (SwitchUp, SwitchDown, FlowsDumped, BundleDone, BundleFailed)


@dataclass(frozen=True, slots=True)
class CachedStatus:
    """All of a status that is read off the reconciler, as of `at`, a monotonic clock."""

    at: float = 0.0
    waiting: tuple[str, ...] = ("the controller has just begun",)
    switches: tuple[SwitchView, ...] = ()
    policies: tuple[PolicyView, ...] = ()
    pods: tuple[PodView, ...] = ()
    problems: tuple[ProblemView, ...] = ()

    def switches_at(self, now: float) -> tuple[SwitchView, ...]:
        """The switches, their ages as of `now`."""
        passed = max(0.0, now - self.at)
        return tuple(
            one if one.commit_age is None else replace(one, commit_age=one.commit_age + passed) for one in self.switches
        )


class StatusCache:
    """Keeps the status. `faulty` and `away` are for the gauges, `besides` sets those that are not the reconciler's."""

    def __init__(
        self,
        core: ReconcilerAccess,
        metrics: Metrics,
        faulty: Callable[[], int],
        besides: Callable[[], None] = lambda: None,
        away: Callable[[], Mapping[BridgeName, str]] = dict,
    ) -> None:
        self._keeper = IncrementalViews(core)
        self._gauges = Gauges(core, self._keeper, metrics, faulty, away)
        self._besides = besides
        self._kept = CachedStatus()
        self._kept_of = -1  # the batch of events after which it was read
        self._batches = 0
        self._wake = threading.Event()
        self._built = threading.Condition()
        self._asked = 0  # how many have asked for a newer value
        self._answered = 0  # how many of them have it
        self._stopping = False
        self._thread = watched("status", self._run)

    def start(self) -> None:
        """Begin to keep."""
        self._thread.start()

    def stop(self) -> None:
        """End; the last value stays."""
        self._thread.release()
        self._stopping = True
        self._wake.set()

    def handled(self, events: Iterable[Event]) -> None:
        """The core has handled these; to be called under its lock."""
        for event in events:
            if isinstance(event, _OF_SWITCHES):
                self._keeper.touch(event.dpid)
        self._batches += 1

    @property
    def last(self) -> CachedStatus:
        """The value that was kept last."""
        return self._kept

    def fresh(self, seconds: float) -> CachedStatus:
        """A value read after this call, or the last one where that would take longer than `seconds`."""
        if self._kept_of == self._batches:
            return self._kept
        deadline = time.monotonic() + seconds
        with self._built:
            self._asked += 1
            number = self._asked
            self._wake.set()
            while self._answered < number and (left := deadline - time.monotonic()) > 0:
                self._built.wait(left)
        return self._kept

    # -- in its thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        gauges_at = time.monotonic() + GAUGE_SECONDS
        while not self._stopping:
            self._wake.wait(max(0.0, gauges_at - time.monotonic()))
            self._wake.clear()
            if self._answered < self._asked and not self._stopping:
                self._careful(self._answer)
            began = time.monotonic()
            if began >= gauges_at and not self._stopping:
                self._careful(self._show)
                now = time.monotonic()
                gauges_at = now + max(GAUGE_SECONDS, GAUGE_REST_FACTOR * (now - began))

    def _careful(self, work: Callable[[], None]) -> None:
        """Whatever goes wrong, the last value holds and the next one is tried."""
        try:
            work()
        except TimeoutError:
            log.warning("the controller is busy; the status is as old as its last pause")
        except Exception:
            log.exception("the status could not be read")

    def _answer(self) -> None:
        asked, batch = self._asked, self._batches
        try:
            self._kept = self._build()
            self._kept_of = batch
        finally:
            with self._built:
                self._answered = asked
                self._built.notify_all()

    def _build(self) -> CachedStatus:
        keeper = self._keeper
        moment = keeper.moment()
        at, switches = keeper.switches(moment)
        pods, policies, problems = keeper.pods(moment), keeper.policies(moment), keeper.problems(moment)
        return CachedStatus(at, moment.waiting, switches, policies, pods, problems)

    def _show(self) -> None:
        self._gauges.show()
        self._besides()
        log_ended_threads()
