"""Reading untrusted values: what JSON or YAML gave, of any type anywhere, and how an error in it is told.

Helpers for `parse` and `parse_policy` only: nothing of pods or policies may live here. As in the API's own decoding,
a null is an absent field, and an unknown field is passed over.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TypeVar, cast

from flows.cluster.model import NO_LABELS, Key, Labels, Protocol
from flows.cluster.tuples import new_tuple
from flows.parse.names import dns_label_error, label_key_error, label_value_error, subdomain_error

T = TypeVar("T")
JsonObject = dict[str, object]  # JSON and YAML give plain dicts; nothing here ever changes one
EMPTY_OBJECT: JsonObject = {}


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong in an object.

    `field` is its path, like `spec.ingress[0].from[1].ipBlock.except[0]`; "" is the object itself.
    """

    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}" if self.field else self.reason


Errors = list[FieldError]


MAX_ERRORS = 20  # of one object that are told one by one


def first_errors(errors: Sequence[FieldError]) -> tuple[FieldError, ...]:
    """The first faults of an object, and then how many more there are: whoever writes an object chooses how many."""
    if len(errors) <= MAX_ERRORS + 1:
        return tuple(errors)
    rest = FieldError("", f"and {len(errors) - MAX_ERRORS} more faults in this object")
    return (*errors[:MAX_ERRORS], rest)


class ParseError(ValueError):
    """An object of which nothing can be used. `key` is `Kind namespace/name` as far as it is known."""

    def __init__(self, key: str, errors: tuple[FieldError, ...]) -> None:
        super().__init__(f"{key or 'object'}: " + "; ".join(map(str, errors)))
        self.key = key
        self.errors = errors


def describe(value: object) -> str:
    """The JSON or YAML name of a value's type, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, (int, float)):
        return f"the number {value}" if abs(value) < 1 << 53 else "a number"
    if isinstance(value, str):
        return f"the text {quote(value)}"
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, dict) else f"a {type(value).__name__}"


def quote(text: str) -> str:
    """A text quoted for a message: escaped, and cut where it is long."""
    return repr(text) if len(text) <= 80 else repr(text[:77]) + "..."


def field_name(text: str) -> str:
    """A text as part of a field's path: as it is where that is safe to show."""
    return text if len(text) <= 80 and text.isprintable() else quote(text)


def not_a_string(value: object) -> str:
    """The reason for a value that should have been text; YAML reads `yes`, `1.10` and `2024-01-01` otherwise."""
    quotable = not isinstance(value, (list, dict))
    return f"must be a string, not {describe(value)}" + ("; quote it" if quotable and value is not None else "")


def object_at(parent: JsonObject, name: str, path: str, errors: Errors) -> JsonObject:
    """The object in field `name`; empty when absent, and when it is no object, which is reported."""
    value = parent.get(name)
    if value is None:
        return EMPTY_OBJECT
    if isinstance(value, dict):
        return value
    errors.append(FieldError(f"{path}.{name}" if path else name, f"must be an object, not {describe(value)}"))
    return EMPTY_OBJECT


def list_at(parent: JsonObject, name: str, path: str, errors: Errors) -> list[object]:
    """The list in field `name`; empty when absent, and when it is no list, which is reported."""
    value = parent.get(name)
    if value is None:
        return []
    if isinstance(value, list):
        return value
    errors.append(FieldError(f"{path}.{name}" if path else name, f"must be a list, not {describe(value)}"))
    return []


def check_known_fields(raw: JsonObject, names: frozenset[str], path: str, errors: Errors) -> None:
    """Report fields that the object does not have."""
    if not raw.keys() <= names:
        for name in sorted(raw.keys() - names, key=str):
            errors.append(
                FieldError(f"{path}.{field_name(str(name))}", f"is no field; there are {', '.join(sorted(names))}")
            )


def each_object(
    parent: JsonObject, name: str, path: str, read: Callable[[JsonObject, str, Errors], T | None], errors: Errors
) -> tuple[T, ...]:
    """The objects of a list, read one by one; an absent list is an empty one."""
    if name not in parent:
        return ()
    values = []
    for index, item in enumerate(list_at(parent, name, path, errors)):
        where = f"{path}.{name}[{index}]"
        if item is not None and not isinstance(item, dict):
            errors.append(FieldError(where, f"must be an object, not {describe(item)}"))
            continue
        value = read(EMPTY_OBJECT if item is None else item, where, errors)
        if value is not None:
            values.append(value)
    return tuple(values)


def string_at(parent: JsonObject, name: str, path: str, errors: Errors) -> str:
    """The text in field `name`; "" when absent, and when it is no text, which is reported."""
    value = parent.get(name)
    if isinstance(value, str):
        return value
    if value is not None:
        errors.append(FieldError(f"{path}.{name}" if path else name, not_a_string(value)))
    return ""


def require_object(raw: object, kind: str = "") -> JsonObject:
    """The whole as an object. Raises ParseError when it is none."""
    if isinstance(raw, dict):
        return raw
    raise ParseError(kind, (FieldError("", f"must be an object, not {describe(raw)}"),))


