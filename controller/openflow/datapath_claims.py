"""Which session serves a datapath id when several sessions report the same one.

The first session serves, as long as its peer answers. A second session waits until the first has answered an echo or
failed to; then it is refused or takes over. A peer that is refused repeatedly, or was dropped for a fault, waits longer
each time. The peer that served a datapath id is remembered: if another one took its place while it was away, it gets
the place back. This module sees sessions only; which datapath id belongs to which OVSDB is decided by the reconciler
(`assign`). docs/adr/0007-who-owns-a-datapath-id.md has the reasons.

Example. Switch A serves datapath id 1, and a thief B reports the same: B waits and A is sent an echo request. A answers
(`challenge_answered`): B is refused, and the contest is reported for `CONTEST_SECONDS`. A does not answer: its session
ends (`session_down`) and B serves. A connects again: A is still remembered, so B is ended and A serves.
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

MAX_DATAPATH_IDS = 8192  # datapath ids whose peer is remembered, and contests that are kept
CONTEST_SECONDS = 300.0  # for which a contest is reported after its last claim
FORGET_FAULT_SECONDS = 60.0  # without a fault, after which a peer's faults are forgotten


class PeerIdentity(NamedTuple):
    """A connection peer: its address as `address_key` gives it, and the name in its certificate, empty without TLS."""

    address: str
    certificate: str = ""


class Claimant(Protocol):
    """What this module needs of a session. `id` is the datapath id, `number` unique in the process."""

    id: int
    number: int

    @property
    def identity(self) -> PeerIdentity:
        """The peer, as claims are compared."""

    @property
    def connection_peer(self) -> ConnectionPeer:
        """The peer, for SwitchUp: its address, and all names in its certificate."""

    @property
    def peer_address(self) -> str:
        """The peer's address and port, for messages."""

    @property
    def fault(self) -> str:
        """The fault of the peer that ended the session, or an empty string."""

    def end(self, reason: str, fault: bool = False) -> None:
        """End the session."""

    def refuse(self, reason: str) -> None:
        """End the session because another one serves the datapath id."""

    def challenge(self) -> None:
        """Send an echo request. `challenge_answered` is called with the answer; without one the session ends."""


class ClaimProblem(NamedTuple):
    """A problem of one datapath id: contested, or dropped for a fault."""

    dpid: int
    reason: str


@dataclass(slots=True)
class _Contest:
    at: float
    times: int
    reason: str


