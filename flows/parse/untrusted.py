"""Typed access to untrusted values, the output of a JSON or YAML parser, and errors by the path of the field.

Helpers for the parsers of this package; nothing of pods or policies may live here. As in the API's own decoding, a null
is an absent field, and an unknown field is ignored unless `check_known_fields` is called.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TypeVar, cast

from flows.cluster.model import NO_LABELS, Key, Labels, Protocol
from flows.cluster.net import Net, host_address_error, parse_address, parse_network, pod_range_error
from flows.cluster.tuples import new_tuple
from flows.parse.names import dns_label_error, label_key_error, label_value_error, subdomain_error

T = TypeVar("T")
JsonObject = dict[str, object]  # never changed here
EMPTY_OBJECT: JsonObject = {}


@dataclass(frozen=True, slots=True)
class FieldError:
    """One error in an object.

    `field` is a path like `spec.ingress[0].from[1].ipBlock.except[0]`; "" means the object itself.
    """

    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}" if self.field else self.reason


Errors = list[FieldError]


_NOT_A_FIELD = "is not a field; known are "
MAX_ERRORS = 20  # errors of one object that are reported one by one


def first_errors(errors: Sequence[FieldError]) -> tuple[FieldError, ...]:
    """The first MAX_ERRORS errors of an object, then the number of the rest: their number is chosen by its author."""
    if len(errors) <= MAX_ERRORS + 1:
        return tuple(errors)
    rest = FieldError("", f"and {len(errors) - MAX_ERRORS} more errors in this object")
    return (*errors[:MAX_ERRORS], rest)


class ParseError(ValueError):
    """An object that cannot be used at all. `key` is `Kind namespace/name` as far as it is known."""

    def __init__(self, key: str, errors: tuple[FieldError, ...]) -> None:
        super().__init__(f"{key or 'object'}: " + "; ".join(map(str, errors)))
        self.key = key
        self.errors = errors


def describe(value: object) -> str:
    """A value for messages: its type, and the value itself where it is short, like `the number 80` or `a list`."""
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
    """A text quoted for a message: escaped, and truncated when it is long."""
    return repr(text) if len(text) <= 80 else repr(text[:77]) + "..."


def field_name(text: str) -> str:
    """A text as part of a field's path: unchanged if it is printable and short, else quoted."""
    return text if len(text) <= 80 and text.isprintable() else quote(text)


def not_a_string(value: object) -> str:
    """The error for a value that should be a string. YAML gives unquoted `yes`, `1.10` and `2024-01-01` other types."""
    quotable = not isinstance(value, (list, dict))
    return f"must be a string, not {describe(value)}" + ("; quote it" if quotable and value is not None else "")


def object_at(parent: JsonObject, name: str, path: str, errors: Errors) -> JsonObject:
    """The object in field `name`; empty when absent, and when it is not an object, which is an error."""
    value = parent.get(name)
    if value is None:
        return EMPTY_OBJECT
    if isinstance(value, dict):
        return value
    errors.append(FieldError(f"{path}.{name}" if path else name, f"must be an object, not {describe(value)}"))
    return EMPTY_OBJECT


def list_at(parent: JsonObject, name: str, path: str, errors: Errors) -> list[object]:
    """The list in field `name`; empty when absent, and when it is not a list, which is an error."""
    value = parent.get(name)
    if value is None:
        return []
    if isinstance(value, list):
        return value
    errors.append(FieldError(f"{path}.{name}" if path else name, f"must be a list, not {describe(value)}"))
    return []


def check_known_fields(fields: JsonObject, names: frozenset[str], path: str, errors: Errors) -> None:
    """Append an error for each field whose name is not among `names`."""
    if not fields.keys() <= names:
        for name in sorted(fields.keys() - names, key=str):
            where = f"{path}.{field_name(str(name))}" if path else field_name(str(name))
            errors.append(FieldError(where, f"{_NOT_A_FIELD}{', '.join(sorted(names))}"))


def known_fields(reason: str) -> tuple[str, ...]:
    """The known fields in the reason of an error of `check_known_fields`; empty for any other error."""
    return tuple(reason.removeprefix(_NOT_A_FIELD).split(", ")) if reason.startswith(_NOT_A_FIELD) else ()


def each_object(
    parent: JsonObject, name: str, path: str, read: Callable[[JsonObject, str, Errors], T | None], errors: Errors
) -> tuple[T, ...]:
    """The objects in list `name`, parsed by `read`. An absent list is empty, a null entry is an empty object."""
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
    """The string in field `name`; "" when absent, and when it is not a string, which is an error."""
    value = parent.get(name)
    if isinstance(value, str):
        return value
    if value is not None:
        errors.append(FieldError(f"{path}.{name}" if path else name, not_a_string(value)))
    return ""


def require_object(untrusted: object, kind: str = "") -> JsonObject:
    """The value as an object. Raises ParseError when it is not one."""
    if isinstance(untrusted, dict):
        return untrusted
    raise ParseError(kind, (FieldError("", f"must be an object, not {describe(untrusted)}"),))


def _metadata(fields: JsonObject, kind: str) -> tuple[JsonObject, str]:
    metadata = fields.get("metadata")
    if not isinstance(metadata, dict):
        raise ParseError(kind, (FieldError("metadata", "is required" if metadata is None else "must be an object"),))
    name = metadata.get("name")
    if not isinstance(name, str):
        raise ParseError(kind, (FieldError("metadata.name", "is required" if name is None else not_a_string(name)),))
    return metadata, name


