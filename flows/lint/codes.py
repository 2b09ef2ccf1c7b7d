"""Every finding of `headgate check`, declared once: code, severity, name, and what to do.

A code never changes its meaning, for comments in manifests silence by code. Codes from HG0 are about reading, from HG1
about policies, from HG2 about assertions.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Severity(enum.IntEnum):
    """How grave a finding is. NOTE: it may be meant so."""

    NOTE = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True, slots=True)
class Code:
    """A kind of finding. `name` is its title, `hint` what to do about it."""

    number: str
    severity: Severity
    name: str
    hint: str


def _codes(*declared: Code) -> dict[str, Code]:
    found = {one.number: one for one in declared}
    if len(found) != len(declared):
        raise ValueError("a code is declared twice")
    return found


UNREADABLE = Code(
    "HG001", Severity.ERROR, "document cannot be read", "Correct the syntax; nothing of it counts until then."
)
INVALID = Code(
    "HG002", Severity.ERROR, "invalid value", "The API server refuses this; a rule with it allows nothing here."
)
UNKNOWN_FIELD = Code(
    "HG003", Severity.ERROR, "unknown or misplaced field", "Fields that nobody reads change what the rule means."
)
TWICE = Code(
    "HG004", Severity.WARNING, "object is there twice", "Of equal names the last one counts; remove the other."
)
UNKNOWN_CODE = Code(
    "HG005", Severity.WARNING, "comment silences an unknown code", "`headgate check --codes` lists all codes."
)
ANNOTATION = Code(
    "HG006", Severity.ERROR, "annotation without effect", "The API server takes it; Headgate goes on as without it."
)
SELECTS_NOTHING = Code(
    "HG101", Severity.WARNING, "policy selects no pod", "Compare the selector with the labels of the pods it is for."
)
PEER_MATCHES_NOTHING = Code(
    "HG102", Severity.WARNING, "peer matches no pod", "Compare its selectors with the labels of the pods it is for."
)
UNKNOWN_NAMESPACE_LABEL = Code(
    "HG103",
    Severity.WARNING,
    "no namespace has the label",
    "Label the namespace, or select it by kubernetes.io/metadata.name, which every namespace has.",
)
DUPLICATE = Code("HG104", Severity.NOTE, "rule is there twice", "Remove one: policies are a union.")
SHADOWED = Code(
    "HG105", Severity.NOTE, "rule adds nothing to another", "Remove it, or narrow the other: policies are a union."
)
UNKNOWN_PORT_NAME = Code(
    "HG106",
    Severity.WARNING,
    "no pod has the named port",
    "A name is resolved at the destination: name it there, or use the number.",
)
EXCEPT_OUTSIDE = Code(
    "HG107", Severity.ERROR, "except is outside its block", "An exception is a smaller prefix within the cidr."
)
NO_DNS = Code(
    "HG108",
    Severity.WARNING,
    "isolated egress forgets DNS",
    "Allow UDP and TCP port 53 to the cluster's DNS, or names do not resolve.",
)
NO_PORTS = Code(
    "HG109",
    Severity.ERROR,
    "port beside a protocol that has none",
    "Only TCP, UDP and SCTP have ports; ICMP needs a rule without ports.",
)
HALVES = Code(
    "HG110",
    Severity.WARNING,
    "the two halves do not meet",
    "Both ends must allow a connection: add the rule at the other end too.",
)
NOT_COUNTING = Code(
    "HG111", Severity.WARNING, "rules do not count", "Add the direction to policyTypes, or remove the rules."
)
NEVER_DECIDES = Code(
    "HG112",
    Severity.WARNING,
    "rule never decides",
    "Rules of a tier decide in their order: move it up, or remove it.",
)
DENIED_BY_TIER = Code(
    "HG113",
    Severity.WARNING,
    "ClusterNetworkPolicies deny all of the rule",
    "A tier decides before it, or at the other end: `headgate explain` tells which rule.",
)
ASSERTION_FAILED = Code(
    "HG201", Severity.ERROR, "assertion does not hold", "`headgate explain` tells which rule decides."
)
ASSERTION_EMPTY = Code(
    "HG202", Severity.ERROR, "assertion is about nothing", "Nothing matches one of its ends, so it would always hold."
)

CODES = _codes(
    UNREADABLE, INVALID, UNKNOWN_FIELD, TWICE, UNKNOWN_CODE, ANNOTATION, SELECTS_NOTHING, PEER_MATCHES_NOTHING,
    UNKNOWN_NAMESPACE_LABEL, DUPLICATE, SHADOWED, UNKNOWN_PORT_NAME, EXCEPT_OUTSIDE, NO_DNS, NO_PORTS, HALVES,
    NOT_COUNTING, NEVER_DECIDES, DENIED_BY_TIER, ASSERTION_FAILED, ASSERTION_EMPTY,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. `kind` and `key` name the object, `field` is the path in it, "" for the whole object."""

    code: Code
    kind: str
    key: str
    field: str
    message: str
