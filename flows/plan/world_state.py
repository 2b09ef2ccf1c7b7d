"""What a world consists of, and the questions that the reconciler, status and metrics ask about it.

Nothing here changes the world: `world` does. Bindings and plans are those of the last `World.update_plans`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from flows.bridge.binding import read_bridge, read_port
from flows.bridge.bridges_of_pods import BridgesOfPods
from flows.bridge.claim_contest import BridgeName
from flows.bridge.external_ids import pod_of_interface
from flows.bridge.network import FLAT_NETWORK, NetworkOptions
from flows.bridge.node_names import NodeNames
from flows.bridge.owners import Owners
from flows.bridge.routing import NetworkMode
from flows.bridge.state import USERSPACE_DATAPATHS, Binding, BindingResult, BridgeState, PodBinding, PortProblem
from flows.cluster.domain_names import NamePatterns
from flows.cluster.model import AuditMode, Cluster, Direction, Key, Pod, Policy, Selector
from flows.cluster.net import Net
from flows.pipeline.pod_limits import Limit
from flows.plan.accepted_objects import AcceptedObjects
from flows.plan.bridge_plan import BridgePlan
from flows.plan.bridge_plans import BridgePlans
from flows.plan.cluster_network import ClusterNetwork
from flows.plan.connection_scope import ConnectionScope, connection_scope
from flows.plan.displaced_bridges import DisplacedBridges
from flows.plan.dns_servers import dns_servers
from flows.plan.effective_cluster import EffectiveParts
from flows.plan.encoder import FlowEncoder
from flows.plan.learned_names import LearnedNames
from flows.plan.plan_failures import PlanFailure, PlanFailures
from flows.plan.pod_ports import BridgePorts
from flows.plan.rejected_objects import RejectedObjects
from flows.policy.engine import PolicyEngine
from flows.policy.levels import PlacedPolicy
from flows.policy.policy_notes import policy_notes
from flows.policy.tracked_sets import PodSet, TrackedRule
from flows.render.answers import DnsServer
from flows.services.sctp import without_sctp
from flows.services.served import ServedPort

NOT_SERVED = BindingResult(Binding(), ())  # of a bridge that is not served


class WorldState:
    """`bridges` are all bridges that OVSDBs have; `owners` says which of them are served.

    `is_planned`: whether the flows of a bridge are planned here. Of another one its ports alone are read, for the
    addresses that they give to pods.
    """

    def __init__(
        self,
        network: NetworkOptions = FLAT_NETWORK,
        audit: AuditMode = AuditMode.OFF,
        is_planned: Callable[[BridgeName], bool] = lambda name: True,
    ) -> None:
        """`audit` is what is audited of pods without an annotation."""
        self._is_planned = is_planned
        self.network_options = network
        self._routes = network.mode is not NetworkMode.FLAT
        self.bridges: dict[BridgeName, BridgeState] = {}
        self.owners = Owners(lambda name: self.cluster is not None and name in self.cluster.nodes)
        self.displaced = DisplacedBridges()
        self.metered: dict[int, tuple[Limit, ...]] = {}  # by datapath id: the limits for which the switch has meters
        self.answered: dict[int, tuple[Net, ...]] = {}  # by datapath id: addresses that the node answered for
        self.learned = LearnedNames()
        self.flow_encoder = FlowEncoder()
        self._objects = AcceptedObjects(network.mode, audit)
        self._failures = PlanFailures()
        self._reset()

    def _reset(self) -> None:
        """Forget everything that is computed from the cluster and the bridges."""
        self._objects.reset()
        self._failures.take_new()
        self.nodes = NodeNames()
        self.network = ClusterNetwork(self.network_options)
        self._bridges_of_pods = BridgesOfPods()
        self._plans = BridgePlans(
            self.bridges, self._objects, self.flow_encoder, self._failures, self.learned, self._is_planned
        )
        self._plans.dns_servers = dns_servers(self.cluster or Cluster(), self.network_options)
        self._dns_stale = False  # the servers whose DNS answers count may be others
        self._answering: set[BridgeName] = set()  # bridges that were told of others
        self._stale: set[BridgeName] = set(self.bridges)  # bridges to read again
        self._rebound: set[Key] = set()  # pods that may be bound differently since ports were read

    # -- the cluster -------------------------------------------------------------------------------------------------

    @property
    def cluster(self) -> Cluster | None:
        """The newest snapshot, None before the first."""
        return self._objects.cluster

    @property
    def engine(self) -> PolicyEngine:
        """The policy engine, with all objects that were accepted."""
        return self._objects.engine

    @property
    def rejected(self) -> RejectedObjects:
        """The objects of the snapshot that are not accepted, because handling them raised."""
        return self._objects.rejected

    def effective_parts(self) -> EffectiveParts:
        """What `effective_cluster` makes the cluster of that the desired flows follow from; quick to copy."""
        added: dict[str, tuple[Net, ...]] = {}
        for name, bridge in self.bridges.items():
            if bridge.node_addresses and not self.owners.refusal(name):
                added[bridge.node] = (*added.get(bridge.node, ()), *self._counted_addresses(name))
        return self._objects.effective_parts(added)._replace(learned=self.learned.snapshot())

    def connection_scope(self, name: BridgeName, keys: Iterable[Key], addresses: Iterable[Net]) -> ConnectionScope:
        """What the verdict depends on at an end on this bridge, of connections between these pods and addresses."""
        bridge = self.bridges[name]
        added = {bridge.node: self._counted_addresses(name)} if bridge.node_addresses else {}
        scope = connection_scope(self._objects.accepted, self.engine, keys, addresses, added)
        return scope._replace(learned={key: self.learned.of_pod(key) for key in scope.pods if key in self.learned})

    def _counted_addresses(self, name: BridgeName) -> tuple[Net, ...]:
        """The addresses that a bridge adds to those of its node."""
        # A port of the bridge may give a pod an address that the bridge says is its node's: it is the pod's.
        kept = self.kept_binding(name)
        return self.bridges[name].node_addresses if kept is None else kept.binding.node_addresses

    def pods_without_address(self) -> list[Key]:
        """Running pods without any address, neither in their status nor on a port."""
        pods: Iterable[Pod] = self.cluster.pods.values() if self.cluster else ()
        return [pod.key for pod in pods if pod.networked and not pod.addresses and not self._has_port_address(pod.key)]

    def _has_port_address(self, key: Key) -> bool:
        bridges = [self.bridges[name] for name in self._bridges_of_pods.of(key)]
        ports = (
            (one, bridge)
            for bridge in bridges
            for one in bridge.interfaces
            if pod_of_interface(one.external_ids) == key
        )
        uses = (read_port(interface, bridge, self._objects.accepted) for interface, bridge in ports)
        return any(isinstance(use, PodBinding) and use.addresses for use in uses)

    # -- policy ------------------------------------------------------------------------------------------------------

    @property
    def pod_numbers(self) -> Mapping[Key, int]:
        """The number of each pod in the sets that `selected_pods` returns."""
        return self.engine.pod_numbers

    def selected_pods(self, namespace: str, subjects: Selector) -> Collection[int]:
        """The numbers of the pods of a namespace that a selector matches."""
        return self.engine.selected_pods(namespace, subjects)

    def subjects_of_policy(self, key: Key) -> list[Pod]:
        """The pods that a policy selects, in any order; none for an unknown policy."""
        cluster_policy = self.cluster.cluster_policies.get(key) if self.cluster else None
        if cluster_policy is not None:
            return self.engine.pods_with(self.engine.subject_pods(cluster_policy.subject))
        policy = self.cluster.policies.get(key) if self.cluster else None
        if policy is None:
            return []
        return self.engine.pods_with(self.selected_pods(key.namespace, policy.subjects))

    def pods_with_address(self, address: Net) -> list[Key]:
        """The pods that have an address, in the order of their numbers; more than one where addresses are shared."""
        return [pod.key for pod in self.engine.pods_with_address(address)]

    def isolation(self, pod: Key) -> frozenset[Direction]:
        """The directions in which policy isolates a pod."""
        return self.engine.isolated(pod)

    def isolating_policies(self, pods: Iterable[Key]) -> dict[tuple[Key, Direction], tuple[str, ...]]:
        """By pod and direction, the names of the policies that isolate it there."""
        return self.engine.isolating_policies(pods)

    def subject_sets_of(self, pod: Key) -> list[PodSet]:
        """The sets of subjects of rules that a pod is in."""
        return self.engine.subjects_of(pod)

    def rules_of_policy(self, policy: Key) -> list[TrackedRule]:
        """The compiled rules that stand for a policy's rules; other policies may share them."""
        return self.engine.tracked_rules_of(policy)

    def notes_on_policy(self, policy: Policy) -> tuple[str, ...]:
        """What in a policy has no effect now. None is known of a rejected policy."""
        rejected = ("NetworkPolicy", policy.key) in self.rejected.reasons
        return () if rejected else policy_notes(self.engine, policy)

    def placed(self, policy: Key) -> PlacedPolicy:
        """The rules of a ClusterNetworkPolicy with their levels."""
        return self.engine.tiers.placed(policy)

    def rule_errors(self) -> list[tuple[Key, str, str]]:
        """Rules that are left out because compiling them raised: policy, place (as `ingress[0]`) and why."""
        failures = self.engine.failures.items()
        return [(ref.policy, f"{ref.direction.value}[{ref.number}]", reason) for ref, reason in failures]

    @property
    def service_problems(self) -> Mapping[Key, tuple[str, ...]]:
        """By Service, what of it has no effect, and why."""
        found, sctp = self._objects.services.problems, self._objects.services.sctp
        userspace = sorted(self._userspace_nodes()) if sctp else ()
        if not userspace:
            return found
        more = {key: (*found.get(key, ()), without_sctp(key, userspace)) for key in sctp}
        return {**found, **more}

    def _userspace_nodes(self) -> set[str]:
        """The nodes whose switches forward with the userspace datapath."""
        return {
            bridge.node
            for name, bridge in self.bridges.items()
            if bridge.datapath_type in USERSPACE_DATAPATHS and not self.owners.refusal(name)
        }

    @property
    def services_without_room(self) -> Sequence[Key]:
        """The Services, and pods with host ports, that no bridge has, because all together are too many."""
        return self._plans.services.without_room()

    def refused_service_ports(self) -> Iterator[tuple[ServedPort, str]]:
        """The ports of Services that are left out because their flows cannot be made, and why."""
        return self._plans.services.refused()

    # -- domain names ------------------------------------------------------------------------------------------------

    @property
    def dns_servers(self) -> Collection[DnsServer]:
        """The servers whose answers count."""
        return self._plans.dns_servers

    def pod_at(self, dpid: int, ofport: int) -> Key | None:
        """The pod at a port of a switch, if it is one of that node's: a node speaks for no others."""
        name = self.owners.served(dpid)
        plan = self._plans.by_bridge.get(name) if name is not None else None
        bound = plan.pod_at(ofport) if plan is not None else None
        pod = self.engine.pod(bound) if bound is not None else None
        return pod.key if pod is not None and name is not None and pod.node == self.bridges[name].node else None

    def addresses_of(self, pod: Key) -> tuple[Net, ...]:
        """A pod's addresses."""
        found = self.engine.pod(pod)
        return found.addresses if found is not None else ()

    def name_patterns(self, pod: Key) -> NamePatterns:
        """The patterns of domain names in the rules that select a pod."""
        found = self._plans.patterns.get(pod)
        if found is None:
            rules = [rule for subjects in self.engine.subjects_of(pod) for rule in subjects.rules if rule.owners]
            found = self._plans.patterns[pod] = NamePatterns([one for rule in rules for one in rule.key.names])
        return found

    # -- bridges -----------------------------------------------------------------------------------------------------

    def binding(self, name: BridgeName) -> BindingResult:
        """Which pod is behind which port of a bridge; nothing on a bridge that is not served."""
        if self.owners.refusal(name):
            return NOT_SERVED
        found = self._plans.binding(name)
        if found is None:
            return read_bridge(self.bridges[name], self._objects.accepted)
        plan = self.plan_of(name)
        return _without_refused(found, plan.refused) if plan is not None and plan.refused else found

    def kept_binding(self, name: BridgeName) -> BindingResult | None:
        """As `binding`, but None where the bridge would have to be read first."""
        return self.binding(name) if self._plans.has_reader(name) or self.owners.refusal(name) else None

    def ports_of(self, pod: Key) -> BridgePorts:
        """The bridges that have a port of a pod, and its ofport there. One as a rule; see `pod_ports`."""
        return tuple(port for port in self._plans.pod_ports.of(pod) if port[0] in self.bridges)

    def pod_bindings_of(self, pod: Key) -> list[PodBinding]:
        """The same ports as they were read."""
        return [self._plans.pod_ports.on(name)[pod] for name, _ in self.ports_of(pod)]

    def refusal(self, name: BridgeName) -> str:
        """Why a bridge is not served; "" for one that is."""
        return self.owners.refusal(name)

    def served_dpid(self, name: BridgeName) -> int | None:
        """The datapath id of a served bridge; None where it is not served."""
        bridge = self.bridges.get(name)
        return bridge.dpid if bridge is not None and self.owners.served(bridge.dpid) == name else None

    def why_no_node(self, bridge: BridgeState) -> str:
        """Why a bridge is not matched to a node; "" for one that is."""
        return self.nodes.why_no_node(bridge)

    def bridges_of(self, ovsdb: str) -> list[BridgeName]:
        """The bridges that an OVSDB has."""
        return sorted(self.owners.bridges_of(ovsdb))

    # -- plans -------------------------------------------------------------------------------------------------------

    def plan_of(self, name: BridgeName) -> BridgePlan | None:
        """A bridge's plan; None before the first, where it is not served, and where planning it failed."""
        return self._plans.by_bridge.get(name)

    @property
    def failures(self) -> Mapping[BridgeName, PlanFailure]:
        """The bridges that could not be planned."""
        return self._failures.by_bridge

    def retry_at(self) -> float | None:
        """When the next of them is tried again, in seconds of the caller's clock."""
        return self._failures.retry_at()

    def left_out(self) -> dict[str, set[BridgeName]]:
        """The namespaces whose rules are left out of bridges that would need too many flows, with these bridges."""
        found: dict[str, set[BridgeName]] = {}
        for name, plan in self._plans.by_bridge.items():
            for namespace in plan.namespaces_left_out:
                found.setdefault(namespace, set()).add(name)
        return found

    def closed_policies(self) -> dict[Key, set[BridgeName]]:
        """The ClusterNetworkPolicies with rules that have no room on bridges, which deny their pods everything instead,
        with these bridges."""
        found: dict[Key, set[BridgeName]] = {}
        for name, plan in self._plans.by_bridge.items():
            for key in plan.rules.closed_policies:
                found.setdefault(key, set()).add(name)
        return found

    def staged_left_out(self) -> frozenset[BridgeName]:
        """The bridges that have no room to count what the promotion of staged policies would change."""
        return frozenset([name for name, plan in self._plans.by_bridge.items() if plan.rules.staged_left_out])

    def bridges_with_subjects_of(self, policy: Key) -> set[BridgeName]:
        """The bridges that have ports of subjects of a policy's rules."""
        return self._plans.distributor.bridges_with(self.rules_of_policy(policy))


def _without_refused(found: BindingResult, refused: dict[int, str]) -> BindingResult:
    """A binding without the ports whose flows cannot be made; these are problems."""
    binding, problems = found
    refused_ports = [PortProblem(pod.interface, refused[pod.ofport]) for pod in binding.pods if pod.ofport in refused]
    kept = tuple(pod for pod in binding.pods if pod.ofport not in refused)
    binding = replace(binding, pods=kept)
    return BindingResult(binding, tuple(sorted(chain(problems, refused_ports), key=lambda problem: problem.interface)))
