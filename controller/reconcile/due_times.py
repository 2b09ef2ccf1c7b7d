"""When each switch has something to do although no event comes: the earliest time at any moment, kept as they change.

Asking all of very many switches after every batch would cost more than the batch. Example: of 500 switches one is
committed; its time alone is set again.
"""

from __future__ import annotations

from collections.abc import Container
from heapq import heapify, heappop, heappush

_SLACK = 64  # outdated entries that the heap may have beyond one for each switch


class DueTimes:
    """Times by datapath id, of any clock."""

    def __init__(self) -> None:
        self._at: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []  # with outdated entries

    def __len__(self) -> int:
        return len(self._at)

    @property
    def entries(self) -> int:
        """The entries of the heap, outdated ones included."""
        return len(self._heap)

    def set(self, dpid: int, at: float | None) -> None:
        """A switch's time is this now; None for never, and for a switch that is gone."""
        if at is None:
            self._at.pop(dpid, None)
        elif self._at.get(dpid) != at:
            self._at[dpid] = at
            heappush(self._heap, (at, dpid))
            if len(self._heap) > 2 * len(self._at) + _SLACK:
                self._heap = [(time, one) for one, time in self._at.items()]
                heapify(self._heap)

    def earliest(self, known: Container[int]) -> float | None:
        """The earliest time of the switches that are known; None if there is none. Others are forgotten."""
        heap = self._heap
        while heap and (heap[0][1] not in known or self._at.get(heap[0][1]) != heap[0][0]):
            _, dpid = heappop(heap)
            if dpid not in known:
                self._at.pop(dpid, None)
        return heap[0][0] if heap else None
