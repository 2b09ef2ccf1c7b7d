"""The oracle: before, after, within the window either; losses only where a switch was away; never anything else."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.cluster.model import Key
from tests.chaos.history import Disturbance, History, Observation, Oracle, State
from tests.chaos.places import Addresses, Place, Places, first_places
from tests.chaos.world import NODES, World, flapping_policy, standing_policies
from tests.helpers.truth.paper_cluster import PaperCluster
from topology.lab.manifests import cluster_objects
from topology.probe.matrix import LabProbe, Outcome
from topology.spec.address import plan_endpoints
from topology.spec.load import check_topology

WORLD = World(24)
TOPOLOGY = check_topology(WORLD.topology(), "test", "c")
ENDPOINTS = plan_endpoints(TOPOLOGY)
PLACES = first_places(TOPOLOGY, ENDPOINTS)
IN_Y = sorted(pod for pod in WORLD.movable if pod.startswith("y/"))
# Allowed until y/closed is there.
PROBE = LabProbe(IN_Y[0], IN_Y[1], "TCP", 80, 4)
STRANGER = LabProbe("w/d2", "w/s0", "UDP", 80, 4)
CLIENT = LabProbe("w/c1", "w/s0", "TCP", 80, 6)


def paper() -> PaperCluster:
    return PaperCluster([*cluster_objects(TOPOLOGY, ENDPOINTS), *standing_policies()])


def state(world: PaperCluster, places: Places = PLACES) -> State:
    return State(world.snapshot(), places)


def history() -> History:
    """y/closed comes between 10 and 12, and goes between 20 and 23."""
    world = paper()
    found = History([state(world)])
    world.apply(flapping_policy("y/closed"))
    found.begin("created", state(world), 10.0).closed = 12.0
    world.delete_policy(flapping_policy("y/closed"))
    found.begin("deleted", state(world), 20.0).closed = 23.0
    return found


def oracle() -> Oracle:
    return Oracle(history())


def seen(started: float, ended: float, outcome: Outcome, probe: LabProbe = PROBE) -> Observation:
    return Observation(probe, started, ended, outcome, PLACES[probe.source], PLACES[probe.destination])


@pytest.mark.parametrize(
    ("started", "ended", "allowed", "denied"),
    [
        (1.0, 2.0, True, False),  # before
        (9.0, 9.9, True, False),
        (9.0, 10.0, True, True),  # within the window either
        (11.0, 11.1, True, True),
        (12.0, 13.0, True, True),
        (12.1, 13.0, False, True),  # after
        (19.0, 20.5, True, True),
        (15.0, 19.9, False, True),
        (23.1, 30.0, True, False),
        (1.0, 30.0, True, True),  # all the time
    ],
)
def test_before_after_and_either_within_the_window(started: float, ended: float, allowed: bool, denied: bool) -> None:
    judge = oracle()
    assert (judge.wrong(seen(started, ended, Outcome.ALLOWED), ()) == "") is allowed
    assert (judge.wrong(seen(started, ended, Outcome.CLOSED), ()) == "") is allowed
    assert (judge.wrong(seen(started, ended, Outcome.DENIED), ()) == "") is denied
    assert judge.wrong(seen(started, ended, Outcome.WRONG), ()) != ""


def test_the_reason_is_in_words() -> None:
    line = oracle().wrong(seen(13.0, 14.0, Outcome.ALLOWED), ())
    assert str(PROBE) in line and "13.00" in line and "state 1 denies it" in line


def test_a_switch_that_is_away_excuses_a_loss_and_never_a_success() -> None:
    judge = oracle()
    node = PLACES[CLIENT.source].node
    (elsewhere, *_) = (one for one in NODES if one not in (node, PLACES[CLIENT.destination].node))
    lost = seen(5.0, 6.0, Outcome.DENIED, CLIENT)
    assert judge.wrong(lost, ())
    assert judge.wrong(lost, [Disturbance(node, 5.5, 8.0)]) == ""
    assert judge.wrong(lost, [Disturbance(node, 1.0)]) == ""
    assert judge.wrong(lost, [Disturbance(node, 6.5, 8.0)])
    assert judge.wrong(lost, [Disturbance(node, 1.0, 4.5)])
    assert judge.wrong(lost, [Disturbance(elsewhere, 1.0, 9.0)])
    leaked = seen(5.0, 6.0, Outcome.ALLOWED, STRANGER)
    assert judge.wrong(leaked, [Disturbance(one, 0.0) for one in NODES])


def test_a_change_that_is_never_announced_leaves_both_possible() -> None:
    found = history()
    world = paper()
    world.apply(flapping_policy("y/closed"))
    change = found.begin("created again", state(world), 40.0)
    assert math.isinf(change.closed)
    judge = Oracle(found)
    assert judge.may(seen(100.0, 101.0, Outcome.DENIED)) == {True, False}
    assert judge.may(seen(39.0, 39.5, Outcome.DENIED)) == {True}
    with pytest.raises(ValueError, match="created again is not realized yet"):
        found.begin("another", state(world), 50.0)


TIMES = st.lists(st.floats(0, 100, allow_nan=False), min_size=2, max_size=12, unique=True).map(sorted)


@given(TIMES, st.floats(0, 100), st.floats(0, 30))
def test_possible_states_are_those_whose_time_meets_the_probes(
    times: list[float], started: float, lasts: float
) -> None:
    """Against the plain definition: state n lasts from the beginning of change n to the end of change n + 1."""
    only = state(paper())
    found = History([only])
    windows = list(zip(times[::2], times[1::2], strict=False))
    for begun, closed in windows:
        found.begin("change", only, begun).closed = closed
    lives = list(pairwise([(-math.inf, -math.inf), *windows, (math.inf, math.inf)]))
    ended = started + lasts
    expected = [n for n, ((begun, _), (_, closed)) in enumerate(lives) if begun <= ended and closed >= started]
    assert list(found.possible(started, ended)) == expected


@given(st.floats(0, 40), st.floats(0, 5), st.sampled_from([STRANGER, CLIENT]))
def test_what_never_changes_has_one_verdict_at_any_time(started: float, lasts: float, probe: LabProbe) -> None:
    may = oracle().may(seen(started, started + lasts, Outcome.DENIED, probe))
    assert may == {probe is CLIENT}


MOVED = Place("n3" if PLACES[IN_Y[1]].node != "n3" else "n2", PLACES[IN_Y[1]].addresses, 1)


def moved() -> Oracle:
    """The destination of PROBE leaves between 10 and 12, and comes to another node with its address, 20 to 23."""
    world, gone = paper(), {key: place for key, place in PLACES.items() if key != IN_Y[1]}
    found = History([state(world)])
    world.delete_pod(Key(*IN_Y[1].split("/")))
    found.begin("leaves", state(world, gone), 10.0).closed = 12.0
    found.begin("comes", state(paper(), {**gone, IN_Y[1]: MOVED}), 20.0).closed = 23.0
    return Oracle(found)


@pytest.mark.parametrize(
    ("started", "ended", "first_life", "second_life"),
    [
        (1.0, 9.0, {True}, {False}),
        (9.0, 11.0, {True, False}, {False}),
        (13.0, 19.0, {False}, {False}),
        (19.0, 21.0, {False}, {True, False}),
        (24.0, 25.0, {False}, {True}),
        (1.0, 25.0, {True, False}, {True, False}),
    ],
)
def test_a_pod_that_moves_is_reached_in_each_life_where_it_is(
    started: float, ended: float, first_life: set[bool], second_life: set[bool]
) -> None:
    judge = moved()
    one = seen(started, ended, Outcome.DENIED)
    assert judge.may(one) == first_life
    assert judge.may(replace(one, destination=MOVED)) == second_life


def test_a_denied_pod_is_reached_in_no_life() -> None:
    """Neither while it moves nor before nor after it."""
    world, gone = paper(), {key: place for key, place in PLACES.items() if key != "w/s0"}
    found = History([state(world)])
    world.delete_pod(Key("w", "s0"))
    found.begin("leaves", state(world, gone), 10.0).closed = 12.0
    again = Place("n3", PLACES["w/s0"].addresses, 1)
    found.begin("comes", state(paper(), {**gone, "w/s0": again}), 20.0).closed = 23.0
    for place in (PLACES["w/s0"], again):
        assert Oracle(found).may(replace(seen(0.0, 99.0, Outcome.ALLOWED, STRANGER), destination=place)) == {False}


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 4)), max_size=30))
def test_an_address_is_never_two_pods_and_rests_before_another_has_it(moves: list[tuple[int, float]]) -> None:
    have: dict[int, tuple[tuple[int, str], ...]] = {pod: ((4, f"10.10.1.{pod}"),) for pod in range(4)}
    left: dict[tuple[tuple[int, str], ...], float] = {}
    addresses, now = Addresses({4: "10.10.200."}, 5.0), 0.0
    for pod, pause in moves:
        before = have.pop(pod)
        addresses.leave(before, now)
        left[before] = now
        now += pause
        have[pod] = addresses.take(now, before)
        assert len(set(have.values())) == 4
        assert have[pod] != before and now - left.get(have[pod], -9.0) >= 5.0
