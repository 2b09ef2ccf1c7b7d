"""What is known about pods and namespaces, with pods that no policy tells apart as one class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

from flows.cluster.model import Cluster, ContainerPort, Direction, Labels, Peer, Pod, Policy, PortSpec, Rule
from flows.cluster.net import Net
from flows.cluster.selectors import matches
from flows.policy.service_ranges import MAX_PORT
from flows.reach.bits import numbers_of
from flows.reach.decision import Decision
from flows.reach.ports import NOTHING, Ports, common


class PodClass(NamedTuple):
    """Pods of one namespace with equal labels and named ports; `sample` is one of them."""

    namespace: str
    labels: Labels
    ports: tuple[ContainerPort, ...]
    sample: Pod
    addresses: tuple[Net, ...]


Ranges = Sequence[tuple[int, int, int]]  # protocol, first and last port


class LintWorld:
    """The pods of a cluster in classes, and questions about selectors and rules."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        found: dict[tuple[str, tuple[tuple[str, str], ...], tuple[ContainerPort, ...]], list[Pod]] = {}
        for key in sorted(cluster.pods):
            pod = cluster.pods[key]
            if pod.networked:
                found.setdefault((key.namespace, tuple(sorted(pod.labels.items())), pod.ports), []).append(pod)
        self.classes = [
            PodClass(namespace, pods[0].labels, ports, pods[0], tuple(net for pod in pods for net in pod.addresses))
            for (namespace, _, ports), pods in found.items()
        ]
        self.by_namespace: dict[str, list[PodClass]] = {}
        for one in self.classes:
            self.by_namespace.setdefault(one.namespace, []).append(one)
        self._peers: dict[tuple[str, Peer], list[PodClass]] = {}
        self._policies: dict[str, list[Policy]] = {}
        for name in sorted(cluster.policies):
            self._policies.setdefault(name.namespace, []).append(cluster.policies[name])

    @cached_property
    def _decision(self) -> Decision:
        return Decision(self.cluster)

    @property
    def has_tiers(self) -> bool:
        """Whether there are ClusterNetworkPolicies: then only `reached` knows what is allowed."""
        return bool(self.cluster.cluster_policies)

    def reached(self, source: PodClass, targets: Iterable[PodClass] | None, ports: Ports) -> bool:
        """Whether a pod of one class reaches one of others, or of None anybody, on one of these ports at least; both
        ends and all tiers considered."""
        ends = self._decision.ends
        within = -1 if targets is None else ends.with_addresses(net for one in targets for net in one.addresses)
        own = ends.with_addresses(source.addresses)
        return any(
            bits & within & ~own and common(allowed, ports) != NOTHING
            for number in numbers_of(own)
            for allowed, bits in self._decision.region(number, Direction.EGRESS).items()
        )

    def subjects(self, policy: Policy) -> list[PodClass]:
        """The pods that a policy selects."""
        return [one for one in self.by_namespace.get(policy.key.namespace, ()) if matches(policy.subjects, one.labels)]

    def matched(self, home: str, peer: Peer) -> list[PodClass]:
        """The pods that a peer with selectors matches; `home` is the policy's namespace."""
        found = self._peers.get((home, peer))
        if found is None:
            found = self._peers[home, peer] = [one for one in self._candidates(home, peer) if self._has(peer, one)]
        return found

    def _candidates(self, home: str, peer: Peer) -> Iterator[PodClass]:
        if peer.namespaces is None:
            yield from self.by_namespace.get(home, ()) if peer.pods is not None else ()
            return
        for name, classes in self.by_namespace.items():
            if matches(peer.namespaces, self.cluster.namespace_labels(name)):
                yield from classes

    def _has(self, peer: Peer, one: PodClass) -> bool:
        return peer.pods is None or matches(peer.pods, one.labels)

    def is_peer(self, home: str, rule: Rule, one: PodClass) -> bool:
        """Whether a rule's peers have this class of pods, or one of its addresses."""
        return not rule.peers or any(
            any(peer.ip_block.cidr.contains(net) for net in one.addresses)
            if peer.ip_block is not None
            else any(one is other for other in self.matched(home, peer))
            for peer in rule.peers
        )

    def isolating(self, one: PodClass, direction: Direction) -> list[Policy]:
        """The policies that isolate a class of pods in a direction."""
        return [
            policy
            for policy in self._policies.get(one.namespace, ())
            if direction in policy.isolates and matches(policy.subjects, one.labels)
        ]

    def allowed(self, one: PodClass, direction: Direction, other: PodClass) -> Ranges | None:
        """The ports that `one` may use with `other` in a direction; None for everything."""
        policies = self.isolating(one, direction)
        if not policies:
            return None
        target = one if direction is Direction.INGRESS else other
        found: list[tuple[int, int, int]] = []
        for policy in policies:
            for rule in policy.rules(direction):
                if rule is None or not self.is_peer(policy.key.namespace, rule, other):
                    continue
                if not rule.ports:
                    return None
                found += port_ranges(rule.ports, target.ports)
        return found


@lru_cache(1 << 14)
def port_ranges(specs: tuple[PortSpec, ...], named: tuple[ContainerPort, ...]) -> tuple[tuple[int, int, int], ...]:
    """What a rule's ports are at a destination with these named ports."""
    found = []
    for spec in specs:
        if spec.port is None:
            found.append((int(spec.protocol), 1, MAX_PORT))
        elif isinstance(spec.port, int):
            found.append((int(spec.protocol), spec.port, spec.end_port or spec.port))
        else:
            same = (one for one in named if (one.name, one.protocol) == (spec.port, spec.protocol))
            found += [(int(one.protocol), one.number, one.number) for one in same]
    return tuple(found)


def overlap(one: Ranges | None, other: Ranges | None) -> bool:
    """Whether two sets of ports have any in common; None is everything."""
    if one is None:
        return other is None or bool(other)
    if other is None:
        return bool(one)
    return any(a[0] == b[0] and a[1] <= b[2] and b[1] <= a[2] for a in one for b in other)


def near_text(text: str, known: Mapping[str, object] | Sequence[str]) -> str:
    """`; did you mean X?` where a known name is near."""
    import difflib

    found = difflib.get_close_matches(text, list(known)[:2000], 1, 0.7)
    return f"; did you mean {found[0]}?" if found else ""
