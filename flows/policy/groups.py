"""What an index is made of: groups of pods, the scopes they are looked for in, and the postings of a namespace.

PodSet are small integers here. Which pods there are, and how they move between groups, stands in `index`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flows.cluster.model import Operator, Protocol, Requirement, Selector
from flows.policy.tracked_sets import ChangeLog, NetSet, PodSet

PortName = tuple[str, Protocol]
Label = tuple[str, str]


class Group(PodSet):
    """The pods that one selector selects in one scope. Kept for as long as somebody holds it, which `holders` counts.

    `addresses` stand for its pods and for no other; None until somebody asks for them.
    """

    __slots__ = ("addresses", "holders", "scope", "selector")

    def __init__(self, log: ChangeLog, scope: NamespaceScope, selector: Selector, members: set[int]) -> None:
        super().__init__(log, members)
        self.scope = scope
        self.selector = selector
        self.addresses: NetSet | None = None
        self.holders = 0


class NamespaceScope:
    """Some namespaces and the groups within them, by the labels that can bring a pod into them. `where` is the one
    namespace, or the selector of all."""

    __slots__ = ("by_label", "groups", "names", "unlabelled", "where")

    def __init__(self, where: str | Selector, names: set[str]) -> None:
        self.where = where
        self.names = names
        self.groups: dict[Selector, Group] = {}
        self.by_label: dict[Label, dict[Group, None]] = {}
        self.unlabelled: dict[Group, None] = {}

    def register(self, group: Group) -> None:
        """Remember a group under the labels of its narrowest term, or as one that any pod can be in."""
        self.groups[group.selector] = group
        term = narrowest_term(group.selector)
        if term is None:
            self.unlabelled[group] = None
            return
        for value in term.values:
            self.by_label.setdefault((term.key, value), {})[group] = None

    def forget(self, group: Group) -> None:
        """Nobody holds a group any more."""
        del self.groups[group.selector]
        term = narrowest_term(group.selector)
        if term is None:
            del self.unlabelled[group]
            return
        for value in term.values:
            label = (term.key, value)
            beside = self.by_label[label]
            del beside[group]
            if not beside:
                del self.by_label[label]

    def candidates(self, labels: Iterable[Label]) -> Iterator[Group]:
        """The groups that a pod with these labels might be in; one may come more than once."""
        yield from self.unlabelled
        if self.by_label:
            for label in labels:
                yield from self.by_label.get(label, ())


class NamespacePods:
    """The pods of one namespace, and each label's pods."""

    __slots__ = ("by_label", "pods")

    def __init__(self) -> None:
        self.pods: set[int] = set()
        self.by_label: dict[Label, set[int]] = {}

    def post(self, n: int, labels: Iterable[Label]) -> None:
        """A pod has these labels now."""
        for label in labels:
            there = self.by_label.get(label)
            if there is None:
                self.by_label[label] = {n}
            else:
                there.add(n)

    def strike(self, n: int, labels: Iterable[Label]) -> None:
        """A pod no longer has these labels."""
        for label in labels:
            there = self.by_label[label]
            there.discard(n)
            if not there:
                del self.by_label[label]


def narrowest_term(selector: Selector) -> Requirement | None:
    """The In term with the fewest values, which pods can be looked up by; None when no term names values."""
    requirements = selector.requirements
    if len(requirements) == 1:
        return requirements[0] if requirements[0].operator is Operator.IN else None
    terms = [term for term in requirements if term.operator is Operator.IN]
    return min(terms, key=lambda term: len(term.values), default=None)
