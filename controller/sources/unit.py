"""What a source hands to the store: the objects and problems of one file, or of one object of an API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from controller.reconcile.events import Problem
from flows.parse.objects import ParsedObject


@dataclass(frozen=True, slots=True)
class SourceUnit:
    """What a source takes or leaves as a whole: the objects of a file, or one object of an API.

    The problems name what is wrong in it; `count` says how many there are where they are not all named. `ignored`
    counts the objects that are none of Headgate's business, by kind.
    """

    objects: tuple[ParsedObject, ...] = ()
    problems: tuple[Problem, ...] = ()
    total_problems: int = 0
    ignored: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def problem_count(self) -> int:
        """How many problems there are."""
        return max(self.total_problems, len(self.problems))
