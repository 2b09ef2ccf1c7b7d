"""One switch as a state machine: connect, dump, compare, commit, and again after an error.

What is believed to be on the switch comes from the switch: its dump and its commit replies. No input or output here:
events come in through methods, commands go out as return values, time is passed in as seconds of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

from controller.reconcile.cache_marks import MarkLedger
from controller.reconcile.commands import Command, DumpFlows, SendBundle
from controller.reconcile.events import BundleDone, BundleFailed, DumpFailed, FlowsDisturbed, FlowsDumped
from controller.reconcile.invalid_packets import InvalidLedger
from controller.reconcile.meters import NO_METER_CHANGES, MeterChanges, MeterLedger
from flows.wire.values import (
    NO_FLOW_CHANGES,
    Body,
    FlowChanges,
    FlowCounters,
    FlowKey,
    ForeignFlow,
    WireFlow,
    wire_flow,
)

FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.5, 30.0
# Counters are read, and flows compared though nobody said that they changed, this often.
AUDIT_SECONDS = 60.0
# A switch whose flows others change is asked at once; when they go on, no more often than this.
DISTURBED_SECONDS = 1.0
# Whoever carries out a command says how it ended, and gives up on a switch that makes no progress. Should that be lost,
# this ends it: longer than the largest bundle or dump takes.
COMMAND_SECONDS = 300.0
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: what follows each other is spread (Knuth, 6.4)

Flows = dict[FlowKey, Body]
Differences = dict[FlowKey, Body | None]


@dataclass(slots=True)
class InFlight:
    """A bundle that waits for its reply: what it changes, and the revision of the world it brings into force."""

    number: int
    changes: Differences
    revision: int
    since: float
    meters: MeterChanges = NO_METER_CHANGES
    marks: FlowChanges = NO_FLOW_CHANGES


@dataclass(slots=True)
class Switch:
    """What is known and wanted of one datapath. `session` is None while no OpenFlow connection is up."""

    dpid: int
    session: int | None = None
    desired: Flows = field(default_factory=dict)
    # What the switch has where that is not as desired, None for no flow. There is no other copy of what a switch has,
    # for as a rule that is what it shall have. While it is asked, these are the changes since; else they mean nothing
    # unless `known`.
    differs: Differences = field(default_factory=dict)
    known: bool = False
    counters: Mapping[FlowKey, FlowCounters] = field(default_factory=dict)
    foreign: int = 0
    foreign_flows: tuple[ForeignFlow, ...] = ()
    # Others have changed flows of ours since the switch was asked last, and while it was answering.
    disturbed: bool = False
    disturbed_again: bool = False
    wanted_revision: int = -1
    realized_revision: int = -1
    in_flight: InFlight | None = None
    dumping: bool = False
    dumping_since: float = 0.0
    retry_at: float | None = None
    audit_at: float = 0.0
    failures: int = 0
    error: str = ""
    committed_at: float | None = None
    bundles: int = 0
    dumps_asked: int = 0
    full_dumps: int = 0  # answers with the counters of all flows
    all_counters: bool = False  # the next dump shall have those
    dumping_all: bool = False
    meters: MeterLedger = field(default_factory=MeterLedger)
    marks: MarkLedger = field(default_factory=MarkLedger)
    invalid: InvalidLedger = field(default_factory=InvalidLedger)

    def up(self, session: int) -> None:
        """A new OpenFlow session: whatever was believed is forgotten, the switch will be asked."""
        self.session = session
        self.in_flight = None
        self.retry_at = None
        self.meters.forget()
        self.forget()

    def start_over(self) -> None:
        """Nothing that was planned, believed or on its way counts any more. The switch keeps what it has."""
        self.hold("")
        self.in_flight = None

    def hold(self, reason: str) -> None:
        """Leave the switch as it is until something is wanted of it again."""
        self.desired = {}
        self.meters.restart(())
        self.wanted_revision = -1
        self.error = reason
        self.forget()

    def forget(self) -> None:
        """What is believed of the switch may be wrong; an answer that is on its way comes too late."""
        self.known = False
        self.dumping = False
        self.realized_revision = -1

    def down(self, session: int) -> None:
        """The session ended, unless a newer one has taken its place already."""
        if self.session == session:
            self.session = None
            self.in_flight = None
            self.dumping = False
            self.realized_revision = -1

    def want(self, desired: Flows, changed: Mapping[FlowKey, Body | None], revision: int) -> None:
        """These flows shall be on the switch as of this revision of the world; `changed` since the last call have what
        they were then, None where there was no flow.

        `desired` may be the same mapping every time, changed in place; with another one all that was believed is
        forgotten.
        """
        if desired is not self.desired:
            self.forget()
            self.desired = desired
            self.meters.restart(body.instructions for body in desired.values())
            self.wanted_revision = revision
            return
        for key, before in changed.items():
            self.meters.follow((body.instructions, n) for body, n in ((before, -1), (desired.get(key), 1)) if body)
        if self.known or self.dumping:
            for key, before in changed.items():
                held = self.differs.setdefault(key, before)
                if held == desired.get(key):
                    del self.differs[key]
        self.wanted_revision = revision

    def dumped(self, event: FlowsDumped, now: float) -> None:
        """The switch has said what it has, where that is not as it was desired when it was asked."""
        if event.session != self.session or not self.dumping or event.number != self.dumps_asked:
            return
        self._hold(self.marks.take(event.flows))
        self.meters.dumped(event.meters)
        self.invalid.dumped(event.counters, self.desired, now)
        self.counters = event.counters
        self.foreign = event.foreign
        self.foreign_flows = event.foreign_flows
        self.dumping = False
        self.disturbed, self.disturbed_again = self.disturbed_again, False
        self.full_dumps += self.dumping_all
        self.known = True
        # All counters that were asked for while few were on their way are asked for now.
        self.audit_at = now if self.all_counters else self._next_audit(now)
        if self.disturbed:
            self.audit_at = min(self.audit_at, now + DISTURBED_SECONDS)
        self.realized_revision = -1

    def disturb(self, event: FlowsDisturbed, now: float) -> None:
        """Others have changed flows: ask the switch what it has. Until it says so, what is believed may be wrong."""
        if event.session != self.session:
            return
        if self.dumping:
            self.disturbed_again = True  # the answer may be older than the change
        if event.removed or event.modified or event.added or event.unknown:
            self.disturbed = True
        pause = self.dumping_since + DISTURBED_SECONDS if self.dumps_asked else now
        self.audit_at = min(self.audit_at, max(now, pause))

    def _next_audit(self, now: float) -> float:
        """Each switch has its own time within the interval, so that they do not all answer at once."""
        phase = (self.dpid * _GOLDEN % 2**64) / 2**64 * AUDIT_SECONDS
        return now + AUDIT_SECONDS - (now - phase) % AUDIT_SECONDS

    def _hold(self, flows: Mapping[FlowKey, Body | None]) -> None:
        """The switch has these."""
        for key, body in flows.items():
            if self.desired.get(key) == body:
                self.differs.pop(key, None)
            else:
                self.differs[key] = body

    def actual_flows(self) -> Iterator[tuple[FlowKey, Body]] | None:
        """What the switch is believed to have; None when that is not known."""
        if not self.known:
            return None
        same = ((key, body) for key, body in self.desired.items() if key not in self.differs)
        return chain(same, ((key, body) for key, body in self.differs.items() if body is not None))

    @property
    def actual_count(self) -> int | None:
        """How many flows of ours the switch is believed to have; None when that is not known."""
        if not self.known:
            return None
        there = sum(body is not None for body in self.differs.values())
        return len(self.desired) - len(self.desired.keys() & self.differs.keys()) + there

    def done(self, event: BundleDone, now: float) -> None:
        """The switch has committed: its flows are what it had, changed as we asked."""
        flight = self.in_flight
        if event.session != self.session or flight is None or flight.number != event.number:
            return
        self.in_flight = None
        if not self.known:
            return
        self.meters.done(flight.meters)
        self.marks.done(flight.marks)
        self._hold(flight.changes)
        self.realized_revision = flight.revision
        self.failures = 0
        self.error = ""
        self.committed_at = now

    def failed(self, event: BundleFailed, now: float) -> None:
        """Nothing of the bundle is in force. Ask the switch again what it has, later each time."""
        if event.session != self.session or self.in_flight is None or self.in_flight.number != event.number:
            return
        if event.no_meters:
            self.meters.refused = event.reason
        self.trip(event.reason, now)

    def dump_failed(self, event: DumpFailed, now: float) -> None:
        """The switch was not asked."""
        if event.session == self.session and self.dumping and event.number == self.dumps_asked:
            self.trip(event.reason, now)

    def trip(self, reason: str, now: float) -> None:
        """Whatever was on its way has failed. Ask the switch again what it has, later each time."""
        self.in_flight = None
        self.forget()
        self.error = reason
        self.retry_at = now + min(FIRST_RETRY_SECONDS * 2 ** min(self.failures, 10), LONGEST_RETRY_SECONDS)
        self.failures += 1

    def request_counters(self) -> None:
        """Let the next `next` ask the switch what it has, for fresh counters of all flows."""
        self.audit_at = 0.0
        self.all_counters = True

    @property
    def realized(self) -> bool:
        """True when the switch is known to have exactly what it shall have."""
        if self.session is None or self.in_flight is not None or self.disturbed:
            return False
        return 0 <= self.wanted_revision <= self.realized_revision

    def due(self) -> float | None:
        """When this switch wants to be asked again, if time alone can bring that about."""
        if self.session is None:
            return None
        if self.in_flight is not None or self.dumping:
            return self._since() + COMMAND_SECONDS
        if self.wanted_revision < 0 and not self.all_counters:
            return None
        return self.audit_at if self.known else self.retry_at

    def _since(self) -> float:
        return self.in_flight.since if self.in_flight is not None else self.dumping_since

    def next(self, now: float, may_send: bool) -> list[Command]:
        """What to do now. With `may_send` False only reading is allowed."""
        if self.session is None:
            return []
        if self.in_flight is not None or self.dumping:
            if now - self._since() < COMMAND_SECONDS:
                return []
            what = "a bundle" if self.in_flight is not None else "a flow dump"
            self.trip(f"nobody said how {what} ended within {COMMAND_SECONDS:g} s", now)
        if self.wanted_revision < 0 and not self.all_counters:
            return []  # until it is known what is wanted, nobody but who asked has to do with what is there
        if not self.known:
            if self.retry_at is not None and now < self.retry_at:
                return []
            return self._dump(now)
        if may_send and self.realized_revision < self.wanted_revision:
            command = self._send(now)
            if command is not None:
                return [command]
        return self._dump(now) if now >= self.audit_at else []

    def _dump(self, now: float) -> list[Command]:
        if self.session is None:
            return []
        self.retry_at = None
        self.dumping, self.dumping_since = True, now
        # From here on the differences are those to what was desired at this moment.
        self.known = self.known and not self.differs
        self.differs = {}
        self.dumps_asked += 1
        self.dumping_all, self.all_counters = self.all_counters, False
        # The mapping itself changes while the switch answers, in the thread that compares.
        return [DumpFlows(self.dpid, self.session, self.dumps_asked, dict(self.desired), self.dumping_all)]

    def _send(self, now: float) -> Command | None:
        """The difference as one bundle, or nothing when there is none: then the switch is realized as it stands."""
        missing: list[WireFlow] = []
        different: list[WireFlow] = []
        superfluous: list[WireFlow] = []
        then: Differences = {}
        for key, held in self.differs.items():
            body = then[key] = self.desired.get(key)
            if body is not None and held is not None and body.cookie == held.cookie:
                different.append(wire_flow(key, body))
                continue
            # A modify keeps the cookie, so a flow with another one goes and comes.
            if held is not None:
                superfluous.append(wire_flow(key, held))
            if body is not None:
                missing.append(wire_flow(key, body))
        changes, meters = FlowChanges(tuple(missing), tuple(different), tuple(superfluous)), self.meters.changes()
        marks = self.marks.next(changes)
        if not (changes or meters or marks) or self.session is None:
            self.realized_revision = self.wanted_revision
            self.failures = 0
            self.error = ""
            return None
        self.bundles += 1
        self.in_flight = InFlight(self.bundles, then, self.wanted_revision, now, meters, marks)
        return SendBundle(self.dpid, self.session, self.bundles, changes, meters, marks)
