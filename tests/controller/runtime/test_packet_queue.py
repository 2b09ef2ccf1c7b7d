"""The event queue with packets: others first, turns for switches and ports, and room that nobody takes from others."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.reconcile.events import DnsPacket, SwitchDown, Tick
from controller.runtime import event_queue, packet_queue
from controller.runtime.event_queue import MAX_BATCH_PACKETS, EventQueue
from controller.runtime.packet_queue import PacketQueue


def packet(dpid: int, ofport: int, number: int = 0) -> DnsPacket:
    return DnsPacket(dpid, 1, ofport, 1, number.to_bytes(4, "big"))


def test_other_events_come_before_packets() -> None:
    events = EventQueue()
    for number in range(3 * MAX_BATCH_PACKETS):
        events.post(packet(1, number % 3, number))
    events.post(SwitchDown(1, 1))
    assert events.next_batch(0)[0][0] == SwitchDown(1, 1)
    for _ in range(2):
        assert len(events.next_batch(60)[0]) == MAX_BATCH_PACKETS, "it does not wait while there are packets"
    assert events.next_batch(0)[0] == [Tick()]
    events.post(packet(1, 1))
    assert events.next_batch(60)[0] == [packet(1, 1)]


def test_a_packet_wakes_who_waits() -> None:
    events, found = EventQueue(), []
    waiting = threading.Thread(target=lambda: found.append(events.next_batch(60)[0]))
    waiting.start()
    events.post(packet(1, 1))
    waiting.join(30)
    assert found == [[packet(1, 1)]]


def test_packets_alone_are_gathered_and_another_event_takes_them_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_queue, "PACKET_SECONDS", 60.0)
    events, found = EventQueue(), []
    events.post(packet(1, 1))
    assert events.next_batch(60)[0] == [packet(1, 1)], "the first waits for nothing"
    waiting = threading.Thread(target=lambda: found.append(events.next_batch(60)[0]))
    waiting.start()
    events.post(packet(1, 2))
    events.post(packet(1, 3))
    waiting.join(0.1)
    assert not found
    events.post(SwitchDown(2, 1))
    waiting.join(30)
    assert found == [[SwitchDown(2, 1), packet(1, 2), packet(1, 3)]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 40)), max_size=30))
def test_a_port_gets_its_turn_and_keeps_its_order(flood: list[tuple[int, int, int]]) -> None:
    """Whatever 16 ports send, a packet of a 17th is among the first of as many as there are ports."""
    packets, sent = PacketQueue(), Counter[tuple[int, int]]()
    for dpid, ofport, count in flood:
        for _ in range(count):
            sent[dpid, ofport] += packets.put(packet(dpid, ofport, sent[dpid, ofport]))
    assert packets.put(packet(1, 99))
    taken = packets.take(1 << 20)
    assert len(taken) == sent.total() + 1
    assert len(packets) == 0
    assert packet(1, 99) in taken[:20]
    for place in sent:
        numbers = [int.from_bytes(one.frame, "big") for one in taken if (one.dpid, one.ofport) == place]
        assert numbers == list(range(sent[place]))


def test_nobody_takes_all_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packet_queue, "MAX_PACKETS", 64)
    monkeypatch.setattr(packet_queue, "MAX_OF_SWITCH", 32)
    packets = PacketQueue()
    for _ in range(100):
        packets.put(packet(1, 1))
    assert len(packets) == 16, "a port has half of its switch's room"
    for number in range(1000):
        packets.put(packet(2, number))
    assert len(packets) <= 16 + 32
    assert packets.put(packet(3, 1))
    events = EventQueue()
    for _ in range(100):
        events.post(packet(1, 1))
    assert (events.take_dropped(), events.take_dropped()) == (84, 0)
