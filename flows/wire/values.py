"""Encoded flows as values: keys, bodies, counters, and the changes from one set of flows to another."""

from __future__ import annotations

import struct
from typing import NamedTuple

FlowKey = bytes  # table (1 byte), priority (2 bytes), match: the identity of a flow on a switch
KEY_PREFIX = struct.Struct("!BH")  # table and priority


class Body(NamedTuple):
    """Cookie and instructions of a flow. Many flows share one body."""

    cookie: int
    instructions: bytes


class WireFlow(NamedTuple):
    """A flow as the switch has it: `match` and `instructions` are OpenFlow 1.4 bytes, as OVS dumps them.

    Messages carry flows in this form. Kept flows, of which there are many, are a key and a body each.
    """

    table: int
    priority: int
    match: bytes
    cookie: int
    instructions: bytes

    @property
    def key(self) -> FlowKey:
        """The identity of the flow on its switch."""
        return flow_key(self.table, self.priority, self.match)

    @property
    def body(self) -> Body:
        """Its cookie and instructions."""
        return Body(self.cookie, self.instructions)


def flow_key(table: int, priority: int, match: bytes) -> FlowKey:
    """The key of a flow. Raises struct.error for numbers that are too large."""
    return KEY_PREFIX.pack(table, priority) + match


def wire_flow(key: FlowKey, body: Body) -> WireFlow:
    """The flow with this key and body."""
    table, priority = KEY_PREFIX.unpack_from(key)
    return WireFlow(table, priority, key[KEY_PREFIX.size :], *body)


class FlowCounters(NamedTuple):
    """The counters of a flow in a dump. `duration` is in seconds."""

    packets: int
    bytes: int
    duration: int


class ForeignFlow(NamedTuple):
    """A flow that Headgate did not make, in a table of the pipeline."""

    flow: WireFlow
    counters: FlowCounters


class FlowChanges(NamedTuple):
    """The changes that turn the actual flows of a switch into the desired ones. `modifies` keep a flow's counters."""

    adds: tuple[WireFlow, ...]
    modifies: tuple[WireFlow, ...]
    deletes: tuple[WireFlow, ...]

    def __bool__(self) -> bool:
        return bool(self.adds or self.modifies or self.deletes)


NO_FLOW_CHANGES = FlowChanges((), (), ())

GroupBody = bytes  # a group's type (1 byte) and its buckets, as OVS dumps them


class WireGroup(NamedTuple):
    """A group as the switch has it: its id, and the rest in OpenFlow 1.4 bytes."""

    number: int
    body: GroupBody


class GroupChanges(NamedTuple):
    """The changes that turn the actual groups of a switch into the desired ones. `deletes` are group ids."""

    adds: tuple[WireGroup, ...]
    modifies: tuple[WireGroup, ...]
    deletes: tuple[int, ...]

    def __bool__(self) -> bool:
        return bool(self.adds or self.modifies or self.deletes)


NO_GROUP_CHANGES = GroupChanges((), (), ())
