"""The reconciler: events and the time go in, commands come out.

Theory of operation. `handle` takes a batch of events in three steps:

1. each event changes the world (cluster and bridges) or the state of one switch;
2. if the world changed, and the start is over (`startup`), the plans are updated once for the whole batch, and each
   switch whose desired flows differ is given them with a new revision;
3. each switch that anything happened to is asked for its next commands, and ports are marked whose flows are realized.

Example. A pod's label changes: ClusterChanged. The world returns one changed flow for bridge br-int of n1, whose switch
is at revision 6; the switch gets revision 7 and returns SendBundle 4. Later BundleDone 4 comes: the switch has realized
revision 7, and WriteMarks follows for ports that have no mark yet.

No input or output here: a test can drive it with values. Nothing that raises below leaves `handle`: it is contained at
the object, port, bridge or switch that it concerns, else it is named in `contained_errors`, and the others go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from controller.reconcile.audit_pace import AuditPace
from controller.reconcile.away_ovsdbs import AwayOvsdbs
from controller.reconcile.brief_batches import are_brief
from controller.reconcile.cache_marks import CacheMarks, MarkLedger
from controller.reconcile.commands import Command, ForgetOvsdb, ProbeNode, ServePeer, SetNetwork
from controller.reconcile.contained_errors import ALL_EVENTS, THE_CLUSTER, ContainedErrors, event_subject
from controller.reconcile.contained_problems import contained_problems
from controller.reconcile.due_times import DueTimes
from controller.reconcile.events import (
    BridgeChanged,
    BridgeGone,
    BundleDone,
    ClusterChanged,
    DnsPacket,
    DumpFailed,
    Event,
    FlowsDrifted,
    FlowsDumped,
    FlushRefused,
    MarksWritten,
    NodeAnswered,
    OpenFlowEvent,
    OvsdbEvent,
    OvsdbPeer,
    OvsdbState,
    ReplicasChanged,
    RoleChanged,
    RoleRefused,
    SwitchDown,
    SwitchUp,
    Tick,
)
from controller.reconcile.gone_pods import GonePods
from controller.reconcile.held_answers import HeldAnswers
from controller.reconcile.meters import MeterLedger
from controller.reconcile.network_settings import NetworkSettings
from controller.reconcile.plan_delivery import PlanDelivery
from controller.reconcile.port_marking import PortMarker
from controller.reconcile.port_marks import PortLedger
from controller.reconcile.problem import Problem
from controller.reconcile.roles import Roles
from controller.reconcile.startup import Startup
from controller.reconcile.switch import Switch
from flows.bridge.claim_contest import BridgeName
from flows.bridge.network import FLAT_NETWORK, NetworkOptions
from flows.cluster.model import AuditMode
from flows.pipeline.pod_limits import NO_RATES, Rates
from flows.plan.rejected_objects import describe_error
from flows.plan.world import World

# When plans are updated again, although nothing changed, after no plan could be updated at all.
REPLAN_SECONDS = 5.0
DNS_MIN_TTL = 30.0  # seconds that an answer of DNS counts at least


class Reconciler:
    """Holds the world and the switches.

    `expected` are the OVSDBs that the configuration names; `more_may_come` says that others may connect; `rates` are
    the limits of one pod that meters enforce; `bridges` are the names of the bridges that Headgate programs; `network`
    is what the operator decides of the cluster's network, `audit` what is audited of pods without an annotation, and
    `dns_min_ttl` the least time in seconds that an answer of DNS counts. With
    `takes_part`, other replicas may serve switches, too.
    """

    def __init__(
        self,
        expected: Iterable[str],
        now: float,
        more_may_come: bool = False,
        rates: Rates = NO_RATES,
        bridges: Iterable[str] = (),
        network: NetworkOptions = FLAT_NETWORK,
        audit: AuditMode = AuditMode.OFF,
        dns_min_ttl: float = DNS_MIN_TTL,
        takes_part: bool = False,
    ) -> None:
        self.roles = Roles(takes_part)
        self.world = World(network, audit, self.roles.plans)
        self.switches: dict[int, Switch] = {}  # by datapath id
        self.ports = PortLedger()
        self.problems: tuple[Problem, ...] = ()  # of the sources
        self.generation = 0  # of the sources
        self.revision = 0  # of the plans
        self.ovsdb: dict[str, OvsdbState] = {}
        self.contained_errors = ContainedErrors()
        self.gone_pods = GonePods()
        self.held_answers = HeldAnswers(self.world, dns_min_ttl)
        self.audit_pace = AuditPace()
        self._cache_marks = CacheMarks(self.world.flow_encoder)
        self._rates = rates
        self._dns_min_ttl = dns_min_ttl
        self._bridge_names = ", ".join(bridges)
        self._startup = Startup(expected, now, more_may_come)
        self._away = AwayOvsdbs(self._startup.configured)
        self._networks = NetworkSettings(self.world, self.contained_errors)
        self._marker = PortMarker(self.world, self.ports, self.contained_errors, self.roles.serves)
        self._stale = False  # the world has changed since the plans were updated
        self._replan_at: float | None = None
        self._delivery = PlanDelivery(
            self.world, self.roles, self.held_answers, self._marker, self._active_switch, self._let_go,
            self.contained_errors,
        )  # fmt: skip
        self._active: set[int] = set()  # switches to ask for commands
        self._due_times = DueTimes()
        self._other_commands: list[ForgetOvsdb | ProbeNode | SetNetwork] = []
        self._write_to = self.roles.databases()  # as last commanded

    def is_brief(self, events: Iterable[Event], now: float) -> bool:
        """Whether `handle` takes these events in some tens of milliseconds at most. Never raises."""
        try:
            if self._stale or not self._startup.over or self._replan_is_due(now):
                return False
            if self.roles.taking_over or self.held_answers.must_sweep(now):
                return False  # a takeover that ends makes room for others, which are planned then
            return self.world.learned.expires_few(now) and are_brief(events, self.switches, now)
        except Exception:  # noqa: BLE001 - `handle` meets it again, and contains it
            return False

    def handle(self, events: Iterable[Event], now: float) -> list[Command]:
        """Take a batch of events; returns what is to be done. Never raises.

        If the batch fails as a whole, everything is computed anew and the events are taken one by one.
        """
        batch = list(events)
        try:
            return self._handle(batch, now)
        except Exception as error:  # noqa: BLE001 - policy is enforced for as long as this lives
            self.contained_errors.add(ALL_EVENTS, error)
            self.start_over()
        commands: list[Command] = []
        for event in batch:
            try:
                commands += self._handle([event], now)
            except Exception as error:  # noqa: BLE001 - as above
                self.contained_errors.add(event_subject(event), error)
                self.start_over()
        return commands

    def _handle(self, events: Sequence[Event], now: float) -> list[Command]:
        failed = [event for event in events if not self._try_event(event, now)]
        if failed:
            self.start_over()
        self._update_roles(now)
        self._stale |= self.world.learned.expire(now)
        may_send = self._startup.is_over(self.world, self.is_synced, now)
        if may_send and (self._stale or self._replan_is_due(now)):
            self._update_plans(now)
        elif not may_send:
            self.world.decide_served(now)
        commands: list[Command] = [ServePeer(*one) for one in sorted(self.world.owners.take_replacing_peers().items())]
        active, self._active = self._active, set()
        for dpid in sorted(active & self.switches.keys()):
            name = self.bridge_of(dpid)
            if name is not None:
                commands.extend(self._switch_commands(self.switches[dpid], name, now, may_send))
        commands += self._role_commands(now)
        for dpid in active:
            active_switch = self.switches.get(dpid)
            self._due_times.set(dpid, None if active_switch is None else active_switch.due_at())
        others, self._other_commands = self._other_commands, []
        return commands + others + self._mark_ports(now) + self._dns_commands(now, may_send)

    def _dns_commands(self, now: float, may_send: bool) -> list[Command]:
        """Release held packets whose switch is as far as they need, and keep switches listening."""
        held = self.held_answers
        held.sweep(now)
        listening = held.listening(now, self.switches.get) if may_send else []
        found = [one for one in held.releases(now, self.switches.get) if self.roles.may_write(one.dpid)]
        return [*found, *(one for one in listening if self.roles.may_write(one.dpid))]

    def _update_roles(self, now: float) -> None:
        """Plan the bridges that this replica is to serve, and no others."""
        self.roles.step(now, self._is_realized)
        if changed := self.roles.take_changed():
            self.world.replan(changed)
            self._stale = True

    def _is_realized(self, dpid: int) -> bool:
        return dpid in self.switches and self.switches[dpid].realized

    def _role_commands(self, now: float) -> list[Command]:
        """Roles to request of switches, and the OVSDBs to write to, where that is not all."""
        found: list[Command] = [*self.roles.commands(now, self._may_be_served)]
        if (write_to := self.roles.databases()) != self._write_to:
            self._write_to = write_to
            found.append(write_to)
        return found

    def _may_be_served(self, name: BridgeName) -> bool:
        return self._startup.over and self.world.plan_of(name) is not None

    def _try_event(self, event: Event, now: float) -> bool:
        """Take one event; False where that raised."""
        self.contained_errors.retry(event)
        try:
            self._take(event, now)
        except Exception as error:  # noqa: BLE001 - one event must not keep the others from being taken
            self.contained_errors.add(event_subject(event), error)
            return False
        return True

    def _switch_commands(self, switch: Switch, name: BridgeName, now: float, may_send: bool) -> list[Command]:
        if not (may_write := self.roles.may_write(switch.dpid)) and not switch.all_counters:
            return []  # another replica serves it
        may_send &= may_write
        try:
            commands = switch.next_commands(now, may_send)
        except Exception as error:  # noqa: BLE001 - it concerns this switch and no other
            switch.fail(describe_error(error), now)
            return []
        self._marker.note_switch(switch, name)
        return commands

    def _mark_ports(self, now: float) -> list[Command]:
        return [*self._marker.commands(self.switch_of, now)] if self._startup.over else []

    def start_over(self) -> None:
        """Compute everything anew from the cluster and the bridges, after an error that may have left it inconsistent.

        Nothing is in flight afterwards, and every switch is dumped before anything is sent to it.
        """
        self._stale = True
        for switch in self.switches.values():
            switch.start_over()
        self._active.update(self.switches)
        self._delivery.start_over()
        try:
            self.world.start_over()
        except Exception as error:  # noqa: BLE001 - then there are no plans, and nothing is sent
            self.contained_errors.add(THE_CLUSTER, error)

    def due(self, now: float) -> float | None:
        """Seconds until `handle` should be called although no event comes; None if never."""
        times = [self._due_times.earliest(self.switches)]
        times += [self._startup.due_at(self.world), self.held_answers.due_at(), self.world.learned.due_at()]
        times.append(self.roles.due_at(now, self._is_realized))
        if self._startup.over:
            times += [self._replan_at, self.world.retry_at()]
        known = [at for at in times if at is not None]
        return max(0.0, min(known) - now) if known else None

    def _replan_is_due(self, now: float) -> bool:
        """Whether plans must be updated although nothing changed: one failed, or a claim has waited long enough."""
        times = [at for at in (self._replan_at, self.world.retry_at()) if at is not None]
        return bool(times and min(times) <= now) or self.world.owners.is_waiting()

    # -- events ------------------------------------------------------------------------------------------------------

    def _take(self, event: Event, now: float) -> None:
        if isinstance(event, ClusterChanged):
            self.problems = event.problems
            self.generation = max(self.generation, event.generation)
            if event.changed is not None and (old := self.world.cluster) is not None:
                self.gone_pods.note(event.changed, event.cluster, old, self.world.engine, now)
            self._stale |= self.world.set_cluster(event.cluster, event.changed)
        elif isinstance(event, OvsdbEvent):
            self._take_ovsdb(event, now)
        elif isinstance(event, ReplicasChanged):
            self.roles.on_replicas(event)
        elif isinstance(event, Tick):
            self._active.update(self.switches)
            self._marker.on_tick(now)
            self._stale |= self._delivery.is_due | self.world.retry_displaced(now)
            self._forget_ovsdbs(now)
        else:
            self._active.add(event.dpid)
            try:
                self._take_openflow(event, now)
            except Exception as error:  # noqa: BLE001 - it concerns this switch and no other
                self.contained_errors.add(event_subject(event), error)
                if event.dpid in self.switches:
                    self.switches[event.dpid].fail(describe_error(error), now)

    def _take_ovsdb(self, event: OvsdbEvent, now: float) -> None:
        if isinstance(event, BridgeChanged):
            self._away.on_bridge(event.bridge.ovsdb)
            self.ports.update_bridge(event.bridge, now)
            self._stale |= self.world.set_bridge(event.bridge, now)
            self.roles.set_bridge((event.bridge.ovsdb, event.bridge.name), event.bridge)
            self._marker.note([(event.bridge.ovsdb, event.bridge.name)])
        elif isinstance(event, BridgeGone):
            self._remove_bridge((event.ovsdb, event.name))
        elif isinstance(event, OvsdbPeer):
            self.world.owners.set_peer(event.ovsdb, event.peer)
            self._stale = True
        elif isinstance(event, OvsdbState):
            self.ovsdb[event.ovsdb] = event
            self._away.on_state(event, now)
            self.world.owners.set_away(event.ovsdb, not event.synced)
            self._stale = True
            self._marker.request_again(event.ovsdb)
        elif isinstance(event, MarksWritten):
            self.ports.on_marks_written(event.ovsdb, event.interfaces)
        else:
            self.ports.on_marks_failed(event.ovsdb, event.interfaces, now)

    def _remove_bridge(self, name: BridgeName) -> None:
        self.ports.remove_bridge(name)
        self.world.remove_bridge(name)
        self.roles.set_bridge(name, None)
        self._stale = True

    def _forget_ovsdbs(self, now: float) -> None:
        for ovsdb in self._away.take_forgotten(now, self._has_session, self.world.owners.is_replaced):
            for name in self.world.bridges_of(ovsdb):
                self._remove_bridge(name)
            self.ovsdb.pop(ovsdb, None)
            self.ports.forget_requests(ovsdb)
            self.world.owners.forget(ovsdb)
            self._other_commands.append(ForgetOvsdb(ovsdb))

    def _has_session(self, ovsdb: str) -> bool:
        """Whether any switch of an OVSDB's bridges has an OpenFlow session."""
        switches = (self.switch_of(name) for name in self.world.bridges_of(ovsdb))
        return any(switch is not None and switch.session is not None for switch in switches)

    def _take_openflow(self, event: OpenFlowEvent, now: float) -> None:
        if isinstance(event, DnsPacket):
            self._stale |= self.held_answers.take(event, now)
            return
        if isinstance(event, SwitchUp | SwitchDown):
            self.held_answers.forget(event.dpid)
        if isinstance(event, SwitchUp):
            self._switch(event.dpid).on_switch_up(event.session)
            self._set_session(event, now)
            if self.roles.alone:
                self._probe_node(event)
            return
        switch = self.switches.get(event.dpid)
        if switch is None:
            return
        if isinstance(event, SwitchDown):
            if switch.session == event.session:
                self._set_session(event, now)
            switch.on_switch_down(event.session)
            self._drop_unused(event.dpid)
        elif isinstance(event, FlowsDumped):
            switch.on_flows_dumped(event, now)
            if switch.flows.dump_is_current:
                self._stale |= self.world.restore_names(event.dpid, event.flows, now + self._dns_min_ttl)
        elif isinstance(event, FlowsDrifted):
            if self.roles.may_write(event.dpid):  # else the changes may be its owner's
                switch.on_flows_drifted(event, now)
        elif isinstance(event, DumpFailed):
            switch.on_dump_failed(event, now)
        elif isinstance(event, BundleDone):
            switch.on_bundle_done(event, now)
        elif isinstance(event, FlushRefused):
            switch.on_flush_refused(event)
        elif isinstance(event, RoleChanged):
            self._take_role(event, switch, now)
        elif isinstance(event, RoleRefused):
            self.roles.on_refused(event, now)
        elif isinstance(event, NodeAnswered):
            if switch.session == event.session:
                self._stale |= self.world.set_answered(event.dpid, event.addresses)
        else:
            switch.on_bundle_failed(event, now)
        if event.dpid in self.switches:
            self._stale |= self.world.set_metered(event.dpid, switch.meters.kinds)

    def _probe_node(self, event: SwitchUp | RoleChanged) -> None:
        if answered := self.world.answered.get(event.dpid):
            self._other_commands.append(ProbeNode(event.dpid, event.session, answered))

    def _take_role(self, event: RoleChanged, switch: Switch, now: float) -> None:
        """Whatever was on its way belongs to another role, and another replica may have changed the switch."""
        if not self.roles.on_role(event, now):
            return
        switch.restart()
        if event.primary:
            self._probe_node(event)
        elif (name := self.bridge_of(event.dpid)) is not None:
            self.ports.forget_requests(name[0])

    def _switch(self, dpid: int) -> Switch:
        if dpid not in self.switches:
            self.switches[dpid] = Switch(
                dpid,
                meters=MeterLedger(self._rates),
                cache_marks=MarkLedger(self._cache_marks),
                pace=self.audit_pace,
            )
        return self.switches[dpid]

    def _active_switch(self, dpid: int) -> Switch:
        self._active.add(dpid)
        return self._switch(dpid)

    def _set_session(self, event: SwitchUp | SwitchDown, now: float) -> None:
        self.world.owners.set_session(event.dpid, event.peer if isinstance(event, SwitchUp) else None, now)
        self._stale = True
        if isinstance(event, SwitchUp):
            self.roles.on_session(event.dpid, event.session)
            self.roles.set_served(event.dpid, self.bridge_of(event.dpid))
        else:
            self.roles.on_session_end(event.dpid, event.session)

    def _let_go(self, dpid: int) -> None:
        """A switch serves its bridge no more."""
        if dpid in self.switches:
            self._active.add(dpid)
            self.switches[dpid].release("")
            self.held_answers.set_listening(dpid, False)
            self._drop_unused(dpid)

    def _drop_unused(self, dpid: int) -> None:
        """Forget a switch without a session that is no served bridge's."""
        switch = self.switches.get(dpid)
        if switch is not None and switch.session is None and self.bridge_of(dpid) is None:
            del self.switches[dpid]
            self.audit_pace.note(dpid, 0)
            self._marker.forget_switch(dpid)
            self.world.set_metered(dpid, ())
            self.world.set_answered(dpid, ())

    # -- plans -------------------------------------------------------------------------------------------------------

    def _update_plans(self, now: float) -> None:
        """Update the plans and give each switch what differs; a switch that serves another bridge now gets all."""
        self._stale, self._replan_at = False, None
        self.revision += 1
        for last in (False, True):
            try:
                changed = self.world.update_plans(now)
                break
            except Exception as error:  # noqa: BLE001 - the switches keep what they have
                self.contained_errors.add(THE_CLUSTER, error)
                self.start_over()
                self._stale = False
                if last:
                    self._replan_at = now + REPLAN_SECONDS
                    return
        if self._replan_at is None:
            self.contained_errors.clear(THE_CLUSTER)
        replanned = self.world.take_replanned()
        names_only = self.world.names_only and not replanned
        replanned |= changed.keys()
        self._other_commands += self._networks.commands(replanned)
        self._delivery.deliver(replanned, changed, self.revision, names_only)

    # -- questions ---------------------------------------------------------------------------------------------------

    def bridge_of(self, dpid: int) -> BridgeName | None:
        """The served bridge of a switch."""
        return self.world.owners.served(dpid)

    def switch_of(self, name: BridgeName) -> Switch | None:
        """The switch of a served bridge; None for a bridge that is not served or has never had a session."""
        dpid = self.world.served_dpid(name)
        return self.switches.get(dpid) if dpid is not None else None

    def is_synced(self, ovsdb: str) -> bool:
        """Whether an OVSDB has been read."""
        state = self.ovsdb.get(ovsdb)
        return state is not None and state.synced

    @property
    def is_started(self) -> bool:
        """Whether everything was read that flows depend on, so that they may be sent."""
        return self._startup.over

    def waiting_for(self) -> list[str]:
        """What the first flows wait for, a line each; none once they may be sent."""
        if not self._startup.over:
            return self._startup.waiting_for(self.world, self.is_synced)
        missing = [] if self.world.bridges else self.missing_bridges(configured_only=True)
        return [f"{problem.where}: {problem.reason}" for problem in missing]

    def missing_bridges(self, configured_only: bool = False) -> Iterator[Problem]:
        """OVSDBs that were read and have none of the bridges that Headgate programs."""
        reason = f"there is no bridge {self._bridge_names}; make it there, or say with --bridge which one is Headgate's"
        for name, state in self.ovsdb.items():
            # With a reason it is a second connection to a database that another name already stands for.
            relevant = state.synced and not state.reason and (name in self._startup.configured or not configured_only)
            if relevant and not self.world.owners.bridges_of(name):
                yield Problem(name, "", "", reason)

    def contained_problems(self) -> Iterator[Problem]:
        """What is left out because handling it raised."""
        return contained_problems(self.world, self.contained_errors)
