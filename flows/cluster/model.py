"""The cluster as values: the fields of Kubernetes objects that Headgate uses, and no others.

All values are immutable and comparable, so that threads can share a snapshot, and an update of other fields gives an
equal value. Parsing is in `flows.parse`; the meaning of policies is in `flows.policy`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from flows.cluster.domain_names import LearnedAddress
from flows.cluster.net import Net

Labels = Mapping[str, str]
NO_LABELS: Labels = MappingProxyType({})
NETWORK_POLICY = "NetworkPolicy"  # the kind in every version of the network policy API
CLUSTER_NETWORK_POLICY = "ClusterNetworkPolicy"
NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"


class Protocol(enum.IntEnum):
    """The transport protocols that a NetworkPolicy port may name; values are IP protocol numbers (IANA)."""

    TCP = 6
    UDP = 17
    SCTP = 132
    __hash__ = int.__hash__  # that of Enum is a Python function, and very many keys have a member in them


class Direction(enum.StrEnum):
    """The direction of a connection as its subject sees it."""

    INGRESS = "ingress"
    EGRESS = "egress"
    __hash__ = str.__hash__  # as for Protocol


class Tier(enum.StrEnum):
    """The tiers of network policy, in the order in which they are evaluated. A ClusterNetworkPolicy is in the first or
    the last of them."""

    ADMIN = "Admin"
    NETWORK_POLICY = "NetworkPolicy"
    BASELINE = "Baseline"
    __hash__ = str.__hash__  # as for Protocol


class Action(enum.StrEnum):
    """What a rule of a ClusterNetworkPolicy does with the connections that it matches. Pass leaves the tier."""

    ACCEPT = "Accept"
    DENY = "Deny"
    PASS = "Pass"
    __hash__ = str.__hash__  # as for Protocol


class Operator(enum.StrEnum):
    """Label selector operators (meta/v1 LabelSelectorOperator)."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    __hash__ = str.__hash__  # as for Protocol


class AuditMode(enum.StrEnum):
    """What is reported of a pod's connections, as an annotation or an option says."""

    OFF = "off"
    DENIED = "denied"  # what is dropped, and why
    ALL = "all"  # and connections that open


class OriginalApi(enum.StrEnum):
    """The versions of the original network policy API (before `networking.k8s.io`), in which a namespace isolates its
    pods."""

    ALPHA = "alpha"
    BETA = "beta"


class Key(NamedTuple):
    """A namespaced name. Its text form is `namespace/name`, or `name` alone for an object outside namespaces."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Requirement(NamedTuple):
    """One term of a selector. `values` is sorted and empty for Exists and DoesNotExist."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()


class Selector(NamedTuple):
    """A label selector: all requirements must hold, so the empty one selects everything.

    matchLabels are requirements with operator In and one value. The tuple is sorted and without duplicates, so
    selectors with the same requirements are equal.
    """

    requirements: tuple[Requirement, ...] = ()


EVERYTHING = Selector()


class IPBlock(NamedTuple):
    """A prefix without the prefixes in `excepts`, each of which lies within it."""

    cidr: Net
    excepts: tuple[Net, ...] = ()


class Peer(NamedTuple):
    """One NetworkPolicyPeer. Either `ip_block` alone is set, or at least one of the selectors.

    A pod selector without a namespace selector means pods of the policy's own namespace; a namespace selector without a
    pod selector means every pod of those namespaces. None is an absent field, EVERYTHING an empty selector.
    """

    pods: Selector | None = None
    namespaces: Selector | None = None
    ip_block: IPBlock | None = None


class PortSpec(NamedTuple):
    """One NetworkPolicyPort. `port` is a number, a container port's name, or None for every port of the protocol.

    `end_port` is set only beside a number and is not smaller; the range includes both ends.
    """

    protocol: Protocol = Protocol.TCP
    port: int | str | None = None
    end_port: int | None = None


class Rule(NamedTuple):
    """One ingress or egress rule. Empty `peers` means every source or destination, empty `ports` every protocol
    and port: in the API an absent and an empty list mean the same in these two places."""

    peers: tuple[Peer, ...] = ()
    ports: tuple[PortSpec, ...] = ()


class StagedPolicy(NamedTuple):
    """What a staged NetworkPolicy is to say once it is promoted; the fields are those of Policy. A staged deletion says
    nothing."""

    isolates: frozenset[Direction] = frozenset()
    ingress: tuple[Rule | None, ...] = ()
    egress: tuple[Rule | None, ...] = ()


