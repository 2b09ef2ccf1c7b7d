"""Which rules of tiers a bridge makes flows of, where all of them would be too many: one object must not stop others.

Theory of operation. Rules are taken in the order of the tiers: Admin first, then by their place, which priority and
text give, then by the policy's name and the rule's number. A rule that finds no room is *closed* for its subjects: at
its place they are denied everything of its direction. What comes before stays exact for them, what comes behind is
never reached, and rules of other pods stay as they are. That is sound whatever the rule's action is: what it or a later
rule would have decided becomes a Deny.

Two complete conjunctions of one place must not differ. So a rule of the same place with some of the same subjects is
closed with it: of the same policy, or of one with the same priority and the same subjects in part.

Example. Room for 100 flows. `a` (priority 1) needs 60 for pods 1 and 2, `b` (priority 2) 70 for pods 2 and 3, `c`
(priority 3) 30 for pods 3 and 4. `a` and `c` have their flows, and at the place of `b` pods 2 and 3 are denied. So for
pod 3, `c` is not reached; for pod 4 it is exact.

Nothing here makes or counts flows of a plan: see `tier_weights`, `rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from itertools import groupby
from types import MappingProxyType
from typing import NamedTuple

from flows.cluster.model import Action, Direction, Key, Tier
from flows.policy.rule import Level
from flows.policy.tracked_sets import PodSet, TrackedRule

# What stands in a rule's place, by its identity: the rule that closes it, None for nothing. Others are as they are.
Instead = dict[bytes, TrackedRule | None]
PortsOf = Callable[[PodSet], Collection[int]]
_CLOSED_WEIGHT = 2  # flows of a closing rule beside its subjects: what it matches, and itself
_Stage = tuple[Tier, Direction]


class TierChoice(NamedTuple):
    """`closed` are the policies of rules that found no room. `everything`: even what closes these has none, so the
    tables of tiers must deny."""

    instead: Mapping[bytes, TrackedRule | None] = MappingProxyType({})
    closed: frozenset[Key] = frozenset()
    everything: bool = False


def choose_rules(rules: Iterable[TrackedRule], ports_of: PortsOf, room: int) -> TierChoice:
    """The rules of tiers that have no flows of their own where there is room for so many, and what closes them."""
    instead: Instead = {}
    used = closing = 0
    policies: set[Key] = set()
    shut: dict[_Stage, set[PodSet | None]] = {}  # subjects that an earlier place denies everything; None: all
    for (stage, _), group in groupby(sorted(rules, key=_place_and_name), key=_place):
        reached = []
        closed = shut.setdefault(stage, set())
        for rule in group:
            if None in closed or _subjects(rule) in closed:
                instead[rule.identity] = None
            else:
                reached.append(rule)
        kept, out = _fitting(reached, ports_of, room - used)
        used += _cost(kept, ports_of)
        for rule in _closers(out):
            instead[rule.identity] = rule
            closed.add(_subjects(rule))
            closing += _CLOSED_WEIGHT + _own_ports(rule, ports_of)
        for rule in out:
            instead.setdefault(rule.identity, None)
            policies.update(owner.policy for owner in rule.owners)
    return TierChoice(instead, frozenset(policies), closing > room)


def _place(rule: TrackedRule) -> tuple[_Stage, int]:
    level = _level(rule)
    return (level.tier, rule.direction), level.order


def _place_and_name(rule: TrackedRule) -> tuple[object, ...]:
    level, owner = _level(rule), rule.owners[0]
    at = level.tier is not Tier.ADMIN, level.order, rule.direction.value
    return (*at, owner.policy.name, owner.number, owner.doubt, rule.identity)


def _level(rule: TrackedRule) -> Level:
    if rule.level is None:
        raise ValueError(f"a rule of {rule.owners[0].policy} that is of no tier")
    return rule.level


def _subjects(rule: TrackedRule) -> PodSet | None:
    return None if _level(rule).everyone else rule.subjects


def _own_ports(rule: TrackedRule, ports_of: PortsOf) -> int:
    return 1 if _level(rule).everyone else len(ports_of(rule.subjects))


def _fitting(rules: list[TrackedRule], ports_of: PortsOf, room: int) -> tuple[list[TrackedRule], list[TrackedRule]]:
    """The rules of one place that fit, and the others, with those that share subjects with them."""
    kept: list[TrackedRule] = []
    out: list[TrackedRule] = []
    counted: set[Hashable] = set()
    for rule in rules:
        cost = _cost([rule], ports_of, counted)
        if cost <= room:
            room -= cost
            counted.update(elements for elements, _ in _sized(rule, ports_of))
            kept.append(rule)
        else:
            out.append(rule)
    pending = list(out)
    while pending and kept:
        one = pending.pop()
        with_it = [rule for rule in kept if _overlap(rule, one, ports_of)]
        kept = [rule for rule in kept if rule not in with_it]
        out += with_it
        pending += with_it
    return kept, out


def _overlap(one: TrackedRule, other: TrackedRule, ports_of: PortsOf) -> bool:
    if one.subjects is other.subjects or _level(one).everyone or _level(other).everyone:
        return True
    return not set(ports_of(one.subjects)).isdisjoint(ports_of(other.subjects))


def _closers(out: list[TrackedRule]) -> Iterator[TrackedRule]:
    """One rule for each set of subjects, that denies them everything. One for all pods stands for the others."""
    firsts: dict[PodSet | None, TrackedRule] = {}
    for rule in sorted(out, key=_place_and_name):
        firsts.setdefault(_subjects(rule), rule)
    for rule in [firsts[None]] if None in firsts else firsts.values():
        level = _level(rule)._replace(action=Action.DENY, nodes=(), names=(), doubt=False)
        yield rule._replace(peers=None, services=None, level=level)


def _sized(rule: TrackedRule, ports_of: PortsOf) -> Iterator[tuple[Hashable, int]]:
    """The sets of a rule whose elements have a flow each, and how many these are here."""
    if not _level(rule).everyone:
        yield rule.subjects, len(ports_of(rule.subjects))
    if rule.peers is not None:
        yield rule.peers, len(rule.peers.members)


def _cost(rules: Iterable[TrackedRule], ports_of: PortsOf, counted: Collection[Hashable] = ()) -> int:
    """About how many flows rules of one place need; sets that are `counted` cost nothing more."""
    sizes: dict[Hashable, int] = {}
    weight = 0
    for rule in rules:
        weight += rule.weight
        sizes.update(_sized(rule, ports_of))
    return weight + sum(size for elements, size in sizes.items() if elements not in counted)
