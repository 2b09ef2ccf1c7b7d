"""Domain names as policies and DNS messages have them: lower case, without a dot at the end.

A *pattern* is a name, or `*.` and a name: then it stands for all names below that one, by one label or more, and not
for that name itself. Source: DomainName of sigs.k8s.io/network-policy-api v0.3.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from flows.cluster.net import Net

MAX_NAME = 253  # characters of a name that DNS can carry, without the dot at the end (RFC 1035 section 2.3.4)
MAX_LABEL = 63
# The CRD's pattern: at least two labels.
_LABEL = "[a-zA-Z0-9](?:[-a-zA-Z0-9_]*[a-zA-Z0-9])?"
_PATTERN = re.compile(rf"(?:\*\.)?(?:{_LABEL}\.)+{_LABEL}\.?", re.ASCII)


class LearnedAddress(NamedTuple):
    """An address that a DNS answer to some pod gave for a name. While it is not `live`, its time to live has passed:
    connections that run to it go on, and none begins."""

    name: str
    address: Net
    live: bool = True


def normal_pattern(text: str) -> str:
    """A pattern in its normal form. Raises ValueError with what is wrong with it."""
    if len(text) > MAX_NAME + 3:  # "*." before it, and a dot behind it
        raise ValueError(f"must be no more than {MAX_NAME} characters")
    if _PATTERN.fullmatch(text) is None:
        raise ValueError("must be a domain name of two labels or more, or '*.' and such a name")
    name = text.lower().removesuffix(".")
    bare = name.removeprefix("*.")
    if len(bare) > MAX_NAME:
        raise ValueError(f"must be no more than {MAX_NAME} characters")
    if any(len(label) > MAX_LABEL for label in bare.split(".")):
        raise ValueError(f"must not have a label of more than {MAX_LABEL} characters")
    return name


def matches_name(pattern: str, name: str) -> bool:
    """Whether a pattern stands for a name; both are in their normal form."""
    if pattern.startswith("*."):
        return name.endswith(pattern[1:]) and len(name) > len(pattern) - 1
    return pattern == name


class NamePatterns:
    """Patterns of rules. Asking for a name costs its labels, however many patterns there are."""

    __slots__ = ("_below", "_names")

    def __init__(self, patterns: Iterable[str]) -> None:
        self._names: set[str] = set()
        self._below: set[str] = set()  # what stands behind `*.`
        for pattern in patterns:
            if pattern.startswith("*."):
                self._below.add(pattern[2:])
            else:
                self._names.add(pattern)

    def match(self, name: str) -> bool:
        """Whether any of the patterns stands for a name."""
        if name in self._names:
            return True
        if not self._below:
            return False
        label, _, rest = name.partition(".")
        while label and rest:
            if rest in self._below:
                return True
            label, _, rest = rest.partition(".")
        return False

    def liveness(self, names: Iterable[tuple[str, bool]]) -> bool | None:
        """Whether an address that has these names, each live or not, is live for a rule with these patterns; None
        where it has no name that the rule stands for."""
        found = [live for name, live in names if self.match(name)]
        return any(found) if found else None
