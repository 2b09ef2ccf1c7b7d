"""The DNS of one pod, as the controller sees it: its open queries, and what waits for its query.

A server's answer counts only as the answer to a query of this pod: same ends, same id, same question (UDP). Over TCP
the numbers of the bytes say so, from the first segment of the connection on. Everything here is bounded, and a pod can
fill its own share only.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from controller.reconcile.events import DnsPacket
from flows.cluster.net import Net
from flows.dns.assembly import Stream
from flows.dns.message import DnsAnswer, DnsQuery

QUERY_SECONDS = 15.0  # in which a query may be answered
PARKED_SECONDS = 1.0  # that an answer waits for the copy of its query
STREAM_SECONDS = 120.0  # that a TCP connection may be silent
MAX_QUERIES, MAX_PARKED, MAX_STREAMS = 1024, 64, 16

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
    """A mapping of at most `most` entries that forgets each `seconds` after it was set, and the oldest for room."""

    __slots__ = ("_entries", "_most", "_seconds")

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._entries: dict[K, tuple[float, V]] = {}  # the oldest first

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value of a key."""
        found = self._entries.get(key)
        return None if found is None else found[1]

    def set(self, key: K, value: V, now: float) -> None:
        """A key has this value."""
        self._entries.pop(key, None)
        while len(self._entries) >= self._most:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = now, value

    def pop(self, key: K) -> V | None:
        """The value of a key, which is forgotten."""
        found = self._entries.pop(key, None)
        return None if found is None else found[1]

    def forget_old(self, now: float) -> list[V]:
        """Forget what is too old; returns it."""
        gone: list[V] = []
        while self._entries:
            key = next(iter(self._entries))
            since, value = self._entries[key]
            if now - since < self._seconds:
                break
            del self._entries[key]
            gone.append(value)
        return gone


class Parked(NamedTuple):
    """An answer whose query has not come yet."""

    answer: DnsAnswer
    packets: tuple[DnsPacket, ...]


class PodTraffic:
    """What is open of one pod."""

    __slots__ = ("parked", "queries", "streams")

    def __init__(self) -> None:
        self.queries: Dated[QueryKey, int] = Dated(MAX_QUERIES, QUERY_SECONDS)  # how many were not answered
        self.parked: Dated[QueryKey, Parked] = Dated(MAX_PARKED, PARKED_SECONDS)
        self.streams: Dated[Ends, Stream] = Dated(MAX_STREAMS, STREAM_SECONDS)

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

    def forget_old(self, now: float) -> int:
        """Forget what is too old. Returns how many answers nobody had asked for."""
        for dated in (self.queries, self.streams):
            dated.forget_old(now)
        return len(self.parked.forget_old(now))

    def __bool__(self) -> bool:
        return bool(self.queries or self.parked or self.streams)
