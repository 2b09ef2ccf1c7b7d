"""Sets that record what was added and removed, and rules over such sets.

A TrackedSet is changed in place. Its first change since `take_changes` enters it in a change log, so that a reader of
the log pays for what changed, not for the size of the sets. A PolicyRule is a rule of some policies; a TrackedRule is
one conjunction that it compiles to. Which elements a set has is decided in `pod_index` and `combined_sets`, never here.

Example: the set {1, 2} after `set_member(3, True)` and `set_member(2, False)` is in the log, and `take_changes` returns
({3}, {2}). An element that is added and removed again is in neither.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from flows.cluster.model import Direction
from flows.cluster.net import Net
from flows.policy.rule import Level, RuleKey, RuleRef
from flows.policy.service_ranges import ServiceRanges

T = TypeVar("T")
_FEW_RULES = 4


class DerivedSet(Protocol):
    """A set, or sets, computed from other sets."""

    def update_elements(self, changed: Collection[Any], /) -> None:
        """Decide anew which of these elements belong to it; each may have been added to a source, or removed."""


class TrackedSet(Generic[T]):
    """A set with what was added and removed since `take_changes`. Compared by identity.

    `derived` are the sets computed from it. `rules` are the rules to resolve again when it becomes empty or ceases to
    be empty.
    """

    __slots__ = ("_added", "_log", "_removed", "derived", "members", "rules")

    def __init__(self, log: ChangeLog, members: set[T], rules: set[PolicyRule] | None = None) -> None:
        self.members = members  # owned by this set from now on
        # Very many sets have one rule, for which a set of Python takes 200 bytes: a tuple as long as there are few.
        self.rules: tuple[PolicyRule, ...] | set[PolicyRule] = () if rules is None else rules
        self.derived: dict[DerivedSet, None] | None = None
        self._log = log
        self._added: set[T] | None = None
        self._removed: set[T] | None = None

    def add_rule(self, rule: PolicyRule) -> None:
        """Add to `rules`, which do not have it yet."""
        rules = self.rules
        if isinstance(rules, set):
            rules.add(rule)
        else:
            self.rules = (*rules, rule) if len(rules) < _FEW_RULES else {*rules, rule}

    def discard_rule(self, rule: PolicyRule) -> None:
        """Remove from `rules`."""
        rules = self.rules
        if isinstance(rules, set):
            rules.discard(rule)
        else:
            self.rules = tuple([one for one in rules if one is not rule])

    def set_member(self, element: T, present: bool) -> None:
        """Add the element, or remove it; no change when it is so already."""
        if present != (element in self.members):
            if self._added is None or self._removed is None:
                self._log[self] = None
                self._added, self._removed = set(), set()
            if present:
                self.members.add(element)
                record, opposite = self._added, self._removed
            else:
                self.members.discard(element)
                record, opposite = self._removed, self._added
            if element in opposite:
                opposite.discard(element)
            else:
                record.add(element)

    def changed(self) -> list[T]:
        """The elements added or removed since `take_changes`."""
        return [*(self._added or ()), *(self._removed or ())]

    def take_changes(self) -> tuple[set[T], set[T]]:
        """The elements added, and those removed, since the last call."""
        added, removed = self._added or set(), self._removed or set()
        self._added = self._removed = None
        return added, removed


ChangeLog = dict[TrackedSet[Any], None]  # the sets that changed, in the order of their first changes


class PodSet(TrackedSet[int]):
    """Pods, by their numbers in a PodIndex."""

    __slots__ = ()


class NetSet(TrackedSet[Net]):
    """Prefixes and addresses of peers."""

    __slots__ = ()


class TrackedRule(NamedTuple):
    """One conjunction of a policy rule: its subjects may talk with its peers over its services. `peers` and `services`
    are None where they do not restrict; no set is empty, but for the peers of a rule whose level has names. Two values
    are equal if they have the same sets, whatever is in these.

    `number` is the conjunction id, derived from `identity`, which is the same in every process. `weight` is about how
    many flows the rule's text makes, whatever pods there are. `level` is that of a ClusterNetworkPolicy's rule, None
    for a NetworkPolicy's, which allows.
    """

    identity: bytes
    number: int
    direction: Direction
    subjects: PodSet
    peers: NetSet | None
    services: ServiceRanges | None
    owners: tuple[RuleRef, ...]
    weight: int
    level: Level | None = None

    @property
    def namespace(self) -> str:
        """The namespace of the rule's policies and subjects; "" with a level."""
        return self.owners[0].policy.namespace


class PolicyRule:
    """A rule that at least one policy has: its owners, sorted, and its tracked rules as last computed.

    There is one for each RuleKey; it is compared by identity, because a RuleKey is expensive to hash. `group` is the
    pods that the policy selects, `numbered` the services that the rule gives as numbers. Where a port's name gives pods
    different numbers, `subjects_by_port` (ingress) or `destinations_by_port` (egress) has the pods or addresses by
    their services; both are None otherwise.
    """

    __slots__ = (
        "compiled", "destinations_by_port", "group", "key", "numbered", "owners", "peers", "subjects_by_port", "weight",
    )  # fmt: skip

    def __init__(self, key: RuleKey, group: PodSet, peers: NetSet | None, numbered: ServiceRanges, weight: int) -> None:
        self.key = key
        self.group = group
        self.peers = peers
        self.numbered = numbered
        self.weight = weight
        self.subjects_by_port: dict[ServiceRanges, PodSet] | None = None
        self.destinations_by_port: dict[ServiceRanges, NetSet] | None = None
        self.owners: list[RuleRef] = []
        self.compiled: tuple[TrackedRule, ...] = ()

    def resolve(self) -> list[tuple[PodSet, NetSet | None, ServiceRanges | None]]:
        """The (subjects, peers, services) that the rule compiles to now; combinations with an empty set are omitted."""
        group, peers = self.group, self.peers
        if not self.owners or not group.members:
            return []
        if peers is not None and not peers.members and not self.key.names:
            return []
        if not self.key.rule.ports:
            return [(group, peers, None)]
        if self.subjects_by_port is not None:
            return [(pods, peers, services) for services, pods in self.subjects_by_port.items() if pods.members]
        unnamed: list[tuple[PodSet, NetSet | None, ServiceRanges | None]]
        unnamed = [(group, peers, self.numbered)] if self.numbered else []
        named = self.destinations_by_port.items() if self.destinations_by_port else ()
        return unnamed + [(group, nets, services) for services, nets in named if nets.members]


def tracked_rules_on(subjects: PodSet) -> list[TrackedRule]:
    """The tracked rules whose subjects are exactly this set."""
    return [one for rule in subjects.rules for one in rule.compiled if one.subjects is subjects]


def has_tracked_rules(subjects: PodSet) -> bool:
    """True when some tracked rule has exactly this set of subjects."""
    for rule in subjects.rules:  # no generator: this is asked at most changes of a pod
        for one in rule.compiled:
            if one.subjects is subjects:
                return True
    return False
