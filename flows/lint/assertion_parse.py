"""From an untrusted ReachabilityTest to assertions: who must reach whom, and who must not.

    apiVersion: headgate.io/v1
    kind: ReachabilityTest
    metadata: {name: shop}
    spec:
      assertions:
        - name: the shop reaches its database
          from: {namespace: shop, labels: {app: web}}
          to: {namespace: shop, labels: {app: db}}
          ports: [5432/TCP]
          expect: allowed

An end is `outside` (every address that no pod has), `pods`, `anywhere` (both), or an object: `pod`, `namespace`,
`namespaceLabels`, `labels`, each as a further condition; `addresses`, a prefix; or `not`, with another end.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from flows.cluster.model import Key, Protocol, Selector
from flows.cluster.net import Net, parse_network
from flows.parse.selector import selector_at
from flows.parse.untrusted import (
    Errors,
    FieldError,
    JsonObject,
    check_known_fields,
    describe,
    each_object,
    list_at,
    object_at,
    quote,
    string_at,
)

WORDS = ("outside", "pods", "anywhere")
MAX_NEGATIONS = 3  # of one end
_ENTRY = frozenset({"name", "from", "to", "ports", "expect"})
_END = frozenset({"pod", "namespace", "namespaceLabels", "labels", "addresses", "not"})
_PROTOCOLS = {protocol.name: protocol for protocol in Protocol}


class Expect(enum.StrEnum):
    """What must hold: each connection is allowed, none is, or none but those of `from` are."""

    ALLOWED = "allowed"
    DENIED = "denied"
    ONLY = "only"


class End(NamedTuple):
    """Some of all ends. Conditions on pods are all needed; `word` is one of WORDS, "" for conditions."""

    word: str = ""
    pod: Key | None = None
    namespace: str = ""
    namespace_labels: Selector | None = None
    labels: Selector | None = None
    addresses: Net | None = None
    other: End | None = None


class PortRange(NamedTuple):
    """Ports that an assertion is about."""

    protocol: Protocol
    low: int
    high: int


class Assertion(NamedTuple):
    """One assertion. Empty `ports` mean every protocol and port. `field` is its path in the object."""

    name: str
    field: str
    source: End
    destination: End
    ports: tuple[PortRange, ...]
    expect: Expect


def parse_assertions(untrusted: object, errors: Errors) -> tuple[Assertion, ...]:
    """The assertions of an object; those with an error are left out, and the error is appended to `errors`."""
    if not isinstance(untrusted, dict):
        errors.append(FieldError("", f"must be an object, not {describe(untrusted)}"))
        return ()
    check_known_fields(untrusted, frozenset({"apiVersion", "kind", "metadata", "spec"}), "", errors)
    spec = object_at(untrusted, "spec", "", errors)
    check_known_fields(spec, frozenset({"assertions"}), "spec", errors)
    found = each_object(spec, "assertions", "spec", _assertion, errors)
    if not found and not errors:
        errors.append(FieldError("spec.assertions", "must not be empty"))
    return found


def _assertion(fields: JsonObject, path: str, errors: Errors) -> Assertion | None:
    before = len(errors)
    check_known_fields(fields, _ENTRY, path, errors)
    name = string_at(fields, "name", path, errors)
    source = _end(fields.get("from", "anywhere"), f"{path}.from", errors)
    destination = _end(fields.get("to", "anywhere"), f"{path}.to", errors)
    ports = [_port(one, f"{path}.ports[{n}]", errors) for n, one in enumerate(list_at(fields, "ports", path, errors))]
    expect = fields.get("expect")
    if expect not in list(Expect):
        errors.append(FieldError(f"{path}.expect", f"must be {', '.join(Expect)}, not {describe(expect)}"))
    if len(errors) != before or source is None or destination is None:
        return None
    known = tuple(one for one in ports if one is not None)
    return Assertion(name, path, source, destination, known, Expect(str(expect)))


def _end(untrusted: object, path: str, errors: Errors, depth: int = 0) -> End | None:
    if isinstance(untrusted, str):
        if untrusted in WORDS:
            return End(untrusted)
        errors.append(FieldError(path, f"must be {', '.join(WORDS)} or an object, not {quote(untrusted)}"))
        return None
    if not isinstance(untrusted, dict) or not untrusted:
        errors.append(FieldError(path, f"must be {', '.join(WORDS)} or an object, not {describe(untrusted)}"))
        return None
    before = len(errors)
    check_known_fields(untrusted, _END, path, errors)
    alone = [name for name in ("addresses", "not") if name in untrusted]
    if alone and len(untrusted) > 1:
        errors.append(FieldError(path, f"{alone[0]} stands alone"))
    other = None
    if "not" in untrusted:
        if depth == MAX_NEGATIONS:
            errors.append(FieldError(path, "has too many `not` inside each other"))
            return None
        other = _end(untrusted["not"], f"{path}.not", errors, depth + 1)
    found = End(
        pod=_pod(untrusted, path, errors),
        namespace=string_at(untrusted, "namespace", path, errors),
        namespace_labels=_labels(untrusted, "namespaceLabels", path, errors),
        labels=_labels(untrusted, "labels", path, errors),
        addresses=_addresses(untrusted, path, errors),
        other=other,
    )
    return found if len(errors) == before else None


def _labels(fields: JsonObject, name: str, path: str, errors: Errors) -> Selector | None:
    """Labels as a map, or a whole selector."""
    value = fields.get(name)
    if isinstance(value, dict) and value.keys() & {"matchLabels", "matchExpressions"}:
        return selector_at(fields, name, path, errors)
    return selector_at({name: {"matchLabels": value}}, name, path, errors) if value is not None else None


def _pod(fields: JsonObject, path: str, errors: Errors) -> Key | None:
    text = string_at(fields, "pod", path, errors)
    namespace, _, name = text.partition("/")
    if text and (not namespace or not name or "/" in name):
        errors.append(FieldError(f"{path}.pod", f"{quote(text)} is not NAMESPACE/NAME"))
        return None
    return Key(namespace, name) if text else None


def _addresses(fields: JsonObject, path: str, errors: Errors) -> Net | None:
    text = string_at(fields, "addresses", path, errors)
    if not text:
        return None
    try:
        return parse_network(text if "/" in text else f"{text}/{128 if ':' in text else 32}")
    except ValueError:
        errors.append(FieldError(f"{path}.addresses", f"{quote(text)} is no address and no prefix"))
        return None


def _port(untrusted: object, path: str, errors: Errors) -> PortRange | None:
    """`80`, `80/UDP` or `8000-8100/TCP`; `TCP` alone means every port of it."""
    text = str(untrusted) if isinstance(untrusted, (int, str)) and not isinstance(untrusted, bool) else ""
    numbers, _, name = text.upper().partition("/")
    if numbers in _PROTOCOLS and not name:
        return PortRange(_PROTOCOLS[numbers], 1, 65535)
    low, _, high = numbers.partition("-")
    protocol = _PROTOCOLS.get(name or Protocol.TCP.name)
    ends = [int(one) for one in (low, high or low) if one.isascii() and one.isdecimal() and len(one) < 6]
    if protocol is None or len(ends) != 2 or not 1 <= ends[0] <= ends[1] <= 65535:
        errors.append(FieldError(path, f"{describe(untrusted)} is no port: write 80/TCP, 8000-8100/UDP or SCTP"))
        return None
    return PortRange(protocol, *ends)
