"""What one session asks its switch, one request after the other: flow dumps and bundles, and what the answers mean.

A bundle is opened, filled, closed, and only when the switch has said yes to all of it committed: OVS reports a
flow-mod that it refuses at once and would commit the others. Bytes come from `messages`, threads and sockets are
`session`'s.
"""

from __future__ import annotations

import enum
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from controller.openflow import messages, meter_messages
from controller.openflow.messages import BundleControl
from controller.openflow.outbox import Outbox
from controller.peers.limits import OpenFlowLimits
from controller.peers.memory_budget import MemoryBudget
from controller.reconcile.events import BundleDone, BundleFailed, DumpFlows, Event, FlowsDumped
from controller.reconcile.meters import NO_METER_CHANGES, MeterChanges
from flows.wire.dump import FlowDump
from flows.wire.errors import CodecError
from flows.wire.values import FlowChanges

# os-ken numbers its own messages from below.
_FIRST_XID, _LAST_XID = 1 << 31, (1 << 32) - 1
_CONTROL = struct.Struct("!IHH")


class BundlePhase(enum.Enum):
    """What the switch has to answer next for a bundle: its meters, its flow-mods, or the commit."""

    METERS = enum.auto()
    FILLING = enum.auto()
    COMMITTING = enum.auto()


@dataclass(slots=True)
class DumpRequest:
    """A flow dump, with the number of its DumpFlows. `xid` is that of the flow request."""

    number: int
    result: FlowDump
    xid: int = 0
    # Asked for by the messages before; None when the switch does not know what was asked.
    meters: meter_messages.MeterDump | None = field(default_factory=meter_messages.MeterDump)


