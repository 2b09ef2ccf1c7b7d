"""Bridges whose plan could not be made or updated: why, and when each is tried again although nothing changed.

Example: a bridge raises at 10 s, and once more when it is planned from nothing in the same update. It has no plan until
11 s, its switch keeps the flows that it has, and the other bridges go on. If it fails at 11 s too, the next attempt is
at 13 s, then 17 s, and so on, at most a minute apart. A change of the bridge has it tried at once.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

from flows.bridge.claim_contest import BridgeName
from flows.plan.rejected_objects import describe_error

FIRST_REPLAN_SECONDS, LONGEST_REPLAN_SECONDS = 1.0, 60.0


@dataclass(slots=True)
class PlanFailure:
    """Why a bridge has no plan, when it is tried again (seconds of a monotonic clock), and how often it failed."""

    reason: str
    retry_at: float
    count: int = 0


class PlanFailures:
    """`by_bridge` has the bridges that failed, `new` those that did since `take_new`."""

    def __init__(self) -> None:
        self.by_bridge: dict[BridgeName, PlanFailure] = {}
        self.new: set[BridgeName] = set()

    def add(self, name: BridgeName, error: Exception) -> None:
        """A bridge's plan raised."""
        self.new.add(name)
        failure = self.by_bridge.setdefault(name, PlanFailure("", 0.0))
        failure.reason = f"its flows cannot be planned, the switch is left as it is: {describe_error(error)}"

    def discard(self, name: BridgeName) -> None:
        """A bridge is gone, is not served, or has changed."""
        self.by_bridge.pop(name, None)

    def take_new(self) -> set[BridgeName]:
        """The bridges that failed since the last call."""
        found, self.new = self.new, set()
        return found

    def postpone(self, names: Iterable[BridgeName], now: float) -> None:
        """These failed twice in one update: try them later, and later each time."""
        for name in names:
            failure = self.by_bridge[name]
            failure.count += 1
            failure.retry_at = now + min(FIRST_REPLAN_SECONDS * 2 ** (failure.count - 1), LONGEST_REPLAN_SECONDS)

    def resolve(self, planned: Container[BridgeName]) -> None:
        """These bridges have a plan."""
        for name in [one for one in self.by_bridge if one in planned] if self.by_bridge else ():
            del self.by_bridge[name]

    def due(self, now: float) -> set[BridgeName]:
        """The bridges to try again now."""
        return {name for name, failure in self.by_bridge.items() if now >= failure.retry_at}

    def retry_at(self) -> float | None:
        """When the next bridge is tried again; None when none has failed."""
        return min((failure.retry_at for failure in self.by_bridge.values()), default=None)
