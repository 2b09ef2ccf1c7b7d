"""Which session speaks for a datapath id, when several say that they do.

The first one does, for as long as it answers. A second one waits until the first has answered an echo or has failed to,
and is then refused or takes over. Whoever is refused again and again, or was dropped for a fault, has to wait longer
each time. Where a switch has been before is remembered: should somebody else have taken its place while it was away, it
gets it back. Only sessions are known here; which datapath id is whose is for the core to say.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from controller.peers.backoff import Backoff
from controller.peers.connection_limiter import address_key
from controller.peers.limits import OpenFlowLimits
from controller.reconcile.events import Event, SwitchDown, SwitchUp
from flows.bridge.connection_peer import ConnectionPeer

MAX_DATAPATH_IDS = 8192  # datapath ids whose place is remembered, and about which there is something to tell
CONTEST_SECONDS = 300.0  # how long a contest is told after its last claim
FORGET_FAULT_SECONDS = 60.0  # without a fault, after which a peer starts afresh


class PeerIdentity(NamedTuple):
    """Who a peer is: its address as it counts, and the name in its certificate, empty without TLS."""

    address: str
    certificate: str = ""


class Claimant(Protocol):
    """What a session is to this module."""

    id: int
    number: int

    @property
    def identity(self) -> PeerIdentity:
        """Who the peer is."""

    @property
    def who(self) -> ConnectionPeer:
        """Who the peer is, for the core: its address, and all names in its certificate."""

    @property
    def peer(self) -> str:
        """The other side as people write it."""

    @property
    def fault(self) -> str:
        """Why the peer is to blame for the session's end; empty where it is not."""

    def end(self, reason: str, fault: bool = False) -> None:
        """End the session."""

    def refuse(self, reason: str) -> None:
        """End it for not being the one that speaks for the datapath id."""

    def challenge(self) -> None:
        """Ask for a sign of life; the session ends if there is none, and `answered` is called if there is."""


class ClaimProblem(NamedTuple):
    """What to tell about one datapath id."""

    dpid: int
    reason: str


@dataclass(slots=True)
class _Contest:
    at: float
    times: int
    reason: str


