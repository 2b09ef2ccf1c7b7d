"""The reference semantics: may this connection be opened, and why.

Written to be read beside the NetworkPolicy API documentation, one sentence a branch; being slow is fine. It knows
nothing of flows or switches and never imports `compile`, nor is imported by it: each is the other's check.

A verdict is about opening a connection. Replies and related ICMP errors follow the connection, so they are not asked
for here. The packet is described as the switch sees it: the addresses it carries and the port that stands behind each
end. Peers are judged by the address alone, subjects by the port alone.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from flows.cluster.model import Cluster, Direction, IPBlock, Key, Peer, Pod, Policy, PortSpec, Protocol, Rule
from flows.cluster.net import Net
from flows.cluster.selectors import matches

ICMP, ICMPV6 = 1, 58
_PROTOCOL_NAMES = {ICMP: "ICMP", ICMPV6: "ICMPv6", **{int(protocol): protocol.name for protocol in Protocol}}


class ProbeError(ValueError):
    """A question that makes no sense in this cluster: the message says why, in words for the user."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a connection: the address in the packet, and what stands behind the switch's port.

    `pod` is set for a pod's port, `node` for a node itself (the bridge's LOCAL port), neither for the outside world.
    """

    address: Net
    pod: Key | None = None
    node: str | None = None

    def __post_init__(self) -> None:
        if self.pod is not None and self.node is not None:
            raise ProbeError("an end is a pod's port or the node itself, not both")
        if not self.address.is_host:
            raise ProbeError(f"{self.address} is a prefix, not an address")

    def __str__(self) -> str:
        if self.pod is not None:
            return f"{self.pod} ({self.address})"
        return f"node {self.node} ({self.address})" if self.node is not None else str(self.address)


@dataclass(frozen=True, slots=True)
class Probe:
    """A connection that somebody would open. `protocol` is an IP protocol number (IANA).

    `port` is the destination port: a number for TCP, UDP and SCTP, None for every other protocol.
    """

    source: Endpoint
    destination: Endpoint
    protocol: int
    port: int | None = None

    def __post_init__(self) -> None:
        if self.source.address.version != self.destination.address.version:
            raise ProbeError(f"{self.source.address} and {self.destination.address} are of different families")
        has_ports = self.protocol in Protocol.__members__.values()
        if has_ports != (self.port is not None):
            raise ProbeError(f"{protocol_name(self.protocol)} {'needs a' if has_ports else 'has no'} port")

    def __str__(self) -> str:
        port = "" if self.port is None else f" port {self.port}"
        return f"{protocol_name(self.protocol)}{port} from {self.source} to {self.destination}"


class Isolation(enum.Enum):
    """Whether policy was asked at one end, and if not, why not. The value completes the sentence "not asked: ..."."""

    ISOLATED = "isolated"
    NOT_ISOLATED = "no policy isolates it in this direction"
    NOT_A_POD = "it is no pod"
    NOT_A_SUBJECT = "it uses the host's network or has finished, so no policy selects it"
    ITSELF = "a pod always reaches itself"
    OWN_NODE = "a pod and its own node always reach each other"


@dataclass(frozen=True, slots=True)
class AllowingRule:
    """A rule that allows. `rule` and `peer` count from 0 as in the manifest.

    `peer` is None where the rule names no peers, `port` is None where it names no ports.
    """

    policy: Key
    direction: Direction
    rule: int
    peer: int | None = None
    port: PortSpec | None = None

    def __str__(self) -> str:
        peer = "any peer" if self.peer is None else f"peer {self.peer}"
        port = "any protocol and port" if self.port is None else port_text(self.port)
        return f"{self.policy} {self.direction.value} rule {self.rule} ({peer}, {port})"


class Mismatch(enum.Enum):
    """What of a rule did not fit."""

    INVALID = "could not be understood, so it allows nothing"
    PEER = "names no such peer"
    PORT = "fits the peer but not the port"


@dataclass(frozen=True, slots=True)
class NonMatchingRule:
    """A rule of an isolating policy that does not allow this connection."""

    policy: Key
    direction: Direction
    rule: int
    why: Mismatch

    def __str__(self) -> str:
        return f"{self.policy} {self.direction.value} rule {self.rule} {self.why.value}"


@dataclass(frozen=True, slots=True)
class EndVerdict:
    """The answer for one end: the source's egress or the destination's ingress.

    `isolated_by`, `allowed_by` and `misses` are empty unless `standing` is ISOLATED; they are sorted by policy.
    """

    direction: Direction
    end: Endpoint
    isolation: Isolation
    isolated_by: tuple[Key, ...] = ()
    allowed_by: tuple[AllowingRule, ...] = ()
    misses: tuple[NonMatchingRule, ...] = ()

    @property
    def allowed(self) -> bool:
        """True when policy was not asked, or some rule allows."""
        return self.isolation is not Isolation.ISOLATED or bool(self.allowed_by)

    def explain(self) -> list[str]:
        """One line in plain words; where isolation denies, one more for each rule that did not fit."""
        end = str(self.end.pod) if self.end.pod is not None else str(self.end)
        head = f"{self.direction.value} {'from' if self.direction is Direction.EGRESS else 'to'} {end}: "
        if self.isolation is not Isolation.ISOLATED:
            return [f"{head}not asked: {self.isolation.value}"]
        head += f"isolated by {', '.join(map(str, self.isolated_by))}; "
        if self.allowed_by:
            return [f"{head}allowed by {', '.join(map(str, self.allowed_by))}"]
        return [f"{head}no rule allows it", *(f"  {miss}" for miss in self.misses)]


@dataclass(frozen=True, slots=True)
class Verdict:
    """May the connection of `probe` be opened, with the reasons at both ends."""

    probe: Probe
    egress: EndVerdict
    ingress: EndVerdict

    @property
    def allowed(self) -> bool:
        """Both ends must allow: the source's egress and the destination's ingress."""
        return self.egress.allowed and self.ingress.allowed

    def explain(self) -> list[str]:
        """The verdict in plain words: the answer first, then the reasons of both ends."""
        answer = "allowed" if self.allowed else "denied"
        return [f"{answer}: {self.probe}", *self.egress.explain(), *self.ingress.explain()]


def verdict(cluster: Cluster, probe: Probe) -> Verdict:
    """Judge one connection. Raises ProbeError when an end is a pod that the cluster does not have."""
    return Verdict(
        probe,
        egress=_judge(cluster, probe, Direction.EGRESS),
        ingress=_judge(cluster, probe, Direction.INGRESS),
    )


def _judge(cluster: Cluster, probe: Probe, direction: Direction) -> EndVerdict:
    near, far = probe.source, probe.destination
    if direction is Direction.INGRESS:
        near, far = far, near
    if near.pod is None:
        return EndVerdict(direction, near, Isolation.NOT_A_POD)
    subject = cluster.pods.get(near.pod)
    if subject is None:
        raise ProbeError(f"there is no pod {near.pod}")
    if not subject.networked:
        return EndVerdict(direction, near, Isolation.NOT_A_SUBJECT)
    if near.pod == far.pod:
        return EndVerdict(direction, near, Isolation.ITSELF)
    if _is_own_node(cluster, subject, far.address):
        return EndVerdict(direction, near, Isolation.OWN_NODE)
    found = (policy for policy in cluster.policies.values() if _isolates(policy, subject, direction))
    isolating = sorted(found, key=lambda policy: policy.key)
    if not isolating:
        return EndVerdict(direction, near, Isolation.NOT_ISOLATED)
    # Policies are a union: one rule of any of them is enough.
    question = _Question(cluster, direction, subject, far.address, probe.protocol, probe.port)
    answers = [
        _ask_rule(question, policy, number, rule)
        for policy in isolating
        for number, rule in enumerate(policy.rules(direction))
    ]
    return EndVerdict(
        direction,
        near,
        Isolation.ISOLATED,
        isolated_by=tuple(policy.key for policy in isolating),
        allowed_by=tuple(answer for answer in answers if isinstance(answer, AllowingRule)),
        misses=tuple(answer for answer in answers if isinstance(answer, NonMatchingRule)),
    )


def _is_own_node(cluster: Cluster, pod: Pod, address: Net) -> bool:
    """The kubelet must reach its pods, and they it: a node is known by the addresses of its Node object."""
    node = cluster.nodes.get(pod.node)
    return node is not None and address in node.addresses


def _isolates(policy: Policy, pod: Pod, direction: Direction) -> bool:
    """A policy isolates the pods of its own namespace that its podSelector selects, in its policyTypes."""
    return (
        direction in policy.isolates
        and policy.key.namespace == pod.key.namespace
        and matches(policy.subjects, pod.labels)
    )


@dataclass(frozen=True, slots=True)
class _Question:
    """What one end asks of a rule: may `subject` talk in `direction` with whoever has the address `remote`?"""

    cluster: Cluster
    direction: Direction
    subject: Pod
    remote: Net
    protocol: int
    port: int | None


def _ask_rule(asked: _Question, policy: Policy, number: int, rule: Rule | None) -> AllowingRule | NonMatchingRule:
    """One rule allows when one of its peers and one of its ports fit; naming none of either means all."""
    cluster, direction = asked.cluster, asked.direction
    if rule is None:
        return NonMatchingRule(policy.key, direction, number, Mismatch.INVALID)
    peer_number = None
    if rule.peers:
        home = policy.key.namespace
        fitting = [place for place, peer in enumerate(rule.peers) if _peer_fits(cluster, home, peer, asked.remote)]
        if not fitting:
            return NonMatchingRule(policy.key, direction, number, Mismatch.PEER)
        peer_number = fitting[0]
    port = None
    if rule.ports:
        # A port's name is looked up at the destination: for ingress that is the subject, for egress whoever has the
        # address, so that a name never matches a destination that is no pod.
        named_at = (asked.subject,) if direction is Direction.INGRESS else pods_with_address(cluster, asked.remote)
        ports = [spec for spec in rule.ports if _port_fits(spec, named_at, asked.protocol, asked.port)]
        if not ports:
            return NonMatchingRule(policy.key, direction, number, Mismatch.PORT)
        port = ports[0]
    return AllowingRule(policy.key, direction, number, peer_number, port)


def pods_with_address(cluster: Cluster, address: Net) -> tuple[Pod, ...]:
    """The pods that say they have this address. Pods on the host's network and finished ones have none of their own."""
    found = (pod for pod in cluster.pods.values() if pod.networked and address in pod.addresses)
    return tuple(sorted(found, key=lambda pod: pod.key))