@dataclass(slots=True)
class BundleRequest:
    """xids: `first` opens, then one for each flow-mod, then close, commit, discard. `meter_xid` and as many as
    `meter_count` are of what comes before."""

    number: int
    changes: FlowChanges
    meters: MeterChanges = NO_METER_CHANGES
    meter_xid: int = 0
    no_meters: bool = False
    first: int = 0
    bundle_id: int = 0
    phase: BundlePhase = BundlePhase.FILLING
    error: str = ""

    @property
    def size(self) -> int:
        """The number of flow-mods."""
        return sum(map(len, self.changes))

    @property
    def meter_count(self) -> int:
        """The number of meter messages before the bundle, the barrier included."""
        return meter_messages.count_meter_mods_before(self.meters)

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
        self._budget = budget
        self._kept = 0  # bytes of the current dump that the budget knows of
        self._lock = threading.RLock()
        self._waiting: deque[DumpRequest | BundleRequest] = deque()
        self._current: DumpRequest | BundleRequest | None = None
        self._began = self._progress = 0.0
        self._next_xid = _FIRST_XID
        self._next_bundle = 1
        self._over = False

    def dump(self, command: DumpFlows) -> None:
        """Ask for all flows. It takes the place of a dump that waits right before it."""
        with self._lock:
            if self._waiting and isinstance(self._waiting[-1], DumpRequest):
                del self._waiting[-1]
            self._waiting.append(DumpRequest(command.number, FlowDump(command.known, command.all_counters)))
            self._go_on()

    def send_bundle(self, number: int, changes: FlowChanges, about_meters: MeterChanges = NO_METER_CHANGES) -> None:
        """Send changes as one bundle, after the meters it needs; BundleDone or BundleFailed with `number` is posted in
        any case."""
        with self._lock:
            if self._over or len(self._waiting) >= self._limits.queued_requests:
                reason = "the session is over" if self._over else f"{len(self._waiting)} requests wait already"
                self._post(BundleFailed(self._dpid, self._session, number, reason))
                return
            self._waiting.append(BundleRequest(number, changes, about_meters))
            self._go_on()

    def overdue(self, now: float) -> str:
        """What the switch failed to answer in time, or the empty text."""
        with self._lock:
            if self._current is None:
                return ""
            limits, dump = self._limits, isinstance(self._current, DumpRequest)
            what = "a flow dump" if isinstance(self._current, DumpRequest) else f"bundle {self._current.number}"
            if now - self._progress > limits.request_idle:
                return f"no answer to {what} within {limits.request_idle:g} s"
            most = limits.dump_seconds if dump else limits.request_total
            return f"{what} took longer than {most:g} s" if now - self._began > most else ""

    def waits_for(self, xid: int) -> bool:
        """Whether a multipart reply with this xid is a part of what was asked for."""
        current = self._current
        return isinstance(current, DumpRequest) and 0 <= current.xid - xid <= meter_messages.METER_REQUESTS

    def end(self, reason: str) -> None:
        """The session is over: whatever was asked has failed."""
        with self._lock:
            self._over = True
            failed = [one for one in (self._current, *self._waiting) if isinstance(one, BundleRequest)]
            self._current = None
            self._waiting.clear()
            self._keep(0)
        for bundle in failed:
            self._post(BundleFailed(self._dpid, self._session, bundle.number, bundle.error or reason))

    def _go_on(self) -> None:
        if self._current is not None or not self._waiting or self._over:
            return
        self._current = current = self._waiting.popleft()
        self._began = self._progress = self._clock()
        if isinstance(current, DumpRequest):
            # A switch answers in order, so what it says of meters comes before the end of its flows.
            first = self._take_xids(meter_messages.METER_REQUESTS + 1)
            current.xid = first + meter_messages.METER_REQUESTS
            self._outbox.put(meter_messages.meter_requests(first) + messages.flow_stats_request(current.xid))
            return
        current.meter_xid = self._take_xids(current.meter_count + current.size + 4)
        current.first = current.meter_xid + current.meter_count
        if current.meter_count:
            current.phase = BundlePhase.METERS
            self._outbox.put(meter_messages.meter_mods_before(current.meters, current.meter_xid))
            return
        self._fill(current)

    def _fill(self, current: BundleRequest) -> None:
        current.phase = BundlePhase.FILLING
        current.bundle_id = self._next_bundle
        self._next_bundle = self._next_bundle % 0xFFFFFFFF + 1
        self._outbox.stream(self._chunks(current))

    def _take_xids(self, count: int) -> int:
        if self._next_xid + count > _LAST_XID:
            self._next_xid = _FIRST_XID
        first = self._next_xid
        self._next_xid += count
        return first

    def _chunks(self, bundle: BundleRequest) -> Iterator[bytes]:
        """A bundle up to its close request. Runs in the sending thread."""
        yield messages.bundle_control(BundleControl.OPEN_REQUEST, bundle.bundle_id, bundle.first)
        try:
            for chunk in messages.flow_mod_chunks(bundle.changes, bundle.bundle_id, bundle.first + 1):
                self._progress = self._clock()
                yield chunk
        except (CodecError, struct.error) as error:
            with self._lock:
                if self._current is bundle:
                    self._fail(bundle, str(error))
            return
        yield messages.bundle_control(BundleControl.CLOSE_REQUEST, bundle.bundle_id, bundle.close_xid)

    def flow_reply(self, xid: int, message: bytes, more: bool) -> None:
        """A part of a flow dump. Raises CodecError."""
        with self._lock:
            current = self._current
            if not isinstance(current, DumpRequest) or xid != current.xid:
                return
            current.result.add(message)
            self._progress = self._clock()
            self._check(current.result)
            if more:
                return
            found = current.result
            found.end()
            self._keep(0)
            self._current = None
            self._go_on()
        foreign = tuple(found.foreign_flows)
        said = current.meters.report() if current.meters is not None else None
        answer = FlowsDumped(
            self._dpid, self._session, current.number, found.flows, found.counters, found.foreign, foreign, said
        )
        self._post(answer)

    def _check(self, dump: FlowDump) -> None:
        """Raises CodecError when a dump has become more than a switch can have, or than we can keep."""
        limits = self._limits
        for size, most, unit in (
            (dump.seen, limits.dump_flows, "flows"),
            (dump.read, limits.dump_bytes, "bytes"),
            (dump.kept, limits.dump_kept, "bytes of flows that are not as they shall be"),
        ):
            if size > most:
                raise CodecError(f"its flow dump has more than {most:,} {unit}")
        if not self._keep(dump.kept):
            raise CodecError(f"its flow dump has {dump.kept:,} bytes to keep, and the others' leave no room for them")

    def _keep(self, size: int) -> bool:
        done = self._budget.resize(self._kept, size)
        if done:
            self._kept = size
        return done

    def meter_reply(self, xid: int, kind: int, message: bytes) -> None:
        """A part of what the switch says of its meters. Raises CodecError."""
        with self._lock:
            current = self._current
            if (
                isinstance(current, DumpRequest)
                and current.meters is not None
                and 0 < current.xid - xid <= meter_messages.METER_REQUESTS
            ):
                current.meters.add(kind, message)
                self._progress = self._clock()

    def barrier_reply(self, xid: int) -> None:
        """The switch has done all that came before a barrier."""
        with self._lock:
            current = self._current
            if (
                not isinstance(current, BundleRequest)
                or current.phase is not BundlePhase.METERS
                or xid != current.first - 1
            ):
                return
            self._progress = self._clock()
            if current.error:
                self._fail(current, current.error)
            else:
                self._fill(current)

    def bundle_reply(self, xid: int, message: bytes) -> None:
        """A bundle control reply."""
        if len(message) < messages.OPENFLOW_HEADER.size + _CONTROL.size:
            raise CodecError("a bundle reply ends early")
        _, kind, _ = _CONTROL.unpack_from(message, messages.OPENFLOW_HEADER.size)
        with self._lock:
            current = self._current
            if not isinstance(current, BundleRequest):
                return
            self._progress = self._clock()
            if kind == BundleControl.CLOSE_REPLY and xid == current.close_xid and current.phase is BundlePhase.FILLING:
                current.phase = BundlePhase.COMMITTING
                request = messages.bundle_control(BundleControl.COMMIT_REQUEST, current.bundle_id, current.commit_xid)
                self._outbox.put(request)
                return
            if kind != BundleControl.COMMIT_REPLY or xid != current.commit_xid:
                return
            if current.meters.deletes:
                first = self._take_xids(len(current.meters.deletes))
                self._outbox.put(meter_messages.meter_deletes(current.meters, first))
            self._current = None
            self._go_on()
        self._post(BundleDone(self._dpid, self._session, current.number))

    def error(self, xid: int, message: bytes) -> str:
        """An error message of the switch. Returns why the session must end, or the empty text."""
        text = messages.error_text(message)
        with self._lock:
            current = self._current
            if isinstance(current, DumpRequest) and xid == current.xid:
                return f"the switch refused a flow dump: {text}"
            if isinstance(current, DumpRequest) and 0 < current.xid - xid <= meter_messages.METER_REQUESTS:
                current.meters = None
            if isinstance(current, BundleRequest) and current.meter_xid <= xid < current.first and not current.error:
                about = meter_messages.describe_meter_mod(current.meters, xid - current.meter_xid)
                current.error = f"the switch refused {about}: {text}"
                current.no_meters = meter_messages.is_meter_unsupported(message)
            if isinstance(current, BundleRequest) and current.first <= xid <= current.commit_xid:
                self._progress = self._clock()
                self._bundle_error(current, xid, text)
        return ""

    def _bundle_error(self, bundle: BundleRequest, xid: int, text: str) -> None:
        if not bundle.error:
            bundle.error = self._explain(bundle, xid, text)
        # While committing, OVS first names the flow-mod that failed; the end of it is the error for the commit itself.
        if bundle.phase is BundlePhase.FILLING or xid == bundle.commit_xid:
            self._fail(bundle, bundle.error)

    @staticmethod
    def _explain(bundle: BundleRequest, xid: int, text: str) -> str:
        change = messages.flow_mod_at(bundle.changes, xid - bundle.first - 1) if xid > bundle.first else None
        if change is not None:
            return f"the switch refused to {messages.describe_flow_mod(change)}: {text}"
        step = {bundle.first: "open", bundle.close_xid: "close"}.get(xid, "commit")
        return f"the switch refused to {step} the bundle: {text}"

    def _fail(self, bundle: BundleRequest, reason: str) -> None:
        self._outbox.stop_stream()
        if bundle.phase is BundlePhase.FILLING:
            discard = messages.bundle_control(BundleControl.DISCARD_REQUEST, bundle.bundle_id, bundle.discard_xid)
            self._outbox.put(discard)
        self._current = None
        self._post(BundleFailed(self._dpid, self._session, bundle.number, reason, bundle.no_meters))
        self._go_on()
