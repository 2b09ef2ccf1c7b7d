"""The rules of policies as values: what identifies a rule, and the compiled rules of one switch.

A rule is identified by what it says (direction, namespace, subject selector, peers, ports), not by the policy that has
it. So equal rules share one conjunction, and a pod that is added or removed changes no number. How a rule is compiled
is in `resolve` (from nothing) and `engine` (incremental); how it becomes flows is in `flows.render.rules`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from flows.cluster.model import Direction, Key, Policy, Rule, Selector
from flows.cluster.net import Net
from flows.cluster.tuples import new_tuple
from flows.policy.service_ranges import ServiceRanges


class RuleRef(NamedTuple):
    """A rule's place in a manifest: the policy, the direction, and the index in its list, from 0."""

    policy: Key
    direction: Direction
    number: int

    def __str__(self) -> str:
        return f"{self.policy} {self.direction.value}[{self.number}]"


class RuleKey(NamedTuple):
    """What a rule says. Equal keys mean equal rules, whichever policies have them."""

    direction: Direction
    namespace: str
    subjects: Selector
    rule: Rule


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """One conjunction: these subjects may talk with these peers over these services, as responder (ingress) or as
    initiator (egress).

    `peers` and `services` are None where they do not restrict; neither is ever empty. `conj_id` is unique in the
    cluster. `weight` is about how many flows the rule's text makes, whatever pods there are.
    """

    conj_id: int
    direction: Direction
    subjects: frozenset[Key]
    peers: frozenset[Net] | None
    services: ServiceRanges | None
    owners: tuple[RuleRef, ...]
    weight: int = 1

    @property
    def namespace(self) -> str:
        """The namespace of the rule's policies and subjects."""
        return self.owners[0].policy.namespace if self.owners else ""


@dataclass(frozen=True, slots=True)
class NodePolicy:
    """The policy for the pods of one switch. Pods that no policy isolates are not in `isolated`."""

    isolated: Mapping[Key, frozenset[Direction]]
    rules: tuple[CompiledRule, ...]


def policy_rules(policy: Policy) -> Iterable[tuple[RuleKey, RuleRef]]:
    """The valid rules of a policy in the directions in which it isolates, with their places in the manifest."""
    for direction in policy.isolates:
        for number, rule in enumerate(policy.rules(direction)):
            if rule is not None:
                key = new_tuple(RuleKey, (direction, policy.key.namespace, policy.subjects, rule))
                yield key, new_tuple(RuleRef, (policy.key, direction, number))
