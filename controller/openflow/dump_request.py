"""One flow dump of a switch: its request, its replies so far, and its bounds. What to do with it must not live here."""

from __future__ import annotations

from dataclasses import dataclass, field

from controller.openflow.meter_messages import MeterDump
from controller.peers.limits import OpenFlowLimits
from controller.peers.memory_budget import MemoryBudget
from flows.wire.dump import FlowDump
from flows.wire.errors import CodecError


@dataclass(slots=True)
class DumpRequest:
    """A flow dump for the DumpFlows with this number. `xid` is that of the flow request."""

    number: int
    result: FlowDump
    xid: int = 0
    # The requests before the flow request ask for meters; None when the switch refused one of those.
    meters: MeterDump | None = field(default_factory=MeterDump)

    @property
    def label(self) -> str:
        """The request, for messages."""
        return "a flow dump"


class DumpBounds:
    """Holds the dump of one session to its limits. `budget` counts what the dumps of all switches keep."""

    def __init__(self, limits: OpenFlowLimits, budget: MemoryBudget) -> None:
        self._limits = limits
        self._budget = budget
        self._kept = 0  # bytes that the budget counts for this session

    def check(self, dump: FlowDump) -> None:
        """Raises CodecError when a dump exceeds what a switch can have, or the memory for dumps."""
        limits = self._limits
        for size, most, unit in (
            (dump.flows_read, limits.dump_flows, "flows"),
            (dump.bytes_read, limits.dump_bytes, "bytes"),
            (dump.bytes_kept, limits.dump_kept, "bytes of flows that are not as desired"),
        ):
            if size > most:
                raise CodecError(f"its flow dump has more than {most:,} {unit}")
        if not self._keep(dump.bytes_kept):
            raise CodecError(f"its flow dump has {dump.bytes_kept:,} bytes to keep, and the other dumps leave no room")

    def clear(self) -> None:
        """The dump has ended, and its memory is free."""
        self._keep(0)

    def _keep(self, size: int) -> bool:
        done = self._budget.resize(self._kept, size)
        if done:
            self._kept = size
        return done
