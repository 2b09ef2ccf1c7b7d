"""How many connections a listener accepts, per address and in total, and which one is replaced when there are too many.

A connection is *proven* once the protocol above it says so (`ConnectionLimits`). A proven connection is never replaced.
The others share few places, so that half-open connections lock no switch out. What "proven" means, and sockets, must
not live here.

Theory of operation. `ConnectionLimiter` keeps one record for each address: its unproven connections in order of
arrival, the number of proven ones, and its faults. `accept` checks, in this order:

1. more connections than `connections` or `per_address`: refused;
2. more than `tolerated_faults` connections of the address ended by a fault: refused, but for one in `fault_interval`;
3. too many unproven connections (of the address, of addresses without a proven connection so far, or of all): the
   oldest of them is evicted, unless it is younger than `min_unproven_age`; then the new one is refused.

Listeners use `accept_settled`. Of hundreds of connections that wait, as when a fleet starts, those accepted first must
have a chance to be proven before others are refused for them.

Example, with `unproven_per_address=64`: a host opens 65 connections and sends nothing. The 65th evicts the first, once
that is a second old. A switch at another address is accepted all the while.
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

# What those who came first get to be proven before another is refused, and how often is looked. Threads run meanwhile.
PROVING_SECONDS, LOOK_SECONDS = 0.1, 0.001
LimitKind = Literal["connections", "address", "pace", "unproven"]  # labels of headgate_peers_refused_total


def address_key(host: str) -> str:
    """The key by which an address is counted: IPv4 as it is, global IPv6 by its /64 (one machine may use all of it),
    other text unchanged.
    """
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
    """A connection is not accepted. `kind` is the limit, for a metric's label; the message is for the operator. `crowd`
    are the unproven connections for which it is not."""

    def __init__(self, kind: LimitKind, message: str, crowd: _Crowd | None = None) -> None:
        super().__init__(message)
        self.kind: LimitKind = kind
        self.crowd = crowd


class _Crowd(OrderedDict["AcceptedConnection", None]):
    """Unproven connections in order of arrival. `settled`: none has come or been proven since others were refused."""

    settled = False


class AcceptedConnection:
    """One connection that was accepted. `release` it exactly once; `mark_proven` at most once before that."""

    __slots__ = ("accepted_at", "evict", "key", "new_address", "proven")

    def __init__(self, key: str, new_address: bool, accepted_at: float, evict: Callable[[str], None]) -> None:
        self.key = key
        self.new_address = new_address  # the address had no proven connection before
        self.accepted_at = accepted_at
        self.evict = evict  # ends the connection for the reason given; called without a lock
        self.proven = False


@dataclass(slots=True)
class _AddressRecord:
    unproven: _Crowd = field(default_factory=_Crowd)
    proven: int = 0
    was_proven: bool = False  # the address has had a proven connection
    faults: int = 0
    fault_at: float = 0.0
    next_at: float = 0.0  # when the next connection is accepted, after too many faults

    @property
    def connections(self) -> int:
        return self.proven + len(self.unproven)


class ConnectionLimiter:
    """Counts a listener's connections. Every method may be called from any thread, and takes constant time;
    `accept_settled` waits besides."""

    def __init__(self, limits: ConnectionLimits | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits or ConnectionLimits()
        self._clock = clock
        self._lock = threading.Lock()
        self._addresses: OrderedDict[str, _AddressRecord] = OrderedDict()
        self._proven = 0
        # Unproven connections; the key says whether their address was new.
        self._unproven: dict[bool, _Crowd] = {True: _Crowd(), False: _Crowd()}

    def accept_settled(self, host: str, evict: Callable[[str], None]) -> AcceptedConnection:
        """As `accept`; but those for whom the connection would be refused get PROVING_SECONDS to be proven.

        A crowd of which none came or was proven since is not waited for again: so one who floods costs this once.
        """
        deadline = self._clock() + PROVING_SECONDS
        while True:
            try:
                return self.accept(host, evict)
            except TooManyConnections as error:
                if error.crowd is None or error.crowd.settled:
                    raise
                if self._clock() >= deadline:
                    error.crowd.settled = True
                    raise
            time.sleep(LOOK_SECONDS)

    def accept(self, host: str, evict: Callable[[str], None]) -> AcceptedConnection:
        """Count a new connection. `evict` ends it if a newer one replaces it. Raises TooManyConnections."""
        now = self._clock()
        with self._lock:
            key = address_key(host)
            address = self._record(key)
            evicted = self._make_room(key, address, now)
            connection = AcceptedConnection(key, not address.was_proven, now, evict)
            for crowd in (address.unproven, self._unproven[connection.new_address]):
                crowd[connection] = None
                crowd.settled &= bool(evicted)
        for one in evicted:
            one.evict("it had not identified its switch, and a newer connection took its place")
        return connection

    def _make_room(self, key: str, address: _AddressRecord, now: float) -> list[AcceptedConnection]:
        """The connections to evict for a new one of this address. Raises TooManyConnections. Holds the lock."""
        limits = self._limits
        unproven = sum(map(len, self._unproven.values()))
        if self._proven + unproven >= limits.connections:
            raise TooManyConnections("connections", f"there are {self._proven + unproven} connections already")
        if address.connections >= limits.per_address:
            raise TooManyConnections("address", f"{key} has {address.connections} connections already")
        if self._faults(address, now) > limits.tolerated_faults:
            if now < address.next_at:
                raise TooManyConnections("pace", f"{address.faults} connections of {key} were ended for a fault")
            interval = limits.fault_interval_proven_address if address.was_proven else limits.fault_interval
            address.next_at = now + interval
        evicted = []
        if len(address.unproven) >= limits.unproven_per_address:
            evicted.append(self._oldest(address.unproven, now, f"of {key} have not identified a switch"))
        elif not address.was_proven and len(self._unproven[True]) >= limits.unproven_new_address:
            evicted.append(self._oldest(self._unproven[True], now, "have not identified a switch"))
        elif unproven >= limits.unproven:
            candidates = self._unproven[True] or self._unproven[False]
            evicted.append(self._oldest(candidates, now, "have not identified a switch"))
        for one in evicted:
            self._remove_unproven(one)
        return evicted

    def _oldest(self, candidates: _Crowd, now: float, description: str) -> AcceptedConnection:
        oldest = next(iter(candidates))
        if now - oldest.accepted_at < self._limits.min_unproven_age:
            raise TooManyConnections("unproven", f"{len(candidates)} connections {description}", candidates)
        return oldest

    def mark_proven(self, connection: AcceptedConnection) -> None:
        """The peer has identified its switch."""
        with self._lock:
            address = self._addresses.get(connection.key)
            if connection.proven or address is None or connection not in address.unproven:
                return
            self._remove_unproven(connection)
            connection.proven = address.was_proven = True
            for crowd in (address.unproven, *self._unproven.values()):
                crowd.settled = False
            address.proven += 1
            self._proven += 1

    def release(self, connection: AcceptedConnection, fault: bool = False) -> None:
        """The connection has ended; `fault` counts its end against the address."""
        with self._lock:
            address = self._addresses.get(connection.key)
            if address is None:
                return
            if connection.proven:
                connection.proven = False
                address.proven -= 1
                self._proven -= 1
            else:
                self._remove_unproven(connection)
            if fault:
                now = self._clock()
                address.faults = self._faults(address, now) + 1
                address.fault_at = now

    def _remove_unproven(self, connection: AcceptedConnection) -> None:
        self._addresses[connection.key].unproven.pop(connection, None)
        self._unproven[connection.new_address].pop(connection, None)

    def _faults(self, address: _AddressRecord, now: float) -> int:
        if now - address.fault_at > self._limits.forget_faults:
            address.faults = 0
        return address.faults

    def _record(self, key: str) -> _AddressRecord:
        """The record of an address. The least recently used one is dropped, unless it has connections."""
        found = self._addresses.pop(key, None) or _AddressRecord()
        self._addresses[key] = found
        for _ in range(2):
            if len(self._addresses) <= self._limits.remembered_addresses:
                break
            oldest, record = self._addresses.popitem(last=False)
            if record.connections or oldest == key:
                self._addresses[oldest] = record  # at most `connections` have some, so another one can be dropped
        return found

    def counts(self) -> tuple[int, int]:
        """Numbers of proven and of unproven connections."""
        with self._lock:
            return self._proven, sum(map(len, self._unproven.values()))

    @property
    def remembered(self) -> int:
        """The number of addresses with a record."""
        return len(self._addresses)
