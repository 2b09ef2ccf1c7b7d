"""The least NetworkPolicies of a namespace that allow the connections which were seen, by workload and labels.

Theory of operation. The pods of one workload are one subject, selected by the labels that all of them have, without
those that change with each version of the workload. Peers are selected likewise, with their namespace; what is no pod's
is one address. Each policy isolates its subject in both directions, so that what was not seen is denied. Peers with
the same ports share a rule. Rules of today's policies that have counted packets, and that nothing seen explains, are
kept as they are: the audit may have begun after their connections.

What cannot be said exactly is told and not written: nothing is ever allowed that is wider than what was seen, but for
pods that come later with the same labels.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from flows.cluster.model import (
    NAMESPACE_NAME_LABEL,
    Cluster,
    Direction,
    IPBlock,
    Key,
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
from flows.cluster.net import Net
from flows.cluster.selectors import matches

# Labels that differ between versions or single pods of one workload.
VOLATILE_LABELS = frozenset({
    "pod-template-hash", "controller-revision-hash", "pod-template-generation", "controller-uid", "job-name",
    "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name", "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
})  # fmt: skip
DNS_NAMESPACE, DNS_LABEL, DNS_PORT = "kube-system", ("k8s-app", "kube-dns"), 53
MAX_NAME = 50
_BOTH = frozenset(Direction)


class SeenEnd(NamedTuple):
    """One end: `name` is a pod's NAMESPACE/NAME where it is one, `workload` what made that pod."""

    address: Net
    pod: Key | None = None
    workload: str = ""


class Seen(NamedTuple):
    """Connections that were allowed: how often, and the time of the last as text. `port` is None where the protocol has
    none; `protocol` is None for one that NetworkPolicies do not name."""

    source: SeenEnd
    destination: SeenEnd
    protocol: Protocol | None
    port: int | None
    times: int = 1
    last: str = ""


class CountedRule(NamedTuple):
    """A rule of a present policy that has counted packets, and that nothing seen explains."""

    subjects: Selector
    direction: Direction
    rule: Rule
    place: str
    packets: int


class Evidence(NamedTuple):
    """What a rule came from: connections that were seen, or the present rule that counted packets; of neither, it is
    for names to be resolved."""

    seen: tuple[Seen, ...] = ()
    counted: CountedRule | None = None


class Recommended(NamedTuple):
    """A policy, and the evidence of each of its rules by place, as `ingress[0]`."""

    policy: Policy
    evidence: dict[str, Evidence]


class Recommendation(NamedTuple):
    """The policies, the present policies that they replace, and what could not be said."""

    policies: tuple[Recommended, ...]
    replaces: tuple[Key, ...]
    notes: tuple[str, ...]


def recommend(
    cluster: Cluster, namespace: str, seen: Iterable[Seen], counted: Sequence[CountedRule] = ()
) -> Recommendation:
    """Policies for the workloads of a namespace that have a part in what was seen."""
    return _Writer(cluster, namespace).write(seen, counted)


