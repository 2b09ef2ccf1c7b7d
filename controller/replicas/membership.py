"""Who is a member, decided from what was read: values and the time in, what to write out.

Theory of operation. Each replica reads all Leases (`leases`) every renew interval, and `decide` says what to write:

1. its own Lease: made, or renewed. One that another process of the same name has replaced is left to that process, as
   long as it is renewed: the newer one of two processes with one name goes on;
2. the view, if it does not have exactly the members that are alive and ready. It is replaced with the next epoch, and
   only if nobody else has replaced it since it was read (its resourceVersion): so an epoch has one list of members, and
   a replica that was stopped cannot write a view that it had decided on before.

A member is alive as long as its Lease keeps changing: it expires when it has not changed for its leaseDurationSeconds
by this replica's clock. The times that are written in Leases are never compared, so clocks need not agree. A member
that is seen for the first time counts as alive for one duration. That a Lease has not changed is known of the time at
which the reading began; a change counts from when the reading ended. So a replica that is stopped in between takes
nobody for dead. Nor does one that could not read for a while: the others may not have been able to renew. After a gap
of half a lease between two readings, everybody has a whole one again.

Replicas see a member's Lease change at different times, and one that has just started sees every Lease for the first
time. So they disagree for a while on who is alive, and would put a dead member in and out of the view in turns.
Therefore one that the view does not have is taken into it only when its Lease was seen to change since that view was
read.

At the start nobody serves, and replicas become ready one after the other. The first one would begin with all switches,
and give most of them away again. So while nobody of the view is alive, a replica that is ready waits for those that are
alive and not ready yet: at most one lease, or as long as it took to become ready itself, since the others have as much
to read. What keeps one for minutes is something else, hence START_WAIT_SECONDS. Where somebody serves, or nobody
else is there, nothing is waited for.

Nobody leaves a view because it cannot reach the API server: while it is away for everybody, the view stays in force;
if it is away for one replica only, the others take it out of the view, and its switches tell it.

No input or output, no clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from controller.reconcile.ownership import MAX_EPOCH, MAX_MEMBERS, Member, View
from controller.replicas.leases import MemberLease, Reading, ViewLease

START_WAIT_SECONDS = 60.0  # or one lease, where that is longer
FORGET_LEASE_SECONDS = 600.0  # after which the Lease of a member that is gone is deleted


@dataclass(frozen=True, slots=True)
class Decision:
    """What to write, each None for nothing; `forget` are Leases to delete.

    `joins`: the Lease is not this process's yet, so there is more to decide once it is. `replaced`: another process has
    this replica's name, so this one takes no part. `waits_for`: the replicas that start, without which the first view
    is not written yet, by name.
    """

    own: MemberLease | None = None
    view: ViewLease | None = None
    forget: tuple[MemberLease, ...] = ()
    joins: bool = False
    replaced: bool = False
    waits_for: tuple[str, ...] = ()


@dataclass(slots=True)
class _Seen:
    """A member's Lease as it was seen last, and since when it has not changed (monotonic clock).

    `changed`: when it was seen to change or to appear; None if it is as it was in the first reading.
    """

    member: Member
    version: str
    at: float
    changed: float | None


class Membership:
    """What one replica knows of all. `own` is its Lease as it should be, apart from its version."""

    def __init__(self, own: MemberLease) -> None:
        self.own = own
        self.view: View | None = None  # the newest that was read
        self.members: tuple[MemberLease, ...] = ()  # as read last
        self._seen: dict[str, _Seen] = {}
        self._held = False  # whether the Lease was this process's when it was read last
        self._transitions = 0
        self._read_until: float | None = None
        self._view_at = -math.inf  # when `view` was read first
        self._proposed = 0  # the last epoch that this replica wanted to write
        self._unready_at: float | None = None  # since when it is not ready
        self._waits_until: float | None = None  # since it is ready: until when it waits for others before a first view

    def decide(self, reading: Reading, leaving: bool = False) -> Decision:
        """What to write after a reading. `leaving`: this replica ends."""
        self._note(reading)
        found = next((one for one in reading.members if one.member.name == self.own.member.name), None)
        mine = found is not None and found.member == self.own.member
        if self._held and found is not None and not mine and self.is_alive(found, reading.began):
            return Decision(replaced=True)
        self._held = mine
        self.own = replace(self.own, ready=self.own.ready and not leaving)
        self._note_ready(reading.began)
        own = None if leaving else self._renewed(found, mine)
        # A view is written by those that are seen to be alive themselves: a replica that comes back renews first.
        waits_for = self._starting(reading) if mine else ()
        view = self._next_view(reading) if mine and not waits_for else None
        forget = self._to_forget(reading) if mine else ()
        return Decision(own, view, forget, joins=own is not None and not mine, waits_for=waits_for)

    def _note(self, reading: Reading) -> None:
        self.members = reading.members
        first = self._read_until is None
        blind = self._read_until is not None and reading.began - self._read_until >= self.own.seconds / 2
        self._read_until = reading.ended
        for lease in reading.members:
            seen = self._seen.get(lease.member.name)
            if seen is None or (seen.member, seen.version) != (lease.member, lease.version):
                changed = None if first else reading.ended
                self._seen[lease.member.name] = _Seen(lease.member, lease.version, reading.ended, changed)
            elif blind:
                seen.at = reading.ended
        for name in self._seen.keys() - {lease.member.name for lease in reading.members}:
            del self._seen[name]
        if reading.view is not None and (self.view is None or reading.view.view.epoch >= self.view.epoch):
            if self.view is None or reading.view.view.epoch > self.view.epoch:
                self._view_at = reading.ended
            elif reading.view.view != self.view:
                self._view_at = -math.inf  # restored from a backup: nobody has decided on it now
            self.view = reading.view.view

    def is_alive(self, lease: MemberLease, now: float) -> bool:
        """Whether a member's Lease has changed within its duration."""
        seen = self._seen.get(lease.member.name)
        return seen is not None and now - seen.at < lease.seconds

    def age(self, name: str, now: float) -> float | None:
        """Seconds since a member's Lease was seen to change; None for one that is not known."""
        seen = self._seen.get(name)
        return None if seen is None else max(0.0, now - seen.at)

    def _renewed(self, found: MemberLease | None, mine: bool) -> MemberLease:
        if found is None:
            return replace(self.own, transitions=self._transitions, version="")
        self._transitions = found.transitions + (not mine)
        return replace(self.own, transitions=self._transitions, version=found.version)

    def _starting(self, reading: Reading) -> tuple[str, ...]:
        """The replicas, perhaps this one, that must be ready before a view is written where nobody serves yet."""
        if self._waits_until is not None and reading.began >= self._waits_until:
            return ()
        alive = [one for one in reading.members if self.is_alive(one, reading.began)]
        if self.view is not None and any(self.view.has(one.member) for one in (self.own, *alive)):
            return ()
        own = () if self.own.ready else (self.own.member.name,)
        others = (one for one in alive if one.member != self.own.member)
        return (*own, *(one.member.name for one in others if not one.ready))

    def _note_ready(self, now: float) -> None:
        if not self.own.ready:
            self._unready_at = now if self._unready_at is None else self._unready_at
            self._waits_until = None
        elif self._waits_until is None:
            took = 0.0 if self._unready_at is None else now - self._unready_at
            self._unready_at, self._waits_until = None, now + max(self.own.seconds, min(took, START_WAIT_SECONDS))

    def _next_view(self, reading: Reading) -> ViewLease | None:
        """The view that should be, where it is another one than was read."""
        alive = {
            lease.member for lease in reading.members
            if lease.member != self.own.member and lease.ready and self.is_alive(lease, reading.began)
            and self._belongs(lease.member)
        }  # fmt: skip
        if self.own.ready:
            alive.add(self.own.member)
        members = tuple(sorted(alive)[:MAX_MEMBERS])
        known = self.view.epoch if self.view is not None else 0
        standing = reading.view
        same = standing is not None and standing.view.members == members and standing.view.epoch == known
        nobody = not members and (standing is None or not standing.view.members)
        if same or nobody or max(known, self._proposed) >= MAX_EPOCH:
            return None
        self._proposed = max(known, self._proposed) + 1
        return ViewLease(View(self._proposed, members), standing.version if standing is not None else "")

    def _belongs(self, member: Member) -> bool:
        """Whether the view has a member, or its Lease has changed since the view was read."""
        if self.view is None or self.view.has(member):
            return True
        changed = self._seen[member.name].changed
        return changed is not None and changed >= self._view_at

    def _to_forget(self, reading: Reading) -> tuple[MemberLease, ...]:
        """Leases of members that are gone for long, as the first member alive sees them."""
        alive = [one.member for one in reading.members if self.is_alive(one, reading.began)]
        if not alive or min(alive) != self.own.member:
            return ()
        old = (one for one in reading.members if reading.began - self._seen[one.member.name].at > FORGET_LEASE_SECONDS)
        return tuple(old)
