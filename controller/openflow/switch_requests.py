"""The requests of one session to its switch, one at a time: flow dumps and bundles, their answers and their failures.

Bytes are made in `messages`, `meter_messages` and `bundle_request`. Threads and sockets must not live here: see
`session`. Whether to retry must not either: see `controller.reconcile`.

Theory of operation. One request is under way (`_current`), others wait in `_queue`. `_start_next` gives the next one
its xids and sends it. Every answer carries the xid of a request, so an answer to an earlier request matches nothing and
is ignored.

A dump sends the request for groups, if they are asked for, those for meters, and then the one for flows; replies arrive
in that order. The last part of the flow reply posts FlowsDumped.

A bundle goes through `BundlePhase`:

1. METERS, if meters change: meter-mods and a barrier. The barrier's reply starts the next phase (`barrier_reply`).
2. FILLING: open, mods of flows and groups, and close, streamed by the sending thread (`_chunks`).
3. COMMITTING, after the close reply: commit.
4. DELETING, after the commit reply, if meters are not used any more: their last counters, their deletion, a barrier.
   The last reply posts BundleDone.

When a bundle fails: OVS reports a refused flow-mod at once, and would still commit the others if asked to. So the
commit is sent only after the close reply, and any error before that ends the bundle: `error` finds the flow by its xid,
`_bundle_error` calls `_fail`, which stops the stream, sends a discard request, posts BundleFailed with the reason, and
starts the next request. Nothing of the bundle is then on the switch, as bundles are atomic. An error in COMMITTING is
kept, and `_fail` is called when the error of the commit itself arrives. Where mods are independent of each other the
commit follows at once, and those that the switch did not refuse may be there. No answer at all: `overdue` returns the
reason, and `session` ends the connection; `end` posts BundleFailed.

Example: bundle 7 has three flow-mods, and xids 100 (open), 101 to 103, 104 (close), 105 (commit), 106 (discard). The
switch answers xid 102 with OFPET_BAD_ACTION. BundleFailed(number=7) says `the switch refused to add table=..., ...:
OFPET_BAD_ACTION OFPBAC_BAD_TYPE`, and the discard with xid 106 is sent.
"""

from __future__ import annotations

import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator

from controller.openflow import group_messages, messages, meter_messages
from controller.openflow.bundle_request import BundlePhase, BundleRequest
from controller.openflow.dump_request import DumpBounds, DumpRequest
from controller.openflow.messages import BundleControl
from controller.openflow.outbox import Outbox
from controller.peers.limits import OpenFlowLimits
from controller.peers.memory_budget import MemoryBudget
from controller.reconcile.commands import DumpFlows
from controller.reconcile.events import BundleDone, BundleFailed, Event, FlowsDumped
from controller.reconcile.meters import NO_METER_CHANGES, MeterChanges
from flows.wire.dump import FlowDump
from flows.wire.errors import CodecError
from flows.wire.groups import GroupDump
from flows.wire.values import NO_GROUP_CHANGES, FlowChanges, GroupChanges

_FIRST_XID, _LAST_XID = 1 << 31, (1 << 32) - 1  # os-ken and `session` use lower xids
_MAX_BUNDLE_ID = (1 << 32) - 1
_CONTROL = struct.Struct("!IHH")  # bundle id, type, flags


