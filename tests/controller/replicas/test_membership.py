"""The state machine of membership, driven with values and time: alone, and several replicas on one made-up API."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.reconcile.ownership import Member, View
from controller.replicas.leases import MemberLease, Reading, ViewLease
from controller.replicas.membership import FORGET_LEASE_SECONDS, START_WAIT_SECONDS, Decision, Membership

LEASE, RENEW = 5.0, 1.0


@dataclass
class Api:
    """Leases with resourceVersions, which are compared when one is written."""

    number: int = 0
    members: dict[str, MemberLease] = field(default_factory=dict)
    view: ViewLease | None = None
    views: dict[int, tuple[Member, ...]] = field(default_factory=dict)  # by epoch: what was ever written

    def read(self, began: float, ended: float) -> Reading:
        return Reading(began, ended, tuple(self.members[name] for name in sorted(self.members)), self.view)

    def write(self, decision: Decision) -> None:
        if decision.own is not None:
            there = self.members.get(decision.own.member.name)
            if (there.version if there else "") != decision.own.version:
                return  # a conflict: nothing more is written then
            self.members[decision.own.member.name] = replace(decision.own, version=self._next())
        if decision.view is not None and (self.view.version if self.view else "") == decision.view.version:
            epoch = decision.view.view.epoch
            assert epoch not in self.views, "an epoch has one list of members"
            self.views[epoch] = decision.view.view.members
            self.view = replace(decision.view, version=self._next())

    def _next(self) -> str:
        self.number += 1
        return str(self.number)


def machine(name: str, incarnation: str = "1", ready: bool = True) -> Membership:
    return Membership(MemberLease(Member(name, incarnation), LEASE, ready=ready))


def turn(one: Membership, api: Api, now: float) -> Decision:
    decision = one.decide(api.read(now, now))
    api.write(decision)
    return decision


def turns(one: Membership, api: Api, first: int, last: int) -> None:
    """One turn a second."""
    for second in range(first, last + 1):
        turn(one, api, float(second))


def members(api: Api) -> list[str]:
    return [member.name for member in api.view.view.members] if api.view else []


def test_alone_it_becomes_the_only_member() -> None:
    api, a = Api(), machine("a")
    assert turn(a, api, 0.0).joins
    turn(a, api, 0.1)
    assert members(api) == ["a"]
    assert api.view is not None
    assert api.view.view.epoch == 1
    before = api.number
    assert turn(a, api, 1.0).view is None
    assert api.number == before + 1  # renewed, and nothing else


def test_one_that_is_not_ready_is_no_member() -> None:
    api, a, b = Api(), machine("a"), machine("b", ready=False)
    turns(a, api, 0, 1)
    for now in (1.0, 1.1, 1.2, 1.3):
        turn(a, api, now)
        turn(b, api, now)
    assert members(api) == ["a"]
    b.own = replace(b.own, ready=True)
    turn(b, api, 2.0)
    turn(b, api, 2.1)
    assert members(api) == ["a", "b"]


def starting(api: Api) -> tuple[Membership, Membership]:
    """a is ready, and b has begun, too."""
    a, b = machine("a"), machine("b", ready=False)
    for now in (0.0, 0.1, 0.2):
        turn(b, api, now)
        turn(a, api, now)
    return a, b


def test_where_nobody_serves_those_that_start_are_waited_for() -> None:
    """Else the first one that is ready would begin with all switches, and give half of them away."""
    api = Api()
    a, b = starting(api)
    assert turn(a, api, 1.0).waits_for == ("b",)
    assert api.view is None
    b.own = replace(b.own, ready=True)
    turn(b, api, 1.5)
    assert turn(a, api, 2.0).waits_for == ()
    assert (members(api), list(api.views)) == (["a", "b"], [1])


def test_one_that_never_becomes_ready_is_waited_for_a_lease_at_most() -> None:
    api = Api()
    a, b = starting(api)
    for now in (1.0, 2.0, 3.0, 4.0, 4.9):
        turn(b, api, now)
        turn(a, api, now)
        assert api.view is None
    turn(b, api, 5.0)
    turn(a, api, 5.0)
    assert members(api) == ["a"]


def test_one_that_took_long_to_become_ready_waits_as_long_for_others() -> None:
    """They have as much to read; with a large fleet that takes longer than a lease."""
    api, a, b = Api(), machine("a", ready=False), machine("b", ready=False)
    turns(b, api, 0, 0)
    for second in range(41):
        a.own = replace(a.own, ready=second >= 20)
        turn(b, api, float(second))
        turn(a, api, float(second))
        assert (api.view is None) == (second < 40)
    assert members(api) == ["a"]


def test_one_that_was_kept_for_an_hour_does_not_wait_an_hour_more() -> None:
    """As without rights to read the cluster: another one that is never ready must not keep all switches as they are."""
    api, a, b = Api(), machine("a", ready=False), machine("b", ready=False)
    turns(a, api, 0, 3599)
    turns(b, api, 3599, 3599)
    a.own = replace(a.own, ready=True)
    for second in range(3600, 3600 + int(START_WAIT_SECONDS) + 1):
        turn(b, api, float(second))
        assert turn(a, api, float(second)).waits_for == (("b",) if second < 3600 + START_WAIT_SECONDS else ())
    assert members(api) == ["a"]


def test_one_that_ended_before_it_was_ready_is_waited_for_while_its_lease_lasts() -> None:
    api, b = Api(), machine("b", ready=False)
    turns(b, api, 0, 1)
    a = machine("a", ready=False)
    turns(a, api, 2, 5)
    a.own = replace(a.own, ready=True)
    assert turn(a, api, 6.0).waits_for == ("b",)
    turn(a, api, 7.0)
    assert members(api) == ["a"]


def test_where_somebody_serves_nobody_waits() -> None:
    api = Api()
    a, _ = both(api)
    c = machine("c", ready=False)
    for now in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0):
        turn(c, api, now)
        turn(a, api, now)
    assert members(api) == ["a"]  # b is silent, and c starts
    assert turn(a, api, 6.1).waits_for == ()


def both(api: Api) -> tuple[Membership, Membership]:
    a, b = machine("a"), machine("b")
    for now in (0.0, 0.1, 0.2):
        turn(a, api, now)
        turn(b, api, now)
    assert members(api) == ["a", "b"]
    return a, b


def test_one_that_is_silent_for_its_lease_is_taken_out_by_the_observers_clock() -> None:
    api = Api()
    _, b = both(api)
    for now in (1.0, 2.0, 3.0, 4.0, 5.0):
        turn(b, api, now)
        assert members(api) == ["a", "b"]
    turn(b, api, 5.3)
    assert members(api) == ["b"]


def test_one_that_started_just_now_does_not_bring_back_whom_the_others_take_for_dead() -> None:
    """Found by the fault suite (seed 100): c sees the Lease of b, which is dead, for the first time."""
    api = Api()
    a, _ = both(api)
    turns(a, api, 1, 3)
    c = machine("c")
    for half in range(8, 24):
        for one in (a, c):
            turn(one, api, half / 2)
    assert members(api) == ["a", "c"]
    lists = [[member.name for member in found] for found in api.views.values()]
    assert lists[-3:] == [["a", "b"], ["a", "b", "c"], ["a", "c"]], "b goes once"


def test_one_that_is_alive_is_taken_back_when_it_renews() -> None:
    api = Api()
    a, b = both(api)
    for second in range(1, 8):
        turn(a, api, float(second))
    assert members(api) == ["a"]
    b.own = replace(b.own, http="192.0.2.1:1")
    turn(b, api, 7.5)
    for now in (8.0, 8.5):
        turn(a, api, now)
    assert members(api) == ["a", "b"]


def test_a_replica_that_was_stopped_while_it_read_takes_nobody_for_dead() -> None:
    api = Api()
    a, b = both(api)
    for now in (1.0, 2.0):
        turn(a, api, now)
        turn(b, api, now)
    decision = a.decide(api.read(2.5, 60.0))  # the answer was read before the stop, and is handled after it
    assert decision.view is None


def test_after_the_api_server_was_away_for_all_nobody_is_taken_for_dead() -> None:
    api = Api()
    a, b = both(api)
    for now in (60.0, 60.5):
        turn(a, api, now)
        assert members(api) == ["a", "b"]
        turn(b, api, now)
    turns(a, api, 61, 65)
    assert members(api) == ["a", "b"]
    turns(a, api, 66, 67)
    assert members(api) == ["a"], "one that does not come back is gone a lease later"


def test_one_that_comes_back_renews_before_it_decides_on_others() -> None:
    api = Api()
    a, b = both(api)
    turns(b, api, 1, 19)
    assert members(api) == ["b"]
    turn(a, api, 20.0)
    turn(a, api, 20.1)
    assert members(api) == ["a", "b"]


def test_a_view_that_was_decided_on_before_a_stop_is_not_written() -> None:
    api = Api()
    a, b = both(api)
    turns(a, api, 1, 5)
    stale = a.decide(api.read(6.0, 6.0))  # b is silent: a wants it out, and is stopped
    assert stale.view is not None
    turns(b, api, 7, 13)
    assert members(api) == ["b"]
    before = dict(api.views)
    api.write(stale)
    assert api.views == before


def test_leaving_gives_everything_up_at_once() -> None:
    api = Api()
    a, _ = both(api)
    api.write(a.decide(api.read(1.0, 1.0), leaving=True))
    assert members(api) == ["b"]


def test_the_newer_of_two_processes_with_one_name_goes_on() -> None:
    api, old, new = Api(), machine("a", "1"), machine("a", "2")
    turn(old, api, 0.0)
    turn(old, api, 0.1)
    turn(new, api, 1.0)
    turn(new, api, 1.1)
    assert api.view is not None
    assert api.view.view.members == (Member("a", "2"),)
    assert turn(old, api, 2.0).replaced
    assert turn(old, api, 3.0) == Decision(replaced=True)
    turns(old, api, 4, 6)
    assert turn(old, api, 7.0).joins  # the newer one is gone


def test_a_view_that_was_lost_is_made_again_with_a_later_epoch() -> None:
    api = Api()
    a, _ = both(api)
    epoch = api.view.view.epoch if api.view else 0
    api.view = None
    turn(a, api, 1.0)
    assert api.view is not None
    assert api.view.view.epoch == epoch + 1
    api.view = ViewLease(View(1, ()), api.view.version)  # a backup was restored
    api.views.clear()
    turn(a, api, 2.0)
    assert api.view.view.epoch == epoch + 2
    assert members(api) == ["a", "b"]


def test_leases_of_those_that_are_gone_for_long_are_deleted_by_one() -> None:
    api = Api()
    a, b = both(api)
    for tens in range(int(FORGET_LEASE_SECONDS)):
        turn(a, api, 1.0 + tens)
    turn(a, api, 1.0 + FORGET_LEASE_SECONDS)
    late = 1.3 + FORGET_LEASE_SECONDS
    assert [one.member.name for one in turn(a, api, late).forget] == ["b"]
    assert b.decide(api.read(late, late)).forget == ()


@dataclass
class Process:
    machine: Membership
    stopped: bool = False
    cut_off: bool = False
    late: Decision | None = None


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["stop", "continue", "cut", "join", "restart", "leave", "forget_view", "slow"]),
        st.integers(0, 3),
        st.integers(1, 8),
    ),
    max_size=20,
)


@settings(max_examples=150)
@given(EVENTS)
def test_whatever_happens_an_epoch_has_one_list_and_in_the_end_all_are_members(
    events: list[tuple[str, int, int]],
) -> None:
    """Replicas are stopped, cut off, restarted and slow; `Api.write` asserts that no epoch is written twice."""
    api, now, incarnation = Api(), 0.0, 1
    processes = {f"r{number}": Process(machine(f"r{number}")) for number in range(4)}

    def run(seconds: int) -> None:
        nonlocal now
        for _ in range(seconds):
            now += RENEW
            for process in processes.values():
                if not process.stopped and not process.cut_off:
                    if process.late is not None:
                        late, process.late = process.late, None
                        api.write(late)
                    turn(process.machine, api, now)

    for what, which, seconds in events:
        name = f"r{which}"
        process = processes[name]
        if what == "stop":
            process.stopped = True
        elif what == "continue":
            process.stopped = process.cut_off = False
        elif what == "cut":
            process.cut_off = True
        elif what == "slow" and not process.stopped and not process.cut_off:
            process.late = process.machine.decide(api.read(now, now + 0.5))
        elif what in ("restart", "join"):
            incarnation += 1
            processes[name] = Process(machine(name, str(incarnation)))
        elif what == "leave" and not process.stopped:
            api.write(process.machine.decide(api.read(now, now), leaving=True))
            process.stopped = True
        elif what == "forget_view" and api.view is not None:
            # Deleted while all know it. Before, its epoch may get two lists; generations have names in them.
            known = {one.machine.view for one in processes.values()}
            api.view = None if known == {api.view.view} else api.view
        run(seconds)
    for name, process in processes.items():
        process.stopped = process.cut_off = False
        if not process.machine.own.ready:
            incarnation += 1
            processes[name] = Process(machine(name, str(incarnation)))
    run(20)
    assert members(api) == ["r0", "r1", "r2", "r3"]
    assert len({process.machine.view for process in processes.values()}) == 1


@pytest.mark.parametrize("seconds", [1.0, 5.0])
def test_age_is_the_time_since_a_lease_was_seen_to_change(seconds: float) -> None:
    api, a = Api(), machine("a")
    turn(a, api, 0.0)
    turn(a, api, 1.0)
    assert a.age("a", 1.0 + seconds) == seconds
    assert a.age("unknown", 9.0) is None
