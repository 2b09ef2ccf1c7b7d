"""The exceptions of a lab. Their texts are shown to the user as they are."""

from __future__ import annotations

from collections.abc import Sequence


class LabError(Exception):
    """An operation of a lab failed. The text says which, and what to do."""


class TopologyError(LabError):
    """A topology or scenario file is wrong. The text names the field."""


class MissingError(LabError):
    """The machine lacks something that a lab needs. `missing` has a line for each, with how to install it."""

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__("this machine cannot run a lab yet:\n" + "\n".join(f"  - {line}" for line in missing))
        self.missing = tuple(missing)
