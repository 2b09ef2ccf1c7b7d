"""Namespaces by selector equal those that `matches` finds, after any changes, and nothing is kept of what is gone."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from flows.cluster.model import Operator, Requirement, Selector
from flows.cluster.selectors import matches
from flows.policy.selected_namespaces import SelectedNamespaces

NAMES = ("x", "y", "z")
LABELS = st.dictionaries(st.sampled_from("ab"), st.sampled_from("12"))
REQUIREMENTS = st.builds(
    lambda key, operator, values: Requirement(
        key, operator, values if operator in (Operator.IN, Operator.NOT_IN) else ()
    ),
    st.sampled_from("ab"),
    st.sampled_from(Operator),
    st.sampled_from((("1",), ("2",), ("1", "2"))),
)
SELECTORS = st.builds(Selector, st.lists(REQUIREMENTS, max_size=2).map(tuple))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_namespaces_are_those_that_match(data: st.DataObject) -> None:
    index, labels = SelectedNamespaces(), dict[str, dict[str, str]]()
    for _ in range(data.draw(st.integers(1, 12))):
        name = data.draw(st.sampled_from(NAMES))
        what = data.draw(st.sampled_from(("put", "remove", "select", "forget")))
        if what == "put":
            labels[name] = data.draw(LABELS)
            for scope in index.put(name, labels[name]):
                assert index.toggle(scope, name) == (name in scope.names)
        elif what == "remove" and name in labels:
            index.remove(name)
            del labels[name]
        elif what == "select":
            index.scope(data.draw(SELECTORS))
        elif what == "forget" and index.scopes:
            index.forget(data.draw(st.sampled_from(list(index.scopes))))
        for selector, scope in index.scopes.items():
            assert scope.names == {one for one, having in labels.items() if matches(selector, having)}
        for one in NAMES:
            assert set(index.containing.get(one, ())) == {
                scope for scope in index.scopes.values() if one in scope.names
            }
    for selector in list(index.scopes):
        index.forget(selector)
    for name in labels:
        index.remove(name)
    assert not any(vars(index).values())
