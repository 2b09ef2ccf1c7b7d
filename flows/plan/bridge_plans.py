"""The plans of all bridges that are served, their readers, and which bridge has which pod's port.

What raises for one bridge is contained here: the bridge has no plan until it is tried again, the others go on. Which
bridges are served, and when they are read, is decided in `world`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

from flows.bridge.claim_contest import BridgeName
from flows.bridge.reader import BindingChange, BindingReader
from flows.bridge.state import USERSPACE_DATAPATHS, BindingResult, BridgeState, PodBinding
from flows.cluster.domain_names import NamePatterns
from flows.cluster.model import Key
from flows.cluster.net import Net
from flows.pipeline.pod_limits import Limit
from flows.plan.accepted_objects import AcceptedObjects
from flows.plan.bridge_plan import BridgePlan, IsolationOf
from flows.plan.cluster_services import ClusterServices, Place
from flows.plan.encoder import FlowEncoder
from flows.plan.learned_names import LearnedNames
from flows.plan.plan_failures import PlanFailures
from flows.plan.pod_ports import PodPorts
from flows.plan.rule_distribution import RuleDistributor
from flows.policy.policy_changes import NO_CHANGES
from flows.render.answers import DnsServer
from flows.wire.values import Body, FlowKey

# Of each bridge whose flows or groups changed: the bodies before the change by flow key, None where there was no flow.
# The changes of groups are taken from the plan: see `bridge_groups`.
ChangedFlows = dict[BridgeName, Mapping[FlowKey, Body | None]]


class BridgePlans:
    """`bridges` are all bridges, `by_bridge` the plans of those that have one.

    `replanned` are the bridges that may have another plan or none since the reconciler looked, `to_show` those whose
    status may differ since it was reported.
    """

    def __init__(
        self,
        bridges: Mapping[BridgeName, BridgeState],
        objects: AcceptedObjects,
        encoder: FlowEncoder,
        failures: PlanFailures,
        learned: LearnedNames,
        is_planned: Callable[[BridgeName], bool] = lambda name: True,
    ) -> None:
        self._is_planned = is_planned
        self._bridges = bridges
        self._objects = objects
        self._encoder = encoder
        self._failures = failures
        self._learned = learned
        self.dns_servers: tuple[DnsServer, ...] = ()
        self.by_bridge: dict[BridgeName, BridgePlan] = {}
        self.services = ClusterServices(encoder)
        self.pod_ports = PodPorts()
        self.distributor = RuleDistributor(self.by_bridge, self.pod_ports, self.fail)
        self.replanned: set[BridgeName] = set(bridges)
        self.to_show: set[BridgeName] = set(bridges)
        self.names_only = False  # the last `apply_policy` applied nothing but what pods learned
        self.patterns: dict[Key, NamePatterns] = {}  # of the rules that select a pod, since rules or subjects changed
        self._readers: dict[BridgeName, BindingReader] = {}
        self._bindings: dict[BridgeName, BindingResult] = {}  # what readers have, where it was asked for
        # Since `apply_policy`, new plans, and new ports by bridge and ofport: these have what applies to their pods.
        self._new_plans: set[BridgeName] = set()
        self._new_ports: set[tuple[BridgeName, int]] = set()

    # -- reading and planning one bridge -----------------------------------------------------------------------------

    def update(self, name: BridgeName, changed: set[Key], isolated: IsolationOf) -> set[Key]:
        """Read a bridge's ports and update its plan. `changed` are pods that may be bound differently, `isolated` tells
        what applies to pods.

        Returns the pods whose rules the plan must hear of: those that came, went or moved; all when the plan is new.
        """
        moved: set[Key] = set()
        try:
            found = self._read(name, changed)
            moved = self._move(name, found.removed, found.added)
            moved.update(self._plan(name, found, isolated))
        except Exception as error:  # noqa: BLE001 - it concerns this bridge and no other
            self.fail(name, error)
        return moved

    def _read(self, name: BridgeName, changed: set[Key]) -> BindingChange:
        reader = self._readers.get(name)
        self._bindings.pop(name, None)
        if reader is not None:
            try:
                return reader.read(self._bridges[name], self._objects.accepted, changed)
            except Exception:
                self.drop(name)
                raise
        reader = BindingReader()
        found = reader.read(self._bridges[name], self._objects.accepted, changed)
        self._readers[name] = reader
        # A new reader names no port as gone: those of an earlier reader are.
        return found._replace(removed=tuple(self.pod_ports.on(name).values()))

    def _plan(self, name: BridgeName, found: BindingChange, isolated: IsolationOf) -> Collection[Key]:
        """Update or make a bridge's plan; returns the pods of a new one, which has no rules of theirs yet."""
        if not self._is_planned(name):
            self.drop_plan(name)
            self._failures.discard(name)
            return ()
        plan, routes = self.by_bridge.get(name), found.bridge.routing.routes
        if plan is not None and plan.routes != routes:
            self.drop_plan(name)
            plan = None
        if plan is not None:
            gone = [pod.ofport for pod in found.removed]
            if gone and found.added:
                again = {pod.ofport for pod in found.added}
                gone = [ofport for ofport in gone if ofport not in again]
            plan.set_dns(self._dns_servers_at(name))
            plan.update(found.bridge, gone, found.added, isolated)
            for pod in found.added:
                self._new_ports.add((name, pod.ofport))
            if routes:
                self._place_services(name, plan)
            return ()
        userspace = self._bridges[name].datapath_type in USERSPACE_DATAPATHS
        plan = BridgePlan(self._encoder, userspace, partial(self.distributor.watch, name), routes, self._learned.of)
        plan.set_dns(self._dns_servers_at(name))
        there = self.pod_ports.on(name)
        self.pod_ports.forget_reported(name, [*there, *(pod.pod for pod in found.removed)])
        plan.update(found.bridge, (), tuple(there.values()), isolated)
        self._place_services(name, plan)
        self.by_bridge[name] = plan
        self._new_plans.add(name)
        return there

    def _dns_servers_at(self, name: BridgeName) -> tuple[DnsServer, ...] | None:
        """The servers whose answers a bridge holds; None where it has no meters to limit what the controller gets."""
        return self.dns_servers if Limit.DNS in self._bridges[name].metered else None

    def set_dns_servers(self, servers: tuple[DnsServer, ...]) -> set[BridgeName]:
        """The servers whose answers count are others. Returns the bridges that are affected."""
        self.dns_servers = servers
        for name, plan in self.by_bridge.items():
            plan.set_dns(self._dns_servers_at(name))
        return set(self.by_bridge)

    def _place_services(self, name: BridgeName, plan: BridgePlan) -> None:
        """Tell a plan the node and the zone that choices of endpoints may depend on."""
        if plan.routes:
            node = self._bridges[name].node
            found = self._objects.accepted.nodes.get(node)
            zone = found.zone if found is not None else ""
            plan.services.set_place(self.services, Place(node, zone, plan.userspace))

    def _move(self, name: BridgeName, gone: tuple[PodBinding, ...], came: tuple[PodBinding, ...]) -> set[Key]:
        """Ports of a bridge are gone, others came; returns the pods that came, went or moved."""
        if not gone and not came:
            return set()
        try:
            moved, affected = self.pod_ports.move(name, gone, came)
        except Exception:
            self._readers.pop(name, None)  # the next reading starts from nothing
            raise
        pods = self._objects.accepted.pods
        if not self._objects.has_port_addresses:  # then most pods need none: those whose status has theirs
            affected = {key for key in affected if (pod := pods.get(key)) is None or not pod.addresses}
        for key in affected:
            self.update_port_addresses(key)
        if self._objects.leaving.addresses:
            self._objects.mark_moved(moved)
        return moved

    def update_port_addresses(self, key: Key) -> None:
        """A pod whose status has no address has those of its port, on a bridge of the pod's own node only.

        Of several such ports the last bridge by name counts.
        """
        pod = self._objects.accepted.pods.get(key)
        if pod is not None and pod.addresses and not self._objects.has_port_addresses:
            return
        addresses: tuple[Net, ...] = ()
        if pod is not None and pod.node and not pod.addresses:
            bridges = sorted(name for name, _ in self.pod_ports.of(key))
            on_its_node = [name for name in bridges if self._bridges[name].node == pod.node]
            addresses = self.pod_ports.addresses(key, on_its_node)
        self._objects.set_port_addresses(key, addresses)

    def drop(self, name: BridgeName) -> None:
        """A bridge is gone or not served: forget its reader, its plan and its ports."""
        self._readers.pop(name, None)
        self.drop_plan(name)
        gone = self.pod_ports.on(name)
        self.pod_ports.forget_reported(name, gone)
        self._move(name, tuple(gone.values()), ())

    def drop_plan(self, name: BridgeName) -> None:
        """Forget a bridge's plan. The next `update` makes a new one."""
        self._bindings.pop(name, None)
        plan = self.by_bridge.pop(name, None)
        if plan is not None:
            self.distributor.drop(name, plan)

    def fail(self, name: BridgeName, error: Exception) -> None:
        """A bridge's plan raised, so nothing in it can be relied on: forget it."""
        self.replanned.add(name)
        self.to_show.add(name)
        self._bindings.pop(name, None)
        self.by_bridge.pop(name, None)
        self.distributor.purge(name)
        self._failures.add(name, error)

    # -- all bridges -------------------------------------------------------------------------------------------------

    def apply_policy(self, moved: set[Key], read: set[BridgeName]) -> ChangedFlows:
        """Apply what changed in the engine to all plans. `moved` and `read` are the pods and bridges of `update`.

        Returns the flows that came, went or differ.
        """
        engine, services = self._objects.engine, self._objects.services
        changes = engine.compute_changes()
        others = changes is not NO_CHANGES or moved or read or self._new_plans or services.changed
        self.names_only = not others
        if not (others or self._learned.changes):
            return {}
        if changes.rules or changes.subjects:
            self.patterns.clear()
        affected = set(read)
        if moved or changes is not NO_CHANGES:
            everywhere = affected >= self.pod_ports.bridges
            affected |= self.distributor.distribute(changes, moved, engine, everywhere)
        if self._learned.changes:
            affected |= self._update_names()
        if changes.isolation:
            affected |= self._isolate_all(changes.isolation)
        self._new_plans.clear()
        self._new_ports.clear()
        if services.changed:
            affected |= self._update_services()
        found = self._take_changes(affected)
        self._encoder.forget_dimensions()
        return found

    def _update_services(self) -> set[BridgeName]:
        """Apply what changed in Services to the plans of all bridges that route; returns these bridges."""
        changes = self.services.refresh(self._objects.services)
        if changes is None:
            return set()
        affected = {name for name, plan in self.by_bridge.items() if plan.routes}
        for name in affected:
            try:
                self.by_bridge[name].services.update(self.services, changes)
            except Exception as error:  # noqa: BLE001 - it concerns this bridge and no other
                self.fail(name, error)
        return affected

    def _update_names(self) -> set[BridgeName]:
        """Apply what pods learned from DNS answers, or lost, to the plans of their bridges; returns these."""
        learned = self._learned
        changes, learned.changes = learned.changes, {}
        affected = set()
        for key, addresses in changes.items():
            for name, ofport in self.pod_ports.of(key):
                if (plan := self.by_bridge.get(name)) is None:
                    continue
                affected.add(name)
                try:
                    plan.update_names(ofport, addresses)
                except Exception as error:  # noqa: BLE001 - it concerns this bridge and no other
                    self.fail(name, error)
        return affected

    def _isolate_all(self, pods: Collection[Key]) -> set[BridgeName]:
        """Tell plans, but new ones, what applies to these pods. Returns the bridges whose plans that changed."""
        new_plans, new_ports = self._new_plans, self._new_ports
        if new_plans >= self._bridges.keys():
            return set()  # as when a controller starts
        affected: set[BridgeName] = set()
        applying: IsolationOf | None = None
        for key in pods:
            for place in self.pod_ports.of(key):
                name, ofport = place
                self.to_show.add(name)  # the policies that isolate the pod may be others
                if name in new_plans or place in new_ports:
                    continue
                if applying is None:
                    applying = self._objects.engine.applying_to(len(pods))
                if self._isolate(name, ofport, applying, key):
                    affected.add(name)
        return affected

    def _isolate(self, name: BridgeName, ofport: int, applying: IsolationOf, key: Key) -> bool:
        """Tell a plan what applies to a pod. Returns whether that changed it."""
        plan = self.by_bridge.get(name)
        if plan is None:
            return False
        try:
            return plan.isolate(ofport, applying(key))
        except Exception as error:  # noqa: BLE001 - it concerns this bridge and no other
            self.fail(name, error)
            return True

    def _take_changes(self, affected: set[BridgeName]) -> ChangedFlows:
        found: ChangedFlows = {}
        self.to_show |= affected
        for name in affected & self.by_bridge.keys():
            plan = self.by_bridge[name]
            error = plan.error
            try:
                changes = plan.take()
            except Exception as raised:  # noqa: BLE001 - as above
                self.fail(name, raised)
                continue
            self.names_only &= plan.error == error  # else the rules are left out, or there again
            if changes or plan.groups.changed:
                found[name] = changes
        return found

    # -- questions ---------------------------------------------------------------------------------------------------

    def has_reader(self, name: BridgeName) -> bool:
        """Whether a bridge's ports have been read."""
        return name in self._readers

    def binding(self, name: BridgeName) -> BindingResult | None:
        """What a bridge's reader has; the same object until the bridge is read again. None without a reader."""
        reader = self._readers.get(name)
        if reader is None:
            return None
        found = self._bindings.get(name)
        if found is None:
            found = self._bindings[name] = reader.reading()
        return found
