"""Pods that may come: for each kind of pods that rules name as peers, made-up pods that stand for all of the kind.

Theory of operation. Rules tell pods apart by the keys and values that selectors name. So a kind has several strangers:
one with the fewest labels that its selector wants; one that beside these has a label for each key that some selector
wants absent, or without a value; and one for each such value. What all of them may do, every pod of the kind may do,
but for pods of narrower kinds that a rule denies something: these are kinds of their own. So it is with namespaces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from flows.cluster.model import (
    EVERYTHING,
    NAMESPACE_NAME_LABEL,
    Cluster,
    ContainerPort,
    Key,
    Labels,
    Namespace,
    Operator,
    Peer,
    Pod,
    Requirement,
    Selector,
)
from flows.cluster.net import ADDRESS_BITS, Net, parse_address
from flows.cluster.selectors import matches

ANY_POD = "any pod"
MAX_STRANGERS = 10_000
MAX_VARIANTS = 100  # of one selector; more values in one list are not told apart
# Addresses that no cluster has (RFC 2544, RFC 5180): a block that contains them is one for everybody.
_BASE = {4: parse_address("198.18.0.1"), 6: parse_address("2001:2::1")}
_STRANGER = "stranger-"
_NEGATIVE = frozenset({Operator.NOT_IN, Operator.DOES_NOT_EXIST})


class Kind(NamedTuple):
    """Pods of some labels in namespaces of some labels: its name, and the strangers that stand for them."""

    name: str
    strangers: tuple[Pod, ...]


class Strangers:
    """All kinds of pods that the rules of a cluster tell apart, ANY_POD first, and the namespaces made up for them.

    `ports` are the container ports that every stranger has. `left_out` counts the kinds beyond MAX_STRANGERS.
    """

    def __init__(self, cluster: Cluster, ports: tuple[ContainerPort, ...] = ()) -> None:
        self.namespaces: dict[str, Namespace] = {}
        self.left_out = 0
        self._cluster = cluster
        self._ports = ports
        self._count = 0
        peers = list(dict.fromkeys(named_peers(cluster)))
        self._pod_words = _Words(peer.pods for _, peer in peers if peer.pods is not None)
        self._namespace_words = _Words(peer.namespaces for _, peer in peers if peer.namespaces is not None)
        self.kinds = [Kind(ANY_POD, tuple(self._of("", Peer(EVERYTHING, EVERYTHING))))]
        for home, peer in peers:
            if self._count >= MAX_STRANGERS:
                self.left_out += 1
            elif strangers := tuple(self._of(home, peer)):
                self.kinds.append(Kind(kind_name(home, peer), strangers))

    def _of(self, home: str, peer: Peer) -> Iterator[Pod]:
        pods = self._pod_words.variants(peer.pods if peer.pods is not None else EVERYTHING)
        spaces = [home] if peer.namespaces is None else self._spaces(peer.namespaces)
        for n, labels in enumerate(pods):
            for m, space in enumerate(spaces):
                # Each variant with the least of the other side; the second variants, which break most, together.
                if not n or not m or (n, m) == (1, 1):
                    yield self._made(space, labels)

    def _made(self, namespace: str, labels: Labels) -> Pod:
        self._count += 1
        while (key := Key(namespace, f"{_STRANGER}{self._count}")) in self._cluster.pods:
            self._count += 1
        addresses = tuple(Net(v, base.value + self._count, ADDRESS_BITS[v]) for v, base in _BASE.items())
        return Pod(key, labels, addresses=addresses, ports=self._ports)

    def _spaces(self, selector: Selector) -> list[str]:
        """Namespaces for the variants of a selector: those that it names, where there are such, else made up."""
        found: dict[str, None] = {}
        for labels in self._namespace_words.variants(selector):
            name = labels.get(NAMESPACE_NAME_LABEL, f"{_STRANGER}{len(self.namespaces)}")
            known = self._cluster.namespaces.get(name) or self.namespaces.get(name)
            space = known or Namespace(name, {**labels, NAMESPACE_NAME_LABEL: name})
            if matches(selector, space.labels):
                if known is None:
                    self.namespaces[name] = space
                found[name] = None
        return list(found)


class _Words:
    """What selectors say of labels."""

    def __init__(self, selectors: Iterable[Selector]) -> None:
        requirements = {one for selector in selectors for one in selector.requirements}
        used = {value for one in requirements for value in one.values}
        self._odd = "other"  # a value that no selector names
        while self._odd in used:
            self._odd += "-x"
        self._breaking: dict[str, list[str]] = {}  # by key: values that break requirements for its absence
        for one in sorted(requirements):
            if one.operator in _NEGATIVE:
                values = self._breaking.setdefault(one.key, [])
                values += [value for value in (*one.values, self._odd) if value not in values]

    def variants(self, selector: Selector) -> list[Labels]:
        """Labels that a selector matches: the fewest, then the most different; none if it matches nothing."""
        least = self._least(selector.requirements)
        if not matches(selector, least):
            return []
        crowded = {**{key: values[0] for key, values in self._breaking.items()}, **least}
        if not matches(selector, crowded):  # it wants a key absent, or without a value
            own = {one.key for one in selector.requirements}
            crowded = {key: value for key, value in crowded.items() if key in least or key not in own}
        found: list[Labels] = [least, crowded]
        for one in selector.requirements:
            if one.operator is not Operator.DOES_NOT_EXIST and one.key != NAMESPACE_NAME_LABEL:
                found += ({**crowded, one.key: value} for value in (*one.values, self._odd))
        for key, values in self._breaking.items():
            found += ({**crowded, key: value} for value in values)
        unique = {frozenset(one.items()): one for one in reversed(found) if matches(selector, one)}
        return list(reversed(unique.values()))[:MAX_VARIANTS]

    def _least(self, requirements: Iterable[Requirement]) -> dict[str, str]:
        found: dict[str, str] = {}
        forbidden: Mapping[str, set[str]] = {one.key: set() for one in requirements}
        for one in requirements:
            if one.operator is Operator.NOT_IN:
                forbidden[one.key].update(one.values)
        for one in requirements:
            if one.operator is Operator.IN:
                found[one.key] = next((v for v in one.values if v not in forbidden[one.key]), one.values[0])
        for one in requirements:
            if one.operator is Operator.EXISTS:
                found.setdefault(one.key, self._odd)
        return found


def named_peers(cluster: Cluster) -> Iterator[tuple[str, Peer]]:
    """The peers with selectors of all rules, each with the namespace that it is about if it names none."""
    for policy in cluster.policies.values():
        for rule in (*policy.ingress, *policy.egress):
            for one in rule.peers if rule is not None else ():
                if one.ip_block is None:
                    yield policy.key.namespace if one.namespaces is None else "", one
    for tiered in cluster.cluster_policies.values():
        for each in (*tiered.ingress, *tiered.egress):
            yield from (("", one) for one in each.peers if isinstance(one, Peer) and one.ip_block is None)


def kind_name(home: str, peer: Peer) -> str:
    """The kind of pods that a peer with selectors names, in words. `home` is the namespace of its policy."""
    pods = peer.pods if peer.pods is not None else EVERYTHING
    whose = f"pods with {_text(pods)}" if pods.requirements else "pods"
    if peer.namespaces is None:
        return f"{whose} in namespace {home}"
    where = f"namespaces with {_text(peer.namespaces)}" if peer.namespaces.requirements else "any namespace"
    return f"{whose} in {where}"


def _text(selector: Selector) -> str:
    words = {Operator.IN: "in", Operator.NOT_IN: "not in", Operator.EXISTS: "exists", Operator.DOES_NOT_EXIST: "absent"}
    parts = []
    for one in selector.requirements:
        if one.operator is Operator.IN and len(one.values) == 1:
            parts.append(f"{one.key}={one.values[0]}")
        elif one.values:
            parts.append(f"{one.key} {words[one.operator]} ({', '.join(one.values)})")
        else:
            parts.append(f"{one.key} {words[one.operator]}")
    return ", ".join(parts)
