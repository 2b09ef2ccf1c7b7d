"""One switch as a state machine: connect, dump, compare, commit, and again after an error.

What is believed to be on the switch comes from the switch: its dump and its commit replies. No input or output here:
events come in through methods, commands go out as return values, time is passed in as seconds of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.reconcile.events import (
    BundleDone,
    BundleFailed,
    Changes,
    Command,
    DumpFlows,
    FlowCounters,
    FlowKey,
    FlowsDumped,
    SendBundle,
    WireFlow,
)
from flows.diff import differ

FIRST_RETRY, LONGEST_RETRY = 0.5, 30.0
# Flows that somebody deleted by hand come back, and counters are read, this often.
AUDIT_SECONDS = 60.0

Flows = dict[FlowKey, WireFlow]


@dataclass(slots=True)
class InFlight:
    """A bundle that waits for its reply, and the revision of the world it brings into force."""

    number: int
    changes: Changes
    revision: int


@dataclass(slots=True)
class Switch:
    """What is known and wanted of one datapath. `session` is None while no OpenFlow connection is up."""

    dpid: int
    session: int | None = None
    desired: Flows = field(default_factory=dict)
    actual: Flows | None = None
    unsent: set[FlowKey] = field(default_factory=set)
    compared: bool = False
    counters: Mapping[FlowKey, FlowCounters] = field(default_factory=dict)
    foreign: int = 0
    wanted_revision: int = -1
    realized_revision: int = -1
    in_flight: InFlight | None = None
    dumping: bool = False
    retry_at: float | None = None
    audit_at: float = 0.0
    failures: int = 0
    error: str = ""
    committed_at: float | None = None
    bundles: int = 0
    dumps: int = 0

    def up(self, session: int) -> None:
        """A new OpenFlow session: whatever was believed is forgotten, the switch will be asked."""
        self.session = session
        self.actual = None
        self.in_flight = None
        self.dumping = False
        self.retry_at = None
        self.realized_revision = -1

    def down(self, session: int) -> None:
        """The session ended, unless a newer one has taken its place already."""
        if self.session == session:
            self.session = None
            self.in_flight = None
            self.dumping = False
            self.realized_revision = -1

    def want(self, desired: Flows, changed: set[FlowKey], revision: int) -> None:
        """These flows shall be on the switch as of this revision of the world; `changed` since the last call differ.

        `desired` may be the same mapping every time, changed in place.
        """
        self.desired = desired
        self.unsent.update(changed)
        self.wanted_revision = revision

    def dumped(self, event: FlowsDumped, now: float) -> None:
        """The switch has said what it has."""
        if event.session != self.session or self.in_flight is not None:
            return
        self.actual = dict(event.flows)
        self.counters = event.counters
        self.foreign = event.foreign
        self.dumping = False
        self.dumps += 1
        self.compared = False
        self.audit_at = now + AUDIT_SECONDS
        self.realized_revision = -1

    def done(self, event: BundleDone, now: float) -> None:
        """The switch has committed: its flows are what it had, changed as we asked."""
        flight = self.in_flight
        if event.session != self.session or flight is None or flight.number != event.number or self.actual is None:
            return
        for gone in flight.changes.deletes:
            self.actual.pop((gone.table, gone.priority, gone.match), None)
        for flow in (*flight.changes.adds, *flight.changes.modifies):
            self.actual[flow.table, flow.priority, flow.match] = flow
        self.realized_revision = flight.revision
        self.in_flight = None
        self.failures = 0
        self.error = ""
        self.committed_at = now

    def failed(self, event: BundleFailed, now: float) -> None:
        """Nothing of the bundle is in force. Ask the switch again what it has, later each time."""
        if event.session != self.session or self.in_flight is None or self.in_flight.number != event.number:
            return
        self.in_flight = None
        self.actual = None
        self.error = event.reason
        self.retry_at = now + min(FIRST_RETRY * 2**self.failures, LONGEST_RETRY)
        self.failures += 1

    def ask(self) -> None:
        """Let the next `next` ask the switch what it has, for fresh counters."""
        self.audit_at = 0.0

    @property
    def realized(self) -> bool:
        """True when the switch is known to have exactly what it shall have."""
        if self.session is None or self.in_flight is not None:
            return False
        return 0 <= self.wanted_revision <= self.realized_revision

    def due(self) -> float | None:
        """When this switch wants to be asked again, if time alone can bring that about."""
        if self.session is None or self.in_flight is not None or self.dumping:
            return None
        return self.audit_at if self.actual is not None else self.retry_at

    def next(self, now: float, may_send: bool) -> list[Command]:
        """What to do now. With `may_send` False only reading is allowed."""
        if self.session is None or self.in_flight is not None or self.dumping:
            return []
        if self.actual is None:
            if self.retry_at is not None and now < self.retry_at:
                return []
            return self._dump()
        if may_send and self.realized_revision < self.wanted_revision:
            command = self._send(self.actual)
            if command is not None:
                return [command]
        return self._dump() if now >= self.audit_at else []

    def _dump(self) -> list[Command]:
        if self.session is None:
            return []
        self.retry_at = None
        self.dumping = True
        return [DumpFlows(self.dpid, self.session)]

    def _send(self, actual: Flows) -> Command | None:
        """The difference as one bundle, or nothing when there is none: then the switch is realized as it stands."""
        desired: Mapping[FlowKey, WireFlow] = self.desired
        known: Mapping[FlowKey, WireFlow] = actual
        if self.compared:
            # The rest is known to be equal: the switch has committed it, or its dump was compared already.
            desired = {key: desired[key] for key in self.unsent if key in desired}
            known = {key: actual[key] for key in self.unsent if key in actual}
        missing, different, superfluous = differ(desired, known)
        self.unsent = set()
        self.compared = True
        changes = Changes(
            tuple(self.desired[key] for key in missing),
            tuple(self.desired[key] for key in different),
            tuple(actual[key] for key in superfluous),
        )
        if not changes or self.session is None:
            self.realized_revision = self.wanted_revision
            self.failures = 0
            self.error = ""
            return None
        self.bundles += 1
        self.in_flight = InFlight(self.bundles, changes, self.wanted_revision)
        return SendBundle(self.dpid, self.session, self.bundles, changes)
