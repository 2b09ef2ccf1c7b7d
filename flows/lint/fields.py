"""Findings about fields that could not be parsed: their code, and for an unknown name what was probably meant."""

from __future__ import annotations

import difflib
import re

from flows.lint.codes import ANNOTATION, EXCEPT_OUTSIDE, INVALID, NO_PORTS, UNKNOWN_FIELD, Finding
from flows.parse.untrusted import FieldError, known_fields

# Where the fields of a NetworkPolicy belong, for those that stand one level too high or too low.
_PLACES = {
    "podSelector": "the policy's spec, or an entry of from or to",
    "namespaceSelector": "an entry of from or to",
    "ipBlock": "an entry of from or to",
    "cidr": "an ipBlock",
    "except": "an ipBlock, beside cidr",
    "ports": "the rule, beside from or to",
    "from": "an ingress rule",
    "to": "an egress rule",
    "policyTypes": "the policy's spec",
    "ingress": "the policy's spec",
    "egress": "the policy's spec",
    "protocol": "an entry of ports",
    "port": "an entry of ports",
    "endPort": "an entry of ports, beside port",
    "matchLabels": "a selector",
    "matchExpressions": "a selector",
}
_EXCEPT = re.compile(r"\.except\[\d+\]$")


def field_finding(kind: str, key: str, error: FieldError) -> Finding:
    """The finding for one parse error."""
    known = known_fields(error.reason)
    if known:
        name = error.field.rpartition(".")[2]
        return Finding(UNKNOWN_FIELD, kind, key, error.field, f"{error}{_meant(name, known)}")
    code = ANNOTATION if error.field.startswith("metadata.annotations[") else INVALID
    if _EXCEPT.search(error.field) and "strict subset" in error.reason:
        code = EXCEPT_OUTSIDE
    elif error.field.endswith(".protocol") and ".ports[" in error.field:
        code = NO_PORTS
    return Finding(code, kind, key, error.field, str(error))


def _meant(name: str, known: tuple[str, ...]) -> str:
    """Another name at this place, or the same name at another place."""
    near = difflib.get_close_matches(name, known, 1, 0.6)
    lower = {one.lower(): one for one in _PLACES}
    if near:
        return f"; did you mean {near[0]}?"
    if name.lower() in lower:
        right = lower[name.lower()]
        return f"; {right} belongs into {_PLACES[right]}"
    elsewhere = difflib.get_close_matches(name, _PLACES, 1, 0.7)
    return f"; did you mean {elsewhere[0]}, which belongs into {_PLACES[elsewhere[0]]}?" if elsewhere else ""
