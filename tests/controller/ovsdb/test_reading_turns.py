"""Only some databases are read at a time, in the order of arrival, and a silent peer holds up nobody for long."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

import pytest

from controller.ovsdb.reading_turns import PATIENCE_SECONDS, TURNS, ReadingTurns, Turn
from tests.helpers.ovs.node import EventCollector, Node, ovsdb_service
from tests.helpers.waiting import until


def test_readers_get_turns_in_the_order_of_arrival_and_never_too_many() -> None:
    random_, turns = random.Random(3), ReadingTurns(3)
    woken: list[int] = []
    readers = [Turn(turns, lambda number=number: woken.append(number)) for number in range(50)]  # type: ignore[misc]
    arrived = [reader for reader in readers if not reader.take()]
    assert arrived == readers[3:]
    gone = set(random_.sample(range(3, 50), 10))
    for number in gone:
        readers[number].end()
    reading = [0, 1, 2]
    while reading:
        done = random_.choice(reading)
        reading.remove(done)
        before = len(woken)
        readers[done].end()
        reading += woken[before:]
        assert all(readers[number].take() for number in reading)
        assert len(reading) <= 3
    assert woken == [number for number in range(3, 50) if number not in gone]


def test_a_silent_peer_loses_its_turn_and_goes_on_without_one() -> None:
    turns = ReadingTurns(1)
    woken: list[str] = []
    first, second = Turn(turns, lambda: woken.append("first")), Turn(turns, lambda: woken.append("second"))
    assert first.take()
    assert not second.take()
    for now in (0.0, 0.9 * PATIENCE_SECONDS):
        first.note(10, now)
    first.note(20, 1.8 * PATIENCE_SECONDS)
    first.note(20, 2.7 * PATIENCE_SECONDS)
    assert woken == []
    first.note(20, 2.9 * PATIENCE_SECONDS)
    assert woken == ["second"]
    assert first.take()
    assert second.take()
    first.begin()  # a new connection
    assert not first.take()
    assert first.ask_who()
    assert not first.ask_who()


@pytest.mark.switch
def test_peers_that_stay_silent_keep_nobody_from_being_read(node: Node, core: EventCollector) -> None:
    with ExitStack() as stack:
        ovsdb = stack.enter_context(ovsdb_service(core, [], listen="tcp:127.0.0.1:0"))
        address = ovsdb.listen_address
        assert address is not None
        for _ in range(TURNS + 4):
            stack.enter_context(socket.create_connection(address))
        until(lambda: len(ovsdb.status()) == TURNS + 4)
        node.vsctl("set-manager", f"tcp:{address[0]}:{address[1]}")
        until(core.synced)
