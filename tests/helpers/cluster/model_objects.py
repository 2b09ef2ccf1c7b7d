"""Short words for building model objects in tests, and one line of text for a probe. No expectations live here."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from flows.cluster.model import (
    CLUSTER_NETWORK_POLICY,
    NAMESPACE_NAME_LABEL,
    Action,
    Cluster,
    ClusterPolicy,
    ClusterRule,
    ContainerPort,
    Direction,
    IPBlock,
    Key,
    Namespace,
    Node,
    NodePeer,
    Operator,
    Peer,
    Pod,
    Policy,
    PortSpec,
    Protocol,
    Requirement,
    Rule,
    Selector,
    Subject,
    Tier,
)
from flows.cluster.net import Net, parse_address, parse_network
from flows.policy.explanation import Verdict
from flows.policy.probe import ICMP, ICMPV6, EndpointName, ProbeError, probe_between
from flows.policy.verdict import verdict

INGRESS, EGRESS = Direction.INGRESS, Direction.EGRESS
NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132, "GRE": 47}


def key(text: str) -> Key:
    """`namespace/name` as a Key."""
    return Key(*text.split("/"))


def labels(**wanted: str) -> Selector:
    """A matchLabels selector."""
    return Selector(tuple(Requirement(name, Operator.IN, (value,)) for name, value in sorted(wanted.items())))


def expression(name: str, operator: Operator, *values: str) -> Selector:
    """A selector of one matchExpressions term."""
    return Selector((Requirement(name, operator, tuple(sorted(values))),))


def block(cidr: str, *excepts: str) -> Peer:
    """An ipBlock peer."""
    return Peer(ip_block=IPBlock(parse_network(cidr), tuple(map(parse_network, excepts))))


def tcp(port: int | str | None = None, end: int | None = None) -> PortSpec:
    """A TCP port, range, name, or every TCP port."""
    return PortSpec(Protocol.TCP, port, end)


def udp(port: int | str | None = None, end: int | None = None) -> PortSpec:
    """The same for UDP."""
    return PortSpec(Protocol.UDP, port, end)


def sctp(port: int | str | None = None, end: int | None = None) -> PortSpec:
    """The same for SCTP."""
    return PortSpec(Protocol.SCTP, port, end)


def rule(*parts: Peer | PortSpec) -> Rule:
    """A rule from its peers and ports, in any order."""
    return Rule(
        tuple(part for part in parts if isinstance(part, Peer)),
        tuple(part for part in parts if isinstance(part, PortSpec)),
    )


def policy(
    name: str,
    subjects: Selector | None = None,
    ingress: list[Rule | None] | None = None,
    egress: list[Rule | None] | None = None,
    isolates: frozenset[Direction] | None = None,
) -> Policy:
    """A policy that isolates in the directions whose rules are given (an empty list isolates too)."""
    given = frozenset(direction for direction, rules in ((INGRESS, ingress), (EGRESS, egress)) if rules is not None)
    return Policy(
        key(name),
        subjects if subjects is not None else Selector(),
        isolates=given if isolates is None else isolates,
        ingress=tuple(ingress or ()),
        egress=tuple(egress or ()),
    )


def cluster_rule(action: Action | str, *parts: Peer | NodePeer | PortSpec, name: str = "") -> ClusterRule:
    """A rule of a ClusterNetworkPolicy from its peers and ports, in any order; without peers any pod is one."""
    peers = tuple(part for part in parts if not isinstance(part, PortSpec))
    ports = tuple(part for part in parts if isinstance(part, PortSpec))
    return ClusterRule(Action(action), peers or (Peer(None, Selector()),), ports, name)


def cluster_policy(
    name: str,
    subject: Subject | None = None,
    ingress: list[ClusterRule] | None = None,
    egress: list[ClusterRule] | None = None,
    priority: int = 10,
    tier: Tier = Tier.ADMIN,
) -> ClusterPolicy:
    """A ClusterNetworkPolicy on all pods, or on those of `subject`."""
    rules = tuple(ingress or ()), tuple(egress or ())
    return ClusterPolicy(Key("", name), CLUSTER_NETWORK_POLICY, tier, priority, subject or Subject(), *rules)


def with_cluster_policies(world: Cluster, *policies: ClusterPolicy) -> Cluster:
    """The same cluster with these ClusterNetworkPolicies."""
    return replace(world, cluster_policies=MappingProxyType({one.key: one for one in policies}))


def pod(
    name: str,
    host: int,
    node: str = "one",
    *ports: ContainerPort,
    families: tuple[int, ...] = (4, 6),
    host_network: bool = False,
    finished: bool = False,
    **wanted: str,
) -> Pod:
    """A pod with the addresses 10.0.0.`host` and fd00::`host`."""
    addresses = {4: parse_address(f"10.0.0.{host}"), 6: parse_address(f"fd00::{host:x}")}
    return Pod(
        key(name),
        MappingProxyType(wanted),
        node,
        addresses=tuple(addresses[family] for family in families),
        ports=ports,
        host_network=host_network,
        finished=finished,
    )


def node(name: str, *addresses: str) -> Node:
    """A node with its addresses."""
    return Node(name, tuple(map(parse_address, addresses)))


def cluster(pods: list[Pod], nodes: list[Node], namespaces: dict[str, dict[str, str]], *policies: Policy) -> Cluster:
    """A cluster of these; namespaces get their name label."""
    spaces = {
        name: Namespace(name, MappingProxyType({**own, NAMESPACE_NAME_LABEL: name})) for name, own in namespaces.items()
    }
    return Cluster(
        MappingProxyType(spaces),
        MappingProxyType({one.key: one for one in pods}),
        MappingProxyType({one.name: one for one in nodes}),
        MappingProxyType({one.key: one for one in policies}),
    )


def probe_end(text: str) -> EndpointName:
    """`x/a` is a pod, `node:one` a node, anything else an address."""
    if text.startswith("node:"):
        return text.removeprefix("node:")
    if "/" in text:
        return key(text)
    address: Net = parse_address(text)
    return address


def verdicts_of(world: Cluster, line: str) -> dict[int, Verdict]:
    """The verdicts of `SOURCE > DESTINATION [PROTOCOL [PORT]]` by family, for the families both ends have.

    PROTOCOL is TCP, UDP, SCTP, GRE, or ICMP, which is ICMPv6 over IPv6; TCP port 1 goes without saying.
    """
    source, _, rest = line.partition(" > ")
    destination, protocol, *port = rest.split() if " " in rest else (rest, "TCP", "1")
    found = {}
    for version in (4, 6):
        number = {4: ICMP, 6: ICMPV6}[version] if protocol == "ICMP" else NUMBERS[protocol]
        try:
            probe = probe_between(
                world, probe_end(source), probe_end(destination), number, int(port[0]) if port else None, version
            )
        except ProbeError as problem:
            if "in common" not in str(problem):
                raise
            continue
        found[version] = verdict(world, probe)
    return found
