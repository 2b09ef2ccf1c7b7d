"""What a source hands to the store: the objects and problems of one file, or of one API object. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from controller.reconcile.problem import Problem
from flows.parse.objects import ParsedObject


@dataclass(frozen=True, slots=True)
class SourceUnit:
    """What a source replaces as a whole: the objects of one file, or one API object.

    `problems` lists what is wrong in it, `total_problems` their number when not all of them are listed. `ignored` has
    the number of objects that Headgate does not read, by kind.
    """

    objects: tuple[ParsedObject, ...] = ()
    problems: tuple[Problem, ...] = ()
    total_problems: int = 0
    ignored: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def problem_count(self) -> int:
        """The number of problems, listed or not."""
        return max(self.total_problems, len(self.problems))
