"""The queue of events on their way to the reconciler. It knows nothing of what an event means."""

from __future__ import annotations

import queue
import threading
from collections import Counter

from controller.reconcile.events import DnsPacket, Event, Tick

MAX_BATCH = 10_000  # events that are handled at once
MAX_PACKETS = 4_096  # of one switch that wait here; more are dropped


class DrainMark:
    """A place in the queue: `handled` is set once every event before it was handled."""

    def __init__(self) -> None:
        self.handled = threading.Event()


class EventQueue:
    """Events in the order in which they were posted; any thread of the hub may post, the event loop alone takes."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Event | DrainMark] = queue.Queue()
        self._packets: Counter[int] = Counter()  # by datapath id
        self._lock = threading.Lock()

    def post(self, event: Event) -> None:
        """Append an event. Never blocks. A packet is dropped where too many of its switch wait."""
        if isinstance(event, DnsPacket):
            with self._lock:
                if self._packets[event.dpid] >= MAX_PACKETS:
                    return
                self._packets[event.dpid] += 1
        self._queue.put(event)

    def drain(self, timeout: float) -> bool:
        """Wait until every event posted before this call was handled. False after `timeout` seconds."""
        mark = DrainMark()
        self._queue.put(mark)
        return mark.handled.wait(timeout)

    def next_batch(self, timeout: float) -> tuple[list[Event], list[DrainMark]]:
        """The events and marks that are there now; a Tick if no event comes within `timeout` seconds."""
        found: list[Event | DrainMark] = []
        try:
            found.append(self._queue.get(timeout=timeout))
            while len(found) < MAX_BATCH:
                found.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        events = [item for item in found if not isinstance(item, DrainMark)]
        packets = Counter([event.dpid for event in events if isinstance(event, DnsPacket)])
        if packets:
            with self._lock:
                self._packets -= packets
        return events or [Tick()], [item for item in found if isinstance(item, DrainMark)]
