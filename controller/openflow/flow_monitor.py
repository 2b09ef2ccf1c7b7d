"""Changes to a switch's flows by anything but Headgate: the updates of an OpenFlow flow monitor, counted.

The switch reports each change as it happens. Changes by Headgate's own session come as a bare xid and are skipped. The
others are counted and posted at most once in `REPORT_INTERVAL` seconds, so that many changes cost one event. The
reconciler decides what to do about them. Source: OpenFlow 1.4.1 section 7.3.5.17; OVS implements it from 3.1 on.
"""

from __future__ import annotations

import enum
import struct
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from controller.reconcile.events import Event, FlowsDrifted
from flows.wire.dump import affects_pipeline, is_learned, is_ours
from flows.wire.errors import CodecError

REPORT_INTERVAL = 0.5
_BODY = 16  # offset of the body in a multipart reply
_HEAD = struct.Struct("!HH")  # length, event
# ofp_flow_update_full up to its match: length, event, table, reason, both timeouts, priority, cookie.
_FULL = struct.Struct("!HHBBHHH4xQ")


class FlowUpdateEvent(enum.IntEnum):
    """The event of an update (enum ofp_flow_update_event)."""

    INITIAL = 0
    ADDED = 1
    REMOVED = 2
    MODIFIED = 3
    ABBREV = 4
    PAUSED = 5
    RESUMED = 6


class FlowUpdate(NamedTuple):
    """One update; the other fields are 0 if it names no flow."""

    event: int
    table: int = 0
    priority: int = 0
    cookie: int = 0


def read_updates(message: bytes) -> Iterator[FlowUpdate]:
    """The updates of one OFPMP_FLOW_MONITOR reply, header included. Raises CodecError for an invalid length."""
    offset, end = _BODY, len(message)
    while offset < end:
        if offset + _HEAD.size > end:
            raise CodecError("a flow update is truncated")
        length, event = _HEAD.unpack_from(message, offset)
        full = event <= FlowUpdateEvent.MODIFIED
        if length < (_FULL.size if full else 8) or offset + length > end:
            raise CodecError(f"a flow update of {length} bytes")
        if full:
            _, _, table, _, _, _, priority, cookie = _FULL.unpack_from(message, offset)
            yield FlowUpdate(event, table, priority, cookie)
        else:
            yield FlowUpdate(event)
        offset += length


class FlowMonitor:
    """Counts the changes of one switch's flows by others. Methods may be called from any thread.

    While it is paused, another replica serves the switch, and its changes are no drift.
    """

    def __init__(self, dpid: int, session: int, post: Callable[[Event], None], clock: Callable[[], float]) -> None:
        self._dpid, self._session = dpid, session
        self._post, self._clock = post, clock
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(("removed", "modified", "added", "foreign"), 0)
        self._unknown = False
        self._posted: float | None = None
        self._paused = False

    @property
    def paused(self) -> bool:
        """Whether changes are not counted."""
        return self._paused

    def pause(self, paused: bool) -> None:
        """Count changes no more, or again. What was counted and not posted may be another replica's: it is dropped."""
        with self._lock:
            self._paused = paused
            self._counts, self._unknown = dict.fromkeys(self._counts, 0), False

    def add(self, message: bytes) -> None:
        """Count the updates of one reply, and post them if it is time. Raises CodecError."""
        with self._lock:
            for update in read_updates(message):
                if not self._paused:
                    self._count(update)
        self.flush()

    def flush(self) -> None:
        """Post FlowsDrifted with the counts, at most once in REPORT_INTERVAL seconds."""
        now = self._clock()
        with self._lock:
            recent = self._posted is not None and now - self._posted < REPORT_INTERVAL
            if recent or not (self._unknown or any(self._counts.values())):
                return
            event = FlowsDrifted(self._dpid, self._session, **self._counts, unknown=self._unknown)
            self._counts = dict.fromkeys(self._counts, 0)
            self._unknown = False
            self._posted = now
        self._post(event)

    def _count(self, update: FlowUpdate) -> None:
        if update.event == FlowUpdateEvent.PAUSED:
            # The switch pauses its reports because this connection is too slow, so the counts are incomplete.
            self._unknown = True
        elif update.event in (FlowUpdateEvent.ABBREV, FlowUpdateEvent.RESUMED, FlowUpdateEvent.INITIAL):
            return
        elif is_ours(update.cookie):
            if not is_learned(update.table, update.cookie):
                self._counts[FlowUpdateEvent(update.event).name.lower()] += 1
        elif affects_pipeline(update.table, update.priority):
            self._counts["foreign"] += 1
