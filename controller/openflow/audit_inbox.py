"""Audited packets on their way from OpenFlow sessions to the thread that reports them: bounded, by switch and in all.

A session only compares a cookie and appends; messages are read later. Meters of the switches bound what one pod and one
bridge sends (docs/adr/0022); the bounds here hold for a switch that does not keep to that, and for very many at once.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import NamedTuple

MAX_WAITING = 8192  # packets, of all switches
MAX_WAITING_OF_SWITCH = 1024
MAX_BYTES = 2048  # of a message: a copy has at most COPIED_BYTES of the packet, and some fields


class AuditCopy(NamedTuple):
    """A packet-in as it came: the Unix time, the datapath id, and the whole message."""

    at: float
    dpid: int
    message: bytes


class AuditInbox:
    """Every method may be called from any thread of the hub."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._came = threading.Event()
        self._waiting: list[AuditCopy] = []
        self._of_switch: Counter[int] = Counter()
        self._dropped: Counter[int] = Counter()

    def put(self, dpid: int, message: bytes) -> None:
        """A session got a packet-in. Beyond the bounds it is only counted."""
        with self._lock:
            full = len(self._waiting) >= MAX_WAITING or self._of_switch[dpid] >= MAX_WAITING_OF_SWITCH
            if full or len(message) > MAX_BYTES:
                self._dropped[dpid] += 1
                return
            self._waiting.append(AuditCopy(time.time(), dpid, message))
            self._of_switch[dpid] += 1
        self._came.set()

    def wait(self, timeout: float) -> None:
        """Wait until there is something, for at most `timeout` seconds."""
        self._came.wait(timeout)

    def take(self) -> tuple[list[AuditCopy], Counter[int]]:
        """What is waiting, in its order, and how many were dropped by datapath id since the last call."""
        with self._lock:
            self._came.clear()
            found, self._waiting = self._waiting, []
            dropped, self._dropped = self._dropped, Counter()
            self._of_switch.clear()
        return found, dropped
