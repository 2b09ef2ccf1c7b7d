"""One bundle on its way to a switch: its transaction ids, its phase, and its errors in words.

Sending, and what follows from an answer, must not live here: see `switch_requests`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

from controller.openflow import group_messages, messages, meter_messages
from controller.openflow.messages import BundleControl
from controller.reconcile.meters import NO_METER_CHANGES, MeterChanges
from flows.wire.values import NO_GROUP_CHANGES, FlowChanges, GroupChanges


class BundlePhase(enum.Enum):
    """What the switch has to answer next for a bundle: its meters, its flow-mods, the commit, or the deletion of
    meters."""

    METERS = enum.auto()
    FILLING = enum.auto()
    COMMITTING = enum.auto()
    DELETING = enum.auto()


@dataclass(slots=True)
class BundleRequest:
    """A bundle for the SendBundle with this number.

    Its xids are consecutive: `meter_count` from `meter_xid` on for the meters and their barrier, `first` for the open
    request, one for each group-mod before the flows, for each flow-mod, and for each group-mod after them, then one
    each for close, commit and discard. An error of the switch has the xid of the message that it refuses, and so leads
    back to the meter, group or flow. The deletion of meters has xids of its own, from `delete_xid` on; `ended` gets
    what these meters had counted.

    `independent`: each of its mods is right without the others, so that it may be committed without those that the
    switch refuses. It saves a round trip.
    """

    number: int
    changes: FlowChanges
    meters: MeterChanges = NO_METER_CHANGES
    meter_xid: int = 0
    groups: GroupChanges = NO_GROUP_CHANGES
    independent: bool = False
    no_meters: bool = False
    first: int = 0
    bundle_id: int = 0
    phase: BundlePhase = BundlePhase.FILLING
    error: str = ""
    delete_xid: int = 0
    ended: meter_messages.MeterDump = field(default_factory=meter_messages.MeterDump)

    @property
    def label(self) -> str:
        """The request, for messages."""
        return f"bundle {self.number}"

    @property
    def size(self) -> int:
        """The number of flow-mods and group-mods."""
        return sum(map(len, self.changes)) + sum(map(len, self.groups))

    @property
    def meter_count(self) -> int:
        """The number of meter messages before the bundle, the barrier included."""
        return meter_messages.count_meter_mods_before(self.meters)

    @property
    def xid_count(self) -> int:
        """The number of xids that it uses."""
        return self.meter_count + self.size + 4

    @property
    def close_xid(self) -> int:
        """xid of the close request."""
        return self.first + self.size + 1

    @property
    def commit_xid(self) -> int:
        """xid of the commit request."""
        return self.first + self.size + 2

    @property
    def discard_xid(self) -> int:
        """xid of the discard request."""
        return self.first + self.size + 3

    def take_xids(self, first: int) -> None:
        """Use `xid_count` xids from `first` on."""
        self.meter_xid = first
        self.first = first + self.meter_count

    def open_request(self) -> bytes:
        """OFPBCT_OPEN_REQUEST."""
        return messages.bundle_control(BundleControl.OPEN_REQUEST, self.bundle_id, self.first)

    @property
    def flow_xid(self) -> int:
        """xid of the first flow-mod."""
        return self.first + 1 + group_messages.count_before(self.groups)

    def mods(self) -> Iterator[bytes]:
        """All group-mods and flow-mods, in chunks. Raises MessageTooLong."""
        after = self.close_xid - len(self.groups.deletes)
        yield from group_messages.group_mods_before(self.groups, self.bundle_id, self.first + 1)
        yield from messages.flow_mod_chunks(self.changes, self.bundle_id, self.flow_xid)
        yield from group_messages.group_mods_after(self.groups, self.bundle_id, after)

    def close_request(self) -> bytes:
        """OFPBCT_CLOSE_REQUEST, and the commit where that need not wait for its answer."""
        close = messages.bundle_control(BundleControl.CLOSE_REQUEST, self.bundle_id, self.close_xid)
        return close + self.commit_request() if self.independent else close

    def commit_request(self) -> bytes:
        """OFPBCT_COMMIT_REQUEST."""
        return messages.bundle_control(BundleControl.COMMIT_REQUEST, self.bundle_id, self.commit_xid)

    def discard_request(self) -> bytes:
        """OFPBCT_DISCARD_REQUEST."""
        return messages.bundle_control(BundleControl.DISCARD_REQUEST, self.bundle_id, self.discard_xid)

    def delete_meters(self, first: int) -> bytes:
        """The requests that delete meters, with `meter_messages.count_meter_deletes` xids from `first` on."""
        self.phase, self.delete_xid = BundlePhase.DELETING, first
        return meter_messages.meter_deletes(self.meters, first)

    def is_deleting(self, xid: int) -> bool:
        """Whether an answer with this xid is about meters that are deleted."""
        return self.phase is BundlePhase.DELETING and self.delete_xid <= xid <= self.deleted_xid

    @property
    def deleted_xid(self) -> int:
        """xid of the barrier after the meters that are deleted."""
        return self.delete_xid + meter_messages.count_meter_deletes(self.meters) - 1

    def note_meter_error(self, xid: int, message: bytes, text: str) -> None:
        """Keep the first error of a meter message. `text` is the name of the error."""
        meter = meter_messages.describe_meter_mod(self.meters, xid - self.meter_xid)
        self.error = f"the switch refused {meter}: {text}"
        self.no_meters = meter_messages.is_meter_unsupported(message)

    def describe_error(self, xid: int, text: str) -> str:
        """The error of a mod or of a bundle control message, in words. `text` is the name of the error."""
        flow_mod = messages.flow_mod_at(self.changes, xid - self.flow_xid) if xid >= self.flow_xid else None
        if flow_mod is not None:
            return f"the switch refused to {messages.describe_flow_mod(flow_mod)}: {text}"
        group_mod = group_messages.group_mod_before(self.groups, xid - self.first - 1)
        after = self.close_xid - len(self.groups.deletes)
        group_mod = group_mod or group_messages.group_mod_after(self.groups, xid - after)
        if group_mod is not None:
            return f"the switch refused to {group_messages.describe_group_mod(group_mod)}: {text}"
        step = {self.first: "open", self.close_xid: "close"}.get(xid, "commit")
        return f"the switch refused to {step} the bundle: {text}"
