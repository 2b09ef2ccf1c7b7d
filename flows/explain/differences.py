"""What does not fit in a rule: the label that differs, the address block, the protocol, the port.

Each function gives no difference exactly where `flows.policy.verdict` finds a match; tests hold them to it. The verdict
itself is never taken from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flows.cluster.domain_names import matches_name
from flows.cluster.model import (
    Cluster,
    ClusterRule,
    Direction,
    DomainPeer,
    IPBlock,
    Labels,
    NodePeer,
    Operator,
    Peer,
    Pod,
    Policy,
    PortSpec,
    Requirement,
    Rule,
    Selector,
)
from flows.cluster.net import Net
from flows.cluster.selectors import requirement_holds
from flows.explain.model import Difference
from flows.policy.explanation import port_text
from flows.policy.probe import Probe, pods_with_address, protocol_name

MAX_VALUES_SHOWN = 5  # of a requirement or a pod's ports
FOREIGN = 3  # the distance of a selector from an address that is no pod's: nothing about the pod could be changed


class Gap(NamedTuple):
    """Differences, and how many things would have to change."""

    differences: tuple[Difference, ...] = ()
    distance: int = 0


NO_GAP = Gap()


class Side(NamedTuple):
    """A connection seen from its subject: may `subject` talk with the address `remote` in `direction`?"""

    cluster: Cluster
    probe: Probe
    direction: Direction
    subject: Pod
    remote: Net

    @property
    def remote_pods(self) -> tuple[Pod, ...]:
        """The pods that have the remote address."""
        return pods_with_address(self.cluster, self.remote)


def rule_gap(side: Side, policy: Policy, number: int, rule: Rule | None) -> Gap:
    """What keeps a rule from matching; no difference where it matches."""
    if rule is None:
        return Gap((Difference("invalid", "", _invalid_text(policy, side.direction, number)),), FOREIGN)
    peers = peers_gap(side, policy.key.namespace, rule.peers)
    ports = ports_gap(side, rule.ports)
    return Gap((*peers.differences, *ports.differences), peers.distance + ports.distance)


def cluster_rule_gap(side: Side, rule: ClusterRule) -> Gap:
    """What keeps a readable rule of a ClusterNetworkPolicy from matching; no difference where it matches."""
    peers = peers_gap(side, "", rule.peers)
    ports = ports_gap(side, rule.ports)
    return Gap((*peers.differences, *ports.differences), peers.distance + ports.distance)


def _invalid_text(policy: Policy, direction: Direction, number: int) -> str:
    place = f"spec.{direction.value}[{number}]"
    reasons = [error for error in policy.errors if error.startswith(place)] or list(policy.errors)
    return f"it is not valid, so it allows nothing: {'; '.join(reasons[:2]) or 'it could not be understood'}"


# -- peers ------------------------------------------------------------------------------------------------------------


def peers_gap(side: Side, home: str, peers: Sequence[Peer | NodePeer | DomainPeer]) -> Gap:
    """One matching peer is enough; else every peer says what differs, and the nearest gives the distance."""
    word = "from" if side.direction is Direction.INGRESS else "to"
    pods = side.remote_pods if peers else ()
    gaps = []
    for place, peer in enumerate(peers):
        gap = _peer_gap(side, home, peer, pods, f"{word}[{place}]")
        if not gap.differences:
            return NO_GAP
        gaps.append(gap)
    if not gaps:
        return NO_GAP
    nearest = sorted(gaps, key=lambda gap: gap.distance)
    return Gap(tuple(one for gap in nearest for one in gap.differences), nearest[0].distance)


def _peer_gap(side: Side, home: str, peer: Peer | NodePeer | DomainPeer, pods: Sequence[Pod], where: str) -> Gap:
    if isinstance(peer, NodePeer):
        return _node_gap(side, peer, where)
    if isinstance(peer, DomainPeer):
        return _name_gap(side, peer, where)
    if peer.ip_block is not None:
        text = _block_text(peer.ip_block, side.remote)
        return Gap((Difference("address", where, text),), FOREIGN - 1) if text else NO_GAP
    if not pods:
        text = f"a selector matches pods, and {side.remote} is no pod's address"
        return Gap((Difference("address", where, text),), FOREIGN)
    differences = [one for pod in pods for one in _selector_differences(side.cluster, home, peer, pod, where)]
    return Gap(tuple(differences), len(differences))


def _name_gap(side: Side, peer: DomainPeer, where: str) -> Gap:
    """A peer that names domains: the subject must have learned the address for such a name."""
    learned = side.cluster.learned.get(side.subject.key, ())
    names = [one for one in learned if one.address == side.remote and matches_name(peer.pattern, one.name)]
    if any(one.live for one in names):
        return NO_GAP
    text = f"no DNS answer to {side.subject.key} gave {side.remote} for {peer.pattern}"
    if names:
        text = f"the DNS answer to {side.subject.key} that gave {side.remote} for {names[0].name} has expired"
    return Gap((Difference("address", where, text),), FOREIGN - 1)


def _node_gap(side: Side, peer: NodePeer, where: str) -> Gap:
    """A peer that selects nodes by their labels, which all their addresses belong to."""
    nodes = side.cluster.nodes.values()
    there = [one for one in nodes if side.remote in (*one.addresses, *one.external_addresses)]
    if not there:
        text = f"it selects nodes, and {side.remote} is no node's address"
        return Gap((Difference("address", where, text),), FOREIGN)
    texts = [unmet_texts(peer.nodes, one.labels, f"node {one.name}") for one in there]
    if not all(texts):
        return NO_GAP
    found = tuple(Difference("label", where, text) for some in texts for text in some)
    return Gap(found, min(map(len, texts)))


def _block_text(block: IPBlock, address: Net) -> str:
    """Why a block does not have an address; "" when it has."""
    if block.cidr.version != address.version:
        return f"{address} is IPv{address.version}, and {block.cidr} counts for IPv{block.cidr.version} alone"
    if not block.cidr.contains(address):
        return f"{address} is not in {block.cidr}"
    hole = next((one for one in block.excepts if one.contains(address)), None)
    return "" if hole is None else f"{address} is in {block.cidr}, but {hole} is excepted"


def _selector_differences(cluster: Cluster, home: str, peer: Peer, pod: Pod, where: str) -> list[Difference]:
    """A peer with selectors against one pod."""
    if peer.namespaces is None and peer.pods is None:
        return [Difference("label", where, "it has no selector, so it selects nothing")]
    found = []
    if peer.namespaces is None:
        if pod.key.namespace != home:
            text = f"pod {pod.key} is not in namespace {home}, and without a namespaceSelector no other counts"
            found.append(Difference("namespace", where, text))
    else:
        labels = cluster.namespace_labels(pod.key.namespace)
        texts = unmet_texts(peer.namespaces, labels, f"namespace {pod.key.namespace}")
        found += [Difference("namespace", where, text) for text in texts]
    if peer.pods is not None:
        found += [Difference("label", where, text) for text in unmet_texts(peer.pods, pod.labels, f"pod {pod.key}")]
    return found


def unmet_texts(selector: Selector, labels: Labels, what: str) -> list[str]:
    """The requirements that labels do not meet, in words. `what` names whose labels they are."""
    return [_unmet(one, labels, what) for one in selector.requirements if not requirement_holds(one, labels)]


def _unmet(one: Requirement, labels: Labels, what: str) -> str:
    has = labels.get(one.key)
    wanted = _some([f"{one.key}={value}" for value in one.values], "or")
    if one.operator is Operator.IN:
        return f"{what} has {one.key}={has}, not {wanted}" if has is not None else f"{what} has no {wanted}"
    if one.operator is Operator.EXISTS:
        return f"{what} has no label {one.key}"
    if one.operator is Operator.NOT_IN:
        return f"{what} has {one.key}={has}, which the selector excludes"
    return f"{what} has {one.key}={has}, and the selector wants no label {one.key}"


# -- ports ------------------------------------------------------------------------------------------------------------


def ports_gap(side: Side, ports: Sequence[PortSpec]) -> Gap:
    """One matching port is enough; else one difference names what the rule has instead."""
    if not ports:
        return NO_GAP
    probe = side.probe
    if probe.port is None:
        text = f"{protocol_name(probe.protocol)} has no ports, and a rule with ports allows only these"
        return Gap((Difference("protocol", "ports", text),), 1)
    named_at = (side.subject,) if side.direction is Direction.INGRESS else side.remote_pods
    if any(port_fits(spec, named_at, probe.protocol, probe.port) for spec in ports):
        return NO_GAP
    same = [spec for spec in ports if spec.protocol == probe.protocol]
    kind = "port" if same else "protocol"
    allowed = _some([_port_text(spec, named_at) for spec in ports], "and")
    asked = f"{probe.port}/{protocol_name(probe.protocol)}"
    return Gap((Difference(kind, "ports", f"{asked} is not among {allowed}"),), 1)


def port_fits(spec: PortSpec, named_at: Sequence[Pod], protocol: int, port: int) -> bool:
    """Whether a rule's port is this one; a name counts where all these pods have it with this number."""
    if protocol != spec.protocol:
        return False
    if isinstance(spec.port, str):
        return bool(named_at) and all(port in _numbers(spec, pod) for pod in named_at)
    return spec.port is None or spec.port <= port <= (spec.end_port or spec.port)


def _numbers(spec: PortSpec, pod: Pod) -> list[int]:
    return [own.number for own in pod.ports if (own.name, own.protocol) == (spec.port, spec.protocol)]


def _port_text(spec: PortSpec, named_at: Sequence[Pod]) -> str:
    if not isinstance(spec.port, str):
        return port_text(spec)
    if not named_at:
        return f"{port_text(spec)} (a name counts for pods alone)"
    texts = []
    for pod in named_at[:MAX_VALUES_SHOWN]:
        numbers = _numbers(spec, pod)
        texts.append(f"{_some(list(map(str, numbers)), 'and')} in {pod.key}" if numbers else f"not a port of {pod.key}")
    return f"{port_text(spec)} ({', '.join(texts)})"


def _some(texts: list[str], word: str) -> str:
    """The first texts joined by `word`, and how many more there are."""
    shown, more = texts[:MAX_VALUES_SHOWN], len(texts) - MAX_VALUES_SHOWN
    if more > 0:
        return f"{', '.join(shown)} and {more} more"
    return f" {word} ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