class Policy(NamedTuple):
    """A NetworkPolicy. A direction's rules count only when the policy isolates in that direction.

    All fields say what is in force. So a policy that is staged isolates nothing here and has no rule: `staged` has what
    it will say, None for a policy that is not staged.

    `errors` are the parse errors, each with the path of its field; empty when the whole policy can be realized. A rule
    with an error is None: it allows nothing, its pods stay isolated, and the other rules keep their numbers. `audit` is
    what its annotation wants audited of the pods that it isolates.
    """

    key: Key
    subjects: Selector = EVERYTHING
    isolates: frozenset[Direction] = frozenset()
    ingress: tuple[Rule | None, ...] = ()
    egress: tuple[Rule | None, ...] = ()
    errors: tuple[str, ...] = ()
    audit: AuditMode = AuditMode.OFF
    staged: StagedPolicy | None = None

    def rules(self, direction: Direction) -> tuple[Rule | None, ...]:
        """The rules that count in `direction`; none where the policy does not isolate."""
        if direction not in self.isolates:
            return ()
        return self.ingress if direction is Direction.INGRESS else self.egress

    def stage(self) -> Policy:
        """The same policy, staged: nothing of it is in force. Nor will be anything of one whose deletion is staged."""
        said = self.staged or self
        staged = StagedPolicy(said.isolates, said.ingress, said.egress)
        return self._replace(isolates=frozenset(), ingress=(), egress=(), staged=staged)

    def stage_deletion(self) -> Policy:
        """The same policy, in force, whose deletion is staged."""
        return self._replace(staged=StagedPolicy())

    @property
    def promoted(self) -> Policy:
        """The policy as it is once its staging ends: itself where it is not staged."""
        staged = self.staged
        if staged is None:
            return self
        return self._replace(isolates=staged.isolates, ingress=staged.ingress, egress=staged.egress, staged=None)


class Subject(NamedTuple):
    """The pods that a ClusterNetworkPolicy selects: those that `pods` matches, in the namespaces that `namespaces`
    matches."""

    namespaces: Selector = EVERYTHING
    pods: Selector = EVERYTHING


class NodePeer(NamedTuple):
    """The nodes that a selector matches, by all their addresses."""

    nodes: Selector


class DomainPeer(NamedTuple):
    """The addresses that DNS answers gave the subject for the names that `pattern` stands for (`domain_names`)."""

    pattern: str


class ClusterRule(NamedTuple):
    """One rule of a ClusterNetworkPolicy. Its `peers` are never empty; empty `ports` mean every protocol and port.

    `unreadable` rules could not be parsed, and their peers and ports do not count: with Accept they match nothing, with
    another action they deny everything. A peer's namespaces are never None here, for there is no namespace of the
    policy's own.
    """

    action: Action
    peers: tuple[Peer | NodePeer | DomainPeer, ...] = ()
    ports: tuple[PortSpec, ...] = ()
    name: str = ""
    unreadable: bool = False


class ClusterPolicy(NamedTuple):
    """A ClusterNetworkPolicy, or a policy of an older version of its API as one.

    `key` has no namespace. `kind` is that of the object. `tier` is Admin or Baseline. Lower priorities come first; of
    equal ones, that with the smaller name. `errors` and `audit` as in Policy. `generation` is the object's, which the
    API server raises with each change of the spec; 0 where it has none.
    """

    key: Key
    kind: str
    tier: Tier
    priority: int
    subject: Subject = Subject()
    ingress: tuple[ClusterRule, ...] = ()
    egress: tuple[ClusterRule, ...] = ()
    errors: tuple[str, ...] = ()
    audit: AuditMode = AuditMode.OFF
    generation: int = 0

    def rules(self, direction: Direction) -> tuple[ClusterRule, ...]:
        """The rules of a direction, the first of which to match decides."""
        return self.ingress if direction is Direction.INGRESS else self.egress

    @property
    def place(self) -> tuple[int, str]:
        """What the policies of a tier are sorted by."""
        return self.priority, self.key.name


class ContainerPort(NamedTuple):
    """A named container port, which a policy's port name resolves to. Ports without a name are not kept."""

    name: str
    number: int
    protocol: Protocol


class HostPort(NamedTuple):
    """A port of a pod's node that leads to `container_port` of the pod: at `address`, where 0.0.0.0 and :: are all of
    their family, or at all addresses (None)."""

    protocol: Protocol
    number: int
    container_port: int
    address: Net | None = None


