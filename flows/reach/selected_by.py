"""Which of many selectors select one set of labels, without trying them all. The reverse question is `PodIndex`'s."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from flows.cluster.model import Labels, Selector
from flows.cluster.selectors import matches
from flows.policy.groups import Label, narrowest_term

T = TypeVar("T")


class SelectorTable(Generic[T]):
    """Values by selector, each filed under the labels that it needs one of."""

    def __init__(self) -> None:
        self._by_label: dict[Label, dict[Selector, list[T]]] = {}
        self._others: dict[Selector, list[T]] = {}

    def add(self, selector: Selector, value: T) -> None:
        """File a value under a selector."""
        term = narrowest_term(selector)
        if term is None:
            self._others.setdefault(selector, []).append(value)
            return
        for label in term.values:
            self._by_label.setdefault((term.key, label), {}).setdefault(selector, []).append(value)

    def find(self, labels: Labels) -> Iterator[tuple[Selector, list[T]]]:
        """The selectors that select these labels, each once, with their values. Not to be changed."""
        for selector, values in self._others.items():
            if matches(selector, labels):
                yield selector, values
        if self._by_label:
            for label in labels.items():
                for selector, values in self._by_label.get(label, {}).items():
                    if matches(selector, labels):
                        yield selector, values
