"""The cluster and the bridges put together: which pods stand where, with which addresses, and which flows follow from
that.

A pod's addresses come from its status, else from its port on the node that it is on. Everything is kept as it changes:
an event costs what it changes. What raises is contained: at the object that cannot be taken in, else at the bridge that
cannot be planned; the others go on. No input or output here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

from flows.bridge.binding import read_bridge, read_port
from flows.bridge.bridges_of_pods import BridgesOfPods
from flows.bridge.external_ids import MAX_NODE_ADDRESSES, pod_of_interface
from flows.bridge.leaving_pods import LeavingPods
from flows.bridge.node_addresses import NodeAddresses, with_counted_addresses
from flows.bridge.node_names import NodeNames
from flows.bridge.owners import BridgeName, Owners
from flows.bridge.reader import BindingChange, BindingReader
from flows.bridge.state import USERSPACE_DATAPATHS, Binding, BindingResult, BridgeState, PodBinding, PortProblem
from flows.cluster.model import Cluster, Key, Pod
from flows.cluster.net import Net, host_address_error
from flows.cluster.objects import CLUSTER_KINDS, ObjectRef, binding_fields, changed_objects, objects_of_kind
from flows.pipeline.pod_limits import Limit
from flows.plan.bridge_plan import BridgePlan
from flows.plan.encoder import FlowEncoder
from flows.plan.pod_ports import PodPorts
from flows.plan.rejected_objects import RejectedObjects, describe_error
from flows.plan.rule_distribution import RuleDistributor
from flows.policy.engine import PolicyEngine
from flows.wire.values import Body, FlowKey

ChangedFlows = dict[BridgeName, dict[FlowKey, Body | None]]
FIRST_REPLAN_SECONDS, LONGEST_REPLAN_SECONDS = (
    1.0,
    60.0,
)  # seconds until a bridge that could not be planned is tried again
MOST_ATTEMPTS = 4  # attempts to find all objects that cannot be taken in


NOT_SERVED = BindingResult(Binding(), ())  # of a bridge that is not served


class WorldError(Exception):
    """The cluster cannot be taken in, and it cannot be told which of its objects is to blame."""


@dataclass(slots=True)
class PlanFailure:
    """Why a bridge has no plan, and when it is tried again although nothing of it changed."""

    reason: str
    retry_at: float
    count: int = 0


class World:
    """The newest cluster and bridges, and the plan of each bridge that is served (see `owners`).

    `rejected` has the objects that could not be taken in, `failures` the bridges that could not be planned. The
    reconciler empties `replanned`.
    """

    def __init__(self) -> None:
        self.cluster: Cluster | None = None
        self.bridges: dict[BridgeName, BridgeState] = {}
        self.owners = Owners(lambda name: self.cluster is not None and name in self.cluster.nodes)
        self.rejected = RejectedObjects()
        self.failures: dict[BridgeName, PlanFailure] = {}
        self.metered: dict[int, tuple[Limit, ...]] = {}  # the limits for which a switch has meters
        self.answered: dict[int, tuple[Net, ...]] = {}  # the addresses that a switch's node answered for
        self.flow_encoder = FlowEncoder()
        self._begin()

    def _begin(self) -> None:
        """Nothing follows from anything yet."""
        self.engine = PolicyEngine()
        self.nodes = NodeNames()
        self.leaving = LeavingPods()
        self.node_addresses = NodeAddresses()
        self._accepted: Cluster | None = None
        self._broken = False  # the engine may be in a state between two others
        self.bridges_to_show: set[BridgeName] = set(self.bridges)  # since whoever shows the bridges' pods took them out
        self.replanned: set[BridgeName] = set(self.bridges)  # bridges that may have another plan, or none any more
        self._plans: dict[BridgeName, BridgePlan] = {}
        self._readings: dict[BridgeName, BindingResult] = {}
        self._readers: dict[BridgeName, BindingReader] = {}
        self._stale: set[BridgeName] = set(self.bridges)  # bridges whose ports are to be read again
        self._fallen: set[BridgeName] = set()  # bridges that failed since they were read
        self._changed: set[Key] = set()  # pods that are otherwise placed than when ports were read last
        self._bridges_of_pods = BridgesOfPods()
        self._addresses: dict[Key, tuple[Net, ...]] = {}  # of pods whose status has none
        self._pod_ports = PodPorts()
        self._distributor = RuleDistributor(self._plans, self._pod_ports, self._fail)

    def start_over(self) -> None:
        """Compute everything anew from the cluster and the bridges: something that was kept may be wrong."""
        self._begin()
        self._broken = True  # until all of this is done
        for name, bridge in self.bridges.items():
            self._bridges_of_pods.update_bridge(name, None, bridge)
            self.nodes.update_bridge(name, None, bridge)
            self.node_addresses.update_bridge(name, None, bridge)
        if self.cluster is not None:
            self._load(self.cluster)
            self._know_nodes(self.cluster)
        self._broken = False

    @property
    def accepted(self) -> Cluster:
        """The cluster as far as it could be taken in."""
        if self._accepted is None:
            self._accepted = self.rejected.accepted(self.cluster or Cluster())
        return self._accepted

    # -- changes -----------------------------------------------------------------------------------------------------

    def set_cluster(self, cluster: Cluster, touched: Iterable[ObjectRef] | None = None) -> bool:
        """A new snapshot. `touched` names what may differ from the last one; None has all of it compared.

        Returns whether anything differs.
        """
        old, self.cluster = self.cluster, cluster
        self._accepted = None
        if old is None:
            if not self._broken:
                self._load(cluster)
            self._know_nodes(cluster)
            self._stale.update(self.bridges)
            self.owners.nodes_changed()
            return True
        changed = False
        for kind, key in changed_objects(old, cluster) if touched is None else touched:
            changed |= self._take(kind, key, old, cluster)
        return changed

    def _know_nodes(self, cluster: Cluster) -> None:
        """Take in the names of all nodes, and on which of them pods run."""
        for node in cluster.nodes:
            self.nodes.add_node(node)
        self.nodes.set_pods(cluster.pods.values())
        self._find_nodes(list(self.bridges))

    def _find_nodes(self, names: Iterable[BridgeName]) -> None:
        """Find out anew which Node these bridges mean."""
        for name in names:
            old = self.bridges[name]
            bridge = self._with_node(old)
            if bridge.node != old.node:
                self.bridges[name] = bridge
                self.nodes.update_bridge(name, old, bridge)
                self.owners.claim(bridge, 0.0)  # its datapath id is what it was, and so is when it claimed that
                self._stale.add(name)

    def _with_node(self, bridge: BridgeState) -> BridgeState:
        meant = self.nodes.node_for(bridge.claimed_node)
        meant = "" if meant == bridge.claimed_node else meant
        return bridge if bridge.matched_node == meant else replace(bridge, matched_node=meant)

    def _load(self, cluster: Cluster) -> None:
        """Fill an engine that has nothing yet; what cannot be taken in is found out and left out."""
        for _ in range(MOST_ATTEMPTS):
            try:
                self.engine = PolicyEngine()
                self.engine.load(self.accepted)
                self.leaving = LeavingPods()
                self.node_addresses.mark_all_doubtful()
                for key, pod in self.accepted.pods.items():
                    if pod.terminating:
                        self.leaving.set_pod(key, pod)
                self._broken = False
                return
            except Exception:  # noqa: BLE001 - one object must not keep out all others
                if not self._find_faulty(cluster):
                    return
        self._broken = True
        raise WorldError("again and again objects could not be taken in")

    def _find_faulty(self, cluster: Cluster) -> bool:
        """Take one object after the other into a new engine; whether any of them cannot be taken in."""
        self.engine = engine = PolicyEngine()
        known, faulty = self.accepted, 0
        for kind in CLUSTER_KINDS:
            for key in list(objects_of_kind(known, kind)):
                try:
                    self._put(engine, kind, key, known)
                except Exception as error:  # noqa: BLE001 - as above
                    self._reject(kind, key, error)
                    faulty += 1
        return faulty > 0

    def _reject(self, kind: str, key: Key | str, error: Exception) -> None:
        self.rejected.add(kind, key, error)
        self._accepted = None
        self._broken = True

    def _take(self, kind: str, key: Key | str, old: Cluster, new: Cluster) -> bool:
        before, after = objects_of_kind(old, kind).get(key), objects_of_kind(new, kind).get(key)
        if before == after:
            return False
        again = bool(self.rejected.reasons) and self.rejected.readmit(kind, key)
        if again:
            self._accepted = None
        if kind == "Node" and isinstance(key, str):
            alike = self.nodes.add_node(key) if after is not None else self.nodes.remove_node(key)
            self._stale.update(name for name in alike if self.bridges[name].node == key)
            if (before is None) != (after is None):
                self._find_nodes(alike)
                self.owners.nodes_changed()
        elif kind == "Pod" and isinstance(key, Key) and (again or binding_fields(before) != binding_fields(after)):
            self._stale.update(self._bridges_of_pods.of(key))
            self._changed.add(key)
            self.nodes.update_pod(*(pod if isinstance(pod, Pod) else None for pod in (before, after)))
        if self._broken:
            return True  # everything is taken in anew anyway
        try:
            self._put(self.engine, kind, key, self.accepted)
        except Exception as error:  # noqa: BLE001 - one object must not keep out others
            self._reject(kind, key, error)
        return True

    def _put(self, engine: PolicyEngine, kind: str, key: Key | str, cluster: Cluster) -> None:
        """Tell an engine what an object is now. Raises whatever goes wrong."""
        if isinstance(key, str):
            if kind == "Namespace":
                namespace = cluster.namespaces.get(key)
                engine.put_namespace(key, namespace.labels if namespace else None)
        elif kind == "Pod":
            self._put_pod(engine, key, cluster.pods.get(key))
        elif (policy := cluster.policies.get(key)) is not None:
            engine.put_policy(policy)
        else:
            engine.remove_policy(key)

    def _put_pod(self, engine: PolicyEngine, key: Key, pod: Pod | None) -> None:
        self.leaving.set_pod(key, pod)
        before = self._addresses_of(engine, key)
        self.leaving.mark_doubtful(key, before)
        self.node_addresses.mark_doubtful(before)
        if pod is None:
            engine.remove_pod(key)
            return
        if not pod.addresses and key in self._addresses:
            pod = pod._replace(addresses=self._addresses[key])
        if yielded := self.leaving.yielded.get(key):
            pod = pod._replace(addresses=tuple(net for net in pod.addresses if net not in yielded))
        engine.put_pod(pod)
        self.leaving.mark_doubtful(key, pod.addresses)
        self.node_addresses.mark_doubtful(pod.addresses)

    @staticmethod
    def _addresses_of(engine: PolicyEngine, key: Key) -> tuple[Net, ...]:
        n = engine.index.number.get(key)
        return () if n is None else engine.index.pods[n].addresses

    def _yield_addresses(self) -> None:
        """Pods that are being deleted and have no port give what they had to those that have it now."""
        pods = self.engine.index.pods
        changed = self.leaving.decide(
            lambda key: bool(self._pod_ports.of(key)),
            lambda net: [pods[n].key for n in self.engine.index.claimants(net)],
        )
        for key in changed:
            try:
                self._put(self.engine, "Pod", key, self.accepted)
            except Exception as error:  # noqa: BLE001 - it concerns this pod and no other
                self._reject("Pod", key, error)

    def _decide_addresses(self) -> None:
        """What a pod has is no node's, though it stands at a bridge."""
        for name in self.node_addresses.take_doubtful() & self.bridges.keys():
            bridge = with_counted_addresses(self.bridges[name], lambda net: bool(self.engine.index.claimants(net)))
            if bridge is not self.bridges[name]:
                self.bridges[name] = bridge
                self._stale.add(name)

    def set_bridge(self, bridge: BridgeState, now: float = 0.0) -> bool:
        """A bridge is new or has changed. Returns whether anything differs."""
        name = (bridge.ovsdb, bridge.name)
        if metered := self.metered.get(bridge.dpid):
            bridge = replace(bridge, metered=metered)
        if answered := self.answered.get(bridge.dpid):
            bridge = replace(bridge, answered_addresses=answered)
        bridge = self._with_node(bridge)
        old = self.bridges.get(name)
        if old is not None:  # until it is decided anew
            bridge = replace(bridge, node_addresses=old.node_addresses, confirmed_addresses=old.confirmed_addresses)
        if old == bridge:
            return False
        self.bridges[name] = bridge
        if old is not None and old.datapath_type != bridge.datapath_type:
            self._drop_plan(name)
        self._bridges_of_pods.update_bridge(name, old, bridge)
        self.nodes.update_bridge(name, old, bridge)
        self.node_addresses.update_bridge(name, old, bridge)
        self._stale.add(name)
        self.failures.pop(name, None)
        self.owners.claim(bridge, now)
        return True

    def set_metered(self, dpid: int, limits: tuple[Limit, ...]) -> bool:
        """A switch has meters for these limits. Returns whether that is new."""
        if self.metered.get(dpid, ()) == limits:
            return False
        self.metered.pop(dpid, None)
        if limits:
            self.metered[dpid] = limits
        for name in self._claiming(dpid):
            self.bridges[name] = replace(self.bridges[name], metered=limits)
            self._stale.add(name)
        return True

    def set_answered(self, dpid: int, addresses: Iterable[Net]) -> bool:
        """A switch's node answered for these addresses, and no others. Returns whether that is new."""
        found = tuple(sorted(net for net in addresses if not host_address_error(net)))[:MAX_NODE_ADDRESSES]
        if self.answered.get(dpid, ()) == found:
            return False
        self.answered.pop(dpid, None)
        if found:
            self.answered[dpid] = found
        for name in self._claiming(dpid):
            old = self.bridges[name]
            self.bridges[name] = replace(old, answered_addresses=found)
            self.node_addresses.update_bridge(name, old, self.bridges[name])
        return True

    def _claiming(self, dpid: int) -> list[BridgeName]:
        """The bridges that claim a datapath id, whoever of them is served."""
        return [name for name, bridge in self.bridges.items() if bridge.dpid == dpid]

    def remove_bridge(self, name: BridgeName) -> None:
        """A bridge is gone, and the addresses that only its ports knew with it."""
        old = self.bridges.pop(name, None)
        self.replanned.add(name)
        self.owners.unclaim(name)
        self._bridges_of_pods.update_bridge(name, old, None)
        self.nodes.update_bridge(name, old, None)
        self.node_addresses.update_bridge(name, old, None)
        self._stale.discard(name)
        self._fallen.discard(name)
        self.failures.pop(name, None)
        self._drop(name)

    def _drop(self, name: BridgeName) -> None:
        """A bridge is read and planned no more."""
        self._readers.pop(name, None)
        self._drop_plan(name)
        gone = self._pod_ports.ports.get(name, {})
        self._pod_ports.forget_reported(name, gone)
        self._move(name, tuple(gone.values()), ())

    def _drop_plan(self, name: BridgeName) -> None:
        self._readings.pop(name, None)
        plan = self._plans.pop(name, None)
        if plan is not None:
            self._distributor.drop(name, plan)

    # -- what follows ------------------------------------------------------------------------------------------------

    def update_plans(self, now: float = 0.0) -> ChangedFlows:
        """Bring every plan up to date; returns the flows that came, went or differ, as they were before, of the bridges
        where any did. A bridge that fails is tried once more from nothing; then it has no plan.

        Raises WorldError.
        """
        self.decide_served(now)
        self._stale.update(name for name, failure in self.failures.items() if now >= failure.retry_at)
        told = self._round()
        if self._fallen:
            fallen, self._fallen = self._fallen, set()
            self._stale |= fallen
            again = self._round()
            told = {name: {**again.get(name, {}), **told.get(name, {})} for name in told.keys() | again.keys()}
            self._fallen = set()
            for name in fallen - self._plans.keys():
                failure = self.failures[name]
                failure.count += 1
                failure.retry_at = now + min(FIRST_REPLAN_SECONDS * 2 ** (failure.count - 1), LONGEST_REPLAN_SECONDS)
        for name in self.failures.keys() & self._plans.keys():
            del self.failures[name]
        return told

    def decide_served(self, now: float) -> None:
        """Decide which bridges are served."""
        self._stale |= self.owners.decide(now)

    def _round(self) -> ChangedFlows:
        """Read, compute, plan."""
        for _ in range(MOST_ATTEMPTS):
            if self._broken:
                self.start_over()
            self._decide_addresses()
            moved, refreshed = self._read_ports()
            self._yield_addresses()
            self._decide_addresses()
            if self._stale:  # a port said an address that stands at some bridge as its node's
                more, again = self._read_ports()
                moved, refreshed = moved | more, refreshed | again
            if not self._broken:
                break
        else:
            raise WorldError("objects cannot be taken in together with what ports say of them")
        settled = self.engine.settle()
        concerned = refreshed | self._distributor.distribute(settled, moved, self.engine)
        for key in settled.isolation:
            for name, ofport in self._pod_ports.of(key):
                concerned.add(name)
                self._isolate(name, ofport, key)
        return self._taken(concerned)

    def _isolate(self, name: BridgeName, ofport: int, key: Key) -> None:
        plan = self._plans.get(name)
        if plan is None:
            return
        try:
            plan.isolate(ofport, self.engine.isolated(key))
        except Exception as error:  # noqa: BLE001 - it concerns this bridge and no other
            self._fail(name, error)

    def _taken(self, concerned: set[BridgeName]) -> ChangedFlows:
        told: ChangedFlows = {}
        self.bridges_to_show |= concerned
        for name in concerned & self._plans.keys():
            try:
                changes = self._plans[name].take()
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(name, error)
                continue
            if changes:
                told[name] = changes
        return told

    def _fail(self, name: BridgeName, error: Exception) -> None:
        """A bridge cannot be planned: what its plan says cannot be believed any more."""
        self.replanned.add(name)
        self.bridges_to_show.add(name)
        self._readings.pop(name, None)
        self._plans.pop(name, None)
        self._distributor.purge(name)
        self._fallen.add(name)
        failure = self.failures.setdefault(name, PlanFailure("", 0.0))
        failure.reason = f"its flows cannot be planned, the switch is left as it is: {describe_error(error)}"

    def _read_ports(self) -> tuple[set[Key], set[BridgeName]]:
        """Read the ports of stale bridges again; returns the pods that came, went or moved, and those bridges.

        A port can give a pod its address, and that address can matter to nobody's ports: so once round is enough.
        """
        stale, self._stale = self._stale & self.bridges.keys(), set()
        self.replanned |= stale
        moved: set[Key] = set()
        for name in sorted(stale):
            if self.owners.refusal(name):
                moved.update(self._pod_ports.ports.get(name, ()))
                self._drop(name)
                self.failures.pop(name, None)
                continue
            try:
                found = self._read(name)
                moved |= self._move(name, found.gone, found.came)
                moved |= self._plan(name, found)
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(name, error)
        changed, self._changed = self._changed, set()
        for key in changed:
            self._learn_address(key)
        return moved, stale

    def _read(self, name: BridgeName) -> BindingChange:
        """Read a bridge's ports."""
        reader = self._readers.get(name)
        self._readings.pop(name, None)
        if reader is not None:
            try:
                return reader.read(self.bridges[name], self.accepted, self._changed)
            except Exception:
                self._drop(name)
                raise
        reader = BindingReader()
        found = reader.read(self.bridges[name], self.accepted, self._changed)
        self._readers[name] = reader
        # What stands there is of a reading that nobody remembers.
        return found._replace(gone=tuple(self._pod_ports.ports.get(name, {}).values()))

    def _plan(self, name: BridgeName, found: BindingChange) -> set[Key]:
        """Tell a bridge's plan what was read; returns its pods if the plan is new and knows no rule of theirs."""
        plan = self._plans.get(name)
        if plan is not None:
            numbers = {pod.ofport for pod in found.came}
            gone = [pod.ofport for pod in found.gone if pod.ofport not in numbers]
            plan.update(found.bridge, gone, found.came, self.engine.isolated)
            return set()
        userspace = self.bridges[name].datapath_type in USERSPACE_DATAPATHS
        plan = BridgePlan(self.flow_encoder, userspace, partial(self._distributor.watch, name))
        there = self._pod_ports.ports.get(name, {})
        self._pod_ports.forget_reported(name, [*there, *(pod.pod for pod in found.gone)])
        plan.update(found.bridge, (), tuple(there.values()), self.engine.isolated)
        self._plans[name] = plan
        return set(there)

    def _move(self, name: BridgeName, gone: tuple[PodBinding, ...], came: tuple[PodBinding, ...]) -> set[Key]:
        """Ports of a bridge are gone, others came; returns the pods that came, went or moved."""
        try:
            moved, concerned = self._pod_ports.move(name, gone, came)
        except Exception:
            self._readers.pop(name, None)  # read all of it again
            raise
        for key in concerned:
            self._learn_address(key)
        for key in moved:
            self.leaving.mark_doubtful(key, self._addresses_of(self.engine, key))
        return moved

    def _learn_address(self, key: Key) -> None:
        """A pod whose status has no address has those of its port on the node that it is on: no other node can say.

        Should it have several ports there, of the last by name.
        """
        pod = self.accepted.pods.get(key)
        wanted: tuple[Net, ...] = ()
        if pod is not None and pod.node and not pod.addresses:
            bridges = sorted(name for name, _ in self._pod_ports.of(key))
            wanted = self._pod_ports.addresses(key, [name for name in bridges if self.bridges[name].node == pod.node])
        if self._addresses.get(key, ()) == wanted:
            return
        if wanted:
            self._addresses[key] = wanted
        else:
            del self._addresses[key]
        try:
            self._put(self.engine, "Pod", key, self.accepted)
        except Exception as error:  # noqa: BLE001 - it concerns this pod and no other
            self._reject("Pod", key, error)

    # -- asking ------------------------------------------------------------------------------------------------------

    def reading(self, name: BridgeName) -> BindingResult:
        """Which pod is behind which port of a bridge, as of the last `settle`; none on one that is not served."""
        if self.owners.refusal(name):
            return NOT_SERVED
        reader, plan = self._readers.get(name), self._plans.get(name)
        if reader is None:
            return read_bridge(self.bridges[name], self.accepted)
        found = self._readings.get(name)
        if found is None:
            found = self._readings[name] = reader.reading()
        return _without_refused(found, plan.refused) if plan is not None and plan.refused else found

    def kept_reading(self, name: BridgeName) -> BindingResult | None:
        """The same, and the same object while nothing changes; None before the first `settle` that knew the bridge."""
        return self.reading(name) if name in self._readers or self.owners.refusal(name) else None

    def ports_of(self, pod: Key) -> tuple[tuple[BridgeName, int], ...]:
        """The bridges that have a port of a pod, and its ofport there: one, unless somebody is wrong."""
        return tuple(place for place in self._pod_ports.of(pod) if place[0] in self.bridges)

    def pod_bindings_of(self, pod: Key) -> list[PodBinding]:
        """The same ports as they were read."""
        return [self._pod_ports.ports[name][pod] for name, _ in self.ports_of(pod)]

    def plan_of(self, name: BridgeName) -> BridgePlan | None:
        """The plan of a bridge as of the last `settle`; None before there was one, or where there can be none."""
        return self._plans.get(name)

    def left_out(self) -> dict[str, set[BridgeName]]:
        """The namespaces whose rules bridges leave out, because there are too many, and these bridges."""
        found: dict[str, set[BridgeName]] = {}
        for name, plan in self._plans.items():
            for namespace in plan.rules.left_out:
                found.setdefault(namespace, set()).add(name)
        return found

    def bridges_with_subjects_of(self, policy: Key) -> set[BridgeName]:
        """The bridges that have ports of subjects of a policy's rules."""
        return self._distributor.bridges_with(self.engine.parts_of(policy))

    def bridges_of(self, ovsdb: str) -> list[BridgeName]:
        """The bridges that an OVSDB has."""
        return sorted(self.owners.bridges_of(ovsdb))

    def retry_at(self) -> float | None:
        """When a bridge that could not be planned is tried again."""
        return min((failure.retry_at for failure in self.failures.values()), default=None)

    def pods_without_address(self) -> list[Key]:
        """Running pods without any address, neither in their status nor on a port."""
        pods: Iterable[Pod] = self.cluster.pods.values() if self.cluster else ()
        return [pod.key for pod in pods if pod.networked and not pod.addresses and not self._has_address(pod.key)]

    def _has_address(self, key: Key) -> bool:
        """Whether some port says an address of a pod."""
        bridges = [self.bridges[name] for name in self._bridges_of_pods.of(key)]
        ports = (
            (i, bridge) for bridge in bridges for i in bridge.interfaces if pod_of_interface(i.external_ids) == key
        )
        readings = (read_port(interface, bridge, self.accepted) for interface, bridge in ports)
        return any(isinstance(one, PodBinding) and one.addresses for one in readings)


def _without_refused(reading: BindingResult, refused: dict[int, str]) -> BindingResult:
    """What is read without the ports whose flows cannot be made."""
    view, problems = reading
    shut = [PortProblem(pod.interface, refused[pod.ofport]) for pod in view.pods if pod.ofport in refused]
    kept = tuple(pod for pod in view.pods if pod.ofport not in refused)
    view = replace(view, pods=kept)
    return BindingResult(view, tuple(sorted(chain(problems, shut), key=lambda problem: problem.interface)))