def _metadata(raw: JsonObject, kind: str) -> tuple[JsonObject, str]:
    metadata = raw.get("metadata")
    if not isinstance(metadata, dict):
        raise ParseError(kind, (FieldError("metadata", "is required" if metadata is None else "must be an object"),))
    name = metadata.get("name")
    if not isinstance(name, str):
        raise ParseError(kind, (FieldError("metadata.name", "is required" if name is None else not_a_string(name)),))
    return metadata, name


def cluster_name(raw: JsonObject, kind: str) -> tuple[JsonObject, str]:
    """Metadata and name of an object outside namespaces. Raises ParseError: without a name nothing can be used."""
    metadata, name = _metadata(raw, kind)
    # A namespace's name is a DNS label, any other name a subdomain.
    if error := dns_label_error(name) if kind == "Namespace" else subdomain_error(name):
        raise ParseError(f"{kind} {quote(name)}", (FieldError("metadata.name", error),))
    return metadata, sys.intern(name)


def namespaced_key(raw: JsonObject, kind: str) -> tuple[JsonObject, Key]:
    """Metadata and key of a namespaced object; an absent or empty namespace is `default`. Raises ParseError."""
    metadata = raw.get("metadata")
    if isinstance(metadata, dict):  # the usual case at once; what may be wrong is looked for below
        name, namespace = metadata.get("name"), metadata.get("namespace")
        shared = _shared_namespace(namespace) if isinstance(namespace, str) else ""
        if shared and isinstance(name, str) and not subdomain_error(name):
            return metadata, new_tuple(Key, (shared, name))
    metadata, name = _metadata(raw, kind)
    namespace = metadata.get("namespace")
    if namespace is None or namespace == "":
        namespace = "default"
    if not isinstance(namespace, str):
        raise ParseError(f"{kind} {quote(name)}", (FieldError("metadata.namespace", not_a_string(namespace)),))
    if error := dns_label_error(namespace):
        raise ParseError(f"{kind} {quote(name)}", (FieldError("metadata.namespace", error),))
    if error := subdomain_error(name):
        raise ParseError(f"{kind} {namespace}/{quote(name)}", (FieldError("metadata.name", error),))
    return metadata, Key(sys.intern(namespace), name)


@lru_cache(1 << 16)
def _shared_namespace(text: str) -> str:
    """One text for all objects of a namespace; "" when it is not the name of one."""
    return "" if dns_label_error(text) else sys.intern(text)


@lru_cache(1 << 14)
def shared_subdomain(text: str) -> str:
    """One text for all equal ones, for names that many objects mention; "" when it is no DNS subdomain."""
    return "" if subdomain_error(text) else sys.intern(text)


def valid_labels(items: tuple[tuple[object, object], ...]) -> Labels | None:
    """Labels, their texts interned; None when any is not a valid label."""
    labels = {}
    for key, value in items:
        if not isinstance(key, str) or not isinstance(value, str) or label_key_error(key) or label_value_error(value):
            return None
        labels[sys.intern(key)] = sys.intern(value)
    return MappingProxyType(labels)


_shared_labels = lru_cache(1 << 16)(valid_labels)


def labels_at(parent: JsonObject, name: str, path: str, errors: Errors, unique: bool = False) -> Labels:
    """A map of labels; what is no valid label is reported and left out.

    A null value is the empty text, as the API decodes it. Objects with the same labels share one mapping; `unique` says
    that no other object can have them.
    """
    raw = parent.get(name)
    if raw is None:
        return NO_LABELS
    if isinstance(raw, dict):
        try:
            found = (valid_labels if unique else _shared_labels)(tuple(raw.items()))
        except TypeError:  # a value that cannot be hashed: no text
            found = None
        if found is not None:
            return found
    labels: dict[str, str] = {}
    entries = cast("dict[object, object]", object_at(parent, name, path, errors))  # YAML has keys that are no text
    for key, given in entries.items():
        value = "" if given is None else given
        where = f"{path}.{name}[{field_name(key) if isinstance(key, str) else describe(key)}]"
        if not isinstance(key, str):
            errors.append(FieldError(where, "the key " + not_a_string(key)))
        elif error := label_key_error(key):
            errors.append(FieldError(where, f"the key {quote(key)} is not valid: {error}"))
        elif not isinstance(value, str):
            errors.append(FieldError(where, not_a_string(value)))
        elif error := label_value_error(value):
            errors.append(FieldError(where, f"{quote(value)} is not valid: {error}"))
        else:
            labels[key] = value
    return MappingProxyType(labels)


def port_number_error(value: object) -> str:
    """What is wrong with a port number, "" when nothing is. JSON's 80.0 is no integer to the API either."""
    if isinstance(value, bool) or not isinstance(value, int):
        return f"must be an integer, not {describe(value)}"
    return "" if 1 <= value <= 65535 else "must be between 1 and 65535"


_PROTOCOLS: dict[str, Protocol] = {"TCP": Protocol.TCP, "UDP": Protocol.UDP, "SCTP": Protocol.SCTP}


def protocol_at(parent: JsonObject, path: str, errors: Errors) -> Protocol | None:
    """The field `protocol`: TCP when absent, None when it is not a known one, which is reported."""
    value = parent.get("protocol")
    if value is None:
        return Protocol.TCP
    protocol = _PROTOCOLS.get(value) if isinstance(value, str) else None
    if protocol is None:
        errors.append(FieldError(f"{path}.protocol", f"must be TCP, UDP or SCTP, not {describe(value)}"))
    return protocol
