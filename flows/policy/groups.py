"""Building blocks of a pod index: groups of pods, the namespaces they are selected in, and each namespace's postings.

Pods are small integers here. Which pods there are, and how they move between groups, is in `pod_index`.
"""

from __future__ import annotations

from collections.abc import Iterable

from flows.cluster.model import Operator, Protocol, Requirement, Selector
from flows.policy.tracked_sets import ChangeLog, NetSet, PodSet

PortName = tuple[str, Protocol]
Label = tuple[str, str]


class Group(PodSet):
    """The pods that one selector selects in one scope. `holders` counts its users; without any it is forgotten.

    `addresses` are the addresses that belong to these pods and to no pod outside the group; `contested` those that
    several pods claim, at least one of these among them. Both are None until first asked for.
    """

    __slots__ = ("addresses", "contested", "holders", "scope", "selector")

    def __init__(self, log: ChangeLog, scope: NamespaceScope, selector: Selector, members: set[int]) -> None:
        super().__init__(log, members)
        self.scope = scope
        self.selector = selector
        self.addresses: NetSet | None = None
        self.contested: NetSet | None = None
        self.holders = 0

    @property
    def has_addresses(self) -> bool:
        """Whether addresses of its pods are kept."""
        return self.addresses is not None or self.contested is not None


class NamespaceScope:
    """One namespace, or all that a selector matches, with the groups selected there. `where` is the namespace's name or
    the selector, `names` are the namespaces.

    A group is filed under the labels that its pods must have one of, so that a changed pod is compared with few groups.
    """

    __slots__ = ("by_label", "groups", "names", "unlabelled", "where")

    def __init__(self, where: str | Selector, names: set[str]) -> None:
        self.where = where
        self.names = names
        self.groups: dict[Selector, Group] = {}
        self.by_label: dict[Label, Group | dict[Group, None]] = {}  # one group mostly
        self.unlabelled: dict[Group, None] = {}

    def register(self, group: Group, term: Requirement | None) -> None:
        """File a group under the labels of its narrowest term; without one under `unlabelled`: any pod may fit it."""
        self.groups[group.selector] = group
        if term is None:
            self.unlabelled[group] = None
            return
        for value in term.values:
            label = (term.key, value)
            beside = self.by_label.get(label)
            if isinstance(beside, dict):
                beside[group] = None
            else:
                self.by_label[label] = group if beside is None else {beside: None, group: None}

    def forget(self, group: Group) -> None:
        """Undo `register`."""
        del self.groups[group.selector]
        term = narrowest_term(group.selector)
        if term is None:
            del self.unlabelled[group]
            return
        for value in term.values:
            label = (term.key, value)
            beside = self.by_label[label]
            if isinstance(beside, dict):
                del beside[group]
                if len(beside) == 1:
                    (self.by_label[label],) = beside
            else:
                del self.by_label[label]

    def candidates(self, labels: Iterable[Label]) -> list[Group]:
        """The groups that may select a pod with these labels; a group may come more than once."""
        found, filed = [*self.unlabelled], self.by_label
        for label in labels if filed else ():
            if label in filed:
                one = filed[label]
                if isinstance(one, dict):
                    found += one
                else:
                    found.append(one)
        return found


class NamespacePods:
    """The pods of one namespace, and for each label the pods that have it."""

    __slots__ = ("by_label", "pods")

    def __init__(self) -> None:
        self.pods: set[int] = set()
        self.by_label: dict[Label, set[int]] = {}

    def add_labels(self, n: int, labels: Iterable[Label]) -> None:
        """Pod `n` has these labels now."""
        for label in labels:
            pods = self.by_label.get(label)
            if pods is None:
                self.by_label[label] = {n}
            else:
                pods.add(n)

    def remove_labels(self, n: int, labels: Iterable[Label]) -> None:
        """Pod `n` no longer has these labels."""
        for label in labels:
            pods = self.by_label[label]
            pods.discard(n)
            if not pods:
                del self.by_label[label]


def narrowest_term(selector: Selector) -> Requirement | None:
    """The In term with the fewest values, by which pods can be looked up; None when the selector has no In term."""
    requirements = selector.requirements
    if len(requirements) == 1:
        return requirements[0] if requirements[0].operator is Operator.IN else None
    terms = [term for term in requirements if term.operator is Operator.IN]
    return min(terms, key=lambda term: len(term.values), default=None)
