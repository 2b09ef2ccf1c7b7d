"""Random clusters with ClusterNetworkPolicies of both tiers: few priorities, so that many are tied, and every peer."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from hypothesis import strategies as st

from flows.cluster.domain_names import LearnedAddress
from flows.cluster.model import (
    CLUSTER_NETWORK_POLICY,
    EVERYTHING,
    Action,
    AuditMode,
    Cluster,
    ClusterPolicy,
    ClusterRule,
    ContainerPort,
    Direction,
    DomainPeer,
    IPBlock,
    Key,
    NodePeer,
    Peer,
    Subject,
    Tier,
)
from flows.cluster.net import ADDRESS_BITS, Net, parse_address
from tests.helpers.cluster.generated_clusters import (
    NODES,
    OUTSIDE,
    Nodes,
    audits,
    clusters,
    labels,
    namespace_selectors,
    port_specs,
    selectors,
)

TIERS = (Tier.ADMIN, Tier.BASELINE)
NAMES = ("www.example.com", "a.b.example.com", "example.com", "example.net")
PATTERNS = ("*.example.com", "example.com", "www.example.com", "*.b.example.com")


@st.composite
def _pods(draw: st.DrawFn) -> Peer:
    pods = draw(st.one_of(st.none(), selectors()))
    return Peer(pods, draw(st.one_of(st.just(EVERYTHING), namespace_selectors())))


@st.composite
def _networks(draw: st.DrawFn, addresses: tuple[Net, ...]) -> Peer:
    address = draw(st.sampled_from(addresses))
    width = ADDRESS_BITS[address.version]
    prefix = draw(st.sampled_from((0, width - 8, width - 3, width)))
    host_bits = width - prefix
    return Peer(ip_block=IPBlock(Net(address.version, address.value >> host_bits << host_bits, prefix)))


@st.composite
def _rules(
    draw: st.DrawFn, direction: Direction, addresses: tuple[Net, ...], known: tuple[ContainerPort, ...]
) -> ClusterRule:
    action = draw(st.sampled_from(Action))
    if draw(st.integers(0, 15)) == 0:
        return ClusterRule(action, unreadable=True)
    only_pods = direction is Direction.INGRESS or draw(st.booleans())
    peers: st.SearchStrategy[Peer | NodePeer | DomainPeer] = _pods()
    if not only_pods:
        peers = st.one_of(_pods(), _networks(addresses), st.builds(NodePeer, selectors()))
        if direction is Direction.EGRESS and action is Action.ACCEPT:
            peers = st.one_of(peers, st.builds(DomainPeer, st.sampled_from(PATTERNS)))
    ports = draw(st.lists(port_specs(known), max_size=2))
    if not only_pods:
        ports = [port for port in ports if not isinstance(port.port, str)]
    return ClusterRule(action, tuple(draw(st.lists(peers, min_size=1, max_size=2))), tuple(ports))


@st.composite
def cluster_policies(
    draw: st.DrawFn, name: str, addresses: tuple[Net, ...], known: tuple[ContainerPort, ...]
) -> ClusterPolicy:
    """A ClusterNetworkPolicy with up to three rules in each direction."""
    ingress, egress = (
        tuple(draw(st.lists(_rules(direction, addresses, known), max_size=3))) for direction in Direction
    )
    subject = Subject(draw(st.one_of(st.just(EVERYTHING), namespace_selectors())), draw(selectors()))
    tier, priority = draw(st.sampled_from(TIERS)), draw(st.sampled_from((0, 0, 1, 1000)))
    audit = draw(audits()) or AuditMode.OFF
    return ClusterPolicy(Key("", name), CLUSTER_NETWORK_POLICY, tier, priority, subject, ingress, egress, audit=audit)


@st.composite
def learned_by(
    draw: st.DrawFn, pods: tuple[Key, ...], addresses: tuple[Net, ...]
) -> dict[Key, tuple[LearnedAddress, ...]]:
    """What some of these pods learned from DNS answers, each address once for a name."""
    entries = st.builds(LearnedAddress, st.sampled_from(NAMES), st.sampled_from(addresses), st.booleans())
    found = {}
    for key in draw(st.lists(st.sampled_from(pods), max_size=3, unique=True)) if pods else ():
        found[key] = tuple(draw(st.lists(entries, min_size=1, max_size=4, unique_by=lambda one: one[:2])))
    return found


@st.composite
def tiered_clusters(draw: st.DrawFn, nodes: Nodes = NODES) -> Cluster:
    """A world as `clusters` draws it, with up to five ClusterNetworkPolicies, and labels on its nodes."""
    found = draw(clusters(nodes))
    known = {address for pod in found.pods.values() for address in pod.addresses}
    known.update(OUTSIDE, *(node.addresses for node in nodes.values()))
    ports = tuple(sorted({port for pod in found.pods.values() for port in pod.ports}, key=str))
    policies = {}
    for number in range(draw(st.integers(1, 5))):
        one = draw(cluster_policies(f"tier{number}", tuple(sorted(known)), ports))
        policies[one.key] = one
    labelled = {
        name: replace(node, labels=draw(labels()), external_addresses=(parse_address("203.0.113.9"),))
        for name, node in found.nodes.items()
    }
    learned = draw(learned_by(tuple(found.pods), tuple(sorted(known))))
    return replace(
        found,
        cluster_policies=MappingProxyType(policies),
        nodes=MappingProxyType(labelled),
        learned=MappingProxyType(learned),
    )
