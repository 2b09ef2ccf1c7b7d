"""Exceptions that were caught while an event was handled, by the subject of the event; each becomes a problem.

Must not live here: exceptions of one object, port or bridge (`flows.plan`), or of one switch (`switch`).
"""

from __future__ import annotations

from controller.reconcile.events import (
    BridgeChanged,
    BridgeGone,
    ClusterChanged,
    Event,
    MarksFailed,
    MarksWritten,
    OvsdbPeer,
    OvsdbState,
    ReplicasChanged,
    Tick,
)
from flows.plan.rejected_objects import describe_error

MAX_CONTAINED_ERRORS = 100  # the oldest are dropped
THE_CLUSTER, ALL_EVENTS = "the cluster", "events"


class ContainedErrors:
    """`reasons` by what the error was about, the oldest first."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def add(self, subject: str, error: Exception) -> None:
        """Handling something raised."""
        self.reasons.pop(subject, None)
        self.reasons[subject] = describe_error(error)
        while len(self.reasons) > MAX_CONTAINED_ERRORS:
            del self.reasons[next(iter(self.reasons))]

    def clear(self, subject: str) -> None:
        """Handling it succeeded, or is tried again."""
        self.reasons.pop(subject, None)

    def retry(self, event: Event) -> None:
        """An event is about to be handled: what was raised for the same is outdated."""
        if self.reasons:
            self.clear(event_subject(event))
            self.clear(ALL_EVENTS)


def event_subject(event: Event) -> str:
    """What an event is about, for the operator."""
    if isinstance(event, ClusterChanged):
        return THE_CLUSTER
    if isinstance(event, BridgeChanged):
        return f"bridge {event.bridge.name} at {event.bridge.ovsdb}"
    if isinstance(event, BridgeGone):
        return f"bridge {event.name} at {event.ovsdb}"
    if isinstance(event, OvsdbPeer | OvsdbState | MarksWritten | MarksFailed):
        return f"OVSDB {event.ovsdb}"
    if isinstance(event, ReplicasChanged):
        return "the replicas"
    return "time" if isinstance(event, Tick) else f"switch {event.dpid:016x}"
