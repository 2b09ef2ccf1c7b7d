"""Who speaks for a datapath id, whatever order sessions come, answer and end in."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.openflow.datapath_claims import DatapathClaims, PeerIdentity
from controller.peers.limits import OpenFlowLimits
from controller.reconcile.events import Event, SwitchDown, SwitchUp
from flows.bridge.connection_peer import ConnectionPeer


@dataclass(eq=False)
class Session:
    """A session that only remembers what it was told."""

    id: int
    number: int
    identity: PeerIdentity
    answers: bool = True
    fault: str = ""
    ended: str = ""
    challenged: bool = False
    reasons: list[str] = field(default_factory=list)

    @property
    def connection_peer(self) -> ConnectionPeer:
        return ConnectionPeer(self.identity.address)

    @property
    def peer_address(self) -> str:
        return f"{self.identity.address}:{self.number}"

    def end(self, reason: str, fault: bool = False) -> None:
        self.ended = self.ended or reason
        self.fault = self.fault or (reason if fault else "")

    def refuse(self, reason: str) -> None:
        self.end(reason)

    def challenge(self) -> None:
        self.challenged = True


class World:
    """Claims, a clock, and the sessions that were made."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events: list[Event] = []
        self.claims = DatapathClaims(self.events.append, OpenFlowLimits(), clock=lambda: self.now)
        self.sessions: list[Session] = []

    def come(self, address: str, dpid: int = 1, answers: bool = True) -> Session:
        session = Session(dpid, len(self.sessions) + 1, PeerIdentity(address), answers)
        self.sessions.append(session)
        self.claims.session_up(session)
        return session

    def served(self) -> dict[int, int]:
        """The sessions that are up by the events, which must make sense by themselves."""
        up: dict[int, int] = {}
        for event in self.events:
            if isinstance(event, SwitchUp):
                assert event.dpid not in up
                up[event.dpid] = event.session
            elif isinstance(event, SwitchDown):
                assert up.pop(event.dpid) == event.session
        assert up == self.claims.sessions()
        return up


def test_a_thief_is_refused_told_of_and_made_to_wait() -> None:
    world = World()
    first = world.come("honest")
    for _ in range(10):
        thief = world.come("thief")
        if first.challenged:
            first.challenged = False
            world.claims.challenge_answered(first)
        assert thief.ended
        world.claims.session_down(thief)
    assert world.served() == {1: first.number}
    (trouble,) = world.claims.problems()
    assert trouble.dpid == 1
    assert "thief claims it too" in trouble.reason
    world.now += 1000
    assert world.claims.problems() == []


def test_a_switch_that_comes_back_need_not_wait_behind_a_thief() -> None:
    world = World()
    old = world.come("honest", answers=False)
    thief = world.come("thief")
    assert not thief.ended
    again = world.come("honest")
    assert thief.ended
    world.claims.session_down(thief)
    world.claims.session_down(old)
    assert world.served() == {1: again.number}


def test_the_core_has_the_last_word() -> None:
    world = World()
    thief = world.come("thief")
    honest = world.come("honest")
    world.claims.challenge_answered(thief)
    assert honest.ended
    world.claims.session_down(honest)
    world.claims.assign(1, PeerIdentity("honest"))
    again = world.come("honest")
    assert world.served() == {1: again.number}
    assert thief.ended


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["come", "answer", "end", "fault", "wait"]), st.sampled_from(["a", "b", "c"]), st.integers(1, 2)
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(STEPS)
def test_one_session_speaks_at_a_time_and_one_that_answers_is_not_replaced(steps: list[tuple[str, str, int]]) -> None:
    world = World()
    for what, who, dpid in steps:
        before = world.served()
        holder = next((one for one in world.sessions if one.number == before.get(dpid)), None)
        if what == "come":
            home = dict(world.claims._last_peers)
            session = world.come(who, dpid)
            if holder is not None and home.get(dpid) == holder.identity:
                assert world.served()[dpid] == holder.number, "the session of the first place was replaced"
            elif holder is not None and world.served()[dpid] != holder.number:
                assert home.get(dpid) == session.identity
        elif what == "answer" and holder is not None:
            world.claims.challenge_answered(holder)
            assert world.served() == before
        elif what in ("end", "fault") and holder is not None:
            holder.end(what, what == "fault")
        elif what == "wait":
            world.now += 10 * dpid
        for one in world.sessions:
            if one.ended and one.reasons != ["told"]:
                one.reasons = ["told"]
                world.claims.session_down(one)
        world.served()
    for one in world.sessions:
        one.end("over")
        world.claims.session_down(one)
    assert world.served() == {}
