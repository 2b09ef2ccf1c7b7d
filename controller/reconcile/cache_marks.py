"""The cache mark of one switch: which mark's flows it has, and which those of the next bundle are.

A mark is not among the desired flows: any number is right, and it changes with every bundle that changes flows. Why
there are marks, see `flows.render.cache_marks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flows.plan.encoder import FlowEncoder
from flows.render.cache_marks import MARK_COUNT, mark_flows
from flows.wire.values import NO_FLOW_CHANGES, Body, FlowChanges, FlowKey, wire_flow

MarkFlows = Mapping[FlowKey, Body]


class CacheMarks:
    """The flows of all marks, encoded. All switches share them."""

    def __init__(self, encoder: FlowEncoder) -> None:
        self.flows: tuple[MarkFlows, ...] = tuple(
            dict(map(encoder.flow, mark_flows(number))) for number in range(MARK_COUNT)
        )
        self.number_of = {key: number for number, flows in enumerate(self.flows) for key in flows}


@dataclass(slots=True)
class MarkLedger:
    """One switch's mark. `needed` says whether it should have one, `there` are the mark's flows that it has."""

    marks: CacheMarks | None = None
    needed: bool = False
    there: MarkFlows = field(default_factory=dict)
    number: int = -1  # of the mark that was sent last, or found there

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
        if self.marks is not None and self.needed and (changes or always):
            self.number = (self.number + 1) % MARK_COUNT
            came = self.marks.flows[self.number]
        elif self.needed or not self.there:
            return NO_FLOW_CHANGES
        gone = tuple(wire_flow(key, body) for key, body in self.there.items() if key not in came)
        return FlowChanges(tuple(wire_flow(key, body) for key, body in came.items()), (), gone)

    def done(self, changes: FlowChanges) -> None:
        """The switch has committed these changes of the mark."""
        if changes and self.marks is not None:
            self.there = self.marks.flows[self.number] if changes.adds else {}
