"""From policies to rules per subject: what each switch must allow, as sets that a conjunctive match can hold.

This is the full computation, from nothing but a snapshot: the reference that the incremental `engine` is held to. What
a rule means stands in `variants`, how rules become flows in `render_rules`.

A rule is identified by what it says (namespace, subject selector, direction, peers, ports), not by the policy that says
it, so that equal rules share one conjunction and a pod that comes or goes changes no number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flows.cluster.model import Direction, Key, Policy
from flows.cluster.net import Net
from flows.cluster.tuples import new_tuple
from flows.policy.services import Services
from flows.policy.tracked_sets import RuleKey, RuleRef


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """One conjunction: these subjects may talk with these peers over these services, as responder or as initiator.

    `peers` and `services` are None where they do not restrict; neither is ever empty. `conj_id` is unique in the
    cluster. `weight` is about how many flows the rule's text makes, whatever pods there are.
    """

    conj_id: int
    direction: Direction
    subjects: frozenset[Key]
    peers: frozenset[Net] | None
    services: Services | None
    owners: tuple[RuleRef, ...]
    weight: int = 1

    @property
    def namespace(self) -> str:
        """Where the rule's policies are, and its subjects."""
        return self.owners[0].policy.namespace if self.owners else ""


@dataclass(frozen=True, slots=True)
class NodePolicy:
    """All that policy says about the pods of one switch. Pods that nothing isolates are not in `isolated`."""

    isolated: Mapping[Key, frozenset[Direction]]
    rules: tuple[CompiledRule, ...]


def policy_rules(policy: Policy) -> Iterable[tuple[RuleKey, RuleRef]]:
    """The rules of a policy that count, with where they stand in it."""
    for direction in policy.isolates:
        for number, rule in enumerate(policy.rules(direction)):
            if rule is not None:
                key = new_tuple(RuleKey, (direction, policy.key.namespace, policy.subjects, rule))
                yield key, new_tuple(RuleRef, (policy.key, direction, number))