class DatapathClaims:
    """The sessions that are up, by datapath id. Every method may be called from any thread.

    `post` gets SwitchUp and SwitchDown in the order in which they are true. `refused` is told the kind of each refusal.
    """

    def __init__(
        self,
        post: Callable[[Event], None],
        limits: OpenFlowLimits,
        refused: Callable[[str], None] = lambda kind: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._post = post
        self._refused = refused
        self._clock = clock
        self._lock = threading.RLock()
        self._up: dict[int, Claimant] = {}
        self._waiting: dict[int, Claimant] = {}
        self._homes: OrderedDict[int, PeerIdentity] = OrderedDict()
        self._contests: OrderedDict[int, _Contest] = OrderedDict()
        self._faults: Backoff[tuple[PeerIdentity, int]] = Backoff(
            limits.retry, limits.longest_retry, FORGET_FAULT_SECONDS
        )
        self._claims: Backoff[tuple[PeerIdentity, int]] = Backoff(
            limits.retry, limits.longest_retry, FORGET_FAULT_SECONDS
        )

    def sessions(self) -> dict[int, int]:
        """The switches that are up: dpid to session."""
        with self._lock:
            return {dpid: session.number for dpid, session in self._up.items()}

    def find(self, dpid: int) -> Claimant | None:
        """The session that speaks for a datapath id."""
        with self._lock:
            return self._up.get(dpid)

    def came_up(self, session: Claimant) -> None:
        """A session has finished its handshake: it is served, waits, or is refused."""
        with self._lock:
            now = self._clock()
            holder = self._up.get(session.id)
            reason = self._judge(session, holder, now)
            if reason:
                session.refuse(reason)
            elif holder is None:
                self._serve(session)
            elif self._is_home(session) and not self._is_home(holder):
                self._contest(session.id, now, f"{holder.peer} had taken the place of {session.peer}")
                self._waiting.pop(session.id, None)
                self._replace(holder, session, "the switch that was served before came back")
            else:
                other = self._waiting.get(session.id)
                self._waiting[session.id] = session
                if other is not None:
                    other.refuse("another connection with the same datapath id and its address came back")
                holder.challenge()

    def _judge(self, session: Claimant, holder: Claimant | None, now: float) -> str:
        """Why it is refused, or the empty text."""
        who = session.identity, session.id
        left = self._faults.left(who, now)
        if left > 0:
            self._refused("fault")
            return f"it was dropped for a fault, and may come back in {left:.1f} s"
        if holder is None or (self._is_home(session) and not self._is_home(holder)):
            return ""
        left = self._claims.left(who, now)
        waiting = self._waiting.get(session.id)
        if left > 0 or (waiting is not None and not self._comes_first(session, waiting, holder)):
            return self._deny(session, holder, now)
        return ""

    @staticmethod
    def _comes_first(session: Claimant, waiting: Claimant, holder: Claimant) -> bool:
        """Whether it is rather the switch that holds the place now than the one that waits for it already."""
        return session.identity == holder.identity != waiting.identity

    def _deny(self, session: Claimant, holder: Claimant, now: float) -> str:
        self._refused("claimed")
        self._claims.failed((session.identity, session.id), now)
        if session.identity != holder.identity:  # else it is a switch with two ways to us
            where = session.identity.address
            self._contest(session.id, now, f"the peer at {where} claims it too; the session with {holder.peer} is kept")
        return f"datapath id {session.id:016x} is that of the session with {holder.peer}"

    def _contest(self, dpid: int, now: float, reason: str) -> None:
        known = self._contests.pop(dpid, None)
        times = known.times + 1 if known is not None and now - known.at < CONTEST_SECONDS else 1
        self._contests[dpid] = _Contest(now, times, reason)
        while len(self._contests) > MAX_DATAPATH_IDS:
            self._contests.popitem(last=False)

    def _is_home(self, session: Claimant) -> bool:
        return self._homes.get(session.id) == session.identity

    def _serve(self, session: Claimant) -> None:
        self._up[session.id] = session
        self._homes.setdefault(session.id, session.identity)
        self._homes.move_to_end(session.id)
        while len(self._homes) > MAX_DATAPATH_IDS:
            self._homes.popitem(last=False)
        self._post(SwitchUp(session.id, session.number, session.who))

    def _replace(self, holder: Claimant, session: Claimant, reason: str) -> None:
        holder.end(reason)
        self._post(SwitchDown(holder.id, holder.number))
        self._serve(session)

    def answered(self, holder: Claimant) -> None:
        """The session that was challenged has shown that its peer lives."""
        with self._lock:
            waiting = self._waiting.pop(holder.id, None)
            if waiting is None or self._up.get(holder.id) is not holder:
                return
            reason = self._deny(waiting, holder, self._clock())
        waiting.refuse(reason)

    def went_down(self, session: Claimant) -> None:
        """A session is over. Whoever waits for its place takes it."""
        with self._lock:
            dpid = session.id
            if dpid is None:
                return
            if self._waiting.get(dpid) is session:
                del self._waiting[dpid]
            if session.fault:
                now = self._clock()
                self._faults.failed((session.identity, dpid), now)
                self._contest(dpid, now, f"the session with {session.peer} was ended: {session.fault}")
            if self._up.get(dpid) is not session:
                return
            del self._up[dpid]
            self._post(SwitchDown(dpid, session.number))
            waiting = self._waiting.pop(dpid, None)
            if waiting is not None:
                self._serve(waiting)

    def settle(self, dpid: int, peer_identity: PeerIdentity) -> None:
        """The core knows better where this datapath is: whoever else has its place gives way when it comes."""
        with self._lock:
            self._homes[dpid] = peer_identity
            self._homes.move_to_end(dpid)

    def troubles(self) -> list[ClaimProblem]:
        """What there is to tell: datapath ids that somebody else claims, switches dropped for a fault."""
        with self._lock:
            now = self._clock()
            while self._contests and now - next(iter(self._contests.values())).at >= CONTEST_SECONDS:
                self._contests.popitem(last=False)
            return [ClaimProblem(dpid, f"{one.reason} ({one.times} times)" if one.times > 1 else one.reason)
                    for dpid, one in self._contests.items()]  # fmt: skip


def peer_identity(host: str, certificate: str = "") -> PeerIdentity:
    """The identity of a peer at this address."""
    return PeerIdentity(address_key(host), certificate)
