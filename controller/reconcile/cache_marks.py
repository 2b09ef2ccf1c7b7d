"""The cache mark of one switch: which mark's flows it has, which those of the next bundle are, and when to write them
again.

A mark is not among the desired flows: any number is right, and on old switches it changes with every bundle that
changes flows. Why there are marks, see `flows.render.cache_marks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flows.plan.encoder import FlowEncoder
from flows.render.cache_marks import MARK_COUNT, MarkUse, mark_flows
from flows.wire.values import NO_FLOW_CHANGES, Body, FlowChanges, FlowKey, wire_flow

MarkFlows = Mapping[FlowKey, Body]
# A datapath that has missed megaflows is told again after these seconds, counted from the commit or the time before.
# Twice, since it may miss some again, though fewer. The first is long enough for a revalidator to have woken up.
REPEAT_SECONDS = (0.02, 0.06)


class CacheMarks:
    """The flows of all marks, encoded. All switches share them."""

    def __init__(self, encoder: FlowEncoder) -> None:
        self.flows: tuple[MarkFlows, ...] = tuple(
            dict(map(encoder.flow, mark_flows(number))) for number in range(MARK_COUNT)
        )
        self.number_of = {key: number for number, flows in enumerate(self.flows) for key in flows}


@dataclass(slots=True)
class MarkLedger:
    """One switch's mark. `there` are the mark's flows that it has; at `repeat_at` they are due to be written again."""

    marks: CacheMarks | None = None
    use: MarkUse = MarkUse.NONE
    there: MarkFlows = field(default_factory=dict)
    number: int = -1  # of the mark that was sent last, or found there
    repeat_at: float | None = None
    repeated: int = 0  # since the last bundle that changed flows

    def take(self, flows: Mapping[FlowKey, Body | None]) -> Mapping[FlowKey, Body | None]:
        """Note the marks among the flows of a dump; returns the other flows."""
        self.there = {}
        if self.marks is None:
            return flows
        numbers = self.marks.number_of
        self.there = {key: body for key, body in flows.items() if body is not None and key in numbers}
        if not self.there:
            return flows
        self.number = max(numbers[key] for key in self.there)
        return {key: body for key, body in flows.items() if key not in self.there}

    def next(self, changes: FlowChanges, always: bool = False) -> FlowChanges:
        """The changes of the mark that go into the same bundle as these changes; `always`: groups change too."""
        came: MarkFlows = {}
        if self.marks is not None and self.use is not MarkUse.NONE and (changes or always):
            if self.use is MarkUse.MOVES or self.number < 0:
                self.number = (self.number + 1) % MARK_COUNT
            came = self.marks.flows[self.number]
        elif self.use is not MarkUse.NONE or not self.there:
            return NO_FLOW_CHANGES
        gone = tuple(wire_flow(key, body) for key, body in self.there.items() if key not in came)
        return FlowChanges(tuple(wire_flow(key, body) for key, body in came.items() if key not in self.there), (), gone)

    def done(self, changes: FlowChanges, now: float) -> None:
        """The switch has committed these changes of the mark, together with changes of flows."""
        if changes and self.marks is not None:
            self.there = self.marks.flows[self.number] if changes.adds else {}
        self.repeated = 0
        self._schedule(now)

    def again(self) -> FlowChanges:
        """The mark as it is, to be written once more."""
        return FlowChanges((), tuple(wire_flow(key, body) for key, body in self.there.items()), ())

    def done_again(self, now: float) -> None:
        """The switch has written the mark once more."""
        self.repeated += 1
        self._schedule(now)

    def forget(self) -> None:
        """There is no bundle after which to write the mark again."""
        self.repeat_at = None

    @property
    def remaining_seconds(self) -> float:
        """For so long after the last commit the mark is still to be written again."""
        return sum(REPEAT_SECONDS[self.repeated :]) if self.repeat_at is not None else 0.0

    def _schedule(self, now: float) -> None:
        due = bool(self.there) and self.repeated < len(REPEAT_SECONDS)
        self.repeat_at = now + REPEAT_SECONDS[self.repeated] if due else None
