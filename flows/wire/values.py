"""Flows as they stand on a switch: keys, bodies, counters, and what differs between two sets of them."""

from __future__ import annotations

import struct
from typing import NamedTuple

FlowKey = bytes  # table (one byte), priority (two), match: what identifies a flow on a switch
KEY_PREFIX = struct.Struct("!BH")  # how a key begins


class Body(NamedTuple):
    """All else of a flow. Many flows share one."""

    cookie: int
    instructions: bytes


class WireFlow(NamedTuple):
    """A flow as the switch has it: `match` and `instructions` are the OpenFlow 1.4 bytes, as OVS itself dumps them.

    So flows go to and fro; kept, they are a key and a body each, for there are many of them.
    """

    table: int
    priority: int
    match: bytes
    cookie: int
    instructions: bytes

    @property
    def key(self) -> FlowKey:
        """What identifies it."""
        return flow_key(self.table, self.priority, self.match)

    @property
    def body(self) -> Body:
        """What it does."""
        return Body(self.cookie, self.instructions)


def flow_key(table: int, priority: int, match: bytes) -> FlowKey:
    """The key of a flow. Raises struct.error for numbers that are too large."""
    return KEY_PREFIX.pack(table, priority) + match


def wire_flow(key: FlowKey, body: Body) -> WireFlow:
    """The flow that was put into a key and a body."""
    table, priority = KEY_PREFIX.unpack_from(key)
    return WireFlow(table, priority, key[KEY_PREFIX.size :], *body)


class FlowCounters(NamedTuple):
    """What a dump says a flow has seen. `duration` is in seconds."""

    packets: int
    bytes: int
    duration: int


class ForeignFlow(NamedTuple):
    """A flow that Headgate did not make, as a dump found it in a table of ours."""

    flow: WireFlow
    counters: FlowCounters


class FlowChanges(NamedTuple):
    """What turns the flows of a switch into the desired ones. `modifies` keep the counters of the flow they change."""

    adds: tuple[WireFlow, ...]
    modifies: tuple[WireFlow, ...]
    deletes: tuple[WireFlow, ...]

    def __bool__(self) -> bool:
        return bool(self.adds or self.modifies or self.deletes)


NO_FLOW_CHANGES = FlowChanges((), (), ())
