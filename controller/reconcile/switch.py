"""One switch as a state machine: dump its flows, compare, commit a bundle, and again after an error.

Theory of operation. What a switch has is known from the switch alone: its dump, and its replies to bundles. One command
at a time is on its way; its answer, an error or a timeout brings the next.

                on_switch_up             DumpFlows                FlowsDumped
    no session -------------> unknown -------------> dumping ------------------> compared
        ^                      ^   ^                  |   ^                        |    ^
        |                      |   |   DumpFailed     |   |   an audit is due      |    |
        | on_switch_down       |   +------------------+   +------------------------+    | BundleDone
        | (from any state)     |       or timeout                  SendBundle      |    |
                               |                                                   v    |
                               +----------------------------------------------- committing
                                      BundleFailed or timeout

- unknown: waits for desired flows (or `request_counters`), and after an error until `retry_at`, later each time;
- dumping: waits for FlowsDumped or DumpFailed. Desired flows may change meanwhile (see `flow_state`);
- compared: realized, or sends the difference. Dumps again at `audit_at`: see `audit_pace`, or soon after FlowsDrifted;
- committing: waits for BundleDone or BundleFailed. What changes meanwhile goes into the next bundle.

Example: a switch connects (unknown), its desired flows are set, DumpFlows 1 is sent (dumping). FlowsDumped 1 says that
two flows are missing (compared); SendBundle 1 adds them (committing). BundleDone 1: `realized` at that revision
(compared).

No input or output here: events come in through methods, commands go out as return values. Times are seconds of a
monotonic clock and are passed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from controller.reconcile.audit_pace import AuditPace
from controller.reconcile.cache_marks import MarkLedger
from controller.reconcile.commands import Command, DumpFlows, FlushConnections, SendBundle
from controller.reconcile.endpoint_flows import udp_endpoints
from controller.reconcile.events import BundleDone, BundleFailed, DumpFailed, FlowsDrifted, FlowsDumped, FlushRefused
from controller.reconcile.flow_state import FlowState
from controller.reconcile.group_state import GroupState
from controller.reconcile.invalid_packets import InvalidLedger
from controller.reconcile.meters import NO_METER_CHANGES, MeterChanges, MeterLedger
from flows.wire.values import NO_FLOW_CHANGES, Body, FlowChanges, FlowCounters, FlowKey, ForeignFlow, GroupBody

FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.5, 30.0
# The shortest time between two dumps of a switch whose flows something else keeps changing.
DRIFT_SECONDS = 1.0
# After this time a command has failed, should its answer be lost: `controller.openflow` ends every command, and every
# session that makes no progress. The largest bundle or dump takes less.
COMMAND_SECONDS = 300.0
# 2^64 over the golden ratio: spreads numbers that follow each other evenly (Knuth, TAOCP 6.4).
_GOLDEN = 0x9E3779B97F4A7C15


@dataclass(slots=True)
class InFlight:
    """A bundle that waits for its reply: flows and groups after it, and the revision of the desired flows that it
    realizes."""

    number: int
    flows: dict[FlowKey, Body | None]
    revision: int
    since: float
    meters: MeterChanges = NO_METER_CHANGES
    cache_marks: FlowChanges = NO_FLOW_CHANGES
    groups: dict[int, GroupBody | None] = field(default_factory=dict)
    repeats_mark: bool = False  # it changes nothing


@dataclass(slots=True)
class Switch:
    """One datapath. `session` is None while no OpenFlow session is up; revisions are -1 where there is none.

    `drifted`: something else changed Headgate's flows since the last dump. `names_only`: the next bundle
    changes what pods learned of domain names, and nothing else. `error` is the last error until a bundle succeeds;
    `failures` counts errors in a row.
    """

    dpid: int
    session: int | None = None
    flows: FlowState = field(default_factory=FlowState)
    groups: GroupState = field(default_factory=GroupState)
    desired_revision: int = -1
    realized_revision: int = -1
    names_only: bool = False
    in_flight: InFlight | None = None
    dumping: bool = False
    dumping_since: float = 0.0
    drifted: bool = False
    drifted_again: bool = False  # while the switch was dumped
    retry_at: float | None = None
    audit_at: float = 0.0
    failures: int = 0
    error: str = ""
    committed_at: float | None = None
    compared_at: float | None = None  # the last dump
    settled_at: float | None = None  # the last commit, one that only repeats the mark included
    bundles_sent: int = 0
    dumps_sent: int = 0
    # Counters of all flows: the next dump requests them, the dump on its way does, and how many answers had them.
    all_counters: bool = False
    dumping_all_counters: bool = False
    full_dumps: int = 0
    # From the last dump.
    counters: Mapping[FlowKey, FlowCounters] = field(default_factory=dict)
    foreign: int = 0
    foreign_flows: tuple[ForeignFlow, ...] = ()
    meters: MeterLedger = field(default_factory=MeterLedger)
    cache_marks: MarkLedger = field(default_factory=MarkLedger)
    invalid: InvalidLedger = field(default_factory=InvalidLedger)
    pace: AuditPace = field(default_factory=AuditPace)  # that of all switches

    # -- desired flows -----------------------------------------------------------------------------------------------

    @property
    def desired(self) -> dict[FlowKey, Body]:
        """The desired flows."""
        return self.flows.desired

    def set_desired(
        self,
        desired: dict[FlowKey, Body],
        changed: Mapping[FlowKey, Body | None],
        revision: int,
        names_only: bool = False,
    ) -> None:
        """The desired flows are these, as of a revision. `changed` are the keys that changed since the last call, with
        the bodies before (None where there was no flow); `names_only`: only flows of what pods learned did.

        `desired` may be the same mapping each time, changed in place. With another one the switch is dumped again.
        Groups are given before, with `set_groups`.
        """
        if desired is not self.flows.desired:
            self.forget_actual()
            self.flows.desired = desired
            self.meters.restart(body.instructions for body in desired.values())
            self.desired_revision = revision
            return
        self.meters.follow(
            (body.instructions, n) for key, before in changed.items()
            for body, n in ((before, -1), (desired.get(key), 1)) if body
        )  # fmt: skip
        # What is on its way may not be desired any more, and differ only once it is there.
        realized = self.in_flight is None and not self.flows.differences
        self.names_only = names_only and (self.names_only or realized)
        if self.flows.dump_is_current or self.dumping:
            self.flows.follow(changed)
        self.desired_revision = revision

    def set_groups(self, desired: dict[int, GroupBody], changed: Mapping[int, GroupBody | None]) -> None:
        """The desired groups are these; `changed` as for `set_desired`, which follows."""
        if desired is not self.groups.desired:
            self.forget_actual()
            self.groups.desired = desired
        elif self.groups.dump_is_current or self.dumping:
            self.groups.follow(changed)

    def release(self, reason: str) -> None:
        """Leave the switch as it is until flows are desired again; `reason` becomes its error."""
        self.flows.desired, self.groups.desired = {}, {}
        self.pace.note(self.dpid, 0)
        self.meters.restart(())
        self.desired_revision = -1
        self.error = reason
        self.forget_actual()

    def start_over(self) -> None:
        """Forget what is desired, known and on its way. The switch keeps its flows."""
        self.release("")
        self.in_flight = None

    def restart(self) -> None:
        """The session has another role: what is known and on its way counts no more, nor do failures."""
        self.in_flight, self.retry_at = None, None
        self.error, self.failures = "", 0
        self.forget_actual()

    def forget_actual(self) -> None:
        """What is known of the switch may be wrong. An answer that is on its way is ignored."""
        self.flows.dump_is_current = self.groups.dump_is_current = False
        self.cache_marks.forget()
        self.dumping = False
        self.realized_revision = -1

    # -- events ------------------------------------------------------------------------------------------------------

    def on_switch_up(self, session: int) -> None:
        """A new OpenFlow session."""
        self.session = session
        self.in_flight = None
        self.retry_at = None
        self.meters.forget()
        self.groups.refused = ""
        self.forget_actual()

    def on_switch_down(self, session: int) -> None:
        """A session ended; ignored where a newer one has replaced it."""
        if self.session == session:
            self.session = None
            self.in_flight = None
            self.dumping = False
            self.realized_revision = -1

    def on_flows_dumped(self, event: FlowsDumped, now: float) -> None:
        """The switch has these flows where they differ from what was desired when the dump was requested."""
        if event.session != self.session or not self.dumping or event.number != self.dumps_sent:
            return
        self.flows.record(self.cache_marks.take(event.flows))
        self.names_only = False
        self.groups.dumped(event.groups, event.flows)
        self.meters.dumped(event.meters)
        self.invalid.dumped(event.counters, self.flows.desired, now)
        self.counters = event.counters
        self.foreign = event.foreign
        self.foreign_flows = event.foreign_flows
        self.dumping, self.compared_at = False, now
        self.pace.note(self.dpid, len(self.desired))
        self.drifted, self.drifted_again = self.drifted_again, False
        self.full_dumps += self.dumping_all_counters
        self.flows.dump_is_current = True
        # Where all counters were requested during this dump, the next one is due now.
        self.audit_at = now if self.all_counters else self._next_audit(now)
        if self.drifted:
            self.audit_at = min(self.audit_at, now + DRIFT_SECONDS)
        self.realized_revision = -1

    def on_flows_drifted(self, event: FlowsDrifted, now: float) -> None:
        """Something else changed flows: dump the switch soon. Until then it is not realized."""
        if event.session != self.session:
            return
        if self.dumping:
            self.drifted_again = True  # the answer may be older than the change
        if event.removed or event.modified or event.added or event.unknown:
            self.drifted = True
        earliest = self.dumping_since + DRIFT_SECONDS if self.dumps_sent else now
        self.audit_at = min(self.audit_at, max(now, earliest))

    def on_dump_failed(self, event: DumpFailed, now: float) -> None:
        """A dump failed."""
        if event.session == self.session and self.dumping and event.number == self.dumps_sent:
            self.fail(event.reason, now)

    def on_bundle_done(self, event: BundleDone, now: float) -> None:
        """The switch has committed a bundle."""
        bundle = self.in_flight
        if event.session != self.session or bundle is None or bundle.number != event.number:
            return
        self.in_flight = None
        self.meters.note_ended(event.ended)
        if not self.flows.dump_is_current:
            return
        self.settled_at = now
        if bundle.repeats_mark:
            self.cache_marks.done_again(now)
            return
        self.meters.done(bundle.meters)
        self.cache_marks.done(bundle.cache_marks, now)
        self.flows.record(bundle.flows)
        self.groups.record(bundle.groups)
        self.realized_revision = bundle.revision
        self.failures = 0
        self.error = ""
        self.committed_at = now

    def on_bundle_failed(self, event: BundleFailed, now: float) -> None:
        """A bundle failed. The next dump says whether some of it is there."""
        if event.session != self.session or self.in_flight is None or self.in_flight.number != event.number:
            return
        if event.no_meters:
            self.meters.refused = event.reason
        self.fail(event.reason, now)

    def on_flush_refused(self, event: FlushRefused) -> None:
        """The switch cannot flush connections: it is not asked again in this session."""
        if event.session == self.session:
            self.groups.refused = event.reason

    def fail(self, reason: str, now: float) -> None:
        """Whatever was on its way has failed: dump the switch again, later each time in a row."""
        self.in_flight = None
        self.forget_actual()
        self.error = reason
        self.retry_at = now + min(FIRST_RETRY_SECONDS * 2 ** min(self.failures, 10), LONGEST_RETRY_SECONDS)
        self.failures += 1

    # -- questions ---------------------------------------------------------------------------------------------------

    def actual_flows(self) -> Iterator[tuple[FlowKey, Body]] | None:
        """The flows on the switch; None when they are not known."""
        return self.flows.actual()

    @property
    def actual_count(self) -> int | None:
        """How many of Headgate's flows are on the switch; None when that is not known."""
        return self.flows.actual_count

    @property
    def realized(self) -> bool:
        """Whether the switch is known to have exactly the desired flows."""
        if self.session is None or self.drifted or (self.in_flight is not None and not self.in_flight.repeats_mark):
            return False
        return 0 <= self.desired_revision <= self.realized_revision

    # -- commands ----------------------------------------------------------------------------------------------------

    def request_counters(self) -> None:
        """Let the next `next_commands` dump the switch, with the counters of all flows."""
        self.audit_at = 0.0
        self.all_counters = True

    def due_at(self) -> float | None:
        """When `next_commands` has something to do although no event comes; None if never."""
        if self.session is None:
            return None
        if self.in_flight is not None or self.dumping:
            return self._command_since() + COMMAND_SECONDS
        if self.desired_revision < 0 and not self.all_counters:
            return None
        if not self.flows.dump_is_current:
            return self.retry_at
        repeat_at = self.cache_marks.repeat_at
        return self.audit_at if repeat_at is None else min(self.audit_at, repeat_at)

    def _command_since(self) -> float:
        return self.in_flight.since if self.in_flight is not None else self.dumping_since

    def _next_audit(self, now: float) -> float:
        """Each switch has its own time within the interval, so that they are not all dumped at once."""
        interval = self.pace.interval
        phase = (self.dpid * _GOLDEN % 2**64) / 2**64 * interval
        return now + interval - (now - phase) % interval

    def next_commands(self, now: float, may_send: bool) -> list[Command]:
        """What to send now. Without `may_send` only dumps."""
        if self.session is None:
            return []
        if self.in_flight is not None or self.dumping:
            if now - self._command_since() < COMMAND_SECONDS:
                return []
            command = "bundle" if self.in_flight is not None else "flow dump"
            self.fail(f"the {command} was neither answered nor given up within {COMMAND_SECONDS:g} s", now)
        if self.desired_revision < 0 and not self.all_counters:
            return []  # nothing to compare with yet, and no counters requested
        if self.groups.needed and not self.groups.dump_is_current:
            self.forget_actual()  # the last dump did not ask for groups
        if not self.flows.dump_is_current:
            if self.retry_at is not None and now < self.retry_at:
                return []
            return self._dump(now)
        if may_send and self.realized_revision < self.desired_revision:
            command_to_send = self._bundle(now)
            if command_to_send is not None:
                return [command_to_send]
        if may_send and self.cache_marks.repeat_at is not None and now >= self.cache_marks.repeat_at:
            return [*self._flush(), *self._repeat_mark(now)]
        return self._flush() + (self._dump(now) if now >= self.audit_at else [])

    def _flush(self) -> list[Command]:
        stale = self.groups.take_stale() if self.groups.stale else ()
        return [FlushConnections(self.dpid, self.session, stale)] if stale and self.session is not None else []

    def _dump(self, now: float) -> list[Command]:
        if self.session is None:
            return []
        self.retry_at = None
        self.dumping, self.dumping_since = True, now
        self.dumps_sent += 1
        self.dumping_all_counters, self.all_counters = self.all_counters, False
        desired, groups = self.flows.start_dump(), self.groups.request()
        return [DumpFlows(self.dpid, self.session, self.dumps_sent, desired, self.dumping_all_counters, groups)]

    def _repeat_mark(self, now: float) -> list[Command]:
        """Write the mark once more: see `flows.render.cache_marks`."""
        if self.session is None:
            return []
        self.bundles_sent += 1
        self.in_flight = InFlight(self.bundles_sent, {}, self.realized_revision, now, repeats_mark=True)
        again = self.cache_marks.again()
        return [SendBundle(self.dpid, self.session, self.bundles_sent, NO_FLOW_CHANGES, cache_marks=again)]

    def _bundle(self, now: float) -> Command | None:
        """The difference as one bundle; None when there is none: then the switch is realized already."""
        changes, flows_after = self.flows.bundle_changes()
        groups, groups_after = self.groups.changes(udp_endpoints(self.flows.differences, self.flows.desired))
        meters, cache_marks = self.meters.changes(), self.cache_marks.next(changes, always=bool(groups))
        if not (changes or meters or cache_marks or groups) or self.session is None:
            self.realized_revision = self.desired_revision
            self.failures = 0
            self.error = ""
            return None
        self.bundles_sent += 1
        number, revision = self.bundles_sent, self.desired_revision
        self.in_flight = InFlight(number, flows_after, revision, now, meters, cache_marks, groups_after)
        names_only, self.names_only = self.names_only and not (meters or groups), True
        return SendBundle(self.dpid, self.session, number, changes, meters, cache_marks, groups, names_only)
