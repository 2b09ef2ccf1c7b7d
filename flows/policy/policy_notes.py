"""What of a policy that is in force comes to nothing at this moment: nobody is selected, fits a peer, or has a port.

None of it is an error, for pods may come. It is read off groups that the engine keeps, never by looking at pods.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice

from flows.cluster.model import EVERYTHING, Direction, Peer, Policy, PortSpec, Rule
from flows.policy.groups import Group
from flows.policy.pod_index import PodIndex
from flows.policy.services import named_ports

MAX_NOTES = 5  # of a policy
MAX_PEERS_EXAMINED = 1000  # of a policy that are looked at, and as many names of ports
MAX_PODS_COMPARED = 256  # pods that are compared with those that have a port of some name


def policy_notes(index: PodIndex, policy: Policy) -> tuple[str, ...]:
    """The first few of them. The policy's rules are known to the engine whose index this is."""
    if not policy.isolates:
        form, _, _ = policy.key.name.partition(":")
        return (f"has no force: its namespace isolates no pods by the annotation of {form} policies",)
    found = list(islice(_notes(index, policy), MAX_NOTES + 1))
    return (*found[:MAX_NOTES], "and more") if len(found) > MAX_NOTES else tuple(found)


def _notes(index: PodIndex, policy: Policy) -> Iterator[str]:
    subjects = index.select(policy.key.namespace, policy.subjects)
    if not subjects:
        yield "selects no pod"
    looked = 0
    for direction in Direction:
        for number, rule in enumerate(policy.rules(direction)):
            looked += 0 if rule is None else len(rule.peers) + len(rule.ports)
            if looked > MAX_PEERS_EXAMINED:
                return
            if rule is not None:
                yield from _of_rule(index, policy, direction, f"{direction.value}[{number}]", rule, subjects)


def _of_rule(
    index: PodIndex, policy: Policy, direction: Direction, where: str, rule: Rule, subjects: Collection[int]
) -> Iterator[str]:
    word = "from" if direction is Direction.INGRESS else "to"
    for number, peer in enumerate(rule.peers):
        group = _group(index, policy, peer) if peer.ip_block is None else None
        if group is not None and not group.members:
            yield f"{where}.{word}[{number}] fits no pod"
    if subjects:
        yield from (f"{where}: {text}" for text in _ports(index, direction, named_ports(rule.ports), subjects))


def _group(index: PodIndex, policy: Policy, peer: Peer) -> Group | None:
    """The pods of a peer, None where no rule of the engine has this one."""
    where = policy.key.namespace if peer.namespaces is None else peer.namespaces
    return index.known(where, EVERYTHING if peer.pods is None else peer.pods)


def _ports(
    index: PodIndex, direction: Direction, names: Iterable[PortSpec], subjects: Collection[int]
) -> Iterator[str]:
    """A port's name is looked up at the destination: for ingress at the pods that the policy selects."""
    for spec in names:
        having = index.with_port((spec,))
        few = min(len(having), len(subjects)) <= MAX_PODS_COMPARED
        if not having:
            yield f"no pod has a port named {spec.port} ({spec.protocol.name})"
        elif direction is Direction.INGRESS and few and having.isdisjoint(subjects):
            yield f"none of its pods has a port named {spec.port} ({spec.protocol.name})"
