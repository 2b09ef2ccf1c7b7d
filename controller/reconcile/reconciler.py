"""The reconciler: every event changes the world or a switch's state, then each switch is asked what comes next.

Without input or output: `handle` takes events and the time and returns commands. A test can drive it with nothing but
values.
"""

from __future__ import annotations

from collections.abc import Iterable

from controller.reconcile.events import (
    Body,
    BridgeChanged,
    BridgeGone,
    BundleDone,
    BundleFailed,
    ClusterChanged,
    Command,
    Event,
    FlowsDumped,
    InstalledWritten,
    OvsdbState,
    Problem,
    SetInstalled,
    SwitchDown,
    SwitchUp,
    Tick,
)
from controller.reconcile.meters import MeterLedger
from controller.reconcile.ports import PortLedger
from controller.reconcile.switch import Switch
from controller.reconcile.world import BridgeName, World
from flows.encoding import Encoder
from flows.limits import NO_RATES, Rates

OpenFlowEvent = SwitchUp | SwitchDown | FlowsDumped | BundleDone | BundleFailed

# How long the first computation waits for switches that may still have to tell addresses that no Pod's status has.
SETTLE_SECONDS = 5.0


class Reconciler:
    """Holds the world and the switches.

    `expected` names the OVSDBs that must have been read before anything is sent; `more_may_come` says that switches
    nobody named may still call; `rates` is what one pod may send of what meters limit.
    """

    def __init__(
        self,
        encoder: Encoder[Body],
        expected: Iterable[str],
        now: float,
        more_may_come: bool = False,
        rates: Rates = NO_RATES,
    ) -> None:
        self.world = World(encoder)
        self.switches: dict[int, Switch] = {}
        self.ports = PortLedger()
        self.problems: tuple[Problem, ...] = ()
        self.generation = 0
        self.revision = 0
        self.ovsdb: dict[str, OvsdbState] = {}
        self._expected = frozenset(expected)
        self._more_may_come = more_may_come
        self._rates = rates
        self._started = now
        self._settled = False
        self._stale = False  # the world has changed since the plans were made
        self._served: set[int] = set()  # switches that are told what is wanted
        self._active: set[int] = set()  # switches that something happened to
        self._unmarked: set[BridgeName] = set()

    def handle(self, events: Iterable[Event], now: float) -> list[Command]:
        """Take all events, then say what is to be done. Events that arrived together cost one computation."""
        for event in events:
            self._take(event, now)
        may_send = self._may_send(now)
        if may_send and self._stale:
            self._plan()
        active, self._active = self._active, set()
        commands: list[Command] = []
        for dpid in sorted(active & self.world.by_dpid.keys() & self.switches.keys()):
            commands.extend(self.switches[dpid].next(now, may_send))
            self._unmarked.update(self.world.by_dpid[dpid][:1])
        return commands + self._installed(now)

    def start_over(self) -> None:
        """Compute everything anew from the cluster and the bridges: something that was kept may be wrong."""
        world = World(self.world.encoder)
        world.metered.update(self.world.metered)
        if self.world.cluster is not None:
            world.set_cluster(self.world.cluster)
        for bridge in self.world.bridges.values():
            world.set_bridge(bridge)
        self.world = world
        self._stale = True
        # The plans may have changed without the switches being told.
        for switch in self.switches.values():
            switch.forget()
        self._active.update(self.switches)

    def due(self, now: float) -> float | None:
        """Seconds until `handle` should be called even if nothing happens, or None."""
        times = [t for t in (switch.due() for switch in self.switches.values()) if t is not None]
        if not self._settled and self.world.cluster is not None:
            times.append(self._started + SETTLE_SECONDS)
        return max(0.0, min(times) - now) if times else None

    def _take(self, event: Event, now: float) -> None:
        if isinstance(event, ClusterChanged):
            self.problems = event.problems
            self.generation = max(self.generation, event.generation)
            self._stale |= self.world.set_cluster(event.cluster, event.touched)
        elif isinstance(event, BridgeChanged):
            self.ports.see(event.bridge, now)
            self.world.set_bridge(event.bridge)
            self._unmarked.add((event.bridge.ovsdb, event.bridge.name))
            self._stale = True
        elif isinstance(event, BridgeGone):
            self.world.remove_bridge((event.ovsdb, event.name))
            self._stale = True
        elif isinstance(event, OvsdbState):
            self.ovsdb[event.ovsdb] = event
            self.ports.forget_requests(event.ovsdb)
            self._unmarked.update(name for name in self.world.bridges if name[0] == event.ovsdb)
        elif isinstance(event, InstalledWritten):
            self.ports.written(event.ovsdb, event.interfaces)
        elif isinstance(event, Tick):
            self._active.update(self.switches)
        else:
            self._active.add(event.dpid)
            self._take_openflow(event, now)

    def _take_openflow(self, event: OpenFlowEvent, now: float) -> None:
        if isinstance(event, SwitchUp):
            self._switch(event.dpid).up(event.session)
            return
        switch = self.switches.get(event.dpid)
        if switch is None:
            return
        if isinstance(event, SwitchDown):
            switch.down(event.session)
        elif isinstance(event, FlowsDumped):
            switch.dumped(event, now)
        elif isinstance(event, BundleDone):
            switch.done(event, now)
        else:
            switch.failed(event, now)
        self._stale |= self.world.set_metered(event.dpid, switch.meters.kinds)

    def _switch(self, dpid: int) -> Switch:
        if dpid not in self.switches:
            self.switches[dpid] = Switch(dpid, meters=MeterLedger(self._rates))
        return self.switches[dpid]

    def _may_send(self, now: float) -> bool:
        """The initial gate: every source has synced, and no address that peers need can still be on its way.

        An OVSDB that cannot be reached must not hold the others up for ever: then what is known has to do.
        """
        if self.world.cluster is None:
            return False
        if not self._settled:
            complete = all(self.is_synced(name) for name in self._expected)
            complete = complete and not (self._more_may_come and self.world.unplaced())
            self._settled = complete or now >= self._started + SETTLE_SECONDS
        return self._settled

    def is_synced(self, ovsdb: str) -> bool:
        """True once an OVSDB's contents were read."""
        state = self.ovsdb.get(ovsdb)
        return state is not None and state.synced

    def waiting_for(self) -> list[str]:
        """What still holds up the first flows, a line each; empty once they may be sent."""
        if self._settled:
            return []
        lines = [] if self.world.cluster is not None else ["the sources have not all been read yet"]
        lines += [f"OVSDB {name} has not been read yet" for name in sorted(self._expected) if not self.is_synced(name)]
        return lines or [f"pod {key} has no address yet" for key in self.world.unplaced()]

    def _plan(self) -> None:
        """Bring the plans up to date and tell the switches what differs; a switch that changed hands is told all."""
        self._stale = False
        self.revision += 1
        changed = self.world.settle()
        for dpid, (name, *_) in self.world.by_dpid.items():
            plan = self.world.planned(name)
            if plan is None:
                continue
            switch = self._switch(dpid)
            if switch.desired is not plan.flows:
                self._served.add(dpid)
                switch.want(plan.flows, {}, self.revision)
            elif name in changed:
                switch.want(plan.flows, changed[name], self.revision)
            else:
                continue
            self._active.add(dpid)
        for dpid in self._served - self.world.by_dpid.keys():
            # Its plan may change for another switch.
            self.switches[dpid].want({}, {}, self.revision)
        self._served &= self.world.by_dpid.keys()

    def _installed(self, now: float) -> list[Command]:
        """Mark the ports whose policy is in force, and take the mark from those that lost it."""
        commands: list[Command] = []
        if not self._settled:
            return commands
        wishes: dict[str, dict[str, bool]] = {}
        for name in sorted(self._unmarked & self.world.bridges.keys()):
            bridge = self.world.bridges[name]
            switch = self.switches.get(bridge.dpid)
            realized = switch is not None and switch.realized
            wanted = self.ports.wanted(bridge, self.world.reading(name).view, realized, now)
            if wanted:
                wishes.setdefault(bridge.ovsdb, {}).update(wanted)
        self._unmarked.clear()
        commands.extend(SetInstalled(ovsdb, marks) for ovsdb, marks in sorted(wishes.items()))
        return commands
