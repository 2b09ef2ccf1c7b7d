"""The queue of events on their way to the reconciler. Of what an event means it knows only which are packets.

These come behind all others, a limited number with each batch, so that a flood of them delays no change.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time

from controller.reconcile.events import DnsPacket, Event, Tick
from controller.runtime.packet_queue import PacketQueue

MAX_BATCH = 10_000  # events that are handled at once
MAX_BATCH_PACKETS = 256
PACKET_SECONDS = 0.002  # between two batches of packets alone: each batch costs more than a packet


class DrainMark:
    """A place in the queue: `handled` is set once every event before it was handled, but for packets."""

    def __init__(self) -> None:
        self.handled = threading.Event()


class EventQueue:
    """Events in the order in which they were posted; any thread of the hub may post, the event loop alone takes."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Event | DrainMark | None] = queue.Queue()  # None: there are packets
        self._packets = PacketQueue()
        self._packets_at = 0.0  # the last batch with packets
        self._lock = threading.Lock()
        self._dropped = 0

    def post(self, event: Event) -> None:
        """Append an event. Never blocks. A packet is dropped where too many of its port or its switch wait."""
        if not isinstance(event, DnsPacket):
            self._queue.put(event)
            return
        with self._lock:
            if not self._packets.put(event):
                self._dropped += 1
                return
            first = len(self._packets) == 1
        if first:
            self._queue.put(None)

    def drain(self, timeout: float) -> bool:
        """Wait until every event posted before this call was handled. False after `timeout` seconds."""
        mark = DrainMark()
        self._queue.put(mark)
        return mark.handled.wait(timeout)

    def next_batch(self, timeout: float) -> tuple[list[Event], list[DrainMark]]:
        """The events and marks that are there now; a Tick if no event comes within `timeout` seconds."""
        found: list[Event | DrainMark | None] = []
        with contextlib.suppress(queue.Empty):
            if not self._packets:
                found.append(self._queue.get(timeout=timeout))
            while self._packets and not any(found) and (rest := self._packets_wait()) > 0:
                found.append(self._queue.get(timeout=rest))
        with contextlib.suppress(queue.Empty):
            while len(found) < MAX_BATCH:
                found.append(self._queue.get_nowait())
        with self._lock:
            packets = self._packets.take(MAX_BATCH_PACKETS)
        if packets:
            self._packets_at = time.monotonic()
        events: list[Event] = [one for one in found if one is not None and not isinstance(one, DrainMark)]
        events += packets
        return events or [Tick()], [one for one in found if isinstance(one, DrainMark)]

    def _packets_wait(self) -> float:
        """Seconds until packets are to be taken although nothing else comes."""
        return self._packets_at + PACKET_SECONDS - time.monotonic()

    def take_dropped(self) -> int:
        """How many packets found no room since the last call."""
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        return dropped
