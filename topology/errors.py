"""What can go wrong with a lab, as exceptions whose text is meant for the person at the keyboard."""

from __future__ import annotations

from collections.abc import Sequence


class LabError(Exception):
    """A lab could not do what was asked. The text says what, and what to do about it."""


class TopologyError(LabError):
    """A topology or scenario file says something that cannot be. The text names the field."""


class MissingError(LabError):
    """The machine lacks something that a lab needs. `missing` has one line for each thing, with how to get it."""

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__("this machine cannot run a lab yet:\n" + "\n".join(f"  - {line}" for line in missing))
        self.missing = tuple(missing)
