"""The state that the page lists, numbered, and what differs from one number to the next.

A thread compares the last status with the one before: once a second while somebody looks at the page, more seldom else,
and never more than a tenth of the time. Deltas are made once, whoever reads them; the last ones are kept. Whoever asks
for older ones reads the whole state again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from controller.base.threads import watched
from controller.runtime.answer_lanes import compute
from controller.runtime.page_history import PodHistory
from controller.runtime.status_cache import CachedStatus, StatusCache
from controller.status.model import PodView, ProblemView, SwitchView
from controller.status.page_model import (
    MAX_PODS_LISTED,
    MAX_POLICIES_LISTED,
    MAX_PROBLEMS_LISTED,
    HistoryEntry,
    PageChanges,
    PageDelta,
)

WATCHED_SECONDS = 1.0  # between two comparisons while somebody looks
IDLE_SECONDS = 5.0
LOOKING_SECONDS = 30.0  # after the last question
REST_FACTOR = 9  # or this many times as long as the last comparison took
STATUS_SECONDS = 2.0
MAX_DELTAS = 200
MAX_CHANGED = 2000  # objects in one delta; with more the state is read as a whole

V = TypeVar("V")


class PageFeed:
    """Every method may be called from any thread of the hub."""

    def __init__(self, status: StatusCache) -> None:
        self._status = status
        self._condition = threading.Condition()
        self._last: CachedStatus | None = None
        self._pods: dict[str, PodView] = {}
        self._serial = 0
        self._deltas: deque[PageDelta] = deque(maxlen=MAX_DELTAS)
        self._asked_at = float("-inf")
        self._history = PodHistory()
        self._stopping = threading.Event()
        self._thread = watched("page", self._run)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, and end all waits."""
        self._thread.release()
        self._stopping.set()
        with self._condition:
            self._condition.notify_all()

    def current(self) -> tuple[int, CachedStatus]:
        """The last compared status and its number."""
        self._asked_at = time.monotonic()
        with self._condition:
            while self._last is None and not self._stopping.is_set():
                self._condition.wait(STATUS_SECONDS)
            return self._serial, self._last or CachedStatus()

    def changes(self, after: int, seconds: float) -> PageChanges:
        """The deltas since a number; waits until there are some, for `seconds` at most."""
        self._asked_at = time.monotonic()
        deadline = self._asked_at + seconds
        with self._condition:
            while self._serial == after and not self._stopping.is_set():
                left = deadline - time.monotonic()
                if left <= 0:
                    return PageChanges()
                self._condition.wait(left)
            self._asked_at = time.monotonic()
            if self._serial == after:
                return PageChanges()
            found = tuple(one for one in self._deltas if one.serial > after)
            if after > self._serial or len(found) != self._serial - after:
                return PageChanges(reset=True)
            return PageChanges(found)

    def history(self, key: str) -> tuple[HistoryEntry, ...]:
        """What happened to a pod."""
        return self._history.of(key, time.monotonic())

    # -- in its thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            self._compare(self._status.fresh(STATUS_SECONDS))
            took = time.monotonic() - began
            looking = began - self._asked_at < LOOKING_SECONDS
            self._stopping.wait(max(WATCHED_SECONDS if looking else IDLE_SECONDS, REST_FACTOR * took))

    def _compare(self, new: CachedStatus) -> None:
        old = self._last
        if new is old:
            return
        now = time.monotonic()
        same = old is not None and new.pods is old.pods
        pods = self._pods if same else compute(_by, new.pods, _pod_key)
        if old is None:
            self._pods = pods
            with self._condition:
                self._last, self._serial = new, 1
                self._condition.notify_all()
            return
        changed, gone = ([], []) if same else compute(_changed, self._pods, pods)
        for key in (*changed, *gone):
            self._history.note(self._pods.get(key), pods.get(key), now)
        delta = self._delta(old, new, [pods[key] for key in changed], gone)
        self._pods = pods
        with self._condition:
            self._last = new
            if delta is not None:
                self._serial += 1
                if _size(delta) > MAX_CHANGED:
                    self._deltas.clear()
                else:
                    self._deltas.append(delta)
                self._condition.notify_all()

    def _delta(
        self, old: CachedStatus, new: CachedStatus, pods: Sequence[PodView], gone: Sequence[str]
    ) -> PageDelta | None:
        listed = set(self._listed(new)) if len(new.pods) > MAX_PODS_LISTED else None
        switches, switches_gone = _changed(_timeless(old.switches), _timeless(new.switches))
        old_policies, new_policies = ({one.key: one for one in each.policies} for each in (old, new))
        policies, policies_gone = _changed(old_policies, new_policies) if new.policies is not old.policies else ([], [])
        problems = new.problems if old.problems != new.problems else None
        if not (pods or gone or switches or switches_gone or policies or policies_gone) and (
            problems is None and old.waiting == new.waiting
        ):
            return None
        by_name = _by(new.switches, switch_name)
        return PageDelta(
            self._serial + 1,
            new.waiting,
            len(new.pods),
            len(new.policies),
            len(new.problems),
            tuple(by_name[name] for name in switches),
            tuple(switches_gone),
            tuple(one for one in pods if listed is None or one.key in listed),
            tuple(gone),
            tuple(new_policies[key] for key in policies[:MAX_POLICIES_LISTED]),
            tuple(policies_gone),
            None if problems is None else tuple(problems[:MAX_PROBLEMS_LISTED]),
        )

    @staticmethod
    def _listed(status: CachedStatus) -> list[str]:
        return [one.key for one in status.pods[:MAX_PODS_LISTED]]


def _pod_key(one: PodView) -> str:
    return one.key


def switch_name(one: SwitchView) -> str:
    """What tells a switch from others on the page."""
    return f"{one.node} {one.bridge} {one.ovsdb}"


def listed_problems(status: CachedStatus) -> tuple[ProblemView, ...]:
    """The first problems."""
    return tuple(status.problems[:MAX_PROBLEMS_LISTED])


def _timeless(switches: Sequence[SwitchView]) -> dict[str, SwitchView]:
    """The switches without their ages, which differ each time."""
    return {switch_name(one): replace(one, commit_age=None, compare_age=None) for one in switches}


def _by(values: Sequence[V], name: Callable[[V], str]) -> dict[str, V]:
    return {name(one): one for one in values}


def _changed(old: dict[str, V], new: dict[str, V]) -> tuple[list[str], list[str]]:
    """The keys that are new or have another value, and those that are gone. Equal objects are mostly the same ones."""
    if old is new:
        return [], []
    changed = [key for key, one in new.items() if (before := old.get(key)) is not one and before != one]
    return changed, [key for key in old if key not in new]


def _size(delta: PageDelta) -> int:
    return len(delta.pods) + len(delta.pods_gone) + len(delta.policies) + len(delta.policies_gone)
