"""Which namespaces selectors match, looked up by labels both ways: the namespaces of a selector that is new, and the
selectors of a namespace whose labels are new.

Which pods the namespaces have, and what it means that one comes to a scope, is decided in `pod_index`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

from flows.cluster.model import Labels, Selector
from flows.cluster.selectors import matches
from flows.policy.groups import Label, NamespaceScope, narrowest_term

_K = TypeVar("_K", bound=Hashable)
_NO_SCOPES: dict[NamespaceScope, None] = {}


class SelectedNamespaces:
    """The namespaces by label, and the scopes of selectors by the labels of their narrowest terms. `containing` has the
    scopes that a namespace is in, where there is any.

    Cost: with an In term, what has one of its labels; a selector without one, such as `{}`, meets every namespace. The
    first selector of all also costs the namespaces by label, which are kept from then on.
    """

    def __init__(self) -> None:
        self.scopes: dict[Selector, NamespaceScope] = {}
        self._labels: dict[str, Labels] = {}
        self._with: dict[Label, set[str]] | None = None
        self.containing: dict[str, dict[NamespaceScope, None]] = {}
        self._of_label: dict[Label, dict[NamespaceScope, None]] = {}
        self._unlabelled: dict[NamespaceScope, None] = {}

    # -- scopes ------------------------------------------------------------------------------------------------------

    def scope(self, selector: Selector) -> NamespaceScope:
        """The scope of a selector, a new one where there is none."""
        scope = self.scopes.get(selector)
        if scope is None:
            if self._with is None:
                self._with = {}
                for name, labels in self._labels.items():
                    _post(self._with, name, labels.items())
            scope = self.scopes[selector] = NamespaceScope(selector, self._matching(selector))
            for name in scope.names:
                self.containing.setdefault(name, {})[scope] = None
            for label in _labels_of(selector):
                self._of_label.setdefault(label, {})[scope] = None
            if narrowest_term(selector) is None:
                self._unlabelled[scope] = None
        return scope

    def forget(self, selector: Selector) -> None:
        """Nobody uses the scope of this selector any more."""
        scope = self.scopes.pop(selector)
        for name in scope.names:
            _discard(self.containing, name, scope)
        for label in _labels_of(selector):
            _discard(self._of_label, label, scope)
        self._unlabelled.pop(scope, None)

    def _matching(self, selector: Selector) -> set[str]:
        term = narrowest_term(selector)
        if term is None:
            names: Iterable[str] = self._labels
        else:
            of_label = self._with or {}
            names = set().union(*[of_label.get((term.key, value), ()) for value in term.values])
        return {name for name in names if matches(selector, self._labels[name])}

    # -- namespaces --------------------------------------------------------------------------------------------------

    def put(self, name: str, labels: Labels) -> list[NamespaceScope]:
        """A namespace has these labels now. Returns the scopes that it must come to, or go from."""
        if self._with is None:
            self._labels[name] = labels
            return []
        old = self._labels.get(name, {})
        _unpost(self._with, name, old.items() - labels.items())
        _post(self._with, name, labels.items() - old.items())
        self._labels[name] = labels
        candidates = {**self.containing.get(name, _NO_SCOPES), **self._unlabelled}
        for label in labels.items():
            candidates.update(self._of_label.get(label, _NO_SCOPES))
        return [one for one in candidates if (name in one.names) != _selects(one, labels)]

    def remove(self, name: str) -> None:
        """A namespace is gone."""
        labels = self._labels.pop(name)
        if self._with is not None:
            _unpost(self._with, name, labels.items())
        for scope in self.containing.pop(name, ()):
            scope.names.discard(name)

    def toggle(self, scope: NamespaceScope, name: str) -> bool:
        """A namespace comes to a scope, or goes from it. Returns whether it comes."""
        if name in scope.names:
            scope.names.discard(name)
            _discard(self.containing, name, scope)
            return False
        scope.names.add(name)
        self.containing.setdefault(name, {})[scope] = None
        return True


def _post(names_with: dict[Label, set[str]], name: str, labels: Iterable[Label]) -> None:
    for label in labels:
        names_with.setdefault(label, set()).add(name)


def _unpost(names_with: dict[Label, set[str]], name: str, labels: Iterable[Label]) -> None:
    for label in labels:
        names = names_with[label]
        names.discard(name)
        if not names:
            del names_with[label]


def _labels_of(selector: Selector) -> list[Label]:
    """The labels one of which a namespace must have to be matched; none where that cannot be told."""
    term = narrowest_term(selector)
    return [] if term is None else [(term.key, value) for value in dict.fromkeys(term.values)]


def _selects(scope: NamespaceScope, labels: Labels) -> bool:
    return isinstance(scope.where, Selector) and matches(scope.where, labels)


def _discard(places: dict[_K, dict[NamespaceScope, None]], key: _K, scope: NamespaceScope) -> None:
    scopes = places[key]
    del scopes[scope]
    if not scopes:
        del places[key]
