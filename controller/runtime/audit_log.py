"""The last audit events in memory, in the order of their numbers, for any number of readers that wait for more."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import islice

from controller.status.audit_model import AuditAnswer, AuditEvent

Writer = Callable[[list[AuditEvent]], None]


class AuditLog:
    """Keeps `size` events; `write` gets each once. Every method may be called from any thread of the hub."""

    def __init__(self, size: int, write: Writer = lambda events: None) -> None:
        self._write = write
        self._events: deque[AuditEvent] = deque(maxlen=size)
        self._next = 1
        self._more = threading.Condition()
        self._unreported: Counter[str] = Counter()

    def append(self, events: Iterable[AuditEvent], unreported: Mapping[str, int] | None = None) -> None:
        """Number and keep events; `unreported` are packets by cause that no event stands for."""
        with self._more:
            numbered = [replace(event, number=number) for number, event in enumerate(events, self._next)]
            self._next += len(numbered)
            self._events.extend(numbered)
            self._unreported.update(unreported or {})
            self._more.notify_all()
        if numbered:
            self._write(numbered)

    def after(self, number: int, most: int, wait: float = 0.0) -> AuditAnswer:
        """The last `most` events with greater numbers; where there is none, the first that comes within `wait`
        seconds. A number from another run of the controller, so greater than the last, is taken for 0."""
        deadline = time.monotonic() + wait
        with self._more:
            if number >= self._next:
                number = 0
            while self._next <= number + 1 and (left := deadline - time.monotonic()) > 0:
                self._more.wait(left)
            first = self._next - len(self._events)
            there = self._next - 1 - max(number, first - 1)
            count = min(most, there)
            events = tuple(islice(self._events, len(self._events) - count, None))
            lost = self._next - 1 - number - count
            return AuditAnswer(events, self._next, lost, unreported=dict(self._unreported))
