"""Where the rules of ClusterNetworkPolicies stand: an order for each rule of a tier, given out statically.

Theory of operation. Every priority of a tier has SLOTS orders; order = priority * SLOTS + slot, and a smaller order
comes first. A rule's slot is its place in its policy, or a later one where something that must come before it stands
there. So the orders of a policy depend on its own text, and on policies of the same tier and priority that may select
the same pods: policies of other priorities never move each other. Among rules of one action the sequence does not
matter, so only different actions push each other on. Of policies with the same priority the one with the smaller name
comes first, with all its rules.

A Pass or Deny whose peers are pods gets a companion, the rule *in doubt*: it denies addresses that several pods claim,
some of which match. That of a Pass stands right behind it.

Example. Policies a and b have priority 7 and may select the same pods. a has Deny, Accept: slots 0 and 1. b has Deny,
Deny: its first rule must come behind a's Accept, so both of its rules stand in slot 2. If their subjects could not
overlap, b's would stand in 0 and 1.

What finds no slot fails closed: an Accept is left out, anything else denies everything in the last slot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from flows.cluster.model import (
    Action,
    ClusterPolicy,
    ClusterRule,
    Direction,
    DomainPeer,
    NodePeer,
    Peer,
    Rule,
    Selector,
    Subject,
)
from flows.policy.named_ports import named_ports
from flows.policy.rule import Level, RuleKey, RuleRef
from flows.policy.tied_subjects import MAX_NAMED, TiedSubjects

SLOTS = 64
LAST_SLOT = SLOTS - 1
MAX_TIED_POLICIES = 1024  # of one tier and priority: so the rules of an order fit into one flow
_DENY_ALL = Rule()
_EVERYONE = Subject()
_FULL = "has no place left: too many alternating rules of this priority; what follows is denied"


class PlacedPolicy(NamedTuple):
    """The rules of a policy with their levels. `tied` are the first MAX_NAMED policies of the same tier and priority
    that may select the same pods in the same direction and come first, `tied_count` how many there are (of both
    directions, the larger number). `error` says what could not be placed, "" for nothing."""

    rules: tuple[tuple[RuleKey, RuleRef], ...] = ()
    tied: tuple[str, ...] = ()
    tied_count: int = 0
    error: str = ""


class _Item(NamedTuple):
    """A rule to be placed, from slot `least` on."""

    number: int
    least: int
    action: Action
    rule: Rule
    nodes: tuple[Selector, ...] = ()
    doubt: bool = False
    names: tuple[str, ...] = ()


def place_policies(policies: Iterable[ClusterPolicy]) -> dict[str, PlacedPolicy]:
    """The rules of all policies of one tier and priority, by the policies' names."""
    in_order = sorted(policies, key=lambda one: one.place)
    found: dict[str, list[PlacedPolicy]] = {}
    for direction in Direction:
        placing = [one for one in in_order[:MAX_TIED_POLICIES] if one.rules(direction)]
        before = TiedSubjects([one.subject for one in placing])
        for count, policy in enumerate(in_order):
            placed = found.setdefault(policy.key.name, [])
            if not policy.rules(direction):
                continue
            tied = before.before(policy.subject)
            too_many = count >= MAX_TIED_POLICIES
            rules, slots, error = _place(policy, direction, tied.slots, too_many)
            placed.append(PlacedPolicy(rules, tied.names, tied.policies, error))
            if not too_many:
                before.add(policy.subject, policy.key.name, slots)
    return {name: _joined(parts) for name, parts in found.items()}


def _joined(parts: list[PlacedPolicy]) -> PlacedPolicy:
    if len(parts) == 1:
        return parts[0]
    rules = tuple([rule for part in parts for rule in part.rules])
    tied = tuple(dict.fromkeys([name for part in parts for name in part.tied]))[:MAX_NAMED]
    count = max([len(tied), *[part.tied_count for part in parts]])
    return PlacedPolicy(rules, tied, count, next((part.error for part in parts if part.error), ""))


def _place(
    policy: ClusterPolicy, direction: Direction, taken: Mapping[Action, int], too_many: bool
) -> tuple[tuple[tuple[RuleKey, RuleRef], ...], dict[Action, int], str]:
    """The rules of a policy behind the slots that are taken, the last slots that they have, and an error."""
    subject = policy.subject
    own = dict.fromkeys(Action, -1)
    rules, error = [], ""
    items = _items(policy, direction)
    if too_many:
        items = [item._replace(least=SLOTS) for item in items]
    for item in items:
        others = [max(taken[action], own[action]) for action in Action if action is not item.action]
        slot = max(item.least, max(others) + 1)
        if slot >= LAST_SLOT:
            error = error or f"{direction.value}[{item.number}] {_FULL}"
            if item.action is Action.ACCEPT:
                continue
            slot, item = LAST_SLOT, _Item(item.number, 0, Action.DENY, _DENY_ALL, doubt=item.doubt)
        own[item.action] = max(own[item.action], slot)
        # A port's name at ingress is resolved in the subject: then the rule stands for several, for some pods each.
        everyone = subject == _EVERYONE and not (direction is Direction.INGRESS and named_ports(item.rule.ports))
        order = policy.priority * SLOTS + slot
        level = Level(policy.tier, order, item.action, item.nodes, item.doubt, item.names, everyone)
        key = RuleKey(direction, subject.namespaces, subject.pods, item.rule, level)
        rules.append((key, RuleRef(policy.key, direction, item.number, item.doubt)))
    return tuple(rules), own, error


def _items(policy: ClusterPolicy, direction: Direction) -> list[_Item]:
    return [item for number, rule in enumerate(policy.rules(direction)) for item in _items_of(rule, number, direction)]


def _items_of(rule: ClusterRule, number: int, direction: Direction) -> Iterator[_Item]:
    if rule.unreadable:
        # An Accept that cannot be read matches nothing; anything else denies everything.
        if rule.action is not Action.ACCEPT:
            yield _Item(number, number, Action.DENY, _DENY_ALL)
        return
    peers = tuple([peer for peer in rule.peers if isinstance(peer, Peer)])
    nodes = tuple([peer.nodes for peer in rule.peers if isinstance(peer, NodePeer)])
    names = tuple([peer.pattern for peer in rule.peers if isinstance(peer, DomainPeer)])
    yield _Item(number, number, rule.action, Rule(peers, rule.ports), nodes, names=names)
    selecting = tuple([peer for peer in peers if peer.ip_block is None])
    if selecting and rule.action is not Action.ACCEPT:
        # At egress a name may stand for different ports in the pods that claim an address.
        named = direction is Direction.EGRESS and any(isinstance(spec.port, str) for spec in rule.ports)
        yield _Item(number, 0, Action.DENY, Rule(selecting, () if named else rule.ports), doubt=True)