class DatapathClaims:
    """The sessions that are up, by datapath id. Every method may be called from any thread.

    `post` gets SwitchUp and SwitchDown in the order of events. `refused` is called with the kind of each refusal,
    `fault` or `claimed`.
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
        self._last_peers: OrderedDict[int, PeerIdentity] = OrderedDict()
        self._contests: OrderedDict[int, _Contest] = OrderedDict()
        self._fault_waits: Backoff[tuple[PeerIdentity, int]] = Backoff(
            limits.retry, limits.max_retry, FORGET_FAULT_SECONDS
        )
        self._claim_waits: Backoff[tuple[PeerIdentity, int]] = Backoff(
            limits.retry, limits.max_retry, FORGET_FAULT_SECONDS
        )

    def sessions(self) -> dict[int, int]:
        """Serving sessions: datapath id to session number."""
        with self._lock:
            return {dpid: session.number for dpid, session in self._up.items()}

    def find(self, dpid: int) -> Claimant | None:
        """The session that serves a datapath id."""
        with self._lock:
            return self._up.get(dpid)

    def session_up(self, session: Claimant) -> None:
        """The session has finished its handshake: it serves, waits, or is refused."""
        with self._lock:
            now = self._clock()
            holder = self._up.get(session.id)
            reason = self._refusal(session, holder, now)
            if reason:
                session.refuse(reason)
            elif holder is None:
                self._serve(session)
            elif self._is_last_peer(session) and not self._is_last_peer(holder):
                self._contest(
                    session.id, now, f"{holder.peer_address} had taken the datapath id of {session.peer_address}"
                )
                self._waiting.pop(session.id, None)
                self._replace(holder, session, "the switch that had this datapath id before is back")
            else:
                other = self._waiting.get(session.id)
                self._waiting[session.id] = session
                if other is not None:
                    other.refuse("a newer connection with the same datapath id waits instead")
                holder.challenge()

    def _refusal(self, session: Claimant, holder: Claimant | None, now: float) -> str:
        """Why the session is refused, or an empty string."""
        key = session.identity, session.id
        left = self._fault_waits.left(key, now)
        if left > 0:
            self._refused("fault")
            return f"dropped for a fault; accepted again in {left:.1f} s"
        if holder is None or (self._is_last_peer(session) and not self._is_last_peer(holder)):
            return ""
        left = self._claim_waits.left(key, now)
        waiting = self._waiting.get(session.id)
        if left > 0 or (waiting is not None and not self._comes_first(session, waiting, holder)):
            return self._refuse_claim(session, holder, now)
        return ""

    @staticmethod
    def _comes_first(session: Claimant, waiting: Claimant, holder: Claimant) -> bool:
        """Whether the session is more likely than the waiting one to be the switch that serves now."""
        return session.identity == holder.identity != waiting.identity

    def _refuse_claim(self, session: Claimant, holder: Claimant, now: float) -> str:
        self._refused("claimed")
        self._claim_waits.failed((session.identity, session.id), now)
        if session.identity != holder.identity:  # else one switch has two connections
            where = session.identity.address
            self._contest(session.id, now, f"{where} claims it too; the session with {holder.peer_address} is kept")
        return f"datapath id {session.id:016x} is served by the session with {holder.peer_address}"

    def _contest(self, dpid: int, now: float, reason: str) -> None:
        known = self._contests.pop(dpid, None)
        times = known.times + 1 if known is not None and now - known.at < CONTEST_SECONDS else 1
        self._contests[dpid] = _Contest(now, times, reason)
        while len(self._contests) > MAX_DATAPATH_IDS:
            self._contests.popitem(last=False)

    def _is_last_peer(self, session: Claimant) -> bool:
        return self._last_peers.get(session.id) == session.identity

    def _serve(self, session: Claimant) -> None:
        self._up[session.id] = session
        self._last_peers.setdefault(session.id, session.identity)
        self._last_peers.move_to_end(session.id)
        while len(self._last_peers) > MAX_DATAPATH_IDS:
            self._last_peers.popitem(last=False)
        self._post(SwitchUp(session.id, session.number, session.connection_peer))

    def _replace(self, holder: Claimant, session: Claimant, reason: str) -> None:
        holder.end(reason)
        self._post(SwitchDown(holder.id, holder.number))
        self._serve(session)

    def challenge_answered(self, holder: Claimant) -> None:
        """The peer of a challenged session has answered; a session that waits for its place is refused."""
        with self._lock:
            waiting = self._waiting.pop(holder.id, None)
            if waiting is None or self._up.get(holder.id) is not holder:
                return
            reason = self._refuse_claim(waiting, holder, self._clock())
        waiting.refuse(reason)

    def session_down(self, session: Claimant) -> None:
        """The session has ended; a session that waits for its place serves now."""
        with self._lock:
            dpid = session.id
            if dpid is None:
                return
            if self._waiting.get(dpid) is session:
                del self._waiting[dpid]
            if session.fault:
                now = self._clock()
                self._fault_waits.failed((session.identity, dpid), now)
                self._contest(dpid, now, f"the session with {session.peer_address} was ended: {session.fault}")
            if self._up.get(dpid) is not session:
                return
            del self._up[dpid]
            self._post(SwitchDown(dpid, session.number))
            waiting = self._waiting.pop(dpid, None)
            if waiting is not None:
                self._serve(waiting)

    def assign(self, dpid: int, peer_identity: PeerIdentity) -> None:
        """The reconciler has assigned the datapath id to this peer: when it connects, it replaces any other."""
        with self._lock:
            self._last_peers[dpid] = peer_identity
            self._last_peers.move_to_end(dpid)

    def problems(self) -> list[ClaimProblem]:
        """Contested datapath ids, and switches dropped for a fault, of the last CONTEST_SECONDS."""
        with self._lock:
            now = self._clock()
            while self._contests and now - next(iter(self._contests.values())).at >= CONTEST_SECONDS:
                self._contests.popitem(last=False)
            return [ClaimProblem(dpid, f"{one.reason} ({one.times} times)" if one.times > 1 else one.reason)
                    for dpid, one in self._contests.items()]  # fmt: skip


def peer_identity(host: str, certificate: str = "") -> PeerIdentity:
    """The identity of a peer at this address."""
    return PeerIdentity(address_key(host), certificate)
