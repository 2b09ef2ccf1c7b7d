"""The queue of events on their way to the reconciler. Of what an event means it knows only which are packets.

These come behind all others, a limited number with each batch, so that a flood of them delays no change.
"""

from __future__ import annotations

import queue
import threading

from controller.reconcile.events import DnsPacket, Event, Tick
from controller.runtime.packet_queue import PacketQueue

MAX_BATCH = 10_000  # events that are handled at once
MAX_BATCH_PACKETS = 256


class DrainMark:
    """A place in the queue: `handled` is set once every event before it was handled, but for packets."""

    def __init__(self) -> None:
        self.handled = threading.Event()


class EventQueue:
    """Events in the order in which they were posted; any thread of the hub may post, the event loop alone takes."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Event | DrainMark | None] = queue.Queue()  # None: there are packets
        self._packets = PacketQueue()
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
        try:
            found.append(self._queue.get(timeout=timeout) if not self._packets else self._queue.get_nowait())
            while len(found) < MAX_BATCH:
                found.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        with self._lock:
            packets = self._packets.take(MAX_BATCH_PACKETS)
        events: list[Event] = [one for one in found if one is not None and not isinstance(one, DrainMark)]
        events += packets
        return events or [Tick()], [one for one in found if isinstance(one, DrainMark)]

    def take_dropped(self) -> int:
        """How many packets found no room since the last call."""
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        return dropped
