"""Sets that say what came to them and what went, rules that stand on such sets, and the parts that a rule comes to.

A set is changed in place and noted in a log when it first differs, so that whoever reads the log pays for what changed
and not for what there is. What is in the sets is the business of `index` and `derived`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from flows.cluster.model import Direction, Key, Rule, Selector
from flows.cluster.net import Net
from flows.policy.services import Services

T = TypeVar("T")


class RuleRef(NamedTuple):
    """A rule where the user wrote it: the policy, the direction, and its place in the list, from 0."""

    policy: Key
    direction: Direction
    number: int

    def __str__(self) -> str:
        return f"{self.policy} {self.direction.value}[{self.number}]"


class RuleKey(NamedTuple):
    """What a rule says. Equal keys mean equal rules, whichever policies they stand in."""

    direction: Direction
    namespace: str
    subjects: Selector
    rule: Rule


class DerivedSet(Protocol):
    """What is made of other sets."""

    def absorb(self, touched: Collection[Any], /) -> None:
        """These elements may have come to a set below, or gone from it."""


class TrackedSet(Generic[T]):
    """A set with what came and went since `take`. Compared by identity.

    `users` are made of it. `rules` must be looked at again when it becomes empty, or ceases to be.
    """

    __slots__ = ("_came", "_log", "_went", "members", "rules", "users")

    def __init__(self, log: ChangeLog, members: set[T], rules: set[PolicyRule] | None = None) -> None:
        self.members = members  # from now on its own
        self.rules: set[PolicyRule] = set() if rules is None else rules
        self.users: dict[DerivedSet, None] | None = None
        self._log = log
        self._came: set[T] | None = None
        self._went: set[T] | None = None

    def put(self, one: T, there: bool) -> None:
        """An element is in the set now, or is not."""
        if there != (one in self.members):
            if self._came is None or self._went is None:
                self._log[self] = None
                self._came, self._went = set(), set()
            if there:
                self.members.add(one)
                into, back = self._came, self._went
            else:
                self.members.discard(one)
                into, back = self._went, self._came
            if one in back:
                back.discard(one)
            else:
                into.add(one)

    def touched(self) -> list[T]:
        """What came or went since `take`."""
        return [*(self._came or ()), *(self._went or ())]

    def take(self) -> tuple[set[T], set[T]]:
        """What came, and what went, since the last call."""
        came, went = self._came or set(), self._went or set()
        self._came = self._went = None
        return came, went


ChangeLog = dict[TrackedSet[Any], None]  # sets that changed, in the order of their first changes


class PodSet(TrackedSet[int]):
    """Pods by their numbers in an index."""

    __slots__ = ()


class NetSet(TrackedSet[Net]):
    """Prefixes of peers."""

    __slots__ = ()


class TrackedRule(NamedTuple):
    """One variant of a rule: its subjects may talk with these peers over these services. The latter two are None where
    they do not restrict; no set is empty. Equal but for what is in the sets.

    `identity` is the name that the `number` is made of, the same in every process. `weight` is about how many flows
    its text makes, whatever pods there are.
    """

    identity: bytes
    number: int
    direction: Direction
    subjects: PodSet
    peers: NetSet | None
    services: Services | None
    owners: tuple[RuleRef, ...]
    weight: int

    @property
    def namespace(self) -> str:
        """Where the rule's policies are, and its subjects."""
        return self.owners[0].policy.namespace


class PolicyRule:
    """A rule that stands in some policy: its owners, sorted, and its parts as of the last time they were computed.

    There is one for each RuleKey, compared by identity, for a key costs much to hash. `pods` and `named` are its
    subjects and its destinations by their services, where a port's name has them differ.
    """

    __slots__ = ("group", "key", "named", "owners", "parts", "peers", "plain", "pods", "weight")

    def __init__(self, key: RuleKey, group: PodSet, peers: NetSet | None, plain: Services, weight: int) -> None:
        self.key = key
        self.group = group
        self.peers = peers
        self.plain = plain
        self.weight = weight
        self.pods: dict[Services, PodSet] | None = None
        self.named: dict[Services, NetSet] | None = None
        self.owners: list[RuleRef] = []
        self.parts: tuple[TrackedRule, ...] = ()

    def variants(self) -> list[tuple[PodSet, NetSet | None, Services | None]]:
        """What the rule comes to now: none has an empty set."""
        group, peers = self.group, self.peers
        if not self.owners or not group.members or (peers is not None and not peers.members):
            return []
        if not self.key.rule.ports:
            return [(group, peers, None)]
        if self.pods is not None:
            return [(pods, peers, services) for services, pods in self.pods.items() if pods.members]
        plain: list[tuple[PodSet, NetSet | None, Services | None]] = [(group, peers, self.plain)] if self.plain else []
        named = self.named.items() if self.named else ()
        return plain + [(group, nets, services) for services, nets in named if nets.members]


def tracked_rules_on(subjects: PodSet) -> list[TrackedRule]:
    """The parts that have exactly this set of subjects."""
    return [part for live in subjects.rules for part in live.parts if part.subjects is subjects]


def has_tracked_rules(subjects: PodSet) -> bool:
    """True when there are any."""
    return any(part.subjects is subjects for live in subjects.rules for part in live.parts)
