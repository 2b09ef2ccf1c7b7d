"""The bounds of HTTP connections, per client address and in all. No socket is read or written here.

A connection is `arriving` until its request has arrived, then `answered`. When there are too many arriving ones, the
oldest connection of the address with most of them is closed: a client that opens connections and sends nothing cannot
keep others out. When too many are answered, a further request gets 503. Requests of liveness and readiness probes have
a bound of their own, so that other requests cannot make them fail.
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
MAX_ANSWERED_PER_ADDRESS = 64  # all clients on this machine have one address
MAX_PROBES = 64  # of probes: their responses fit into the kernel's buffer


@dataclass(eq=False, slots=True)
class ConnectionSlot:
    """One connection; `close` shuts it down. `probe`: it is answered as a liveness or readiness probe."""

    address: str
    close: Callable[[], None]
    began: float = field(default_factory=time.monotonic)
    answered: bool = False
    probe: bool = False


class ConnectionSlots:
    """All connections. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arriving: dict[ConnectionSlot, None] = {}  # in their order
        self._arriving_of: Counter[str] = Counter()
        self._answered_of: Counter[str] = Counter()
        self._answered: dict[ConnectionSlot, None] = {}
        self._probes = 0

    def arrive(self, address: str, close: Callable[[], None]) -> ConnectionSlot:
        """A connection was accepted; another may be closed for it."""
        slot = ConnectionSlot(address, close)
        with self._lock:
            self._arriving[slot] = None
            self._arriving_of[address] += 1
            victim = self._too_many(address)
            if victim is not None:
                self._leave_arriving(victim)
        if victim is not None:
            victim.close()
        return slot

    def _too_many(self, address: str) -> ConnectionSlot | None:
        """The connection to close, if any: the oldest of the address that has most."""
        if self._arriving_of[address] > MAX_ARRIVING_PER_ADDRESS:
            busiest = address
        elif len(self._arriving) > MAX_ARRIVING:
            busiest = max(self._arriving_of, key=self._arriving_of.__getitem__)
        else:
            return None
        return next(slot for slot in self._arriving if slot.address == busiest)

    def answer(self, slot: ConnectionSlot, probe: bool) -> bool:
        """Its request has arrived; returns whether it may be answered now."""
        with self._lock:
            if not self._leave_arriving(slot):
                return False  # it was closed
            if probe:
                if self._probes >= MAX_PROBES:
                    return False
                self._probes += 1
                slot.probe = True
            elif len(self._answered) >= MAX_ANSWERED or self._answered_of[slot.address] >= MAX_ANSWERED_PER_ADDRESS:
                return False
            else:
                self._answered[slot] = None
                self._answered_of[slot.address] += 1
            slot.answered = True
            return True

    def leave(self, slot: ConnectionSlot) -> None:
        """The connection has ended."""
        with self._lock:
            self._leave_arriving(slot)
            if slot.probe:
                self._probes -= 1
                slot.probe = False
            elif slot in self._answered:
                del self._answered[slot]
                _less(self._answered_of, slot.address)

    def close_late(self, seconds: float) -> None:
        """Close the connections whose request has not arrived within `seconds`."""
        latest = time.monotonic() - seconds
        with self._lock:
            late = [slot for slot in self._arriving if slot.began < latest]
            for slot in late:
                self._leave_arriving(slot)
        for slot in late:
            slot.close()

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