class Pod(NamedTuple):
    """A Pod, as far as policy and binding need it.

    `addresses` are the status's podIPs (single addresses, in the API's order). `finished` is phase Succeeded or Failed.
    `terminating` is true once metadata.deletionTimestamp is set. `node` and `uid` are empty when unknown. `workload` is
    `Kind/name` of what made the pod, like `Deployment/web`, "" where nothing did; it is for people only, and so is
    `limits_bandwidth`: an annotation asks for a bandwidth. `audit` is None without an annotation.
    """

    key: Key
    labels: Labels = NO_LABELS
    node: str = ""
    uid: str = ""
    addresses: tuple[Net, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    host_network: bool = False
    finished: bool = False
    terminating: bool = False
    workload: str = ""
    limits_bandwidth: bool = False
    audit: AuditMode | None = None
    host_ports: tuple[HostPort, ...] = ()

    @property
    def networked(self) -> bool:
        """True for a running pod with a network namespace of its own: policies select it as subject and as peer."""
        return not self.host_network and not self.finished


class Workload(NamedTuple):
    """An object that makes pods, as far as its pods can be foretold. A controller that runs has no use for it.

    `template` is the pod that it would make, without an address and by the workload's own name. `owner` is the workload
    that made this one, as `Kind/name`. `several`: it makes more than one pod.
    """

    kind: str
    key: Key
    template: Pod
    owner: str = ""
    several: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """A Node.

    `addresses` are those of type InternalIP, in the API's order. `pod_cidrs` are spec.podCIDRs, at most one of each
    family. `created` is metadata.creationTimestamp, RFC 3339 in UTC, so that its text sorts by time; "" when unknown.
    `zone` is its label topology.kubernetes.io/zone, "" when absent. `external_addresses` are those of type ExternalIP,
    which only policies that name nodes look at.
    """

    name: str
    addresses: tuple[Net, ...] = ()
    pod_cidrs: tuple[Net, ...] = ()
    created: str = ""
    zone: str = ""
    labels: Labels = field(default_factory=lambda: NO_LABELS)
    external_addresses: tuple[Net, ...] = ()


@dataclass(frozen=True, slots=True)
class Namespace:
    """A Namespace with its labels, which always include NAMESPACE_NAME_LABEL, as on the API server.

    `isolation` has the versions of the original API whose annotation isolates its pods for ingress. `audit` is None
    without an annotation.
    """

    name: str
    labels: Labels = field(default_factory=lambda: NO_LABELS)
    isolation: frozenset[OriginalApi] = frozenset()
    audit: AuditMode | None = None


class ServicePort(NamedTuple):
    """One port of a Service. `name` is "" for the only port of a Service; `node_port` is 0 where there is none."""

    name: str
    protocol: Protocol
    number: int
    node_port: int = 0


class Service(NamedTuple):
    """A Service, as far as a proxy needs it.

    `cluster_ips` is empty for a headless Service and for type ExternalName: then nothing is translated. `ingress_ips`
    are the addresses of status.loadBalancer.ingress that reach the node unchanged (ipMode VIP or absent), and
    `source_ranges` are the only sources that may use them (None: all). `internal_local` and `external_local` are the
    two traffic policies with the value Local. `affinity_seconds` is the timeout of session affinity ClientIP, 0 for
    none. `health_check_port` is spec.healthCheckNodePort, 0 for none. `proxied` is false for a Service that its labels
    leave to another proxy.
    """

    key: Key
    cluster_ips: tuple[Net, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    external_ips: tuple[Net, ...] = ()
    ingress_ips: tuple[Net, ...] = ()
    source_ranges: tuple[Net, ...] | None = None
    internal_local: bool = False
    external_local: bool = False
    affinity_seconds: int = 0
    health_check_port: int = 0
    proxied: bool = True


class Endpoint(NamedTuple):
    """One endpoint of an EndpointSlice: its first address, the only one that counts.

    `node` is "" when unknown. An absent condition has its meaning in the API here: ready and serving true, terminating
    false. `zones` and `nodes` are its hints: where it is meant to be used; empty without hints.
    """

    address: Net
    node: str = ""
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zones: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()


class EndpointPort(NamedTuple):
    """One port of all endpoints of a slice. It belongs to the Service's port of the same name and protocol."""

    name: str
    protocol: Protocol
    number: int


class EndpointSlice(NamedTuple):
    """An EndpointSlice. `service` is the name of its Service in the same namespace, "" when it has none.

    `proxied` is false for a slice that its labels leave to another proxy. Slices of type FQDN have no endpoints here.
    """

    key: Key
    service: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()
    proxied: bool = True


class ServiceCidr(NamedTuple):
    """A ServiceCIDR: ranges that the API server gives Services their addresses from."""

    name: str
    cidrs: tuple[Net, ...] = ()


@dataclass(frozen=True, slots=True)
class Cluster:
    """One consistent snapshot. A namespace without an object may have pods and policies; its only label is its name.

    `learned` has the addresses that DNS answers gave pods, by the pod that got them. No object has these; they are in
    the effective cluster only.
    """

    namespaces: Mapping[str, Namespace] = field(default_factory=lambda: MappingProxyType({}))
    pods: Mapping[Key, Pod] = field(default_factory=lambda: MappingProxyType({}))
    nodes: Mapping[str, Node] = field(default_factory=lambda: MappingProxyType({}))
    policies: Mapping[Key, Policy] = field(default_factory=lambda: MappingProxyType({}))
    services: Mapping[Key, Service] = field(default_factory=lambda: MappingProxyType({}))
    endpoint_slices: Mapping[Key, EndpointSlice] = field(default_factory=lambda: MappingProxyType({}))
    service_cidrs: Mapping[str, ServiceCidr] = field(default_factory=lambda: MappingProxyType({}))
    cluster_policies: Mapping[Key, ClusterPolicy] = field(default_factory=lambda: MappingProxyType({}))
    learned: Mapping[Key, tuple[LearnedAddress, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def namespace_labels(self, name: str) -> Labels:
        """The labels of a namespace, whether or not it has an object."""
        namespace = self.namespaces.get(name)
        return namespace.labels if namespace else MappingProxyType({NAMESPACE_NAME_LABEL: name})
