"""Who may have a connection to the HTTP pages: connections that say nothing give way to those that come.

A connection is `arriving` until its request is here, and then `answered`. Arriving ones cost little and are as many as
anybody likes to make, so the oldest of whoever has most gives way when there are too many. Answers are bounded by
address and in number; those of the pages by which others decide whether Headgate lives are not, for they are small and
never wait. No socket is read or written here.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

MAX_ARRIVING = 128
MAX_ARRIVING_PER_ADDRESS = 32
MAX_ANSWERED = 96
MAX_ANSWERED_PER_ADDRESS = 64  # all who ask from this machine have one address
MAX_PROBES = 64  # answers of a hundred bytes, which the kernel takes at once


@dataclass(eq=False, slots=True)
class ConnectionSlot:
    """One connection; `cut` ends it."""

    address: str
    cut: Callable[[], None]
    began: float = field(default_factory=time.monotonic)
    answered: bool = False
    vital: bool = False


class ConnectionSlots:
    """All connections. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arriving: dict[ConnectionSlot, None] = {}  # in their order
        self._arriving_of: Counter[str] = Counter()
        self._answered_of: Counter[str] = Counter()
        self._answered: dict[ConnectionSlot, None] = {}
        self._vital = 0

    def arrive(self, address: str, cut: Callable[[], None]) -> ConnectionSlot:
        """A connection has come; another may be cut for it."""
        slot = ConnectionSlot(address, cut)
        with self._lock:
            self._arriving[slot] = None
            self._arriving_of[address] += 1
            victim = self._too_many(address)
            if victim is not None:
                self._leave_arriving(victim)
        if victim is not None:
            victim.cut()
        return slot

    def _too_many(self, address: str) -> ConnectionSlot | None:
        """The connection that must go, if any: of those of whoever has most, the oldest."""
        if self._arriving_of[address] > MAX_ARRIVING_PER_ADDRESS:
            greediest = address
        elif len(self._arriving) > MAX_ARRIVING:
            greediest = max(self._arriving_of, key=self._arriving_of.__getitem__)
        else:
            return None
        return next(slot for slot in self._arriving if slot.address == greediest)

    def answer(self, slot: ConnectionSlot, vital: bool) -> bool:
        """Its request is here; returns whether it may be answered now."""
        with self._lock:
            if not self._leave_arriving(slot):
                return False  # it was cut
            if vital:
                if self._vital >= MAX_PROBES:
                    return False
                self._vital += 1
                slot.vital = True
            elif len(self._answered) >= MAX_ANSWERED or self._answered_of[slot.address] >= MAX_ANSWERED_PER_ADDRESS:
                return False
            else:
                self._answered[slot] = None
                self._answered_of[slot.address] += 1
            slot.answered = True
            return True

    def leave(self, slot: ConnectionSlot) -> None:
        """It has ended."""
        with self._lock:
            self._leave_arriving(slot)
            if slot.vital:
                self._vital -= 1
                slot.vital = False
            elif slot in self._answered:
                del self._answered[slot]
                _less(self._answered_of, slot.address)

    def cut_late(self, seconds: float) -> None:
        """Cut those whose request has not come for so long."""
        latest = time.monotonic() - seconds
        with self._lock:
            late = [slot for slot in self._arriving if slot.began < latest]
            for slot in late:
                self._leave_arriving(slot)
        for slot in late:
            slot.cut()

    def _leave_arriving(self, slot: ConnectionSlot) -> bool:
        if slot not in self._arriving:
            return False
        del self._arriving[slot]
        _less(self._arriving_of, slot.address)
        return True


def _less(counts: Counter[str], address: str) -> None:
    counts[address] -= 1
    if not counts[address]:
        del counts[address]
