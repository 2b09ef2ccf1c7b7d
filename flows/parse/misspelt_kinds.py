"""Misspelt kinds and versions: objects that would be ignored although their author probably meant a supported kind.

Only kinds in Kubernetes' own groups are compared, which have no similar kind; other groups may define any kind.
"""

from __future__ import annotations

from collections.abc import Collection
from difflib import SequenceMatcher
from functools import lru_cache

MAX_COMPARED = 100  # characters; a longer kind or version is not compared
_SIMILAR_GROUP = 0.8  # SequenceMatcher ratio; network.k8s.io and networking.k8s.io have 0.9
_KUBERNETES = ".k8s.io"
_PLURALS = ("s", "es")


def group_of(version: str) -> str:
    """The group of an apiVersion; "" for the core group."""
    return version.rpartition("/")[0]


def intended_kind(kind: str, version: str, known: Collection[tuple[str, str]]) -> tuple[str, str] | None:
    """The apiVersion and kind among `known` that the author probably meant; None when there is none.

    Kind and version together must not be among `known`. Of several candidates one of the same group is preferred, then
    the first.
    """
    if len(kind) > MAX_COMPARED or len(version) > MAX_COMPARED:
        return None
    found = [one for one in known if _similar_kind(kind, one[1]) and _similar_version(version, one[0])]
    # The same group counts more than the order.
    return min(found, key=lambda one: group_of(one[0]) != group_of(version)) if found else None


def _similar_version(text: str, version: str) -> bool:
    group = group_of(text) or ("" if _is_version(text) else text)
    ours = group_of(version)
    if group.lower() == ours or "." not in group:
        return True  # groups without a dot are Kubernetes' own
    if not ours:
        return False
    same_owner = ours.endswith(_KUBERNETES) and group.lower().endswith(_KUBERNETES)
    return same_owner or SequenceMatcher(None, group.lower(), ours).ratio() >= _SIMILAR_GROUP


def _is_version(text: str) -> bool:
    return text[:1] == "v" and text[1:2].isdigit()


def _similar_kind(text: str, kind: str) -> bool:
    one, other = text.lower(), kind.lower()
    if one == other:
        return True
    singular = other.removesuffix("y") + "ie" if other.endswith("y") else other
    if any(one in (other + plural, singular + plural) for plural in _PLURALS):
        return True
    return _distance(one, other) <= (1 if len(other) <= 5 else 2)


@lru_cache(1 << 10)
def _distance(one: str, other: str) -> int:
    """The Damerau-Levenshtein distance (optimal string alignment); 3 stands for any larger one."""
    if abs(len(one) - len(other)) > 2:
        return 3
    two_before: list[int] = []
    before = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, two_before[j - 2] + 1)
            row.append(cost)
        two_before, before = before, row
    return before[-1]
