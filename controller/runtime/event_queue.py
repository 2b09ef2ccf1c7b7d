"""The queue of events on their way to the reconciler. It knows nothing of what an event means."""

from __future__ import annotations

import queue
import threading

from controller.reconcile.events import Event, Tick

MAX_BATCH = 10_000  # events that are handled at once


class DrainMark:
    """A place in the queue: `handled` is set once every event before it was handled."""

    def __init__(self) -> None:
        self.handled = threading.Event()


class EventQueue:
    """Events in the order in which they were posted; any thread of the hub may post, the event loop alone takes."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Event | DrainMark] = queue.Queue()

    def post(self, event: Event) -> None:
        """Append an event. Never blocks."""
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
        return events or [Tick()], [item for item in found if isinstance(item, DrainMark)]
