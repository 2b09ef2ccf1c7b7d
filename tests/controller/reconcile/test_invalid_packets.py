"""When a port has a finding of invalid packets: exact by its own counters, whatever other ports of the switch send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.reconcile.audit_pace import AUDIT_SECONDS
from controller.reconcile.invalid_packets import (
    MANY_BROKEN,
    MANY_INVALID,
    MANY_VALID,
    WINDOW_SECONDS,
    InvalidLedger,
    InvalidReason,
    SentPackets,
)
from flows.pipeline.cookies import CookieKind, cookie
from flows.pipeline.tables import CLASSIFY, INVALID, STATE
from flows.wire.values import Body, FlowCounters, FlowKey, flow_key

PORT = 5


class Step(NamedTuple):
    """What a port sends before the next dump."""

    valid: int = 0
    connection: int = 0
    broken: int = 0


@dataclass
class Bench:
    """A switch with ports that send, and a ledger that sees its dumps."""

    ledger: InvalidLedger = field(default_factory=InvalidLedger)
    now: float = 1000.0
    counts: dict[FlowKey, tuple[Body, int, float]] = field(default_factory=dict)

    def flow(self, table: int, match: bytes, kind: CookieKind, port: int, more: int) -> None:
        key = flow_key(table, 100, match)
        body, packets, made = self.counts.get(key, (Body(cookie(kind, port), b""), 0, self.now))
        self.counts[key] = (body, packets + more, made)

    def send(self, port: int, step: Step, who: bytes = b"a") -> None:
        here = bytes([port])
        self.flow(CLASSIFY.number, here + who, CookieKind.SENT, port, sum(step))
        self.flow(INVALID.number, here + b"c", CookieKind.INVALID, port, step.connection)
        self.flow(INVALID.number, here + b"b", CookieKind.BROKEN, port, step.broken)

    def dump(self, seconds: float = AUDIT_SECONDS) -> None:
        self.now += seconds
        counters = {key: FlowCounters(n, 0, int(self.now - made)) for key, (_, n, made) in self.counts.items()}
        self.ledger.dumped(counters, {key: body for key, (body, _, _) in self.counts.items()}, self.now)

    def step(self, step: Step, port: int = PORT, seconds: float = AUDIT_SECONDS) -> InvalidReason | None:
        self.send(port, step)
        self.dump(seconds)
        told = self.ledger.traffic(port)
        return told.reason if told is not None else None


def after(*steps: Step) -> InvalidReason | None:
    bench = Bench()
    return [bench.step(step) for step in steps][-1]


def test_most_of_what_is_sent_must_be_invalid_and_not_a_few_packets_only() -> None:
    assert after(Step(broken=MANY_BROKEN)) is InvalidReason.BROKEN
    assert after(Step(broken=MANY_BROKEN - 1)) is None
    assert after(Step(connection=MANY_INVALID)) is InvalidReason.CONNECTION
    assert after(Step(connection=MANY_INVALID - 1)) is None
    assert after(Step(valid=100, broken=100)) is InvalidReason.BROKEN
    assert after(Step(valid=101, broken=100)) is None
    assert after(Step(valid=1000, connection=MANY_INVALID * 5)) is None


def test_a_client_that_tries_seldom_is_told_all_the_same() -> None:
    assert after(Step(broken=2), Step(broken=2), Step(broken=1)) is InvalidReason.BROKEN


def test_odd_packets_of_a_pod_that_is_well_do_not_add_up() -> None:
    assert after(*[Step(valid=50, broken=4)] * 100) is None


def test_it_is_over_once_valid_packets_prevail_or_nothing_is_sent_for_long() -> None:
    bench = Bench()
    assert bench.step(Step(broken=100)) is not None
    assert bench.step(Step(valid=MANY_VALID - 1)) is not None
    assert bench.step(Step(valid=1)) is None
    assert bench.step(Step(broken=100)) is not None
    assert [bench.step(Step()) for _ in range(int(WINDOW_SECONDS / AUDIT_SECONDS))][-2:] == [InvalidReason.BROKEN, None]


def test_who_comes_to_a_port_is_not_told_what_the_one_before_sent() -> None:
    bench = Bench()
    assert bench.step(Step(broken=100)) is not None
    for key in [key for key in bench.counts if key.startswith(bytes([CLASSIFY.number]))]:
        del bench.counts[key]
    bench.send(PORT, Step(broken=100), b"b")
    bench.dump()
    assert bench.ledger.traffic(PORT) is None
    assert bench.ledger.take_changes() == ([], [])  # it came and went between two looks


def test_a_flow_that_has_counted_for_long_when_it_is_first_seen_says_nothing_of_now() -> None:
    bench = Bench()
    bench.send(PORT, Step(broken=1000))
    bench.now += 10_000
    assert bench.step(Step()) is None
    assert bench.step(Step(broken=20)) is InvalidReason.BROKEN
    assert bench.ledger.total(PORT) == SentPackets(1020, 0, 1020)


def test_a_switch_that_counts_anew_is_believed() -> None:
    bench = Bench()
    assert bench.step(Step(valid=1000)) is None
    bench.counts.clear()
    assert bench.step(Step(broken=20)) is InvalidReason.BROKEN


def test_ports_that_go_are_forgotten_and_flows_of_other_tables_do_not_count() -> None:
    bench = Bench()
    assert bench.step(Step(broken=20)) is not None
    assert bench.ledger.take_changes() == ([PORT], [])
    bench.counts.clear()
    bench.flow(STATE.number, b"x", CookieKind.BROKEN, PORT, 100)
    bench.dump()
    assert (bench.ledger.traffic(PORT), bench.ledger.total(PORT)) == (None, SentPackets())
    assert bench.ledger.take_changes() == ([], [PORT])


STEPS = st.builds(Step, st.integers(0, 12), st.integers(0, 12), st.integers(0, 8))


@settings(deadline=None, max_examples=200)
@given(steps=st.lists(st.tuples(STEPS, STEPS, st.floats(0.1, 90.0)), max_size=12))
def test_ports_are_told_each_by_what_it_sent_alone_and_each_change_is_news_once(
    steps: list[tuple[Step, Step, float]],
) -> None:
    both, alone = Bench(), Bench()
    standing: set[int] = set()
    for here, there, seconds in steps:
        both.send(9, there)
        told = both.step(here, seconds=seconds)
        assert told == alone.step(here, seconds=seconds)
        came, went = both.ledger.take_changes()
        assert not standing & set(came)
        assert set(went) <= standing
        standing = (standing | set(came)) - set(went)
        assert standing == {port for port in (PORT, 9) if both.ledger.traffic(port) is not None}


@settings(deadline=None, max_examples=200)
@given(parts=st.lists(STEPS, min_size=1, max_size=8))
def test_invalid_packets_that_never_prevail_are_never_told(parts: Sequence[Step]) -> None:
    bench = Bench()
    for step in parts:
        assert bench.step(Step(step.connection + step.broken + 1, step.connection, step.broken)) is None


def test_what_a_switch_counts_besides_is_not_kept() -> None:
    bench = Bench()
    bench.send(PORT, Step(broken=20))
    counters = {key: FlowCounters(n, 0, 1) for key, (_, n, _) in bench.counts.items()}
    bench.ledger.dumped(counters, {}, bench.now)
    assert (bench.ledger.traffic(PORT), bench.ledger.total(PORT)) == (None, SentPackets())
