"""`/wait`: blocks until everything that the sources and OVSDBs hold at the time of the request is realized.

Theory of operation. A wait first has every source and OVSDB read again and all resulting events handled. That yields a
`WaitGoal`: the sources' generation and the revision of the world that a switch must have realized. Then it compares the
reconciler with the goal after every batch of events, until nothing is missing or time is up. Missing are (1) lines that
time can mend, such as a bundle under way or a node that has not applied its settings, and (2) problems of the sources,
which only a change of the sources can mend: the wait gives up on those after SOURCE_PROBLEM_SECONDS instead of at the
deadline.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from controller.ovsdb.service import Ovsdb
from controller.reconcile.reconciler import Reconciler
from controller.runtime.event_queue import EventQueue
from controller.runtime.locked_reconciler import LockedReconciler
from controller.sources.store import Store
from controller.status.missing import (
    first_lines,
    left_out_problems,
    nodes_not_ready,
    source_problem_lines,
    unrealized_switches,
)
from controller.status.model import WaitResult
from flows.cluster.model import Key

# ovs-vswitchd and ovsdb-server retry at least every 8 s, so a switch that is configured for us has connected by then.
SWITCH_CALL_SECONDS = 10.0
SOURCE_PROBLEM_SECONDS = 2.0  # a problem that lasts longer is no half-written file
OVSDB_BARRIER_SECONDS = 2.0
MAX_RECHECK_SECONDS = 0.5
MIN_RECHECK_SECONDS = 0.05  # however many batches there are
# ovs-vswitchd replies to a commit before its revalidators have updated the megaflows in the datapath, and does not
# report when they have. They start at once and take milliseconds.
REVALIDATION_SECONDS = 0.1


class WaitGoal(NamedTuple):
    """What must be realized for a wait to end.

    `unread` says which sources and OVSDBs could not be read again; `generation` is that of the sources, `revision` that
    of the world.
    """

    unread: tuple[str, ...]
    generation: int
    revision: int


class WaitProgress(NamedTuple):
    """What is missing now. `lines` may go with time; `source_problems`: there are problems that only a change of the
    sources can mend; `stale_seconds`: for so long datapaths may still use megaflows from before the last commit.
    """

    lines: list[str]
    source_problems: bool
    stale_seconds: float


class RealizationWait:
    """Waits on behalf of HTTP requests; any number of threads of the hub at a time.

    `policy_problems` gives the policies that cannot be realized as they are written. `switches_call_since` is when
    switches could first connect to --ovsdb-listen (monotonic clock), None where they cannot.
    """

    def __init__(
        self,
        reconciler: LockedReconciler,
        events: EventQueue,
        store: Store,
        ovsdb: Ovsdb,
        *,
        policy_problems: Callable[[], Mapping[Key, str]],
        switches_call_since: float | None,
    ) -> None:
        self._reconciler = reconciler
        self._events = events
        self._store = store
        self._ovsdb = ovsdb
        self._policy_problems = policy_problems
        self._switches_call_since = switches_call_since

    def wait(self, timeout: float) -> WaitResult:
        """Read every source and OVSDB again; block until all of that is realized, or `timeout` seconds went by."""
        deadline = time.monotonic() + timeout
        problems_count_at = time.monotonic() + SOURCE_PROBLEM_SECONDS
        goal = self._reread(timeout)
        while True:
            progress = self._progress(goal, deadline)
            now = time.monotonic()
            unmendable = progress.source_problems and not progress.lines and now >= problems_count_at
            realized = not (progress.lines or progress.source_problems)
            if now >= deadline or unmendable or realized:
                if now < deadline:
                    time.sleep(min(progress.stale_seconds, _left(deadline)))
                problems = self._source_problem_lines() if progress.source_problems else []
                return WaitResult(realized, tuple(first_lines([*progress.lines, *problems])))
            self._reconciler.wait_for_batch(min(MAX_RECHECK_SECONDS, _left(deadline)))
            time.sleep(min(MIN_RECHECK_SECONDS, _left(deadline)))
            if (goal.unread or progress.source_problems) and _left(deadline) > MAX_RECHECK_SECONDS:
                goal = self._reread(_left(deadline))

    def _reread(self, timeout: float) -> WaitGoal:
        """Have the sources and OVSDBs read again, and all resulting events handled."""
        deadline = time.monotonic() + timeout
        generation, unread = 0, []
        try:
            generation = self._store.reread(timeout)
        except TimeoutError as error:
            unread.append(str(error))
        unread += self._ovsdb.barrier(min(OVSDB_BARRIER_SECONDS, _left(deadline)))
        if not self._events.drain(_left(deadline)):
            unread.append("the controller is busy with earlier changes")
        return WaitGoal(tuple(unread), generation, self._reconciler.revision)

    def _progress(self, goal: WaitGoal, deadline: float) -> WaitProgress:
        """Compare the reconciler with the goal. Costs as much as there are switches and nodes."""

        def look(reconciler: Reconciler, now: float) -> WaitProgress:
            lines = [*goal.unread, *unrealized_switches(reconciler, goal.revision), *nodes_not_ready(reconciler)]
            if reconciler.generation < goal.generation:
                lines.append("the newest state of the sources is not handled yet")
            lines += self._uncalled_switches(reconciler, now)
            world = reconciler.world
            problems = reconciler.problems or self._policy_problems() or world.left_out() or world.closed_policies()
            source_problems = world.cluster is not None and bool(problems)
            return WaitProgress(lines, source_problems, _stale_seconds(reconciler, now))

        try:
            return self._reconciler.read(look, max(MIN_RECHECK_SECONDS, _left(deadline)))
        except TimeoutError as error:
            return WaitProgress([str(error)], False, 0.0)

    def _source_problem_lines(self) -> list[str]:
        """The problems that only a change of the sources can mend."""
        try:
            problems = self._reconciler.read(lambda reconciler, _: left_out_problems(reconciler), MAX_RECHECK_SECONDS)
        except TimeoutError:
            problems = {}
        for key, reason in self._policy_problems().items():
            problems[key] = f"{reason}; {problems[key]}" if key in problems else reason
        return source_problem_lines(self._reconciler.problems, problems)

    def _uncalled_switches(self, reconciler: Reconciler, now: float) -> list[str]:
        """Switches that may still connect to --ovsdb-listen: those of nodes that have pods."""
        since = self._switches_call_since
        if since is None:
            return []
        if not reconciler.world.bridges:
            return ["no switch has connected to --ovsdb-listen yet"]
        if now >= since + SWITCH_CALL_SECONDS:
            return []
        nodes = {bridge.node for bridge in reconciler.world.bridges.values()}
        cluster = reconciler.world.cluster
        pods = cluster.pods.values() if cluster else ()
        away = sorted({pod.node for pod in pods if pod.networked and pod.node and pod.node not in nodes})
        return [f"{node}: its switch has not connected to --ovsdb-listen yet" for node in away]


def _stale_seconds(reconciler: Reconciler, now: float) -> float:
    ends = [
        s.settled_at + s.cache_marks.remaining_seconds + REVALIDATION_SECONDS
        for s in reconciler.switches.values()
        if s.settled_at is not None
    ]
    return max(0.0, max(ends, default=now) - now)


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())
