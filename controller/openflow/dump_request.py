"""One flow dump of a switch: its request, its replies so far, and its bounds. What to do with it must not live here."""

from __future__ import annotations

from dataclasses import dataclass, field

from controller.openflow.meter_messages import METER_REQUESTS, MeterDump
from controller.peers.limits import OpenFlowLimits
from controller.peers.memory_budget import MemoryBudget
from flows.wire.dump import FlowDump
from flows.wire.errors import CodecError
from flows.wire.groups import GroupDump


@dataclass(slots=True)
class DumpRequest:
    """A flow dump for the DumpFlows with this number. `xid` is that of the flow request."""

    number: int
    result: FlowDump
    xid: int = 0
    # The requests before the flow request ask for meters; None when the switch refused one of those.
    meters: MeterDump | None = field(default_factory=MeterDump)
    groups: GroupDump | None = None  # the first request asks for groups; None when it does not

    @property
    def xid_count(self) -> int:
        """The number of xids that its requests use; the flow request has the last."""
        return METER_REQUESTS + 1 + (self.groups is not None)

    @property
    def first_xid(self) -> int:
        """xid of its first request."""
        return self.xid + 1 - self.xid_count

    @property
    def group_xid(self) -> int | None:
        """xid of the group request; None without one."""
        return self.first_xid if self.groups is not None else None

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

    def check(self, dump: FlowDump, groups: GroupDump | None = None) -> None:
        """Raises CodecError when a dump exceeds what a switch can have, or the memory for dumps."""
        limits = self._limits
        groups_read, bytes_read, kept = 0, dump.bytes_read, dump.bytes_kept
        if groups is not None:
            groups_read, bytes_read, kept = groups.groups_read, bytes_read + groups.bytes_read, kept + groups.bytes_kept
        for size, most, unit in (
            (dump.flows_read, limits.dump_flows, "flows"),
            (groups_read, limits.dump_groups, "groups"),
            (bytes_read, limits.dump_bytes, "bytes"),
            (kept, limits.dump_kept, "bytes of flows that are not as desired"),
        ):
            if size > most:
                raise CodecError(f"its flow dump has more than {most:,} {unit}")
        if not self._keep(kept):
            raise CodecError(f"its flow dump has {kept:,} bytes to keep, and the other dumps leave no room")

    def clear(self) -> None:
        """The dump has ended, and its memory is free."""
        self._keep(0)

    def _keep(self, size: int) -> bool:
        done = self._budget.resize(self._kept, size)
        if done:
            self._kept = size
        return done
