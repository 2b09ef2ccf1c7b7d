"""Which slots the policies of one tier, priority and direction have that come before another and may select its pods.

Comparing every two would cost the square of their number with each change. So subjects are indexed by the labels that
tell most of them apart: only those with a value in common, or without that label, can have pods in common. Up to
MAX_COMPARED of these are compared exactly; more count as if all of them had pods in common, which needs more slots and
never fewer. The cost is linear in the text of the policies.

Example. 1,000 policies select namespaces by their names. Each is compared with those that have its name, and with those
that select namespaces by other labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import NamedTuple

from flows.cluster.model import Action, Operator, Requirement, Selector, Subject

MAX_COMPARED = 64
MAX_KEYS = 8  # that subjects are indexed by
MAX_NAMED = 3  # policies of the same priority that a note names
_Slots = dict[Action, int]  # the last slot with a rule of each action
_LabelKey = tuple[bool, str]  # whether of the pod, else of its namespace; the key


class Tied(NamedTuple):
    """What policies that come first have: the last slot of each action, -1 for none; the first MAX_NAMED of their names
    and their number."""

    slots: _Slots
    names: tuple[str, ...]
    policies: int


class _Many:
    """Some of the subjects; `subjects` are the first MAX_COMPARED + 1."""

    __slots__ = ("count", "names", "slots", "subjects")

    def __init__(self) -> None:
        self.slots: _Slots = dict.fromkeys(Action, -1)
        self.names: list[tuple[int, str]] = []  # the first policies, with their places
        self.count = 0  # policies
        self.subjects: dict[Subject, None] = {}

    def add(self, place: int, subject: Subject, name: str, slots: _Slots) -> None:
        self.slots = {action: max(self.slots[action], slots[action]) for action in Action}
        self.count += 1
        if len(self.names) < MAX_NAMED:
            self.names.append((place, name))
        if len(self.subjects) <= MAX_COMPARED:
            self.subjects[subject] = None


class TiedSubjects:
    """The subjects so far. `all_subjects` are those that will come, to choose what they are indexed by."""

    def __init__(self, all_subjects: Iterable[Subject]) -> None:
        keys = Counter([key for subject in dict.fromkeys(all_subjects) for key in _values(subject)])
        self._keys = sorted(keys, key=lambda key: (-keys[key], key))[:MAX_KEYS]
        self._with: dict[tuple[_LabelKey, str], _Many] = {}
        self._without = {key: _Many() for key in self._keys}
        self._of: dict[Subject, _Many] = {}
        self._all = _Many()
        self._added = 0

    def add(self, subject: Subject, name: str, slots: _Slots) -> None:
        """A policy with this subject is next, and its rules have these slots."""
        values = _values(subject)
        found = [self._all, self._of.setdefault(subject, _Many())]
        for key in self._keys:
            if key in values:
                found += [self._with.setdefault((key, value), _Many()) for value in values[key]]
            else:
                found.append(self._without[key])
        for many in found:
            many.add(self._added, subject, name, slots)
        self._added += 1

    def before(self, subject: Subject) -> Tied:
        """What the policies so far have that may select a pod of this subject."""
        values = _values(subject)
        found: list[_Many] = [self._all]
        for key in self._keys:
            if key in values:
                near = [self._with[key, value] for value in values[key] if (key, value) in self._with]
                near.append(self._without[key])
                if sum(one.count for one in near) < sum(one.count for one in found):
                    found = near
        if all(len(one.subjects) <= MAX_COMPARED for one in found):
            subjects = dict.fromkeys([other for one in found for other in one.subjects])
            if len(subjects) <= MAX_COMPARED:
                found = [self._of[other] for other in subjects if may_select_same(subject, other)]
        return _together(found)


def _together(found: Collection[_Many]) -> Tied:
    slots = {action: max([one.slots[action] for one in found], default=-1) for action in Action}
    names = dict.fromkeys(sorted([name for one in found for name in one.names]))
    return Tied(slots, tuple([name for _, name in names][:MAX_NAMED]), sum(one.count for one in found))


def _values(subject: Subject) -> dict[_LabelKey, tuple[str, ...]]:
    """The labels that must have one of some values, with these."""
    return {
        (of_pod, one.key): one.values
        for of_pod, selector in ((False, subject.namespaces), (True, subject.pods))
        for one in selector.requirements
        if one.operator is Operator.IN
    }


def may_select_same(one: Subject, other: Subject) -> bool:
    """Whether two subjects may select the same pod, whatever labels there are."""
    return not (_exclude(one.namespaces, other.namespaces) or _exclude(one.pods, other.pods))


def _exclude(one: Selector, other: Selector) -> bool:
    """Whether no labels can match both selectors, as some key's requirements show."""
    return one != other and any(
        mine.key == theirs.key and (_contradict(mine, theirs) or _contradict(theirs, mine))
        for mine in one.requirements
        for theirs in other.requirements
    )


def _contradict(one: Requirement, other: Requirement) -> bool:
    if one.operator is Operator.IN:
        if other.operator is Operator.IN:
            return set(one.values).isdisjoint(other.values)
        if other.operator is Operator.NOT_IN:
            return set(one.values) <= set(other.values)
        return other.operator is Operator.DOES_NOT_EXIST
    return one.operator is Operator.EXISTS and other.operator is Operator.DOES_NOT_EXIST
