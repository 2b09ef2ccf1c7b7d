"""Staged NetworkPolicies of the engine: what policy will be once all of them are promoted, beside what is in force.

A NetworkPolicy selects pods of its own namespace. So the rules of a namespace with a staged policy are kept twice: as
they are, and as they are once promoted, with the level STAGED. In all other namespaces both are the same, and nothing
is kept. A change costs what it changes; the first staged policy of a namespace, and the last, cost the namespace's
policies.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from flows.cluster.model import EVERYTHING, Direction, Key, Policy, Selector
from flows.policy.rule import STAGED, RuleKey, RuleRef, policy_rules

_NOWHERE: frozenset[Direction] = frozenset()


class PromotedPolicy(NamedTuple):
    """What a policy gives to the rules as they are once promoted: its rules, and the directions in which it isolates.

    `selects` are the directions in which promotion may change the verdict for its subjects: none for a policy that is
    not staged.
    """

    subjects: Selector = EVERYTHING
    isolates: frozenset[Direction] = _NOWHERE
    selects: frozenset[Direction] = _NOWHERE
    rules: tuple[tuple[RuleKey, RuleRef], ...] = ()


NOTHING = PromotedPolicy()


class StagedChange(NamedTuple):
    """What a policy gives to the promoted rules, before and after a change."""

    policy: Key
    old: PromotedPolicy
    new: PromotedPolicy


def promote(policy: Policy) -> PromotedPolicy:
    """What a policy gives to the promoted rules of a namespace that has a staged policy."""
    promoted = policy.promoted
    rules = [
        (key._replace(level=STAGED), ref._replace(staged=True)) for key, ref in policy_rules(promoted)
    ]  # each has another owner than the rule in force
    selects = policy.isolates | promoted.isolates if policy.staged is not None else _NOWHERE
    return PromotedPolicy(policy.subjects, promoted.isolates, selects, tuple(rules))


class StagedPolicies:
    """The policies of all namespaces, and what those of namespaces with a staged policy give."""

    def __init__(self) -> None:
        self._policies: dict[str, dict[Key, Policy]] = {}  # by namespace
        self._staged: dict[str, int] = {}  # how many policies are staged, by namespace
        self._promoted: dict[Key, PromotedPolicy] = {}

    @property
    def any(self) -> bool:
        """Whether any policy is staged."""
        return bool(self._staged)

    def replace(self, old: Policy | None, new: Policy | None) -> list[StagedChange]:
        """A policy is new, has changed or is gone. Returns what differs in the promoted rules."""
        either = new if new is not None else old
        if either is None:
            return []
        namespace, had = either.key.namespace, bool(self._staged) and either.key.namespace in self._staged
        self._keep(namespace, old, new)
        has = bool(self._staged) and namespace in self._staged
        if had != has:
            return list(self._all(namespace, either.key, has))
        return [self._set(either.key, NOTHING if new is None else promote(new))] if has else []

    def _keep(self, namespace: str, old: Policy | None, new: Policy | None) -> None:
        policies = self._policies.get(namespace)
        if policies is None:
            policies = self._policies[namespace] = {}
        staged = 0  # how many more
        if old is not None:
            del policies[old.key]
            staged -= old.staged is not None
        if new is not None:
            policies[new.key] = new
            staged += new.staged is not None
        if not policies:
            del self._policies[namespace]
        if staged:
            count = self._staged.pop(namespace, 0) + staged
            if count:
                self._staged[namespace] = count

    def _all(self, namespace: str, changed: Key, has: bool) -> Iterator[StagedChange]:
        policies = self._policies.get(namespace, {})
        for key in {**policies, changed: None}:
            policy = policies.get(key)
            yield self._set(key, promote(policy) if has and policy is not None else NOTHING)

    def _set(self, key: Key, new: PromotedPolicy) -> StagedChange:
        old = self._promoted.pop(key, NOTHING)
        if new is not NOTHING:
            self._promoted[key] = new
        return StagedChange(key, old, new)

    def promoted(self, key: Key) -> PromotedPolicy:
        """What a policy gives; nothing where no policy of its namespace is staged."""
        return self._promoted.get(key, NOTHING)
