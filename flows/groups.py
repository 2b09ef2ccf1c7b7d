"""What an index is made of: groups of pods, the scopes they are looked for in, and the postings of a namespace.

Pods are small integers here. Which pods there are, and how they move between groups, stands in `index`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from flows.model import Operator, Protocol, Requirement, Selector
from flows.net import Net

PortName = tuple[str, Protocol]
Label = tuple[str, str]
User = TypeVar("User")


class Group(Generic[User]):
    """The pods that one selector selects in one scope. `members` is replaced, never changed, when they change.

    `users` are whoever must hear of a change; their type is the owner's business.
    """

    __slots__ = ("addresses", "members", "scope", "selector", "users")

    def __init__(self, scope: Scope[User], selector: Selector, members: frozenset[int]) -> None:
        self.scope = scope
        self.selector = selector
        self.members = members
        self.addresses: frozenset[Net] | None = None
        self.users: set[User] = set()


class Scope(Generic[User]):
    """Some namespaces and the groups within them, by the labels that can bring a pod into them."""

    __slots__ = ("by_label", "groups", "names", "unlabelled")

    def __init__(self, names: set[str]) -> None:
        self.names = names
        self.groups: dict[Selector, Group[User]] = {}
        self.by_label: dict[Label, list[Group[User]]] = {}
        self.unlabelled: list[Group[User]] = []

    def register(self, group: Group[User], term: Requirement | None) -> None:
        """Remember a group under the labels of its narrowest term, or as one that any pod can be in."""
        self.groups[group.selector] = group
        if term is None:
            self.unlabelled.append(group)
            return
        for value in term.values:
            label = (term.key, value)
            beside = self.by_label.get(label)
            if beside is None:
                self.by_label[label] = [group]
            else:
                beside.append(group)

    def candidates(self, labels: Iterable[Label]) -> Iterator[Group[User]]:
        """The groups that a pod with these labels might be in; one may come more than once."""
        yield from self.unlabelled
        if self.by_label:
            for label in labels:
                yield from self.by_label.get(label, ())


class Space:
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


class Touched(Generic[User]):
    """What a change concerns: groups whose members or members' addresses and ports changed, and names of ports."""

    __slots__ = ("groups", "ports")

    def __init__(self) -> None:
        self.groups: set[Group[User]] = set()
        self.ports: set[PortName] = set()


def narrowest(selector: Selector) -> Requirement | None:
    """The In term with the fewest values, which pods can be looked up by; None when no term names values."""
    requirements = selector.requirements
    if len(requirements) == 1:
        return requirements[0] if requirements[0].operator is Operator.IN else None
    terms = [term for term in requirements if term.operator is Operator.IN]
    return min(terms, key=lambda term: len(term.values), default=None)
