"""The reconciler: every event changes the world or a switch's state, then each switch is asked what comes next.

Without input or output: `handle` takes events and the time and returns commands. A test can drive it with nothing but
values. Nothing that raises below goes past `handle`: it is contained at the object, port, bridge or switch that it
concerns, `contained_errors` names it, and the others go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from controller.reconcile.cache_marks import CacheMarks, MarkLedger
from controller.reconcile.commands import Command, ForgetOvsdb, ProbeNode, ServePeer, WriteMarks
from controller.reconcile.disconnected_ovsdbs import DisconnectedOvsdbs
from controller.reconcile.events import (
    BridgeChanged,
    BridgeGone,
    BundleDone,
    BundleFailed,
    ClusterChanged,
    DumpFailed,
    Event,
    FlowsDisturbed,
    FlowsDumped,
    MarksFailed,
    MarksWritten,
    NodeAnswered,
    OvsdbPeer,
    OvsdbState,
    SwitchDown,
    SwitchUp,
    Tick,
)
from controller.reconcile.meters import MeterLedger
from controller.reconcile.port_marks import PortLedger
from controller.reconcile.problem import Problem
from controller.reconcile.switch import Switch
from flows.bridge.claim_contest import BridgeName
from flows.pipeline.pod_limits import NO_RATES, Rates
from flows.plan.rejected_objects import describe_error
from flows.plan.world import World
from flows.render.cache_marks import needs_marks
from flows.wire.values import Body

OpenFlowEvent = (
    SwitchUp | SwitchDown | FlowsDumped | FlowsDisturbed | DumpFailed | BundleDone | BundleFailed | NodeAnswered
)
OvsdbEvent = BridgeChanged | BridgeGone | OvsdbPeer | OvsdbState | MarksWritten | MarksFailed

# How long the first computation waits for switches that may still have to tell addresses that no Pod's status has.
STARTUP_WAIT_SECONDS = 5.0
# A world that could not be planned at all is tried again after this time, though nothing changed.
REPLAN_SECONDS = 5.0
MOST_CONTAINED_ERRORS = 100  # that are named at a time


class Reconciler:
    """Holds the world and the switches.

    `expected` names the OVSDBs that must have been read before anything is sent; `more_may_come` says that switches
    nobody named may still call; `rates` is what one pod may send of what meters limit; `bridges` are the names of those
    that are ours.
    """

    def __init__(
        self,
        expected: Iterable[str],
        now: float,
        more_may_come: bool = False,
        rates: Rates = NO_RATES,
        bridges: Iterable[str] = (),
    ) -> None:
        self.world = World()
        self._cache_marks = CacheMarks(self.world.flow_encoder)
        self.switches: dict[int, Switch] = {}
        self.ports = PortLedger()
        self.problems: tuple[Problem, ...] = ()
        self.generation = 0
        self.revision = 0
        self.ovsdb: dict[str, OvsdbState] = {}
        self.contained_errors: dict[
            str, str
        ] = {}  # what raised where nothing smaller could be named: by what it concerned
        self._expected = frozenset(expected)
        self._more_may_come = more_may_come
        self._rates = rates
        self._names = ", ".join(bridges)
        self._started = now
        self._settled = False
        self._stale = False  # the world has changed since the plans were made
        self._replan_at: float | None = None
        self._serving: dict[BridgeName, int] = {}  # bridges whose switches are told what is wanted, by datapath id
        self._active: set[int] = set()  # switches that something happened to
        self._marked: dict[int, int] = {}  # the revision that was in force when ports were marked last
        self._unmarked: set[BridgeName] = set()
        self._unmarkable: set[BridgeName] = set()  # bridges where that failed; they are tried again
        self._away = DisconnectedOvsdbs(self._expected)
        self._besides: list[ForgetOvsdb | ProbeNode] = []  # commands that no switch waits for

    def handle(self, events: Iterable[Event], now: float) -> list[Command]:
        """Take all events, then say what is to be done. Events that arrived together cost one computation.

        Never raises. Where the events' computation fails as a whole, everything is computed anew once, the events are
        taken one by one, and after each one that fails everything is computed anew again.
        """
        together = list(events)
        try:
            return self._handle(together, now)
        except Exception as error:  # noqa: BLE001 - policy is enforced for as long as this lives
            self._blame("events", error)
            self.start_over()
        commands: list[Command] = []
        for event in together:
            try:
                commands += self._handle([event], now)
            except Exception as error:  # noqa: BLE001 - as above
                self._blame(_concerned(event), error)
                self.start_over()
        return commands

    def _handle(self, events: Sequence[Event], now: float) -> list[Command]:
        failed = [event for event in events if not self._is_taken(event, now)]
        if failed:
            self.start_over()
        may_send = self._may_send(now)
        if may_send and (self._stale or self._is_due(now)):
            self._plan(now)
        elif not may_send:
            self.world.decide_served(now)
        active, self._active = self._active, set()
        commands: list[Command] = [ServePeer(*one) for one in sorted(self.world.owners.take_replacing_peers().items())]
        for dpid in sorted(active & self.switches.keys()):
            name = self.bridge_of(dpid)
            if name is not None:
                commands.extend(self._next(self.switches[dpid], name, now, may_send))
        besides, self._besides = self._besides, []
        return commands + besides + self._installed(now)

    def _is_taken(self, event: Event, now: float) -> bool:
        """Take one event; False where that failed."""
        if self.contained_errors:
            self.contained_errors.pop(_concerned(event), None)
            self.contained_errors.pop("events", None)
        try:
            self._take(event, now)
        except Exception as error:  # noqa: BLE001 - one event must not keep the others from being taken
            self._blame(_concerned(event), error)
            return False
        return True

    def _blame(self, what: str, error: Exception) -> None:
        self.contained_errors.pop(what, None)
        self.contained_errors[what] = describe_error(error)
        while len(self.contained_errors) > MOST_CONTAINED_ERRORS:
            del self.contained_errors[next(iter(self.contained_errors))]

    def _next(self, switch: Switch, name: BridgeName, now: float, may_send: bool) -> list[Command]:
        """What one switch is asked or told now."""
        try:
            commands = switch.next_commands(now, may_send)
        except Exception as error:  # noqa: BLE001 - it concerns this switch and no other
            switch.fail(describe_error(error), now)
            return []
        if switch.realized and self._marked.get(switch.dpid) != switch.realized_revision:
            self._marked[switch.dpid] = switch.realized_revision
            self._unmarked.add(name)
        return commands

    def start_over(self) -> None:
        """Compute everything anew from the cluster and the bridges: something that was kept may be wrong. Nothing is in
        flight afterwards, and no switch is told anything before it was asked what it has."""
        self._stale = True
        for switch in self.switches.values():
            switch.start_over()
        self._active.update(self.switches)
        self._serving.clear()
        try:
            self.world.start_over()
        except Exception as error:  # noqa: BLE001 - then there are no plans, and nothing is sent
            self._blame("the cluster", error)

    def due(self, now: float) -> float | None:
        """Seconds until `handle` should be called even if nothing happens, or None."""
        times = [t for t in (switch.due_at() for switch in self.switches.values()) if t is not None]
        if not self._settled and self.world.cluster is not None:
            times.append(self._started + STARTUP_WAIT_SECONDS)
        times += [t for t in (self._replan_at, self.world.retry_at()) if t is not None and self._settled]
        return max(0.0, min(times) - now) if times else None

    def _is_due(self, now: float) -> bool:
        """Whether time alone makes plans anew: something failed, or a claim has waited long enough."""
        times = [t for t in (self._replan_at, self.world.retry_at()) if t is not None]
        return bool(times and min(times) <= now) or self.world.owners.is_waiting()

    # -- events ------------------------------------------------------------------------------------------------------

    def _take(self, event: Event, now: float) -> None:
        if isinstance(event, ClusterChanged):
            self.problems = event.problems
            self.generation = max(self.generation, event.generation)
            self._stale |= self.world.set_cluster(event.cluster, event.touched)
        elif isinstance(event, OvsdbEvent):
            self._take_ovsdb(event, now)
        elif isinstance(event, Tick):
            self._active.update(self.switches)
            self._look_at_clocks(now)
        else:
            self._active.add(event.dpid)
            try:
                self._take_openflow(event, now)
            except Exception as error:  # noqa: BLE001 - it concerns this switch and no other
                self._blame(_concerned(event), error)
                if event.dpid in self.switches:
                    self.switches[event.dpid].fail(describe_error(error), now)

    def _take_ovsdb(self, event: OvsdbEvent, now: float) -> None:
        if isinstance(event, BridgeChanged):
            self._away.heard(event.bridge.ovsdb)
            self.ports.see(event.bridge, now)
            self._stale |= self.world.set_bridge(event.bridge, now)
            self._unmarked.add((event.bridge.ovsdb, event.bridge.name))
        elif isinstance(event, BridgeGone):
            self._remove((event.ovsdb, event.name))
        elif isinstance(event, OvsdbPeer):
            self.world.owners.set_peer(event.ovsdb, event.peer)
            self._stale = True
        elif isinstance(event, OvsdbState):
            self.ovsdb[event.ovsdb] = event
            self._away.state(event, now)
            self.world.owners.set_away(event.ovsdb, not event.synced)
            self._stale = True
            self._ask_for_marks(event.ovsdb)
        elif isinstance(event, MarksWritten):
            self.ports.written(event.ovsdb, event.interfaces)
        else:
            self.ports.failed(event.ovsdb, event.interfaces, now)

    def _remove(self, name: BridgeName) -> None:
        self.ports.gone(*name)
        self.world.remove_bridge(name)
        self._stale = True

    def _ask_for_marks(self, ovsdb: str) -> None:
        self.ports.forget_requests(ovsdb)
        self._unmarked.update(self.world.bridges_of(ovsdb))

    def _look_at_clocks(self, now: float) -> None:
        """What time alone brings about, apart from the switches' own clocks."""
        self._unmarked |= self._unmarkable
        self._unmarkable = set()
        for ovsdb in self.ports.overdue(now):
            self._ask_for_marks(ovsdb)
        for ovsdb in self._away.forgotten(now, self._has_session, self.world.owners.is_replaced):
            for name in self.world.bridges_of(ovsdb):
                self._remove(name)
            self.ovsdb.pop(ovsdb, None)
            self.ports.forget_requests(ovsdb)
            self.world.owners.forget(ovsdb)
            self._besides.append(ForgetOvsdb(ovsdb))

    def _has_session(self, ovsdb: str) -> bool:
        """Whether the switch of some bridge of an OVSDB is served over OpenFlow at this moment."""
        switches = (self.switch_of(name) for name in self.world.bridges_of(ovsdb))
        return any(switch is not None and switch.session is not None for switch in switches)

    def _take_openflow(self, event: OpenFlowEvent, now: float) -> None:
        if isinstance(event, SwitchUp):
            self._switch(event.dpid).on_switch_up(event.session)
            self._connected(event, now)
            if answered := self.world.answered.get(event.dpid):
                self._besides.append(ProbeNode(event.dpid, event.session, answered))
            return
        switch = self.switches.get(event.dpid)
        if switch is None:
            return
        if isinstance(event, SwitchDown):
            if switch.session == event.session:
                self._connected(event, now)
            switch.on_switch_down(event.session)
            self._drop_unused(event.dpid)
        elif isinstance(event, FlowsDumped):
            switch.on_flows_dumped(event, now)
        elif isinstance(event, FlowsDisturbed):
            switch.on_flows_disturbed(event, now)
        elif isinstance(event, DumpFailed):
            switch.on_dump_failed(event, now)
        elif isinstance(event, BundleDone):
            switch.on_bundle_done(event, now)
        elif isinstance(event, NodeAnswered):
            if switch.session == event.session:
                self._stale |= self.world.set_answered(event.dpid, event.addresses)
        else:
            switch.on_bundle_failed(event, now)
        if event.dpid in self.switches:
            self._stale |= self.world.set_metered(event.dpid, switch.meters.kinds)

    def _switch(self, dpid: int) -> Switch:
        if dpid not in self.switches:
            self.switches[dpid] = Switch(dpid, meters=MeterLedger(self._rates), marks=MarkLedger(self._cache_marks))
        return self.switches[dpid]

    def _connected(self, event: SwitchUp | SwitchDown, now: float) -> None:
        self.world.owners.set_session(event.dpid, event.peer if isinstance(event, SwitchUp) else None, now)
        self._stale = True

    def _drop_unused(self, dpid: int) -> None:
        """Forget a switch that is neither connected nor served."""
        switch = self.switches.get(dpid)
        if switch is not None and switch.session is None and self.bridge_of(dpid) is None:
            del self.switches[dpid]
            self._marked.pop(dpid, None)
            self.world.set_metered(dpid, ())
            self.world.set_answered(dpid, ())

    # -- the gate ----------------------------------------------------------------------------------------------------

    def _may_send(self, now: float) -> bool:
        """The initial gate: every source has synced, and no address that peers need can still be on its way.

        An OVSDB that cannot be reached must not hold the others up for ever: then what is known has to do.
        """
        if self.world.cluster is None:
            return False
        if not self._settled:
            complete = all(self.is_synced(name) for name in self._expected)
            complete = complete and not (self._more_may_come and self.world.pods_without_address())
            self._settled = complete or now >= self._started + STARTUP_WAIT_SECONDS
        return self._settled

    def is_synced(self, ovsdb: str) -> bool:
        """True once an OVSDB's contents were read."""
        state = self.ovsdb.get(ovsdb)
        return state is not None and state.synced

    def waiting_for(self) -> list[str]:
        """What still holds up the first flows, a line each; empty once they may be sent."""
        if self._settled:
            return (
                [] if self.world.bridges else [f"{one.where}: {one.reason}" for one in self.without_bridge(named=True)]
            )
        lines = [] if self.world.cluster is not None else ["the sources have not all been read yet"]
        lines += [f"OVSDB {name} has not been read yet" for name in sorted(self._expected) if not self.is_synced(name)]
        return lines or [f"pod {key} has no address yet" for key in self.world.pods_without_address()]

    def without_bridge(self, named: bool = False) -> Iterator[Problem]:
        """OVSDBs that were read and have no bridge of ours; `named` are only those that the configuration names."""
        reason = f"there is no bridge {self._names}; make it there, or say with --bridge which one is Headgate's"
        for name, state in self.ovsdb.items():
            # One that gave a reason is another connection to a database that is known by another name.
            asked = state.synced and not state.reason and (name in self._expected or not named)
            if asked and not self.world.owners.bridges_of(name):
                yield Problem(name, "", "", reason)

    # -- what follows ------------------------------------------------------------------------------------------------

    def _plan(self, now: float) -> None:
        """Bring the plans up to date and tell the switches what differs; a switch that changed hands is told all."""
        self._stale, self._replan_at = False, None
        self.revision += 1
        for last in (False, True):
            try:
                changed = self.world.update_plans(now)
                break
            except Exception as error:  # noqa: BLE001 - the switches keep what they have
                self._blame("the cluster", error)
                self.start_over()
                self._stale = False
                if last:
                    self._replan_at = now + REPLAN_SECONDS
                    return
        if self._replan_at is None:
            self.contained_errors.pop("the cluster", None)
        concerned = self.world.take_replanned() | changed.keys()
        for name in concerned & self._serving.keys():
            if self._dpid_of(name) != self._serving[name]:
                self._release(name)
        for name in sorted(concerned):
            dpid = self._dpid_of(name)
            if dpid is not None:
                self._serving[name] = dpid
                self._tell(dpid, name, changed)

    def _dpid_of(self, name: BridgeName) -> int | None:
        """The datapath id of the switch that is a bridge's and is served as such."""
        bridge = self.world.bridges.get(name)
        return bridge.dpid if bridge is not None and self.bridge_of(bridge.dpid) == name else None

    def _release(self, name: BridgeName) -> None:
        """A bridge's switch is told nothing any more, unless another bridge has it now."""
        dpid = self._serving.pop(name)
        if dpid in self.switches:
            self.switches[dpid].release("")
            self._drop_unused(dpid)

    def _tell(self, dpid: int, name: BridgeName, changed: dict[BridgeName, dict[bytes, Body | None]]) -> None:
        """Tell a switch what is wanted of it."""
        switch = self._switch(dpid)
        self._active.add(dpid)
        self._unmarked.add(name)
        plan = self.world.plan_of(name)
        bridge = self.world.bridges[name]
        switch.marks.needed = needs_marks(bridge.datapath_type, bridge.ovs_version)
        if plan is None:
            switch.release("")
        elif switch.desired is not plan.flows:
            switch.set_desired(plan.flows, {}, self.revision)
        elif name in changed:
            switch.set_desired(plan.flows, changed[name], self.revision)

    def switch_of(self, name: BridgeName) -> Switch | None:
        """The switch that is served as this bridge; None for a bridge that is not served."""
        dpid = self._dpid_of(name)
        return self.switches.get(dpid) if dpid is not None else None

    def bridge_of(self, dpid: int) -> BridgeName | None:
        """The bridge that a switch is served as."""
        return self.world.owners.served(dpid)

    def _installed(self, now: float) -> list[Command]:
        """Mark the ports whose policy is in force, and take the mark from those that lost it."""
        if not self._settled:
            return []
        wishes: dict[str, dict[str, bool]] = {}
        unmarked, self._unmarked = self._unmarked, set()
        for name in sorted(unmarked & self.world.bridges.keys()):
            if self.world.owners.refusal(name) or name in self.world.failures:
                continue  # what is true of the switch is another bridge's, or not known
            try:
                bridge, switch = self.world.bridges[name], self.switch_of(name)
                realized = switch is not None and switch.realized
                wanted = self.ports.wanted(bridge, self.world.binding(name).binding, realized, now)
            except Exception as error:  # noqa: BLE001 - it concerns this bridge and no other
                self._blame(f"ports of bridge {name[1]} at {name[0]}", error)
                self._unmarkable.add(name)
                continue
            if self.contained_errors:
                self.contained_errors.pop(f"ports of bridge {name[1]} at {name[0]}", None)
            if wanted:
                wishes.setdefault(bridge.ovsdb, {}).update(wanted)
        return [WriteMarks(ovsdb, marks) for ovsdb, marks in sorted(wishes.items())]

    def contained_problems(self) -> Iterator[Problem]:
        """What is kept out, shut or left as it is because handling it failed."""
        for (kind, key), reason in self.world.rejected.reasons.items():
            yield Problem("the controller", f"{kind} {key}", "", reason)
        for policy, place, reason in self.world.rule_errors():
            yield Problem("the controller", f"NetworkPolicy {policy}", place, reason)
        for name, failure in self.world.failures.items():
            yield Problem(f"bridge {name[1]} at {name[0]}", "", "", failure.reason)
        for what, reason in self.contained_errors.items():
            yield Problem("the controller", what, "", f"handling it failed: {reason}")


def _concerned(event: Event) -> str:
    """What an event is about, for people."""
    if isinstance(event, ClusterChanged):
        return "the cluster"
    if isinstance(event, BridgeChanged):
        return f"bridge {event.bridge.name} at {event.bridge.ovsdb}"
    if isinstance(event, BridgeGone):
        return f"bridge {event.name} at {event.ovsdb}"
    if isinstance(event, OvsdbPeer | OvsdbState | MarksWritten | MarksFailed):
        return f"OVSDB {event.ovsdb}"
    return "time" if isinstance(event, Tick) else f"switch {event.dpid:016x}"
