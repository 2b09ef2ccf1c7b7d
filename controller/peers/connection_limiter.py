"""Who may come in at a listener, by address: how many, how often, and who has to make room for whom.

Those that have proved which switch they are take nothing from those that come. Of the others an address has few places,
and when there is none the oldest that has said nothing goes: half-open connections lock nobody out. An address whose
connections end by a fault of the peer's again and again is paced. What "proved" means is for the channel to say.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from controller.peers.limits import ConnectionLimits

LimitKind = Literal["connections", "address", "pace", "unproven"]


def address_key(host: str) -> str:
    """What an address counts as: IPv4 as it is, IPv6 by its /64, of which a machine has all; anything else as text."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    if address.is_link_local or address.is_loopback:
        return str(address)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


class TooManyConnections(Exception):
    """A connection that is not let in. `kind` is one word to count by; the message says it to people."""

    def __init__(self, kind: LimitKind, message: str) -> None:
        super().__init__(message)
        self.kind: LimitKind = kind


class AcceptedConnection:
    """One connection that was let in. `leave` it exactly once; `prove` it at most once before."""

    __slots__ = ("came", "evict", "key", "proven", "stranger")

    def __init__(self, key: str, stranger: bool, came: float, evict: Callable[[str], None]) -> None:
        self.key = key
        self.stranger = stranger
        self.came = came
        self.evict = evict  # ends the connection for the reason given; called without a lock
        self.proven = False


@dataclass(slots=True)
class _AddressRecord:
    unproven: OrderedDict[AcceptedConnection, None] = field(default_factory=OrderedDict)
    proven: int = 0
    known: bool = False  # a switch has proved itself here
    faults: int = 0
    fault_at: float = 0.0
    next_at: float = 0.0  # when the next connection may come, where the address is paced

    @property
    def connections(self) -> int:
        return self.proven + len(self.unproven)


class ConnectionLimiter:
    """Counts a listener's connections. Every method may be called from any thread, and takes constant time."""

    def __init__(self, limits: ConnectionLimits | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits or ConnectionLimits()
        self._clock = clock
        self._lock = threading.Lock()
        self._addresses: OrderedDict[str, _AddressRecord] = OrderedDict()
        self._proven = 0
        # Unproven ones, the oldest first, of addresses that are known and of those that are not.
        self._waiting: dict[bool, OrderedDict[AcceptedConnection, None]] = {True: OrderedDict(), False: OrderedDict()}

    def enter(self, host: str, evict: Callable[[str], None]) -> AcceptedConnection:
        """Let a connection in; `evict` ends it, should it have to make room. Raises TooManyConnections."""
        now = self._clock()
        with self._lock:
            key = address_key(host)
            address = self._address(key)
            out = self._room(key, address, now)
            visitor = AcceptedConnection(key, not address.known, now, evict)
            address.unproven[visitor] = None
            self._waiting[visitor.stranger][visitor] = None
        for one in out:
            one.evict("it had not said which switch it is, and a newer connection needed its place")
        return visitor

    def _room(self, key: str, address: _AddressRecord, now: float) -> list[AcceptedConnection]:
        """Who must go for a connection of this address. Raises TooManyConnections. Holds the lock."""
        limits = self._limits
        waiting = sum(map(len, self._waiting.values()))
        if self._proven + waiting >= limits.connections:
            raise TooManyConnections("connections", f"there are {self._proven + waiting} connections already")
        if address.connections >= limits.by_address:
            raise TooManyConnections("address", f"{key} has {address.connections} connections already")
        if self._faults(address, now) > limits.tolerated:
            if now < address.next_at:
                raise TooManyConnections(
                    "pace", f"{address.faults} connections of {key} have ended by a fault of the peer's"
                )
            address.next_at = now + (limits.pace_known if address.known else limits.pace)
        out = []
        if len(address.unproven) >= limits.unproven_by_address:
            out.append(self._oldest(address.unproven, now, f"of {key} have not said which switch they are"))
        elif not address.known and len(self._waiting[True]) >= limits.strangers:
            out.append(self._oldest(self._waiting[True], now, "have not said which switch they are"))
        elif waiting >= limits.unproven:
            some = self._waiting[True] or self._waiting[False]
            out.append(self._oldest(some, now, "have not said which switch they are"))
        for one in out:
            self._forget(one)
        return out

    def _oldest(self, some: OrderedDict[AcceptedConnection, None], now: float, what: str) -> AcceptedConnection:
        oldest = next(iter(some))
        if now - oldest.came < self._limits.settle:
            raise TooManyConnections("unproven", f"{len(some)} connections {what}")
        return oldest

    def prove(self, visitor: AcceptedConnection) -> None:
        """It has said which switch it is."""
        with self._lock:
            address = self._addresses.get(visitor.key)
            if visitor.proven or address is None or visitor not in address.unproven:
                return
            self._forget(visitor)
            visitor.proven = address.known = True
            address.proven += 1
            self._proven += 1

    def leave(self, visitor: AcceptedConnection, fault: bool = False) -> None:
        """The connection is over; `fault` says that the peer is to blame for its end."""
        with self._lock:
            address = self._addresses.get(visitor.key)
            if address is None:
                return
            if visitor.proven:
                visitor.proven = False
                address.proven -= 1
                self._proven -= 1
            else:
                self._forget(visitor)
            if fault:
                now = self._clock()
                address.faults = self._faults(address, now) + 1
                address.fault_at = now

    def _forget(self, visitor: AcceptedConnection) -> None:
        """It is not among the unproven any more."""
        self._addresses[visitor.key].unproven.pop(visitor, None)
        self._waiting[visitor.stranger].pop(visitor, None)

    def _faults(self, address: _AddressRecord, now: float) -> int:
        if now - address.fault_at > self._limits.forget:
            address.faults = 0
        return address.faults

    def _address(self, key: str) -> _AddressRecord:
        """What is known of an address. The longest not seen is forgotten, unless it has connections."""
        found = self._addresses.pop(key, None) or _AddressRecord()
        self._addresses[key] = found
        for _ in range(2):
            if len(self._addresses) <= self._limits.addresses:
                break
            oldest, its = self._addresses.popitem(last=False)
            if its.connections or oldest == key:
                self._addresses[oldest] = its  # there are fewer connections than addresses, so others come first
        return found

    def counts(self) -> tuple[int, int]:
        """Connections that are proven, and those that are not."""
        with self._lock:
            return self._proven, sum(map(len, self._waiting.values()))

    @property
    def remembered(self) -> int:
        """How many addresses are remembered."""
        return len(self._addresses)
