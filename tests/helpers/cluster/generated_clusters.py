"""Random clusters, small but nasty, and the probes worth asking of each.

`clusters()` draws worlds in which everything overlaps: labels, names, address blocks, ports. `probes(cluster)` lists
connections at the edges of whatever the cluster's policies mention. Nothing is judged here.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from types import MappingProxyType

from hypothesis import strategies as st

from flows.cluster.model import (
    EVERYTHING,
    NAMESPACE_NAME_LABEL,
    AuditMode,
    Cluster,
    ClusterRule,
    ContainerPort,
    Direction,
    IPBlock,
    Key,
    Labels,
    Namespace,
    Node,
    Operator,
    Peer,
    Pod,
    Policy,
    PortSpec,
    Protocol,
    Requirement,
    Rule,
    Selector,
)
from flows.cluster.net import ADDRESS_BITS, Net, parse_address, parse_network
from flows.policy.probe import ICMP, ICMPV6, Endpoint, Probe

NAMESPACES = ("x", "y", "z")
NODES = MappingProxyType(
    {
        "one": Node("one", (parse_address("10.0.1.1"), parse_address("fd00:1::1"))),
        "two": Node("two", (parse_address("10.0.2.1"), parse_address("fd00:2::1"), parse_address("192.0.2.2"))),
    }
)
# The same where switches route: each has a range of pods, and addresses outside of it.
ROUTED_NODES = MappingProxyType(
    {
        name: Node(
            name,
            tuple(map(parse_address, (f"192.0.2.{number}", f"2001:db8::{number}"))),
            (parse_network(f"10.0.{number}.0/24"), parse_network(f"fd00:{number}::/64")),
        )
        for number, name in enumerate(NODES, 1)
    }
)
# The first two lie in the blocks that policies draw, the third beside them, the last far away.
OUTSIDE = tuple(
    parse_address(text) for text in ("10.0.1.200", "fd00:1::200", "10.0.3.1", "fd00:3::1", "203.0.113.9", "2001:db8::9")
)
POD_HOSTS = range(2, 14)  # pods' addresses share prefixes with each other and with their node
Nodes = Mapping[str, Node]
PORT_NAMES = ("web", "dns")
PORT_NUMBERS = (79, 80, 81, 443, 8080)
PROTOCOLS = tuple(Protocol)
MOST_PROBES = 400
_OTHER_PROTOCOL = 47  # GRE stands for everything that is neither TCP, UDP, SCTP nor ICMP


def _pod_address(node: str, version: int, host: int) -> Net:
    number = 1 if node == "one" else 2
    return parse_address(f"10.0.{number}.{host}" if version == 4 else f"fd00:{number}::{host:x}")


def audits() -> st.SearchStrategy[AuditMode | None]:
    """What an annotation wants audited; mostly there is none."""
    return st.sampled_from((None, None, None, *AuditMode))


def labels() -> st.SearchStrategy[Labels]:
    """Labels over two keys and two values each, so that many pods share many of them."""
    return st.dictionaries(st.sampled_from(("app", "tier")), st.sampled_from(("a", "b")), max_size=2).map(
        MappingProxyType
    )


@st.composite
def requirements(draw: st.DrawFn) -> Requirement:
    """One requirement, any operator, over keys that labels have and one that none has."""
    operator = draw(st.sampled_from(Operator))
    key = draw(st.sampled_from(("app", "tier", "missing")))
    if operator in (Operator.EXISTS, Operator.DOES_NOT_EXIST):
        return Requirement(key, operator)
    values = draw(st.sets(st.sampled_from(("a", "b", "c")), min_size=1, max_size=2))
    return Requirement(key, operator, tuple(sorted(values)))


def selectors() -> st.SearchStrategy[Selector]:
    """Selectors of up to two requirements; the empty one often."""
    terms = st.sets(requirements(), max_size=2)
    return terms.map(
        lambda some: Selector(tuple(sorted(some, key=lambda one: (one.key, one.operator.value, one.values))))
    )


def namespace_selectors() -> st.SearchStrategy[Selector]:
    """Selectors for namespaces: by labels, or by the name label that every namespace has."""
    by_name = st.sampled_from(NAMESPACES).map(
        lambda name: Selector((Requirement(NAMESPACE_NAME_LABEL, Operator.IN, (name,)),))
    )
    return st.one_of(selectors(), by_name)


def _around(address: Net, prefix: int) -> Net:
    host_bits = ADDRESS_BITS[address.version] - prefix
    return Net(address.version, address.value >> host_bits << host_bits, prefix)


@st.composite
def ip_blocks(draw: st.DrawFn, addresses: tuple[Net, ...]) -> IPBlock:
    """A block drawn around an address of this world; its excepts may overlap, repeat, or fill it."""
    address = draw(st.sampled_from(addresses))
    width = ADDRESS_BITS[address.version]
    prefixes = (0, width - 24, width - 8, width - 4, width - 3, width - 2, width - 1, width)
    cidr = _around(address, draw(st.sampled_from(prefixes)))
    inside = tuple(one for one in addresses if cidr.contains(one))
    holes = st.builds(_around, st.sampled_from(inside), st.integers(max(cidr.prefix, width - 12), width))
    return IPBlock(cidr, tuple(draw(st.lists(holes, max_size=3))))


@st.composite
def peers(draw: st.DrawFn, addresses: tuple[Net, ...]) -> Peer:
    """One peer of any of the four shapes."""
    shape = draw(st.sampled_from(("pods", "namespaces", "both", "block")))
    if shape == "block":
        return Peer(ip_block=draw(ip_blocks(addresses)))
    return Peer(
        pods=draw(selectors()) if shape in ("pods", "both") else None,
        namespaces=draw(namespace_selectors()) if shape in ("namespaces", "both") else None,
    )


@st.composite
def port_specs(draw: st.DrawFn, known: tuple[ContainerPort, ...]) -> PortSpec:
    """A port: none, numbered, a range (up to the last number there is), or named.

    Most of them are about ports that pods of this world have (`known`), some about names and numbers that nobody has.
    """
    shape = draw(st.sampled_from(("any", "number", "range", "name")))
    like = draw(st.sampled_from((None, *known)))
    protocol = like.protocol if like else draw(st.sampled_from(PROTOCOLS))
    if shape == "any":
        return PortSpec(protocol)
    if shape == "name":
        return PortSpec(protocol, like.name if like else draw(st.sampled_from((*PORT_NAMES, "nobody"))))
    number = like.number if like else draw(st.sampled_from(PORT_NUMBERS))
    if shape == "number":
        return PortSpec(protocol, number)
    return PortSpec(protocol, number, draw(st.sampled_from([end for end in (*PORT_NUMBERS, 65535) if end >= number])))


def rules(addresses: tuple[Net, ...], known: tuple[ContainerPort, ...]) -> st.SearchStrategy[Rule | None]:
    """A rule with up to two peers and ports; now and then one that could not be understood."""
    whole = st.builds(
        Rule,
        st.lists(peers(addresses), max_size=2).map(tuple),
        st.lists(port_specs(known), max_size=2).map(tuple),
    )
    return st.one_of(whole, whole, whole, st.none())


_BOTH = frozenset(Direction)
_ISOLATES = (_BOTH, _BOTH, frozenset({Direction.INGRESS}), frozenset({Direction.EGRESS}), frozenset[Direction]())


@st.composite
def policies(draw: st.DrawFn, key: Key, subjects: Selector, some_rules: st.SearchStrategy[Rule | None]) -> Policy:
    """A policy, now and then a staged one. It may have rules for directions that it does not isolate; those must not
    count."""
    some = st.lists(some_rules, max_size=2).map(tuple)
    ingress, egress = draw(some), draw(some)
    policy = Policy(
        key,
        subjects,
        isolates=draw(st.sampled_from(_ISOLATES)),
        ingress=ingress,
        egress=egress,
        errors=("spec: a rule is left out",) if None in (*ingress, *egress) else (),
        audit=draw(audits()) or AuditMode.OFF,
    )
    return draw(st.sampled_from((policy, policy, policy, policy.stage(), policy.stage_deletion())))


def container_ports() -> st.SearchStrategy[tuple[ContainerPort, ...]]:
    """Named ports: a pod may have a name several times, and for an unexpected protocol."""
    one = st.builds(
        ContainerPort, st.sampled_from(PORT_NAMES), st.sampled_from(PORT_NUMBERS), st.sampled_from(PROTOCOLS)
    )
    return st.lists(one, max_size=4, unique=True).map(tuple)


@st.composite
def pods(draw: st.DrawFn, key: Key, host: int, contested: bool, nodes: Nodes) -> Pod:
    """A pod of any kind. `contested` gives it host number 2, which other pods then have as well."""
    kind = draw(st.sampled_from(("plain", "plain", "plain", "plain", "plain", "host network", "finished")))
    node = draw(st.sampled_from(("one", "two")))
    families = draw(st.sampled_from(((4, 6), (4, 6), (6, 4), (4,), (6,), ())))
    addresses = tuple(
        _pod_address("one" if contested else node, version, 2 if contested else host) for version in families
    )
    if kind == "host network":
        addresses = tuple(address for address in nodes[node].addresses[:2] if address.version in families)
    return Pod(
        key,
        draw(labels()),
        node=draw(st.sampled_from((node, node, node, ""))) if kind == "plain" else node,
        addresses=addresses,
        ports=draw(container_ports()),
        host_network=kind == "host network",
        finished=kind == "finished",
        terminating=draw(st.integers(0, 3)) == 0,
        audit=draw(audits()),
    )


@st.composite
def _all_pods(draw: st.DrawFn, nodes: Nodes) -> dict[Key, Pod]:
    world = {}
    for number in range(draw(st.integers(4, 8))):
        key = Key(NAMESPACES[number % 3], f"p{number}")
        contested = draw(st.integers(0, 5)) == 0
        world[key] = draw(pods(key, POD_HOSTS[number + 1], contested, nodes))
    return world


@st.composite
def clusters(draw: st.DrawFn, nodes: Nodes = NODES) -> Cluster:
    """A whole world: three namespaces (one perhaps without its object), 4 to 8 pods on two nodes, up to 5 policies."""
    namespaces = {}
    for name in NAMESPACES[: draw(st.sampled_from((2, 3)))]:
        given = MappingProxyType({**draw(labels()), NAMESPACE_NAME_LABEL: name})
        namespaces[name] = Namespace(name, given, audit=draw(audits()))
    world = draw(_all_pods(nodes))
    known = {address for pod in world.values() for address in pod.addresses}
    known.update(OUTSIDE, *(node.addresses for node in nodes.values()))
    addresses = tuple(sorted(known))
    known_ports = tuple(sorted({port for pod in world.values() for port in pod.ports}, key=str))
    some_rules = rules(addresses, known_ports)
    # A few selectors shared by all policies: the same subjects twice is what makes flows merge.
    shared = (EVERYTHING, *draw(st.lists(selectors(), max_size=2)))
    drawn = {}
    for number in range(draw(st.integers(1, 5))):
        key = Key(draw(st.sampled_from(NAMESPACES)), f"policy{number}")
        drawn[key] = draw(policies(key, draw(st.sampled_from(shared)), some_rules))
    return Cluster(MappingProxyType(namespaces), MappingProxyType(world), nodes, MappingProxyType(drawn))


def endpoints(cluster: Cluster) -> list[Endpoint]:
    """Every end a packet can have: each address of each networked pod, of each node, and some outside.

    Of a contested address there is one for each claimant. Nothing outside has an address of a node's range of pods.
    """
    ends = [
        Endpoint(address, pod=pod.key) for pod in cluster.pods.values() if pod.networked for address in pod.addresses
    ]
    ends += [Endpoint(address, node=node.name) for node in cluster.nodes.values() for address in node.addresses]
    ranges = [net for node in cluster.nodes.values() for net in node.pod_cidrs]
    return ends + [Endpoint(one) for one in OUTSIDE if not any(net.contains(one) for net in ranges)]


def interesting_ports(cluster: Cluster) -> list[tuple[Protocol, int]]:
    """Both edges, from inside and outside, of every port that a policy or a pod of this world mentions."""
    edges: set[tuple[Protocol, int]] = {(protocol, 80) for protocol in PROTOCOLS}
    rules_of: list[Rule | ClusterRule | None] = []
    for policy in cluster.policies.values():
        rules_of += [*policy.ingress, *policy.egress]
    for cluster_policy in cluster.cluster_policies.values():
        rules_of += [*cluster_policy.ingress, *cluster_policy.egress]
    for rule in rules_of:
        for spec in rule.ports if rule is not None else ():
            if isinstance(spec.port, int):
                last = spec.port if spec.end_port is None else spec.end_port
                edges |= {(spec.protocol, n) for n in (spec.port - 1, spec.port, last, last + 1)}
                edges |= {(other, spec.port) for other in PROTOCOLS}
    for pod in cluster.pods.values():
        edges |= {(port.protocol, port.number) for port in pod.ports}
    return sorted((protocol, number) for protocol, number in edges if 0 < number <= 65535)


def probes(cluster: Cluster, most: int = MOST_PROBES) -> list[Probe]:
    """All ordered pairs of ends of one family with every interesting port, ICMP and one other protocol.

    Where that is more than `most`, a sample of it: the same one for the same cluster, with every pair asked at least
    once while `most` allows. Pairs of two outside ends are left out, a pod with itself is in.
    """
    ends = endpoints(cluster)
    pairs = [
        (one, other)
        for one in ends
        for other in ends
        if one.address.version == other.address.version and (one.pod is not None or other.pod is not None)
    ]
    ports: list[tuple[int, int | None]] = [*interesting_ports(cluster)]
    chance = random.Random(len(pairs) * 1000 + len(ports))
    chance.shuffle(pairs)
    rounds = max(1, most // max(1, len(pairs)))
    chosen = []
    for one, other in pairs:
        own = cluster.pods[other.pod].ports if other.pod is not None else ()
        # A destination's own ports count double, or named ports would hardly ever be hit.
        choices = [*ports, *((port.protocol, port.number) for port in own), *_portless(one.address.version)]
        count = 1 if one.pod == other.pod else rounds
        picked = choices if len(choices) <= count else chance.sample(choices, count)
        chosen += [Probe(one, other, protocol, port) for protocol, port in picked]
    return chosen[:most]


def _portless(version: int) -> list[tuple[int, None]]:
    return [(ICMP if version == 4 else ICMPV6, None), (_OTHER_PROTOCOL, None)]