def _peer_fits(cluster: Cluster, namespace: str, peer: Peer, remote: Net) -> bool:
    """An ipBlock is asked about the address, selectors about the pods that have it.

    Where several pods claim one address, all must fit: nobody may be let in by another pod's labels.
    """
    if peer.ip_block is not None:
        return _in_block(peer.ip_block, remote)
    pods = pods_with_address(cluster, remote)
    return bool(pods) and all(_selected(cluster, namespace, peer, pod) for pod in pods)


def _in_block(block: IPBlock, address: Net) -> bool:
    return block.cidr.contains(address) and not any(hole.contains(address) for hole in block.excepts)


def _selected(cluster: Cluster, namespace: str, peer: Peer, pod: Pod) -> bool:
    """Without a namespaceSelector only the policy's own namespace counts; with both, both must hold."""
    if peer.namespaces is None and peer.pods is None:
        return False  # no selector at all selects nothing; the API does not let such a peer in
    if peer.namespaces is None:
        if pod.key.namespace != namespace:
            return False
    elif not matches(peer.namespaces, cluster.namespace_labels(pod.key.namespace)):
        return False
    return peer.pods is None or matches(peer.pods, pod.labels)


def _port_fits(spec: PortSpec, named_at: tuple[Pod, ...], protocol: int, port: int | None) -> bool:
    """Only the port's own protocol fits, so that ICMP never does; without a number or name, all its ports do."""
    if protocol != spec.protocol or port is None:
        return False
    if spec.port is None:
        return True
    if isinstance(spec.port, int):
        return spec.port <= port <= (spec.port if spec.end_port is None else spec.end_port)
    return bool(named_at) and all(
        any((own.name, own.protocol, own.number) == (spec.port, spec.protocol, port) for own in pod.ports)
        for pod in named_at
    )


def protocol_name(number: int) -> str:
    """A protocol's usual name, or `protocol N`."""
    return _PROTOCOL_NAMES.get(number, f"protocol {number}")


def port_text(spec: PortSpec) -> str:
    """A policy's port in words, like `port 80/TCP`, `ports 80-90/UDP`, `port http/TCP` or `any TCP port`."""
    if spec.port is None:
        return f"any {spec.protocol.name} port"
    if spec.end_port is not None:
        return f"ports {spec.port}-{spec.end_port}/{spec.protocol.name}"
    return f"port {spec.port}/{spec.protocol.name}"