def cluster_name(fields: JsonObject, kind: str) -> tuple[JsonObject, str]:
    """Metadata and name of an object outside namespaces. Raises ParseError when they are not usable."""
    metadata, name = _metadata(fields, kind)
    # A namespace's name is a DNS label, any other name a subdomain.
    if error := dns_label_error(name) if kind == "Namespace" else subdomain_error(name):
        raise ParseError(f"{kind} {quote(name)}", (FieldError("metadata.name", error),))
    return metadata, sys.intern(name)


def namespaced_key(fields: JsonObject, kind: str) -> tuple[JsonObject, Key]:
    """Metadata and key of a namespaced object; an absent or empty namespace is `default`. Raises ParseError when they
    are not usable."""
    metadata = fields.get("metadata")
    if isinstance(metadata, dict):  # fast path; errors are found below
        name, namespace = metadata.get("name"), metadata.get("namespace")
        shared = _shared_namespace(namespace) if isinstance(namespace, str) else ""
        if shared and isinstance(name, str) and not subdomain_error(name):
            return metadata, new_tuple(Key, (shared, name))
    metadata, name = _metadata(fields, kind)
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
    """One shared string for all objects of a namespace; "" when the text is not a valid namespace name."""
    return "" if dns_label_error(text) else sys.intern(text)


@lru_cache(1 << 14)
def shared_subdomain(text: str) -> str:
    """One shared string for equal names, which many objects have; "" when the text is not a valid DNS subdomain."""
    return "" if subdomain_error(text) else sys.intern(text)


def valid_labels(items: tuple[tuple[object, object], ...]) -> Labels | None:
    """Labels with interned strings; None when any is not a valid label."""
    labels = {}
    for key, value in items:
        if not isinstance(key, str) or not isinstance(value, str) or label_key_error(key) or label_value_error(value):
            return None
        labels[sys.intern(key)] = sys.intern(value)
    return MappingProxyType(labels)


_shared_labels = lru_cache(1 << 16)(valid_labels)


def labels_at(parent: JsonObject, name: str, path: str, errors: Errors, unique: bool = False) -> Labels:
    """A map of labels; a label that is not valid is left out and appended to `errors`.

    A null value is the empty string, as the API decodes it. Objects with the same labels share one mapping, unless
    `unique` says that no other object can have them.
    """
    untrusted = parent.get(name)
    if untrusted is None:
        return NO_LABELS
    if isinstance(untrusted, dict):
        try:
            found = (valid_labels if unique else _shared_labels)(tuple(untrusted.items()))
        except TypeError:  # a value that cannot be hashed, so not a string
            found = None
        if found is not None:
            return found
    labels: dict[str, str] = {}
    entries = cast("dict[object, object]", object_at(parent, name, path, errors))  # YAML has keys that are not strings
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
    """What is wrong with a port number; "" when nothing is. The API does not take JSON's 80.0 as an integer either."""
    if isinstance(value, bool) or not isinstance(value, int):
        return f"must be an integer, not {describe(value)}"
    return "" if 1 <= value <= 65535 else "must be between 1 and 65535"


_PROTOCOLS: dict[str, Protocol] = {"TCP": Protocol.TCP, "UDP": Protocol.UDP, "SCTP": Protocol.SCTP}


def protocol_at(parent: JsonObject, path: str, errors: Errors) -> Protocol | None:
    """The field `protocol`: TCP when absent, None when it is not a known protocol, which is an error."""
    value = parent.get("protocol")
    if value is None:
        return Protocol.TCP
    protocol = _PROTOCOLS.get(value) if isinstance(value, str) else None
    if protocol is None:
        errors.append(FieldError(f"{path}.protocol", f"must be TCP, UDP or SCTP, not {describe(value)}"))
    return protocol


def host_address_at(value: object, path: str, errors: Errors) -> Net | None:
    """An address that a pod or node can have; None for anything else, which is an error at `path`."""
    if not isinstance(value, str):
        errors.append(FieldError(path, "is required" if value is None else not_a_string(value)))
        return None
    try:
        found = parse_address(value)
    except ValueError:
        errors.append(FieldError(path, f"{quote(value)} is not an IP address"))
        return None
    if reason := host_address_error(found):
        errors.append(FieldError(path, reason))
        return None
    return found


def cidrs_at(parent: JsonObject, name: str, path: str, errors: Errors) -> tuple[Net, ...]:
    """The list of ranges in field `name`, at most one of each family, as the API's validation has it; a range that
    cannot be used is left out, which is an error."""
    found: dict[int, Net] = {}
    for index, text in enumerate(list_at(parent, name, path, errors)):
        where = f"{path}.{name}[{index}]"
        net = cidr_at(text, where, errors)
        if net is None or found.get(net.version) == net:
            continue
        if net.version in found:
            errors.append(FieldError(where, f"{net} is a second range of IPv{net.version}; one is used"))
            continue
        found[net.version] = net
    return tuple(found.values())


def cidr_at(value: object, path: str, errors: Errors) -> Net | None:
    """A range in CIDR form that pods or Services can have; None for anything else, which is an error at `path`."""
    if not isinstance(value, str):
        errors.append(FieldError(path, not_a_string(value)))
        return None
    try:
        found = parse_network(value)
    except ValueError:
        errors.append(FieldError(path, f"{quote(value)} is not a range in CIDR form, like 10.244.1.0/24"))
        return None
    if reason := pod_range_error(found):
        errors.append(FieldError(path, reason))
        return None
    return found
