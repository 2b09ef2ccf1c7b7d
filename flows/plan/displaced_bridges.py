"""Bridges that have no place in the cluster, because finding it raised: each is as if it were not there, for a while.

It is tried again when it changes, and after a minute, then two, four and so on, at most an hour apart: a trial that
fails has everything computed anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flows.bridge.claim_contest import BridgeName
from flows.bridge.state import BridgeState
from flows.plan.rejected_objects import describe_error

FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 60.0, 3600.0


@dataclass(slots=True)
class _Displaced:
    """`retry_at` is None until a time is known; `count` is how often it raised in a row."""

    bridge: BridgeState
    reason: str
    count: int
    retry_at: float | None = None


class DisplacedBridges:
    """Those that are displaced now, and how often those that are on trial were."""

    def __init__(self) -> None:
        self._bridges: dict[BridgeName, _Displaced] = {}
        self._trials: dict[BridgeName, _Displaced] = {}

    def add(self, name: BridgeName, bridge: BridgeState, error: Exception) -> None:
        """Finding its place raised."""
        earlier = self._trials.pop(name, None)
        count = 1 + (earlier.count if earlier is not None and earlier.bridge == bridge else 0)
        self._bridges[name] = _Displaced(bridge, describe_error(error), count)

    def discard(self, name: BridgeName) -> None:
        """It has changed, or is gone."""
        self._bridges.pop(name, None)

    def take_due(self, now: float) -> list[BridgeState]:
        """Those to try again now."""
        found = []
        for name, one in list(self._bridges.items()):
            if one.retry_at is None:
                one.retry_at = now + min(FIRST_RETRY_SECONDS * 2 ** (one.count - 1), LONGEST_RETRY_SECONDS)
            elif now >= one.retry_at:
                self._trials[name] = self._bridges.pop(name)
                found.append(one.bridge)
        return found

    def reasons(self) -> Iterator[tuple[BridgeName, str]]:
        """Those that are displaced, and why."""
        return ((name, one.reason) for name, one in self._bridges.items())