class _Writer:
    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._pods: dict[tuple[str, str], list[Pod]] = defaultdict(list)
        for pod in cluster.pods.values():
            if pod.networked:
                self._pods[_workload(pod)].append(pod)
        self._notes: dict[str, None] = {}
        # By subject and direction: by peer the ports and what was seen.
        self._rules: dict[tuple[Selector, Direction], dict[Peer, dict[PortSpec, list[Seen]]]] = {}
        self._names: dict[Selector, str] = {}

    def write(self, seen: Iterable[Seen], counted: Sequence[CountedRule]) -> Recommendation:
        for one in seen:
            self._add(one, Direction.INGRESS, one.destination, one.source)
            self._add(one, Direction.EGRESS, one.source, one.destination)
        self._add_dns()
        found = tuple(self._policy(subject, counted) for subject in sorted(self._names, key=self._names.__getitem__))
        replaced = tuple(sorted(key for key in self._cluster.policies if key.namespace == self._namespace))
        if not found:
            self._notes[f"no connection of a pod of namespace {self._namespace} was seen"] = None
            replaced = ()
        return Recommendation(found, replaced, tuple(self._notes))

    def _add(self, one: Seen, direction: Direction, near: SeenEnd, far: SeenEnd) -> None:
        if near.pod is None or near.pod.namespace != self._namespace:
            return
        subject = self._selector(near)
        if subject is None or self._is_own_node(near, far):
            return
        self._names.setdefault(subject, _short(near))
        rules = self._rules.setdefault((subject, direction), defaultdict(lambda: defaultdict(list)))
        if one.protocol is None or one.port is None:
            self._notes[
                f"{end_text(near)} and {end_text(far)}: a protocol without ports was seen, which no rule allows alone"
            ] = None
            return
        peer = self._peer(far)
        if peer is not None:
            rules[peer][PortSpec(one.protocol, one.port)].append(one)

    def _is_own_node(self, near: SeenEnd, far: SeenEnd) -> bool:
        """A pod and its own node always reach each other."""
        pod = self._cluster.pods.get(near.pod) if near.pod is not None else None
        node = self._cluster.nodes.get(pod.node) if pod is not None else None
        return node is not None and far.address in node.addresses

    def _peer(self, end: SeenEnd) -> Peer | None:
        if end.pod is None:
            return Peer(ip_block=IPBlock(end.address))
        pods = self._selector(end)
        if pods is None:
            return None
        if end.pod.namespace == self._namespace:
            return Peer(pods=pods)
        named = Requirement(NAMESPACE_NAME_LABEL, Operator.IN, (end.pod.namespace,))
        return Peer(pods=pods, namespaces=Selector((named,)))

    def _selector(self, end: SeenEnd) -> Selector | None:
        """The labels that select the pods of a workload, and no other pods of their namespace."""
        if end.pod is None:
            return None
        pod = self._cluster.pods.get(end.pod)
        key = _workload(pod) if pod is not None else (end.pod.namespace, end.workload)
        mine = self._pods.get(key, [])
        if not mine:
            self._notes[f"{end_text(end)} is gone, and so is what made it: it is left out"] = None
            return None
        common = set.intersection(*(set(one.labels.items()) for one in mine))
        stable = {(name, value) for name, value in common if name not in VOLATILE_LABELS}
        for labels in (stable, common):
            found = Selector(tuple(Requirement(name, Operator.IN, (value,)) for name, value in sorted(labels)))
            if labels and not self._others(found, end.pod.namespace, mine):
                return found
        self._notes[f"{end_text(end)} has no labels that no other pod of its namespace has: it is left out"] = None
        return None

    def _others(self, selector: Selector, namespace: str, mine: Sequence[Pod]) -> bool:
        keys = {pod.key for pod in mine}
        return any(
            pod.key.namespace == namespace and pod.key not in keys and matches(selector, pod.labels)
            for pod in self._cluster.pods.values()
        )

    def _add_dns(self) -> None:
        """Names must be resolved by whoever opens connections, also where the answers were kept when it was audited."""
        label, value = DNS_LABEL
        if not any(
            pod.key.namespace == DNS_NAMESPACE and pod.labels.get(label) == value for pod in self._cluster.pods.values()
        ):
            return
        named = Requirement(NAMESPACE_NAME_LABEL, Operator.IN, (DNS_NAMESPACE,))
        peer = Peer(Selector((Requirement(label, Operator.IN, (value,)),)), Selector((named,)))
        for (_, direction), rules in self._rules.items():
            dns = any(spec.port == DNS_PORT for ports in rules.values() for spec in ports)
            if direction is Direction.EGRESS and rules and not dns:
                rules[peer] = {PortSpec(protocol, DNS_PORT): [] for protocol in (Protocol.UDP, Protocol.TCP)}

    def _policy(self, subject: Selector, counted: Sequence[CountedRule]) -> Recommended:
        evidence: dict[str, Evidence] = {}
        rules: dict[Direction, tuple[Rule, ...]] = {}
        for direction in Direction:
            found = self._merged(self._rules.get((subject, direction), {}))
            kept = [one for one in counted if one.direction is direction and self._same(one.subjects, subject)]
            found += [(one.rule, Evidence(counted=one)) for one in kept]
            rules[direction] = tuple(rule for rule, _ in found)
            evidence.update({f"{direction.value}[{number}]": one for number, (_, one) in enumerate(found)})
        name = Key(self._namespace, self._name(subject))
        policy = Policy(name, subject, _BOTH, rules[Direction.INGRESS], rules[Direction.EGRESS])
        return Recommended(policy, evidence)

    def _same(self, one: Selector, other: Selector) -> bool:
        """Whether a selector of today's policies selects any pod of the subject."""
        return any(
            pod.key.namespace == self._namespace and matches(one, pod.labels) and matches(other, pod.labels)
            for pod in self._cluster.pods.values()
        )

    def _name(self, subject: Selector) -> str:
        name = self._names[subject]
        same = sorted(one for one in self._names if self._names[one] == name)
        return f"seen-{name}" + (f"-{same.index(subject) + 1}" if len(same) > 1 else "")

    def _merged(self, rules: dict[Peer, dict[PortSpec, list[Seen]]]) -> list[tuple[Rule, Evidence]]:
        """Peers with the same ports share a rule."""
        by_ports: dict[tuple[PortSpec, ...], list[Peer]] = defaultdict(list)
        for peer, of_peer in rules.items():
            by_ports[tuple(sorted(of_peer))].append(peer)
        found = []
        for ports, peers in sorted(by_ports.items()):
            seen = tuple(one for peer in peers for some in rules[peer].values() for one in some)
            found.append((Rule(tuple(sorted(peers, key=str)), ports), Evidence(seen)))
        return found


def _workload(pod: Pod) -> tuple[str, str]:
    return pod.key.namespace, pod.workload or f"Pod/{pod.key.name}"


def _short(end: SeenEnd) -> str:
    name = end.workload.partition("/")[2] or (end.pod.name if end.pod is not None else "")
    return re.sub(r"[^a-z0-9-]", "-", name.lower())[:MAX_NAME].strip("-") or "pods"


def end_text(end: SeenEnd) -> str:
    """An end for people."""
    return f"pod {end.pod}" if end.pod is not None else str(end.address)


def evidence_text(evidence: Evidence) -> str:
    """What a rule came from, in a line for people."""
    if evidence.counted is not None:
        return f"{evidence.counted.place}: counted {evidence.counted.packets:,} packets that were not audited"
    if not evidence.seen:
        return "not seen: names are resolved here"
    pairs = sorted({f"{end_text(one.source)} to {end_text(one.destination)}" for one in evidence.seen})
    more = f" and {len(pairs) - 1} more pairs" if len(pairs) > 1 else ""
    times = sum(one.times for one in evidence.seen)
    return f"seen {times:,} times, last {max(one.last for one in evidence.seen)}: {pairs[0]}{more}"
