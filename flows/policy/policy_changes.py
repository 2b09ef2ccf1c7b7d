"""The output of the engine as values: which rules, sets and isolation changed in one `PolicyEngine.compute_changes`.

How they are computed is in `engine`; what they mean for a bridge is decided in `flows.plan`.
"""

from __future__ import annotations

from typing import NamedTuple

from flows.cluster.model import Key
from flows.cluster.net import Net
from flows.policy.tracked_sets import NetSet, PodSet, TrackedRule


class RuleChange(NamedTuple):
    """A tracked rule that is new (`old` is None), gone (`new` is None) or different. A change within its sets is not a
    RuleChange."""

    old: TrackedRule | None
    new: TrackedRule | None


class SubjectChange(NamedTuple):
    """The pods that were added to a set of subjects, and those that were removed."""

    subjects: PodSet
    added: tuple[Key, ...]
    removed: tuple[Key, ...]


class PeerChange(NamedTuple):
    """The prefixes that were added to a set of peers, and those that were removed."""

    peers: NetSet
    added: set[Net]
    removed: set[Net]


class PolicyChanges(NamedTuple):
    """All that changed since the last `compute_changes`. `isolation` has pods whose isolated directions may differ.

    What the sets of a new rule have is not listed in `subjects` and `peers`: read these sets as they are.
    """

    rules: tuple[RuleChange, ...]
    subjects: tuple[SubjectChange, ...]
    peers: tuple[PeerChange, ...]
    isolation: frozenset[Key]


NO_CHANGES = PolicyChanges((), (), (), frozenset())
