"""The connection limiter, backoff, token buckets, memory budgets and the acceptor, without a switch."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.peers.acceptor import Acceptor
from controller.peers.backoff import Backoff
from controller.peers.connection_limiter import AcceptedConnection, ConnectionLimiter, TooManyConnections, address_key
from controller.peers.descriptors import raise_descriptor_limit
from controller.peers.limits import ConnectionLimits, OpenFlowLimits, OvsdbLimits, declared_limits
from controller.peers.memory_budget import MemoryBudget
from controller.peers.token_bucket import TokenBucket

SMALL = ConnectionLimits(connections=12, per_address=9, unproven=6, unproven_new_address=4, unproven_per_address=3,
                   min_unproven_age=1.0, tolerated_faults=2, fault_interval=1.0, fault_interval_proven_address=0.1,
                   remembered_addresses=5)  # fmt: skip


class World:
    """A limiter, its clock, and its connections."""

    def __init__(self, limits: ConnectionLimits = SMALL) -> None:
        self.now = 100.0
        self.limiter = ConnectionLimiter(limits, lambda: self.now)
        self.inside: list[AcceptedConnection] = []
        self.evicted: list[AcceptedConnection] = []

    def come(self, host: str) -> AcceptedConnection:
        box: list[AcceptedConnection] = []
        connection = self.limiter.accept(host, lambda _: self.evicted.append(box[0]))
        box.append(connection)
        self.inside.append(connection)
        return connection


def test_addresses_of_one_machine_count_as_one() -> None:
    assert address_key("192.0.2.1") == "192.0.2.1"
    assert address_key("::ffff:192.0.2.1") == "192.0.2.1"
    assert address_key("2001:db8:1:2:3::4") == address_key("2001:db8:1:2::99") != address_key("2001:db8:1:3::4")
    assert address_key("fe80::1%eth0") == "fe80::1" != address_key("fe80::2")
    assert address_key("") == ""


def test_an_address_that_says_nothing_makes_room_for_itself_alone() -> None:
    world = World()
    other = world.come("10.0.0.2")
    old = [world.come("10.0.0.1") for _ in range(3)]
    with pytest.raises(TooManyConnections, match="have not identified a switch"):
        world.come("10.0.0.1")
    world.now += 2
    world.come("10.0.0.1")
    assert world.evicted == old[:1]
    world.limiter.mark_proven(other)
    assert world.limiter.counts() == (1, 3)


def test_those_who_proved_themselves_before_have_places_of_their_own() -> None:
    world = World()
    known = world.come("10.0.0.9")
    world.limiter.mark_proven(known)
    world.limiter.release(known)
    for host in ("10.0.0.1", "10.0.0.2"):
        for _ in range(2):
            world.come(host)
    with pytest.raises(TooManyConnections):
        world.come("10.0.0.3")
    world.come("10.0.0.9")
    assert world.evicted == []


def test_faults_pace_an_address_and_are_forgotten() -> None:
    world = World()
    for _ in range(3):
        world.limiter.release(world.come("10.0.0.1"), fault=True)
    world.limiter.release(world.come("10.0.0.1"), fault=True)
    with pytest.raises(TooManyConnections) as closed:
        world.come("10.0.0.1")
    assert closed.value.kind == "pace"
    world.limiter.release(world.come("10.0.0.2"))
    world.now += 1.1
    world.limiter.release(world.come("10.0.0.1"))
    world.now += 100
    for _ in range(5):
        world.limiter.release(world.come("10.0.0.1"))


Step = tuple[str, int, float]
STEPS = st.lists(st.tuples(st.sampled_from(["come", "prove", "leave", "fault"]), st.integers(0, 7), st.floats(0, 2)))


@given(STEPS)
def test_the_bounds_hold_whatever_happens(steps: list[Step]) -> None:
    world = World()
    for what, number, seconds in steps:
        world.now += seconds
        if what == "come":
            try:
                world.come(f"10.0.0.{number}")
            except TooManyConnections:
                continue
        elif world.inside:
            connection = world.inside[number % len(world.inside)]
            if what == "prove":
                world.limiter.mark_proven(connection)
            else:
                world.inside.remove(connection)
                world.limiter.release(connection, what == "fault")
        # Who was evicted holds no place any more; its connection ends soon after.
        proven, unproven = world.limiter.counts()
        held = [one for one in world.inside if one.proven or one not in world.evicted]
        assert proven == sum(one.proven for one in held)
        assert unproven == len(held) - proven <= SMALL.unproven
        assert proven + unproven <= SMALL.connections
        for key in {one.key for one in held}:
            assert sum(one.key == key and not one.proven for one in held) <= SMALL.unproven_per_address
        assert world.limiter.remembered <= SMALL.remembered_addresses + SMALL.connections
    for connection in list(world.inside):
        world.limiter.release(connection)
    assert world.limiter.counts() == (0, 0)


def test_waits_double_up_to_the_longest_and_start_afresh() -> None:
    waits: Backoff[str] = Backoff(0.5, 4.0, 10.0, size=3)
    assert [waits.failed("a", 0.0) for _ in range(5)] == [0.5, 1.0, 2.0, 4.0, 4.0]
    assert waits.left("a", 1.0) == 3.0
    assert waits.left("b", 1.0) == 0.0
    assert waits.failed("a", 15.0) == 0.5
    for key in "bcd":
        waits.failed(key, 15.0)
    assert len(waits) == 3
    assert waits.left("a", 15.0) == 0.0


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), max_size=200))
def test_no_more_is_handled_than_burst_and_rate_allow(messages: list[tuple[int, float]]) -> None:
    now, handled = 0.0, 0
    pace = TokenBucket(100, 10, now)
    for units, seconds in messages:
        now += seconds
        if not pace.wait(now):
            pace.spend(units)
            handled += units
        assert handled <= 100 + 10 * now + 50


def test_shares_are_everybodys_and_the_pot_is_not() -> None:
    budget = MemoryBudget(10, 20)
    assert budget.resize(0, 30)
    assert budget.resize(0, 10)
    assert not budget.resize(10, 11)
    assert budget.resize(30, 5)
    assert budget.resize(10, 30)
    assert not budget.resize(0, 31)


class Failing:
    """A listening socket whose accept does as it is told."""

    def __init__(self, script: list[OSError | socket.socket], done: Callable[[], None]) -> None:
        self.script, self.done, self.closed = script, done, False

    def settimeout(self, seconds: float) -> None:
        assert seconds

    def accept(self) -> tuple[socket.socket, object]:
        if not self.script:
            self.done()
            raise OSError(errno.EINVAL, "closed")
        one = self.script.pop(0)
        if isinstance(one, OSError):
            raise one
        return one, ("10.0.0.1", 1)

    def shutdown(self, how: int) -> None:
        pass

    def close(self) -> None:
        self.closed = True


ERRORS = [
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOBUFS,
    errno.ENOMEM,
    errno.ECONNABORTED,
    errno.EINTR,
    errno.EPROTO,
    errno.EBADF,
]


def test_nothing_that_accept_says_ends_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.peers.acceptor.FIRST_ACCEPT_PAUSE", 0.001)
    monkeypatch.setattr("controller.peers.acceptor.MAX_ACCEPT_PAUSE", 0.01)
    pairs = [socket.socketpair() for _ in range(3)]
    script: list[OSError | socket.socket] = [OSError(number, "no") for number in ERRORS]
    for at, (ours, _) in enumerate(pairs):
        script.insert(3 * at, ours)
    taken: list[socket.socket] = []

    def take(connection: socket.socket, _: object) -> None:
        taken.append(connection)
        if len(taken) == 2:
            raise OSError(errno.EMFILE, "no descriptor left for what belongs to it")

    acceptor = Acceptor(Failing(script, lambda: acceptor.close()), "test", take)  # type: ignore[arg-type]  # noqa: PLW0108
    thread = threading.Thread(target=acceptor.run, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert len(taken) == 3
    assert taken[1].fileno() < 0  # what could not be served was closed
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_a_listener_lives_through_a_lack_of_descriptors() -> None:
    """With real descriptors: the limit is reached, connections come, and when it is lifted they are served."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    listening = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []
    acceptor = Acceptor(listening, "test", lambda connection, _: taken.append(connection))
    thread = threading.Thread(target=acceptor.run, daemon=True)
    client = socket.socket()
    spare = socket.socket()
    try:
        lowest = spare.fileno()
        spare.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        thread.start()
        client.connect(listening.getsockname())
        time.sleep(0.5)
        assert thread.is_alive()
        assert not taken
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        deadline = time.monotonic() + 10
        while not taken and time.monotonic() < deadline:
            time.sleep(0.01)
        assert taken
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        acceptor.close()
        thread.join(5)
        for one in (client, *taken):
            one.close()


def test_the_soft_limit_of_descriptors_is_raised() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        assert raise_descriptor_limit() == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("kind", [ConnectionLimits, OpenFlowLimits, OvsdbLimits])
def test_every_limit_has_words(kind: type[ConnectionLimits] | type[OpenFlowLimits] | type[OvsdbLimits]) -> None:
    for one in declared_limits(kind):
        assert one.value > 0
        assert one.unit
        assert one.meaning
