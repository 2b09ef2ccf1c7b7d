"""Which switches this replica serves: the role that each switch gave it, and the takeovers under way.

Theory of operation. Where replicas take part (`ReplicasChanged` has a view), every bridge has one owner by the view
(`ownership`), and every switch grants the role PRIMARY to one session at a time. For each bridge:

- *wanted*: this replica owns it by the newest view that it knows;
- *planned*: its flows are planned here. Wanted bridges are, as soon as their turn comes, and those whose switch still
  has this replica as its primary, although a newer view gave it to another one: until that one took it over;
- *primary*: the switch said so, and nothing else since. Only then is anything written there.

A wanted bridge that is not primary is *taken over*: planned, then the role is requested, then the switch is dumped, and
what differs is sent. At most TAKEOVERS bridges are taken over at a time, and one after the other where their last owner
is alive and goes on serving meanwhile. Whether it does so is asked of the switch when the view changes: the newest
generation that it has seen says who was its primary. An owner that started a moment before has only begun with its
switches, and the others wait for nobody. Bridges whose switch has no session are only planned, TAKEOVERS at a time, and
after all those that have one.

A switch refuses a generation that is older than the newest it has seen, and tells the one that it demotes. Either may
mean that this replica has a view that is not the newest. So it does not ask that switch again before it has read the
view anew: `read_at` of the view is after the refusal. If it still is the owner then, the switch is ahead of the epochs
(the API server was restored from a backup), and a generation above the switch's is requested. The same holds for a
switch that says of itself, as it connects, that it has seen a newer generation.

Nor is any switch asked after `ask_until`: a process that was stopped does not know what happened meanwhile, and must
first try to read the view. While the API server does not answer, `ask_until` is extended with the last known view:
nobody can have replaced it.

Example. Replicas a and b, epoch 4, and a is stopped for 20 s. b sees a's Lease expire, and makes epoch 5 without a; it
takes a's switches over, in generations of epoch 5. a goes on: what it had half sent is refused, since it is not primary
any more. It reads epoch 5, in which it does not own anything, and drops its plans.

No clock here; times are passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from controller.reconcile.commands import RequestRole, WriteTo
from controller.reconcile.events import ReplicasChanged, RoleChanged, RoleRefused
from controller.reconcile.ownership import Member, View, generation, generation_after, is_generation_of, is_stale
from flows.bridge.claim_contest import BridgeName
from flows.bridge.state import BridgeState

TAKEOVERS = 16  # at a time, of switches that nobody serves
TAKEOVER_SECONDS = 10.0  # after which a takeover that is not finished makes room for others
ROLE_ANSWER_SECONDS = 5.0  # after which a role is requested again


@dataclass(slots=True)
class RoleSession:
    """The role of one OpenFlow session. `newest` is the newest generation that the switch is known to have seen, since
    `newest_at`.

    `barred_at`: refused or demoted then, and not asked again before the view was read anew.
    """

    number: int
    bridge: BridgeName | None = None
    primary: bool = False
    generation: int = 0
    newest: int | None = None
    newest_at: float = 0.0
    since: float = 0.0
    secondary_asked: bool = False
    asked_at: float | None = None
    barred_at: float | None = None


class Roles:
    """The roles of one replica. Without `takes_part` it is alone: it serves every switch, and requests no role."""

    def __init__(self, takes_part: bool = False) -> None:
        self.alone = not takes_part
        self.me = Member("", "")
        self.view: View | None = None
        self.sessions: dict[int, RoleSession] = {}  # by datapath id
        self.wanted: set[BridgeName] = set()
        self.planned: set[BridgeName] = set()
        self.takeovers: list[float] = []  # seconds of those finished, until metrics take them out
        self.refused = 0  # roles refused or taken away so far
        self._before: View | None = None
        self._read_at = self._ask_until = 0.0
        self._bridges: dict[BridgeName, BridgeState] = {}
        self._of_ovsdb: dict[str, set[BridgeName]] = {}
        # Wanted and to be taken over: connected and served by nobody, connected and served by another replica
        # meanwhile, and without a session.
        self._queue: dict[BridgeName, None] = {}
        self._handed: dict[BridgeName, None] = {}
        self._away: dict[BridgeName, None] = {}
        self._taking: dict[BridgeName, float] = {}  # being taken over, since when
        self._changed: set[BridgeName] = set()  # planned or not since `take_changed`
        self._databases: WriteTo | None = None  # as computed last; None once it may differ
        self._active: set[int] = set()  # sessions that a role may have to be requested of

    # -- what happens ------------------------------------------------------------------------------------------------

    def on_replicas(self, event: ReplicasChanged) -> None:
        """The view was read, or could not be."""
        self._databases = None
        self._read_at, self._ask_until = event.read_at, event.ask_until
        self._active.update(self.sessions)
        if (event.alone, event.me, event.view) == (self.alone, self.me, self.view):
            return
        self._before = self.view
        self.alone, self.me, self.view = event.alone, event.me, event.view
        for name in self._bridges:
            if self._has_live_owner(name) and self._is_wanted(name):
                self._ask_anew(name)
            self._evaluate(name)

    def _ask_anew(self, name: BridgeName) -> None:
        """Ask a switch which generation it has seen: what it said when it connected may be old."""
        session = self._session_of(name)
        if session is not None and not session.primary and session.asked_at is None:
            session.secondary_asked, session.newest = False, None

    def set_bridge(self, name: BridgeName, bridge: BridgeState | None) -> None:
        """A bridge is new, has changed or is gone (None)."""
        self._databases = None
        old = self._bridges.pop(name, None)
        if bridge is not None:
            self._bridges[name] = bridge
            self._of_ovsdb.setdefault(name[0], set()).add(name)
        elif old is not None:
            self._of_ovsdb[name[0]].discard(name)
            if not self._of_ovsdb[name[0]]:
                del self._of_ovsdb[name[0]]
            for kept in (self.wanted, self.planned):
                kept.discard(name)
            self._leave_queue(name)
            self._taking.pop(name, None)
        if old is None or bridge is None or (old.dpid, old.system_id) != (bridge.dpid, bridge.system_id):
            for other in self._of_ovsdb.get(name[0], ()):
                self._evaluate(other)

    def set_served(self, dpid: int, name: BridgeName | None) -> None:
        """A switch serves this bridge now; None: none that is known."""
        self._databases = None
        session = self.sessions.get(dpid)
        if session is not None and session.bridge != name:
            old, session.bridge = session.bridge, name
            self._active.add(dpid)
            for one in (old, name):
                if one in self._bridges:
                    self._evaluate(one)

    def on_session(self, dpid: int, number: int) -> None:
        """A new OpenFlow session."""
        self._databases = None
        old = self.sessions.get(dpid)
        self.sessions[dpid] = RoleSession(number, old.bridge if old is not None else None)
        self._session_changed(dpid)

    def on_session_end(self, dpid: int, number: int) -> None:
        """A session ended."""
        self._databases = None
        session = self.sessions.get(dpid)
        if session is not None and session.number == number:
            del self.sessions[dpid]
            if session.bridge in self._bridges:
                self._taking.pop(session.bridge, None)
                self._evaluate(session.bridge)

    def _session_changed(self, dpid: int) -> None:
        self._active.add(dpid)
        if (name := self.sessions[dpid].bridge) in self._bridges:
            self._evaluate(name)

    def on_role(self, event: RoleChanged, now: float) -> bool:
        """The switch said which role the session has. Returns whether that is another one than before."""
        self._databases = None
        session = self.sessions.get(event.dpid)
        if session is None or session.number != event.session:
            return False
        session.newest, session.newest_at, session.asked_at = event.generation, now, None
        if session.primary == event.primary:
            if session.bridge in self._handed:
                self._evaluate(session.bridge)  # perhaps nobody serves it
            return False
        session.primary, session.generation, session.since = event.primary, event.generation, now
        if not event.primary:
            self.refused += 1
            session.barred_at = now
            if session.bridge is not None:
                self._taking.pop(session.bridge, None)
        self._session_changed(event.dpid)
        return True

    def on_refused(self, event: RoleRefused, now: float) -> None:
        """The switch refused the role: it has seen a newer generation."""
        session = self.sessions.get(event.dpid)
        if session is None or session.number != event.session:
            return
        self.refused += 1
        session.asked_at, session.barred_at = None, now
        session.newest, session.newest_at = event.newest, now
        if session.bridge is not None:
            self._taking.pop(session.bridge, None)
        self._session_changed(event.dpid)

    # -- decisions ---------------------------------------------------------------------------------------------------

    def key(self, name: BridgeName) -> str:
        """By what a bridge's owner is chosen: all bridges of an OVSDB have one owner, and all replicas see the same."""
        bridges = [self._bridges[one] for one in self._of_ovsdb.get(name[0], ())]
        system_id = min((bridge.system_id for bridge in bridges), default="")
        return system_id or f"{min((bridge.dpid for bridge in bridges), default=0):016x}"

    def owner(self, name: BridgeName) -> str:
        """The name of the replica that owns a bridge by the newest view; "" where there is none."""
        return self.view.owner(self.key(name)) if self.view is not None and name in self._bridges else ""

    def _is_wanted(self, name: BridgeName) -> bool:
        return self.view is not None and self.view.has(self.me) and self.owner(name) == self.me.name

    def _evaluate(self, name: BridgeName) -> None:
        """Something changed that decides whether a bridge is wanted, planned or to be taken over."""
        self._databases = None
        if self.alone:
            if name not in self.planned:
                self.planned.add(name)
                self._changed.add(name)
            return
        session = self._session_of(name)
        primary = session is not None and session.primary
        if self._is_wanted(name):
            self.wanted.add(name)
        else:
            self.wanted.discard(name)
            self._taking.pop(name, None)
            if name in self.planned and not primary:
                self.planned.discard(name)
                self._changed.add(name)
        if name in self.wanted and name not in self._taking and self._needs_takeover(name, session):
            if session is None:
                self._enter(self._away, name)
            else:
                self._enter(self._handed if self._is_handed_over(name, session) else self._queue, name)
        else:
            self._leave_queue(name)

    def _enter(self, queue: dict[BridgeName, None], name: BridgeName) -> None:
        if name not in queue:
            self._leave_queue(name)
            queue[name] = None

    def _leave_queue(self, name: BridgeName) -> None:
        for queue in (self._queue, self._handed, self._away):
            queue.pop(name, None)

    def _needs_takeover(self, name: BridgeName, session: RoleSession | None) -> bool:
        if name not in self.planned:
            return True
        return session is not None and not session.primary and session.barred_at is None

    def _session_of(self, name: BridgeName) -> RoleSession | None:
        session = self.sessions.get(self._bridges[name].dpid)
        return session if session is not None and session.bridge == name else None

    def take_changed(self) -> set[BridgeName]:
        """The bridges that are planned now and were not, or the reverse, since the last call."""
        found, self._changed = self._changed, set()
        return found

    def step(self, now: float, realized: Callable[[int], bool]) -> None:
        """End takeovers that are finished, and begin those that may begin. `realized` takes a datapath id."""
        if self.alone:
            return
        for name, since in list(self._taking.items()):
            session = self._session_of(name)
            done = self._is_taken_over(name, realized)
            if done:
                self.takeovers.append(now - since)
            if done or session is None or now - since >= TAKEOVER_SECONDS:
                del self._taking[name]
        # Those without a session are only planned, in batches of their own, that no connected switch waits for.
        away = 0 if self._queue or self._handed else TAKEOVERS - len(self._taking)
        while self._queue and len(self._taking) < TAKEOVERS:
            self._take_over(next(iter(self._queue)), now)
        if self._handed and not self._taking:
            self._take_over(next(iter(self._handed)), now)
        for name in list(self._away)[:away]:
            self._plan(name)

    def _take_over(self, name: BridgeName, now: float) -> None:
        self._plan(name)
        self._taking[name] = now
        self._active.add(self._bridges[name].dpid)

    def _plan(self, name: BridgeName) -> None:
        self._leave_queue(name)
        if name not in self.planned:
            self.planned.add(name)
            self._changed.add(name)

    def _is_taken_over(self, name: BridgeName, realized: Callable[[int], bool]) -> bool:
        session = self._session_of(name)
        return session is not None and session.primary and realized(self._bridges[name].dpid)

    def _is_handed_over(self, name: BridgeName, session: RoleSession) -> bool:
        """Whether another replica that is alive serves a bridge until it is taken over."""
        # One that was handed over by an earlier view still is, although this replica is its last owner by now.
        if self.view is None or not (self._has_live_owner(name) or name in self._handed):
            return False
        if session.newest is None:
            return True
        return any(is_generation_of(session.newest, one) for one in self.view.names - {self.me.name})

    def _has_live_owner(self, name: BridgeName) -> bool:
        """Whether the last owner of a bridge is another member of the view."""
        if self._before is None or self.view is None:
            return False
        before = self._before.owner(self.key(name))
        return before in self.view.names and before != self.me.name

    def commands(self, now: float, has_plan: Callable[[BridgeName], bool]) -> list[RequestRole]:
        """The roles to request now. `has_plan`: the flows of a bridge are planned, and may be sent."""
        if self.alone:
            self._active.clear()
            return []
        found = []
        for dpid in sorted(self._active & self.sessions.keys()):
            command = self._request(dpid, self.sessions[dpid], now, has_plan)
            if command is not None:
                found.append(command)
        return found

    def _request(
        self, dpid: int, session: RoleSession, now: float, has_plan: Callable[[BridgeName], bool]
    ) -> RequestRole | None:
        if not session.secondary_asked:
            # The answer comes before PRIMARY is asked for: what became SECONDARY after that would have to ask again.
            session.secondary_asked, session.asked_at = True, now
            return RequestRole(dpid, session.number, None)
        name = session.bridge
        if session.barred_at is not None and self._read_at > session.barred_at:
            session.barred_at = None
            if name in self._bridges:
                self._evaluate(name)
        if session.asked_at is not None and now - session.asked_at < ROLE_ANSWER_SECONDS:
            return None
        if session.primary or name is None or name not in self.wanted or name in self._queue or name in self._handed:
            self._active.discard(dpid)
            return None
        if session.barred_at is not None or now >= self._ask_until or not has_plan(name) or self.view is None:
            return None
        number = generation(self.view.epoch, self.me.name)
        if session.newest is not None and is_stale(number, session.newest):
            if self._read_at <= session.newest_at:
                return None
            number = generation_after(session.newest, self.me.name)
        session.asked_at = now
        return RequestRole(dpid, session.number, number)

    def due_at(self, now: float, realized: Callable[[int], bool]) -> float | None:
        """When `step` or `commands` has something to do although nothing happens; None if never. `realized` as for
        `step`: a takeover that ended makes room for the next one.
        """
        if self.alone:
            return None
        if self._handed and not self._taking:
            return now
        if (self._queue or (self._away and not self._handed)) and len(self._taking) < TAKEOVERS:
            return now
        if any(self._is_taken_over(name, realized) for name in self._taking):
            return now
        return min((since + TAKEOVER_SECONDS for since in self._taking.values()), default=None)

    def session_of(self, name: BridgeName) -> RoleSession | None:
        """The session of a bridge's switch; None without one, and where there are no roles."""
        return self._session_of(name) if name in self._bridges and not self.alone else None

    # -- questions ---------------------------------------------------------------------------------------------------

    def plans(self, name: BridgeName) -> bool:
        """Whether a bridge's flows are planned here."""
        return self.alone or name in self.planned

    def may_write(self, dpid: int) -> bool:
        """Whether this replica may change flows on a switch."""
        session = self.sessions.get(dpid)
        return self.alone or (session is not None and session.primary)

    def serves(self, name: BridgeName) -> bool:
        """Whether a bridge is this replica's business: it is primary there, or owns it and has no session with it."""
        if self.alone:
            return True
        session = self._session_of(name) if name in self._bridges else None
        return session.primary if session is not None else name in self.wanted

    def owns(self, name: BridgeName) -> bool:
        """Whether status, metrics and waits here answer for a bridge: it is wanted, or still served."""
        return self.alone or name in self.wanted or self.serves(name)

    def databases(self) -> WriteTo:
        """The OVSDBs that this replica writes to, where it is let."""
        if self._databases is None:
            self._databases = self._compute_databases()
        return self._databases

    def _compute_databases(self) -> WriteTo:
        if self.alone:
            return WriteTo(None)
        primary = {one.bridge[0] for one in self.sessions.values() if one.primary and one.bridge is not None}
        return WriteTo(frozenset({name[0] for name in self.wanted} | primary), frozenset(primary))

    @property
    def taking_over(self) -> int:
        """How many switches are being taken over, or wait for it."""
        return len(self._taking) + len(self._queue) + len(self._handed) + len(self._away)