class SwitchRequests:
    """The requests of one session. All methods may be called from any thread; none of them waits for the network."""

    def __init__(
        self,
        dpid: int,
        session: int,
        outbox: Outbox,
        post: Callable[[Event], None],
        clock: Callable[[], float],
        limits: OpenFlowLimits,
        budget: MemoryBudget,
    ) -> None:
        self._dpid = dpid
        self._session = session
        self._outbox = outbox
        self._post = post
        self._clock = clock
        self._limits = limits
        self._dump_bounds = DumpBounds(limits, budget)
        self._lock = threading.RLock()
        self._queue: deque[DumpRequest | BundleRequest] = deque()
        self._current: DumpRequest | BundleRequest | None = None
        self._began = self._progress = 0.0  # of the current request: its start, and the last sign of progress
        self._next_xid = _FIRST_XID
        self._next_bundle = 1
        self._ended = False

    def dump(self, command: DumpFlows) -> None:
        """Request all flows. Replaces a dump that is last in the queue."""
        with self._lock:
            if self._queue and isinstance(self._queue[-1], DumpRequest):
                del self._queue[-1]
            groups = None if command.groups is None else GroupDump(command.groups)
            flows = FlowDump(command.expected, command.all_counters)
            self._queue.append(DumpRequest(command.number, flows, groups=groups))
            self._start_next()

    def send_bundle(
        self,
        number: int,
        changes: FlowChanges,
        meter_changes: MeterChanges = NO_METER_CHANGES,
        groups: GroupChanges = NO_GROUP_CHANGES,
        independent: bool = False,
    ) -> None:
        """Send the meters, then flows and groups as one bundle. Posts BundleDone or BundleFailed with `number`.

        `independent`: of mods of which the switch refuses one, others may be there already when it is told.
        """
        with self._lock:
            if self._ended or len(self._queue) >= self._limits.queued_requests:
                reason = "the session has ended" if self._ended else f"{len(self._queue)} requests are queued already"
                self._post(BundleFailed(self._dpid, self._session, number, reason))
                return
            self._queue.append(BundleRequest(number, changes, meter_changes, groups=groups, independent=independent))
            self._start_next()

    def overdue(self, now: float) -> str:
        """The request that the switch has not answered in time, in words, or an empty string."""
        with self._lock:
            current, limits = self._current, self._limits
            if current is None:
                return ""
            if now - self._progress > limits.request_idle:
                return f"no answer to {current.label} within {limits.request_idle:g} s"
            most = limits.dump_seconds if isinstance(current, DumpRequest) else limits.request_total
            return f"{current.label} took longer than {most:g} s" if now - self._began > most else ""

    def waits_for(self, xid: int) -> bool:
        """Whether a multipart reply with this xid belongs to the current request."""
        current = self._current
        if isinstance(current, BundleRequest):
            return current.is_deleting(xid)
        return current is not None and current.first_xid <= xid <= current.xid

    def end(self, reason: str) -> None:
        """The session has ended, so every request fails."""
        with self._lock:
            self._ended = True
            failed = [one for one in (self._current, *self._queue) if isinstance(one, BundleRequest)]
            self._current = None
            self._queue.clear()
            self._dump_bounds.clear()
        for bundle in failed:
            self._post(BundleFailed(self._dpid, self._session, bundle.number, bundle.error or reason))

    def _start_next(self) -> None:
        if self._current is not None or not self._queue or self._ended:
            return
        self._current = current = self._queue.popleft()
        self._began = self._progress = self._clock()
        if isinstance(current, DumpRequest):
            # A switch answers in order, so its replies about groups and meters come before the last of its flows.
            current.xid = self._take_xids(current.xid_count) + current.xid_count - 1
            asked = b"" if current.group_xid is None else group_messages.groups_request(current.group_xid)
            asked += meter_messages.meter_requests(current.xid - meter_messages.METER_REQUESTS)
            self._outbox.put(asked + messages.flow_stats_request(current.xid))
            return
        current.take_xids(self._take_xids(current.xid_count))
        if current.meter_count:
            current.phase = BundlePhase.METERS
            self._outbox.put(meter_messages.meter_mods_before(current.meters, current.meter_xid))
            return
        self._fill(current)

    def _fill(self, current: BundleRequest) -> None:
        current.phase = BundlePhase.FILLING
        current.bundle_id = self._next_bundle
        self._next_bundle = self._next_bundle % _MAX_BUNDLE_ID + 1
        self._outbox.stream(self._chunks(current))

    def _take_xids(self, count: int) -> int:
        if self._next_xid + count > _LAST_XID:
            self._next_xid = _FIRST_XID
        first = self._next_xid
        self._next_xid += count
        return first

    def _chunks(self, bundle: BundleRequest) -> Iterator[bytes]:
        """A bundle up to its close request, in few writes. Runs in the sending thread."""
        unsent = bundle.open_request()
        try:
            for chunk in bundle.mods():
                self._progress = self._clock()
                if len(unsent) + len(chunk) > messages.FLOW_MOD_CHUNK_BYTES:
                    yield unsent
                    unsent = b""
                unsent += chunk
        except (CodecError, struct.error) as error:
            with self._lock:
                if self._current is bundle:
                    self._fail(bundle, str(error))
            return
        yield unsent + bundle.close_request()

    def flow_reply(self, xid: int, message: bytes, more: bool) -> None:
        """A part of a flow dump; `more` says that others follow. Raises CodecError."""
        with self._lock:
            current = self._current
            if not isinstance(current, DumpRequest) or xid != current.xid:
                return
            current.result.add(message)
            self._progress = self._clock()
            self._dump_bounds.check(current.result, current.groups)
            if more:
                return
            found = current.result
            found.end()
            self._dump_bounds.clear()
            self._current = None
            self._start_next()
        self._post(self._dump_answer(current))

    def _dump_answer(self, done: DumpRequest) -> FlowsDumped:
        found, groups = done.result, done.groups
        if groups is not None:
            groups.end()
        return FlowsDumped(
            self._dpid, self._session, done.number, found.flows, found.counters, found.foreign_count,
            tuple(found.foreign_flows), done.meters.report() if done.meters is not None else None,
            groups.groups if groups is not None else None,
        )  # fmt: skip

    def group_or_meter_reply(self, xid: int, kind: int, message: bytes) -> None:
        """A reply about groups or meters, for the current request. Raises CodecError."""
        with self._lock:
            current = self._current
            if isinstance(current, BundleRequest) and current.is_deleting(xid):
                current.ended.add(kind, message)
                self._progress = self._clock()
                return
            if not isinstance(current, DumpRequest) or not current.first_xid <= xid < current.xid:
                return
            if current.groups is not None and xid == current.group_xid and kind == group_messages.GROUP_DESCRIPTIONS:
                current.groups.add(message)
                self._dump_bounds.check(current.result, current.groups)
            elif current.meters is not None:
                current.meters.add(kind, message)
            self._progress = self._clock()

    def barrier_reply(self, xid: int) -> None:
        """The switch has handled the meter-mods before the barrier."""
        with self._lock:
            current = self._current
            if not isinstance(current, BundleRequest):
                return
            if current.phase is BundlePhase.DELETING and xid == current.deleted_xid:
                self._done(current)
            elif current.phase is BundlePhase.METERS and xid == current.first - 1:
                self._progress = self._clock()
                if current.error:
                    self._fail(current, current.error)
                else:
                    self._fill(current)

    def bundle_reply(self, xid: int, message: bytes) -> None:
        """A bundle control reply. Raises CodecError."""
        if len(message) < messages.OPENFLOW_HEADER.size + _CONTROL.size:
            raise CodecError("a bundle reply is truncated")
        _, kind, _ = _CONTROL.unpack_from(message, messages.OPENFLOW_HEADER.size)
        with self._lock:
            current = self._current
            if not isinstance(current, BundleRequest):
                return
            self._progress = self._clock()
            filling = current.phase is BundlePhase.FILLING
            if kind == BundleControl.CLOSE_REPLY and xid == current.close_xid and filling:
                current.phase = BundlePhase.COMMITTING
                if not current.independent:
                    self._outbox.put(current.commit_request())
                return
            if kind != BundleControl.COMMIT_REPLY or xid != current.commit_xid:
                return
            if current.meters.deletes and current.phase is BundlePhase.COMMITTING:
                first = self._take_xids(meter_messages.count_meter_deletes(current.meters))
                self._outbox.put(current.delete_meters(first))
            elif not current.meters.deletes:
                self._done(current)

    def _done(self, bundle: BundleRequest) -> None:
        self._current = None
        self._post(BundleDone(self._dpid, self._session, bundle.number, bundle.ended.dropped))
        self._start_next()

    def error(self, xid: int, message: bytes) -> str:
        """An error message of the switch. Returns the reason to end the session, or an empty string."""
        text = messages.error_text(message)
        with self._lock:
            current = self._current
            if isinstance(current, DumpRequest) and xid == current.xid:
                return f"the switch refused a flow dump: {text}"
            if isinstance(current, DumpRequest) and xid == current.group_xid:
                return f"the switch refused a dump of its groups: {text}"
            if isinstance(current, DumpRequest) and 0 < current.xid - xid <= meter_messages.METER_REQUESTS:
                current.meters = None
            if isinstance(current, BundleRequest) and current.meter_xid <= xid < current.first and not current.error:
                current.note_meter_error(xid, message, text)
            if isinstance(current, BundleRequest) and current.first <= xid <= current.commit_xid:
                self._progress = self._clock()
                self._bundle_error(current, xid, text)
        return ""

    def _bundle_error(self, bundle: BundleRequest, xid: int, text: str) -> None:
        if not bundle.error:
            bundle.error = bundle.describe_error(xid, text)
        # In COMMITTING, OVS first reports the flow-mod that failed; the error of the commit itself is the last.
        if bundle.phase is BundlePhase.FILLING or xid == bundle.commit_xid:
            self._fail(bundle, bundle.error)

    def _fail(self, bundle: BundleRequest, reason: str) -> None:
        self._outbox.stop_stream()
        if bundle.phase is BundlePhase.FILLING:
            self._outbox.put(bundle.discard_request())
        self._current = None
        self._post(BundleFailed(self._dpid, self._session, bundle.number, reason, bundle.no_meters))
        self._start_next()
