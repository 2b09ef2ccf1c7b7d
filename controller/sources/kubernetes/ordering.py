"""Keeps changes of several watches in order: holds them back until every change that may precede them is known.

Why: each kind of object has a watch of its own, and watches are independent of each other. Example: somebody creates
the policy `deny-all` and then the pod `db`. If the watch of networkpolicies is broken at that moment and the watch of
pods is not, Headgate sees the pod without its policy and would let all traffic to it pass. So once a watch was lost,
all changes are held until a catch-up check succeeds:

1. `watch_lost(networkpolicies)`: a check is due from now on.
2. `put(db)`: held, `waiting_since` is set.
3. `watch_resumed(networkpolicies)`: the watch is open again, which does not say that it has delivered what it missed.
4. The buffer's thread calls `catch_up`: the source lists the versions of all kinds and waits until every watch has
   delivered them. `deny-all` was created before `db` was seen, so it is in that list and arrives through `put`.
5. The check succeeds and no watch was lost meanwhile: `deny-all` and `db` go to the store in one call.

A watch that the server ended in order (`watch_ended`) needs no check: it resumes where it was, and changes wait until
it is open again and RESUME_SECONDS have passed. Waiting alone proves nothing after a loss; only when no check succeeds
for MAX_HOLD_SECONDS, the held changes are released without one and the missing watches are given up: one kind of object
that cannot be read must not stop all others for ever. A given-up watch that resumes makes a check due again.

No requests and no parsing here: `catch_up` and `apply` are passed in.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping

import structlog

from controller.base.threads import watched
from controller.sources.unit import SourceUnit

RESUME_SECONDS = 0.2  # in which a watch that was opened again after an orderly end delivers what came meanwhile
MAX_HOLD_SECONDS = 60.0  # the longest that a change waits; as long as a server may ask us to stay away
CATCH_UP_SECONDS = 30.0  # the limit of one check
MAX_CATCH_UP_ROUNDS = 2  # of one check, when changes that the round did not cover arrive during it
CATCH_UP_PAUSES = (0.2, 3.0)  # seconds between failed checks: the first, and the longest
FOREVER = float("inf")

Units = Mapping[str, SourceUnit | None]
WatchId = object
# Returns once all watches but the given ones have delivered what the server had at the call. Raises TimeoutError when
# they have not done so before time.monotonic() reaches the first argument.
CatchUp = Callable[[float, Collection[WatchId]], None]

log = structlog.get_logger("headgate")


class ChangeBuffer:
    """Passes units on to `apply`, in order. Thread-safe.

    Holds everything until the first check, which `all_listed` makes due. `released` is called each time after all held
    units were passed on.
    """

    def __init__(self, apply: Callable[[Units], None], catch_up: CatchUp, released: Callable[[], None]) -> None:
        self._apply = apply
        self._catch_up = catch_up
        self._released = released
        self._condition = threading.Condition()
        self._listed = False
        self._check_due = True
        self._behind: set[WatchId] = set()
        self._given_up: set[WatchId] = set()  # they stayed away too long and hold up nothing until they resume
        self._losses = 0  # watches lost so far: a check counts only if none is lost while it runs
        self._puts = 0  # calls of `put` so far: a check covers only what came before it
        self._held: dict[str, SourceUnit | None] = {}
        self._waiting_since: float | None = None
        self._resumed_until = 0.0
        self._retry_at = 0.0
        self._pause = CATCH_UP_PAUSES[0]  # in seconds, before the next check after a failed one; doubles
        self._stopping = False
        self._thread = watched("kubernetes-ordering", self._run)

    def start(self) -> None:
        """Start the thread that makes the checks."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread. What is held is never passed on."""
        self._thread.release()
        with self._condition:
            self._stopping = True
            self._condition.notify_all()

    # -- reports of the watches --------------------------------------------------------------------------------------

    def all_listed(self) -> None:
        """Every kind of object was listed once: after a check, changes may be released."""
        with self._condition:
            self._listed = True
            self._waiting_since = time.monotonic()
            self._condition.notify_all()

    def watch_lost(self, watch: WatchId) -> None:
        """A watch broke. How many changes it missed is unknown."""
        with self._condition:
            if watch not in self._given_up:
                self._losses += 1
                self._behind.add(watch)
                self._check_due = True

    def watch_ended(self, watch: WatchId) -> None:
        """The server ended a watch in order, having sent everything up to then; it is opened again."""
        with self._condition:
            self._behind.add(watch)

    def watch_resumed(self, watch: WatchId) -> None:
        """A watch is open again; it still has to deliver what it missed, or to report that it cannot (410 Gone)."""
        with self._condition:
            if watch in self._given_up:
                self._given_up.discard(watch)
                self._check_due = True
            if watch in self._behind:
                self._behind.discard(watch)
                self._resumed_until = time.monotonic() + RESUME_SECONDS
            self._condition.notify_all()

    def put(self, units: Units) -> None:
        """Pass these on: at once when nothing is behind, otherwise together with what is held."""
        with self._condition:
            self._puts += 1
            if self._listed and self._waiting_since is None:
                self._waiting_since = time.monotonic()
            self._held.update(units)
            if self._idle_seconds() <= 0 and not self._check_due:
                self._release()
            else:
                self._condition.notify_all()

    # -- catch-up checks ---------------------------------------------------------------------------------------------

    def catch_up(self, deadline: float, without: Collection[WatchId] = ()) -> None:
        """Check that all watches but `without` are caught up, then release what is held.

        `deadline` is a time.monotonic(). Raises TimeoutError.
        """
        rounds = 0
        while True:
            with self._condition:
                losses, puts = self._losses, self._puts
            self._catch_up(deadline, without)
            rounds += 1
            with self._condition:
                steady = losses == self._losses and not self._behind  # no watch was lost, none is still closed
                if steady and (puts == self._puts or not self._check_due or rounds >= MAX_CATCH_UP_ROUNDS):
                    self._listed, self._check_due, self._pause = True, False, CATCH_UP_PAUSES[0]
                    self._release()
                    return
                if self._stopping or time.monotonic() >= deadline:
                    raise TimeoutError("watches of the Kubernetes API keep breaking")
                if not steady:
                    self._condition.wait(CATCH_UP_PAUSES[0])

    @property
    def waiting_since(self) -> float | None:
        """The time.monotonic() since which changes are held, None when none are."""
        with self._condition:
            return self._waiting_since

    @property
    def given_up(self) -> frozenset[WatchId]:
        """The watches that were away for MAX_HOLD_SECONDS; the others go on without them."""
        with self._condition:
            return frozenset(self._given_up)

    # -- in its own thread -------------------------------------------------------------------------------------------

    def _idle_seconds(self) -> float:
        """Seconds until the thread has something to do, as far as is known now."""
        if not self._listed:
            return FOREVER
        now = time.monotonic()
        bound = FOREVER if self._waiting_since is None else self._waiting_since + MAX_HOLD_SECONDS - now
        if self._behind:
            return bound
        if self._check_due:
            return min(bound, self._retry_at - now)
        return FOREVER if self._waiting_since is None else self._resumed_until - now

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._stopping and (idle := self._idle_seconds()) > 0:
                    self._condition.wait(None if idle == FOREVER else idle)
                if self._stopping:
                    return
                if self._waiting_since is not None and time.monotonic() >= self._waiting_since + MAX_HOLD_SECONDS:
                    self._give_up()
                if not self._check_due:
                    self._try_release()
                    continue
                without = frozenset(self._given_up)
            self._try_catch_up(without)

    def _try_catch_up(self, without: Collection[WatchId]) -> None:
        try:
            self.catch_up(time.monotonic() + CATCH_UP_SECONDS, without)
            return
        except TimeoutError as error:
            log.info("changes from the Kubernetes API are held: earlier changes may be missing", reason=str(error))
        except Exception:
            # Without this thread neither the held changes nor any later ones would ever be passed on.
            log.exception("changes from the Kubernetes API could not be stored; they are kept and tried again")
        with self._condition:
            self._retry_at = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, CATCH_UP_PAUSES[1])

    def _give_up(self) -> None:
        self._given_up |= self._behind
        self._behind.clear()
        self._check_due = False
        log.warning(
            "changes from the Kubernetes API take effect although earlier changes may be missing",
            seconds=MAX_HOLD_SECONDS,
            away=sorted(str(watch) for watch in self._given_up),
        )

    def _try_release(self) -> None:
        try:
            self._release()
        except Exception:
            log.exception("changes from the Kubernetes API could not be stored; they are kept and tried again")
            self._resumed_until = time.monotonic() + CATCH_UP_PAUSES[1]

    def _release(self) -> None:
        if self._held:
            self._apply(self._held)
            self._held = {}
        self._waiting_since = None
        self._released()
