"""The thread that takes part: it reads the Leases, writes what `membership` decides, and reports the view.

The reconciler gets a ReplicasChanged after every reading, with how long it may rely on it. Nothing about switches is
decided here.

If this replica may not use Leases (no rights, an API server without them), it is alone, as with a folder of manifests;
it goes on trying. Once it has taken part, it never is alone again: others may be there, although it cannot see them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import structlog

from controller.base.threads import watched
from controller.reconcile.events import ReplicasChanged
from controller.reconcile.ownership import View
from controller.replicas.lease_client import Leases
from controller.replicas.leases import MemberLease, Reading, names
from controller.replicas.membership import Decision, Membership
from controller.sources.kubernetes.stream import CONFLICT, FORBIDDEN, NOT_FOUND, ApiError

log = structlog.get_logger("headgate")
LEAVE_SECONDS = 1.2  # for leaving the view, at the end of the process
ALONE_PAUSE_SECONDS = 15.0  # between attempts of a replica that may not take part
_NOT_ALLOWED = (FORBIDDEN, NOT_FOUND)


@dataclass(frozen=True, slots=True)
class MemberState:
    """One member, as this replica knows it. `age`: seconds since its Lease was seen to change."""

    lease: MemberLease
    age: float
    in_view: bool


class ReplicaMember:
    """Takes part under `own`. `ready` says whether this replica may get switches.

    While a replica cannot read, the others may take it for dead, and go on with newer objects than it has. So before it
    joins again, `catch_up` is called: it returns at once, and calls what it is given when everything was read anew.

    `renewed` is when its Lease was written last (monotonic clock), None before; `reason` is why the view cannot be
    read, "" while it can; `replaced`: another process has this replica's name; `waits_for` are the replicas that start,
    for which this one waits before it takes switches, by name.
    """

    def __init__(
        self,
        leases: Leases,
        own: MemberLease,
        renew_interval: float,
        *,
        post: Callable[[ReplicasChanged], None],
        ready: Callable[[], bool],
        catch_up: Callable[[Callable[[], None]], None] = lambda done: done(),
        set_others: Callable[[Collection[str]], None] = lambda targets: None,
    ) -> None:
        self._leases = leases
        self._membership = Membership(own)
        self._renew_interval = renew_interval
        self._post = post
        self._ready = ready
        self._catch_up = catch_up
        self._may_be_behind = False  # the Leases could not be read for a while, so objects may be old, too
        self._catching_up = False
        self._set_others = set_others
        self.me = own.member
        self.alone = False
        self.replaced = False
        self.waits_for: tuple[str, ...] = ()
        self.reason = "the Leases were not read yet"
        self.renewed: float | None = None
        self._took_part = False
        self._read_at = 0.0
        self._logged: View | None = None
        self._leaving = False
        self._wake = threading.Event()
        self._left = threading.Event()
        self._thread = watched("replicas", self._run)

    def start(self) -> None:
        """Begin to take part."""
        self._thread.start()

    def nudge(self) -> None:
        """This replica may have become ready."""
        if not self._membership.own.ready:
            self._wake.set()

    def stop(self) -> None:
        """Leave the view, so that the others take over at once, and end the thread."""
        self._thread.release()
        if self._thread.is_alive():
            self._leaving = True
            self._wake.set()
            self._left.wait(LEAVE_SECONDS)

    # -- questions, from any thread ----------------------------------------------------------------------------------

    @property
    def view(self) -> View | None:
        """The newest view that is known."""
        return self._membership.view

    def members(self) -> list[MemberState]:
        """All members as read last, by name."""
        now, view = time.monotonic(), self._membership.view
        return [
            MemberState(one, self._membership.age(one.member.name, now) or 0.0, bool(view and view.has(one.member)))
            for one in self._membership.members
        ]

    # -- in its thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._leaving:
            self._wake.clear()
            began = time.monotonic()
            again = self._try_once(began)
            if not again:
                pause = ALONE_PAUSE_SECONDS if self.alone else self._renew_interval
                self._wake.wait(max(0.0, began + pause - time.monotonic()))
        self._leave()
        self._left.set()

    def _try_once(self, began: float) -> bool:
        """Read and write once. Returns whether something changed that is worth reading at once."""
        try:
            return self._once()
        except ApiError as error:
            self._failed(error, began)
        except Exception as error:
            log.exception("an error in Headgate while replicas were read, please report it")
            self._failed(ApiError(0, f"{type(error).__name__}: {error}"), began)
        return False

    def _once(self) -> bool:
        membership = self._membership
        reading = self._leases.read()
        self._look_for_gap(reading)
        ready = (membership.own.ready or self._ready()) and not self._catching_up
        membership.own = replace(membership.own, ready=ready)
        decision = membership.decide(reading)
        self._read_at, self.reason, self.alone = reading.began, "", False
        self._note_replaced(decision.replaced)
        self._note_waiting(decision.waits_for if ready else ())
        self._report(reading.began)
        self._set_others([one.openflow for one in membership.members if one.openflow and one.member != self.me])
        return self._write(decision)

    def _look_for_gap(self, reading: Reading) -> None:
        """After a time without a reading: where the view has this replica no more, others served its switches, so it
        reads everything anew before it may have any. Where the view still has it, nobody did."""
        if self._read_at and reading.began - self._read_at >= self._membership.own.seconds / 2:
            self._may_be_behind = True
        if not self._may_be_behind or reading.view is None or self._catching_up:
            return
        self._may_be_behind = False
        if not reading.view.view.has(self.me):
            log.info("this replica reads all objects anew before it joins again", replica=self.me.name)
            self._catching_up = True
            self._membership.own = replace(self._membership.own, ready=False)
            self._catch_up(self._caught_up)

    def _caught_up(self) -> None:
        self._catching_up = False
        self.nudge()

    def _write(self, decision: Decision) -> bool:
        """Write what was decided. Returns whether there is something new to read."""
        again = False
        try:
            if decision.own is not None:
                self._leases.write_member(decision.own)
                self.renewed, self._took_part = time.monotonic(), True
                again = not decision.own.version or (decision.own.transitions == 0 and self._logged is None)
            if decision.view is not None:
                self._leases.write_view(decision.view, self.me)
                again = True
            for lease in decision.forget:
                self._leases.delete(lease)
        except ApiError as error:
            if error.status != CONFLICT:
                raise
            return False  # somebody else was faster: read that next time
        return again

    def _report(self, read_at: float) -> None:
        """Report the view. Switches may be asked for roles for as long as a Lease lasts after that."""
        view = self._membership.view
        if view != self._logged and view is not None:
            self._log_view(view)
        if view is not None:
            until = read_at + self._membership.own.seconds
            self._post(ReplicasChanged(self.me, view, self._read_at, until))

    def _log_view(self, view: View) -> None:
        before, self._logged = self._logged, view
        was_in = before is not None and before.has(self.me)
        log.info("the replicas have changed", epoch=view.epoch, members=names(view.members), replica=self.me.name)
        if was_in and not view.has(self.me) and not self._leaving:
            text = "this replica was taken for dead, since its Lease was not renewed: it steps down, and joins again"
            log.warning(text, replica=self.me.name, epoch=view.epoch)

    def _note_replaced(self, replaced: bool) -> None:
        if replaced and not self.replaced:
            text = "another process has this replica's name: this one steps down; give each its own --replica NAME"
            log.error(text, replica=self.me.name)
        self.replaced = replaced

    def _note_waiting(self, names: tuple[str, ...]) -> None:
        if names and not self.waits_for:
            text = "this replica is ready, and waits for those that start with it before it takes switches"
            log.info(text, replica=self.me.name, waits_for=", ".join(names))
        self.waits_for = names

    def _failed(self, error: ApiError, began: float) -> None:
        self._may_be_behind = True
        if not self._took_part and error.status in _NOT_ALLOWED:
            if not self.alone:
                text = "this controller takes no part among replicas, and serves alone: Leases cannot be used"
                log.warning(text, reason=error.reason)
            self.alone, self.reason = True, error.reason
            self._post(ReplicasChanged(self.me, None, alone=True))
            return
        if not self.reason:
            log.warning("the replicas cannot be read; the last known view stays in force", reason=error.reason)
        self.reason = error.reason
        self._report(began)

    def _leave(self) -> None:
        """Take this replica out of the view and delete its Lease; whatever fails, the others notice later."""
        try:
            decision = self._membership.decide(self._leases.read(), leaving=True)
            if decision.view is not None:
                self._leases.write_view(decision.view, self.me)
            if not decision.replaced and self._took_part:
                self._leases.delete(replace(self._membership.own, version=""))
        except Exception as error:  # noqa: BLE001 - the process ends
            log.info("this replica could not leave the others in order", reason=str(error))
