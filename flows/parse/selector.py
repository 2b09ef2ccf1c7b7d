"""From an untrusted label selector to a Selector, with the API server's validation."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import lru_cache

from flows.cluster.model import (
    EVERYTHING,
    Labels,
    Operator,
    Requirement,
    Selector,
)
from flows.parse.names import label_key_error, label_value_error
from flows.parse.untrusted import (
    Errors,
    FieldError,
    JsonObject,
    check_known_fields,
    describe,
    each_object,
    labels_at,
    list_at,
    not_a_string,
    quote,
    string_at,
    valid_labels,
)

_SELECTOR = frozenset({"matchLabels", "matchExpressions"})
_REQUIREMENT = frozenset({"key", "operator", "values"})
_OPERATORS = {operator.value: operator for operator in Operator}


def selector_at(parent: JsonObject, name: str, path: str, errors: Errors, null_values: bool = True) -> Selector | None:
    """The selector in field `name`: None when absent, and when it has an error, which is appended to `errors`.

    The empty selector is not None: it selects everything. A null among the values of an expression is the empty text
    with `null_values`, as in the API's own kinds, else an error, as in those that a definition (CRD) declares.
    """
    untrusted = parent.get(name)
    if untrusted is None:
        return None
    simple = simple_selector(untrusted)
    if simple is not None:
        return simple
    path = f"{path}.{name}"
    if not isinstance(untrusted, dict):
        errors.append(FieldError(path, f"must be an object, not {describe(untrusted)}"))
        return None
    before = len(errors)
    check_known_fields(untrusted, _SELECTOR, path, errors)
    labels = labels_at(untrusted, "matchLabels", path, errors)
    read = _requirement if null_values else _strict_requirement
    requirements = each_object(untrusted, "matchExpressions", path, read, errors)
    if len(errors) != before:
        return None
    return _shared_selector(frozenset((*requirements, *_label_terms(labels))))


def simple_selector(untrusted: object) -> Selector | None:
    """The fast path for most selectors: empty, or matchLabels only. None for any other, and for an invalid one."""
    if not isinstance(untrusted, dict) or len(untrusted) > 1:
        return None
    labels = untrusted.get("matchLabels")
    if not untrusted or not isinstance(labels, dict):
        return None if untrusted else EVERYTHING
    try:
        return _label_selector(tuple(labels.items()))
    except TypeError:  # a value that cannot be hashed, so not a string
        return None


@lru_cache(1 << 16)
def _label_selector(items: tuple[tuple[object, object], ...]) -> Selector | None:
    """The selector of a matchLabels map; None when any is not a valid label."""
    labels = valid_labels(items)
    return None if labels is None else _shared_selector(frozenset(_label_terms(labels)))


def _label_terms(labels: Labels) -> Iterable[Requirement]:
    """A requirement In with one value for each label."""
    return (_shared_requirement(key, Operator.IN, (value,)) for key, value in labels.items())


@lru_cache(1 << 16)
def _shared_selector(requirements: frozenset[Requirement]) -> Selector:
    """One shared value for equal selectors. Requirements are sorted, so their order in the manifest does not matter."""
    return Selector(tuple(sorted(requirements, key=lambda term: (term.key, term.operator.value, term.values))))


@lru_cache(1 << 16)
def _shared_requirement(key: str, operator: Operator, values: tuple[str, ...]) -> Requirement:
    return Requirement(sys.intern(key), operator, tuple(map(sys.intern, values)))


def _strict_requirement(fields: JsonObject, path: str, errors: Errors) -> Requirement | None:
    values = fields.get("values")
    before = len(errors)
    for index, value in enumerate(values if isinstance(values, list) else ()):
        if value is None:
            errors.append(FieldError(f"{path}.values[{index}]", not_a_string(value)))
    found = _requirement(fields, path, errors)
    return found if len(errors) == before else None


def _requirement(fields: JsonObject, path: str, errors: Errors) -> Requirement | None:
    before = len(errors)
    check_known_fields(fields, _REQUIREMENT, path, errors)
    key = string_at(fields, "key", path, errors)
    if len(errors) == before and (error := label_key_error(key)):
        errors.append(FieldError(f"{path}.key", f"{quote(key)} is not valid: {error}" if key else "is required"))
    values = set()
    for index, item in enumerate(list_at(fields, "values", path, errors)):
        value = "" if item is None else item
        if not isinstance(value, str):
            errors.append(FieldError(f"{path}.values[{index}]", not_a_string(value)))
        elif error := label_value_error(value):
            errors.append(FieldError(f"{path}.values[{index}]", f"{quote(value)} is not valid: {error}"))
        else:
            values.add(value)
    given = fields.get("operator")
    operator = _OPERATORS.get(given) if isinstance(given, str) else None
    if operator is None:
        expected = f"must be In, NotIn, Exists or DoesNotExist, not {describe(given)}"
        errors.append(FieldError(f"{path}.operator", "is required" if given is None else expected))
    elif operator in (Operator.IN, Operator.NOT_IN):
        # In and NotIn need values to compare with; Exists and DoesNotExist test the key alone.
        if not fields.get("values"):
            errors.append(FieldError(f"{path}.values", f"must have a value, the operator being {operator.value}"))
    elif fields.get("values"):
        errors.append(FieldError(f"{path}.values", f"must be empty, the operator being {operator.value}"))
    if len(errors) != before or operator is None:
        return None
    return _shared_requirement(key, operator, tuple(sorted(values)))
