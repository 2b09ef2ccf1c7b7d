"""The DNS of one pod, as the controller sees it: its open queries, and what waits for its query.

A server's answer counts only as the answer to a query of this pod: same ends, same id, same question (UDP). Over TCP
the numbers of the bytes say so, from the first segment of the connection on. Everything here is bounded: for a pod by
numbers, and for all pods by bytes, of which each namespace has its share.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from controller.reconcile.events import DnsPacket
from flows.cluster.model import Key
from flows.cluster.net import Net
from flows.dns.assembly import Stream
from flows.dns.message import DnsQuery
from flows.plan.shared_room import SharedRoom

QUERY_SECONDS = 15.0  # in which a query may be answered
PARKED_SECONDS = 1.0  # that an answer waits for the copy of its query
STREAM_SECONDS = 120.0  # that a TCP connection may be silent
MAX_QUERIES, MAX_PARKED, MAX_STREAMS = 1024, 64, 16
MAX_BYTES = 1 << 26  # of what is open of all pods
ENTRY_BYTES = 512  # that an entry takes beside what it holds

K = TypeVar("K")
V = TypeVar("V")


class Ends(NamedTuple):
    """A pod's address and port, and the server's."""

    pod: Net
    pod_port: int
    server: Net
    server_port: int


QueryKey = tuple[Ends, DnsQuery]


class Dated(Generic[K, V]):
    """A mapping of at most `most` entries that forgets each `seconds` after it was set, and the oldest for room.

    Its bytes are taken from the share that `namespace` has of `room`.
    """

    __slots__ = ("_entries", "_most", "_namespace", "_room", "_seconds")

    def __init__(self, most: int, seconds: float, room: SharedRoom[str], namespace: str) -> None:
        self._most, self._seconds = most, seconds
        self._room, self._namespace = room, namespace
        self._entries: dict[K, tuple[float, V, int]] = {}  # the oldest first

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value of a key."""
        found = self._entries.get(key)
        return None if found is None else found[1]

    def set(self, key: K, value: V, now: float, holds: int = 0) -> bool:
        """A key has this value, which holds so many bytes. False where there is no room for it: it has none then."""
        self.pop(key)
        size = ENTRY_BYTES + holds
        while self._entries and (len(self._entries) >= self._most or not self._room.has_room(self._namespace, size)):
            self.pop(next(iter(self._entries)))
        if not self._room.has_room(self._namespace, size):
            return False
        self._room.take(self._namespace, size)
        self._entries[key] = now, value, size
        return True

    def pop(self, key: K) -> V | None:
        """The value of a key, which is forgotten."""
        found = self._entries.pop(key, None)
        if found is None:
            return None
        self._room.give_back(self._namespace, found[2])
        return found[1]

    def forget_old(self, now: float) -> int:
        """Forget what is too old; returns how much that was."""
        gone = 0
        while self._entries:
            key = next(iter(self._entries))
            if now - self._entries[key][0] < self._seconds:
                break
            self.pop(key)
            gone += 1
        return gone


class Parked(NamedTuple):
    """An answer whose query has not come yet."""

    message: bytes
    packets: tuple[DnsPacket, ...]


class PodTraffic:
    """What is open of one pod, in the share that its namespace has of `room`."""

    __slots__ = ("parked", "pod", "queries", "streams")

    def __init__(self, pod: Key, room: SharedRoom[str]) -> None:
        self.pod = pod
        at = room, pod.namespace
        self.queries: Dated[QueryKey, int] = Dated(MAX_QUERIES, QUERY_SECONDS, *at)  # how many were not answered
        self.parked: Dated[QueryKey, Parked] = Dated(MAX_PARKED, PARKED_SECONDS, *at)
        self.streams: Dated[Ends, Stream] = Dated(MAX_STREAMS, STREAM_SECONDS, *at)

    def asked(self, key: QueryKey, now: float) -> Parked | None:
        """The pod asked this. Returns the answer to it that came before."""
        parked = self.parked.pop(key)
        if parked is None:
            self.queries.set(key, (self.queries.get(key) or 0) + 1, now)
        return parked

    def answered(self, key: QueryKey, now: float) -> bool:
        """Whether an answer is to a query of the pod; it answers one query only."""
        count = self.queries.pop(key)
        if count is not None and count > 1:
            self.queries.set(key, count - 1, now)
        return count is not None

    def park(self, key: QueryKey, parked: Parked, now: float) -> bool:
        """An answer waits for its query. False where there is no room for it."""
        return self.parked.set(key, parked, now, sum(len(one.frame) for one in parked.packets))

    def follow(self, ends: Ends, stream: Stream, now: float) -> None:
        """A connection is as far as this. Without room for it what it brings teaches nothing."""
        self.streams.set(ends, stream, now, len(stream.buffer))

    def forget_old(self, now: float) -> int:
        """Forget what is too old. Returns how many answers nobody had asked for."""
        for dated in (self.queries, self.streams):
            dated.forget_old(now)
        return self.parked.forget_old(now)

    def clear(self) -> None:
        """Forget everything."""
        for dated in (self.queries, self.streams, self.parked):
            dated.forget_old(float("inf"))

    def __bool__(self) -> bool:
        return bool(self.queries or self.parked or self.streams)
