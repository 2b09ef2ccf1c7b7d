"""What holds changes back until all that came before them is known.

Each kind of object has a watch of its own. After an outage one may be up to date while another still lacks what came
first: a pod would be seen before the policy that was made before it, and stand open. So once a watch was lost, changes
wait for a proof: every watch is there again and has brought all that the server had after the changes came in. Time
proves nothing here. Only where no proof comes for very long do they go on without it: one kind of object that can never
be read again must not hold up the others for ever.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping

import structlog

from controller.base.threads import watched
from controller.sources.unit import SourceUnit

RESUME_SECONDS = 0.2  # in which a watch that the server ended in order says what came while it was opened again
MAX_HOLD_SECONDS = 60.0  # the longest that a change waits, as long as a server may ask us to stay away
CATCH_UP_SECONDS = 30.0  # for one proof
MAX_CATCH_UP_ROUNDS = 2  # of proof, where changes come in meanwhile that it says nothing of
CATCH_UP_PAUSES = (0.2, 3.0)  # between proofs that fail, growing
FOREVER = float("inf")

Units = Mapping[str, SourceUnit | None]
WatchId = object
# Returns once all watches but these have brought what the server had when it was called, or raises TimeoutError when
# they have not until time.monotonic() is so late.
CatchUp = Callable[[float, Collection[WatchId]], None]

log = structlog.get_logger("headgate")


class ChangeBuffer:
    """Passes units on to `apply`, in order. Thread-safe.

    Closed until the first proof, which `begin` calls for; `opened` is called each time that everything was passed on.
    """

    def __init__(self, apply: Callable[[Units], None], proof: CatchUp, opened: Callable[[], None]) -> None:
        self._apply = apply
        self._proof = proof
        self._opened = opened
        self._condition = threading.Condition()
        self._begun = False
        self._doubt = True  # a proof is due
        self._behind: set[WatchId] = set()
        self._given_up: set[WatchId] = set()  # they stay away, and hold up nothing more until they are back
        self._losses = 0
        self._puts = 0
        self._held: dict[str, SourceUnit | None] = {}
        self._waiting_since: float | None = None
        self._settled_at = 0.0
        self._retry_at = 0.0
        self._pause = CATCH_UP_PAUSES[0]
        self._stopping = False
        self._thread = watched("kubernetes-gate", self._run)

    def start(self) -> None:
        """Begin to hold."""
        self._thread.start()

    def stop(self) -> None:
        """End, keeping what is held for ever."""
        self._thread.release()
        with self._condition:
            self._stopping = True
            self._condition.notify_all()

    # -- what the watches say ----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Everything was read once: with a proof it may go on."""
        with self._condition:
            self._begun = True
            self._waiting_since = time.monotonic()
            self._condition.notify_all()

    def lost(self, watch: WatchId) -> None:
        """A watch is behind from now on, nobody knows how far."""
        with self._condition:
            if watch not in self._given_up:
                self._losses += 1
                self._behind.add(watch)
                self._doubt = True

    def ended(self, watch: WatchId) -> None:
        """A watch has said all that it had to, and is opened again."""
        with self._condition:
            self._behind.add(watch)

    def back(self, watch: WatchId) -> None:
        """It goes on where it was, and has only to say what it missed: changes, or that it cannot go on."""
        with self._condition:
            if watch in self._given_up:
                self._given_up.discard(watch)
                self._doubt = True
            if watch in self._behind:
                self._behind.discard(watch)
                self._settled_at = time.monotonic() + RESUME_SECONDS
            self._condition.notify_all()

    def put(self, units: Units) -> None:
        """Pass these on, now or together with others."""
        with self._condition:
            self._puts += 1
            if self._begun and self._waiting_since is None:
                self._waiting_since = time.monotonic()
            self._held.update(units)
            if self._left() <= 0 and not self._doubt:
                self._open()
            else:
                self._condition.notify_all()

    # -- proofs ------------------------------------------------------------------------------------------------------

    def prove(self, deadline: float, without: Collection[WatchId] = ()) -> None:
        """Have it proven that all is known, and pass on what is held. Raises TimeoutError."""
        rounds = 0
        while True:
            with self._condition:
                losses, puts = self._losses, self._puts
            self._proof(deadline, without)
            rounds += 1
            with self._condition:
                steady = losses == self._losses and not self._behind
                if steady and (puts == self._puts or not self._doubt or rounds >= MAX_CATCH_UP_ROUNDS):
                    self._begun, self._doubt, self._pause = True, False, CATCH_UP_PAUSES[0]
                    self._open()
                    return
                if self._stopping or time.monotonic() >= deadline:
                    raise TimeoutError("the watches of the Kubernetes API come and go")
                if not steady:
                    self._condition.wait(CATCH_UP_PAUSES[0])

    @property
    def waiting_since(self) -> float | None:
        """The time.monotonic() since which changes wait, None when none do."""
        with self._condition:
            return self._waiting_since

    @property
    def given_up(self) -> frozenset[WatchId]:
        """The watches that stayed away for so long that the others go on without them."""
        with self._condition:
            return frozenset(self._given_up)

    # -- in its own thread -------------------------------------------------------------------------------------------

    def _left(self) -> float:
        """For how many seconds nothing is to be done, as it looks now."""
        if not self._begun:
            return FOREVER
        now = time.monotonic()
        bound = FOREVER if self._waiting_since is None else self._waiting_since + MAX_HOLD_SECONDS - now
        if self._behind:
            return bound
        if self._doubt:
            return min(bound, self._retry_at - now)
        return FOREVER if self._waiting_since is None else self._settled_at - now

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._stopping and (left := self._left()) > 0:
                    self._condition.wait(None if left == FOREVER else left)
                if self._stopping:
                    return
                if self._waiting_since is not None and time.monotonic() >= self._waiting_since + MAX_HOLD_SECONDS:
                    self._give_up()
                if not self._doubt:
                    self._try_open()
                    continue
                without = frozenset(self._given_up)
            self._try_proof(without)

    def _try_proof(self, without: Collection[WatchId]) -> None:
        try:
            self.prove(time.monotonic() + CATCH_UP_SECONDS, without)
            return
        except TimeoutError as error:
            log.info("changes of the Kubernetes API wait until what came before them is known", reason=str(error))
        except Exception:
            # What is held would never be passed on without this thread, nor anything after it.
            log.exception("changes of the Kubernetes API could not be taken in; they are kept and tried again")
        with self._condition:
            self._retry_at = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, CATCH_UP_PAUSES[1])

    def _give_up(self) -> None:
        self._given_up |= self._behind
        self._behind.clear()
        self._doubt = False
        log.warning(
            "the Kubernetes API leaves open what came before changes that it reports; after so long they are taken in",
            seconds=MAX_HOLD_SECONDS,
            away=sorted(str(watch) for watch in self._given_up),
        )

    def _try_open(self) -> None:
        try:
            self._open()
        except Exception:
            log.exception("changes of the Kubernetes API could not be taken in; they are kept and tried again")
            self._settled_at = time.monotonic() + CATCH_UP_PAUSES[1]

    def _open(self) -> None:
        if self._held:
            self._apply(self._held)
            self._held = {}
        self._waiting_since = None
        self._opened()
