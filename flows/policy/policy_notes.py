"""Notes on the parts of a valid policy that have no effect at present: no pod is selected, matches a peer, or has a
port.

These are not errors: such pods may be created later. Notes are read from the engine's groups, never by going through
all pods.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice

from flows.cluster.model import EVERYTHING, Direction, Peer, Policy, PortSpec, Rule
from flows.policy.engine import PolicyEngine
from flows.policy.groups import Group
from flows.policy.named_ports import named_ports
from flows.policy.pod_index import PodIndex

MAX_NOTES = 5  # of a policy
MAX_EXAMINED = 1000  # peers and ports of a policy
MAX_PODS_COMPARED = 256  # pods that are compared with the pods that have a port of some name


def policy_notes(engine: PolicyEngine, policy: Policy) -> tuple[str, ...]:
    """The first MAX_NOTES notes on a policy, which must be among the engine's policies."""
    policy = policy.promoted  # what a staged policy is to do
    if not policy.isolates:
        api, _, _ = policy.key.name.partition(":")
        return (f"has no effect: its namespace isolates no pods by the annotation of {api} policies",)
    found = list(islice(_notes(engine.index, policy), MAX_NOTES + 1))
    return (*found[:MAX_NOTES], "and more") if len(found) > MAX_NOTES else tuple(found)


def _notes(index: PodIndex, policy: Policy) -> Iterator[str]:
    subjects = index.select(policy.key.namespace, policy.subjects)
    if not subjects:
        yield "selects no pod"
    examined = 0
    for direction in Direction:
        for number, rule in enumerate(policy.rules(direction)):
            examined += 0 if rule is None else len(rule.peers) + len(rule.ports)
            if examined > MAX_EXAMINED:
                return
            if rule is not None:
                yield from _rule_notes(index, policy, direction, f"{direction.value}[{number}]", rule, subjects)


def _rule_notes(
    index: PodIndex, policy: Policy, direction: Direction, where: str, rule: Rule, subjects: Collection[int]
) -> Iterator[str]:
    word = "from" if direction is Direction.INGRESS else "to"
    for number, peer in enumerate(rule.peers):
        group = _group(index, policy, peer) if peer.ip_block is None else None
        if group is not None and not group.members:
            yield f"{where}.{word}[{number}] matches no pod"
    if subjects:
        yield from (f"{where}: {text}" for text in _port_notes(index, direction, named_ports(rule.ports), subjects))


def _group(index: PodIndex, policy: Policy, peer: Peer) -> Group | None:
    """The pods of a peer; None if no rule of the engine has it."""
    where = policy.key.namespace if peer.namespaces is None else peer.namespaces
    return index.find_group(where, EVERYTHING if peer.pods is None else peer.pods)


def _port_notes(
    index: PodIndex, direction: Direction, names: Iterable[PortSpec], subjects: Collection[int]
) -> Iterator[str]:
    """A port's name is resolved at the destination: for ingress in the pods that the policy selects."""
    for spec in names:
        having = index.with_port((spec,))
        few = min(len(having), len(subjects)) <= MAX_PODS_COMPARED
        if not having:
            yield f"no pod has a port named {spec.port} ({spec.protocol.name})"
        elif direction is Direction.INGRESS and few and having.isdisjoint(subjects):
            yield f"none of its pods has a port named {spec.port} ({spec.protocol.name})"
