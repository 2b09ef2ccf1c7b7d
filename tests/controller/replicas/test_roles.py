"""Roles: which replica writes on which switch. Several `Roles` on made-up switches that keep OpenFlow's rule."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.reconcile.commands import RequestRole, WriteTo
from controller.reconcile.events import ReplicasChanged, RoleChanged, RoleRefused
from controller.reconcile.ownership import Member, View, generation, is_stale
from controller.reconcile.roles import TAKEOVERS, Roles
from flows.bridge.claim_contest import BridgeName
from flows.bridge.state import BridgeState

A, B, C = Member("a", "1"), Member("b", "1"), Member("c", "1")


def bridge(dpid: int) -> BridgeState:
    return BridgeState(ovsdb=f"n{dpid}", name="br-int", dpid=dpid, hostname=f"n{dpid}", system_id=f"id-{dpid}")


def name(dpid: int) -> BridgeName:
    return (f"n{dpid}", "br-int")


@dataclass
class Switch:
    """The rule of OpenFlow 1.4.1, section 6.3.7, as Open vSwitch has it."""

    newest: int | None = None
    primary: str = ""
    writers: dict[int, set[str]] = field(default_factory=dict)  # by generation: who was let write

    def ask(self, who: str, number: int) -> bool:
        if self.newest is not None and is_stale(number, self.newest):
            return False
        self.newest, self.primary = number, who
        self.writers.setdefault(number, set()).add(who)
        return True


class Replica:
    """One `Roles` with its sessions to all switches."""

    def __init__(self, me: Member, switches: dict[int, Switch]) -> None:
        self.me, self.switches = me, switches
        self.roles = Roles(takes_part=True)
        self.roles.me = me
        self.asked: list[RequestRole] = []
        self.pending: list[RoleChanged | RoleRefused] = []
        for dpid in switches:
            self.roles.set_bridge(name(dpid), bridge(dpid))
            self.connect(dpid, 1)

    def connect(self, dpid: int, number: int) -> None:
        self.roles.on_session(dpid, number)
        self.roles.set_served(dpid, name(dpid))

    def see(self, view: View, now: float) -> None:
        self.roles.on_replicas(ReplicasChanged(self.me, view, now, now + 5.0))

    def turn(self, now: float) -> None:
        """Take what switches said, decide, and ask."""
        said, self.pending = self.pending, []
        for event in said:
            if isinstance(event, RoleChanged):
                self.roles.on_role(event, now)
            else:
                self.roles.on_refused(event, now)
        self.roles.step(now, self.roles.may_write)
        self.roles.take_changed()
        self.ask(now)

    def ask(self, now: float) -> None:
        """Ask the switches for roles; their answers are pending."""
        for command in self.roles.commands(now, self.roles.plans):
            switch = self.switches[command.dpid]
            if command.generation is None:
                self.pending.append(RoleChanged(command.dpid, command.session, False, switch.newest or 0))
                continue
            self.asked.append(command)
            if switch.ask(self.me.name, command.generation):
                self.pending.append(RoleChanged(command.dpid, command.session, True, command.generation))
            else:
                newest = switch.newest or 0
                self.pending.append(RoleRefused(command.dpid, command.session, command.generation, newest))

    def primary(self) -> set[int]:
        return {dpid for dpid in self.switches if self.roles.may_write(dpid)}

    def told(self, dpid: int, number: int) -> None:
        """The switch says that another one is primary."""
        self.pending.append(RoleChanged(dpid, self.roles.sessions[dpid].number, False, number))


def settle(replicas: list[Replica], now: float, turns: int = 40) -> float:
    """Let all act in turn until nothing moves; switches tell those that they demote."""
    for _ in range(turns):
        now += 0.1
        for one in replicas:
            before = {dpid: switch.primary for dpid, switch in one.switches.items()}
            one.turn(now)
            for dpid, switch in one.switches.items():
                for other in replicas:
                    if before[dpid] == other.me.name != switch.primary:
                        other.told(dpid, switch.newest or 0)
    return now


def test_alone_it_serves_everything_and_asks_for_nothing() -> None:
    roles = Roles()
    roles.set_bridge(name(1), bridge(1))
    roles.on_session(1, 1)
    roles.step(0.0, lambda dpid: True)
    assert roles.commands(0.0, lambda one: True) == []
    assert roles.may_write(1)
    assert roles.owns(name(1))
    assert roles.plans(name(1))
    assert roles.databases() == WriteTo(None)


def test_before_the_first_view_it_serves_nothing() -> None:
    replica = Replica(A, {1: Switch()})
    settle([replica], 0.0)
    assert replica.primary() == set()
    assert not replica.roles.plans(name(1))
    assert replica.roles.databases() == WriteTo(frozenset())


def test_primary_is_asked_for_after_the_switch_has_answered_for_secondary() -> None:
    """Else the request for SECONDARY, which waits for a first answer of the switch, would take the role away again."""
    a = Replica(A, {1: Switch()})
    a.see(View(1, (A,)), 0.0)
    a.roles.step(0.0, lambda dpid: False)
    asked = [a.roles.commands(now, lambda one: True) for now in (0.0, 0.1, 0.2)]
    assert asked == [[RequestRole(1, 1, None)], [], []]
    a.roles.on_role(RoleChanged(1, 1, False, 0), 0.3)
    assert a.roles.commands(0.3, lambda one: True) == [RequestRole(1, 1, generation(1, "a"))]


def test_all_switches_are_divided() -> None:
    switches = {dpid: Switch() for dpid in range(1, 41)}
    replicas = [Replica(one, switches) for one in (A, B, C)]
    view = View(1, (A, B, C))
    for one in replicas:
        one.see(view, 0.0)
    settle(replicas, 0.0)
    owned = [one.primary() for one in replicas]
    assert sum(map(len, owned)) == 40
    assert set().union(*owned) == set(switches)
    assert all(one.roles.databases().ovsdbs == frozenset(f"n{dpid}" for dpid in one.primary()) for one in replicas)


def test_a_new_member_takes_over_one_switch_after_the_other_and_the_old_one_serves_meanwhile() -> None:
    switches = {dpid: Switch() for dpid in range(1, 31)}
    a, b = Replica(A, switches), Replica(B, switches)
    a.see(View(1, (A,)), 0.0)
    b.see(View(1, (A,)), 0.0)
    now = settle([a, b], 0.0)
    assert len(a.primary()) == 30
    for one in (a, b):
        one.see(View(2, (A, B)), now)
    a.turn(now)
    assert len(a.primary()) == 30, "it goes on until the switch says otherwise"
    asked = []
    for step in range(60):
        before = len(b.asked)
        b.turn(now + step * 0.01)
        asked.append(len(b.asked) - before)
    assert max(asked) == 1
    assert {name(dpid) for dpid in b.primary()} == b.roles.wanted


@pytest.mark.parametrize("answered", [True, False])
def test_a_second_new_member_makes_the_first_no_faster_with_switches_that_are_served(answered: bool) -> None:
    """By the view before, b owns them already; the switches say that a serves them. `answered`: before c comes."""
    switches = {dpid: Switch() for dpid in range(1, 31)}
    a, b = Replica(A, switches), Replica(B, switches)
    for one in (a, b):
        one.see(View(1, (A,)), 0.0)
    now = settle([a, b], 0.0)
    b.see(View(2, (A, B)), now)
    for _ in range(3 if answered else 1):
        b.turn(now)
    b.see(View(3, (A, B, C)), now)
    asked = []
    while b.roles.taking_over:
        before = len(b.asked)
        b.turn(now)
        asked.append(len(b.asked) - before)
    assert max(asked) == 1
    assert b.roles.wanted <= {name(dpid) for dpid in b.primary()}


def test_switches_that_a_member_has_not_begun_with_are_taken_many_at_a_time() -> None:
    """a became ready a moment before b, and has begun with some switches: nobody serves the others meanwhile."""
    switches = {dpid: Switch() for dpid in range(1, 101)}
    a, b = Replica(A, switches), Replica(B, switches)
    for one in (a, b):
        one.see(View(1, (A,)), 0.0)
        one.turn(0.0)  # sessions are told to be secondary first
        one.turn(0.1)
    begun = {dpid for dpid, switch in switches.items() if switch.primary}
    assert len(begun) == TAKEOVERS
    b.see(View(2, (A, B)), 0.2)
    at_once: list[set[int]] = []
    while b.roles.taking_over:
        before = len(b.asked)
        b.turn(0.3)
        at_once.append({command.dpid for command in b.asked[before:]})
    assert max(map(len, at_once)) == TAKEOVERS
    assert max(len(asked & begun) for asked in at_once) == 1, "those that a serves go one after the other"
    assert {name(dpid) for dpid in b.primary()} == b.roles.wanted


def test_switches_of_a_dead_member_are_taken_over_many_at_a_time() -> None:
    switches = {dpid: Switch() for dpid in range(1, 101)}
    b = Replica(B, switches)
    b.see(View(1, (A, B)), 0.0)
    b.see(View(2, (B,)), 1.0)
    b.turn(1.0)
    b.turn(1.0)
    assert len(b.asked) == TAKEOVERS
    settle([b], 1.0)
    assert len(b.primary()) == 100


@pytest.mark.parametrize("before", [View(1, ()), View(1, (B,))])
def test_switches_that_are_away_are_planned_a_few_at_a_time(before: View) -> None:
    """Hundreds of plans in one batch would hold up everything else for as long as they take."""
    a = Replica(A, {})
    for dpid in range(1, 101):
        a.roles.set_bridge(name(dpid), bridge(dpid))
    a.see(before, 0.0)
    a.see(View(2, (A, *before.members)), 0.0)
    planned = []
    while a.roles.due_at(0.0, lambda dpid: False) == 0.0:
        a.roles.step(0.0, lambda dpid: False)
        planned.append(len(a.roles.take_changed()))
    assert max(planned) == TAKEOVERS
    assert sum(planned) == len(a.roles.wanted) > 2 * TAKEOVERS


@pytest.mark.parametrize("before", [View(1, ()), View(1, (C,))])
def test_switches_that_are_away_are_planned_after_those_that_are_connected(before: View) -> None:
    """A plan of a switch that is away is of use to nobody yet, and of those that are connected many wait for one. C is
    alive, and served them."""
    a = Replica(A, {})
    for dpid in range(1, 201):
        a.roles.set_bridge(name(dpid), bridge(dpid))
    for dpid in range(191, 201):
        a.switches[dpid] = Switch()
        a.connect(dpid, 1)
    a.see(before, 0.0)
    a.see(View(2, (A, *before.members)), 0.0)
    connected = {name(dpid) for dpid in a.switches} & a.roles.wanted
    planned: set[BridgeName] = set()
    while a.roles.due_at(0.0, a.roles.may_write) == 0.0 or a.pending:
        for event in a.pending:
            assert isinstance(event, RoleChanged)
            a.roles.on_role(event, 0.0)
        a.pending = []
        a.roles.step(0.0, a.roles.may_write)
        batch = a.roles.take_changed()
        assert batch <= connected or (connected <= planned and not batch & connected)
        planned |= batch
        a.ask(0.0)
    assert {name(dpid) for dpid in a.primary()} == connected
    assert planned == a.roles.wanted
    assert len(planned) > len(connected) + 2 * TAKEOVERS


@pytest.mark.parametrize("before", [View(1, (A,)), View(1, (C,))])
def test_a_takeover_that_is_finished_makes_room_at_once(before: View) -> None:
    """Nothing else may happen for a second: the next one must not wait for that. A is alive, C is dead."""
    switches = {dpid: Switch() for dpid in range(1, 101)}
    b = Replica(B, switches)
    b.see(before, 0.0)
    b.see(View(2, (A, B)), 1.0)
    b.turn(1.0)  # a session is told to be secondary first
    b.turn(1.0)
    to_take = b.roles.taking_over
    while b.roles.taking_over:
        assert (b.roles.due_at(1.0, lambda dpid: False) or 0.0) > 1.0, "nothing to do before the switches answer"
        for event in b.pending:
            assert isinstance(event, RoleChanged)
            b.roles.on_role(event, 1.0)
        b.pending = []
        assert b.roles.due_at(1.0, b.roles.may_write) == 1.0
        b.turn(1.0)
    assert len(b.primary()) == to_take > TAKEOVERS


@pytest.mark.parametrize("told", [True, False])
def test_a_replica_that_was_stopped_is_refused_and_steps_down(told: bool) -> None:
    """`told`: when it connects again, the switch says which generation it has seen, or another takes it after that."""
    switches = {1: Switch()}
    a, b = Replica(A, switches), Replica(B, switches)
    a.see(View(1, (A,)), 0.0)
    settle([a], 0.0)
    assert a.primary() == {1}
    b.see(View(2, (B,)), 10.0)  # a is stopped, and hears nothing
    settle([b], 10.0)
    assert b.primary() == {1}
    a.connect(1, 2)  # a goes on with what it knew
    a.turn(20.0)
    assert len(a.asked) == 1, "its view is too old to ask for anything"
    a.roles.on_replicas(ReplicasChanged(A, View(1, (A,)), 0.0, 25.0))  # the API server does not answer
    if told:
        settle([a], 20.0)
        assert len(a.asked) == 1, "the switch has said that it has seen a newer generation"
    else:
        a.pending = [RoleChanged(1, 2, False, 0)]  # b has taken it after the switch said what it has seen
        a.turn(20.1)
        a.turn(20.2)
        assert len(a.asked) == 2
    assert a.primary() == set()
    a.turn(24.0)
    assert len(a.asked) == (1 if told else 2), "not again before the view was read"
    assert b.primary() == {1}
    a.see(View(2, (B,)), 25.0)
    a.turn(25.0)
    assert not a.roles.plans(name(1))
    assert b.primary() == {1}


@pytest.mark.parametrize("told", [True, False])
def test_the_owner_by_a_view_read_after_the_refusal_goes_above_a_switch_that_is_ahead(told: bool) -> None:
    switch = Switch(newest=generation(500, "z"))
    a = Replica(A, {1: switch})
    a.see(View(1, (A,)), 0.0)
    if not told:
        a.turn(0.0)
        a.pending = [RoleChanged(1, 1, False, 0)]  # another replica has taken the switch after it answered
    for now in (0.1, 0.2, 0.3):
        a.turn(now)
    assert a.primary() == set()
    a.see(View(1, (A,)), 1.0)
    settle([a], 1.0)
    assert a.primary() == {1}
    assert not is_stale(switch.newest or 0, generation(500, "z"))


def test_all_bridges_of_an_ovsdb_have_one_owner() -> None:
    roles = Roles(takes_part=True)
    two = [BridgeState(ovsdb="n", name=f"br{number}", dpid=number) for number in (1, 2)]
    for one in two:
        roles.set_bridge(("n", one.name), one)
    assert roles.key(("n", "br1")) == roles.key(("n", "br2")) == f"{1:016x}"


def test_of_a_switch_that_it_owns_and_that_is_away_it_writes_the_ovsdb() -> None:
    a = Replica(A, {1: Switch()})
    a.see(View(1, (A,)), 0.0)
    settle([a], 0.0)
    a.roles.on_session_end(1, 1)
    assert a.roles.serves(name(1))
    assert a.roles.plans(name(1))
    assert a.roles.databases() == WriteTo(frozenset({"n1"}), frozenset())


@pytest.mark.parametrize("gone", [True, False])
def test_a_bridge_that_is_gone_is_forgotten(gone: bool) -> None:
    a = Replica(A, {1: Switch()})
    a.see(View(1, (A,)), 0.0)
    settle([a], 0.0)
    if gone:
        a.roles.on_session_end(1, 1)
    a.roles.set_bridge(name(1), None)
    a.turn(9.0)
    assert not a.roles.wanted
    assert not a.roles.planned


STEPS = st.lists(
    st.tuples(st.sampled_from(["view", "late", "turn", "tell", "reconnect", "reset", "pass"]), st.integers(0, 2),
              st.integers(0, 7)), max_size=60)  # fmt: skip


@settings(max_examples=200)
@given(STEPS)
def test_there_are_never_two_writers_in_one_generation(steps: list[tuple[str, int, int]]) -> None:
    """Views come late or not at all, messages of switches too, sessions break, and time passes in between.

    At any time a switch lets one write, whatever replicas believe. In the end, with one view for all, each switch is
    written by its owner.
    """
    switches = {dpid: Switch() for dpid in range(1, 4)}
    members = (A, B, C)
    replicas = [Replica(one, switches) for one in members]
    views = [View(1, members)]
    now, number = 0.0, 1
    for what, who, choice in steps:
        one = replicas[who]
        now += 0.05
        if what == "view":
            if choice:
                views.append(View(views[-1].epoch + 1, tuple(m for bit, m in enumerate(members) if choice >> bit & 1)))
            one.see(views[-1], now)
        elif what == "late":
            one.see(views[max(0, len(views) - 1 - choice)], now)
        elif what == "turn":
            one.turn(now)
        elif what == "tell":
            for dpid, switch in switches.items():
                if switch.primary != one.me.name and one.roles.may_write(dpid):
                    one.told(dpid, switch.newest or 0)
        elif what == "reconnect":
            number += 1
            one.connect(choice % 3 + 1, number)
        elif what == "reset":
            switches[choice % 3 + 1].primary = ""
        else:
            now += choice
    for switch in switches.values():
        assert all(len(who) == 1 for who in switch.writers.values())
    final = View(views[-1].epoch + 1, members)
    for _ in range(12):
        now += 1.0
        for one in replicas:
            for dpid, switch in switches.items():
                if switch.primary != one.me.name and one.roles.may_write(dpid):
                    one.told(dpid, switch.newest or 0)
            one.see(final, now)
        now = settle(replicas, now, 6)
    for dpid, switch in switches.items():
        assert all(len(who) == 1 for who in switch.writers.values())
        assert switch.primary == final.owner(f"id-{dpid}")
        assert [one.me.name for one in replicas if one.roles.may_write(dpid)] == [switch.primary]
